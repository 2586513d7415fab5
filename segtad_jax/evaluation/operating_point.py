"""Chooses for each class the score from which detections count, and counts what is then right.

Matching is the evaluator's at one tIoU: each detection, best score first, takes its free action of
highest tIoU. What a detection hits does not depend on those of lower scores, so one matching serves
all thresholds: the counts at a threshold are sums over the detections above it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from os import PathLike
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

from segtad_jax.evaluation.average_precision import match
from segtad_jax.evaluation.confidence import Knots, are_knots, confidence_of, fit, reliability
from segtad_jax.evaluation.ids import match_id, whole_id
from segtad_jax.evaluation.instances import (
    GroundTruth,
    Label,
    Predictions,
    Table,
    overlapping_pairs,
    tabulate,
)
from segtad_jax.evaluation.json_files import InputError, load_sealed, sealed
from segtad_jax.evaluation.thumos14 import without_ambiguous

TIOU = 0.5  # from which a detection is right
FEWEST = 5  # actions of a class; with fewer it takes the threshold of all classes together
PARTS = 5  # of cross-fitting
REMEDY = "Delete it: `segtad evaluate --workdir=RUN` chooses the last step's thresholds anew."

Threshold = SupportsFloat | Mapping[Label, SupportsFloat]  # of all classes, or of each

# How figures at thresholds were measured.
OTHERS = "on other recordings than those that chose the thresholds"
CROSS_FITTED = f"by cross-fitting in up to {PARTS} parts: none is measured at its own thresholds"
SAME = "on the one recording that chose the thresholds, which flatters"
GIVEN = "at a given threshold"


class Chosen(NamedTuple):
    """Thresholds of a model, and what they were chosen on."""

    thresholds: Mapping[Label, float]  # of every class
    videos: Collection[str] = ()  # ids of the recordings
    settings: Mapping[str, Any] = {}  # which make the scores what they are; JSON
    precision: float | None = None  # at which recall was best, 0: by F1; None: older files
    confidence: Knots | None = None  # by which scores become confidences; None: older files


def read_chosen(path: str | PathLike[str]) -> Chosen:
    """Reads the file that `to_json` fills.

    Raises:
        InputError: it is none, or damaged; names it, and what to do.
    """
    content = load_sealed(path, REMEDY)
    chosen = Chosen(*(content.get(field) for field in Chosen._fields))  # type: ignore[arg-type]
    kinds = zip(chosen, (dict, list, dict, int | float | None, object), strict=True)
    if not all(isinstance(value, kind) for value, kind in kinds) or not all(
        isinstance(value, int | float) for value in chosen.thresholds.values()
    ):
        raise InputError(f"{path}: has no thresholds of classes. {REMEDY}")
    if chosen.confidence is not None and not are_knots(chosen.confidence):
        raise InputError(f"{path}: confidence is no list of rising [score, share]. {REMEDY}")
    return chosen


def to_json(chosen: Chosen) -> dict[str, Any]:
    """Returns the content of a file of thresholds, with its checksum."""
    return sealed(chosen._replace(videos=sorted(chosen.videos))._asdict())


def above(predictions: Predictions, threshold: Threshold) -> dict[str, list[Any]]:
    """Returns the predictions of at least the threshold; none of a class that has no threshold."""

    def least(label: Label) -> float:
        return float(threshold.get(label, np.inf) if isinstance(threshold, Mapping) else threshold)

    return {
        video: [row for row in rows if float(row[3]) >= least(row[2])]
        for video, rows in predictions.items()
    }


def choose(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    precision: float = 0.0,
    classes: Collection[Label] = (),
    tiou: float = TIOU,
) -> dict[Label, float]:
    """Returns the threshold of every class: of best F1, or of best recall at a precision.

    Of equally good ones the highest. It lies halfway between the scores that it parts. A class with
    fewer than FEWEST actions, or of which nothing is right, takes that of all classes together.

    Args:
        ground_truth: {video: [(start, end, label), ...]} in seconds.
        predictions: {video: [(start, end, label, score), ...]}.
        precision: 0 for the best F1; else that at which recall is best, or if no threshold reaches
            it, the most precise is taken.
        classes: that get a threshold also where the ground truth has no action of them.
        tiou: from which a prediction is right.
    """
    table = tabulate(without_ambiguous(ground_truth), predictions, classes=classes)
    right = _taken(table, tiou) >= 0
    score = table.predictions.score
    order = np.argsort(-score, kind="stable")
    together = _cut(score[order], right[order], table.truths.size, precision)
    return {
        table.classes[index]: _cut(score[rows], right[rows], actions, precision)
        if actions >= FEWEST and right[rows].any()
        else together
        for index, rows, actions in table.by_class()
    }


def _cut(score: np.ndarray, right: np.ndarray, actions: int, precision: float) -> float:
    """Returns the best threshold for predictions in falling score."""
    if not score.size:
        return 0.0
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))  # ties stay together
    hits, shown = np.cumsum(right)[last], last + 1
    precise = hits / shown
    if not precision:
        worth = 2 * hits / (shown + actions)
    elif (precise >= precision).any():
        worth = np.where(precise >= precision, hits, -1)
    else:
        worth = precise
    best = int(np.argmax(worth))  # the first, of the highest score
    lowest = float(score[last[best]])
    if best + 1 == last.size:
        return lowest
    between = (lowest + float(score[last[best + 1]])) / 2
    return between if between > score[last[best + 1]] else lowest  # neighbours have none between


def count(
    ground_truth: GroundTruth,
    detections: Predictions,
    *,
    classes: Collection[Label] = (),
    tiou: float = TIOU,
) -> dict[str, Any]:
    """Counts the detections that are right, over all classes and for each.

    Args:
        ground_truth: {video: [(start, end, label), ...]} in seconds.
        detections: {video: [(start, end, label, score), ...]}, those that count.
        classes: whose detections are false where the ground truth has no action of them; those of
            other such classes are left out, as by the mAP.
        tiou: from which a detection is right.

    Returns:
        "right", "false" and "missed" are numbers, "precision", "recall" and "f1" fractions, None
        where there is nothing to take them of; "per_class" has the same of every label.
        "confusion": [[label of the action, label of the detection, how many]], first of those that
        the evaluator matches, then of the rest: each detection, best score first, takes the free
        action of any class with the highest tIoU. None stands for no action, or for no detection.
    """
    table = tabulate(without_ambiguous(ground_truth), detections, classes=classes)
    found, truths, background = table.predictions, table.truths, len(table.classes)
    taken = _taken(table, tiou)
    rest = np.flatnonzero(taken < 0)
    rest = rest[np.argsort(-found.score[rest], kind="stable")]
    free = np.flatnonzero(~np.isin(np.arange(truths.size), taken))
    pairs = overlapping_pairs(found.take(rest), truths.take(free), tiou, same_label=False)
    confused = match(pairs, rest.size, free.size)
    taken[rest[confused >= 0]] = free[confused[confused >= 0]]

    missed = np.flatnonzero(~np.isin(np.arange(truths.size), taken))
    actual = np.append(truths.label, background)[np.append(taken, missed)]  # -1: the background
    named = np.append(found.label.astype(int), np.full(missed.size, background))
    matrix = np.zeros((background + 1, background + 1), int)
    np.add.at(matrix, (actual, named), 1)

    names = [*table.classes, None]
    right = np.diag(matrix)[:-1]
    false, lost = matrix[:, :-1].sum(0) - right, matrix[:-1].sum(1) - right
    numbers = right.tolist(), false.tolist(), lost.tolist()
    return {
        "tiou": tiou,
        **_figures(*map(sum, numbers)),
        "per_class": {
            label: _figures(*row)
            for label, row in zip(table.classes, zip(*numbers, strict=True), strict=True)
        },
        "confusion": [
            [names[row], names[column], int(matrix[row, column])]
            for row, column in np.argwhere(matrix).tolist()
        ],
    }


def _figures(right: int, false: int, missed: int) -> dict[str, Any]:
    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        "right": right,
        "false": false,
        "missed": missed,
        "precision": share(right, right + false),
        "recall": share(right, right + missed),
        "f1": share(2 * right, 2 * right + false + missed),
    }


def _taken(table: Table, tiou: float) -> np.ndarray:
    """Returns the action that each prediction takes, [predictions] int64; -1: none."""
    pairs = overlapping_pairs(table.predictions, table.truths, tiou)
    return match(pairs, table.predictions.size, table.truths.size)


def calibration(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    classes: Collection[Label] = (),
    tiou: float = TIOU,
) -> dict[str, Any] | None:
    """Compares scores, read as probabilities, with the share of right ones: see `reliability`."""
    return reliability(*_labelled(ground_truth, predictions, classes, tiou))


def _labelled(
    ground_truth: GroundTruth,
    predictions: Predictions,
    classes: Collection[Label],
    tiou: float = TIOU,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the score of each prediction, and whether it is right."""
    table = tabulate(without_ambiguous(ground_truth), predictions, classes=classes)
    return table.predictions.score, _taken(table, tiou) >= 0


