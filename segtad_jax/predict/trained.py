"""A trained model, ready for recordings that it has not seen: `segtad_jax.load(RUN)`."""

import dataclasses
import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, SupportsFloat

import jax
import numpy as np
from etils import epath
from jaxtyping import Float
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from segtad_jax.checkpoint import run_folder, thresholds
from segtad_jax.checkpoint.store import locate, restore_variables
from segtad_jax.data.dataset import Dataset, Recording
from segtad_jax.data.defects import KINDS
from segtad_jax.data.features import FeatureError, as_frames, cast
from segtad_jax.data.preparation import LENGTH_TOLERANCE, Preparation, read_preparation
from segtad_jax.detector import Detector, NotFiniteError
from segtad_jax.evaluation.ids import piece_id
from segtad_jax.evaluation.operating_point import Threshold, above
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.postprocess import Detection, join_pieces
from segtad_jax.predict.recording_files import RecordingFiles
from segtad_jax.runtime import parallel

RATE_TOLERANCE = 0.01  # of the rate that the model was trained at


class Input(NamedTuple):
    """A recording as the network takes it."""

    recording: Recording
    features: Float[np.ndarray, "F C"]
    notes: tuple[str, ...]  # what is odd about it


@dataclasses.dataclass(repr=False, eq=False)  # arrays, which neither print nor compare well
class Trained:
    """A model of a checkpoint, as `load` returns it."""

    config: ConfigDict  # of the run
    classes: tuple[str, ...]  # names of the labels 1..D
    num_channels: int  # C of the features that the model takes
    variables: Mapping[str, Any]  # {"params", "batch_stats"}
    step: int  # of the checkpoint
    preparation: Preparation  # how its features were made
    thresholds: Mapping[str, float] | None = None  # from which score each class counts

    def detect(
        self,
        features: "ArrayLike | os.PathLike[str] | Sequence[ArrayLike | os.PathLike[str]]",
        *,
        rate: SupportsFloat | None = None,
        duration: SupportsFloat | None = None,
        threshold: Threshold | str = 0.0,
    ) -> list[Detection]:
        """Detects the actions in one recording; returns them, best first.

        Args:
            features: a file that prepare reads, with its times; or frames by channels, as prepare
                read them: raw samples where the model was trained on signals. One file or array for
                each source where there were several.
            rate: of these, in Hz; may be left out where the model knows it, a duration is given, or
                the file has times.
            duration: seconds.
            threshold: the least score, of all classes or {label: score}; "auto" for those that the
                run has chosen; by default everything that was found is returned.

        Raises:
            ValueError: another width, rate or range of values than in training, or something that
                is no number, or the run has no thresholds; says what was expected.
            FileNotFoundError: there is no such file.
        """
        least = self.threshold(threshold)
        if paths := _as_paths(features):
            return above({"": self._detect_files(paths, rate, duration)}, least)[""]
        arrays = [as_frames(array, "tc", "features") for array in _as_arrays(features)]
        hertz, seconds = _positive("rate", rate), _positive("duration", duration)
        prepared = self.prepare("recording", arrays, hertz, seconds)
        for note in prepared.notes:
            warnings.warn(note, stacklevel=2)
        detections, failures = self.detect_all([prepared])
        if failures:
            raise FeatureError("not_finite", failures["recording"])
        return above(detections, least)["recording"]

    def threshold(self, given: Threshold | str) -> Threshold:
        """Returns a threshold as it was given, or for "auto" those that the run has chosen.

        Raises:
            ValueError: the run has chosen none, or for other settings; or it is of unknown classes.
        """
        if given != "auto":
            if isinstance(given, str):
                raise ValueError(f"threshold={given!r} is neither 'auto' nor a number")
            if unknown := sorted(
                set(given if isinstance(given, Mapping) else ()) - {*self.classes}
            ):
                known = ", ".join(self.classes)
                raise ValueError(f"threshold has {unknown[0]!r}, but the classes are: {known}")
            return given
        if self.thresholds is None:
            raise ValueError(
                f"step {self.step} of the run has no thresholds: it is of an older version, was "
                "not evaluated in training, or config.eval (or --class_scores) differs from the "
                "run's. Give a number instead of auto; or run `segtad evaluate --config=... "
                "--workdir=RUN` as it was trained, which chooses those of the last step."
            )
        return self.thresholds

    def _detect_files(
        self, paths: Sequence[str], rate: SupportsFloat | None, duration: SupportsFloat | None
    ) -> list[Detection]:
        self.require_sources(len(paths))
        files = RecordingFiles(self.preparation, paths)
        if len(files.keys) != 1:
            raise ValueError(f"{', '.join(paths)}: has {len(files.keys)} recordings, expected one")
        (video,) = files.keys
        inputs, notes, _ = self.inputs(
            files, video, _positive("rate", rate), _positive("duration", duration)
        )
        for note in notes:
            warnings.warn(note, stacklevel=3)
        detections, failures = self.detect_all(inputs)
        for failure in failures.values():
            raise FeatureError("not_finite", failure)
        return join_pieces(detections)[video]

    def inputs(
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
        covered = self._seconds(max(map(len, arrays)), rate, duration)
        duration = covered if duration is None else duration
        if preparation.frame_rate is not None:  # signals may end within a frame
            covered = len(features) / preparation.frame_rate
        recording = Recording(
            video=video,
            num_frames=len(resized),
            rate=len(resized) / covered,
            duration=duration,
            segments=np.zeros((0, 2)),
            labels=np.zeros(0, np.int32),
            shard="",
            offset=0,
            size=0,
        )
        notes = [far] if far else []
        if len(features) > 1 and (features == features[0]).all():
            notes.append(f"all {len(features)} frames are the same")
        shortest = np.diff(grid(self.config).segments).min()
        if len(resized) < shortest:
            frames = f"{len(resized)} frame{'s' if len(resized) > 1 else ''}"
            notes.append(f"{frames}, and the shortest proposal has {shortest}: finds nothing")
        return Input(recording, resized, tuple(notes))

    def _seconds(self, frames: int, rate: float | None, duration: float | None) -> float:
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
        if dataset.num_channels != self.num_channels:
            raise ValueError(
                f"{dataset.directory} has {dataset.num_channels} channels, the model takes "
                f"{self.num_channels}"
            )
        if (preparation := read_preparation(dataset.directory)) is None:
            return
        tolerance = LENGTH_TOLERANCE if preparation.rate is None else RATE_TOLERANCE
        for rate in preparation.trained_rates or ():
            self.require_rate(rate, tolerance, f"the rate of {dataset.directory}")
        there, here = preparation.to_json(), self.preparation.to_json()
        known = all((preparation.columns, self.preparation.columns))
        columns = ("columns",) if known else ()
        resize = ("resize",) if preparation.num_frames else ()
        for field in ("signals", "widths", *columns, "num_frames", *resize):
            if there[field] != here[field]:
                values = f", {there[field]} there, {here[field]} here"
                raise ValueError(
                    f"{dataset.directory} was not prepared as the model's features were: {field} "
                    f"differs{'' if field == 'signals' else values}. Prepare it together with the "
                    "training data, or give predict the feature files themselves."
                )

    def detect_all(
        self, inputs: Sequence[Input]
    ) -> tuple[dict[str, list[Detection]], dict[str, str]]:
        """Detects in several recordings that `prepare` made; returns as `detect_in`."""
        arrays = {recording.video: features for recording, features, _ in inputs}
        dataset = Dataset(
            directory=epath.Path("."),
            name="memory",
            classes=self.classes,
            num_channels=self.num_channels,
            dtype=np.dtype(np.float32),
            splits={},
            read=lambda recording: arrays[recording.video],
        )
        return self.detect_in(dataset, [recording for recording, _, _ in inputs])

    def detect_in(
        self, dataset: Dataset, recordings: Sequence[Recording]
    ) -> tuple[dict[str, list[Detection]], dict[str, str]]:
        """Detects in recordings of an opened data set.

        Returns:
            The actions by video, and why there are none of the other videos: their features
            make the network overflow.
        """
        detector, variables = self._on_devices
        try:
            return detector.detect(variables, dataset, recordings)[0], {}
        except NotFiniteError as error:
            failures = {}
            for recording in recordings:
                if recording.video in error.videos:
                    features = dataset.features(recording)
                    at = np.unravel_index(np.abs(features).argmax(), features.shape)
                    failures[recording.video] = (
                        "the network makes NaN or infinity of it; the largest of its features is "
                        f"{features[at]:g} at frame {at[0]}, channel {at[1]}"
                    )
            others = [r for r in recordings if r.video not in failures]
            return self.detect_in(dataset, others)[0], failures

    @functools.cached_property
    def _on_devices(self) -> tuple[Detector, Mapping[str, Any]]:
        """Returns the detector and the variables on the devices, made once for all calls."""
        return Detector(self.config, self.classes), parallel.replicate(self.variables)


def _positive(name: str, value: SupportsFloat | None) -> float | None:
    if value is not None and not 0 < float(value) < float("inf"):
        raise ValueError(f"{name}={value} must be a number above 0")
    return None if value is None else float(value)


def _as_paths(features: Any) -> list[str]:
    """Returns the paths, if there are any instead of arrays."""
    listed = features if isinstance(features, list | tuple) else [features]
    paths = [os.fspath(item) for item in listed if isinstance(item, str | os.PathLike)]
    return paths if len(paths) == len(listed) else []


def _as_arrays(features: Any) -> list[np.ndarray]:
    """Returns an array for each source; lists of numbers and whatever NumPy takes become one."""
    listed = features if isinstance(features, list | tuple) else ()
    several = listed and all(getattr(item, "ndim", 0) > 1 for item in listed)
    sources = listed if several else [features]
    try:
        return [np.asarray(source) for source in sources]
    except ValueError as error:
        raise FeatureError(
            "bad_shape", f"features: expected frames by channels: {error}"
        ) from error


def load(checkpoint: str, **settings: Any) -> Trained:
    """Returns the model of a run.

    Args:
        checkpoint: RUN or RUN/STEP.
        **settings: of `config.eval` that differ from the run's.

    Raises:
        FileNotFoundError: no such checkpoint; says which there are.
        ValueError: the folder is no run of this version.
    """
    run, step = locate(checkpoint)
    config, classes, channels, _ = run_folder.read(run)
    config.eval.update(settings)
    devices = jax.local_device_count()
    config.eval.batch_size = -(-config.eval.batch_size // devices) * devices
    model = SegTAD(config, len(classes))
    like = jax.eval_shape(lambda: create_variables(config, model, channels))
    variables = restore_variables(run, step, like)
    preparation = read_preparation(run) or Preparation(  # features stay as they are
        name="",
        widths=(channels,),
        rate=None,
        num_frames=None,
        resize="linear",
        window=config.data.num_frames,
        dtype="float32",
    )
    chosen = thresholds.read(run, step, config)
    least = chosen.thresholds if chosen else None
    return Trained(config, tuple(classes), channels, variables, step, preparation, least)
