"""Computes average recall against the number of proposals, as the official evaluator does.

Proposals of a video are taken in falling score; equal scores keep the order in
which they are given.
"""

import numpy as np

from segtad_jax.evaluation.average_precision import threshold_keys
from segtad_jax.evaluation.instances import (
    GroundTruth,
    Predictions,
    Thresholds,
    overlapping_pairs,
    tabulate,
)

_MAX_PROPOSALS = 100  # the largest average number of proposals a video
_REPORTED = (1, 5, 10, 50, 100)


def average_recall(
    ground_truth: GroundTruth, proposals: Predictions, tiou_thresholds: Thresholds
) -> dict:
    """Computes AR@AN for AN = 1..100 and the area under that curve; labels do not matter.

    Args:
        ground_truth: {video: [(start, end, label), ...]} in seconds.
        proposals: {video: [(start, end, label, score), ...]}; the label may be None.
        tiou_thresholds: each in (0, 1].

    Returns:
        {"1": AR@1, "5", "10", "50", "100", "auc": area / 100, "curve": [100] AR at each AN,
        "per_tiou": {"0.50": recall at AN = 100, ...}, "most": {"1": the most that AR@1 can be, if
        each of so many proposals finds an action of its own, ...}}, fractions.
    """
    keys = threshold_keys(tiou_thresholds)
    recall, most = _recall(ground_truth, proposals, tiou_thresholds)  # [thresholds, 100], [100]
    curve = recall.mean(axis=0)
    return {
        **{str(number): float(curve[number - 1]) for number in _REPORTED},
        "auc": float(((curve[1:] + curve[:-1]) / 2).sum() / _MAX_PROPOSALS),
        "curve": curve.tolist(),
        "per_tiou": dict(zip(keys, recall[:, -1].tolist(), strict=True)),
        "most": {str(number): float(most[number - 1]) for number in _REPORTED},
    }


def _recall(
    ground_truth: GroundTruth, proposals: Predictions, tiou_thresholds: Thresholds
) -> tuple[np.ndarray, np.ndarray]:
    table = tabulate(ground_truth, proposals, by_class=False)
    truths, proposed = table.truths, table.predictions
    number = np.arange(1, _MAX_PROPOSALS + 1)
    recall = np.zeros((len(tiou_thresholds), _MAX_PROPOSALS))
    if not (truths.size and proposed.size):
        return recall, recall.sum(axis=0)
    num_videos = np.unique(truths.video).size
    per_video = np.bincount(proposed.video, minlength=len(table.videos))
    # Written as the official script writes it: the truncations below depend on the rounding.
    ratio = _MAX_PROPOSALS * float(num_videos) / proposed.size
    kept = np.minimum((per_video * ratio).astype(int), per_video)
    total = kept[np.unique(truths.video)].sum()
    if not total:
        return recall, recall.sum(axis=0)
    share = number / 100.0 * (_MAX_PROPOSALS * float(num_videos) / total)
    # [truths, 100] how many proposals of the truth's video count at each operating point
    allowed = kept[truths.video][:, None]
    allowed = np.minimum((allowed * share).astype(int), allowed)

    rank = _rank_within(proposed.video)
    pairs = overlapping_pairs(proposed, truths, min(tiou_thresholds))
    for row, threshold in enumerate(tiou_thresholds):
        reached = pairs.reaching(threshold)
        first_rank = np.full(truths.size, proposed.size)
        # Pairs go by falling score: written backwards, the best-ranked one stays.
        first_rank[reached.truth[::-1]] = rank[reached.prediction[::-1]]
        recall[row] = (first_rank[:, None] < allowed).mean(axis=0)
    actions = np.bincount(truths.video)[truths.video]  # of each truth's video
    return recall, np.minimum(allowed / actions[:, None], 1).mean(axis=0)


def _rank_within(group: np.ndarray) -> np.ndarray:
    """Returns the number of earlier entries of the same value, [n] int64."""
    order = np.argsort(group, kind="stable")
    rank = np.empty(group.size, np.int64)
    rank[order] = np.arange(group.size) - np.searchsorted(group[order], group[order])
    return rank
