"""Computes detection mAP as the official ActivityNet evaluator does, vectorised.

Where the official script depends on the order of the input or fails, one rule holds: equal scores
keep the order (video, start, end), equal tIoU the order (start, end) of the truths, and the tIoU of
two segments of zero length is 0.
"""

import numpy as np

from segtad_jax.evaluation.instances import (
    GroundTruth,
    Pairs,
    Predictions,
    Table,
    Thresholds,
    overlapping_pairs,
    tabulate,
)


def detection_map(
    ground_truth: GroundTruth, predictions: Predictions, tiou_thresholds: Thresholds
) -> dict:
    """Computes mean average precision over the classes of the ground truth.

    Args:
        ground_truth: {video: [(start, end, label), ...]} in seconds; a video may have no action.
        predictions: {video: [(start, end, label, score), ...]}. Those of videos without ground
            truth are false positives; those of a label without any ground truth are left out.
        tiou_thresholds: each in (0, 1]; a prediction hits at tIoU >= threshold.

    Returns:
        {"per_tiou": {"0.50": mAP, ...}, "average": mean over thresholds, "per_class": {label:
        {"0.50": AP, ..., "average": AP, "actions": n, "predictions": n}}, "counts": {"videos",
        "actions", "classes", "predictions"}}, fractions. Videos and predictions are those scored.
    """
    keys = threshold_keys(tiou_thresholds)
    table = tabulate(ground_truth, predictions)
    ap = average_precisions(table, tiou_thresholds)
    return map_result(table, ap, keys, num_videos=len(ground_truth))


def map_result(table: Table, ap: np.ndarray, keys: list[str], *, num_videos: int) -> dict:
    """Returns the result of `detection_map` for `ap` [classes, thresholds]."""
    mean = ap.mean(axis=0) if len(ap) else np.zeros(len(keys))
    return {
        "per_tiou": dict(zip(keys, mean.tolist(), strict=True)),
        "average": float(mean.mean()),
        "per_class": {
            table.classes[index]: {
                **dict(zip(keys, ap[index].tolist(), strict=True)),
                "average": float(ap[index].mean()),
                "actions": num_actions,
                "predictions": rows.stop - rows.start,
            }
            for index, rows, num_actions in table.by_class()
        },
        "counts": {
            "videos": num_videos,
            "actions": table.truths.size,
            "classes": len(table.classes),
            "predictions": table.predictions.size,
        },
    }


def threshold_keys(tiou_thresholds: Thresholds) -> list[str]:
    """Returns the thresholds to two decimals, as they name results.

    Raises:
        ValueError: they lie outside (0, 1] or do not differ in two decimals.
    """
    keys = [f"{threshold:.2f}" for threshold in tiou_thresholds]
    if not keys or len(set(keys)) < len(keys):
        raise ValueError(f"tiou_thresholds {list(tiou_thresholds)} must differ in two decimals")
    if not all(0 < threshold <= 1 for threshold in tiou_thresholds):
        raise ValueError(f"tiou_thresholds {list(tiou_thresholds)} must lie in (0, 1]")
    return keys


def average_precisions(table: Table, tiou_thresholds: Thresholds) -> np.ndarray:
    """Returns AP, [classes, thresholds] float64; a class without predictions has 0."""
    pairs = overlapping_pairs(table.predictions, table.truths, min(tiou_thresholds))
    ap = np.zeros((len(table.classes), len(tiou_thresholds)))
    for column in np.argsort(tiou_thresholds):
        pairs = pairs.reaching(tiou_thresholds[column])  # ever fewer
        hit = match(pairs, table.predictions.size, table.truths.size) >= 0
        for index, rows, num_actions in table.by_class():
            ap[index, column] = average_precision(hit[rows], num_actions)
    return ap


def match(pairs: Pairs, num_predictions: int, num_truths: int) -> np.ndarray:
    """Matches: each prediction, best score first, takes its free truth of highest tIoU.

    Args:
        pairs: the pairs that reach the threshold; rows of predictions in falling score.
        num_predictions: the number of predictions that rows refer to.
        num_truths: the number of truths that rows refer to.

    Returns:
        [num_predictions] int64: the truth taken, or -1.
    """
    prediction, truth, _ = pairs
    taken_by = np.full(num_predictions, -1)
    taken = np.zeros(num_truths, bool)
    first_row = np.empty(num_truths, np.int64)
    # The sequential rule, settled for many predictions at once: where a truth is the best free one
    # of a prediction and no better-scored prediction can still want it, nothing can change that.
    while prediction.size:
        row = np.arange(len(prediction))
        first_row[truth[::-1]] = row[::-1]  # the last write stays: the first row of each truth
        best_of_prediction = np.append(True, prediction[1:] != prediction[:-1])
        settled = best_of_prediction & (first_row[truth] == row)
        taken_by[prediction[settled]] = truth[settled]
        taken[truth[settled]] = True
        free = (taken_by[prediction] < 0) & ~taken[truth]
        prediction, truth = prediction[free], truth[free]
    return taken_by


def average_precision(
    hit: np.ndarray, num_actions: int | np.integer, normalizer: float | None = None
) -> float:
    """Returns the area under the precision-recall curve, precision made monotone from the right.

    Args:
        hit: [n] bool, in falling score.
        num_actions: the number of truths, positive.
        normalizer: see `precision_at_hits`.
    """
    precision = precision_at_hits(hit, num_actions, normalizer)
    # Between hits precision only falls, so the envelope over all predictions is that over hits.
    return float(np.maximum.accumulate(precision[::-1]).sum() / num_actions)


def precision_at_hits(
    hit: np.ndarray, num_actions: int | np.integer, normalizer: float | None = None
) -> np.ndarray:
    """Returns the precision at each hit, [hits] float64; recall there is 1, 2, ... / num_actions.

    With a `normalizer` it is as if the class had that many truths, which makes classes and bins of
    unequal size comparable (DETAD, section 3.1): recall * n / (recall * n + false positives).
    """
    position = np.flatnonzero(hit)
    hits = np.arange(1, position.size + 1)
    false = position + 1 - hits
    mass = hits if normalizer is None else hits * (normalizer / num_actions)
    return mass / (mass + false)


def mean_precision_recall(table: Table, threshold: float, recalls: np.ndarray) -> np.ndarray:
    """Returns the monotone precision at these recalls, mean over classes, [recalls] float64."""
    pairs = overlapping_pairs(table.predictions, table.truths, threshold)
    hit = match(pairs, table.predictions.size, table.truths.size) >= 0
    curves = np.zeros((len(table.classes), recalls.size))
    for index, rows, num_actions in table.by_class():
        precision = precision_at_hits(hit[rows], num_actions)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        # the first hit with at least this recall; beyond the last one precision is 0
        needed = np.ceil(recalls * num_actions - 1e-9).astype(int)
        curves[index] = envelope[np.clip(needed - 1, 0, precision.size)]
    return curves.mean(axis=0) if len(curves) else np.zeros(recalls.size)
