"""Gaussian soft-NMS."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, Real

from segtad_jax.ops.segments import pairwise_tiou


def soft_nms(
    segments: Real[Array | np.ndarray, "M 2"],
    scores: Float[Array | np.ndarray, " M"],
    sigma: float | Float[Array, ""],
    max_segments: int,
) -> tuple[Int32[Array, " {max_segments}"], Float32[Array, " {max_segments}"]]:
    """Takes the best, multiplies every other score by exp(-tIoU^2 / sigma), and repeats.

    Args:
        segments: [start, end) in any unit.
        scores: not negative; -inf stands for a segment that is not there.
        sigma: width of the Gaussian, above 0.
        max_segments: number of segments to take.

    Returns:
        indices: rows of `segments` in the order taken, ties to the lower one; -1 where no segment
            is left.
        scores: as decayed when taken, so never increasing; 0 where no segment is left.
    """
    segments, scores = jnp.asarray(segments, jnp.float32), jnp.asarray(scores, jnp.float32)

    def take_best(
        remaining: Float[Array, " M"], _: None
    ) -> tuple[Float[Array, " M"], tuple[Int32[Array, ""], Float[Array, ""]]]:
        best = jnp.argmax(remaining).astype(jnp.int32)
        score = remaining[best]
        decay = jnp.exp(-jnp.square(pairwise_tiou(segments[best][None], segments)[0]) / sigma)
        # Not -inf * decay: with a small sigma the decay is 0.
        decayed = jnp.where(jnp.isneginf(remaining), -jnp.inf, remaining * decay)
        return decayed.at[best].set(-jnp.inf), (best, score)

    _, (indices, taken) = jax.lax.scan(take_best, scores, length=max_segments)
    found = ~jnp.isneginf(taken)
    return jnp.where(found, indices, -1), jnp.where(found, taken, 0.0)
