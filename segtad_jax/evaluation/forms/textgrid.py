"""Praat: TextGrid files, long or short, of a recording's intervals and points on tiers.

The form: https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html. Only texts in double
quotes, numbers and flags in angle brackets that stand alone count; everything else (`xmin =`) is
comment, so that the long and the short form are read alike. An interval without text is a pause.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from segtad_jax.evaluation.entries import (
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

_TOKEN = re.compile(r'![^\n]*|"(?P<text>(?:[^"]++|"")*+)"(?=\s|$)|(?P<word>[^\s"!][^\s]*)|"')


class _Tokens:
    """The texts, numbers and flags of a file in turn."""

    def __init__(self, content: str, path: object) -> None:
        self._content, self._path, self._at = content, path, 0
        self._line, self._counted = 1, 0  # line, and the place up to which it was counted

    @property
    def where(self) -> str:
        self._line += self._content.count("\n", self._counted, self._at)
        self._counted = self._at
        return f"{self._path}, line {self._line}"

    def next(self, kind: str) -> Any:
        """Returns the next text, number or flag, which must be of this kind."""
        while match := _TOKEN.search(self._content, self._at):
            self._at = match.end()
            word = match["word"]
            if match["text"] is not None:
                value: Any = match["text"].replace('""', '"')
                found = "text"
            elif word and word.startswith("<") and word.endswith(">"):
                value, found = word, "flag"
            elif word and (value := number(word)) is not None:
                found = "number"
            elif match[0] == '"':
                raise InputError(f"{self.where}: a text that begins here has no end")
            else:
                continue
            if found != kind:
                raise InputError(f"{self.where}: a {kind} is due, not {shown(value)}")
            return value
        raise InputError(
            f"{self._path}: ends where a {kind} is due: it was cut off, write it again"
        )


def matches(content: str) -> bool:
    """Returns whether the text is a TextGrid's."""
    return '"ooTextFile"' in content[:200] and '"TextGrid"' in content[:400]


def read(content: str, path: Any, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields the entry of the recording, called as the file.

    Raises:
        InputError: it is no TextGrid, was cut off, or has several tiers and none is named.
    """
    if not matches(content):
        raise InputError(
            f"{path}: not a TextGrid in text form: save it with Praat's 'Save as text file...' or "
            "'Save as short text file...'"
        )
    tokens = _Tokens(content, path)
    tokens.next("text"), tokens.next("text")
    begin, end = tokens.next("number"), tokens.next("number")
    tiers: dict[str, list[Interval]] = {}
    if tokens.next("flag") == "<exists>":
        for _ in range(int(tokens.next("number"))):
            kind, name = tokens.next("text"), tokens.next("text")
            tokens.next("number"), tokens.next("number")
            rows = tiers.setdefault(name, [])
            for _ in range(int(tokens.next("number"))):
                where = f"{tokens.where}, tier {shown(name)}"
                start = tokens.next("number")
                stop = tokens.next("number") if kind == "IntervalTier" else None
                text = tokens.next("text")
                if text.strip() or stop is None:
                    rows.append(Interval(start, stop, text, where))
    entry = Entry(path.stem, str(path))
    # What predict wrote ends with its last detection, not with the recording.
    pauses = end not in [row.end for rows in tiers.values() for row in rows]
    entry.describe(None, end if begin == 0 and pauses else None, report)
    for start, stop, text, where in choose_tiers(tiers, path, report, reading):
        add_interval(entry, start, stop, text, where, report, reading)
    yield entry


def write(results: Mapping[str, Detections], writing: Writing) -> str:
    """Returns the TextGrid of one recording, in long form; it has no place for scores."""
    del writing
    (detections,) = results.values()
    tiers = layers(detections) or [[]]
    last = max((end for _, end, _, _ in detections), default=1.0)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0"]
    lines += [f"xmax = {last:.3f}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for index, layer in enumerate(tiers):
        intervals = list(_without_gaps(layer, last))
        lines += [f"    item [{index + 1}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{layer_name(index)}"', "        xmin = 0"]
        lines += [f"        xmax = {last:.3f}", f"        intervals: size = {len(intervals)}"]
        for place, (start, end, label) in enumerate(intervals, start=1):
            text = label.replace('"', '""')
            lines += [f"        intervals [{place}]:", f"            xmin = {start:.3f}"]
            lines += [f"            xmax = {end:.3f}", f'            text = "{text}"']
    return "\n".join(lines) + "\n"


def _without_gaps(layer: Detections, last: float) -> Iterator[tuple[float, float, str]]:
    """Yields intervals that follow each other without a gap: pauses have no text."""
    time = 0.0
    for start, end, label, _ in layer:
        if round(start, 3) > round(time, 3):
            yield time, start, ""
        yield start, end, label
        time = end
    if round(last, 3) > round(time, 3):
        yield time, last, ""
