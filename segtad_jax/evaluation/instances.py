"""Tabulates actions and detections of many videos, and computes the temporal IoU between them.

Plain values come in as ``{video: [(start, end, label), ...]}`` (truths) and
``{video: [(start, end, label, score), ...]}`` (predictions), times in seconds.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

Label = Any  # hashable, and sortable among its like: a name or a number
GroundTruth = Mapping[str, Sequence[tuple[SupportsFloat, SupportsFloat, Label]]]
Predictions = Mapping[str, Sequence[tuple[SupportsFloat, SupportsFloat, Label, SupportsFloat]]]
Thresholds = Sequence[float] | np.ndarray  # of tIoU, each in (0, 1]

# Pairs looked at together: bounds the memory to about 200 MB whatever the number of predictions.
_PAIRS_PER_BLOCK = 1 << 21


class Instances(NamedTuple):
    """Columns of equal length n; `score` is all ones for truths."""

    video: np.ndarray  # [n] int64, index in the sorted list of videos
    label: np.ndarray  # [n] int64, index in the sorted list of classes
    start: np.ndarray  # [n] float64, seconds
    end: np.ndarray  # [n] float64, seconds
    score: np.ndarray  # [n] float64

    def take(self, index: np.ndarray) -> "Instances":
        """Returns the rows `index`, in that order."""
        return Instances(*(column[index] for column in self))

    @property
    def size(self) -> int:
        """The number of rows."""
        return self.video.size


class Table(NamedTuple):
    """Truths and predictions over one list of videos and one of classes."""

    videos: list[str]
    classes: list[Label]
    truths: Instances  # sorted by class, video, start, end
    predictions: Instances  # sorted by class, falling score; equal ones as they were given
    position: np.ndarray  # [predictions] int64, where each was among those given

    def by_class(self) -> Iterator[tuple[int, slice, int]]:
        """Yields (class, its rows of the predictions, its number of truths)."""
        number = len(self.classes)
        bounds = np.searchsorted(self.predictions.label, np.arange(number + 1)).tolist()
        actions = np.bincount(self.truths.label, minlength=number).tolist()
        for index in range(number):
            yield index, slice(bounds[index], bounds[index + 1]), actions[index]

    def ties(self) -> np.ndarray:
        """Returns the number of each prediction's block of equal class and score, [predictions]."""
        label, score = self.predictions.label, self.predictions.score
        new = (label[1:] != label[:-1]) | (score[1:] != score[:-1])
        return np.append(0, np.cumsum(new))[: label.size]


def tabulate(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    by_class: bool = True,
    classes: Collection[Label] = (),
) -> Table:
    """Returns the columns of both sides, in the order that the metrics need.

    Predictions of a class without any truth are left out, unless it is one of `classes`. Without
    `by_class` everything counts as one class, for metrics of proposals.

    Raises:
        ValueError: a time or score is no finite number, or a segment ends before it starts; names
            the video.
    """
    videos = sorted(set(ground_truth) | set(predictions))
    video_index = {video: index for index, video in enumerate(videos)}
    labels, class_index = [], None
    if by_class:
        actions = (action[2] for actions in ground_truth.values() for action in actions)
        labels = sorted({*classes, *actions})
        class_index = {label: index for index, label in enumerate(labels)}

    truths = _columns(ground_truth, video_index, class_index, scored=False)
    truths = truths.take(np.lexsort((truths.end, truths.start, truths.video, truths.label)))
    detected = _columns(predictions, video_index, class_index, scored=True)
    known = np.flatnonzero(detected.label >= 0)
    label = detected.label[known].astype(np.min_scalar_type(max(len(labels), 1)))
    order = known[np.lexsort((-detected.score[known], label))]  # stable: ties keep their order
    return Table(videos, labels, truths, detected.take(order), order)


