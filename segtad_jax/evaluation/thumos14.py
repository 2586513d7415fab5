"""Computes detection mAP by THUMOS14's own protocol, where Ambiguous segments excuse errors.

It differs from ActivityNet's: truths choose predictions instead of the reverse, a hit needs a tIoU
strictly above the threshold, and precision is not made monotone.
"""

from collections import defaultdict

import numpy as np

from segtad_jax.evaluation.annotations import AMBIGUOUS
from segtad_jax.evaluation.average_precision import (
    map_result,
    precision_at,
    threshold_keys,
    tied_positions,
)
from segtad_jax.evaluation.instances import (
    GroundTruth,
    Instances,
    Label,
    Predictions,
    Thresholds,
    tabulate,
    temporal_iou,
)


def without_ambiguous(ground_truth: GroundTruth) -> dict[str, list[tuple]]:
    """Returns the ground truth without Ambiguous segments, which are no actions."""
    return {
        video: [row for row in rows if row[2] != AMBIGUOUS] for video, rows in ground_truth.items()
    }


def thumos14_map(
    ground_truth: GroundTruth, predictions: Predictions, tiou_thresholds: Thresholds
) -> dict:
    """Computes mean average precision; arguments and result are those of `detection_map`.

    The order of the truths within a video matters: each in turn takes, among the predictions of its
    class that are still free, the one of highest tIoU. Predictions left over are false positives
    unless they overlap an Ambiguous segment at all. Equal tIoU and equal scores keep the order in
    which the predictions are given.
    """
    keys = threshold_keys(tiou_thresholds)
    ambiguous = _segments(ground_truth, AMBIGUOUS)
    actions = without_ambiguous(ground_truth)
    table = tabulate(actions, predictions)  # checks the values and sorts the predictions
    ties = table.ties()
    ap = np.zeros((3, len(table.classes), len(tiou_thresholds)))
    for index, rows, num_actions in table.by_class():
        ranked = np.arange(rows.start, rows.stop)
        given = np.argsort(table.position[rows])
        predicted = table.predictions.take(ranked[given])
        truths = _segments(actions, table.classes[index])
        outcome = np.empty((len(tiou_thresholds), ranked.size), np.int64)
        outcome[:, given] = _outcomes(predicted, truths, ambiguous, table.videos, tiou_thresholds)
        for column, row in enumerate(outcome):
            counted = row >= 0
            positions = tied_positions(row[counted] == 1, ties[rows][counted])
            for order, position in enumerate(positions):
                ap[order, index, column] = precision_at(position, num_actions).sum() / num_actions
    return map_result(table, ap, keys, num_videos=len(ground_truth))


def _segments(ground_truth: GroundTruth, label: Label) -> dict[str, np.ndarray]:
    """Returns {video: [n, 2] float64} for the videos that have the label, in file order."""
    segments = defaultdict(list)
    for video, rows in ground_truth.items():
        for start, end, row_label in rows:
            if row_label == label:
                segments[video].append((float(start), float(end)))
    return {video: np.array(rows) for video, rows in segments.items()}


def _outcomes(
    predictions: Instances,
    truths: dict[str, np.ndarray],
    ambiguous: dict[str, np.ndarray],
    videos: list[str],
    tiou_thresholds: Thresholds,
) -> np.ndarray:
    """Returns [thresholds, predictions] int64: 1 a hit, 0 a false positive, -1 left out."""
    outcome = np.zeros((len(tiou_thresholds), predictions.size), np.int64)
    for index in np.unique(predictions.video):
        rows = np.flatnonzero(predictions.video == index)
        start, end = predictions.start[rows], predictions.end[rows]
        unsure = ambiguous.get(videos[index], np.zeros((0, 2)))
        overlap = np.minimum(end, unsure[:, 1:]) - np.maximum(start, unsure[:, :1])
        outcome[:, rows[(overlap > 0).any(axis=0)]] = -1
        segments = truths.get(videos[index], np.zeros((0, 2)))
        tiou = temporal_iou(segments[:, :1], segments[:, 1:], start, end)  # [truths, predictions]
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
