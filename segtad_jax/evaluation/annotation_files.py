"""Reads annotations in every form that prepare and the evaluation take, as the files have them.

These are ActivityNet's and HACS' json, BMN's json with its csv, THUMOS14's json, csv and folder of
txt files, a plain csv `video,start,end,label` (with `subset` and `duration` if there are any),
Charades' csv, a folder of txt files with a class a frame, and a data set that prepare wrote.
"""

import csv
import dataclasses
import io
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import groupby
from os import PathLike
from typing import Any

from segtad_jax.evaluation.ids import clean_label, match_id
from segtad_jax.evaluation.json_files import InputError, as_path, load_json, load_sealed, read_text

# kind (NOTE: no defect, but worth saying), video, value, where
ReportDefect = Callable[[str, str, object, str], None]

NOTE = "note"
_INDEX, _CLASSES = "recordings.json", "labels.labels.txt"  # of a data set that prepare wrote
_DECIMAL = re.compile(r"(-?\d+),(\d\d\d()|\d+)")
_CLOCK = re.compile(r"(\d+):([0-5]?\d):([0-5]?\d(?:[.,]\d*)?)")


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
    # {the word in the file, for THUMOS14's csv that in the id: the first place that has it}
    words: dict[str, str] = dataclasses.field(default_factory=dict)
    durations: dict[float, str] = dataclasses.field(default_factory=dict)  # {seconds: place}
    covered: float | None = None  # seconds that BMN's features cover; they end before the video
    actions: list[Action] = dataclasses.field(default_factory=list)
    subset: str | None = None  # training, validation, testing, or a word that is none of SUBSETS

    @property
    def written_subset(self) -> str | None:
        """The subset as the file has it."""
        return next(iter(self.words), None)

    @property
    def duration(self) -> float | None:
        """Seconds; None if it is unknown."""
        return next(iter(self.durations), None)

    def join(self, other: "Entry") -> None:
        """Takes what another entry of the same video says."""
        for word, where in other.words.items():
            self.words.setdefault(word, where)
        for seconds, where in other.durations.items():
            self.durations.setdefault(seconds, where)
        self.covered = other.covered if self.covered is None else self.covered
        self.actions += other.actions


def shown(value: object) -> str:
    """Returns a value of a file as text that fits into a message."""
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= 200 else f"{text[:197]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_entries(
    path: str | PathLike[str],
    report: ReportDefect,
    *,
    rate: float | None = None,
    durations: bool = False,
) -> Iterator[Entry]:
    """Yields the entries of a file or folder, in its order.

    Args:
        path: a json or csv file, a folder of txt files (THUMOS14's, or with a class a frame), a
            prepared data set NAME/VERSION, or a folder with one such.
        report: called with each defect: entries and actions that are broken are left out, durations
            that are no positive number are taken as unknown.
        rate: Hz, of files with a class a frame.
        durations: also read a json {id: seconds}.

    Raises:
        InputError: the file cannot be read or has another form.
    """
    file = as_path(path)
    if file.is_dir():
        prepared = [folder for depth in ("", "*/", "*/*/") for folder in file.glob(depth + _INDEX)]
        prepared = [index for index in prepared if not _hidden(index, file)]
        if len(prepared) > 1:
            listed = "\n  ".join(str(index.parent) for index in sorted(prepared))
            raise InputError(
                f"{path} holds {len(prepared)} data sets; name one of them:\n  {listed}"
            )
        if prepared:
            yield from _read_prepared(prepared[0].parent)
        else:
            yield from _read_txt_folder(file, rate, report)
    elif file.suffix.lower() in (".csv", ".tsv", ".txt"):
        yield from _read_csv(file, report)
    elif file.suffix.lower() == ".json":
        yield from _read_json(file, report, durations)
    else:
        raise InputError(
            f"{path}: annotations are a .json or .csv file, a folder of txt files, or that of a "
            "prepared data set" + ("" if file.exists() else "; and there is no such file")
        )


