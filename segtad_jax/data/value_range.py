"""Tells values that are no measurements: fill values for gaps, and what training never had."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from segtad_jax.data.feature_files import FeatureError

# What instruments and file formats write for a gap; NetCDF's 9.97e36 and others are above HUGE.
FILLS = (-999, -9999, 9999, -99999, 99999, -32768, -2147483648)
HALF_FILLS = (*FILLS, -10000, 10000)  # 9999 in float16; in other types, where a sensor may end
HUGE = 1e15
FILL_DISTANCE = 10  # a fill value lies further from the channel's median than this times the others
# Any other value is an outlier at this distance; at the second, if it is there more than once.
OUTLIER_DISTANCE, REPEATED_DISTANCE = 1e5, 1e3
SMALLEST = 999.0  # values below are never suspected: probabilities differ by more than any ratio
# Of the width of training's range, beyond it: a word is said, or the recording is refused.
NOTED, REFUSED = 3.0, 1000.0
LEAST_WIDTH = 0.01  # of the usual channel's, by which a recording is refused


def require_no_fill(
    frames: Float[np.ndarray, "F C"], where: str, fills: Sequence[int] = FILLS
) -> None:
    """Raises FeatureError, kind 'fill_value', for a customary fill value apart from all others."""
    for channel in _suspected(frames):
        values = frames[:, channel].astype(np.float64)
        filled = np.isin(values, fills) | (np.abs(values) >= HUGE)
        rest = values[~filled]
        if not filled.any() or (not rest.size and values.min() < values.max()):
            continue
        center = np.median(rest) if rest.size else 0.0
        spread = np.abs(rest - center).max(initial=0.0)
        frame = int(np.argmax(filled))
        if abs(values[frame] - center) > FILL_DISTANCE * spread:
            others = f"the others are {rest.min():g} to {rest.max():g}" if rest.size else "all are"
            raise FeatureError(
                "fill_value",
                f"{where}: {values[frame]:g} at frame {frame}, channel {channel} ({filled.sum()} "
                f"such; {others}): it stands for a gap, so cut or interpolate these frames",
            )


def outlier(frames: Float[np.ndarray, "F C"]) -> str | None:
    """Returns the first value that is absurdly far from all others of its channel, as text."""
    for channel in _suspected(frames):
        values = frames[:, channel].astype(np.float64)
        distances = np.abs(values - np.median(values))
        order = np.argsort(distances)
        ordered = distances[order]
        half = len(order) // 2
        if not ordered[half]:  # events in silence: nothing says how large one may be
            continue
        for step in half + np.flatnonzero(
            ordered[half + 1 :] > REPEATED_DISTANCE * ordered[half:-1]
        ):
            far = values[order[step + 1 :]]
            repeated = len(far) > 1 and far.min() == far.max()
            if repeated or ordered[step + 1] > OUTLIER_DISTANCE * ordered[step]:
                rest = values[order[: step + 1]]
                frame = int(order[step + 1])
                return (
                    f"{values[frame]:g} at frame {frame}, channel {channel} ({len(far)} such; the "
                    f"others are {rest.min():g} to {rest.max():g})"
                )
    return None


def _suspected(frames: Float[np.ndarray, "F C"]) -> np.ndarray:
    """Returns the channels with a value large enough to look at all of them."""
    if frames.max() < SMALLEST and -frames.min() < SMALLEST:
        return np.zeros(0, int)  # as nearly always, and much faster
    return np.flatnonzero(np.maximum(frames.max(axis=0), -frames.min(axis=0)) >= SMALLEST)


@dataclasses.dataclass(frozen=True, eq=False)
class ValueRange:
    """The least and the greatest value of each channel, of all sources side by side."""

    low: Float[np.ndarray, " C"]
    high: Float[np.ndarray, " C"]

    @classmethod
    def of(cls, arrays: Sequence[Float[np.ndarray, "_ _"]]) -> "ValueRange":
        """Returns that of one recording's sources."""
        return cls(
            np.concatenate([array.min(axis=0) for array in arrays]),
            np.concatenate([array.max(axis=0) for array in arrays]),
        )

    @classmethod
    def union(cls, ranges: Iterable["ValueRange"]) -> "ValueRange":
        """Returns that of several recordings."""
        lows, highs = zip(*((r.low, r.high) for r in ranges), strict=True)
        return cls(np.min(lows, axis=0), np.max(highs, axis=0))

    def compare(self, arrays: Sequence[Float[np.ndarray, "_ _"]]) -> str | None:
        """Returns the value of a new recording that is furthest beyond this range, if it is far.

        Raises:
            FeatureError: kind 'far_value', if it is so far that no detection could be believed.
        """
        width = self.high.astype(np.float64) - self.low
        moving = width[width > 0]
        # A channel that never moved is measured by the others.
        usual = np.median(moving) if moving.size else 1.0
        width = np.where(width > 0, width, usual)
        found = ValueRange.of(arrays)
        excess = np.maximum(self.low - found.low, found.high - self.high)
        # Nor does one that hardly moved, as a rare filter's after a ReLU, refuse anything.
        refused = excess / np.maximum(width, LEAST_WIDTH * usual)
        beyond = refused if refused.max() > REFUSED else excess / width
        worst = int(np.argmax(beyond))
        if beyond[worst] <= NOTED:
            return None
        above = found.high[worst] - self.high[worst] >= self.low[worst] - found.low[worst]
        source, channel = 0, worst
        while channel >= arrays[source].shape[1]:
            channel -= arrays[source].shape[1]
            source += 1
        values = arrays[source][:, channel]
        frame = int(values.argmax() if above else values.argmin())
        place = f"channel {channel}" + (f" of source {source + 1}" if len(arrays) > 1 else "")
        text = (
            f"{values[frame]:g} at frame {frame}, {place}, which was {self.low[worst]:g} to "
            f"{self.high[worst]:g} in training"
        )
        if refused[worst] > REFUSED:
            raise FeatureError("far_value", text)
        return f"{text}: are unit and normalisation training's?"

    def to_json(self) -> dict[str, Any]:
        """Returns JSON's types, of which `from_json` makes an equal range."""
        return {"low": self.low.tolist(), "high": self.high.tolist()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "ValueRange":
        """Reverses `to_json`."""
        return cls(np.array(content["low"]), np.array(content["high"]))
