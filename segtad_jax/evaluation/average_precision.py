"""Computes detection mAP as the official ActivityNet evaluator does, vectorised.

Equal scores keep the order in which the predictions are given, as in THUMOS14's official program;
ActivityNet's leaves it to a sort that is not stable, so the bounds of what another order of them
would give are computed, too. Where the official script fails or depends on the order of the truths,
one rule holds: equal tIoU keep the order (start, end) of the truths, and the tIoU of two segments
of zero length is 0.
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
        "actions", "classes", "predictions"}, "ties": see `map_result`}, fractions. Videos and
        predictions are those scored.
    """
    keys = threshold_keys(tiou_thresholds)
    table = tabulate(ground_truth, predictions)
    ap = _average_precisions(table, tiou_thresholds)
    return map_result(table, ap, keys, num_videos=len(ground_truth))


def map_result(table: Table, ap: np.ndarray, keys: list[str], *, num_videos: int) -> dict:
    """Returns the result of `detection_map`.

    Args:
        table: what was scored.
        ap: [3, classes, thresholds], as `tied_positions` orders the predictions.
        keys: names of the thresholds.
        num_videos: scored.

    Returns:
        See `detection_map`; "ties": {"predictions": how many have the score of another one of their
        class, "largest": the most that share one, "hits_first" and "misses_first": {"0.50": mAP,
        ..., "average"} if in every tie those that hit came first, or last}.
    """
    means = ap.mean(axis=1) if len(table.classes) else np.zeros((3, len(keys)))
    mean, hits_first, misses_first = (_named(keys, row) for row in means)
    ap = ap[0]
    blocks = np.bincount(table.ties())
    return {
        "per_tiou": {key: mean[key] for key in keys},
        "average": mean["average"],
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
        "ties": {
            "predictions": int(blocks[blocks > 1].sum()),
            "largest": int(blocks.max(initial=0)),
            "hits_first": hits_first,
            "misses_first": misses_first,
        },
    }


def _named(keys: list[str], values: np.ndarray) -> dict[str, float]:
    return {**dict(zip(keys, values.tolist(), strict=True)), "average": float(values.mean())}


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


def _average_precisions(table: Table, tiou_thresholds: Thresholds) -> np.ndarray:
    """Returns AP, [3, classes, thresholds]; a class without predictions has 0."""
    pairs = overlapping_pairs(table.predictions, table.truths, min(tiou_thresholds))
    ap = np.zeros((3, len(table.classes), len(tiou_thresholds)))
    ties = table.ties()
    for column in np.argsort(tiou_thresholds):
        pairs = pairs.reaching(tiou_thresholds[column])  # ever fewer
        hit = match(pairs, table.predictions.size, table.truths.size) >= 0
        for index, rows, num_actions in table.by_class():
            for order, position in enumerate(tied_positions(hit[rows], ties[rows])):
                ap[order, index, column] = _area(position, num_actions)
    return ap


def tied_positions(hit: np.ndarray, ties: np.ndarray) -> list[np.ndarray]:
    """Returns the positions of the hits in three orders: as given, hits first, misses first.

    The last two change the order within ties alone. An order of tied predictions can change what
    they hit only where one of them reaches several actions of its class in its video; elsewhere no
    order gives a better AP than hits first, and none a worse one than misses first.

    Args:
        hit: [n] bool.
        ties: [n], not falling: predictions of one number are tied.
    """
    given = np.flatnonzero(hit)
    block = ties[given]
    rank = np.arange(given.size)
    before = rank - np.searchsorted(block, block)  # hits of the tie
    after = np.searchsorted(block, block, "right") - 1 - rank
    first = np.searchsorted(ties, block) + before
    last = np.searchsorted(ties, block, "right") - 1 - after
    return [given, first, last]


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
        normalizer: see `precision_at`.
    """
    return _area(np.flatnonzero(hit), num_actions, normalizer)


def _area(
    position: np.ndarray, num_actions: int | np.integer, normalizer: float | None = None
) -> float:
    precision = precision_at(position, num_actions, normalizer)
    # Between hits precision only falls, so the envelope over all predictions is that over hits.
    return float(np.maximum.accumulate(precision[::-1]).sum() / num_actions)


def precision_at(
    position: np.ndarray, num_actions: int | np.integer, normalizer: float | None = None
) -> np.ndarray:
    """Returns the precision at each hit, [hits] float64; recall there is 1, 2, ... / num_actions.

    `position` is where the hits are among the predictions, from 0.

    With a `normalizer` it is as if the class had that many truths, which makes classes and bins of
    unequal size comparable (DETAD, section 3.1): recall * n / (recall * n + false positives).
    """
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
        precision = precision_at(np.flatnonzero(hit[rows]), num_actions)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        # the first hit with at least this recall; beyond the last one precision is 0
        needed = np.ceil(recalls * num_actions - 1e-9).astype(int)
        curves[index] = envelope[np.clip(needed - 1, 0, precision.size)]
    return curves.mean(axis=0) if len(curves) else np.zeros(recalls.size)
