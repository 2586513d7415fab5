"""Detects in all videos of a command, resumed and shared among processes."""

import argparse
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from segtad_jax.data.dataset import find, find_all, open_dataset
from segtad_jax.data.features import (
    LAYOUT_SAMPLE,
    FeatureError,
    as_frames,
    infer_layout,
    open_source,
)
from segtad_jax.evaluation.annotations import match_id, read_durations
from segtad_jax.postprocess import Detection
from segtad_jax.predict.trained import Trained, load
from segtad_jax.runtime import files, startup

DONE, FAILED, UNFINISHED = 0, 3, 4  # exit statuses
CHUNK = 16  # videos whose results are written together
SHOWN = 10  # failures

Result = list[dict[str, Any]] | str  # the official form of a video's detections, or why it failed
Results = dict[str, Result]


def run(flags: argparse.Namespace) -> int:
    """Does what the flags of `predict` ask for and returns the exit status."""
    startup.keep_freed_memory()
    startup.keep_compiled_programs()
    settings = {"class_scores": flags.class_scores} if flags.class_scores else {}
    model = load(flags.checkpoint, **settings)
    model.require_rate(flags.rate)
    work: FeatureFiles | PreparedSplit
    if find_all(flags.features[0]):
        work = PreparedSplit(model, flags.features[0], flags.subset)
    else:
        durations = read_durations(flags.durations) if flags.durations else {}
        work = FeatureFiles(model, flags.features, flags.layout, flags.rate, durations)
    names = ("checkpoint", "features", "subset", "rate", "durations", "layout", "class_scores")
    command = {name: getattr(flags, name) for name in names} | {"step": model.step}
    parts, console = Parts(epath.Path(flags.output), command), Console()
    if (results := parts.finished()) is None:
        share = work.videos[flags.process_id :: flags.num_processes]
        _work_through(work, share, parts, console)
        results = parts.finished() or parts.read()
        if others := [video for video in work.videos if video not in results]:
            console.print(f"{len(others):,} videos are left to the other processes.")
            return UNFINISHED
        parts.finish(results)
    failures = {video: why for video, why in results.items() if isinstance(why, str)}
    console.print(f"{len(results) - len(failures):,} videos: {flags.output}", highlight=False)
    for video, why in list(failures.items())[:SHOWN]:
        console.print(f"failed: {video}: {why}", markup=False, highlight=False, soft_wrap=True)
    if len(failures) > SHOWN:
        console.print(f"... {len(failures) - SHOWN:,} more failed; all are in external_data.")
    return FAILED if failures else DONE


def _work_through(
    work: "FeatureFiles | PreparedSplit", share: Sequence[str], parts: "Parts", console: Console
) -> None:
    done = parts.read()
    left = [video for video in share if video not in done]
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("videos", total=len(share), completed=len(share) - len(left))
        for first in range(0, len(left), CHUNK):
            chunk = left[first : first + CHUNK]
            parts.write(work.detect(chunk))
            progress.advance(task, len(chunk))


class PreparedSplit:
    """A split of a data set that `prepare` wrote, with or without annotations."""

    def __init__(self, model: Trained, directory: str, subset: str) -> None:
        """Of the one in DATA, DATA/NAME or DATA/NAME/VERSION.

        Raises ValueError if there are several, or if it is not what the model takes.
        """
        self._model, self._dataset = model, open_dataset(find(directory, "--features"))
        model.require_same(self._dataset)
        recordings = self._dataset.recordings(subset)
        self._recordings = {recording.video: recording for recording in recordings}
        self.videos = list(self._recordings)

    def detect(self, videos: Sequence[str]) -> Results:
        """Of these recordings."""
        recordings = [self._recordings[video] for video in videos]
        return _official(self._model.detect_in(self._dataset, recordings))


