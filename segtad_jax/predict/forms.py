"""Files of annotation tools beside predict's result, for people to look at and to correct."""

from collections.abc import Mapping, Sequence

from etils import epath

from segtad_jax.evaluation.annotation_writers import written_files
from segtad_jax.evaluation.forms.layers import Detections, Writing
from segtad_jax.runtime import files


def write_forms(
    output: epath.Path,
    forms: Sequence[str],
    results: Mapping[str, Detections],
    writing: Writing,
) -> list[epath.Path]:
    """Writes detections beside the result file, and returns the file or folder of each form.

    Args:
        output: the result file: of found.json, the forms are found.csv, found.elan/ID.eaf ...
        forms: keys of `annotation_writers.FORMS`.
        results: {id: [(start, end, label, score)]}, in seconds.
        writing: what forms need besides.

    Raises:
        ValueError: a file is there and has other content, which may be somebody's work; nothing
            of any form is written.
        InputError: an id can be no name of a file.
    """
    every: dict[epath.Path, bytes] = {}
    for form in forms:
        for name, text in written_files(form, output.stem, results, writing).items():
            every[output.parent / name] = text.encode()
    there = {path: path.read_bytes() for path in every if path.exists()}
    changed = [path for path, content in there.items() if content != every[path]]
    if changed:
        more = f", nor are {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ValueError(
            f"{changed[0]} is there, and not as it would be written now{more}: somebody may have "
            "corrected it. Move it away and give the command again, which detects nothing anew"
        )
    for path, content in every.items():
        if path not in there:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, content)
    return sorted({output.parent / path.relative_to(output.parent).parts[0] for path in every})
