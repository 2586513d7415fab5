"""Gaussian soft-NMS, of all classes at once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32, Real

from segtad_jax.ops.segments import pairwise_tiou

# A reduction runs down so many columns at once; on a CPU XLA's own argmax is scalar.
LANES = 128


def soft_nms(
    segments: Real[Array, "*D M 2"],
    scores: Float[Array, "D M"],
    sigma: float | Float[Array, ""],
    max_segments: int,
) -> tuple[
    Int32[Array, " {max_segments}"],
    Int32[Array, " {max_segments}"],
    Float32[Array, " {max_segments}"],
]:
    """Applies soft-NMS within each class and takes the best `max_segments` of all classes.

    Within a class: take the best, multiply every other score by exp(-tIoU^2 / sigma), repeat. The
    scores taken from a class never rise, so the best of all that are left is the next of its class,
    and no class is processed further than it gets.

    Args:
        segments: [start, end) in any unit; of all classes, or each class's own.
        scores: of the D classes, not negative; -inf for a segment that does not exist.
        sigma: width of the Gaussian, above 0.
        max_segments: number of segments to take.

    Returns:
        classes: 0..D-1 in the order taken, ties to the lower class; -1 where nothing is left.
        rows: of `segments`, ties within a class to the lower one; -1 where nothing is left.
        scores: as decayed when taken, so never increasing; 0 where nothing is left.
    """
    segments, scores = segments.astype(jnp.float32), scores.astype(jnp.float32)
    if not scores.size:
        nothing = jnp.full(max_segments, -1, jnp.int32)
        return nothing, nothing, jnp.zeros(max_segments)
    missing = -scores.shape[1] % LANES
    segments = jnp.pad(segments, ((0, 0),) * (segments.ndim - 2) + ((0, missing), (0, 0)))
    scores = jnp.pad(scores, ((0, 0), (0, missing)), constant_values=-jnp.inf)

    def take_best(
        carried: tuple[Float[Array, "D M"], Float[Array, " D"]], _: None
    ) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        remaining, best = carried
        label = jnp.argmax(best).astype(jnp.int32)
        # The barriers let one class be written in place: fused with its reader, all are copied.
        one_class = jax.lax.optimization_barrier(remaining[label])
        row = _first(one_class, best[label])
        places = segments if segments.ndim == 2 else segments[label]
        decay = jnp.exp(-jnp.square(pairwise_tiou(places[row][None], places)[0]) / sigma)
        # Not -inf * decay: with a small sigma the decay is 0.
        decayed = jnp.where(jnp.isneginf(one_class), -jnp.inf, one_class * decay)
        decayed = jnp.where(jnp.arange(one_class.size) == row, -jnp.inf, decayed)
        decayed = jax.lax.optimization_barrier(decayed)
        following = (remaining.at[label].set(decayed), best.at[label].set(_max(decayed)))
        return following, (label, row, best[label])

    start = (scores, jnp.max(scores, axis=1))
    _, (labels, rows, taken) = jax.lax.scan(take_best, start, length=max_segments)
    exists = ~jnp.isneginf(taken)
    return jnp.where(exists, labels, -1), jnp.where(exists, rows, -1), jnp.where(exists, taken, 0.0)


def _max(x: Float[Array, " M"]) -> Float[Array, ""]:
    return jnp.max(jnp.max(x.reshape(-1, LANES), axis=0))


def _first(x: Float[Array, " M"], value: Float[Array, ""]) -> Int32[Array, ""]:
    """Returns the first place where x has the value."""
    rows = jnp.arange(x.shape[0], dtype=jnp.int32)
    places = jnp.where(x == value, rows, x.shape[0] - 1)
    return jnp.min(jnp.min(places.reshape(-1, LANES), axis=0))
