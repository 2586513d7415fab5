"""The result file of predict, and the parts beside it: what is in them, what of it is kept.

A result is of one model, with the settings that decide, and of the features of one recording. Each
of the two has an identity: while both stay the same the result is kept, and results of two models
are never joined.
"""

import contextlib
import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from segtad_jax.config.stored import differences
from segtad_jax.evaluation.json_files import checksum
from segtad_jax.postprocess import official_file
from segtad_jax.runtime import files, lease

UNREADABLE = (KeyError, TypeError, AttributeError, ValueError, RecursionError)
REMEDY = "Move it away, or give another --output."


class Prediction(NamedTuple):
    """Detections in one recording, or why there are none, and from which features."""

    source: str  # identity of its features
    result: list[dict[str, Any]] | str  # detections in the official form, or why there are none
    note: str = ""  # what is odd about it

    @property
    def failed(self) -> bool:
        """Returns whether there is a reason instead of detections."""
        return isinstance(self.result, str)


class _Content(NamedTuple):
    """The content of a part or of a result file."""

    made_by: Mapping[str, Any]
    predictions: Mapping[str, Prediction]
    checksum: str


class Output:
    """OUTPUT, and beside it the folder OUTPUT.parts while there is work to do.

    Each part is a file of its own, written whole: object stores cannot append, and a process that
    is killed leaves no half of one.
    """

    def __init__(
        self,
        path: epath.Path,
        made_by: Mapping[str, Any],
        sources: Mapping[str, str],
        tell: Callable[[str], None],
    ) -> None:
        """Touches no file yet.

        Args:
            path: the result file.
            made_by: identity of the model, with the settings that decide; JSON.
            sources: {video: identity of its features}, of all that the result shall have.
            tell: prints a line.
        """
        self._path, self._made_by, self._sources, self._tell = path, made_by, sources, tell
        self._folder = path.with_name(f"{path.name}.parts")

    @contextlib.contextmanager
    def held(self, process_id: int) -> Iterator[dict[str, Prediction]]:
        """Returns a context in which no other process works with this number at this output.

        Says what of earlier starts is kept, which is its value, and removes parts of another model.

        Raises:
            lease.HeldError: another process does, or makes parts of another model; says which.
            ValueError: the result file is none of predict's, was changed since, or is of other
                recordings alone.
        """
        mine = self._folder / f"{lease.FILE}-{process_id}"
        with lease.held(mine, f"{self._path} with --process_id={process_id}"):
            others = [
                path
                for path in self._folder.iterdir()
                if path.name.startswith(lease.FILE) and path.name != mine.name
            ]
            if not others and not files.on_object_store(self._path):
                self._remove_leftovers()
            self._remove_parts_of_others(others)
            yield self._kept()

    def done(self) -> dict[str, Prediction]:
        """Returns what there is, by whichever process, of what the result shall have."""
        _, same = self._read()
        return self._fitting(same)

    def add(self, predictions: Mapping[str, Prediction]) -> None:
        """Writes a part."""
        rows = {video: prediction._asdict() for video, prediction in predictions.items()}
        part = {"made_by": dict(self._made_by), "predictions": rows}
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020}-{uuid.uuid4().hex}.json"  # in order of their names
        text = _canonical(part)
        mark = hashlib.sha256(text.encode()).hexdigest()
        files.write_whole(self._folder / name, text[:-1] + _seal(mark))

    def finish(
        self, predictions: Mapping[str, Prediction], notes: dict[str, str]
    ) -> dict[str, str]:
        """Writes the one file, in the official form, removes the parts, and returns all notes.

        Args:
            predictions: of all recordings.
            notes: what is odd about other files, by their names.

        Raises:
            ValueError: the file that is there is none of predict's, or was changed since.
        """
        ordered = dict(sorted(predictions.items()))
        notes = notes | {v: prediction.note for v, prediction in ordered.items() if prediction.note}
        content = official_file(
            {v: o.result for v, o in ordered.items() if not o.failed},
            made_by=dict(self._made_by),
            sources={video: prediction.source for video, prediction in ordered.items()},
            failures={v: o.result for v, o in ordered.items() if o.failed},
            notes=dict(sorted(notes.items())),
        )
        # Encoded once, which is most of the work: the checksum is of this text, and goes into it.
        more = _canonical(content["external_data"])
        rest = _canonical({key: content[key] for key in ("results", "version")})[1:]
        mark = hashlib.sha256(f'{{"external_data": {more}, {rest}'.encode()).hexdigest()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        there = self._finished()
        if there is not None and self._loses(there, predictions):
            files.write_whole(*self._before())
        if there is None or there.checksum != mark:
            sealed = f'{{"external_data": {more[:-1]}, "checksum": "{mark}"}}, {rest}\n'
            files.write_whole(self._path, sealed)
        self._folder.rmtree(missing_ok=True)
        return content["external_data"]["notes"]

    def _remove_leftovers(self) -> None:
        """Removes what killed processes left beside the file; nobody else may write it now."""
        stem, suffix = map(re.escape, (self._path.stem, self._path.suffix))
        for path in self._path.parent.iterdir():
            if re.fullmatch(rf"\.{stem}(\.before-\w+)?{suffix}\.[0-9a-f]{{32}}", path.name):
                path.unlink(missing_ok=True)

    def _remove_parts_of_others(self, leases: Sequence[epath.Path]) -> None:
        """Removes parts of other models and says so, unless a process is at work on them."""
        parts = [(path, part) for path, part in self._parts() if part.made_by != self._made_by]
        if not parts:
            return
        for path in leases:
            with lease.held(path, f"{self._folder}, for parts of another model,"):
                pass  # its holder has ended
        self._tell(
            f"{self._folder} holds parts of another model or other settings: they are removed, "
            f"and all starts anew. {self._differences(parts[0][1])}"
        )
        for path, _ in parts:
            path.unlink(missing_ok=True)

    def _kept(self) -> dict[str, Prediction]:
        """Returns what is kept, and says so.

        Raises:
            ValueError: all results that are there would be left out.
        """
        finished, same = self._read()
        if finished is not None and finished.made_by != self._made_by:
            self._tell(
                f"{self._path} is of another model or other settings: all starts anew, and it will "
                f"be kept as {self._before()[0].name}. {self._differences(finished)}"
            )
        elif finished is not None and not finished.predictions.keys() & self._sources.keys():
            raise ValueError(
                f"{self._path} holds results of {len(finished.predictions):,} recordings, such as "
                f"{min(finished.predictions, default='none')!r}, none of which is in --features. "
                f"{REMEDY}"
            )
        there = {video for content in same for video in content.predictions}
        done = self._fitting(same)
        failed = sum(prediction.failed for prediction in done.values())
        counts = {
            "kept": len(done) - failed,
            "failed before and tried again": failed,
            "changed": len((there & self._sources.keys()) - done.keys()),
            "new": len(self._sources.keys() - there),
            "removed": len(there - self._sources.keys()),
        }
        if there:
            text = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n or what == "kept")
            self._tell(f"Recordings: {text}.")
        if finished is not None and finished.made_by == self._made_by and counts["removed"]:
            self._tell(f"The results of those removed will be kept in {self._before()[0].name}.")
        return done

    def _fitting(self, contents: Sequence[_Content]) -> dict[str, Prediction]:
        """Returns the youngest predictions from the videos' features; failures if that is all."""
        done: dict[str, Prediction] = {}
        for content in contents:
            for video, prediction in content.predictions.items():
                fits = prediction.source == self._sources.get(video)
                if fits and not (prediction.failed and video in done and not done[video].failed):
                    done[video] = prediction
        return done

    def _loses(self, there: _Content, predictions: Mapping[str, Prediction]) -> bool:
        """Returns whether the file has results that the next one has neither kept nor anew."""
        return there.made_by != self._made_by or bool(there.predictions.keys() - predictions.keys())

    def _differences(self, other: _Content) -> str:
        return "; ".join(differences(self._made_by, other.made_by))

    def _before(self) -> tuple[epath.Path, bytes]:
        """Returns where the result of another model is kept, by its content, and the content."""
        content = self._path.read_bytes()
        mark = hashlib.sha256(content).hexdigest()[:8]
        return self._path.with_name(f"{self._path.stem}.before-{mark}{self._path.suffix}"), content

    def _read(self) -> tuple[_Content | None, list[_Content]]:
        """Returns what the result file says, and all that is of the same model, the youngest last.

        The file is read after the parts: a process that joins them writes it before it removes
        them.
        """
        parts = [part for _, part in self._parts()]
        finished = self._finished()
        contents = [*parts] if finished is None else [finished, *parts]
        return finished, [content for content in contents if content.made_by == self._made_by]

    def _parts(self) -> Iterator[tuple[epath.Path, _Content]]:
        """Yields all parts; removes one that does not read, and names it."""
        for path in sorted(self._folder.iterdir()) if self._folder.exists() else ():
            if path.suffix != ".json" or path.name.startswith("."):  # on its way
                continue
            try:
                content = json.loads(raw := path.read_bytes())
                mark = _take_checksum(content, content, raw)
                rows = content["predictions"].items()
                part = _Content(content["made_by"], {v: Prediction(**row) for v, row in rows}, mark)
            except FileNotFoundError:  # another process has just joined them all
                continue
            except UNREADABLE as error:
                self._tell(f"{path} does not read, and is done again: {_reason(error)}")
                path.unlink(missing_ok=True)
                continue
            yield path, part

    def _finished(self) -> _Content | None:
        """Returns what the result file says, None if there is none.

        Raises:
            ValueError: it is none of predict's, or was changed since.
        """
        if not self._path.exists():
            return None
        try:
            content = json.loads(self._path.read_bytes())
            more = content["external_data"]
            if "made_by" not in more and "command" in more:
                return _Content({}, {}, "")  # of an older version, which names no identities
            mark = _take_checksum(content, more)
            results, sources = content["results"] | more["failures"], more["sources"]
            notes = more["notes"]
            predictions = {v: Prediction(sources[v], results[v], notes.get(v, "")) for v in sources}
            return _Content(more["made_by"], predictions, mark)
        except UNREADABLE as error:
            raise ValueError(
                f"{self._path} is there already, and is not as predict wrote it: {_reason(error)}. "
                f"{REMEDY}"
            ) from error


def _take_checksum(content: dict[str, Any], holder: dict[str, Any], raw: bytes = b"") -> str:
    """Takes the checksum out of its holder; raises ValueError if it is not that of the content.

    `raw` is the file, which is as it was written if it ends as `add` ends it; else the content may
    have been written anew, in another form.
    """
    mark = holder.pop("checksum")
    ending = _seal(mark).encode()
    written = hashlib.sha256(raw.removesuffix(ending) + b"}").hexdigest()
    if (written != mark or not raw.endswith(ending)) and mark != checksum(content):
        raise ValueError("it was edited or damaged, for its checksum differs")
    return mark


def _canonical(content: Mapping[str, Any]) -> str:
    """Returns the JSON that `checksum` is of."""
    return json.dumps(content, sort_keys=True, allow_nan=False)


def _seal(mark: str) -> str:
    return f', "checksum": "{mark}"}}\n'


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return str(error) if isinstance(error, ValueError) else "it is of another form"
