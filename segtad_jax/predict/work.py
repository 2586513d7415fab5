"""Detects in all videos that a command names; resumes, and shares them with other processes."""

import argparse
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from segtad_jax.data.dataset import find, find_all, open_dataset
from segtad_jax.data.defects import KINDS
from segtad_jax.data.features import open_source
from segtad_jax.evaluation.annotations import read_durations
from segtad_jax.evaluation.ids import matching
from segtad_jax.postprocess import official_file, official_results
from segtad_jax.predict.trained import Input, Trained, load
from segtad_jax.runtime import files, startup
from segtad_jax.runtime.command import DONE
from segtad_jax.runtime.console import open_console

SOME_FAILED, UNFINISHED = 3, 4  # exit statuses, besides those of runtime.command
CHUNK = 16  # videos whose results are written together
SHOWN = 10  # failures
# The flags that decide what is in the results: those of another command are refused.
IDENTITY = ("checkpoint", "features", "subset", "rate", "durations", "layout", "class_scores")

# By video: its detections in the official form, or why there are none.
Results = dict[str, list[dict[str, Any]] | str]


def run(flags: argparse.Namespace) -> int:
    """Does what the flags of `predict` ask for and returns the exit status."""
    startup.keep_freed_memory()
    startup.keep_compiled_programs()
    settings = {"class_scores": flags.class_scores} if flags.class_scores else {}
    model = load(flags.checkpoint, **settings)
    model.require_rate(flags.rate)
    videos: FeatureFiles | PreparedSplit
    if find_all(flags.features[0]):
        videos = PreparedSplit(model, flags.features[0], flags.subset)
    else:
        durations = read_durations(flags.durations) if flags.durations else {}
        videos = FeatureFiles(model, flags.features, flags.layout, flags.rate, durations)
    identity = {name: getattr(flags, name) for name in IDENTITY} | {"step": model.step}
    output, console = Output(epath.Path(flags.output), identity), open_console()
    if (results := output.finished()) is None:
        share = videos.ids[flags.process_id :: flags.num_processes]
        _detect(videos, share, output, console)
        results = output.finished() or output.parts()
        if others := [video for video in videos.ids if video not in results]:
            console.print(f"{len(others):,} videos are left to the other processes.")
            return UNFINISHED
        output.finish(results)
    failures = _failures(results)
    console.print(f"{len(results) - len(failures):,} videos: {flags.output}", highlight=False)
    for video, reason in list(failures.items())[:SHOWN]:
        console.print(f"failed: {video}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if len(failures) > SHOWN:
        console.print(f"... {len(failures) - SHOWN:,} more failed; all are in external_data.")
    for video, note in list(output.notes.items())[:SHOWN]:
        console.print(f"note: {video}: {note}", markup=False, highlight=False, soft_wrap=True)
    if len(output.notes) > SHOWN:
        console.print(f"... {len(output.notes) - SHOWN:,} more notes; all are in external_data.")
    return SOME_FAILED if failures else DONE


def _detect(
    videos: "FeatureFiles | PreparedSplit", share: Sequence[str], output: "Output", console: Console
) -> None:
    done = output.parts()
    missing = [video for video in share if video not in done]
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("videos", total=len(share), completed=len(share) - len(missing))
        for first in range(0, len(missing), CHUNK):
            chunk = missing[first : first + CHUNK]
            output.add(videos.detect(chunk), videos.notes)
            videos.notes.clear()
            progress.advance(task, len(chunk))


def _failures(results: Results) -> dict[str, str]:
    return {video: reason for video, reason in results.items() if isinstance(reason, str)}


class PreparedSplit:
    """A split of a data set that `prepare` wrote, with or without annotations."""

    def __init__(self, model: Trained, directory: str, subset: str) -> None:
        """Opens DATA, DATA/NAME or DATA/NAME/VERSION.

        Raises:
            ValueError: there are several, or it is not what the model takes.
        """
        self._model, self._dataset = model, open_dataset(find(directory, "--features"))
        model.require_same(self._dataset)
        self._recordings = {r.video: r for r in self._dataset.recordings(subset)}
        self.ids = list(self._recordings)
        self.notes: dict[str, str] = {}

    def detect(self, ids: Sequence[str]) -> Results:
        """Detects in these recordings."""
        recordings = [self._recordings[video] for video in ids]
        detections, not_finite = self._model.detect_in(self._dataset, recordings)
        return official_results(detections) | not_finite


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
        """Finds the videos of all sources.

        Raises:
            ValueError: the sources are not those that the model takes.
        """
        self._model, self._rate = model, rate
        self._sources = [open_source(path) for path in paths]
        widths = model.preparation.widths
        if len(widths) != len(self._sources):
            raise ValueError(
                f"--features names {len(self._sources)} sources, the model takes {len(widths)}"
            )
        keys = sorted({key for source in self._sources for key in source.places})
        # {id as the first source that has the video writes it: key of `Source.places`}
        self._keys = {next(s.names[k] for s in self._sources if k in s.names): k for k in keys}
        self.ids = list(self._keys)
        self._durations = {key: durations[k] for key, k in matching(keys, durations).items()}
        columns = model.preparation.columns or ((),) * len(widths)
        self._forms = [
            source.form(source.places, layout, width, names)
            for source, width, names in zip(self._sources, widths, columns, strict=True)
        ]
        defects = [defect for source in self._sources for defect in source.defects]
        self.notes = {d.video: f"{KINDS[d.kind].meaning}: {d.value}" for d in defects}
        for form in self._forms:
            for name, values in form.times.items():
                self.notes[f"column {name!r}"] = f"{KINDS['time_column'].meaning} ({values})"

    def detect(self, ids: Sequence[str]) -> Results:
        """Detects in these videos; one that cannot be read or used fails alone."""
        failures: Results = {}
        inputs = []
        for video in ids:
            try:
                inputs.append(self._input(video))
            except KeyError:
                failures[video] = "has no features in one of the sources"
            except ValueError as error:
                failures[video] = str(error)
        detections, not_finite = self._model.detect_all(inputs)
        return failures | not_finite | official_results(detections)

    def _input(self, video: str) -> Input:
        key, arrays, notes = self._keys[video], [], []
        for source, form in zip(self._sources, self._forms, strict=True):
            frames, told = source.frames(key, form)
            arrays.append(frames)
            notes += [f"{KINDS[kind].meaning}: {text}" for kind, text in told]
        duration = self._durations.get(key)
        made = self._model.prepare(video, arrays, self._rate, duration)
        if notes := [*notes, *made.notes]:
            self.notes[video] = "; ".join(notes)
        return made


class Output:
    """The result file, and the parts beside it from which it is made: a video in one is done.

    Each part is a file of its own, written whole: object stores cannot append, and a process that
    is killed leaves no half of one.
    """

    def __init__(self, path: epath.Path, identity: Mapping[str, Any]) -> None:
        """Touches no file yet; results that are there must be of the same `identity`."""
        self._path, self._identity = path, dict(identity)
        self._folder = path.with_name(path.name + ".parts")
        self.notes: dict[str, str] = {}  # what is odd about videos, and files that are none

    def finished(self) -> Results | None:
        """Returns the results if the file is there, else None; removes parts that were left.

        Raises:
            ValueError: it holds the results of another command, or of none.
        """
        if not self._path.exists():
            return None
        try:
            content = json.loads(self._path.read_text())
            same = content["external_data"]["command"] == self._identity
        except (json.JSONDecodeError, KeyError, TypeError):
            same = False
        if not same:
            raise ValueError(
                f"{self._path} is there already, and not of this command; remove it, or give "
                "another --output"
            )
        self._folder.rmtree(missing_ok=True)
        self.notes = content["external_data"].get("notes", {})
        return content["external_data"]["failures"] | content["results"]

    def parts(self) -> Results:
        """Returns all results that are done, by whichever process.

        Raises:
            ValueError: they are of another command.
        """
        results: Results = {}
        for path in sorted(self._folder.iterdir()) if self._folder.exists() else ():
            if path.suffix != ".json":  # on its way
                continue
            try:
                part = json.loads(path.read_text())
            except FileNotFoundError:  # another process has just put all of them together
                return self.finished() or {}
            if part["command"] != self._identity:
                raise ValueError(
                    f"{self._folder} holds parts of another command; remove it, or give another "
                    "--output"
                )
            results |= part["results"]
            self.notes |= part.get("notes", {})
        return results

    def add(self, results: Results, notes: Mapping[str, str]) -> None:
        """Writes a part."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.notes |= notes
        part = {"command": self._identity, "results": results, "notes": dict(notes)}
        _write(self._folder / f"{uuid.uuid4().hex}.json", part)

    def finish(self, results: Results) -> None:
        """Writes the one file, in the official form, and removes the parts."""
        failures = _failures(results)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        done = {video: results[video] for video in sorted(results.keys() - failures)}
        content = official_file(done, command=self._identity, failures=failures, notes=self.notes)
        _write(self._path, content)
        self._folder.rmtree(missing_ok=True)


def _write(path: epath.Path, content: object) -> None:
    files.write_whole(path, json.dumps(content, allow_nan=False) + "\n")
