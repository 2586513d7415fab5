"""Reads annotations in every form that prepare and the evaluation take.

These are ActivityNet's and HACS' json, BMN's json with its csv, THUMOS14's json, csv and folder of
txt files, a plain csv `video,start,end,label` (with `subset` and `duration` if there are any), and
the folder of a data set that prepare wrote.
"""

import csv
import dataclasses
import io
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from typing import Any

from segtad_jax.evaluation.json_files import InputError, as_path, load_json, read_text

ReportDefect = Callable[[str, str, object, str], None]  # kind, video, value, where

AMBIGUOUS = "Ambiguous"  # THUMOS14's class of segments that are no actions
SUBSETS = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "testing",
    "testing": "testing",
}
# THUMOS14 is trained on its validation videos; which those are stands in the ids.
_THUMOS14 = re.compile(r"video_(validation|test)_\d{7}")
_THUMOS14_SUBSETS = {"validation": "training", "test": "testing"}
_INDEX, _CLASSES = "recordings.json", "labels.labels.txt"  # of a data set that prepare wrote


@dataclasses.dataclass(frozen=True)
class Action:
    """One annotated action; times in seconds, not yet checked against each other."""

    start: float
    end: float
    label: str
    where: str  # file and place


@dataclasses.dataclass
class Entry:
    """Annotations of one video: of one entry or line of a file, or of several joined."""

    video: str
    where: str
    subset: str | None = None  # training, validation, testing, or a word that is none of SUBSETS
    written_subset: str | None = None  # the word in the file; for THUMOS14's csv, that in the id
    duration: float | None = None  # seconds
    covered: float | None = None  # seconds that BMN's features cover; they end before the video
    actions: list[Action] = dataclasses.field(default_factory=list)

    def name_subset(self, word: str | None) -> None:
        """Sets the subset from the word in the file; THUMOS14's ids overrule it."""
        if match := _THUMOS14.fullmatch(self.video):
            self.subset, self.written_subset = _THUMOS14_SUBSETS[match[1]], word or match[1]
        elif word is not None:
            self.subset, self.written_subset = canonical_subset(word), word

    def complete(self, other: "Entry") -> None:
        """Takes from another entry of the same video what this one lacks, and its actions."""
        self.subset = self.subset or other.subset
        self.written_subset = self.written_subset or other.written_subset
        self.duration = other.duration if self.duration is None else self.duration
        self.covered = other.covered if self.covered is None else self.covered
        self.actions += other.actions


def match_id(video: str) -> str:
    """Returns the id by which files refer to one video: without `v_`, in Unicode form NFC."""
    return unicodedata.normalize("NFC", video).removeprefix("v_")


def canonical_subset(word: str) -> str:
    """Returns training, validation or testing for any usual word, and other words as they are."""
    return SUBSETS.get(word.strip().lower(), word)


def shown(value: object) -> str:
    """Returns a value of a file as text that fits into a message."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def join(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Returns {match_id: entry}, entries of one video joined; the first spells its id."""
    videos: dict[str, Entry] = {}
    for entry in entries:
        first = videos.setdefault(match_id(entry.video), entry)
        if first is not entry:
            first.complete(entry)
    return videos


def has_subsets(videos: Mapping[str, Entry]) -> bool:
    """Returns whether any video has a subset.

    Raises:
        InputError: none has, because BMN's json is read without its csv.
    """
    if any(entry.subset is not None for entry in videos.values()):
        return True
    if any(entry.covered is not None for entry in videos.values()):
        raise InputError(
            "BMN's json does not say which videos train: name its csv too, as in "
            "anet_anno_action.json,video_info_new.csv"
        )
    return False


def read_entries(
    path: str | PathLike[str], report: ReportDefect, *, durations: bool = False
) -> Iterator[Entry]:
    """Yields the entries of a file or folder, in its order.

    Args:
        path: a json or csv file, THUMOS14's folder of txt files, or a prepared data set's.
        report: called with each defect: entries and actions that are broken are left out, durations
            that are no positive number are taken as unknown.
        durations: also read a json {id: seconds}.

    Raises:
        InputError: the file cannot be read or has another form.
    """
    file = as_path(path)
    if file.is_dir():
        prepared = (file / _INDEX).exists()
        yield from _read_prepared(file) if prepared else _read_txt_folder(file, report)
    elif file.suffix.lower() == ".csv":
        yield from _read_csv(file, report)
    elif file.suffix.lower() == ".json":
        yield from _read_json(file, report, durations)
    else:
        raise InputError(
            f"{path}: annotations are a .json or .csv file, the folder of THUMOS14's txt files, or "
            "that of a prepared data set" + ("" if file.exists() else "; and there is no such file")
        )


