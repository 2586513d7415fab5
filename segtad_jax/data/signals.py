"""Makes features of raw sensor signals: windowed statistics in their temporal context."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

# Frames whose statistics make up one frame's features; dense around it, to two seconds at 5 Hz.
CONTEXT_OFFSETS = (-10, -5, -3, -1, 0, 1, 3, 5, 10)


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
