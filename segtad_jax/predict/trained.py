"""A trained model, ready for recordings that it has not seen: `segtad_jax.load(RUN)`."""

import dataclasses
import functools
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike
from rich.console import Console

from segtad_jax.checkpoint import run_folder, thresholds
from segtad_jax.checkpoint.store import locate, restore_variables
from segtad_jax.config.check import check
from segtad_jax.data.columns import named
from segtad_jax.data.dataframes import DataFrame, MemorySource
from segtad_jax.data.features import FeatureError, Source, as_frames
from segtad_jax.data.pipeline import inference_step
from segtad_jax.data.preparation import Preparation, read_preparation
from segtad_jax.evaluation.confidence import Knots
from segtad_jax.evaluation.operating_point import Threshold, above
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.postprocess import Detection, join_pieces
from segtad_jax.predict.detections import (
    BACKGROUND,
    Detections,
    FrameProbabilities,
    frame_times,
)
from segtad_jax.predict.inference import Found, Inference
from segtad_jax.predict.inputs import Input, InputMaker, as_input
from segtad_jax.predict.recording_files import RecordingFiles
from segtad_jax.predict.stream import DetectionStream, WindowProgram

SHOWN = 6  # names in `repr`

One = ArrayLike | os.PathLike[str] | DataFrame | Source
Features = One | Sequence[One]  # of one source, or of each


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
    confidence: Knots | None = None  # by which scores become confidences

    def __repr__(self) -> str:
        """Returns one line for people: what the model finds, in what, and from which scores on."""
        known = self.preparation
        names = [name for columns in known.columns for name in columns if named([name])]
        rates = known.trained_rates
        scores = sorted((self.thresholds or {}).values())
        parts = [
            f"step {self.step}",
            _listed("class", self.classes),
            _listed("channel", names, sum(known.widths)),
            "" if rates is None else f"at {_between(rates)} Hz",
            f"thresholds {_between((scores[0], scores[-1]))}" if scores else "no thresholds",
        ]
        return f"<{__package__.partition('.')[0]} model: {', '.join(filter(None, parts))}>"

    def detect(
        self,
        features: Features,
        *,
        rate: SupportsFloat | None = None,
        duration: SupportsFloat | None = None,
        threshold: Threshold | str = 0.0,
    ) -> Detections:
        """Detects the actions in one recording; returns them, best first.

        Args:
            features: a file that prepare reads, or a DataFrame, with its times; or frames by
                channels, as prepare read them: raw samples where the model was trained on signals.
                One of them for each source where there were several.
            rate: of these, in Hz; may be left out where the model knows it, a duration is given, or
                there are times.
            duration: seconds.
            threshold: the least score, of all classes or {label: score}, which leaves out all
                others; "auto" for those that the run has chosen; by default everything that was
                found is returned.

        Raises:
            ValueError: another width, rate or range of values than in training, or something that
                is no number, or the run has no thresholds; says what was expected.
            FileNotFoundError: there is no such file.
        """
        least = self.threshold(threshold)
        inputs, date = self._inputs(features, rate, duration)
        detections, _ = _of_one(self._detecting.detect(inputs))
        return Detections(above({"": detections}, least)[""], date, self.confidence)

    def frames(
        self,
        features: Features,
        *,
        rate: SupportsFloat | None = None,
        duration: SupportsFloat | None = None,
        threshold: Threshold | str = 0.0,
    ) -> FrameProbabilities:
        """Segments one recording: returns probabilities of every frame's classes, and detections.

        They are the mean over the windows that see the frame. Takes and raises as `detect`.
        """
        least = self.threshold(threshold)
        inputs, date = self._inputs(features, rate, duration)
        detections, probabilities = _of_one(self._segmenting.detect(inputs))
        return FrameProbabilities(
            np.concatenate([probabilities[made.recording.video] for made in inputs]),
            np.concatenate([frame_times(made.recording) for made in inputs]),
            (BACKGROUND, *self.classes),
            Detections(above({"": detections}, least)[""], date, self.confidence),
        )

    def detect_video(
        self,
        path: str | os.PathLike[str],
        *,
        backbone: str | None = None,
        weights: str | None = None,
        threshold: Threshold | str = 0.0,
    ) -> Detections:
        """Detects the actions in a video, of which it makes features as of those of training.

        Args:
            path: a file.
            backbone: "module:function" that the model was trained with, where it is a plug-in: a
                run alone imports no code.
            weights: of the backbone, where not those that are installed.
            threshold: as of `detect`.

        Raises:
            ValueError: it cannot be decoded, or the model was not trained on videos.
            FileNotFoundError: there is no such file.
            ModuleNotFoundError: the extra `video` is not installed.
        """
        with tempfile.TemporaryDirectory() as folder:
            videos = InputMaker(self.preparation, self.config).open_videos(path, folder)
            from segtad_jax.video.recordings import backbone_for

            network = backbone_for(videos.transform, weights, backbone)
            videos.extract(next(iter(videos.places.values()))[:1], network, Console(quiet=True))
            return self.detect(videos, threshold=threshold)

    def warm_up(self, windows: int = 8) -> None:
        """Compiles what `detect` needs of recordings of up to so many windows; no call waits then.

        Args:
            windows: of `config.data.num_frames` frames, which overlap. A longer recording compiles
                soft-NMS once more where more is found than such a one can have.
        """
        length = self.config.data.num_frames
        step = inference_step(length, self.config.eval.window_overlap)
        several = windows > 1 and not self.preparation.num_frames
        for frames in (length, length + step)[: 1 + several]:
            zeros = np.zeros((frames, self.num_channels), np.float32)
            self._detecting.detect([as_input("warm-up", zeros, 1.0, float(len(zeros)))])
        if several:
            self._detecting.detector.compile_selections(windows)

    def stream(
        self,
        *,
        rate: SupportsFloat | None = None,
        threshold: Threshold | str = "auto",
        delay: SupportsFloat | None = None,
        every: SupportsFloat = 1.0,
    ) -> DetectionStream:
        """Begins to detect in a recording that goes on; see `DetectionStream` for how.

        Args:
            rate: of the samples, in Hz; may be left out where the model knows it.
            threshold: as of `detect`; by default the run's own.
            delay: seconds from an action's end to its detection, at most; by default the least and
                a 32nd of the model's window.
            every: seconds from one look of the network to the next.

        Raises:
            ValueError: as `detect`; or the model needs whole recordings, or delay or every cannot
                be.
        """
        hertz = _positive("rate", rate)
        maker = InputMaker(self.preparation, self.config)
        maker.require_rate(hertz)
        return DetectionStream(
            self._windows,
            self.preparation,
            hertz or self.preparation.rate or 1 / maker.seconds(1, None, None),
            self.threshold(threshold),
            _positive("delay", delay),
            _positive("every", every) or 1.0,
        )

    def threshold(self, given: Threshold | str) -> Threshold:
        """Returns a threshold as it was given, or for "auto" those that the run has chosen.

        Raises:
            ValueError: the run has chosen none, or for other settings; or it is of unknown classes,
                or no number from 0 on.
        """
        if given != "auto":
            if isinstance(given, str):
                raise ValueError(f"threshold={given!r} is neither 'auto' nor a number")
            if unknown := sorted(
                set(given if isinstance(given, Mapping) else ()) - {*self.classes}
            ):
                known = ", ".join(self.classes)
                raise ValueError(f"threshold has {unknown[0]!r}, but the classes are: {known}")
            numbers = given.values() if isinstance(given, Mapping) else [given]
            if not all(float(number) >= 0 for number in numbers):
                raise ValueError(f"threshold={given!r}: scores are numbers from 0 on, as 0.3")
            return given
        if self.thresholds is None:
            raise ValueError(
                f"step {self.step} of the run has no thresholds: it is of an older version, was "
                "not evaluated in training, or config.eval (or --class_scores) differs from the "
                "run's. Give a number instead of auto; or run `segtad evaluate --config=... "
                "--workdir=RUN` as it was trained, which chooses those of the last step."
            )
        return self.thresholds

    def _inputs(
        self, features: Features, rate: SupportsFloat | None, duration: SupportsFloat | None
    ) -> tuple[list[Input], str]:
        """Returns a recording, or its pieces between gaps, and its date; warns of what is odd."""
        hertz, seconds = _positive("rate", rate), _positive("duration", duration)
        maker, date = InputMaker(self.preparation, self.config), ""
        if sources := self._sources(features):
            maker.require_sources(len(sources))
            files = RecordingFiles(self.preparation, sources)
            if len(files.keys) != 1:
                names = ", ".join(map(str, sources))
                raise ValueError(f"{names}: has {len(files.keys)} recordings, expected one")
            (video,) = files.keys
            inputs, notes, date = maker.read(files, video, hertz, seconds)
        else:
            arrays = [as_frames(array, "tc", "features") for array in _as_arrays(features)]
            made = maker.prepare("recording", arrays, hertz, seconds)
            inputs, notes = [made], [*made.notes]
        for note in notes:
            warnings.warn(note, stacklevel=3)
        return inputs, date

    def _sources(self, features: Any) -> list[str | Source]:
        """Returns paths, or DataFrames as sources; nothing of arrays alone."""
        if isinstance(features, Source):
            return [features]
        listed = features if isinstance(features, list | tuple) else [features]
        paths = [os.fspath(item) for item in listed if isinstance(item, str | os.PathLike)]
        if paths and len(paths) == len(listed):
            return [*paths]
        if any(isinstance(item, DataFrame) for item in listed):
            return [MemorySource.of(item, self.preparation.rate) for item in listed]
        return []

    @functools.cached_property
    def _detecting(self) -> Inference:
        return Inference(self.config, self.classes, self.variables)

    @functools.cached_property
    def _segmenting(self) -> Inference:
        variables = self._detecting.variables
        return Inference(self.config, self.classes, variables, segments=True)

    @functools.cached_property
    def _windows(self) -> WindowProgram:
        return WindowProgram(self.config, self.classes, self.variables)


