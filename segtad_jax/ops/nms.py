"""Gaussian soft-NMS, of all classes at once."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, Real

from segtad_jax.ops.segments import pairwise_tiou

LANES = 128  # a reduction runs down so many columns at once; XLA's own argmax is scalar on a CPU


def soft_nms(
    segments: Real[Array | np.ndarray, "M 2"],
    scores: Float[Array | np.ndarray, "D M"],
    sigma: float | Float[Array, ""],
    max_segments: int,
) -> tuple[
    Int32[Array, " {max_segments}"],
    Int32[Array, " {max_segments}"],
    Float32[Array, " {max_segments}"],
]:
    """Soft-NMS within each class, and the best `max_segments` of all classes.

    Within a class: take the best, multiply every other score by exp(-tIoU^2 / sigma), repeat. The
    scores taken from a class never rise, so the next best of all is the next of some class, and no
    class is looked at further than it gets.

    Args:
        segments: [start, end) in any unit.
        scores: of the D classes, not negative; -inf stands for a segment that is not there.
        sigma: width of the Gaussian, above 0.
        max_segments: number of segments to take.

    Returns:
        classes: 0..D-1 in the order taken, ties to the lower class; -1 where nothing is left.
        rows: of `segments`, ties within a class to the lower one; -1 where nothing is left.
        scores: as decayed when taken, so never increasing; 0 where nothing is left.
    """
    segments, scores = jnp.asarray(segments, jnp.float32), jnp.asarray(scores, jnp.float32)
    if not scores.size:
        nothing = jnp.full(max_segments, -1, jnp.int32)
        return nothing, nothing, jnp.zeros(max_segments)
    missing = -scores.shape[1] % LANES
    segments = jnp.pad(segments, ((0, missing), (0, 0)))
    scores = jnp.pad(scores, ((0, 0), (0, missing)), constant_values=-jnp.inf)

    def take_best(
        carried: tuple[Float[Array, "D M"], Float[Array, " D"]], _: None
    ) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        remaining, best = carried
        label = jnp.argmax(best).astype(jnp.int32)
        # The barriers let one class be written in place: fused with its reader, all are copied.
        one_class = jax.lax.optimization_barrier(remaining[label])
        row = _first(one_class, best[label])
        decay = jnp.exp(-jnp.square(pairwise_tiou(segments[row][None], segments)[0]) / sigma)
        # Not -inf * decay: with a small sigma the decay is 0.
        decayed = jnp.where(jnp.isneginf(one_class), -jnp.inf, one_class * decay)
        decayed = jnp.where(jnp.arange(segments.shape[0]) == row, -jnp.inf, decayed)
        decayed = jax.lax.optimization_barrier(decayed)
        following = (remaining.at[label].set(decayed), best.at[label].set(_max(decayed)))
        return following, (label, row, best[label])

    start = (scores, jnp.max(scores, axis=1))
    _, (labels, rows, taken) = jax.lax.scan(take_best, start, length=max_segments)
    found = ~jnp.isneginf(taken)
    return jnp.where(found, labels, -1), jnp.where(found, rows, -1), jnp.where(found, taken, 0.0)


def _max(x: Float[Array, " M"]) -> Float[Array, ""]:
    return jnp.max(jnp.max(x.reshape(-1, LANES), axis=0))


def _first(x: Float[Array, " M"], value: Float[Array, ""]) -> Int32[Array, ""]:
    """The first place where x has the value."""
    rows = jnp.arange(x.shape[0], dtype=jnp.int32)
    found = jnp.where(x == value, rows, x.shape[0] - 1)
    return jnp.min(jnp.min(found.reshape(-1, LANES), axis=0))
