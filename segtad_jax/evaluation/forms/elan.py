"""ELAN: .eaf files, XML of a recording's annotations on tiers.

The form: "EAF: the ELAN annotation format, schema version 3.0",
https://www.mpi.nl/tools/elan/EAF_Annotation_Format_3.0_and_ELAN.pdf. Times are milliseconds, of
time slots that annotations refer to. Annotations that refer to others (REF_ANNOTATION) have no
times of their own.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from segtad_jax.evaluation.entries import (
    NOTE,
    Entry,
    Reading,
    ReportDefect,
    add_interval,
    number,
    shown,
)
from segtad_jax.evaluation.forms.layers import (
    Detections,
    Interval,
    Writing,
    choose_tiers,
    layer_name,
    layers,
)
from segtad_jax.evaluation.json_files import InputError

ROOT = "ANNOTATION_DOCUMENT"


def read(root: ET.Element, path: Any, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields the entry of the recording that the file names.

    Raises:
        InputError: its times are no milliseconds, or it has several tiers and none is named.
    """
    header = root.find("HEADER")
    units = "milliseconds" if header is None else header.get("TIME_UNITS", "milliseconds")
    if units != "milliseconds":
        raise InputError(f"{path}: TIME_UNITS is {units!r}, not milliseconds; save it with ELAN")
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    file = "" if media is None else media.get("RELATIVE_MEDIA_URL") or media.get("MEDIA_URL", "")
    entry = Entry.of_file(file, str(path)) if file else Entry(path.stem, str(path))
    if entry.video != path.stem:
        text = (
            f"recordings are called as the media in ELAN's files: {path.name} is of {entry.video!r}"
        )
        report(NOTE, "", text, "media")
    origin = number("0" if media is None else media.get("TIME_ORIGIN", "0"))
    if origin is None:
        raise InputError(f"{path}: TIME_ORIGIN {media.get('TIME_ORIGIN')!r} is no number")  # type: ignore[union-attr]
    if origin:
        text = (
            f"the time of ELAN's document begins {origin / 1000:g} s into the media, and is moved"
        )
        report(NOTE, "", text, "origin")
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    tiers: dict[str, list[Interval]] = {}
    for tier in root.iter("TIER"):
        name = tier.get("TIER_ID", "")
        rows = tiers.setdefault(name, [])
        for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
            place = f"{path}, tier {shown(name)}, annotation {annotation.get('ANNOTATION_ID')}"
            ends = (slots.get(annotation.get(f"TIME_SLOT_REF{n}")) for n in (1, 2))
            start, end = (_seconds(time, origin) for time in ends)
            text = annotation.findtext("ANNOTATION_VALUE") or ""
            rows.append(Interval(start, end, text, place))
        if any(True for _ in tier.iter("REF_ANNOTATION")):
            text = "ELAN's annotations without times of their own (REF_ANNOTATION) are not read"
            report(NOTE, "", text, "references")
    for start, end, text, place in choose_tiers(tiers, path, report, reading):
        add_interval(entry, start, end, text, place, report, reading)
    yield entry


def _seconds(time: str | None, origin: float) -> object:
    value = number(time)  # a slot between others may have no time
    return "no time" if value is None else (value + origin) / 1000


def write(results: Mapping[str, Detections], writing: Writing) -> str:
    """Returns the document of one recording; it has no place for scores."""
    ((video, detections),) = results.items()
    document = ET.Element(
        ROOT, AUTHOR="", DATE="1970-01-01T00:00:00+00:00", FORMAT="3.0", VERSION="3.0"
    )
    header = ET.SubElement(document, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    media = writing.media(video)
    ET.SubElement(
        header, "MEDIA_DESCRIPTOR", MEDIA_URL=media, RELATIVE_MEDIA_URL=f"./{media}",
        MIME_TYPE="video/*",
    )  # fmt: skip
    order = ET.SubElement(document, "TIME_ORDER")
    number_of = 0
    for index, layer in enumerate(layers(detections) or [[]]):
        name = layer_name(index)
        tier = ET.SubElement(document, "TIER", TIER_ID=name, LINGUISTIC_TYPE_REF="actions")
        for start, end, label, _ in layer:
            number_of += 1
            slots = [f"ts{2 * number_of - 1}", f"ts{2 * number_of}"]
            for slot, time in zip(slots, (start, end), strict=True):
                value = str(round(1000 * time))
                ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=value)
            annotation = ET.SubElement(
                ET.SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION",
                ANNOTATION_ID=f"a{number_of}", TIME_SLOT_REF1=slots[0], TIME_SLOT_REF2=slots[1],
            )  # fmt: skip
            ET.SubElement(annotation, "ANNOTATION_VALUE").text = label
    ET.SubElement(
        document, "LINGUISTIC_TYPE", LINGUISTIC_TYPE_ID="actions", TIME_ALIGNABLE="true",
        GRAPHIC_REFERENCES="false",
    )  # fmt: skip
    ET.indent(document)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(document, "unicode") + "\n"
