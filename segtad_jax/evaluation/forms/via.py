"""VIA, the VGG video annotator (version 3): projects (json), and its export as csv.

The form: https://gitlab.com/vgg/via/-/blob/master/via-3.x.y/CodeDoc.md. `metadata` has a segment
each: `vid` names a view of one file, `z` has the seconds of start and end, `xy` a region, and `av`
the value of each attribute, for those with options the option's key.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from segtad_jax.evaluation.entries import (
    NOTE,
    Entry,
    Reading,
    ReportDefect,
    add_interval,
    shown,
)
from segtad_jax.evaluation.forms.layers import Detections, Interval, Writing, choose_tiers
from segtad_jax.evaluation.json_files import InputError

_TEXT, _CHECKBOX, _SELECT = 1, 2, 4  # types of attributes
_SEGMENT = "FILE1_Z2_XY0"  # what an attribute of segments is anchored to
_HEAD = "# CSV_HEADER"


def matches(content: object) -> bool:
    """Returns whether the value of a json is a project."""
    return isinstance(content, dict) and content.keys() >= {"metadata", "attribute", "view", "file"}


def matches_csv(text: str) -> bool:
    """Returns whether a text is an exported csv."""
    return text.startswith("#") and _HEAD in text


def read(content: Any, path: object, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields an entry a view, called as its first file.

    Raises:
        InputError: it is no project of VIA 3, or several attributes may have the classes.
    """
    try:
        files = {
            view: content["file"][str(fields["fid_list"][0])]["fname"]
            for view, fields in content["view"].items()
        }
        attributes = dict(content["attribute"])
        segments = [
            (
                str(row["vid"]),
                row["z"],
                row["xy"],
                dict(row["av"]),
                f"{path}, metadata {shown(key)}",
            )
            for key, row in content["metadata"].items()
        ]
        entries = {v: Entry.of_file(file, f"{path}, view {shown(v)}") for v, file in files.items()}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not as VIA 3 writes its projects: {error!r}") from error
    yield from _entries(entries, attributes, segments, path, report, reading)


