"""Turns scores into confidences: of detections with one of 80 %, about 80 in a hundred are right.

It is isotonic regression over all classes together (Zadrozny and Elkan, KDD 2002): the shares of
right detections that rise with the score and fit best. They keep the order of the scores, so no
metric of ranks changes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 10  # of probabilities, for their calibration

Knots = Sequence[Sequence[float]]  # [score, confidence], both rising; linear between, flat beyond


def fit(score: np.ndarray, right: np.ndarray) -> list[list[float]]:
    """Returns the knots for detections of which it is known which are right; [] of none.

    Adjacent violators are pooled (Ayer et al., 1955). One wrong detection is added at the highest
    score, so that nothing has a confidence of 1.

    Args:
        score: of each detection, [n], finite.
        right: whether each is, [n].
    """
    if not score.size:
        return []
    order = np.lexsort((~right, score))  # of equal scores the right ones first, so all are pooled
    scores, hits = score[order].tolist(), right[order].astype(int).tolist()
    blocks: list[list[Any]] = []  # [right, detections, lowest score, highest]
    for x, hit in zip([*scores, scores[-1]], [*hits, 0], strict=True):
        blocks.append([hit, 1, x, x])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            more, number, _, highest = blocks.pop()
            blocks[-1] = [blocks[-1][0] + more, blocks[-1][1] + number, blocks[-1][2], highest]
    return [
        [x, rights / number]
        for rights, number, lowest, highest in blocks
        for x in sorted({lowest, highest})
    ]


def confidence_of(score: np.ndarray | Sequence[float], knots: Knots) -> np.ndarray:
    """Returns the confidence of each score, [n]."""
    return np.interp(np.asarray(score, float), *np.transpose(knots))


def are_knots(value: object) -> bool:
    """Returns whether a value from a file is such as `fit` returns."""
    if not isinstance(value, list) or not all(
        isinstance(knot, list) and len(knot) == 2 and all(type(x) in (int, float) for x in knot)
        for knot in value
    ):
        return False
    knots = np.array(value, float).reshape(-1, 2)
    rising = bool((np.diff(knots, axis=0) >= 0).all())
    return rising and bool(np.isfinite(knots).all() and (abs(knots[:, 1] - 0.5) <= 0.5).all())


def reliability(probability: np.ndarray, right: np.ndarray) -> dict[str, Any] | None:
    """Compares probabilities, [n], with the share of detections that are right, [n] bool.

    Returns:
        "error": the expected calibration error, the mean over detections of the difference between
        probability and share in their bin (Naeini et al., AAAI 2015); "bins" of equal width:
        [{"from", "to", "predictions", "score": their mean, "right": a fraction}], without empty
        ones. None where there is no detection, or a probability is not in 0..1.
    """
    if not probability.size or probability.min() < 0 or probability.max() > 1:
        return None
    index = np.minimum((probability * BINS).astype(int), BINS - 1)
    number = np.bincount(index, minlength=BINS)
    some = np.flatnonzero(number)
    means = np.bincount(index, probability, BINS)[some] / number[some]
    shares = np.bincount(index, right, BINS)[some] / number[some]
    return {
        "error": float(np.abs(means - shares) @ number[some] / probability.size),
        "bins": [
            {
                "from": int(place) / BINS,
                "to": int(place + 1) / BINS,
                "predictions": int(number[place]),
                "score": float(mean),
                "right": float(share),
            }
            for place, mean, share in zip(some, means, shares, strict=True)
        ],
    }
