"""Thins signals to what a picture of them can show."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MOST_CHANNELS = 3  # the first, of a signal
FEW_CHANNELS = 12  # features of so many are drawn as a signal is, not by their norm


class Trace(NamedTuple):
    """A recording's signal, as far as it is drawn below its detections."""

    names: tuple[str, ...]  # of its k channels
    pieces: list[tuple[float, float, np.ndarray]]  # start and end in seconds, values [n, k]


def traces_of(
    arrays: Sequence[np.ndarray], names: Sequence[str], signal: bool, most: int = MOST_CHANNELS
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns what is drawn of the first source, [n, k], and its k names: channels, or the norm.

    Args:
        arrays: of each source, frames first.
        names: of the first source's channels, () if unknown.
        signal: whether these are channels of a signal.
        most: channels that are drawn, the first.
    """
    array = arrays[0]
    if not signal:
        squares = np.einsum("fc,fc->f", array, array, dtype=np.float64)
        return np.sqrt(squares)[:, None], (f"norm of {array.shape[1]}",)
    number = min(array.shape[1], most)
    names = names[:number] or [f"channel {channel}" for channel in range(number)]
    return array[:, :number].astype(np.float64), tuple(names)


def thin(seconds: np.ndarray, values: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the least and the greatest value in each of so many bins, so that peaks stay.

    Args:
        seconds: [n], rising.
        values: [n, k].
        bins: twice as many points come back, unless there are no more than that.
    """
    if len(seconds) <= 2 * bins:
        return seconds, values
    edges = np.linspace(0, len(seconds), bins, endpoint=False).astype(int)
    middles = (edges + np.append(edges[1:], len(seconds))) // 2
    ends = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    at = seconds[np.stack([edges, middles], axis=1).reshape(-1)]
    return at, np.stack(ends, axis=1).reshape(-1, values.shape[1])
