"""Reads annotations in every form that prepare and the evaluation take, as the files have them.

Each form is a module of `forms`. The ending of a file says whether it is json, XML or text, and its
content which form.
"""

from collections import Counter
from collections.abc import Iterator
from os import PathLike
from types import ModuleType
from typing import Any

from segtad_jax.evaluation.entries import NOTE, SECONDS, Entry, Reading, ReportDefect, shown
from segtad_jax.evaluation.forms import (
    activitynet,
    audacity,
    boris,
    cvat,
    elan,
    label_studio,
    prepared,
    subtitles,
    tables,
    text_folders,
    textgrid,
    via,
)
from segtad_jax.evaluation.json_files import InputError, as_path, load_json, read_text
from segtad_jax.evaluation.xml_files import load_xml

_JSON, _XML = (".json", ".boris"), (".eaf", ".xml")
_TEXT = (".csv", ".tsv", ".txt", ".textgrid", ".vtt", ".srt")
# Of the files of a folder, a recording or project each: the first of these that is there.
_FOLDERS = (
    (".eaf", ".textgrid", ".vtt", ".srt", ".boris"),
    (".txt",),
    (".xml", ".csv", ".tsv", ".json"),
)

_USED = {  # settings that a form leaves open
    tables: ("columns", "unit", "clock"),
    activitynet: ("unit", "clock"),
    label_studio: ("unit", "clock"),
    elan: ("tier",),
    textgrid: ("tier",),
    via: ("tier",),
}


def read_entries(
    path: str | PathLike[str],
    report: ReportDefect,
    reading: Reading = SECONDS,
    *,
    durations: bool = False,
) -> Iterator[Entry]:
    """Yields the entries of a file or folder, in its order.

    Args:
        path: a file, a folder of files, a prepared data set NAME/VERSION, or a folder with one.
        report: called with each defect: entries and actions that are broken are left out, durations
            that are no positive number are taken as unknown.
        reading: decides what the file leaves open.
        durations: also read a json {id: seconds}.

    Raises:
        InputError: the file cannot be read or has another form, or one that needs a setting; or two
            of its recordings have one name.
    """
    file = as_path(path)
    told = set()

    def tell(kind: str, video: str, value: object, where: str) -> None:
        if kind != NOTE or not where or where not in told:
            report(kind, video, value, "" if kind == NOTE else where)
        if kind == NOTE:
            told.add(where)

    media: dict[str, str] = {}
    read = (
        _read_folder(file, tell, reading)
        if file.is_dir()
        else _read(file, tell, reading, durations)
    )
    for entry in read:
        if entry.media and media.setdefault(entry.video, entry.media) != entry.media:
            raise InputError(
                f"{entry.where}: {shown(entry.media)} and {shown(media[entry.video])} would be one "
                f"recording, {entry.video!r}; rename one of the files and its features"
            )
        yield entry


def _read_folder(folder: Any, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    indexes = [i for depth in ("", "*/", "*/*/") for i in folder.glob(depth + prepared.INDEX)]
    indexes = [index for index in indexes if not _hidden(index, folder)]
    if len(indexes) > 1:
        listed = "\n  ".join(str(index.parent) for index in sorted(indexes))
        raise InputError(f"{folder} holds {len(indexes)} data sets; name one of them:\n  {listed}")
    if indexes:
        yield from prepared.read(indexes[0].parent)
        return
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    endings = Counter(file.suffix.lower() for file in files)
    there = next((found for kind in _FOLDERS if (found := [e for e in kind if endings[e]])), [])
    if len(there) > 1:
        listed = ", ".join(f"{endings[ending]} {ending}" for ending in there)
        raise InputError(
            f"{folder}: holds annotations of several forms ({listed}); give each its folder"
        )
    others = [e for kind in _FOLDERS for e in kind if endings[e] and there and e not in there]
    if others:
        listed = ", ".join(f"{endings[ending]} {ending}" for ending in others)
        report(NOTE, "", f"{folder}: of it {there[0]} files are read, not its {listed}", "")
    if there in ([], [".txt"]):
        yield from text_folders.read(folder, report, reading)
        return
    named: dict[str, str] = {}  # {recording: its first file}
    for file in (file for file in files if file.suffix.lower() == there[0]):
        for entry in _read(file, report, reading, durations=False):
            if (first := named.setdefault(entry.video, file.name)) != file.name:
                text = f"of several files of one recording all annotations are taken: {first} and "
                text += f"{file.name} are of {entry.video!r}"
                report(NOTE, "", text, "joined")
            yield entry


def _hidden(path: Any, folder: Any) -> bool:
    """Returns whether a writer may be at work there still."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _read(file: Any, report: ReportDefect, reading: Reading, durations: bool) -> Iterator[Entry]:
    ending = file.suffix.lower()
    if ending in _JSON:
        return _read_json(file, report, reading, durations)
    if ending in _XML:
        root = load_xml(file)
        for form in (elan, cvat):
            if root.tag == form.ROOT:
                _note_unused(form, file, report, reading)
                return form.read(root, file, report, reading)
        raise InputError(f"{file}: XML of {shown(root.tag)}, not of ELAN or CVAT")
    if ending in _TEXT:
        return _read_text(file, ending, report, reading)
    raise InputError(
        f"{file}: annotations are a .json or .csv file, a file of an annotation tool (docs/data.md "
        "lists them), a folder of txt files, or that of a prepared data set"
        + ("" if file.exists() else "; and there is no such file")
    )


def _read_json(
    file: Any, report: ReportDefect, reading: Reading, durations: bool
) -> Iterator[Entry]:
    def repeated(key: str) -> None:
        report("repeated_video", key, f"the key {key!r} twice in one object", str(file))

    content = load_json(file, repeated=repeated)
    for form in (boris, via, label_studio):
        if form.matches(content):
            _note_unused(form, file, report, reading)
            return form.read(content, file, report, reading)
    _note_unused(activitynet, file, report, reading)
    return activitynet.read(content, file, report, reading, durations=durations)


def _read_text(file: Any, ending: str, report: ReportDefect, reading: Reading) -> Iterator[Entry]:
    text = read_text(file, utf16=ending == ".textgrid")  # which Praat writes at times
    form: ModuleType = tables
    if ending == ".textgrid" or textgrid.matches(text):
        form = textgrid
    elif ending in (".vtt", ".srt"):
        form = subtitles
    elif via.matches_csv(text):
        form = via
    elif ending == ".txt" and audacity.matches(text):
        form = audacity
    _note_unused(form, file, report, reading)
    read = via.read_csv if form is via else form.read
    return read(text, file, report, reading)


def _note_unused(form: ModuleType, file: Any, report: ReportDefect, reading: Reading) -> None:
    """Notes the settings that say nothing about a form; another file may need them."""
    given = [name for name in ("columns", "unit", "clock", "tier") if getattr(reading, name)]
    if unused := [f"--{name}" for name in given if name not in _USED.get(form, ())]:
        what = form.__name__.rpartition(".")[2].replace("_", " ")
        text = f"{file.name}: read as {what}, about which {', '.join(unused)} cannot say anything"
        report(NOTE, "", text, f"unused {what}")
