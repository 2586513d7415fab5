"""Reads result files: detections or proposals in ActivityNet's form."""

import sys
from os import PathLike
from typing import Any

from segtad_jax.evaluation.entries import shown
from segtad_jax.evaluation.json_files import InputError, as_path, load_json, require_object

_LARGEST = sys.float_info.max
_KEYS = ("version", "results", "external_data")


def read_predictions(
    path: str | PathLike[str], *, labelled: bool = True, lenient: bool = False
) -> tuple[dict[str, list[tuple]], list[str]]:
    """Reads {"version", "results": {video: [{"segment", "label", "score"}]}, "external_data"}.

    Args:
        path: a JSON file.
        labelled: whether every prediction must have a label (proposals have none).
        lenient: leave out predictions that are broken and do without "version" and "external_data",
            which the official evaluator demands and some tools do not write.

    Returns:
        {video: [(start, end, label or None, score), ...]}, and a line for each thing let pass.

    Raises:
        InputError: names the file, the video, the field and its value.
    """
    content = _load(path)
    notes = []
    missing = [key for key in _KEYS if key not in content]
    if missing:
        lacks = f"{path}: has no {' and no '.join(map(repr, missing))}"
        if not lenient:
            raise InputError(
                f"{lacks}, which the official evaluator refuses; write all of "
                f"{', '.join(map(repr, _KEYS))} or score it with --lenient"
            )
        notes.append(lacks)
    results = content["results"]
    if not isinstance(results, dict):
        raise InputError(f"{path}: 'results' must be an object {{video id: [detections]}}")

    broken = 0
    for video, rows in results.items():
        if not isinstance(rows, list):
            raise InputError(f"{path}: video {video!r}: must be a list of detections")
        good = []
        for position, row in enumerate(rows):
            if type(row) is tuple and (row[2] is not None or not labelled):
                good.append(row)
            elif not lenient:
                problem = shown(_problem(row))
                raise InputError(f"{path}: video {video!r}, detection {position}: {problem}")
        broken += len(rows) - len(good)
        results[video] = good
    if broken:
        notes.append(f"{path}: {broken} broken predictions left out")
    return results, notes


def _load(path: str | PathLike[str]) -> dict[str, Any]:
    try:
        return require_object(load_json(path, _detection), path, ("results",))
    except InputError as error:
        if str(path).lower().endswith(".json") or not as_path(path).exists():
            raise
        raise InputError(
            f"{error}. Give the json that predict wrote beside it (--output): it has all "
            "detections, and other forms those above a threshold alone"
        ) from error


def _detection(record: dict) -> Any:
    """Returns a good detection as a tuple, a third of the memory, and anything else as it is.

    Objects are read from the inside out, so that a broken one can be explained only later, when
    the video is known.
    """
    segment, score, label = record.get("segment"), record.get("score"), record.get("label")
    if (
        type(segment) is list
        and len(segment) == 2
        and _is_number(segment[0])
        and _is_number(segment[1])
        and segment[0] <= segment[1]
        and _is_number(score)
        and (type(label) is str or "label" not in record)
    ):
        return segment[0], segment[1], label if label is None else sys.intern(label), score
    return record


def _is_number(value: Any) -> bool:
    # An int may be too large for a float; NaN is within no limits.
    return (type(value) is float or type(value) is int) and -_LARGEST <= value <= _LARGEST


def _problem(row: Any) -> str:
    if type(row) is tuple:
        return "has no 'label'; proposals without labels can be scored with --metrics=ar"
    if not isinstance(row, dict):
        return f"{row!r} must be an object with 'segment', 'label' and 'score'"
    missing = [key for key in ("segment", "score") if key not in row]
    if missing:
        return f"has no {missing[0]!r}; its keys are {sorted(row)}"
    segment, score = row["segment"], row["score"]
    if not (isinstance(segment, list) and len(segment) == 2):
        return f"segment {segment!r} must be [start, end] in seconds"
    for name, value in (("segment", segment[0]), ("segment", segment[1]), ("score", score)):
        if isinstance(value, str):
            return f"{name}: {value!r} is text; write a number, without quotes"
        if not _is_number(value):
            return f"{name}: {value!r} is not a finite number"
    if segment[0] > segment[1]:
        return f"segment {segment!r} ends before it starts"
    return f"label {row['label']!r} must be the name of the class, not its id"