def _hidden(path: Any, folder: Any) -> bool:
    """Returns whether a writer may be at work there still."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


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
    seconds = fields["duration_second"] if _is_bmn(fields) else fields.get("duration")
    _describe(entry, fields.get("subset"), seconds, report)
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
    whole = read_text(path)
    text = whole.lstrip("\n")
    header, above = text.partition("\n")[0], len(whole) - len(text)
    separator = max(",;\t", key=lambda mark: len(_columns(header.split(mark)) & _COLUMNS))
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        lines.fieldnames = [_column(name) for name in lines.fieldnames or ()]
        columns = _columns(lines.fieldnames)
        if "label" not in columns:  # THUMOS14 writes `type`
            lines.fieldnames = ["label" if name == "type" else name for name in lines.fieldnames]
            columns = _columns(lines.fieldnames)
        rows = [(lines.line_num + above, row) for row in lines if any(map(_cell, row.values()))]
    except csv.Error as error:
        raise InputError(f"{path}, line {lines.line_num + above}: not csv: {error}") from error
    if twice := sorted(c for c in columns & _COLUMNS if lines.fieldnames.count(c) > 1):
        raise InputError(f"{path}: names the column {twice[0]!r} twice; rename one of them")
    charades = columns >= {"id", "actions", "length"}
    if not charades and (
        "video" not in columns
        or not (columns >= {"start", "end", "label"} or columns & {"duration", "seconds", "subset"})
    ):
        raise InputError(
            f"{path}: the first line must name the columns video,start,end,label (or type for "
            "label, as THUMOS14 does) and may name subset,duration; or video with duration, "
            f"seconds or subset alone. It is: {shown(header.strip()) or 'empty'}"
        )
    if separator != ",":
        name = "';'" if separator == ";" else "tabs"
        report(NOTE, "", f"{path.name}: its columns are separated by {name}", "")
    for number, row in rows:
        where = f"{path}, line {number}"
        cells = {name: text for name, cell in row.items() if (text := _cell(cell))}
        if any(map(str.strip, row.get(None) or [])):
            value = f"{len(columns) + len(row[None])} cells in {len(columns)} columns"
            report("bad_action", cells.get("video", cells.get("id", "")), value, where)
            continue
        for name in cells.keys() & {"start", "end", "duration", "seconds"}:
            # Where commas separate the columns, 1,234 may be a thousand and more.
            if (comma := _DECIMAL.fullmatch(cells[name])) and (
                separator != "," or comma[3] is None
            ):
                cells[name] = f"{comma[1]}.{comma[2]}"
                report(NOTE, "", f"{path.name}: decimal commas are read as points", "")
        yield from (
            _read_charades(cells, where, report)
            if charades
            else [_row_entry(row.keys(), cells, where, report)]
        )


_COLUMNS = {"video", "start", "end", "label", "type", "subset", "duration", "seconds", "actions"}


def _columns(names: Sequence[str]) -> set[str]:
    return set(map(_column, names))


def _column(name: str) -> str:
    """Returns the name used here; some files of THUMOS14 write `video-name`."""
    name = name.strip().strip('"')
    lower = name.lower()
    return lower.removesuffix("-name").removeprefix("video-") if lower else name


def _cell(cell: object) -> str:
    """Returns the text of a cell; csv.DictReader has None for a missing one, a list of others."""
    return cell.strip() if isinstance(cell, str) else ""


def _read_charades(cells: Mapping[str, str], where: str, report: ReportDefect) -> Iterator[Entry]:
    """Yields the entry of a line whose cell `actions` holds `class start end;class start end`."""
    entry = Entry(cells.get("id", ""), where)
    _describe(entry, None, cells.get("length"), report)
    for action in filter(None, cells.get("actions", "").split(";")):
        parts = action.split()
        if len(parts) == 3:
            _add(entry, parts[1:], parts[0], where, report)
        else:
            report("bad_action", entry.video, action, where)
    yield entry


def _read_txt_folder(path: Any, rate: float | None, report: ReportDefect) -> Iterator[Entry]:
    files = sorted(file for file in path.glob("*.txt") if file.name not in (_MAPPING, _CLASSES))
    if not files:
        raise InputError(
            f"{path}: has no txt file, as CLASS_val.txt and CLASS_test.txt of THUMOS14 or one a "
            f"video with a class a frame, and no {_INDEX}, as a prepared data set NAME/VERSION "
            "(if it was deleted, prepare again)"
        )
    thumos14 = [file for file in files if file.stem.endswith(("_val", "_test"))]
    if not any(map(_ends_in_a_number, thumos14)):
        yield from _read_frames(path, files, rate, report)
        return
    for file in thumos14:
        label, _, subset = file.stem.rpartition("_")
        subset = "validation" if subset == "val" else subset
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            where, parts = f"{file}, line {number}", line.split()
            if len(parts) == 3:
                cells = dict(zip(("video", "start", "end"), parts, strict=True))
                cells |= {"label": label, "subset": subset}
                yield _row_entry(cells.keys(), cells, where, report)
            elif parts:
                report("bad_action", parts[0], line, where)


def _ends_in_a_number(file: Any) -> bool:
    """Returns whether the first line of a file does, as THUMOS14's `video start end`."""
    parts = read_text(file).lstrip().partition("\n")[0].split()
    return len(parts) > 1 and _number(parts[-1]) is not None


