"""Makes recordings, from files or arrays, into what a trained model takes."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float
from ml_collections import ConfigDict

from segtad_jax.data.dataset import Dataset, Recording
from segtad_jax.data.defects import KINDS
from segtad_jax.data.features import FeatureError, cast
from segtad_jax.data.preparation import LENGTH_TOLERANCE, Preparation, read_preparation
from segtad_jax.evaluation.ids import piece_id
from segtad_jax.models.grid import grid
from segtad_jax.predict.recording_files import RecordingFiles

if TYPE_CHECKING:
    from segtad_jax.video.recordings import Videos

RATE_TOLERANCE = 0.01  # of the rate that the model was trained at


class Input(NamedTuple):
    """A recording as the network takes it."""

    recording: Recording
    features: Float[np.ndarray, "F C"]
    notes: tuple[str, ...]  # what is odd about it


@dataclasses.dataclass(frozen=True, eq=False)
class InputMaker:
    """Makes features as those of training were made, and refuses what the model does not take."""

    preparation: Preparation
    config: ConfigDict  # of the run

    def read(
        self, files: RecordingFiles, video: str, rate: float | None, duration: float | None
    ) -> tuple[list[Input], list[str], str]:
        """Reads a recording.

        Returns:
            It, or its pieces between gaps; what is odd; and the date of its start, ISO 8601, if its
            times are dates, else ''.

        Raises:
            KeyError: one of the sources does not have it.
            FeatureError: it cannot be used; names the file.
        """
        recorded = files.read(video)
        notes = [f"{KINDS[kind].meaning}: {text}" for kind, text in recorded.notes]
        date = ""
        if recorded.timeline is not None:
            rate, date = self.preparation.rate, recorded.timeline.date
        duration = duration or recorded.duration
        if recorded.is_whole:
            made = self.prepare(video, recorded.pieces[0].arrays, rate, duration)
            return [made], [*notes, *made.notes], date
        inputs = []
        assert rate is not None  # else it is whole
        for piece in recorded.pieces:
            start, seconds = round(piece.start, 3), max(map(len, piece.arrays)) / rate
            ident = piece_id(video, start, round(start + seconds, 3))
            try:
                inputs.append(self.prepare(ident, piece.arrays, rate, None))
            except FeatureError as error:
                if error.kind != "empty":
                    raise
                notes.append(f"{error}, from {start:.4g} s on")
        if not inputs:
            raise FeatureError("empty", f"{video}: all its pieces are too short: {notes[-1]}")
        return inputs, [*notes, *(note for made in inputs for note in made.notes)], date

    def prepare(
        self,
        video: str,
        arrays: Sequence[Float[np.ndarray, "_ _"]],
        rate: float | None,
        duration: float | None,
    ) -> Input:
        """Makes a recording and its features as those of training were made; see `detect`."""
        preparation = self.preparation
        self.require_sources(len(arrays))
        features = preparation.features(arrays)
        far = preparation.range and preparation.range.compare(arrays)
        resized = preparation.resized(features)
        stored = np.dtype(preparation.dtype)
        cast(resized, stored, "features", "training's features were stored as such")
        covered = self.seconds(max(map(len, arrays)), rate, duration)
        duration = covered if duration is None else duration
        if preparation.signals is not None:  # which may end within a frame
            hertz = rate or preparation.signals.sample_rate
            covered = len(features) / (hertz / preparation.signals.samples)
        notes = [far] if far else []
        if len(features) > 1 and (features == features[0]).all():
            notes.append(f"all {len(features)} frames are the same")
        shortest = np.diff(grid(self.config).segments).min()
        if len(resized) < shortest:
            frames = f"{len(resized)} frame{'s' if len(resized) > 1 else ''}"
            notes.append(f"{frames}, and the shortest proposal has {shortest}: finds nothing")
        return as_input(video, resized, len(resized) / covered, duration, notes)

    def seconds(self, frames: int, rate: float | None, duration: float | None) -> float:
        """Returns the seconds that so many frames of the sources cover."""
        self.require_rate(rate)
        rate = rate or self.preparation.rate
        trained = self.preparation.trained_rates
        if rate is None and duration is None:
            if trained is None or trained[1] > (1 + RATE_TOLERANCE) * trained[0]:
                raise ValueError(
                    "neither the rate nor the duration is known: give rate= or duration=, or to "
                    "the command --rate or --durations"
                )
            rate = sum(trained) / 2
        if rate is None:
            assert duration is not None
            self.require_rate(frames / duration, max(LENGTH_TOLERANCE, 1 / frames))
            return duration
        covered = frames / rate
        tolerance = max(LENGTH_TOLERANCE * (duration or 0), 1 / rate)  # the last frame may be short
        if duration is not None and abs(covered - duration) > tolerance:
            raise FeatureError(
                "length_differs",
                f"{frames} frames / {rate:g} Hz = {covered:.2f} s, but the duration is "
                f"{duration:g} s: one of the three is wrong",
            )
        return covered

    def open_videos(self, path: epath.PathLike, kept: epath.PathLike) -> "Videos":
        """Returns `recordings.open_videos`, whose features are made as in training.

        Raises:
            ValueError: the model was not trained on videos.
        """
        if self.preparation.video is None:
            raise ValueError(
                "the model was not trained on what `prepare --videos` made, so nothing says how to "
                "make such features of videos: make them as for training, and give the features"
            )
        from segtad_jax.video.recordings import open_videos  # PyAV; not without videos

        return open_videos(path, self.preparation.video, kept)

    def require_sources(self, number: int) -> None:
        """Raises ValueError unless the model was trained on so many sources of features."""
        if number != (trained := len(self.preparation.widths)):
            raise ValueError(
                f"{number} sources of features, the model takes {trained}: give an array (or a "
                "part of --features=A,B) for each"
            )

    def require_rate(
        self, rate: float | None, tolerance: float = RATE_TOLERANCE, what: str = "the rate"
    ) -> None:
        """Raises ValueError if the model was trained on features of another rate."""
        trained = self.preparation.trained_rates
        if rate is None or trained is None:
            return
        low, high = trained
        if not (1 - tolerance) * low <= rate <= (1 + tolerance) * high:
            rates = f"{low:g}" if f"{low:g}" == f"{high:g}" else f"{low:g} to {high:g}"
            raise ValueError(
                f"{what} is {rate:g} Hz, but the model was trained at {rates} Hz: resample "
                "the features, or give the rate (or duration) that they really have"
            )

    def require_same(self, dataset: Dataset) -> None:
        """Raises ValueError if a prepared data set has other features than the model's."""
        if dataset.num_channels != self.preparation.num_channels:
            raise ValueError(
                f"{dataset.directory} has {dataset.num_channels} channels, the model takes "
                f"{self.preparation.num_channels}"
            )
        preparation = read_preparation(dataset.directory)
        if preparation is None or not self.preparation.name:  # of an embedded data set, or older
            return
        tolerance = LENGTH_TOLERANCE if preparation.rate is None else RATE_TOLERANCE
        for rate in preparation.trained_rates or ():
            self.require_rate(rate, tolerance, f"the rate of {dataset.directory}")
        there, here = preparation.to_json(), self.preparation.to_json()
        known = all((preparation.columns, self.preparation.columns))
        columns = ("columns",) if known else ()
        video = ("video",) if preparation.video and self.preparation.video else ()
        resize = ("resize",) if preparation.num_frames else ()
        for field in ("signals", *video, "widths", *columns, "num_frames", *resize):
            if there[field] != here[field]:
                values = f", {there[field]} there, {here[field]} here"
                raise ValueError(
                    f"{dataset.directory} was not prepared as the model's features were: {field} "
                    f"differs{'' if field == 'signals' else values}. Prepare it together with the "
                    "training data, or give predict the feature files themselves."
                )


def as_input(
    video: str,
    features: Float[np.ndarray, "F C"],
    rate: float,
    duration: float,
    notes: Sequence[str] = (),
) -> Input:
    """Returns features, at a rate in Hz, as a recording of so many seconds."""
    recording = Recording(
        video=video,
        num_frames=len(features),
        rate=rate,
        duration=duration,
        segments=np.zeros((0, 2)),
        labels=np.zeros(0, np.int32),
        shard="",
        offset=0,
        size=0,
    )
    return Input(recording, features, tuple(notes))
