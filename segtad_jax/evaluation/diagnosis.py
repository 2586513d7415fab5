"""Diagnoses why a detector loses mAP at one tIoU, as DETAD does (Alwassel et al., ECCV 2018).

Everything is computed from plain annotations. Unlike in DETAD's script, truths of zero length or
longer than their video stay in, as in the mAP; and of equally overlapping truths the prediction's
own class is looked at first.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import SupportsFloat

import numpy as np

from segtad_jax.evaluation.average_precision import average_precision, match, precision_at
from segtad_jax.evaluation.instances import (
    GroundTruth,
    Predictions,
    Table,
    overlapping_pairs,
    tabulate,
)

OUTCOMES = (
    "true_positive",
    "double_detection",  # tIoU reached with a truth of its class that is taken
    "wrong_label",  # tIoU reached, but with a truth of another class
    "localization",  # a truth of its class, tIoU from 0.1 to the threshold
    "confusion",  # a truth of another class, tIoU from 0.1 to the threshold
    "background",  # tIoU below 0.1 with every truth
)
_BACKGROUND_TIOU = 0.1
_TOP = 10  # of each class, its best 10 * (number of truths) predictions are looked at
_MIN_PRECISION = 0.05  # a truth found only below this normalised precision counts as missed


_NAMES = ("XS", "S", "M", "L", "XL")
# Upper edges of DETAD's bins, of which the last is open: those of ActivityNet, then those of
# THUMOS14, whose actions are short and many.
_EDGES = {
    "coverage": ((0.2, 0.4, 0.6, 0.8), (0.02, 0.04, 0.06, 0.08)),
    "length": ((30, 60, 120, 180), (3, 6, 12, 18)),
    "instances": ((1, 4, 8), (1, 40, 80)),
}
_CROWDED = 0.9  # ActivityNet's bins, unless one of them holds more than this share of the truths


def diagnose(
    ground_truth: GroundTruth,
    predictions: Predictions,
    durations: Mapping[str, SupportsFloat] | None = None,
    tiou: float = 0.5,
) -> dict:
    """Computes error types, sensitivity and misses.

    Args:
        ground_truth: {video: [(start, end, label), ...]} in seconds.
        predictions: {video: [(start, end, label, score), ...]}.
        durations: {video: seconds}; without the duration of every video there is no coverage.
        tiou: the threshold of a hit.

    Returns:
        "tiou"; "map_n", the mAP normalised to the mean number of truths of a class; "outcomes", of
        the best 10 G predictions of each class, G its number of truths: "share" of each outcome,
        "by_rank" the same for the first G, the second G, ...; "gain" in map_n if the errors of a
        type were removed; "sensitivity" {"coverage" | "length" | "instances": [{"bin", "range",
        "actions", "map_n", "missed"}]}: map_n on the truths of a bin alone and the share of them
        that is missed, None in an empty bin. Instances are the truths of the same class in the same
        video.
    """
    table = tabulate(ground_truth, predictions)
    outcome, taken = outcomes(table, tiou)
    return {
        "tiou": float(tiou),
        "map_n": _normalized_map(table, taken >= 0, np.ones(taken.size, bool)),
        "outcomes": _outcome_shares(table, outcome),
        "sensitivity": _sensitivity(table, taken, durations or {}),
    }


def outcomes(table: Table, tiou: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the outcome of each prediction.

    Returns:
        [predictions] int64 index in OUTCOMES, and [predictions] int64 the truth taken or -1.
    """
    predictions, truths = table.predictions, table.truths
    pairs = overlapping_pairs(predictions, truths, tiou)
    taken = match(pairs, predictions.size, truths.size)

    near = overlapping_pairs(predictions, truths, min(_BACKGROUND_TIOU, tiou), same_label=False)
    other = truths.label[near.truth] != predictions.label[near.prediction]
    order = np.lexsort((other, -near.tiou, near.prediction))
    best = order[np.append(True, np.diff(near.prediction[order]) > 0)] if order.size else order
    outcome = np.full(predictions.size, OUTCOMES.index("background"))
    # double detection, wrong label, localization, confusion are 1, 2, 3, 4
    outcome[near.prediction[best]] = 1 + other[best] + 2 * (near.tiou[best] < tiou)
    outcome[taken >= 0] = OUTCOMES.index("true_positive")
    return outcome, taken


