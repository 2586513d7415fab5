"""Temporal intersection over union."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Real


def pairwise_tiou(a: Real[Array, "A 2"], b: Real[Array, "B 2"]) -> Float[Array, "A B"]:
    """Returns the temporal intersection over union of every segment of `a` with every one of `b`.

    Args:
        a: segments [start, end) in any unit.
        b: segments in the same unit.

    Returns:
        Values in 0..1. Two segments without length have tIoU 0, even with each other.
    """
    start_a, end_a = a[:, None, 0], a[:, None, 1]
    start_b, end_b = b[None, :, 0], b[None, :, 1]
    intersection = jnp.maximum(jnp.minimum(end_a, end_b) - jnp.maximum(start_a, start_b), 0)
    union = (end_a - start_a) + (end_b - start_b) - intersection
    return jnp.where(union > 0, intersection / jnp.where(union > 0, union, 1), 0.0)