def _of_one(found: Found) -> tuple[list[Detection], Mapping[str, Any]]:
    """Returns the detections in one recording, and the probabilities of its pieces; warns of notes.

    Raises:
        FeatureError: the network makes NaN or infinity of it.
    """
    for failure in found.failures.values():
        raise FeatureError("not_finite", failure)
    for note in found.notes.values():
        warnings.warn(note, stacklevel=3)
    (detections,) = join_pieces(found.detections).values()
    return detections, found.probabilities


def _listed(what: str, names: Sequence[str], number: int | None = None) -> str:
    number = len(names) if number is None else number
    shown = ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
    plural = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number} {what}{plural}" + (f" ({shown})" if shown else "")


def _between(numbers: tuple[float, float]) -> str:
    low, high = (f"{number:.3g}" for number in numbers)
    return low if low == high else f"{low} to {high}"


def _positive(name: str, value: SupportsFloat | None) -> float | None:
    if value is not None and not 0 < float(value) < float("inf"):
        raise ValueError(f"{name}={value} must be a number above 0")
    return None if value is None else float(value)


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
        ValueError: the folder is no run of this version, or a setting cannot be.
    """
    run, step = locate(checkpoint)
    config, classes, channels, _ = run_folder.read(run)
    if unknown := sorted(settings.keys() - config.eval.keys()):
        known = ", ".join(sorted(config.eval))
        raise ValueError(f"{unknown[0]}={settings[unknown[0]]!r}: config.eval has {known}")
    try:
        config.eval.update(settings)
    except TypeError as error:
        raise ValueError(f"config.eval: {error}") from error
    if settings:
        check(config)
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
    least, knots = (chosen.thresholds, chosen.confidence) if chosen else (None, None)
    return Trained(config, tuple(classes), channels, variables, step, preparation, least, knots)
