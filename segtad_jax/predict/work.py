"""Detects in all videos that a command names; resumes, and shares them with other processes."""

import argparse
import concurrent.futures
import contextlib
import functools
import gc
import hashlib
import json
import pathlib
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from etils import epath
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from segtad_jax import __version__
from segtad_jax.checkpoint.store import locate, step_identity
from segtad_jax.checkpoint.thresholds import NEUTRAL
from segtad_jax.config.defaults import flatten
from segtad_jax.data.dataset import Recording, find, find_all, open_dataset
from segtad_jax.data.pipeline import map_ahead
from segtad_jax.evaluation.annotations import read_durations
from segtad_jax.evaluation.forms.layers import Writing
from segtad_jax.evaluation.ids import matching, whole_id
from segtad_jax.evaluation.operating_point import Threshold
from segtad_jax.evaluation.report.media import Media
from segtad_jax.evaluation.report.signals import FEW_CHANNELS, Trace, traces_of
from segtad_jax.postprocess import join_pieces
from segtad_jax.predict.detections import Detections, frame_times
from segtad_jax.predict.forms import write_forms
from segtad_jax.predict.frame_file import Add, FrameFile
from segtad_jax.predict.inference import Found, Inference
from segtad_jax.predict.inputs import Input, InputMaker
from segtad_jax.predict.output import Output, Prediction
from segtad_jax.predict.recording_files import RecordingFiles
from segtad_jax.predict.shown import detections_of, tell_results, told
from segtad_jax.predict.trained import Trained, load
from segtad_jax.runtime import files, startup
from segtad_jax.runtime.command import DONE
from segtad_jax.runtime.console import open_console

SOME_FAILED, UNFINISHED = 3, 4  # exit statuses, besides those of runtime.command
CHANNELS = 6  # of a signal, the first, which the page draws
CHUNK, BATCHES = 32, 4  # videos whose results are written together: at least, of given batches
READERS, AHEAD = 16, 64  # threads that look at files, files that they are ahead

# By video: its detections in the official form, or why there are none.
Results = dict[str, list[dict[str, Any]] | str]
Segmented = dict[str, tuple[np.ndarray, np.ndarray]]  # by video: frames' probabilities and times


def run(flags: argparse.Namespace) -> int:
    """Does what the flags of `predict` ask for and returns the exit status."""
    startup.keep_freed_memory()
    startup.keep_compiled_programs()
    console = open_console()
    tell = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)
    given = {"class_scores": flags.class_scores, "batch_size": flags.batch}
    settings = {name: value for name, value in given.items() if value}
    folder, step = locate(flags.checkpoint)
    model = load(f"{folder}/{step}", **settings)
    maker = InputMaker(model.preparation, model.config)
    segments = flags.frames is not None
    network = Inference(model.config, model.classes, model.variables, segments=segments)
    gc.freeze()  # what is loaded stays; looked through again and again, it doubles the host's work
    maker.require_rate(flags.rate)
    threshold = _threshold(flags, model)
    videos: FeatureFiles | PreparedSplit
    if flags.videos:
        kept = flags.save_features or f"{flags.output.removesuffix('.json')}.features"
        videos = VideoFiles(maker, network, flags.videos, kept)
    elif find_all(flags.features[0]):
        videos = PreparedSplit(maker, network, flags.features[0], flags.subset)
    else:
        durations = read_durations(flags.durations) if flags.durations else {}
        maker.require_sources(len(flags.features))
        files = RecordingFiles(model.preparation, flags.features, flags.layout, flags.time)
        videos = FeatureFiles(maker, network, files, flags.rate, durations)
    made_by = _identity(model) | {"checkpoint": step_identity(folder, step)} | videos.settings
    sources = videos.sources()
    output = Output(epath.Path(flags.output), made_by, sources, tell)
    frames = FrameFile(flags.frames, made_by, sources) if segments else None
    with output.held(flags.process_id) as kept:
        share = list(sources)[flags.process_id :: flags.num_processes]
        missing = [video for video in share if video not in kept or kept[video].failed]
        with contextlib.ExitStack() as stack:
            add = None
            if frames is not None and (missing or not frames.done):  # all, whatever is kept
                missing, add = share, stack.enter_context(frames.writing(model.classes))
            if missing and isinstance(videos, VideoFiles):
                videos.extract(missing, flags.weights, flags.backbone, console)
            if missing:
                size = max(CHUNK, BATCHES * (flags.batch or 0))
                _detect(videos, missing, sources, output, console, add, size)
        done = output.done() if missing else kept
        if others := [video for video in sources if video not in done]:
            tell(f"{len(others):,} videos are left to the other processes.")
            return UNFINISHED
        notes = output.finish(done, videos.notes)
    failed = sum(prediction.failed for prediction in done.values())
    tell(f"{len(done) - failed:,} videos: {flags.output}")
    counted = tell_results(done, notes, threshold, tell)
    if segments:
        tell(f"Probabilities of every frame: {flags.frames}")
    if flags.report:
        _write_page(flags, model, videos, done, notes, threshold)
        tell(f"To look at: {flags.report}")
    writing = Writing(flags.label_fps, flags.media, model.confidence)
    for path in write_forms(epath.Path(flags.output), flags.format, counted, writing):
        tell(f"Written too: {path}")
    return SOME_FAILED if failed else DONE


