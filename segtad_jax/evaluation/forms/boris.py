"""BORIS: projects (.boris, which are json) and its exports of events, tabular and aggregated.

Documented at https://www.boris.unito.it/user_guide/. An event of a project is `[time, subject,
behaviour, modifiers, comment, ...]`; of a state its odd events start it and its even ones stop it,
for each subject and choice of modifiers. Times run on over media files that are played one after
another, and have the observation's time offset added.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segtad_jax.evaluation.entries import (
    NOTE,
    Entry,
    Reading,
    ReportDefect,
    add_interval,
    number,
    seconds_of_clock,
    shown,
)
from segtad_jax.evaluation.forms.layers import Detections, Writing, layers
from segtad_jax.evaluation.json_files import InputError

_MEDIA = ("media file name", "media file path", "media file")
_NONE = ("", "NA", "Not found", "None")
_CARRY_ON = "export the project itself (.boris), which has the length of each file"


def matches(content: object) -> bool:
    """Returns whether the value of a json is a project."""
    return isinstance(content, dict) and content.keys() >= {"observations", "behaviors_conf"}


def read(content: Any, path: object, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields an entry a media file, of a live observation one under its name.

    Raises:
        InputError: it is no project of BORIS, or has files one after another of unknown length.
    """
    try:
        behaviours = content["behaviors_conf"].values()
        states = {str(each["code"]): "state" in each["type"].lower() for each in behaviours}
        observations = dict(content["observations"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not as BORIS writes its projects: {error!r}") from error
    for name, observation in observations.items():
        where = f"{path}, observation {shown(name)}"
        if not isinstance(observation, dict) or observation.get("type") == "IMAGES":
            report("bad_video", name, "an observation of pictures, or none", where)
            continue
        events = _events(observation, name, where, report)
        media = _media(observation, where, report)
        shift = number(observation.get("time offset") or 0) or 0.0
        _note_shift(shift, report)
        entries = [Entry.of_file(file, where) for file in media] or [Entry(name, where)]
        lengths = _lengths(observation, media)
        if len(entries) > 1 and None in lengths:
            raise InputError(
                f"{where}: has {len(media)} files, but not the length of each in BORIS' "
                "'media_info'; open the observation in BORIS once and save it"
            )
        for entry, seconds in zip(entries, lengths, strict=True):
            entry.describe(None, seconds, report)
        starts = [sum(lengths[:index]) for index in range(len(entries))] if media else [0.0]
        for start, stop, label, place in _paired(events, states, name, report):
            index = max((i for i, at in enumerate(starts) if at <= start - shift), default=0)
            begin = shift + starts[index]
            end = None if stop is None else _difference(stop, begin)
            first = _difference(start, begin)
            add_interval(entries[index], first, end, label, place, report, reading)
        yield from entries


def _difference(seconds: float, other: float) -> float:
    return round(seconds - other, 6)  # of decimals


def _media(observation: Mapping[str, Any], where: str, report: ReportDefect) -> list[str]:
    players = observation.get("file")
    players = players if isinstance(players, dict) else {}
    used = {key: files for key, files in players.items() if isinstance(files, list) and files}
    if len(used) > 1:
        text = "observations of several players are called by the files of the first"
        report(NOTE, "", text, "players")
    first = used.get("1", [])
    if not all(isinstance(file, str) for file in first):
        raise InputError(f"{where}: 'file' must be {{player: [files]}}, not {shown(players)}")
    return first


def _lengths(observation: Mapping[str, Any], media: Sequence[str]) -> list[Any]:
    info = observation.get("media_info")
    lengths = info.get("length") if isinstance(info, dict) else None
    found = lengths if isinstance(lengths, dict) else {}
    values = [number(found.get(file)) for file in media]
    return [value if value is None or value > 0 else None for value in values] or [None]


def _events(
    observation: Mapping[str, Any], name: str, where: str, report: ReportDefect
) -> list[tuple[float, tuple, str]]:
    """Returns (time, (subject, behaviour, modifiers), place) in the order of the times."""
    events = []
    rows = observation.get("events")
    if not isinstance(rows, list):
        report("bad_video", name, f"events {shown(rows)}", where)
        rows = []
    for index, row in enumerate(rows):
        place = f"{where}, event {index}"
        time = number(row[0]) if isinstance(row, list) and len(row) >= 4 else None
        if time is None or not all(isinstance(field, str) for field in row[1:4]):
            report("bad_action", name, row, place)
        else:
            events.append((time, tuple(row[1:4]), place))
    _note_rest({key for _, key, _ in events}, report)
    return sorted(events, key=lambda event: event[0])


def _note_rest(keys: set[tuple], report: ReportDefect) -> None:
    if len(subjects := sorted({subject for subject, _, _ in keys if subject})) > 1:
        text = f"subjects are not told apart: {shown(', '.join(subjects))}"
        report(NOTE, "", text, "subjects")
    if any(modifiers not in ("", "None") for _, _, modifiers in keys):
        report(NOTE, "", "BORIS' modifiers are not read: a behaviour is one class", "modifiers")


def _note_shift(shift: float, report: ReportDefect) -> None:
    if shift:
        text = f"BORIS' time offset of {shift:g} s is subtracted, as in its player"
        report(NOTE, "", text, "offset")


def _paired(
    events: Sequence[tuple[float, tuple, str]],
    states: Mapping[str, bool],
    video: str,
    report: ReportDefect,
) -> Iterator[tuple[float, float | None, str, str]]:
    """Yields (start, stop, behaviour, place); a point event has no stop."""
    started: dict[tuple, tuple[float, str]] = {}
    for time, key, place in events:
        behaviour = key[1]
        if behaviour not in states:
            report("bad_action", video, f"{behaviour} is not in the project's ethogram", place)
        elif not states[behaviour]:
            yield time, None, behaviour, place
        elif key in started:
            start, first = started.pop(key)
            yield start, time, behaviour, first
        else:
            started[key] = time, place
    for (_, behaviour, _), (time, place) in started.items():
        report("bad_action", video, f"{behaviour} starts at {time:g} and does not stop", place)


def is_table(header: Sequence[str]) -> bool:
    """Returns whether these are the columns of an export of events."""
    names = {cell.strip().lower() for cell in header}
    return "behavior" in names and (
        names >= {"behavior type", "start (s)", "stop (s)"}
        or ("time" in names and bool(names & {"behavior type", "status"}))
    )


def read_table(
    above: Sequence[str],
    header: Sequence[str],
    rows: Iterator[tuple[int, dict[str, str]]],
    path: Any,
    report: ReportDefect,
    reading: Reading,
) -> Iterator[Entry]:
    """Yields an entry an event of an aggregated table, or a pair of START and STOP of another.

    Args:
        above: what older versions write above the header, name and value in turn.
        header: the columns.
        rows: numbers of lines, and their cells.
        path: the file.
        report: called with each defect.
        reading: of the file.

    Raises:
        InputError: an observation has files one after another, and their lengths are not there.
    """
    whole = {name.lower(): value for name, value in zip(above[::2], above[1::2], strict=False)}
    kinds = "behavior type" if "behavior type" in {name.lower() for name in header} else "status"
    aggregated = "start (s)" in {name.lower() for name in header}
    files: dict[str, str] = {}  # of each observation
    keys: set[tuple] = set()
    started: dict[tuple, tuple[str, Entry, float, str]] = {}
    for line, named in rows:
        where = f"{path}, line {line}"
        cells = whole | {name.lower(): value for name, value in named.items()}
        observation = cells.get("observation id", "")
        file = next((cells[name] for name in _MEDIA if cells.get(name, "") not in _NONE), "")
        entry = Entry.of_file(file, where) if file else Entry(observation, where)
        shift, duration = _place(cells, file, files.setdefault(observation, file) or file, where)
        _note_shift(number(cells.get("time offset (s)", 0)) or 0.0, report)
        entry.describe(None, duration, report)
        label, kind = cells.get("behavior", ""), cells.get(kinds, "").upper()
        modifiers = "|".join(v for n, v in cells.items() if n.startswith("modifier") and v)
        key = (observation, cells.get("subject", ""), label, modifiers)
        keys.add(key[1:])
        times = [
            cells.get(name, "") for name in (("start (s)", "stop (s)") if aggregated else ("time",))
        ]
        values = [_minus(time, shift) for time in times]
        if kind in ("POINT", "STATE"):
            end = values[-1] if kind == "STATE" else None
            add_interval(entry, values[0], end, label, where, report, reading)
        elif kind == "START" and key not in started:
            started[key] = where, entry, shift, times[0]
            continue
        elif kind == "STOP" and key in started:
            where, entry, shift, start = started.pop(key)
            begin, end = _minus(start, shift), _minus(times[0], shift)
            add_interval(entry, begin, end, label, where, report, reading)
        else:
            report("bad_action", entry.video, f"{label}: {kind or 'no type'} {times[0]}", where)
        yield entry
    for (_, _, label, _), (where, entry, _, time) in started.items():
        report("bad_action", entry.video, f"{label} starts at {time} and does not stop", where)
        yield entry
    _note_rest(keys, report)


def _minus(time: str, shift: float) -> object:
    seconds = number(time) if (clock := seconds_of_clock(time)) is None else clock
    return time if seconds is None else _difference(seconds, shift)


def _place(
    cells: Mapping[str, str], file: str, first: str, where: str
) -> tuple[float, float | None]:
    """Returns the time at which the file begins in its observation, and its seconds."""
    offset = number(cells.get("time offset (s)", 0)) or 0.0
    listed = cells.get("source", "").split("|")[0].partition(":")[2].split(";")
    text = next((cells[n] for n in ("media duration (s)", "total length") if n in cells), "")
    lengths = [number(part) for part in text.split("|")[0].split(";")]
    if len(listed) == len(lengths) > 1 and file in listed and None not in lengths:
        index = listed.index(file)
        return offset + sum(length or 0.0 for length in lengths[:index]), lengths[index]
    if (file and file != first) or len(listed) > 1:
        raise InputError(
            f"{where}: an observation of several files one after another, {shown(first)} "
            f"and {shown(file)}: {_CARRY_ON}"
        )
    return offset, lengths[0] if len(lengths) == 1 else None


def write(results: Mapping[str, Detections], writing: Writing) -> str:
    """Returns a project with an observation a recording; scores are comments."""
    labels = sorted({label for rows in results.values() for _, _, label, _ in rows})
    behaviours = {
        str(index): {
            "type": "State event", "key": "", "code": label, "description": "", "category": "",
            "modifiers": {}, "excluded": "", "coding map": "",
        }
        for index, label in enumerate(labels)
    }  # fmt: skip
    subjects: set[str] = set()
    observations = {}
    for video, rows in results.items():
        events: list[list[Any]] = []
        for label in labels:
            of_label = [row for row in rows if row[2] == label]
            for index, layer in enumerate(layers(of_label)):
                # A state of one subject cannot be on twice at a time.
                subject = f"detection {index + 1}" if index else ""
                subjects |= {subject} - {""}
                for start, end, _, score in layer:
                    fields = [subject, label, "", f"score {score:.6g}"]
                    events += [[round(start, 3), *fields], [round(end, 3), *fields]]
        observations[video] = {
            "file": {"1": [writing.media(video)]}, "type": "MEDIA", "date": "1970-01-01T00:00:00",
            "description": "detections", "time offset": 0.0, "events": sorted(events),
            "independent_variables": {}, "close_behaviors_between_videos": False,
            "media_info": {"length": {}, "fps": {}, "hasVideo": {}, "hasAudio": {}, "offset": {}},
        }  # fmt: skip
    project = {
        "time_format": "hh:mm:ss", "project_name": "detections", "project_description": "",
        "project_date": "1970-01-01T00:00:00", "project_format_version": "7.0",
        "behaviors_conf": behaviours, "behavioral_categories": [], "coding_map": {},
        "subjects_conf": {
            str(index): {"key": "", "name": name, "description": ""}
            for index, name in enumerate(sorted(subjects))
        },
        "independent_variables": {}, "converters": {}, "observations": observations,
    }  # fmt: skip
    return json.dumps(project, indent=1, ensure_ascii=False) + "\n"
