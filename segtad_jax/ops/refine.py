"""Refined boundaries: for each end of a proposal a distribution over the frames around it.

A proposal's boundaries lie on the grid (Eq. 8). Of the B frames around each of them one is chosen
by two terms: what the frame says for itself (`fields`), and what the proposal says (`own`), as in
the relative boundary modelling of TriDet (Shi et al., CVPR 2023). The middle of the distribution is
the refined boundary.

Frame t stands for starts in [t, t + 1) and for ends in [t + 1, t + 2), as in `targets`: the ends'
frames are one earlier, and choice k of any boundary x stands for the time x + k - B/2 + 1/2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Segments = Int[Array | np.ndarray, "n 2"]  # [start, end) in frames


def choice_logits(
    segments: Segments,
    fields: Float[Array | np.ndarray, "T 2"],
    own: Float[Array | np.ndarray, "n 2 B"],
    num_frames: int | Int[Array, ""],
) -> Float[Array, "n 2 B"]:
    """Logits of the choices around the start and the end of each proposal.

    Args:
        segments: the proposals.
        fields: logits of frames as starts and as ends.
        own: logits of each proposal.
        num_frames: real ones; those beyond, and before 0, are never chosen.
    """
    segments, choices = jnp.asarray(segments), own.shape[-1]
    frames = segments[..., None] - jnp.array([[0], [1]]) + jnp.arange(choices) - choices // 2
    real = (frames >= 0) & (frames < num_frames)
    said = [jnp.take(fields[:, i], frames[:, i], mode="clip") for i in range(2)]
    return jnp.where(real, own + jnp.stack(said, axis=1), -1e9)


def refined_segments(segments: Segments, logits: Float[Array, "n 2 B"]) -> Float[Array, "n 2"]:
    """Proposals with the mean of each boundary's distribution, in frames.

    One of which nothing would be left stays as it is.
    """
    choices = jnp.arange(logits.shape[-1]) - (logits.shape[-1] - 1) / 2
    refined = segments + jnp.sum(jax.nn.softmax(logits) * choices, axis=-1)
    empty = refined[:, 0] >= refined[:, 1]
    return jnp.where(empty[:, None], segments, refined)


def choice_losses(
    segments: Segments, logits: Float[Array, "n 2 B"], targets: Float[Array | np.ndarray, "n 2"]
) -> tuple[Float[Array, "n 2"], Float[Array, "n 2"]]:
    """Cross-entropy of each boundary with its two nearest choices, weighted by their nearness.

    Args:
        segments: the proposals.
        logits: of `choice_logits`.
        targets: true starts and ends in frames.

    Returns:
        losses, and 1 where the target is among the choices, else 0.
    """
    last = logits.shape[-1] - 1
    position = targets - segments + last / 2
    nearness = jnp.maximum(1 - jnp.abs(position[..., None] - jnp.arange(last + 1)), 0)
    possible = jnp.where(logits > -1e8, nearness, 0)
    losses = -jnp.sum(possible * jax.nn.log_softmax(logits), axis=-1)
    within = jnp.sum(possible, axis=-1) > 1 - 1e-3
    return jnp.where(within, losses, 0), within.astype(jnp.float32)
