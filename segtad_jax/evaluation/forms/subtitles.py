"""Subtitles whose texts are the classes: WebVTT and SubRip, a file a recording.

WebVTT: https://www.w3.org/TR/webvtt1/; SubRip (.srt) has no standard, but numbered cues of the same
shape with decimal commas.
"""

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from segtad_jax.evaluation.entries import Entry, Reading, ReportDefect, add_action, seconds_of_clock
from segtad_jax.evaluation.forms.layers import Detections, Writing

_ARROW = re.compile(r"\s*(\d[\d:.,]*)\s+-->\s+(\d[\d:.,]*)")
_TAG = re.compile(r"<[^<>]*>")


def read(content: str, path: Any, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields the entry of the recording, called as the file."""
    del reading
    entry = Entry(path.stem, str(path))
    lines = content.split("\n")
    for index, line in enumerate(lines):
        if not (times := _ARROW.match(line)):
            continue
        where = f"{path}, line {index + 1}"
        end = next((i for i in range(index + 1, len(lines)) if not lines[i].strip()), len(lines))
        text = " ".join(line.strip() for line in lines[index + 1 : end])
        if content.startswith("WEBVTT"):
            text = html.unescape(_TAG.sub("", text))
        segment = [time if (s := seconds_of_clock(time)) is None else s for time in times.groups()]
        add_action(entry, segment, text, where, report)
    yield entry


def write_vtt(results: Mapping[str, Detections], writing: Writing) -> str:
    """Returns WebVTT of one recording; a note above a cue has its score."""
    del writing
    (detections,) = results.values()
    cues = [
        f"NOTE score {score:.6g}\n\n{_clock(start)} --> {_clock(end)}\n{html.escape(label, False)}"
        for start, end, label, score in sorted(detections)
    ]
    return "\n\n".join(["WEBVTT", *cues]) + "\n"


def write_srt(results: Mapping[str, Detections], writing: Writing) -> str:
    """Returns SubRip of one recording; it has no place for scores."""
    del writing
    (detections,) = results.values()
    return "\n".join(
        f"{index}\n{_clock(start)} --> {_clock(end)}\n".replace(".", ",") + f"{label}\n"
        for index, (start, end, label, _) in enumerate(sorted(detections), start=1)
    )


def _clock(seconds: float) -> str:
    ms = round(1000 * seconds)
    return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
