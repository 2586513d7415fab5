"""Files of annotations -> drafts of videos, one for each entry or line, in the files' order."""

import csv
import dataclasses
import io
import json
import math
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath

Report = Callable[[str, str, object, str], None]  # kind of defect, video, value, where


class AnnotationError(ValueError):
    """A file that cannot be read at all; the message names it and says what was expected."""


@dataclasses.dataclass(frozen=True)
class Action:
    """One annotated action; times in seconds, not yet checked against the duration."""

    start: float
    end: float
    label: str
    where: str  # file and place


@dataclasses.dataclass
class Draft:
    """A video while its files are read."""

    video: str
    where: str
    subset: str | None = None
    duration: float | None = None
    covered: float | None = None
    actions: list[Action] = dataclasses.field(default_factory=list)

    def complete(self, other: "Draft") -> None:
        """Takes what another file or line says, where this one says nothing."""
        self.subset = self.subset or other.subset
        self.duration = other.duration if self.duration is None else self.duration
        self.covered = other.covered if self.covered is None else self.covered
        self.actions += other.actions


def bare(video: str) -> str:
    """The id by which files and annotations find each other: without `v_`, in one Unicode form."""
    return unicodedata.normalize("NFC", video).removeprefix("v_")


def read_file(
    path: epath.Path, report: Report, *, durations: bool = False
) -> Iterator[tuple[str, Draft]]:
    """(id, draft) of every entry or line of a file, by its ending, or of a folder of txt files.

    Args:
      path: of a json or csv file or of THUMOS14's folder.
      report: takes what is wrong.
      durations: also take a json {id: seconds}.

    Raises:
      AnnotationError: the file cannot be read or has another form.
    """
    if path.is_dir():
        yield from _read_txt_folder(path, report)
    elif path.suffix == ".csv":
        yield from _read_csv(path, report)
    elif path.suffix == ".json":
        yield from _read_json(path, report, durations)
    else:
        raise AnnotationError(
            f"{path}: annotations are a .json or .csv file, or the folder of THUMOS14's txt files"
            + ("" if path.exists() else "; and there is no such file")
        )


def _read_json(path: epath.Path, report: Report, durations: bool) -> Iterator[tuple[str, Draft]]:
    content = _load_json(path, report)
    if not isinstance(content, dict):
        raise AnnotationError(f"{path}: expected an object with 'database', found {shown(content)}")
    database = content.get("database")
    if database is None and "results" in content:
        raise AnnotationError(f"{path}: this is a file of results, not of annotations")
    if database is None and any(_is_bmn(entry) for entry in content.values()):
        database = content
    elif database is None and durations and all(not isinstance(v, dict) for v in content.values()):
        database = {video: {"duration": seconds} for video, seconds in content.items()}
    if not isinstance(database, dict):
        keys = ", ".join(map(repr, list(content)[:5])) or "none"
        raise AnnotationError(
            f"{path}: expected ActivityNet's form, an object with 'database': {{id: ...}}, or "
            f"BMN's, {{id: {{'duration_second': ...}}}}; the keys are {keys}"
        )
    seen: dict[str, str] = {}
    for name, entry in database.items():
        where = f"{path}, video {shown(name)}"
        if seen.setdefault(bare(name), name) != name:
            report("repeated_video", name, f"{name} and {seen[bare(name)]}", where)
        elif not isinstance(entry, dict):
            report("bad_video", name, entry, where)
        else:
            yield name, _json_video(name, entry, where, report)


def _is_bmn(entry: object) -> bool:
    return isinstance(entry, dict) and "duration_second" in entry


def _json_video(name: str, entry: dict[str, Any], where: str, report: Report) -> Draft:
    draft = Draft(name, where)
    if entry.get("subset") is not None:
        draft.subset = str(entry["subset"])
    seconds = entry["duration_second"] if _is_bmn(entry) else entry.get("duration")
    draft.duration = _duration(seconds, name, where, report)
    draft.covered = _covered(
        draft.duration, entry.get("duration_frame"), entry.get("feature_frame")
    )
    annotations = entry.get("annotations") or []  # a testing video may have none
    if not isinstance(annotations, list):
        report("bad_video", name, annotations, f"{where}: 'annotations' is no list")
        annotations = []
    for position, action in enumerate(annotations):
        place = f"{where}, annotation {position}"
        segment = action.get("segment") if isinstance(action, dict) else None
        if not (isinstance(segment, list) and len(segment) == 2):
            report("bad_action", name, action, place)
        else:
            _add(draft, segment, action.get("label"), place, report)
    return draft


