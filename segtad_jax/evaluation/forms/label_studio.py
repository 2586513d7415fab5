"""Label Studio: exports as JSON or JSON-MIN, with labels of times in video, series and audio.

The forms: https://labelstud.io/guide/export and https://labelstud.io/tags/timelinelabels,
.../timeserieslabels. On a video the ranges are frames, counted from 1, both ends included; how many
are a second stands in the labelling interface alone. In a series they are values of its time
column; on audio they are seconds. A task may have several annotations, of several people.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from segtad_jax.evaluation.entries import (
    NOTE,
    Entry,
    Reading,
    ReportDefect,
    add_action,
    add_interval,
    number,
    shown,
)
from segtad_jax.evaluation.forms.layers import Detections, Writing
from segtad_jax.evaluation.ids import has_file_ending

_KINDS = ("timelinelabels", "timeserieslabels", "labels")
_ANNOTATED = {"annotations", "completions", "predictions"}
_UPLOADED = re.compile(r"(/upload/.*/)[0-9a-f]{8}-")  # what Label Studio puts before a name


def matches(content: object) -> bool:
    """Returns whether the value of a json is a list of tasks, or one."""
    if isinstance(content, list):
        tasks = [task for task in content if isinstance(task, dict)]
        known = any(task.keys() & _ANNOTATED or _minimal(task) for task in tasks)
        return known and len(tasks) == len(content)
    return isinstance(content, dict) and content.keys() >= {"data", "annotations"}


def read(content: Any, path: object, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields an entry a task.

    Raises:
        InputError: it has frames, and no --label_fps says how many are a second.
    """
    tasks = content if isinstance(content, list) else [content]
    drafts = not any(_annotations(task) or _minimal(task) for task in tasks)
    if drafts and any(task.get("predictions") for task in tasks):
        text = f"{path}: no task is annotated yet: the predictions in it are read instead"
        report(NOTE, "", text, "predictions")
    for position, task in enumerate(tasks):
        where = f"{path}, task {shown(task.get('id', position))}"
        data = task.get("data")
        data = data if isinstance(data, dict) else task
        entry = _entry(data, task, where)
        given = _annotations(task, "predictions") if drafts else _annotations(task)
        if len(given) > 1:
            text = "of several annotations of a task the ground truth counts, or the first"
            report(NOTE, "", text, "several")
        if not given and not _minimal(task):
            report("not_annotated", entry.video, "a task without an annotation", where)
            continue
        truth = (
            next((one for one in given if one.get("ground_truth") is True), given[0])
            if given
            else {}
        )
        regions = truth.get("result") if given else _minimal(task)
        if not isinstance(regions, list):
            report("bad_video", entry.video, f"result {shown(regions)}", where)
            continue
        for index, region in enumerate(regions):
            _add(entry, region, f"{where}, region {index}", report, reading)
        yield entry


def _annotations(task: Mapping[str, Any], key: str = "annotations") -> list[dict[str, Any]]:
    given = task.get(key, task.get("completions") if key == "annotations" else None)
    given = given if isinstance(given, list) else []
    return [one for one in given if isinstance(one, dict) and not one.get("was_cancelled")]


def _minimal(task: Mapping[str, Any]) -> list[Any]:
    """Returns the regions of a task in JSON-MIN, which has them beside the data."""
    lists = [value for value in task.values() if isinstance(value, list)]
    return [r for rows in lists for r in rows if isinstance(r, dict) and r.keys() & set(_KINDS)]


def _entry(data: Mapping[str, Any], task: Mapping[str, Any], where: str) -> Entry:
    texts = [value for value in data.values() if isinstance(value, str)]
    files = [text for text in texts if has_file_ending(text)] or texts
    files = [*files, str(task.get("file_upload") or f"task {task.get('id')}")]
    return Entry.of_file(_UPLOADED.sub(r"\1", files[0]), where)


def _add(entry: Entry, region: object, where: str, report: ReportDefect, reading: Reading) -> None:
    value = region.get("value", region) if isinstance(region, dict) else None
    kind = next((k for k in _KINDS if k in value), "") if isinstance(value, dict) else ""
    if not isinstance(value, dict) or (kind and not isinstance(value[kind], list)):
        report("bad_action", entry.video, region, where)
        return
    if not kind or (kind == "labels" and "text" in value):
        name = region.get("type", "others") if isinstance(region, dict) else "others"
        text = f"of Label Studio's regions those of time are read, not {shown(name)}"
        report(NOTE, "", text, f"kind {name}")
        return
    if kind == "timelinelabels":
        segments = _ranges(value.get("ranges"), where, reading)
    else:
        segments = [(value.get("start"), value.get("end"))]
    for label in value[kind]:
        for start, end in segments or [(None, None)]:
            if kind == "timeserieslabels" and start != end and not value.get("instant"):
                add_action(entry, [start, end], label, where, report, reading)
            else:
                add_interval(entry, start, end, label, where, report, reading)


def _ranges(ranges: object, where: str, reading: Reading) -> list[tuple[Any, Any]]:
    """Returns the seconds of ranges of frames, of which the first is 1 and the last is in it."""
    fps = reading.frames(
        where,
        "Label Studio's times of videos are frames (24 a second, or what "
        "frameRate of <Video> says)",
    )
    segments = []
    for one in ranges if isinstance(ranges, list) else []:
        first, last = (
            (number(one.get(k)) for k in ("start", "end"))
            if isinstance(one, dict)
            else (None, None)
        )
        bad = first is None or last is None
        segments.append((None, None) if bad else ((first - 1) / fps, last / fps))  # type: ignore[operator]
    return segments


def write(results: Mapping[str, Detections], writing: Writing) -> str:
    """Returns tasks with predictions: of videos if there is a `label_fps`, of time series else."""
    kind = "timelinelabels" if writing.label_fps else "timeserieslabels"
    names = {"from_name": "label", "to_name": "video" if writing.label_fps else "ts", "type": kind}
    tasks = []
    for video, rows in results.items():
        regions: list[dict[str, Any]] = []
        for index, (start, end, label, score) in enumerate(rows):
            value = {**_span(start, end, writing), kind: [label]}
            regions.append({"id": f"{index:08}", **names, "value": value, "score": score})
        best = max((score for *_, score in rows), default=0.0)
        file = writing.media(video, ".mp4" if writing.label_fps else ".csv")
        prediction = {"model_version": "segtad_jax", "score": best, "result": regions}
        tasks.append({"data": {names["to_name"]: file}, "predictions": [prediction]})
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"


def _span(start: float, end: float, writing: Writing) -> dict[str, Any]:
    if not writing.label_fps:
        return {"start": round(start, 3), "end": round(end, 3), "instant": False}
    first = round(start * writing.label_fps) + 1
    return {"ranges": [{"start": first, "end": max(round(end * writing.label_fps), first)}]}