def _write_page(
    flags: argparse.Namespace,
    model: Trained,
    videos: "FeatureFiles | PreparedSplit",
    done: Mapping[str, Prediction],
    notes: Mapping[str, str],
    threshold: Threshold | None,
) -> None:
    from segtad_jax.evaluation.report.recordings import write_recordings  # Jinja; not always

    failures = {video: str(found.result) for video, found in done.items() if found.failed}
    trace: Callable[[str], Trace] | None = videos.trace
    media: Callable[[str], Media] | None = None
    durations: dict[str, float] = {}
    if isinstance(videos, VideoFiles):  # the video itself says more than the norm of its features
        durations = videos.durations(done)
        trace, media = None, videos.media(flags.report, durations)
    write_recordings(
        flags.report,
        detections_of(done),
        classes=model.classes,
        threshold=threshold,
        confidence=model.confidence,
        trace=trace,
        summary=told,
        failures=failures,
        notes={name: note for name, note in notes.items() if name not in failures},
        title=f"Detected by {flags.checkpoint}, step {model.step}",
        durations=durations,
        media=media,
    )


def _threshold(flags: argparse.Namespace, model: Trained) -> Threshold | None:
    """Returns the threshold of what is shown; None where none is given, and the run has none.

    Raises:
        ValueError: the run has none, and they are asked for.
    """
    if flags.threshold is not None or model.thresholds is not None:
        return model.threshold("auto" if flags.threshold is None else flags.threshold)
    if flags.format:
        raise ValueError(
            "--format writes the actions that count, and the run has no thresholds for its scores: "
            "--threshold=X says from which score on, 0 for all"
        )
    return None


