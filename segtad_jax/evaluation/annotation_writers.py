"""Writes detections in the forms of annotation tools, so that a person can correct them there."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from segtad_jax.evaluation.forms import (
    audacity,
    boris,
    cvat,
    elan,
    label_studio,
    subtitles,
    tables,
    textgrid,
    via,
)
from segtad_jax.evaluation.forms.layers import Detections, Writing
from segtad_jax.evaluation.ids import is_bad_id
from segtad_jax.evaluation.json_files import InputError


class WrittenForm(NamedTuple):
    """A form, and whether all recordings are in one file of it or each has its own."""

    ending: str
    for_each: bool
    write: Callable[[Mapping[str, Detections], Writing], str]


FORMS = {
    "csv": WrittenForm(".csv", False, tables.write),
    "audacity": WrittenForm(".txt", True, audacity.write),
    "elan": WrittenForm(".eaf", True, elan.write),
    "boris": WrittenForm(".boris", False, boris.write),
    "via": WrittenForm(".via.json", False, via.write),
    "label-studio": WrittenForm(".label-studio.json", False, label_studio.write),
    "cvat": WrittenForm(".xml", True, cvat.write),
    "textgrid": WrittenForm(".TextGrid", True, textgrid.write),
    "vtt": WrittenForm(".vtt", True, subtitles.write_vtt),
    "srt": WrittenForm(".srt", True, subtitles.write_srt),
}


def written_files(
    form: str, stem: str, results: Mapping[str, Detections], writing: Writing
) -> dict[str, str]:
    """Returns {name of a file: its content}.

    Args:
        form: a key of FORMS.
        stem: of the names: STEM.csv, or STEM.elan/ID.eaf where each recording has its own file.
        results: {id: [(start, end, label, score)]}, in seconds.
        writing: what a form needs besides.

    Raises:
        InputError: an id can be no name of a file, or a form needs what is not given.
    """
    ending, for_each, write = FORMS[form]
    if not for_each:
        return {f"{stem}{ending}": write(results, writing)}
    if bad := [video for video in results if is_bad_id(video)]:
        raise InputError(
            f"--format={form}: writes a file a recording, but {bad[0]!r} can be no name of a file; "
            "--format=csv has all in one"
        )
    return {
        f"{stem}.{form}/{video}{ending}": write({video: rows}, writing)
        for video, rows in results.items()
    }
