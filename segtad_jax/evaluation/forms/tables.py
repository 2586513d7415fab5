"""Tables: csv, tsv and the like, of `video,start,end,label` or of columns that a flag names.

Known by their header are THUMOS14's csv, Charades' with its packed cell `class start end;...`
(https://prior.allenai.org/projects/charades), EPIC-KITCHENS' (`narration_id,video_id,
start_timestamp,stop_timestamp,verb,noun,...`,
https://github.com/epic-kitchens/epic-kitchens-100-annotations) and the exports of BORIS.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segtad_jax.evaluation.confidence import confidence_of
from segtad_jax.evaluation.entries import NOTE, Entry, Reading, ReportDefect, add_action, shown
from segtad_jax.evaluation.forms import boris
from segtad_jax.evaluation.forms.activitynet import covered
from segtad_jax.evaluation.forms.layers import Detections, Writing
from segtad_jax.evaluation.ids import file_id
from segtad_jax.evaluation.json_files import InputError

FIELDS = ("video", "start", "end", "label", "subset", "duration", "origin")  # of --columns
_KNOWN = {*FIELDS, "type", "seconds", "actions"} - {"origin"}
_EPIC = {
    "video": "video_id",
    "start": "start_timestamp",
    "end": "stop_timestamp",
    "label": "verb",
}
_DECIMAL = re.compile(r"(-?\d+),(\d\d\d()|\d+)")
_OTHER_UNITS = {
    "ms": r"(^|[^a-z])(ms|msec|millis\w*)([^a-z]|$)",
    "us": r"(^|[^a-z])(us|usec|micros\w*|µs)([^a-z]|$)",
    "ns": r"(^|[^a-z])(ns|nsec|nanos\w*)([^a-z]|$)",
    "frames": r"frame",
}
_LIKELY = {  # names of columns that may be meant
    "video": r"video|file|recording|clip|media|session|^id$|_id$",
    "start": r"start|begin|began|onset|from|t0|t_0",
    "end": r"end|stop|finish|offset|until|^to$|t1|t_1",
    "label": r"label|class|activit|action|behavio|event|categor|tag|name|type",
}


def read(content: str, path: Any, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields an entry a line.

    Raises:
        InputError: it is no csv, or the columns that are needed are not there.
    """
    above, header, rows, separator = _rows(content, path, reading)
    if separator != "," and rows:
        name = "';'" if separator == ";" else "tabs"
        report(NOTE, "", f"{path.name}: its columns are separated by {name}", "")
    if boris.is_table(header):
        report(NOTE, "", f"{path.name}: by its columns events that BORIS exported", "")
        yield from boris.read_table(above, header, _named(header, rows), path, report, reading)
        return
    places = _places(header, path, report, reading)
    charades = "actions" in places
    if "video" not in places:
        text = (
            "tables without a column of recordings are of one each, which is called as the file, "
        )
        text += f"as {path.stem!r}; --columns=video=COLUMN names one"
        report(NOTE, "", text, "recordings")
    for line, row in rows:
        where = f"{path}, line {line}"
        cells = {name: cell for name, at in places.items() if (cell := row[at : at + 1])}
        values = {name: cell[0].strip() for name, cell in cells.items() if cell[0].strip()}
        if any(cell.strip() for cell in row[len(header) :]):
            value = f"{len(row)} cells in {len(header)} columns"
            report("bad_action", values.get("video", ""), value, where)
            continue
        for name in values.keys() & {"start", "end", "duration", "seconds"}:
            # Where commas separate the columns, 1,234 may be a thousand and more.
            if (comma := _DECIMAL.fullmatch(values[name])) and (
                separator != "," or comma[3] is None
            ):
                values[name] = f"{comma[1]}.{comma[2]}"
                report(NOTE, "", f"{path.name}: decimal commas are read as points", "")
        if "video" not in places:
            values["video"] = path.stem
        if charades:
            yield _charades_entry(values, where, report, reading)
        else:
            yield _entry(places, values, where, report, reading)


