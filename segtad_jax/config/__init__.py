"""The names that a config file imports; `defaults` has the fields, their reasons, the switches."""

from segtad_jax.config.defaults import default, with_arguments

__all__ = ["default", "with_arguments"]