class FeatureFiles:
    """Feature files, or raw signals, in any form that `prepare` reads."""

    def __init__(
        self,
        model: Trained,
        paths: Sequence[str],
        layout: str,
        rate: float | None,
        durations: Mapping[str, float],
    ) -> None:
        """Finds the videos of all sources; raises ValueError if these are not the model's."""
        self._model, self._rate, self._durations = model, rate, durations
        self._sources = [open_source(path) for path in paths]
        widths = model.preparation.widths
        if len(widths) != len(self._sources):
            raise ValueError(
                f"--features names {len(self._sources)} sources, the model takes {len(widths)}"
            )
        keys = sorted({key for source in self._sources for key in source.places})
        self._keys = {next(s.names[k] for s in self._sources if k in s.names): k for k in keys}
        self.videos = list(self._keys)
        self._layouts = [
            infer_layout(self._shapes(number), layout, width) for number, width in enumerate(widths)
        ]

    def detect(self, videos: Sequence[str]) -> Results:
        """Of these videos; those that cannot be read fail alone."""
        failures: Results = {}
        recordings = []
        for video in videos:
            key = self._keys[video]
            try:
                arrays = [
                    as_frames(source.read(key), layout, str(source.places[key][0]))
                    for source, layout in zip(self._sources, self._layouts, strict=True)
                ]
                duration = self._durations.get(match_id(video))
                recordings.append(self._model.recording(video, arrays, self._rate, duration))
            except KeyError:
                failures[video] = "has no features in one of the sources"
            except ValueError as error:
                failures[video] = str(error)
        return failures | _official(self._model.detect_all(recordings))

    def _shapes(self, number: int) -> list[tuple[int, ...]]:
        source, shapes = self._sources[number], []
        for key in source.places:
            try:
                shapes.append(source.read(key).shape)
            except FeatureError:
                continue  # fails when its turn comes
            if len(shapes) == LAYOUT_SAMPLE:
                break
        return shapes


def _official(found: Mapping[str, Sequence[Detection]]) -> Results:
    return {
        video: [{"score": d.score, "segment": [d.start, d.end], "label": d.label} for d in detected]
        for video, detected in found.items()
    }


class Parts:
    """Results on their way into one file: what is there is done, whoever did it.

    Each part is a file of its own, written whole: object stores cannot append, and a process that
    is killed leaves no half of one.
    """

    def __init__(self, output: epath.Path, command: Mapping[str, Any]) -> None:
        """`command` says what the results are of; those of another are refused."""
        self._output, self._command = output, dict(command)
        self._folder = output.with_name(output.name + ".parts")

    def finished(self) -> Results | None:
        """The results, if the file is there.

        Raises:
          ValueError: it holds the results of another command, or of none.
        """
        if not self._output.exists():
            return None
        try:
            content = json.loads(self._output.read_text())
            same = content["external_data"]["command"] == self._command
        except (json.JSONDecodeError, KeyError, TypeError):
            same = False
        if not same:
            raise ValueError(
                f"{self._output} is there already, and not of this command; remove it, or give "
                "another --output"
            )
        self._folder.rmtree(missing_ok=True)
        return content["external_data"]["failures"] | content["results"]

    def read(self) -> Results:
        """All that is done.

        Raises:
          ValueError: parts of another command.
        """
        results: Results = {}
        for path in self._paths():
            try:
                part = json.loads(path.read_text())
            except FileNotFoundError:  # another process has just put all of them together
                return self.finished() or {}
            if part["command"] != self._command:
                raise ValueError(
                    f"{self._folder} holds parts of another command; remove it, or give another "
                    "--output"
                )
            results |= part["results"]
        return results

    def write(self, results: Results) -> None:
        """Adds results."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = {"command": self._command, "results": results}
        _write_whole(self._folder / f"{uuid.uuid4().hex}.json", part)

    def finish(self, results: Results) -> None:
        """Writes the one file, in the official form, and removes the parts."""
        failures = {video: why for video, why in results.items() if isinstance(why, str)}
        found = {video: results[video] for video in sorted(results) if video not in failures}
        external = {"command": self._command, "failures": failures}
        self._output.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(
            self._output, {"version": "VERSION 1.3", "results": found, "external_data": external}
        )
        self._folder.rmtree(missing_ok=True)

    def _paths(self) -> Iterator[epath.Path]:
        if self._folder.exists():
            yield from (p for p in sorted(self._folder.iterdir()) if p.suffix == ".json")


def _write_whole(path: epath.Path, content: object) -> None:
    files.write_whole(path, json.dumps(content, allow_nan=False) + "\n")