def _rows(
    text: str, path: Any, reading: Reading
) -> tuple[list[str], list[str], list[tuple[int, list[str]]], str]:
    """Returns the lines above the header, its cells, the numbered rows below, the separator."""
    lines = text.split("\n")
    first = next((index for index, line in enumerate(lines) if line.strip()), 0)
    known = _KNOWN | {name.lower() for name in reading.columns.values()}

    def likely(mark: str) -> tuple[int, int]:
        names = set(map(column, lines[first].split(mark)))
        return len(names & known), lines[first].count(mark)

    separator = max(",;\t", key=likely)
    table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows = []
    try:
        rows = [(table.line_num, row) for row in table if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{path}, line {table.line_num}: not csv: {error}") from error
    head = next((i for i, (_, row) in enumerate(rows[:100]) if boris.is_table(row)), 0)
    header = [cell.strip() for cell in rows[head][1]] if rows else []
    above = [cell.strip() for _, row in rows[:head] for cell in row[:2]]
    return above, header, rows[head + 1 :], separator


def column(name: str) -> str:
    """Returns the name used here; some files of THUMOS14 write `video-name`."""
    lower = name.strip().strip('"').lower()
    return lower.removesuffix("-name").removeprefix("video-")


def _named(
    header: Sequence[str], rows: Sequence[tuple[int, list[str]]]
) -> Iterator[tuple[int, dict[str, str]]]:
    for line, row in rows:
        yield line, {name: cell.strip() for name, cell in zip(header, row, strict=False)}


def _places(
    header: Sequence[str], path: Any, report: ReportDefect, reading: Reading
) -> dict[str, int]:
    """Returns {name used here: index of the column}."""
    names = [column(name) for name in header]
    places = {name: index for index, name in reversed(list(enumerate(names))) if name}
    if twice := sorted(name for name in places.keys() & _KNOWN if names.count(name) > 1):
        raise InputError(f"{path}: names the column {twice[0]!r} twice; rename one of them")
    wanted = dict(reading.columns)
    if places.keys() >= set(_EPIC.values()) and "video" not in places:
        wanted = _EPIC | wanted
        text = f"{path.name}: by its columns a table of EPIC-KITCHENS; the classes are its column "
        report(NOTE, "", f"{text}{wanted['label']!r}, --columns=label=NAME takes another", "")
    for name, theirs in wanted.items():
        exact = [index for index, cell in enumerate(header) if cell == theirs]
        alike = [index for index, cell in enumerate(header) if cell.lower() == theirs.lower()]
        if len(found := exact or alike) != 1:
            count = "no column" if not found else f"{len(found)} columns"
            raise InputError(
                f"{path}: has {count} {theirs!r}, as --columns={name}={theirs} says; its columns "
                f"are {shown(', '.join(header))}"
            )
        places[name] = found[0]
    charades = places.keys() >= {"id", "actions", "length"}
    if charades:
        return {
            "video": places["id"],
            "actions": places["actions"],
            "duration": places["length"],
        }
    places.pop("actions", None)
    if "label" not in places and "type" in places:  # THUMOS14
        places["label"] = places["type"]
    timed = places.keys() >= {"start", "end", "label"}
    of_one = timed and not any(re.search(_LIKELY["video"], name.lower()) for name in header)
    about = "video" in places and places.keys() & {"duration", "seconds", "subset"}
    if about and len(there := places.keys() & {"start", "end"}) == 1:
        (other,) = {"start", "end"} - there
        raise InputError(
            f"{path}: has a column {header[places[there.pop()]]!r} and none called {other!r}; its "
            f"columns are {shown(', '.join(header))}. --columns={other}=COLUMN names it. Where a "
            "row has the length of an action, add a column with start + length"
        )
    if not (about or of_one or (timed and "video" in places)):
        raise InputError(
            f"{path}: the first line must name the columns video,start,end,label (or type for "
            "label, as THUMOS14 does) and may name subset,duration; or video with duration, "
            f"seconds or subset alone. It is: {shown(','.join(header)) or 'empty'}"
            + _advice(header, places, wanted)
        )
    _check_unit(
        [header[places[name]] for name in ("start", "end") if name in places], path, reading
    )
    return places


def _advice(header: Sequence[str], places: Mapping[str, int], named: Mapping[str, str]) -> str:
    """Returns the flag that may be meant, if there is a column for everything."""
    chosen = dict(named)
    for name, pattern in _LIKELY.items():
        free = [cell for cell in header if cell and cell not in chosen.values()]
        if name in places:
            free = [header[places[name]]]
        likely = [cell for cell in free if name in places or re.search(pattern, cell.lower())]
        if name not in chosen and likely:
            chosen[name] = likely[0]
    if not chosen.keys() >= _LIKELY.keys():
        return ". --columns=video=A,start=B,end=C,label=D says what other columns are"
    pairs = ",".join(f"{name}={cell}" for name, cell in chosen.items() if column(cell) != name)
    return f'. If these are meant: --columns="{pairs}"'


def _check_unit(names: Sequence[str], path: Any, reading: Reading) -> None:
    for unit, pattern in _OTHER_UNITS.items():
        for name in names:
            if reading.unit is None and re.search(pattern, name.lower()):
                fps = " --label_fps=25, how many are a second" if unit == "frames" else ""
                raise InputError(
                    f"{path}: the column {name!r} seems to hold no seconds: say --unit={unit}{fps},"
                    " or --unit=s if it does"
                )


def _charades_entry(
    values: Mapping[str, str], where: str, report: ReportDefect, reading: Reading
) -> Entry:
    """Returns the entry of a line whose cell `actions` holds `class start end;class start end`."""
    entry = Entry(values.get("video", ""), where)
    entry.describe(None, values.get("duration"), report)
    for action in filter(None, values.get("actions", "").split(";")):
        parts = action.split()
        if len(parts) == 3:
            add_action(entry, parts[1:], parts[0], where, report, reading)
        else:
            report("bad_action", entry.video, action, where)
    return entry


def _entry(
    places: Mapping[str, int],
    values: Mapping[str, str],
    where: str,
    report: ReportDefect,
    reading: Reading,
) -> Entry:
    """Returns the entry of a line with at most one action."""
    video = values.get("video", "")
    entry = Entry(video, where)
    if "/" in video or "\\" in video:
        entry = Entry(file_id(video), where, media=video)
        text = f"videos are called by their files' names: {shown(video)} is {entry.video!r}"
        report(NOTE, "", text, "files")
    entry.describe(values.get("subset"), values.get("duration", values.get("seconds")), report)
    entry.covered = covered(entry.duration, values.get("numframe"), values.get("featureframe"))
    # A line that names a video and no action stands for a video without actions.
    if places.keys() >= {"start", "end", "label"} and values.keys() & {"start", "end", "label"}:
        segment = [values.get("start"), values.get("end")]
        label, origin = values.get("label"), values.get("origin")
        add_action(entry, segment, label, where, report, reading, origin)
    return entry


def write(results: Mapping[str, Detections], writing: Writing) -> str:
    """Returns a csv `video,start,end,label,score`, and `confidence` where there is one."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    knots = writing.confidence
    extra = ["confidence"] if knots else []
    table.writerow(["video", "start", "end", "label", "score", *extra])
    for video, rows in results.items():
        for start, end, label, score in sorted(rows):
            last = [f"{confidence_of([score], knots)[0]:.3f}"] if knots else []
            table.writerow([video, f"{start:.3f}", f"{end:.3f}", label, f"{score:.6g}", *last])
        if not rows:
            table.writerow([video, "", "", "", "", *[""] * len(extra)])
    return text.getvalue()
