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
    # The grids: stride, and the lengths of proposals there.
    grids, limit = [(stride, 0, window)], 2 * pyramid * stride
    if pyramid:
        grids = [(stride, 0, limit)]
        while limit < window:
            grids.append((2 * grids[-1][0], limit, 2 * limit))
            limit *= 2
    nearest = []
    for eta, above, longest in grids:
        for offset in clip.offsets:
            pairs = _nearest(segments * clip.rate, offset, clip, window, eta)
            length = pairs[..., 1] - pairs[..., 0]
            nearest.append(pairs * ((length > above) & (length <= longest))[..., None])
    proposals = np.concatenate(nearest, axis=1)  # [n, candidates, 2], frames of the recording
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


def _nearest(segments: np.ndarray, offset: int, clip: Clip, window: int, stride: int) -> np.ndarray:
    """Returns a window's proposals around each segment, [n, 4, 2] in frames of the recording.

    With one end held, tIoU falls with the distance of the other from the action's, so the best of
    all has both boundaries next to the action's. Proposals that touch an inner edge of the window
    are no detections.
    """
    last = min(window, clip.num_frames - offset)
    low = stride if offset > 0 else 0
    high = last // stride * stride
    if high == window and offset + window < clip.num_frames:
        high -= stride
    below = np.floor((segments - offset) / stride) * stride
    starts = np.clip(np.stack([below[:, 0], below[:, 0] + stride], 1), low, high - stride)
    ends = np.clip(np.stack([below[:, 1], below[:, 1] + stride], 1), low + stride, high)
    pairs = np.stack(np.broadcast_arrays(starts[:, :, None], ends[:, None, :]), axis=-1)
    pairs = pairs.reshape(-1, 4, 2) + offset
    return pairs if high - low >= stride else np.zeros_like(pairs)
