"""CVAT: annotations.xml of "CVAT for video 1.1", and the tags of frames.

The form: https://docs.cvat.ai/docs/manual/advanced/xml_format/. A track has a label and is on from
a shape with outside="0" to one with outside="1"; a tag is of one frame. Frames are those of the
video, counted from 0; how many are a second the file does not say.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from segtad_jax.evaluation.entries import (
    NOTE,
    Entry,
    Reading,
    ReportDefect,
    add_action,
    number,
    shown,
)
from segtad_jax.evaluation.forms.layers import Detections, Writing
from segtad_jax.evaluation.json_files import InputError

ROOT = "annotations"


def read(root: ET.Element, path: Any, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields an entry a task.

    Raises:
        InputError: no --label_fps says how many frames are a second, or a frame is no number.
    """
    fps = reading.frames(path, "CVAT's times are frames")
    entries, steps = _tasks(root, path)
    tagged: dict[tuple[str, str], set[float]] = defaultdict(set)
    for element in root:
        if element.tag not in ("track", "tag", "image"):
            continue
        task = element.get("task_id", next(iter(entries)))
        where = f"{path}, {element.tag} {shown(element.get('id', ''))}"
        if task not in entries:
            raise InputError(f"{where}: task_id {task!r} is no task of the file")
        if element.tag == "track":
            for start, end in _runs(element, where, steps[task]):
                segment = [start / fps, end / fps]
                add_action(entries[task], segment, element.get("label"), where, report)
        for tag in element.iter("tag"):  # the element itself, or those in an image
            frame = _frame(element, "id" if element.tag == "image" else "frame", where)
            tagged[task, tag.get("label", "")].add(frame)
        if any(child.tag not in ("tag", "attribute") for child in element):
            text = "of CVAT's shapes the frames of tracks are read, no places and no attributes"
            report(NOTE, "", text, "shapes")
    for (task, label), frames in tagged.items():
        step, ordered = steps[task], sorted(frames)
        begins = [frame for frame in ordered if frame - step not in frames]
        ends = [frame + step for frame in ordered if frame + step not in frames]
        for start, end in zip(begins, ends, strict=True):
            where = f"{path}, tags of frames {start:g} to {end - step:g}"
            add_action(entries[task], [start / fps, end / fps], label, where, report)
    yield from entries.values()


def _tasks(root: ET.Element, path: Any) -> tuple[dict[str, Entry], dict[str, float]]:
    """Returns the recording of each task by its id, and its frames' distance."""
    entries, steps = {}, {}
    source = root.findtext("meta/source")
    for task in root.findall("meta/task") or root.findall("meta/project/tasks/task"):
        name = task.findtext("source") or source or task.findtext("name") or path.stem
        key = task.findtext("id") or ""
        entries[key] = Entry.of_file(name, f"{path}, task {shown(name)}")
        step = re.search(r"step=(\d{1,9})", task.findtext("frame_filter") or "")
        steps[key] = float(step[1]) if step else 1.0
    return entries or {"": Entry(path.stem, str(path))}, steps or {"": 1.0}


def _frame(element: ET.Element, name: str, where: str) -> float:
    if (frame := number(element.get(name))) is None:
        raise InputError(f"{where}: {name}={element.get(name)!r} is no number of a frame")
    return frame


def _runs(track: ET.Element, where: str, step: float) -> Iterator[tuple[float, float]]:
    """Yields the frames from which a track is on, and at which it is off."""
    shapes = [shape for shape in track if shape.get("frame") is not None]
    frames = sorted((_frame(s, "frame", where), s.get("outside") == "1") for s in shapes)
    start = None
    for frame, outside in frames:
        if outside and start is not None:
            yield start, frame
            start = None
        elif not outside and start is None:
            start = frame
    if start is not None:
        yield start, frames[-1][0] + step


def write(results: Mapping[str, Detections], writing: Writing) -> str:
    """Returns tracks of one recording, with a box in the corner and the score as an attribute.

    Raises:
        InputError: the frames a second are not given.
    """
    fps = writing.frames()
    ((video, detections),) = results.items()
    root = ET.Element(ROOT)
    ET.SubElement(root, "version").text = "1.1"
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    ET.SubElement(task, "name").text = video
    labels = ET.SubElement(task, "labels")
    for name in sorted({label for _, _, label, _ in detections}):
        ET.SubElement(ET.SubElement(labels, "label"), "name").text = name
    ET.SubElement(task, "source").text = writing.media(video)
    for index, (start, end, label, score) in enumerate(detections):
        track = ET.SubElement(root, "track", id=str(index), label=label)
        first = round(start * fps)
        for frame, outside in ((first, "0"), (max(round(end * fps), first + 1), "1")):
            box = ET.SubElement(
                track, "box", frame=str(frame), outside=outside, keyframe="1", occluded="0",
                xtl="0", ytl="0", xbr="10", ybr="10", z_order="0",
            )  # fmt: skip
            ET.SubElement(box, "attribute", name="score").text = f"{score:.6g}"
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, "unicode") + "\n"
