"""Labels of frames and proposals from annotated segments, which the losses compare with.

One video at a time; the caller vmaps. Segments are in units of the window, so that 0..1 is inside.
They may reach outside: an action that the window cuts keeps its true start and end, so that
boundaries outside of the window are known to be there.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Real

from segtad_jax.ops.segments import pairwise_tiou

# Half a frame is far more, a float32 rounding error far less: 0.29 * 100 must be frame 29.
FRAME_EPSILON = 1e-4


class Targets(NamedTuple):
    """Labels of one video."""

    frame_classes: Int[Array, " T"]  # 0 background, 1..D
    starts: Float[Array, " T"]  # 0 or 1
    ends: Float[Array, " T"]  # 0 or 1
    tiou: Float[Array, " M"]  # h_reg of Eq. 10
    actions: Float[Array, "N 2"]  # the parts inside the window, frames
    counted: Bool[Array, " N"]  # actions that count for the tIoU


def video_targets(
    segments: Float[Array, "N 2"],
    labels: Int[Array, " N"],
    valid: Bool[Array, " N"],
    proposals: Int[Array, "M 2"],
    num_frames: int,
    boundary_radius: int,
) -> Targets:
    """Returns all targets of one window of `num_frames` frames; `proposals` are in frames.

    An action counts for the proposals' tIoU with the part inside the window, and only where that is
    at least half of it (design decision, docs/paper_notes.md).
    """
    starts, ends = boundary_labels(segments, valid, num_frames, boundary_radius)
    inside = jnp.clip(segments, 0.0, 1.0)
    mostly_inside = (inside[:, 1] - inside[:, 0]) >= 0.5 * (segments[:, 1] - segments[:, 0])
    actions, counted = inside * num_frames, valid & mostly_inside
    return Targets(
        frame_classes(segments, labels, valid, num_frames),
        starts,
        ends,
        proposal_tiou(proposals.astype(jnp.float32), actions, counted),
        actions,
        counted,
    )


def frame_classes(
    segments: Float[Array, "N 2"],
    labels: Int[Array, " N"],
    valid: Bool[Array, " N"],
    num_frames: int,
) -> Int[Array, " T"]:
    """Returns the class of every frame (section 3.2.3): 0 is background, 1..D an action.

    Frame t covers [t, t + 1) / T. An action covers at least one frame; where actions overlap, the
    later in file order wins.
    """
    first, stop = _frames(segments, num_frames)
    frame = jnp.arange(num_frames)
    covered = (frame >= first[:, None]) & (frame < stop[:, None])  # [N, T]
    covered &= valid[:, None]
    order = 1 + jnp.arange(len(labels))[:, None]
    winner = jnp.max(jnp.where(covered, order, 0), axis=0, initial=0)  # [T], 0: none
    return jnp.concatenate([jnp.zeros(1, jnp.int32), labels.astype(jnp.int32)])[winner]


def boundary_labels(
    segments: Float[Array, "N 2"],
    valid: Bool[Array, " N"],
    num_frames: int,
    radius: int,
) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
    """Returns start and end labels (Eq. 5), 1 within `radius` frames of the first or last frame.

    Boundaries outside the window, of actions that it cuts, have no label.
    """
    first, stop = _frames(segments, num_frames)
    lower = segments[:, 0] * num_frames + FRAME_EPSILON
    upper = segments[:, 1] * num_frames + FRAME_EPSILON
    frame = jnp.arange(num_frames)

    def near(centre: Int[Array, " N"], inside: Bool[Array, " N"]) -> Float[Array, " T"]:
        hit = (jnp.abs(frame - centre[:, None]) <= radius) & (inside & valid)[:, None]  # [N, T]
        return jnp.any(hit, axis=0).astype(jnp.float32)

    starts = near(first, (lower >= 0) & (lower < num_frames))
    ends = near(stop - 1, (upper > 0) & (jnp.floor(upper) <= num_frames))
    return starts, ends


def proposal_tiou(
    proposals: Real[Array, "M 2"],
    segments: Real[Array, "N 2"],
    valid: Bool[Array, " N"],
) -> Float[Array, " M"]:
    """Returns the largest tIoU of each proposal with a valid segment (h_reg of Eq. 10), else 0.

    Proposals and segments are in the same unit.
    """
    tiou = jnp.where(valid, pairwise_tiou(proposals, segments), 0.0)  # [M, N]
    return jnp.max(tiou, axis=1, initial=0.0)


def _frames(
    segments: Float[Array, "N 2"], num_frames: int
) -> tuple[Int[Array, " N"], Int[Array, " N"]]:
    """Returns the first frame of each segment and that after its last, at least one, inside."""
    edges = segments.astype(jnp.float32) * num_frames + FRAME_EPSILON
    edges = jnp.floor(edges).astype(jnp.int32)
    first = jnp.clip(edges[:, 0], 0, num_frames - 1)
    return first, jnp.clip(edges[:, 1], first + 1, num_frames)
