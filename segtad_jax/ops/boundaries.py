"""Boundaries of proposals: the frames' scores there, and moving them to where these are large."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Real


def boundary_frames(segments: Real[Array, "n 2"]) -> Int32[Array, "n 2"]:
    """Returns the frames in which each segment starts and ends, as in `targets`.

    Args:
        segments: [start, end) in frames; boundaries between two frames count to the nearest.
    """
    return jnp.round(segments).astype(jnp.int32) - jnp.array([0, 1])


def boundary_scores(
    segments: Real[Array, "n 2"], scores: Float[Array, "T 2"]
) -> Float[Array, "n 2"]:
    """Returns start and end scores at the boundaries of each segment.

    Args:
        segments: [start, end) in frames, inside 0..T.
        scores: of each frame as a start and as an end.
    """
    return _scores_at(boundary_frames(segments)[..., None], scores)[..., 0]


def snap(
    segments: Real[Array, "n 2"],
    scores: Float[Array, "T 2"],
    radius: int,
    num_frames: int | Int[Array, ""],
    scales: Int[np.ndarray | Array, " n"] | None = None,
    largest: int | None = None,
) -> Float32[Array, "n 2"]:
    """Moves each boundary to the frame with the largest score within `radius` frames of its own.

    Args:
        segments: [start, end) in frames.
        scores: of each frame as a start and as an end; only their order counts, so logits do, too.
        radius: frames; 0 moves nothing.
        num_frames: real frames; those beyond are left out.
        scales: by which the radius is multiplied for each segment, or None for 1.
        largest: of all scales, where those are traced.

    Returns:
        Starts at the beginning of their frame, ends at the end of theirs; ties go to the nearest
        frame, then to the earlier. A segment that would become empty stays as it is.
    """
    segments = segments.astype(jnp.float32)
    if not radius:
        return segments
    scales = np.ones(1, int) if scales is None else scales
    reach = radius * int(np.max(scales) if largest is None else largest)
    steps = jnp.array(sorted(range(-reach, reach + 1), key=abs))
    near, inside = _around(segments, scores, steps, num_frames)
    inside &= jnp.abs(steps) <= radius * jnp.asarray(scales)[:, None, None]
    best = jnp.argmax(jnp.where(inside, near, -jnp.inf), axis=-1)  # the first of equals
    moved = boundary_frames(segments) + steps[best] + jnp.array([0, 1])
    empty = moved[:, 0] >= moved[:, 1]
    return jnp.where(empty[:, None], segments, moved).astype(jnp.float32)


def centre(
    segments: Real[Array, "n 2"],
    logits: Float[Array, "T 2"],
    radius: int,
    num_frames: int | Int[Array, ""],
) -> Float32[Array, "n 2"]:
    """Moves each boundary to the mean of the frames within `radius`, weighted by their scores.

    Where annotators disagree by some frames, the mean is nearer on average than the frame with the
    largest score. A weight is the root of a score's odds, e^(logit / 2): the sigmoid
    itself is near 1 over many frames, since the loss balances the few that are boundaries.

    Args:
        segments: [start, end) in frames.
        logits: of each frame as a start and as an end.
        radius: frames; 0 moves nothing.
        num_frames: real frames; those beyond are left out, and as many on the other side of the
            boundary, which would pull it inwards.

    Returns:
        Boundaries in fractions of frames. A segment that would become empty stays as it is.
    """
    segments = segments.astype(jnp.float32)
    steps = jnp.arange(-radius, radius + 1)
    near, inside = _around(segments, logits, steps, num_frames)
    both = inside & inside[..., ::-1]  # as far to one side as to the other
    weights = jax.nn.softmax(near / 2, where=both)
    moved = segments + jnp.sum(weights * steps, axis=-1)
    return jnp.where((moved[:, 0] >= moved[:, 1])[:, None], segments, moved)


def _around(
    segments: Float[Array, "n 2"],
    scores: Float[Array, "T 2"],
    steps: Int[Array, " s"],
    num_frames: int | Int[Array, ""],
) -> tuple[Float[Array, "n 2 s"], Bool[Array, "n 2 s"]]:
    """Returns the scores `steps` frames from each boundary, and which of those frames are real."""
    frames = boundary_frames(segments)[..., None] + steps
    return _scores_at(frames, scores), (frames >= 0) & (frames < num_frames)


def _scores_at(frames: Int[Array, "n 2 s"], scores: Float[Array, "T 2"]) -> Float[Array, "n 2 s"]:
    """Returns start and end scores; beyond the array those of its first or last frame."""
    sides = [jnp.take(scores[:, i], frames[:, i], mode="clip") for i in range(2)]
    return jnp.stack(sides, axis=1)
