"""The transform from a recording's arrays to its features, stored so that `predict` repeats it.

preparation.json lies beside the shards and in every run that trains on them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from segtad_jax.data.clocks import Clock
from segtad_jax.data.feature_files import FeatureError
from segtad_jax.data.index import RESTORE
from segtad_jax.data.resizing import RESIZERS, with_channels
from segtad_jax.data.signals import SignalTransform
from segtad_jax.data.value_range import ValueRange
from segtad_jax.evaluation.json_files import load_sealed

FILE, REPORT = "preparation.json", "report.json"
LENGTH_TOLERANCE = 0.1  # of a duration, within which frames / rate should be


@dataclasses.dataclass(frozen=True)
class VideoTransform:
    """Names what makes features of videos: a network, and the frames that it takes."""

    name: str  # of the network, as --backbone names it
    weights: str  # their SHA-256, "" where there are none
    fps: float  # frames a second that it takes
    size: int  # pixels: the square in the middle of frames whose short side is size * 256 / 224
    stride: int  # frames a feature
    channels: int  # of a feature

    @property
    def rate(self) -> float:
        """Features a second: feature k is that of the seconds k / rate to (k + 1) / rate."""
        return self.fps / self.stride

    def __str__(self) -> str:
        """Returns one line that names all that may differ."""
        weights = f", weights {self.weights[:8]}" if self.weights else ""
        frames = f"{self.fps:g} frames/s, {self.size} px, {self.stride} frames a feature"
        return f"{self.name} ({frames}, {self.channels} channels{weights})"


@dataclasses.dataclass(frozen=True, eq=False)
class Preparation:
    """Makes the features of a record from the arrays of the recording's sources."""

    name: str  # of the data set
    widths: tuple[int, ...]  # channels of each source
    rate: float | None  # --rate: of the sources, in Hz; None: by each recording's duration
    num_frames: int | None  # to which every recording is resized; None: not at all
    resize: str  # one of RESIZERS
    window: int  # T that a model should look at
    dtype: str  # of the stored features
    signals: SignalTransform | None = None
    video: VideoTransform | None = None  # that made the sources' features
    # What the training recordings had; None and () also in preparations from before it was stored.
    columns: tuple[tuple[str, ...], ...] = ()  # of each source: names of channels in tables
    chosen: bool = False  # whether --channels named these; then files may have other columns
    clocks: tuple[Clock, ...] = ()  # of each source: how times are read; (): they are not used
    gaps: str = "split"  # or 'fill': what is done at gaps in the times
    rates: tuple[float, float] | None = None  # least and greatest of the sources, in Hz
    range: ValueRange | None = None  # of the sources' values

    def features(self, arrays: Sequence[Float[np.ndarray, "_ _"]]) -> Float[np.ndarray, "F C"]:
        """Returns the features of one recording before it is resized.

        Args:
            arrays: one for each source, frames first.

        Raises:
            FeatureError: kind 'wrong_width' or 'empty'.
        """
        for number, (array, width) in enumerate(zip(arrays, self.widths, strict=True), start=1):
            if array.shape[1] != width:
                turned = ": is it channels by frames?" if len(array) == width else ""
                raise FeatureError(
                    "wrong_width",
                    f"source {number} has {array.shape[1]} channels, expected {width}; its shape "
                    f"is {array.shape}, expected (frames, {width}){turned}",
                )
        together = with_channels(arrays)
        if self.signals is None:
            return together
        if len(together) < (samples := self.signals.samples):
            raise FeatureError(
                "empty", f"a signal of {len(together)} samples is shorter than a frame of {samples}"
            )
        return self.signals(together)

    @property
    def num_channels(self) -> int:
        """C of the features."""
        return sum(self.widths) if self.signals is None else len(self.signals.normalise.mean)

    @property
    def frame_rate(self) -> float | None:
        """Frames per second of `features`, where it is the same for all recordings."""
        return self.rate if self.signals is None else self.signals.frame_rate

    @property
    def trained_rates(self) -> tuple[float, float] | None:
        """The least and greatest rate of the sources in training; None: unknown, or any will do."""
        if self.rate is not None:
            return self.rate, self.rate
        return None if self.num_frames else self.rates

    def resized(self, features: Float[np.ndarray, "F C"]) -> Float[np.ndarray, "T C"]:
        """Returns the features as the record holds them."""
        if self.num_frames is None:
            return features
        return RESIZERS[self.resize](features, self.num_frames)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON's types, of which `from_json` makes an equal preparation."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {
            "widths": list(self.widths),
            "signals": self.signals and self.signals.to_json(),
            "video": self.video and dataclasses.asdict(self.video),
            "range": self.range and self.range.to_json(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Preparation":
        """Reverses `to_json`."""
        signals, values = content["signals"], content.get("range")
        video = content.get("video")
        fields = {
            "widths": tuple(content["widths"]),
            "signals": signals and SignalTransform.from_json(signals),
            "video": video and VideoTransform(**video),
            "columns": tuple(map(tuple, content.get("columns", ()))),
            "clocks": tuple(Clock(*clock) for clock in content.get("clocks", ())),
            "rates": (rates := content.get("rates")) and tuple(rates),
            "range": values and ValueRange.from_json(values),
        }
        return cls(**content | fields)


def read_preparation(folder: epath.PathLike) -> Preparation | None:
    """Reads that of a data set or a run; None if `prepare` did not make the data set.

    Raises:
        ValueError: it is damaged, or was removed; names the file, and what to do.
    """
    path = epath.Path(folder) / FILE
    remedy = (
        "Copy it from the data set or from a run that was trained on it, for it says how features "
        "are made; or prepare the data set again."
    )
    if not path.exists():
        if path.with_name(REPORT).exists():
            raise ValueError(f"{path}: is missing, though {REPORT} is there. {remedy}")
        return None
    content = load_sealed(path, remedy)
    content.pop("checksum", None)
    try:
        return Preparation.from_json(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no preparation of features ({error!r}). {remedy}") from error


def read_ceilings(directory: epath.PathLike) -> dict[int, float]:
    """Reads the report of a data set: {stride: the grid's best possible average mAP}.

    Raises:
        ValueError: it is missing or damaged; names it, and what to do.
    """
    path = epath.Path(directory) / REPORT
    content = load_sealed(path, RESTORE)
    try:
        strides = content["ceiling"]["strides"].items()
        return {int(stride): float(bound["map"]["average"]) for stride, bound in strides}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no report of a data set ({error!r}). {RESTORE}") from error