_MAPPING = "mapping.txt"  # lines `number class`, beside files with a class a frame or their folder


def _read_frames(
    path: Any, files: Sequence[Any], rate: float | None, report: ReportDefect
) -> Iterator[Entry]:
    """Yields an entry a file of lines with a frame's class; equal neighbours are one action."""
    if rate is None:
        raise InputError(
            f"{path}: txt files with a class a frame need the frames a second, as --rate=15 "
            "(THUMOS14's are called CLASS_val.txt and CLASS_test.txt)"
        )
    places = [place for place in (path / _MAPPING, path.parent / _MAPPING) if place.exists()]
    pairs = [line.split(None, 1) for line in read_text(places[0]).splitlines()] if places else []
    names = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    for file in files:
        entry = Entry(file.stem, str(file))
        lines = [line.strip() for line in read_text(file).rstrip().splitlines()]
        entry.durations = {len(lines) / rate: str(file)} if lines else {}
        start = 0
        for label, frames in groupby(lines):
            end = start + sum(1 for _ in frames)
            place = f"{file}, line {start + 1}"
            _add(entry, [start / rate, end / rate], names.get(label, label), place, report)
            start = end
        yield entry


def _row_entry(
    columns: Set[str], cells: Mapping[str, str], where: str, report: ReportDefect
) -> Entry:
    """Returns the entry of a line with at most one action."""
    entry = Entry(cells.get("video", ""), where)
    seconds = cells.get("duration", cells.get("seconds"))
    _describe(entry, cells.get("subset"), seconds, report)
    entry.covered = _covered(entry.duration, cells.get("numframe"), cells.get("featureframe"))
    # A line that names a video and no action stands for a video without actions.
    if columns >= {"start", "end", "label"} and cells.keys() & {"start", "end", "label"}:
        _add(entry, [cells.get("start"), cells.get("end")], cells.get("label"), where, report)
    return entry


def _describe(entry: Entry, subset: object, seconds: object, report: ReportDefect) -> None:
    """Sets what an entry says of its whole video."""
    entry.words = {} if subset is None else {str(subset): entry.where}
    duration = _seconds(seconds)
    if duration is not None and duration > 0:
        entry.durations = {duration: entry.where}
    elif seconds is not None:
        report("bad_duration", entry.video, seconds, entry.where)


def _read_prepared(path: Any) -> Iterator[Entry]:
    index = path / _INDEX
    content = load_sealed(index, "Prepare the data set again.")
    classes = content.get("classes")  # older versions wrote them beside it alone
    if classes is None:
        lines = read_text(path / _CLASSES).split("\n")
        classes = [line.strip() for line in lines if line.strip()]
    classes = ["", *classes]  # labels count from 1
    try:
        for row in content["recordings"]:
            video, split = row["video"], row["split"]
            if not (isinstance(video, str) and isinstance(split, str)):
                raise ValueError(f"video {video!r}, split {split!r}")
            where = f"{index}, video {video}"
            entry = Entry(video, where, {split: where})
            entry.durations = {_finite(row["duration"]): where}
            for (start, end), label in zip(row["segments"], row["labels"], strict=True):
                action = Action(_finite(start), _finite(end), classes[max(label, 0)], where)
                entry.actions.append(action)
                if not action.label:
                    raise ValueError(f"label {label}")
            yield entry
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{index}: not the index that prepare wrote ({error!r}); prepare the data set again"
        ) from error


def _finite(value: object) -> float:
    if (number := _number(value)) is None:
        raise ValueError(f"{shown(value)} is no finite number")
    return number


def _add(entry: Entry, segment: list[Any], label: object, where: str, report: ReportDefect) -> None:
    """Adds an action, if its two times are numbers and its label is a name."""
    text = str(label).strip() if isinstance(label, str | int) else ""
    name = clean_label(text)
    start, end = map(_seconds, segment)
    if not name or isinstance(label, bool):
        report("bad_action", entry.video, f"label {shown(label)}", where)
    elif start is None or end is None:
        report("bad_time", entry.video, f"[{', '.join(map(shown, segment))}] {name}", where)
    else:
        if name != unicodedata.normalize("NFC", text):
            report("label_changed", entry.video, f"{text!a} is {name!r}", where)
        elif name != text:
            report(NOTE, "", f"label {text!a} is read in Unicode form NFC: {name!r}", "")
        entry.actions.append(Action(start, end, name, where))


def _seconds(value: object) -> float | None:
    """Returns the seconds of a number or of a clock's HH:MM:SS.xx, or None."""
    if isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        hours, minutes, seconds = clock.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds.replace(",", "."))
    return _number(value)


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