def _normalizer(table: Table) -> float:
    return table.truths.size / max(len(table.classes), 1)


def _normalized_map(table: Table, hit: np.ndarray, counted: np.ndarray) -> float:
    """Returns mAP_N of the predictions that are counted; both arrays are [predictions] bool."""
    values = [
        average_precision(hit[rows][counted[rows]], num_actions, _normalizer(table))
        for _, rows, num_actions in table.by_class()
    ]
    return float(np.mean(values)) if values else 0.0


def _outcome_shares(table: Table, outcome: np.ndarray) -> dict:
    rank = np.zeros(outcome.size, np.int64)  # which multiple of G a prediction falls into
    for _, rows, num_actions in table.by_class():
        rank[rows] = np.arange(rows.stop - rows.start) // num_actions
    top = rank < _TOP
    hit = outcome == 0
    base = _normalized_map(table, hit, top)

    def shares(rows: np.ndarray) -> dict[str, float]:
        counts = np.bincount(outcome[rows], minlength=len(OUTCOMES))
        return dict(zip(OUTCOMES, (counts / max(int(counts.sum()), 1)).tolist(), strict=True))

    return {
        "share": shares(top),
        "by_rank": [shares(rank == index) for index in range(_TOP)],
        "gain": {
            name: _normalized_map(table, hit, top & (outcome != code)) - base
            for code, name in enumerate(OUTCOMES)
            if code
        },
    }


def _sensitivity(table: Table, taken: np.ndarray, durations: Mapping[str, SupportsFloat]) -> dict:
    detected = np.zeros(table.truths.size, bool)
    for _, rows, num_actions in table.by_class():
        matched = taken[rows][taken[rows] >= 0]
        precision = precision_at(np.flatnonzero(taken[rows] >= 0), num_actions, _normalizer(table))
        detected[matched[precision > _MIN_PRECISION]] = True
    return {
        name: [
            {
                "bin": label,
                "range": text,
                "actions": int(inside.sum()),
                "map_n": _map_within(table, taken, inside),
                "missed": float(1 - detected[inside].mean()) if inside.any() else None,
            }
            for label, text, inside in _bins(name, value)
        ]
        for name, value in _characteristics(table, durations).items()
    }


def _map_within(table: Table, taken: np.ndarray, inside: np.ndarray) -> float | None:
    """Returns mAP_N if the truths outside, and what hit them, did not exist."""
    values = []
    actions = np.bincount(table.truths.label[inside], minlength=len(table.classes))
    for index, rows, _ in table.by_class():
        if actions[index]:
            truth = taken[rows]
            hit = truth[(truth < 0) | inside[truth]] >= 0
            values.append(average_precision(hit, actions[index], _normalizer(table)))
    return float(np.mean(values)) if values else None


def _characteristics(table: Table, durations: Mapping[str, SupportsFloat]) -> dict:
    """Returns {name: [truths] float64}; coverage only where all durations are known."""
    truths = table.truths
    length = truths.end - truths.start
    group = truths.label * len(table.videos) + truths.video
    _, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    values = {"length": length, "instances": count[inverse].astype(float)}
    seconds = np.array([float(durations.get(video, 0)) for video in table.videos])
    if truths.size and (seconds[truths.video] > 0).all():
        values = {"coverage": length / seconds[truths.video], **values}
    return values


def _bins(name: str, value: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields (bin, its range, [truths] bool: which of them fall in it)."""
    for edges in _EDGES[name]:
        index = np.searchsorted(edges, value, side="left")  # an edge belongs to the bin below
        if np.bincount(index, minlength=len(edges) + 1).max() <= _CROWDED * value.size:
            break
    for number, text in enumerate(_ranges(name, edges)):
        yield _NAMES[number], text, index == number


def _ranges(name: str, edges: tuple[float | int, ...]) -> list[str]:
    """Returns the bins' ranges as text."""
    unit, whole = " s" if name == "length" else "", name == "instances"
    between = [f"{low + whole}-{high}{unit}" for low, high in pairwise(edges)]
    return ["1" if whole else f"to {edges[0]}{unit}", *between, f"over {edges[-1]}{unit}"]