def read_csv(content: str, path: Any, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields an entry a file of an exported csv.

    Raises:
        InputError: it is not as VIA 3 exports it, or several attributes may have the classes.
    """
    attributes: dict[str, Any] = {}
    for line in content.split("\n"):
        name, _, value = line.partition("=")
        if name.strip() in ("# ATTRIBUTE", "# ATTRIBUTES"):  # older versions have names alone
            attributes = _loaded(value, f"{path}, {name.strip()}", dict)
    rows = "\n".join("" if line.startswith("#") else line for line in content.split("\n"))
    entries: dict[str, Entry] = {}
    segments = []
    table = csv.reader(io.StringIO(rows, newline=""))
    try:
        for row in table:
            if not any(row):
                continue
            where = f"{path}, line {table.line_num}"
            if len(row) < 6:
                raise InputError(f"{where}: has {len(row)} of the 6 columns that VIA 3 exports")
            names, z, xy = (_loaded(row[index], where, list) for index in (1, 3, 4))
            file = names[0] if names and isinstance(names[0], str) else ""
            entries.setdefault(file, Entry.of_file(file, where))
            segments.append((file, z, xy, _loaded(row[5], where, dict), where))
    except csv.Error as error:
        raise InputError(f"{path}, line {table.line_num}: not csv: {error}") from error
    yield from _entries(entries, attributes, segments, path, report, reading)


def _loaded(text: str, where: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise InputError(f"{where}: {shown(text)} is not json: {error}") from error
    if not isinstance(value, kind):
        raise InputError(f"{where}: {shown(text)} is no {kind.__name__}")
    return value


def _entries(
    entries: Mapping[str, Entry],
    attributes: Mapping[str, Any],
    segments: list[tuple[str, Any, Any, dict[str, Any], str]],
    path: object,
    report: ReportDefect,
    reading: Reading,
) -> Iterator[Entry]:
    specs = {key: spec if isinstance(spec, dict) else {} for key, spec in attributes.items()}
    tiers: dict[str, list[Interval]] = {}
    videos: dict[str, Entry] = {}
    temporal = []
    for video, times, region, values, where in segments:
        if video not in entries:
            raise InputError(f"{where}: vid {video!r} is no view of the project")
        if region or times == []:
            text = "what VIA says of regions and of whole files is not read: it has no two times"
            report(NOTE, "", text, "regions")
        elif not isinstance(times, list) or len(times) > 2 or not values:
            report("bad_action", entries[video].video, f"{times} {values}", where)
        else:
            temporal.append((times, values, where))
            videos[where] = entries[video]
    used = {key for _, values, _ in temporal for key in values}
    # Attributes with a choice of values have classes; a text has them only where that is all.
    chosen = {key for key in used if specs.get(key, {}).get("type") != _TEXT} or used
    if used - chosen:
        names = ", ".join(shown(_name(specs, attributes, key)) for key in sorted(used - chosen))
        report(NOTE, "", f"VIA's attributes of free text are not read: {names}", "attributes")
    for times, values, where in temporal:
        if not (keys := sorted(values.keys() & chosen)):
            report("bad_action", videos[where].video, f"{times} {values}", where)
        for key in keys:
            rows = tiers.setdefault(_name(specs, attributes, key), [])
            end = times[1] if len(times) > 1 else None
            rows += [
                Interval(times[0], end, t, where) for t in _labels(specs.get(key), values[key])
            ]
    for start, end, text, where in choose_tiers(tiers, path, report, reading):
        add_interval(videos[where], start, end, text, where, report, reading)
    yield from entries.values()


def _name(specs: Mapping[str, Any], attributes: Mapping[str, Any], key: str) -> str:
    name = specs.get(key, {}).get("aname", attributes.get(key, key))
    return name if isinstance(name, str) else key


def _labels(spec: Mapping[str, Any] | None, value: object) -> list[str]:
    """Returns the texts of the options that a value names, or the value where it names none."""
    spec = spec or {}
    options = spec.get("options")
    options = options if isinstance(options, dict) else {}
    keys = str(value).split(",") if spec.get("type") == _CHECKBOX else [str(value)]
    return [str(options.get(key, key)) for key in keys]


def write(results: Mapping[str, Detections], writing: Writing) -> str:
    """Returns a project; the scores are values of a second attribute."""
    labels = sorted({label for rows in results.values() for _, _, label, _ in rows})
    options = {label: str(index) for index, label in enumerate(labels)}
    views = {str(index): video for index, video in enumerate(results, start=1)}
    attribute = {"anchor_id": _SEGMENT, "desc": "", "default_option_id": ""}
    metadata = {}
    for view, video in views.items():
        for index, (start, end, label, score) in enumerate(results[video]):
            values = {"1": options[label], "2": f"{score:.6g}"}
            times = [round(start, 3), round(end, 3)]
            segment = {"vid": view, "flg": 0, "z": times, "xy": [], "av": values}
            metadata[f"{view}_{index:08}"] = segment
    project = {
        "project": {
            "pid": "__VIA_PROJECT_ID__", "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__", "pname": "detections",
            "creator": "segtad_jax", "created": 0, "vid_list": list(views),
        },
        "config": {
            "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
            "ui": {
                "file_content_align": "center", "file_metadata_editor_visible": True,
                "spatial_metadata_editor_visible": True, "spatial_region_label_attribute_id": "",
                "gtimeline_visible_row_count": "4",
            },
        },
        "attribute": {
            "1": attribute | {
                "aname": "TEMPORAL-SEGMENTS", "type": _SELECT,
                "options": {key: label for label, key in options.items()},
            },
            "2": attribute | {"aname": "score", "type": _TEXT, "options": {}},
        },
        "file": {
            view: {"fid": view, "fname": writing.media(video), "type": 4, "loc": 1, "src": ""}
            for view, video in views.items()
        },
        "metadata": metadata,
        "view": {view: {"fid_list": [view]} for view in views},
    }  # fmt: skip
    return json.dumps(project, ensure_ascii=False) + "\n"
