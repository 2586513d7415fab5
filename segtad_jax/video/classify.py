"""Finds the actions that a backbone's own classifier knows, without any training.

The classifier gives each moment to one of its classes, as if there were no other. Where the share
of a class stands out from what is around, an action of this class is taken to be.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from segtad_jax.ops.nms import soft_nms
from segtad_jax.postprocess import Detection

WINDOW = 2.5  # seconds, over which shares are averaged: about what the classifier was trained on
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the class's highest share
LEAST = 0.05  # score of a detection
AROUND = 0.25  # of a segment's length, on either side, that it is compared with
SIGMA = 0.3  # of soft-NMS, as in training
MOST = 200  # detections of a recording

CAUTION = (
    "The classes are those that {backbone} was trained on, and it names one of them even where "
    "none happens. A score is how far the class's share in the segment exceeds that around it. It "
    "is no probability: wrong names come with high scores, too."
)

_soft_nms = jax.jit(soft_nms, static_argnums=3)


def shares_of(logits: Float[np.ndarray, "F D"]) -> Float[np.ndarray, "F D"]:
    """Returns the share of each class in each feature; they sum to 1."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def smoothed(shares: Float[np.ndarray, "F D"], rate: float) -> Float[np.ndarray, "F D"]:
    """Returns the means over a window around each feature, of which there are `rate` a second."""
    half = round(WINDOW * rate / 2)
    sums = np.cumsum(np.pad(shares, ((1, 0), (0, 0))), axis=0, dtype=np.float64)
    at = np.arange(len(shares))
    start, end = np.maximum(at - half, 0), np.minimum(at + half + 1, len(shares))
    return (sums[end] - sums[start]) / (end - start)[:, None]


def detect(
    logits: Float[np.ndarray, "F D"], classes: Sequence[str], rate: float, duration: float
) -> list[Detection]:
    """Returns the actions in a recording, best first.

    Args:
        logits: of each feature, of which the first begins at 0.
        classes: names of the D classes.
        rate: features a second.
        duration: seconds, to which segments are clipped.
    """
    shares = shares_of(logits)
    means = smoothed(shares, rate)
    found = [
        (start, end, label, score)
        for label in np.flatnonzero(means.max(axis=0) >= LEAST)
        for start, end, score in segments(means[:, label], shares[:, label])
        if score >= LEAST
    ]
    if not found:
        return []
    rows = np.array(found)
    labels, row_labels = np.unique(rows[:, 2].astype(int), return_inverse=True)
    # Sizes in powers of two, for which few programs are compiled.
    sizes = [1 << (n - 1).bit_length() for n in (len(labels), max(len(rows), 128))]
    scores = np.full(sizes, -np.inf, np.float32)
    scores[row_labels, np.arange(len(rows))] = rows[:, 3]
    padded = np.zeros((sizes[1], 2), np.float32)
    padded[: len(rows)] = rows[:, :2]
    best = _soft_nms(jnp.asarray(padded), jnp.asarray(scores), SIGMA, MOST)
    chosen, places, kept = map(np.asarray, best)
    return [
        Detection(
            float(rows[place, 0] / rate),
            float(min(rows[place, 1] / rate, duration)),
            classes[labels[label]],
            float(score),
        )
        for label, place, score in zip(chosen, places, kept, strict=True)
        if label >= 0 and score >= LEAST
    ]


def segments(
    means: Float[np.ndarray, " F"], share: Float[np.ndarray, " F"]
) -> Iterator[tuple[int, int, float]]:
    """Yields where a class stands out: [start, end) and the score.

    Args:
        means: smoothed share of the class; segments are where they reach one of LEVELS.
        share: of the class in each feature; the score is its mean within, less that around, where
            the recording goes on.
    """
    sums = np.concatenate([[0.0], np.cumsum(share, dtype=np.float64)])
    seen = set()
    for level in LEVELS:
        above = np.concatenate([[False], means >= level * means.max(), [False]])
        edges = np.flatnonzero(above[1:] != above[:-1])
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if (start, end) in seen:
                continue
            seen.add((start, end))
            margin = max(round(AROUND * (end - start)), 1)
            low, high = max(start - margin, 0), min(end + margin, len(share))
            inner, outer = sums[end] - sums[start], sums[start] - sums[low] + sums[high] - sums[end]
            around = max(high - end + start - low, 1)
            yield start, end, float(inner / (end - start) - outer / around)
