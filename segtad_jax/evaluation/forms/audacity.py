"""Audacity: a txt file a recording, of lines `start TAB end TAB label`, in seconds.

The form: https://manual.audacityteam.org/man/importing_and_exporting_labels.html. A line that
begins with a backslash has the frequencies of the label above it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from segtad_jax.evaluation.entries import (
    NOTE,
    Entry,
    Reading,
    ReportDefect,
    add_interval,
)
from segtad_jax.evaluation.forms.layers import Detections, Writing

_LINE = re.compile(r"\s*-?\d+([.,]\d+)?\t-?\d+([.,]\d+)?(\t|$)")


def matches(content: str) -> bool:
    """Returns whether the first line is a label's."""
    return bool(_LINE.match(content.lstrip().partition("\n")[0]))


def read(content: str, path: Any, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields the entry of the recording, called as the file."""
    report(NOTE, "", "txt files of lines `start TAB end` are labels of Audacity", "audacity")
    entry = Entry(path.stem, str(path))
    for index, line in enumerate(content.split("\n"), start=1):
        where, parts = f"{path}, line {index}", line.rstrip("\r").split("\t")
        if line.startswith("\\"):
            report(NOTE, "", "frequencies of Audacity's labels are not read", "frequencies")
        elif len(parts) >= 2:
            # Older versions wrote the decimal comma of the place.
            start, end = (part.strip().replace(",", ".") for part in parts[:2])
            label = "\t".join(parts[2:])
            add_interval(entry, start, end, label, where, report, reading)
        elif line.strip():
            report("bad_action", entry.video, line, where)
    yield entry


def write(results: Mapping[str, Detections], writing: Writing) -> str:
    """Returns the labels of one recording; they have no place for scores."""
    del writing
    (detections,) = results.values()
    rows = sorted(detections)
    return "".join(f"{start:.6f}\t{end:.6f}\t{label}\n" for start, end, label, _ in rows)