def _identity(model: Trained) -> dict[str, Any]:
    """Returns what else than weights decides what a model detects; JSON."""
    config, scores = flatten(model.config), model.config.eval.class_scores
    deciding = {
        name: value
        for name, value in config.items()
        if name.startswith(("model.", "eval.", "data.num_frames"))
        and name not in ("eval.class_scores", *NEUTRAL)
    }
    classes, preparation = list(model.classes), model.preparation.to_json()
    content = json.dumps([deciding, classes, preparation], sort_keys=True)
    return {
        "segtad_jax": __version__,
        "step": model.step,
        "config": _digest(content.encode()),
        "class_scores": _digest(epath.Path(scores).read_bytes()) if scores else None,
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _detect(
    videos: "FeatureFiles | PreparedSplit",
    missing: Sequence[str],
    sources: Mapping[str, str],
    output: Output,
    console: Console,
    add: Add | None,
    size: int,
) -> None:
    """Detects in videos, so many at a time, and writes what is found."""
    output.add({})  # whoever comes with another model sees that there is work
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    progress = Progress(*columns, console=console, transient=True)
    with progress, concurrent.futures.ThreadPoolExecutor(1, "write") as writer:
        task = progress.add_task("videos", total=len(missing))
        written = None
        for first in range(0, len(missing), size):
            chunk = missing[first : first + size]
            results, segmented = videos.detect(chunk)
            notes = videos.notes
            if add is not None:
                for video, curves in segmented.items():
                    add(video, *curves)
            part = {v: Prediction(sources[v], results[v], notes.pop(v, "")) for v in chunk}
            if written is not None:
                written.result()  # one part waits at most
            written = writer.submit(output.add, part)  # while the next is detected
            progress.advance(task, len(chunk))
        if written is not None:
            written.result()


class PreparedSplit:
    """A split of a data set that `prepare` wrote, with or without annotations."""

    def __init__(self, maker: InputMaker, network: Inference, directory: str, subset: str) -> None:
        """Opens DATA, DATA/NAME or DATA/NAME/VERSION.

        Raises:
            ValueError: there are several, or it is not what the model takes.
        """
        self._network, self._dataset = network, open_dataset(find(directory, "--features"))
        maker.require_same(self._dataset)
        self._recordings: dict[str, list[Recording]] = {}  # pieces between gaps are one
        for recording in self._dataset.recordings(subset):
            self._recordings.setdefault(whole_id(recording.video)[0], []).append(recording)
        self.settings: dict[str, Any] = {}
        self.notes: dict[str, str] = {}

    def sources(self) -> dict[str, str]:
        """Returns {video: identity of its features}."""
        shard, folder = functools.cache(_file_identity), self._dataset.directory
        return {
            video: "; ".join(
                f"{shard(folder / r.shard)} at byte {r.offset}"  # of an older version
                if r.checksum is None
                else f"{r.size} bytes, checksum {r.checksum:08x}"
                for r in recordings
            )
            for video, recordings in self._recordings.items()
        }

    def detect(self, ids: Sequence[str]) -> tuple[Results, Segmented]:
        """Detects in these recordings, and segments them if the network does."""
        recordings = [recording for video in ids for recording in self._recordings[video]]
        found = self._network.detect_in(self._dataset, recordings)
        _add_notes(self.notes, found)
        return _results(found), _segmented(found, recordings)

    def trace(self, video: str) -> Trace:
        """Returns what is drawn of a recording: the norm of its features."""
        pieces = []
        for recording in self._recordings[video]:
            start, features = whole_id(recording.video)[1], self._dataset.features(recording)
            norm, names = traces_of([features], (), signal=False)
            pieces.append((start, start + recording.duration, norm))
        return Trace(names, pieces)


class FeatureFiles:
    """Feature files, or raw signals, in any form that `prepare` reads."""

    def __init__(
        self,
        maker: InputMaker,
        network: Inference,
        files: RecordingFiles,
        rate: float | None,
        durations: Mapping[str, float],
    ) -> None:
        """Reads nothing more yet."""
        self._maker, self._network = maker, network
        self._files, self._rate = files, rate
        found = matching(files.keys.values(), durations)
        self._durations = {key: durations[k] for key, k in found.items()}
        self.notes = dict(files.notes)
        self.settings = {"rate": rate or maker.preparation.rate, "forms": files.identity}

    def sources(self) -> dict[str, str]:
        """Returns {video: identity of its features}: sizes and times of files, and the duration."""
        identity = functools.cache(_file_identity)  # a file may hold many videos

        def of_video(video: str) -> str:
            key = self._files.keys[video]
            sources = self._files.sources
            places = [source.places[key] for source in sources if key in source.places]
            return json.dumps(
                [[(identity(path), name) for path, name in places], self._durations.get(key)]
            )

        keys = self._files.keys
        return dict(zip(keys, map_ahead(of_video, keys, READERS, AHEAD), strict=True))

    def detect(self, ids: Sequence[str]) -> tuple[Results, Segmented]:
        """Detects in these videos, and segments them if the network does.

        One that cannot be read or used fails alone.
        """
        failures: Results = {}
        inputs: list[Input] = []
        dates: dict[str, str] = {}
        for video in ids:
            try:
                duration = self._durations.get(self._files.keys[video])
                made, notes, dates[video] = self._maker.read(
                    self._files, video, self._rate, duration
                )
            except KeyError:
                failures[video] = "has no features in one of the sources"
            except ValueError as error:
                failures[video] = str(error)
            else:
                inputs += made
                if notes:
                    of_file = self._files.notes.get(video)  # as that there are two of it
                    self.notes[video] = "; ".join(filter(None, [of_file, *notes]))
        found = self._network.detect(inputs)
        _add_notes(self.notes, found)
        return failures | _results(found, dates), _segmented(found, [i.recording for i in inputs])

    def trace(self, video: str) -> Trace:
        """Returns what is drawn of a video: channels of a signal, or the norm of its features."""
        preparation, recorded = self._maker.preparation, self._files.read(video)
        duration = self._durations.get(self._files.keys[video])
        made, _, _ = self._maker.read(self._files, video, self._rate, duration)
        signal = preparation.signals is not None or sum(preparation.widths) <= FEW_CHANNELS
        pieces, names = [], tuple[str, ...]()
        for piece in recorded.pieces:
            values, names = traces_of(piece.arrays, self._files.forms[0].columns, signal, CHANNELS)
            seconds = made[0].recording.duration
            if not recorded.is_whole:
                assert preparation.rate is not None
                seconds = len(values) / preparation.rate
            pieces.append((piece.start, piece.start + seconds, values))
        return Trace(names, pieces)


class VideoFiles(FeatureFiles):
    """Videos, of which features are made as of those of training."""

    def __init__(self, maker: InputMaker, network: Inference, path: str, kept: str) -> None:
        """Lists the videos; `kept` is the folder of their features."""
        self._videos = maker.open_videos(path, kept)
        files = RecordingFiles(maker.preparation, [self._videos])
        super().__init__(maker, network, files, None, {})

    def extract(
        self, ids: Sequence[str], weights: str | None, plug_in: str | None, console: Console
    ) -> None:
        """Makes the features of these videos that are not kept yet; see `backbone_for`."""
        from segtad_jax.video.recordings import backbone_for

        backbone = backbone_for(self._videos.transform, weights, plug_in)
        self._videos.extract([self._path(video) for video in ids], backbone, console)

    def durations(self, ids: Iterable[str]) -> dict[str, float]:
        """Returns {video: seconds}, of those whose features are still kept."""
        details = {video: self._videos.details(self._path(video)) for video in ids}
        return {video: known["duration"] for video, known in details.items() if known}

    def media(self, page: str, durations: Mapping[str, float]) -> Callable[[str], Media]:
        """Returns what makes of a video what a page, its file, shows of it."""
        from segtad_jax.video.stills import media_of

        number = len(self._files.keys)
        return lambda video: media_of(page, self._path(video), durations.get(video, 0.0), number)

    def _path(self, video: str) -> epath.Path:
        return self._videos.places[self._files.keys[video]][0]


def _results(found: Found, dates: Mapping[str, str] = MappingProxyType({})) -> Results:
    """Returns the results by recording: its pieces are joined, and one that fails fails it.

    Detections in recordings with a date at their start, ISO 8601, have such `times` as well.
    """
    results: Results = {
        video: Detections(rows, dates.get(video, "")).to_dict()["detections"]
        for video, rows in join_pieces(found.detections).items()
    }
    return results | {whole_id(video)[0]: reason for video, reason in found.failures.items()}


def _add_notes(notes: dict[str, str], found: Found) -> None:
    """Adds what the network's results have to tell to the notes on recordings."""
    for ident, note in found.notes.items():
        video, _ = whole_id(ident)
        piece = "" if ident == video else f"{ident}: "
        notes[video] = "; ".join(filter(None, [notes.get(video), piece + note]))


def _segmented(found: Found, recordings: Sequence[Recording]) -> Segmented:
    """Returns the probabilities by recording, its pieces in order of time; not of what failed."""
    parts: dict[str, list[Recording]] = {}
    for recording in recordings if found.probabilities else ():
        parts.setdefault(whole_id(recording.video)[0], []).append(recording)
    return {
        video: (
            np.concatenate([found.probabilities[piece.video] for piece in pieces]),
            np.concatenate([frame_times(piece) for piece in pieces]),
        )
        for video, pieces in parts.items()
        if not any(piece.video in found.failures for piece in pieces)
    }


def _file_identity(path: epath.Path) -> str:
    """Returns size, time and the checksum of both ends: an archive may give all files one time."""
    try:
        if files.on_object_store(path):
            size, time = (found := path.stat()).length, found.mtime
        else:
            local = pathlib.Path(path).stat()
            if not stat.S_ISREG(local.st_mode):  # a pipe would be waited for without an end
                return "no file"
            size, time = local.st_size, local.st_mtime_ns
        ends = files.checksum_of_ends(path)
    except OSError as error:  # fails when its turn comes
        return f"unreadable: {error.strerror}"
    return f"{size} {time} {ends:08x}"
