"""Computes what the grid of proposals can reach: scores of perfect classes and ranking.

Proposals lie on a grid (Eq. 8), so an action's tIoU with the nearest one bounds what any training
can reach. A user who sees the bound for several strides can choose one before training.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segtad_jax.evaluation.average_precision import threshold_keys
from segtad_jax.evaluation.instances import Label, Thresholds, temporal_iou


class Clip(NamedTuple):
    """A recording and its windows."""

    num_frames: int
    rate: float  # frames per second
    duration: float  # seconds, to which detections are cut
    offsets: Sequence[int]  # first frame of each window
    actions: Sequence[tuple[float, float, Label]]  # start and end in seconds


def grid_ceiling(
    clips: Mapping[str, Clip],
    window: int,
    stride: int,
    tiou_thresholds: Thresholds,
    pyramid: int = 0,
) -> dict[str, Any]:
    """Computes the best possible recall and mAP.

    Args:
        clips: by video.
        window: T, frames.
        stride: eta, frames; where it does not divide T the grid ends before the window does.
        tiou_thresholds: each in (0, 1].
        pyramid: cells that longer proposals have more of, on coarser grids; 0: all on one.

    Returns:
        {"recall": {"0.50": fraction, ..., "average"}, "map": likewise, "actions": their number}.
        Recall counts an action if any proposal reaches it; for mAP one proposal stands for one
        action of a class only, and a class counts as much as any other.
    """
    labels = [label for clip in clips.values() for _, _, label in clip.actions]
    tiou = [np.zeros((2, 0)), *(_best(clip, window, stride, pyramid) for clip in clips.values())]
    thresholds = np.asarray(tiou_thresholds)
    reached, hit = np.concatenate(tiou, axis=1)[..., None] >= thresholds  # [actions, thresholds]
    names = np.array([sorted(set(labels)).index(label) for label in labels], int)
    per_class = [hit[names == index].mean(axis=0) for index in np.unique(names)]
    return {
        "recall": _named(reached.mean(axis=0) if labels else 0 * thresholds, thresholds),
        "map": _named(np.mean(per_class, axis=0) if labels else 0 * thresholds, thresholds),
        "actions": len(labels),
    }


def _named(values: np.ndarray, thresholds: np.ndarray) -> dict[str, float]:
    named = dict(zip(threshold_keys(thresholds), values.tolist(), strict=True))
    return named | {"average": float(values.mean())}


def _best(clip: Clip, window: int, stride: int, pyramid: int) -> np.ndarray:
    """Returns each action's highest tIoU, [2, n]: with any proposal, and with one it alone has."""
    segments = np.array([action[:2] for action in clip.actions], float).reshape(-1, 2)
    grids = _grids(window, stride, pyramid)
    proposals = np.concatenate(
        [
            _nearest(segments * clip.rate, offset, clip, window, grid)
            for grid in grids
            for offset in clip.offsets
        ],
        axis=1,
    )  # [n, candidates, 2], frames of the recording
    seconds = np.clip(proposals / clip.rate, 0, clip.duration)
    tiou = temporal_iou(
        segments[:, :1], segments[:, 1:], seconds[..., 0], seconds[..., 1]
    )  # [n, candidates]
    tiou[proposals[..., 1] <= proposals[..., 0]] = 0
    best = tiou.max(axis=1, initial=0)
    alone = np.zeros(len(segments))
    taken: set[tuple] = set()
    for row in np.argsort(-best, kind="stable"):
        for column in np.argsort(-tiou[row], kind="stable"):
            key = (clip.actions[row][2], *proposals[row, column])
            if key not in taken:
                taken.add(key)
                alone[row] = tiou[row, column]
                break
    return np.stack([best, alone])


class _Grid(NamedTuple):
    """A grid of proposals, in frames."""

    stride: int
    shortest: int
    longest: int


def _grids(window: int, stride: int, pyramid: int) -> list[_Grid]:
    """Returns the one grid of Eq. 8, or those of a pyramid."""
    if not pyramid:
        return [_Grid(stride, stride, window)]
    grids = [_Grid(stride, stride, 2 * pyramid * stride)]
    while grids[-1].longest < window:
        eta = 2 * grids[-1].stride
        grids.append(_Grid(eta, (pyramid + 1) * eta, 2 * pyramid * eta))
    return grids


def _nearest(segments: np.ndarray, offset: int, clip: Clip, window: int, grid: _Grid) -> np.ndarray:
    """Returns a window's proposals around each segment, [n, 8, 2] in frames of the recording.

    With one end held, tIoU falls with the distance of the other from the action's, so the best of
    all has both boundaries next to the action's; or one, and the least or largest length.
    Proposals that touch an inner edge of the window are no detections.
    """
    stride = grid.stride
    last = min(window, clip.num_frames - offset)
    low = stride if offset > 0 else 0
    high = last // stride * stride
    if high == window and offset + window < clip.num_frames:
        high -= stride
    if high - low < grid.shortest:
        return np.zeros((len(segments), 8, 2))
    below = np.floor((segments - offset) / stride) * stride
    starts = np.clip(np.stack([below[:, 0], below[:, 0] + stride], 1), low, high - stride)
    ends = np.clip(np.stack([below[:, 1], below[:, 1] + stride], 1), low + stride, high)
    start, end = np.broadcast_arrays(starts[:, :, None], ends[:, None, :])
    of_start = np.clip(end, start + grid.shortest, start + grid.longest)
    of_end = np.clip(start, end - grid.longest, end - grid.shortest)
    pairs = np.stack([(start, of_start), (of_end, end)])  # [2, start and end, n, 2, 2]
    pairs = np.moveaxis(pairs, (0, 1), (-2, -1)).reshape(len(segments), 8, 2)
    exists = (pairs[..., 0] >= low) & (pairs[..., 1] <= high)
    return (pairs + offset) * exists[..., None]