def fit_confidence(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    classes: Collection[Label] = (),
) -> list[list[float]]:
    """Returns the knots by which scores become confidences; the arguments are those of `choose`."""
    return fit(*_labelled(ground_truth, predictions, classes))


class _Part(NamedTuple):
    """Recordings that are measured at thresholds, and with confidences, that others chose."""

    videos: Collection[str]
    threshold: Threshold
    confidence: Knots | None

    def of(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the rows of its recordings."""
        return {video: theirs for video, theirs in rows.items() if video in self.videos}


def cross_fitted(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    precision: float = 0.0,
    classes: Collection[Label] = (),
) -> dict[str, list[Any]]:
    """Returns the predictions above thresholds that were chosen without their own recording.

    The recordings are divided by the order of their ids, in which those of one person or day often
    stand together, into PARTS, and each part is cut at the thresholds of the others. A single
    recording is cut at its own.
    """
    return _above_each(_parts(ground_truth, predictions, precision, classes), predictions)


def _above_each(parts: Iterable[_Part], predictions: Predictions) -> dict[str, list[Any]]:
    kept = dict[str, list[Any]]()
    for part in parts:
        kept |= above(part.of(predictions), part.threshold)
    return kept


def _parts(
    ground_truth: GroundTruth,
    predictions: Predictions,
    precision: float,
    classes: Collection[Label],
) -> Iterator[_Part]:
    """Yields the parts of `cross_fitted`."""
    videos: dict[str, set[str]] = {}  # parts of a recording are not apart
    for video in sorted(ground_truth.keys() | predictions.keys()):
        videos.setdefault(_recording(video), set()).add(video)
    wholes = list(videos)
    for part in np.array_split(np.arange(len(wholes)), min(PARTS, len(wholes)) or 1):
        own = set().union(*(videos[wholes[index]] for index in part))
        others = ground_truth.keys() - own or own
        truth = {video: rows for video, rows in ground_truth.items() if video in others}
        found = {video: rows for video, rows in predictions.items() if video in others}
        chosen = choose(truth, found, precision=precision, classes=classes)
        yield _Part(own, chosen, fit_confidence(truth, found, classes=classes))


def _recording(video: str) -> str:
    """Returns by what a recording is known, of which a video may be a part."""
    return match_id(whole_id(video)[0])


def assess(
    ground_truth: GroundTruth,
    predictions: Predictions,
    threshold: Threshold | Chosen | None,
    *,
    precision: float = 0.0,
    classes: Collection[Label] = (),
) -> dict[str, Any]:
    """Measures detections at thresholds, on recordings that these were not chosen on.

    Args:
        ground_truth: {video: [(start, end, label), ...]} in seconds.
        predictions: {video: [(start, end, label, score), ...]}.
        threshold: a given one; or those of a model, which are measured by cross-fitting where the
            recordings are those that chose them; None: chosen here, and measured likewise.
        precision: see `choose`; of thresholds that are chosen here, or do not say theirs.
        classes: see `count`.

    Returns:
        `count` of the predictions above, and "thresholds" {label: score}, "measured": how;
        "best_f1": that of thresholds which these very recordings choose; "calibration" of all
        predictions and "calibration_above" of those above, see `calibration`; "confidence" and
        "confidence_above" the same of their confidences and "knots" by which scores become them,
        None where the thresholds come without.
    """
    classes = {*classes, *(row[2] for rows in ground_truth.values() for row in rows)}
    recordings, videos = set(map(_recording, ground_truth)), {*ground_truth, *predictions}
    own = choose(ground_truth, predictions, classes=classes)
    if threshold is None:
        chosen = choose(ground_truth, predictions, precision=precision, classes=classes)
        knots = fit_confidence(ground_truth, predictions, classes=classes)
        threshold = Chosen(chosen, ground_truth.keys(), {}, precision, knots)
    if not isinstance(threshold, Chosen):
        parts, measured = [_Part(videos, threshold, None)], GIVEN
    elif set(map(_recording, threshold.videos)).isdisjoint(recordings):
        parts, measured = [_Part(videos, threshold.thresholds, threshold.confidence)], OTHERS
    else:
        precision = precision if threshold.precision is None else threshold.precision
        parts = list(_parts(ground_truth, predictions, precision, classes))
        if not threshold.confidence:  # of an older version: its detections have none
            parts = [part._replace(confidence=None) for part in parts]
        measured = CROSS_FITTED if len(recordings) > 1 else SAME
    thresholds = threshold.thresholds if isinstance(threshold, Chosen) else threshold
    kept = _above_each(parts, predictions)
    return {
        **count(ground_truth, kept, classes=classes),
        "thresholds": dict(thresholds)
        if isinstance(thresholds, Mapping)
        else dict.fromkeys(sorted(classes), float(thresholds)),
        "measured": measured,
        "best_f1": count(ground_truth, above(predictions, own), classes=classes)["f1"],
        "calibration": calibration(ground_truth, predictions, classes=classes),
        "calibration_above": calibration(ground_truth, kept, classes=classes),
        "knots": threshold.confidence if isinstance(threshold, Chosen) else None,
        "confidence": _calibrated(parts, ground_truth, predictions, classes),
        "confidence_above": _calibrated(parts, ground_truth, kept, classes),
    }


def _calibrated(
    parts: Iterable[_Part],
    ground_truth: GroundTruth,
    predictions: Predictions,
    classes: Collection[Label],
) -> dict[str, Any] | None:
    """Returns `reliability` of the confidences of predictions; None if some have none."""
    probabilities, rights = [np.zeros(0)], [np.zeros(0, bool)]
    for part in parts:
        if not part.confidence:
            return None
        score, right = _labelled(part.of(ground_truth), part.of(predictions), classes)
        probabilities.append(confidence_of(score, part.confidence))
        rights.append(right)
    return reliability(np.concatenate(probabilities), np.concatenate(rights))
