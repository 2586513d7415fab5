"""Labels of frames and proposals from annotated segments, which the losses compare with.

One video at a time; the caller vmaps. Segments are in units of the window, so that 0..1 is inside.
They may reach outside: an action that the window cuts keeps its true start and end, so that
boundaries outside of the window are known to be there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Real

from segtad_jax.ops.segments import pairwise_tiou

# Half a frame is far more, a float32 rounding error far less: 0.29 * 100 must be frame 29.
FRAME_EPSILON = 1e-4


class Targets(NamedTuple):
    """Labels of one video."""

    frame_classes: Float[Array, "T classes"]  # shares of 0, the background, and 1..D
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
    num_classes: int,
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
        frame_classes(segments, labels, valid, num_frames, num_classes),
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
    num_classes: int,
) -> Float[Array, "T classes"]:
    """Returns the classes of every frame (section 3.2.3), 0 the background, as shares of 1.

    Frame t covers [t, t + 1) / T. Where actions of several classes overlap, each has an equal share
    (ours): the paper gives a frame one label, and whichever action that is takes it from another.
    """
    first, stop = _frames(segments, num_frames)
    frame = jnp.arange(num_frames)[:, None]
    covered = (frame >= first) & (frame < stop) & valid  # [T, N]
    actions = jax.nn.one_hot(labels, 1 + num_classes)  # [N, D + 1]
    present = (covered.astype(jnp.float32) @ actions > 0).at[:, 0].set(~covered.any(axis=1))
    return present / jnp.sum(present, axis=1, keepdims=True)


def boundary_labels(
    segments: Float[Array, "N 2"],
    valid: Bool[Array, " N"],
    num_frames: int,
    radius: int,
) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
    """Returns start and end labels (Eq. 5), 1 within `radius` frames of the first or last frame.

    A first or last frame outside the window, of an action that it cuts, has no label.
    """
    first, stop = _frames(segments, num_frames)
    frame = jnp.arange(num_frames)

    def near(centre: Int[Array, " N"]) -> Float[Array, " T"]:
        inside = valid & (centre >= 0) & (centre < num_frames)
        hit = (jnp.abs(frame - centre[:, None]) <= radius) & inside[:, None]  # [N, T]
        return jnp.any(hit, axis=0).astype(jnp.float32)

    return near(first), near(stop - 1)


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
    """Returns the first frame of each segment and that after its last, at least one frame.

    They are those of the recording, whichever window cuts it: before 0 and from T on they are
    outside. The frame in which a segment starts is one of its own, the one in which it ends is not:
    a segment that ends within the frame after the window has its last frame in the window.
    """
    edges = segments.astype(jnp.float32) * num_frames + FRAME_EPSILON
    first, stop = jnp.floor(edges).astype(jnp.int32).T
    return first, jnp.maximum(stop, first + 1)
