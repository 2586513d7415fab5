"""Folders of txt files: THUMOS14's, with a class a frame, or labels of Audacity.

THUMOS14 (http://crcv.ucf.edu/THUMOS14/download.html) has files CLASS_val.txt and CLASS_test.txt
of lines `video start end`. GTEA, 50Salads and Breakfast, as MS-TCN
(https://github.com/yabufarha/ms-tcn) has them, are a file a video with the class of a frame a line,
and a `mapping.txt` of lines `number class`. Audacity's: see there.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from segtad_jax.evaluation.entries import Entry, Reading, ReportDefect, add_action, number
from segtad_jax.evaluation.forms import audacity
from segtad_jax.evaluation.forms.prepared import CLASSES, INDEX
from segtad_jax.evaluation.json_files import InputError, read_text

MAPPING = "mapping.txt"  # lines `number class`, beside files with a class a frame or their folder


def read(path: Any, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    """Yields the entries of all files of a folder.

    Raises:
        InputError: there is none, or they have a class a frame and no rate is known.
    """
    files = sorted(
        file
        for file in path.glob("*.txt")
        if file.name not in (MAPPING, CLASSES) and not file.name.startswith(".")
    )
    if not files:
        raise InputError(
            f"{path}: has no txt file, as CLASS_val.txt and CLASS_test.txt of THUMOS14 or one a "
            "video with a class a frame, no file of ELAN (.eaf), Praat (.TextGrid) or another "
            f"annotation tool, and no {INDEX}, as a prepared data set NAME/VERSION (if it was "
            "deleted, prepare again)"
        )
    thumos14 = [file for file in files if file.stem.endswith(("_val", "_test"))]
    if any(map(_ends_in_a_number, thumos14)):
        yield from _read_thumos14(thumos14, report, reading)
        return
    texts = {file: read_text(file) for file in files}
    if any(map(audacity.matches, texts.values())) or not any(map(str.strip, texts.values())):
        for file, text in texts.items():
            yield from audacity.read(text, file, report, reading)
    else:
        yield from _read_frames(path, texts, report, reading)


def _read_thumos14(files: Sequence[Any], report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    for file in files:
        label, _, subset = file.stem.rpartition("_")
        for index, line in enumerate(read_text(file).splitlines(), start=1):
            where, parts = f"{file}, line {index}", line.split()
            if len(parts) == 3:
                entry = Entry(parts[0], where)
                entry.describe("validation" if subset == "val" else subset, None, report)
                add_action(entry, parts[1:], label, where, report, reading)
                yield entry
            elif parts:
                report("bad_action", parts[0], line, where)


def _ends_in_a_number(file: Any) -> bool:
    """Returns whether the first line of a file does, as THUMOS14's `video start end`."""
    parts = read_text(file).lstrip().partition("\n")[0].split()
    return len(parts) > 1 and number(parts[-1]) is not None


def _read_frames(
    path: Any, texts: Mapping[Any, str], report: ReportDefect, reading: Reading
) -> Iterator[Entry]:
    """Yields an entry a file of lines with a frame's class; equal neighbours are one action."""
    rate = reading.label_fps or reading.rate
    if rate is None:
        raise InputError(
            f"{path}: txt files with a class a frame need the frames a second, as --rate=15, or "
            "--label_fps=15 where the features have another rate (THUMOS14's are called "
            "CLASS_val.txt and CLASS_test.txt)"
        )
    places = [place for place in (path / MAPPING, path.parent / MAPPING) if place.exists()]
    pairs = [line.split(None, 1) for line in read_text(places[0]).splitlines()] if places else []
    names = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    for file, text in texts.items():
        entry = Entry(file.stem, str(file))
        lines = [line.strip() for line in text.rstrip().splitlines()]
        entry.durations = {len(lines) / rate: str(file)} if lines else {}
        start = 0
        for label, frames in groupby(lines):
            end = start + sum(1 for _ in frames)
            place = f"{file}, line {start + 1}"
            add_action(entry, [start / rate, end / rate], names.get(label, label), place, report)
            start = end
        yield entry
