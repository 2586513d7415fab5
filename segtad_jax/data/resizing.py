"""Brings features to another number of frames, and those of several sources side by side.

An exported model has a copy of this file, so that it imports NumPy alone.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def with_channels(
    parts: Sequence[Float[np.ndarray, "_ _"]],
) -> Float[np.ndarray, "F C"]:
    """Puts several sources (rgb and flow) side by side, all as long as the longest."""
    longest = max(len(part) for part in parts)
    return np.concatenate([resize_linear(part, longest) for part in parts], axis=1)


def resize_linear(features: Float[np.ndarray, "F C"], num_frames: int) -> Float[np.ndarray, "T C"]:
    """Interpolates linearly to `num_frames`; first and last stay (`align_corners=True`).

    So they lie half of their own length from the ends of the video, and not half of an output
    frame: see `corner_shift`.
    """
    if len(features) == num_frames:
        return features
    return _at(features, np.linspace(0, len(features) - 1, num_frames))


def corner_shift(frames: int, num_frames: int) -> float:
    """Returns how many output frames too far out `resize_linear` has a video's first and last."""
    return (num_frames / frames - 1) / 2


def resize_half_pixel(
    features: Float[np.ndarray, "F C"], num_frames: int
) -> Float[np.ndarray, "T C"]:
    """Interpolates linearly to `num_frames`, each at its centre in the video's time.

    Beyond the first and last centre the value stays (PyTorch's default, `align_corners=False`).
    """
    positions = (np.arange(num_frames) + 0.5) * len(features) / num_frames - 0.5
    return _at(features, np.clip(positions, 0, len(features) - 1))


def resize_bsn(features: Float[np.ndarray, "F C"], num_frames: int) -> Float[np.ndarray, "T C"]:
    """Pools as BSN does: the mean of three samples in each of `num_frames` equal bins.

    The samples lie at both ends and in the middle of a bin; a frame's value stands at its centre,
    between centres it is linear. Bins are cut to the first and last centre (BSN leaves a bin that
    lies wholly beyond them at zero; here it has the value of that frame).
    """
    edges = np.clip(np.linspace(0, len(features), num_frames + 1) - 0.5, 0, len(features) - 1)
    middle = (edges[:-1] + edges[1:]) / 2
    samples = np.stack([edges[:-1], middle, edges[1:]])  # [3, T]
    return np.stack([_at(features, row) for row in samples]).mean(axis=0)


RESIZERS = {"half_pixel": resize_half_pixel, "linear": resize_linear, "bsn": resize_bsn}


def _at(features: Float[np.ndarray, "F C"], positions: np.ndarray) -> Float[np.ndarray, "n C"]:
    """Returns features at these positions in frames, linear between neighbours."""
    below = np.minimum(positions.astype(int), max(len(features) - 2, 0))
    above = np.minimum(below + 1, len(features) - 1)
    weight = (positions - below)[:, None].astype(np.float32)
    return features[below] * (1 - weight) + features[above] * weight
