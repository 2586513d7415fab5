"""Collects the page's data of each video: its score, truths and best detections, kept small."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

from segtad_jax.evaluation.average_precision import average_precision, match
from segtad_jax.evaluation.diagnosis import outcomes
from segtad_jax.evaluation.instances import (
    GroundTruth,
    Instances,
    Label,
    Predictions,
    Table,
    Thresholds,
    overlapping_pairs,
    tabulate,
)

_MAX_DETECTIONS = 150_000  # on the whole page: about 4 MB
_MAX_OF_A_VIDEO = 100
_MAX_CURVE_POINTS = 600


class Segmentation(NamedTuple):
    """Frame scores of the 1D semantic segmentation of one video, as in Figure 3 of the paper."""

    rate: float  # frames per second
    scores: Mapping[str, Sequence[float] | np.ndarray]  # {class: [frames]}, probabilities


def video_scores(table: Table, tiou_thresholds: Thresholds) -> dict[str, float]:
    """Returns the AP of each video with actions: all classes pooled by score, mean over tIoU."""
    predictions, truths = table.predictions, table.truths
    actions = np.bincount(truths.video, minlength=len(table.videos))
    order = np.lexsort((table.position, -predictions.score, predictions.video))
    bounds = np.searchsorted(predictions.video[order], np.arange(len(table.videos) + 1))
    pairs = overlapping_pairs(predictions, truths, min(tiou_thresholds))
    total = np.zeros(len(table.videos))
    for threshold in tiou_thresholds:
        hit = match(pairs.reaching(threshold), predictions.size, truths.size)[order] >= 0
        for index in np.flatnonzero(actions):
            hits = hit[bounds[index] : bounds[index + 1]]
            total[index] += average_precision(hits, actions[index])
    mean = total / len(tiou_thresholds)
    return {table.videos[index]: float(mean[index]) for index in np.flatnonzero(actions)}


def timelines(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    tiou_thresholds: Thresholds,
    tiou: float,
    durations: Mapping[str, SupportsFloat],
    compare: Predictions | None,
    segmentation: Mapping[str, Segmentation],
    classes: Collection[Label] = (),
    most: int = _MAX_OF_A_VIDEO,
) -> dict[str, Any]:
    """Returns the data of the page's timelines, in whole numbers.

    Detections are of the classes of the ground truth and of `classes`, of a recording `most`.

    Times are in hundredths of a second, AP in thousandths, scores in `score_unit`, which is a ten
    thousandth of the highest.

    Returns:
        {"labels": [name], "score_unit", "videos": [{"id", "duration", "ap" and "other" (None
        without actions or without `compare`), "truths": [start, end, label, ...], "detections":
        [start, end, label, score, outcome, ...] by falling score, "rest": how many more there are,
        "curves": {label: [percent, ...]}, "span": the end of the curves in time}]}.
    """
    table = tabulate(ground_truth, predictions, classes=classes)
    number = len(table.videos)
    scores = video_scores(table, tiou_thresholds)
    other = {}
    if compare is not None:
        other = video_scores(tabulate(ground_truth, compare), tiou_thresholds)
    limit = min(most, max(10, _MAX_DETECTIONS // max(number, 1)))
    unit = max(float(table.predictions.score.max(initial=0.0)), 1e-12) / 10_000
    detections, rest = _best_detections(table, tiou, limit, unit)
    actions = table.truths.take(np.lexsort((table.truths.start, table.truths.video)))
    truths = _split(actions.video, np.column_stack([_times(actions), actions.label]), number)
    last = np.zeros(number)
    for instances in (table.truths, table.predictions):
        np.maximum.at(last, instances.video, instances.end)

    videos = []
    for index, video in enumerate(table.videos):
        row = {
            "id": video,
            "duration": round(100 * float(durations.get(video, last[index]))),
            "ap": _thousandths(scores.get(video)),
            "other": _thousandths(other.get(video)),
            "truths": truths[index],
            "detections": detections[index],
            "rest": rest[index],
        }
        if video in segmentation:
            row |= _curves(segmentation[video], table.classes)
        videos.append(row)
    labels = [str(label) for label in table.classes]
    return {"labels": labels, "score_unit": unit, "videos": videos}


def _best_detections(
    table: Table, tiou: float, limit: int, unit: float
) -> tuple[list[list[int]], list[int]]:
    outcome, _ = outcomes(table, tiou)
    video = table.predictions.video
    order = np.lexsort((-table.predictions.score, video))
    rank = np.arange(order.size) - np.searchsorted(video[order], video[order])
    best = order[rank < limit]
    chosen = table.predictions.take(best)
    score = np.round(chosen.score / unit).astype(np.int64)
    columns = np.column_stack([_times(chosen), chosen.label, score, outcome[best]])
    counts = np.bincount(video, minlength=len(table.videos))
    rest = np.maximum(counts - limit, 0).tolist()
    return _split(chosen.video, columns, len(table.videos)), rest


def _split(video: np.ndarray, columns: np.ndarray, number: int) -> list[list[int]]:
    """Returns one flat list of rows for each video; `video` is sorted."""
    bounds = np.searchsorted(video, np.arange(1, number))
    return [part.ravel().tolist() for part in np.split(columns, bounds)]


def _times(instances: Instances) -> np.ndarray:
    return np.round(100 * np.stack([instances.start, instances.end], 1)).astype(np.int64)


def _thousandths(fraction: float | None) -> int | None:
    return None if fraction is None else round(1000 * fraction)


def _curves(segmentation: Segmentation, classes: list[Any]) -> dict[str, Any]:
    curves, span = {}, 0.0
    for label, values in segmentation.scores.items():
        scores = np.asarray(values, np.float64)
        if label in classes and scores.size:
            # The mean of each stretch, so that a short action does not fall between two points.
            edges = np.linspace(0, scores.size, min(scores.size, _MAX_CURVE_POINTS) + 1).astype(int)
            means = np.add.reduceat(scores, edges[:-1]) / np.diff(edges)
            curves[classes.index(label)] = np.round(100 * means).astype(int).tolist()
            span = scores.size / segmentation.rate
    return {"curves": curves, "span": round(100 * span)}
