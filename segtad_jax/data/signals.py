"""Makes features of raw sensor signals: windowed statistics in their temporal context.

An exported model has a copy of this file, so that it imports NumPy alone.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

FRAME_RATE = 5.0  # of features made of signals, frames per second
# Frames whose statistics make up one frame's features; dense around it, to two seconds at 5 Hz.
CONTEXT_OFFSETS = (-10, -5, -3, -1, 0, 1, 3, 5, 10)
LOOK_AHEAD = max(CONTEXT_OFFSETS)


def window_statistics(
    signal: Float[np.ndarray, "n channels"], samples: int
) -> Float[np.ndarray, "F S"]:
    """Returns mean, standard deviation and mean absolute difference of consecutive windows.

    Args:
        signal: n samples of each channel.
        samples: length of a window, at least 2. Samples that do not fill a last one are left out.

    Returns:
        F = n // samples frames of S = 3 * channels numbers: all means, then all deviations, then
        all mean absolute differences of neighbouring samples within the window.

    Raises:
        ValueError: a window of less than 2 samples, or a signal shorter than one window.
    """
    if samples < 2:
        raise ValueError(f"a window needs at least 2 samples, got {samples}")
    length, channels = signal.shape
    if length < samples:
        raise ValueError(f"a signal of {length} samples is shorter than one window of {samples}")
    frames = length // samples
    windows = signal[: frames * samples].reshape(frames, samples, channels)
    difference = np.abs(np.diff(windows, axis=1)).mean(axis=1)
    return np.concatenate([windows.mean(axis=1), windows.std(axis=1), difference], axis=1)


def with_context(
    frames: Float[np.ndarray, "F S"], offsets: Sequence[int] = CONTEXT_OFFSETS
) -> Float[np.ndarray, "F C"]:
    """Concatenates each frame with the frames at these offsets around it: C = S * offsets.

    Offsets beyond the first or last frame read that frame.
    """
    nearby = np.arange(len(frames))[:, None] + np.asarray(offsets)  # [F, offsets]
    return frames[np.clip(nearby, 0, len(frames) - 1)].reshape(len(frames), -1)


class GrowingStatistics:
    """Makes the frames of a signal that comes in parts, bit for bit those of the whole signal.

    They are `with_context(window_statistics(signal))`. A frame is known LOOK_AHEAD frames late.
    """

    def __init__(self, samples: int, channels: int) -> None:
        """Begins a signal; a frame has so many samples."""
        self._samples = samples
        self._rest = np.zeros((0, channels))  # too short for a frame
        self._near = np.zeros((0, 3 * channels))  # statistics that frames to come may read
        self._first = self._made = 0  # frame of the first of these; frames that were returned

    def add(
        self, signal: Float[np.ndarray, "n channels"], *, last: bool = False
    ) -> Float[np.ndarray, "f C"]:
        """Returns the frames that are known with this part, with the `last` one all the others."""
        rest = np.concatenate([self._rest, signal])  # float64
        whole = len(rest) // self._samples * self._samples
        if whole:
            made = window_statistics(rest[:whole], self._samples)
            self._near = np.concatenate([self._near, made])
        self._rest = rest[whole:]
        known = self._first + len(self._near) - (0 if last else LOOK_AHEAD)
        if known <= self._made:
            return np.zeros((0, self._near.shape[1] * len(CONTEXT_OFFSETS)))
        frames = with_context(self._near)[self._made - self._first : known - self._first]
        self._made = known
        past = max(known + min(CONTEXT_OFFSETS) - self._first, 0)  # no frame to come reads these
        self._near, self._first = self._near[past:], self._first + past
        return frames


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of every channel over the training recordings."""

    mean: Float[np.ndarray, " C"]
    std: Float[np.ndarray, " C"]  # 1 where a channel is constant

    @classmethod
    def fit(cls, recordings: Iterable[Float[np.ndarray, "_ C"]]) -> "Normalisation":
        """Computes both over all frames of the recordings, one recording in memory at a time.

        Each frame weighs the same: the moments of the recordings are merged (Chan, Golub and
        LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).

        Raises:
            ValueError: there is no recording.
        """
        count, mean, squares = 0, np.zeros(()), np.zeros(())
        for recording in filter(len, recordings):
            frames = recording.astype(np.float64)
            center, number = frames.mean(axis=0), len(frames)
            shift, total = center - mean, count + number
            squares = squares + ((frames - center) ** 2).sum(axis=0)
            squares = squares + shift**2 * (count * number / total)
            mean, count = mean + shift * (number / total), total
        if not count:
            raise ValueError("no training recording can be read, so there is none to normalise by")
        std = np.sqrt(squares / count)
        # A constant channel has a deviation of rounding errors, not of exactly zero.
        constant = std <= 1e-12 * np.maximum(np.abs(mean), 1.0)
        return cls(mean, np.where(constant, 1.0, std))

    def __call__(self, features: Float[np.ndarray, "F C"]) -> Float[np.ndarray, "F C"]:
        """Returns the z-score of the features, float32; a constant channel becomes 0."""
        return ((features - self.mean) / self.std).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class SignalTransform:
    """Makes windowed statistics in context of raw signals, normalised as in training."""

    sample_rate: float  # Hz
    channels: int  # of a signal
    normalise: Normalisation

    @classmethod
    def fit(
        cls, sample_rate: float, channels: int, signals: Iterable[Float[np.ndarray, "_ _"]]
    ) -> "SignalTransform":
        """Takes mean and deviation from the training signals that are long enough for a frame.

        Raises:
            ValueError: there is none.
        """
        samples = samples_per_frame(sample_rate)
        frames = (_statistics(signal, samples) for signal in signals if len(signal) >= samples)
        normalise = Normalisation.fit(frames)
        return cls(sample_rate, channels, normalise)

    @property
    def samples(self) -> int:
        """Samples of a frame."""
        return samples_per_frame(self.sample_rate)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.samples

    def __call__(self, signal: Float[np.ndarray, "n channels"]) -> Float[np.ndarray, "F C"]:
        """Returns the features of a recording, float32.

        Raises:
            ValueError: it is shorter than a frame.
        """
        return self.normalise(_statistics(signal, self.samples))

    def to_json(self) -> dict[str, Any]:
        """Returns JSON's types, of which `from_json` makes an equal transform."""
        return {
            "transform": "statistics",
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "mean": self.normalise.mean.tolist(),
            "std": self.normalise.std.tolist(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "SignalTransform":
        """Reverses `to_json`."""
        normalise = Normalisation(np.array(content["mean"]), np.array(content["std"]))
        return cls(content["sample_rate"], content["channels"], normalise)


def samples_per_frame(sample_rate: float) -> int:
    """Returns the window of statistics that comes nearest to FRAME_RATE: 10 at 50 Hz."""
    return max(round(sample_rate / FRAME_RATE), 2)


def _statistics(signal: Float[np.ndarray, "n _"], samples: int) -> Float[np.ndarray, "F C"]:
    """Returns windowed statistics of a signal in their context, not normalised."""
    return with_context(window_statistics(signal.astype(np.float64), samples))