def read_durations(path: str | PathLike[str]) -> dict[str, float]:
    """Reads the seconds of each video, from a json {id: seconds} or any form of annotations.

    Returns:
        {match_id: seconds}

    Raises:
        InputError: the file is of neither kind, or a duration is no positive number.
    """

    def report(kind: str, video: str, value: object, where: str) -> None:
        if kind == "bad_duration":
            raise InputError(
                f"{where}: video {video!r}: duration {shown(value)} is no positive number of "
                "seconds"
            )

    seconds = {
        match_id(entry.video): entry.duration
        for entry in read_entries(path, report, durations=True)
        if entry.duration is not None
    }
    if not seconds:
        raise InputError(
            f"{path}: has no durations; expected a csv with the columns video,duration or a json "
            '{"id": seconds}'
        )
    return seconds


def read_ids(path: str | PathLike[str]) -> list[str]:
    """Reads a list of video ids: a json list, or one id a line.

    Raises:
        InputError: the file cannot be read or is json of another kind.
    """
    text = read_text(path)
    if not text.lstrip().startswith(("[", "{")):
        return [line.strip() for line in text.split("\n") if line.strip()]
    ids = load_json(path)
    if not (isinstance(ids, list) and all(isinstance(video, str) for video in ids)):
        raise InputError(f"{path}: must be a json list of video ids, or one id a line")
    return ids


def _read_json(path: Any, report: ReportDefect, durations: bool) -> Iterator[Entry]:
    content = load_json(
        path,
        repeated=lambda key: report(
            "repeated_video", key, f"the key {key!r} twice in one object", str(path)
        ),
    )
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object with 'database', found {shown(content)}")
    database = content.get("database")
    if database is None and "results" in content:
        raise InputError(f"{path}: this is a file of results, not of annotations")
    if database is None and any(_is_bmn(entry) for entry in content.values()):
        database = content
    elif database is None and durations and all(not isinstance(v, dict) for v in content.values()):
        database = {video: {"duration": seconds} for video, seconds in content.items()}
    if not isinstance(database, dict):
        keys = ", ".join(map(repr, list(content)[:5])) or "none"
        raise InputError(
            f"{path}: expected ActivityNet's form, an object with 'database': {{id: ...}}, or "
            f"BMN's, {{id: {{'duration_second': ...}}}}; the keys are {keys}"
        )
    first: dict[str, str] = {}
    for name, fields in database.items():
        where = f"{path}, video {shown(name)}"
        if first.setdefault(match_id(name), name) != name:
            report("repeated_video", name, f"{name} and {first[match_id(name)]}", where)
        elif not isinstance(fields, dict):
            report("bad_video", name, fields, where)
        else:
            yield _json_entry(name, fields, where, report)


def _is_bmn(fields: object) -> bool:
    return isinstance(fields, dict) and "duration_second" in fields


def _json_entry(name: str, fields: dict[str, Any], where: str, report: ReportDefect) -> Entry:
    entry = Entry(name, where)
    subset = fields.get("subset")
    entry.name_subset(None if subset is None else str(subset))
    seconds = fields["duration_second"] if _is_bmn(fields) else fields.get("duration")
    entry.duration = _duration(seconds, name, where, report)
    entry.covered = _covered(
        entry.duration, fields.get("duration_frame"), fields.get("feature_frame")
    )
    annotations = fields.get("annotations") or []  # a testing video may have none
    if not isinstance(annotations, list):
        report("bad_video", name, annotations, f"{where}: 'annotations' is no list")
        annotations = []
    for position, action in enumerate(annotations):
        place = f"{where}, annotation {position}"
        segment = action.get("segment") if isinstance(action, dict) else None
        if not (isinstance(segment, list) and len(segment) == 2):
            report("bad_action", name, action, place)
        else:
            _add(entry, segment, action.get("label"), place, report)
    return entry