def _columns(
    instances: Mapping[str, Sequence[tuple]],
    video_index: dict[str, int],
    class_index: dict[Label, int] | None,
    *,
    scored: bool,
) -> Instances:
    counts = [len(rows) for rows in instances.values()]
    size = sum(counts)
    indices = np.fromiter((video_index[video] for video in instances), np.int64, len(counts))
    rows = [row for rows in instances.values() for row in rows]

    def column(position: int) -> np.ndarray:
        return np.fromiter(map(itemgetter(position), rows), np.float64, size)

    label = np.zeros(size, np.int64)
    if class_index is not None:
        labels = map(itemgetter(2), rows)
        label = np.fromiter(map(class_index.get, labels, repeat(-1)), np.int64, size)
    columns = Instances(
        video=np.repeat(indices, counts),
        label=label,
        start=column(0),
        end=column(1),
        score=column(3) if scored else np.ones(size),
    )
    finite = np.isfinite(columns.start) & np.isfinite(columns.end) & np.isfinite(columns.score)
    wrong = np.flatnonzero(~finite | (columns.end < columns.start))
    if wrong.size:
        video = list(video_index)[columns.video[wrong[0]]]
        raise ValueError(
            f"{'predictions' if scored else 'ground truth'}, video {video!r}: "
            f"{tuple(rows[wrong[0]])} must have finite numbers and start <= end"
        )
    return columns


def temporal_iou(
    start: np.ndarray, end: np.ndarray, other_start: np.ndarray, other_end: np.ndarray
) -> np.ndarray:
    """Returns the intersection over union of segments, broadcast; 0 where both have no length."""
    intersection = np.minimum(end, other_end) - np.maximum(start, other_start)
    intersection = np.maximum(intersection, 0.0)
    union = (other_end - other_start) + (end - start) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


class Pairs(NamedTuple):
    """Predictions beside truths, sorted by prediction, then falling tIoU, then truth."""

    prediction: np.ndarray  # [n] int64, row of the predictions
    truth: np.ndarray  # [n] int64, row of the truths
    tiou: np.ndarray  # [n] float64

    def reaching(self, threshold: float) -> "Pairs":
        """Returns the pairs of at least this tIoU."""
        reached = self.tiou >= threshold
        return Pairs(*(column[reached] for column in self))


def overlapping_pairs(
    predictions: Instances, truths: Instances, minimum: float, *, same_label: bool = True
) -> Pairs:
    """Returns all predictions beside the truths of their video at a tIoU of at least `minimum`.

    Only truths of the prediction's class, unless `same_label` is off.
    """

    def key(instances: Instances) -> np.ndarray:
        return instances.label * num_videos + instances.video if same_label else instances.video

    num_videos = 1 + max(predictions.video.max(initial=0), truths.video.max(initial=0))
    truth_key, prediction_key = key(truths), key(predictions)
    by_key = np.argsort(truth_key, kind="stable")
    first = np.searchsorted(truth_key, prediction_key, "left", sorter=by_key)
    count = np.searchsorted(truth_key, prediction_key, "right", sorter=by_key) - first
    blocks = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for start, stop in _blocks(count):
        row = np.repeat(np.arange(start, stop), count[start:stop])
        ends = np.cumsum(count[start:stop])
        within = np.arange(row.size) - np.repeat(ends - count[start:stop], count[start:stop])
        column = by_key[first[row] + within]
        tiou = temporal_iou(
            predictions.start[row], predictions.end[row], truths.start[column], truths.end[column]
        )
        reached = np.flatnonzero(tiou >= minimum)
        blocks.append(Pairs(row[reached], column[reached], tiou[reached]))
    prediction, truth, tiou = (np.concatenate(column) for column in zip(*blocks, strict=True))
    # Only predictions with several truths need sorting, and at the usual thresholds few have.
    # The sort is stable: equal tIoU keep the order of the truths.
    again = prediction[1:] == prediction[:-1]
    several = np.flatnonzero(np.append(again, False) | np.append(False, again))
    order = np.arange(prediction.size)
    order[several] = several[np.lexsort((-tiou[several], prediction[several]))]
    return Pairs(prediction[order], truth[order], tiou[order])


def _blocks(count: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields ranges of at least one prediction, with about _PAIRS_PER_BLOCK pairs each."""
    pairs_before = np.concatenate([[0], np.cumsum(count)])
    start = 0
    while start < count.size:
        limit = pairs_before[start] + _PAIRS_PER_BLOCK
        stop = max(start + 1, int(np.searchsorted(pairs_before, limit, "right")) - 1)
        yield start, stop
        start = stop
