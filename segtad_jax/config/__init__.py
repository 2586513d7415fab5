"""Configs: what a config file needs; the rest is in the modules of this package."""

from segtad_jax.config.defaults import default, with_arguments

__all__ = ["default", "with_arguments"]