def _read_csv(path: epath.Path, report: Report) -> Iterator[tuple[str, Draft]]:
    lines = csv.DictReader(io.StringIO(_read_text(path), newline=""))
    try:
        lines.fieldnames = [_column(name) for name in lines.fieldnames or ()]
        columns = set(lines.fieldnames)
        rows = [(lines.line_num, row) for row in lines]
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {lines.line_num}: not csv: {error}") from error
    label = "label" if "label" in columns else "type"  # THUMOS14's
    with_actions = {"video", "start", "end", label} <= columns
    if not with_actions and not (
        "video" in columns and columns & {"duration", "seconds", "subset"}
    ):
        raise AnnotationError(
            f"{path}: the first line must name the columns video,start,end,label (or type for "
            "label, as THUMOS14 does) and may name subset,duration; or video with duration, "
            f"seconds or subset alone. It has: {', '.join(sorted(columns)) or 'nothing'}"
        )
    for number, row in rows:
        where = f"{path}, line {number}"
        video = (row["video"] or "").strip()
        draft = Draft(video, where, subset=(row.get("subset") or "").strip() or None)
        seconds = (row.get("duration") or row.get("seconds") or "").strip() or None
        draft.duration = _duration(seconds, video, where, report)
        draft.covered = _covered(draft.duration, row.get("numFrame"), row.get("featureFrame"))
        if with_actions:
            start, end, name = row["start"], row["end"], row[label]
            # A line of a video and nothing else tells of a video without actions.
            if any((cell or "").strip() for cell in (start, end, name)):
                _add(draft, [start, end], name, where, report)
        yield video, draft


def _column(name: str) -> str:
    """A column by the name that is used here; other files of THUMOS14 write `video-name`."""
    return name.strip().removesuffix("-name").removeprefix("video-") or name


def _read_txt_folder(path: epath.Path, report: Report) -> Iterator[tuple[str, Draft]]:
    files = sorted(path.glob("*_*.txt"))
    if not files:
        raise AnnotationError(f"{path}: has no file CLASS_val.txt or CLASS_test.txt, as THUMOS14")
    for file in files:
        label, _, ending = file.stem.rpartition("_")
        for number, line in enumerate(_read_text(file).splitlines(), start=1):
            where, parts = f"{file}, line {number}", line.split()
            if len(parts) not in (0, 3):
                report("bad_action", parts[0], line, where)
            elif parts:
                name, start, end = parts
                draft = Draft(name, where, subset={"val": "training"}.get(ending, ending))
                if label == "Ambiguous":
                    report("ambiguous", name, f"[{start}, {end}]", where)
                else:
                    _add(draft, [start, end], label, where, report)
                yield name, draft


def _add(draft: Draft, segment: list[Any], label: object, where: str, report: Report) -> None:
    """Adds an action, if its two times are numbers and its label is a name."""
    name = str(label).strip() if isinstance(label, str | int) else ""
    start, end = map(_number, segment)
    if not name or isinstance(label, bool):
        report("bad_action", draft.video, f"label {shown(label)}", where)
    elif start is None or end is None:
        report("bad_time", draft.video, f"[{', '.join(map(shown, segment))}] {name}", where)
    else:
        draft.actions.append(Action(start, end, name, where))


def _duration(value: object, video: str, where: str, report: Report) -> float | None:
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None or seconds <= 0:
        report("bad_duration", video, value, where)
        return None
    return seconds


def _covered(duration: float | None, frames: object, used: object) -> float | None:
    """BMN: the seconds that the features cover, of the frames of the video and of the features."""
    total, part = _number(frames), _number(used)
    if duration is None or not total or not part or total <= 0 or part <= 0:
        return None
    return part / total * duration


def _number(value: object) -> float | None:
    """A finite number; some data sets write it as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or "_" in str(value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _load_json(path: epath.Path, report: Report) -> Any:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record: dict[str, Any] = {}
        for key, value in pairs:
            if key in record:  # the json module would keep the last one without a word
                report("repeated_video", key, f"the key {key!r} twice in one object", str(path))
            else:
                record[key] = value
        return record

    try:
        return json.loads(_read_text(path), object_pairs_hook=build)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise AnnotationError(f"{path}: not json ({place}: {error.msg})") from error
    except (RecursionError, ValueError) as error:
        raise AnnotationError(f"{path}: not json of annotations ({error})") from error


def _read_text(path: epath.Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise AnnotationError(f"{path}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: not UTF-8 text (byte {error.start})") from error


def shown(value: object) -> str:
    """A value of a file as text that fits into a message."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