def _read_csv(path: Any, report: ReportDefect) -> Iterator[Entry]:
    lines = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        names = [_column(name) for name in lines.fieldnames or ()]
        if "label" not in names:  # THUMOS14 writes `type`
            names = ["label" if name == "type" else name for name in names]
        lines.fieldnames, columns = names, set(names)
        rows = [(lines.line_num, row) for row in lines]
    except csv.Error as error:
        raise InputError(f"{path}, line {lines.line_num}: not csv: {error}") from error
    if "video" not in columns or not (
        columns >= {"start", "end", "label"} or columns & {"duration", "seconds", "subset"}
    ):
        raise InputError(
            f"{path}: the first line must name the columns video,start,end,label (or type for "
            "label, as THUMOS14 does) and may name subset,duration; or video with duration, "
            f"seconds or subset alone. It has: {', '.join(sorted(columns)) or 'nothing'}"
        )
    for number, row in rows:
        yield _row_entry(row, f"{path}, line {number}", report)


def _column(name: str) -> str:
    """Returns the name used here; some files of THUMOS14 write `video-name`."""
    return name.strip().removesuffix("-name").removeprefix("video-") or name


def _read_txt_folder(path: Any, report: ReportDefect) -> Iterator[Entry]:
    files = sorted(path.glob("*_*.txt"))
    if not files:
        raise InputError(
            f"{path}: has no file CLASS_val.txt or CLASS_test.txt, as THUMOS14, and no {_INDEX}, "
            "as the folder NAME/VERSION of a prepared data set"
        )
    for file in files:
        label, _, subset = file.stem.rpartition("_")
        subset = "validation" if subset == "val" else subset
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            where, parts = f"{file}, line {number}", line.split()
            if len(parts) == 3:
                row = dict(zip(("video", "start", "end"), parts, strict=True))
                yield _row_entry(row | {"label": label, "subset": subset}, where, report)
            elif parts:
                report("bad_action", parts[0], line, where)


def _row_entry(row: Mapping[str, Any], where: str, report: ReportDefect) -> Entry:
    """Returns the entry of a line with at most one action."""
    # csv.DictReader gives None for a cell that is missing, and a list of those in excess.
    cells = {k: cell.strip() for k, cell in row.items() if isinstance(cell, str) and cell.strip()}
    entry = Entry(cells.get("video", ""), where)
    entry.name_subset(cells.get("subset"))
    seconds = cells.get("duration", cells.get("seconds"))
    entry.duration = _duration(seconds, entry.video, where, report)
    entry.covered = _covered(entry.duration, cells.get("numFrame"), cells.get("featureFrame"))
    # A line that names a video and no action stands for a video without actions.
    if row.keys() >= {"start", "end", "label"} and cells.keys() & {"start", "end", "label"}:
        _add(entry, [cells.get("start"), cells.get("end")], cells.get("label"), where, report)
    return entry


def _read_prepared(path: Any) -> Iterator[Entry]:
    lines = read_text(path / _CLASSES).split("\n")
    classes = ["", *(line.strip() for line in lines if line.strip())]  # labels count from 1
    index = path / _INDEX
    content = load_json(index)
    try:
        for row in content["recordings"]:
            where = f"{index}, video {row['video']}"
            entry = Entry(row["video"], where, duration=row["duration"])
            entry.name_subset(row["split"])
            for (start, end), label in zip(row["segments"], row["labels"], strict=True):
                entry.actions.append(Action(start, end, classes[label], where))
            yield entry
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{index}: not the index that prepare wrote ({error!r}); prepare the data set again"
        ) from error


def _add(entry: Entry, segment: list[Any], label: object, where: str, report: ReportDefect) -> None:
    """Adds an action, if its two times are numbers and its label is a name."""
    name = str(label).strip() if isinstance(label, str | int) else ""
    start, end = map(_number, segment)
    if not name or isinstance(label, bool):
        report("bad_action", entry.video, f"label {shown(label)}", where)
    elif start is None or end is None:
        report("bad_time", entry.video, f"[{', '.join(map(shown, segment))}] {name}", where)
    else:
        entry.actions.append(Action(start, end, name, where))


def _duration(value: object, video: str, where: str, report: ReportDefect) -> float | None:
    seconds = _number(value)
    if value is not None and (seconds is None or seconds <= 0):
        report("bad_duration", video, value, where)
        return None
    return seconds


def _covered(duration: float | None, frames: object, used: object) -> float | None:
    """Returns the seconds that BMN's features cover, from frames of the video and of these."""
    total, part = _number(frames), _number(used)
    if duration is None or not total or not part or total <= 0 or part <= 0:
        return None
    return part / total * duration


def _number(value: object) -> float | None:
    """Returns a finite number, which some data sets write as text, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or "_" in str(value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
