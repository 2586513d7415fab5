"""Detection mAP by THUMOS14's own protocol, where segments of the class Ambiguous excuse errors.

It differs from ActivityNet's: truths choose predictions instead of the reverse, a hit needs a tIoU
strictly above the threshold, and precision is not made monotone.
"""

from collections import defaultdict

import numpy as np

from segtad_jax.evaluation.annotations import AMBIGUOUS
from segtad_jax.evaluation.average_precision import precision_at_hits, threshold_keys
from segtad_jax.evaluation.instances import (
    GroundTruth,
    Instances,
    Label,
    Predictions,
    Thresholds,
    tabulate,
    temporal_iou,
)


def actions_of(ground_truth: GroundTruth) -> dict[str, list[tuple]]:
    """The ground truth without Ambiguous segments, which are no actions."""
    return {
        video: [row for row in rows if row[2] != AMBIGUOUS] for video, rows in ground_truth.items()
    }


def thumos14_map(
    ground_truth: GroundTruth, predictions: Predictions, tiou_thresholds: Thresholds
) -> dict:
    """Mean average precision; arguments and result as of `detection_map`.

    The order of the truths within a video matters: each in turn takes, among the predictions of its
    class that are still free, the one of highest tIoU. Predictions left over are false positives
    unless they overlap an Ambiguous segment at all. Equal scores keep the order of (video, start,
    end).
    """
    keys = threshold_keys(tiou_thresholds)
    ambiguous = _segments(ground_truth, AMBIGUOUS)
    actions = actions_of(ground_truth)
    table = tabulate(actions, predictions)  # checks the values and sorts the predictions
    bounds = np.searchsorted(table.predictions.label, np.arange(len(table.classes) + 1))
    per_class = {}
    for index, label in enumerate(table.classes):
        own = table.predictions.take(np.arange(bounds[index], bounds[index + 1]))
        truths = _segments(actions, label)
        outcome = _outcomes(own, truths, ambiguous, table.videos, tiou_thresholds)
        num_actions = sum(len(segments) for segments in truths.values())
        ap = [_average_precision(row, num_actions) for row in outcome]
        per_class[label] = {
            **dict(zip(keys, ap, strict=True)),
            "average": float(np.mean(ap)),
            "actions": num_actions,
            "predictions": own.size,
        }
    per_tiou = {
        key: float(np.mean([row[key] for row in per_class.values()])) if per_class else 0.0
        for key in keys
    }
    return {
        "per_tiou": per_tiou,
        "average": float(np.mean(list(per_tiou.values()))),
        "per_class": per_class,
        "counts": {
            "videos": len(ground_truth),
            "actions": table.truths.size,
            "classes": len(table.classes),
            "predictions": table.predictions.size,
        },
    }


def _segments(ground_truth: GroundTruth, label: Label) -> dict[str, np.ndarray]:
    """{video: [n, 2] float64} of the videos that have the label, in file order."""
    segments = defaultdict(list)
    for video, rows in ground_truth.items():
        for start, end, own_label in rows:
            if own_label == label:
                segments[video].append((float(start), float(end)))
    return {video: np.array(rows) for video, rows in segments.items()}


def _outcomes(
    predictions: Instances,
    truths: dict[str, np.ndarray],
    ambiguous: dict[str, np.ndarray],
    videos: list[str],
    tiou_thresholds: Thresholds,
) -> np.ndarray:
    """[thresholds, predictions] int64: 1 a hit, 0 a false positive, -1 left out."""
    outcome = np.zeros((len(tiou_thresholds), predictions.size), np.int64)
    for index in np.unique(predictions.video):
        rows = np.flatnonzero(predictions.video == index)
        start, end = predictions.start[rows], predictions.end[rows]
        unsure = ambiguous.get(videos[index], np.zeros((0, 2)))
        overlap = np.minimum(end, unsure[:, 1:]) - np.maximum(start, unsure[:, :1])
        outcome[:, rows[(overlap > 0).any(axis=0)]] = -1
        own = truths.get(videos[index], np.zeros((0, 2)))
        tiou = temporal_iou(own[:, :1], own[:, 1:], start, end)  # [truths, predictions]
        for number, threshold in enumerate(tiou_thresholds):
            outcome[number, rows[_hits(tiou, threshold)]] = 1
    return outcome


def _hits(tiou: np.ndarray, threshold: float) -> list[int]:
    free = np.ones(tiou.shape[1], bool)
    for row in tiou:
        best = int(np.where(free, row, -1.0).argmax())
        if free[best] and row[best] > threshold:
            free[best] = False
    return np.flatnonzero(~free).tolist()


def _average_precision(outcome: np.ndarray, num_actions: int) -> float:
    """Sum over hits of the precision there, over the number of truths."""
    return float(precision_at_hits(outcome[outcome >= 0] == 1, num_actions).sum() / num_actions)
