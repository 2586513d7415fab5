"""A data set that prepare wrote: the index of its recordings, which has their annotations."""

from collections.abc import Iterator
from typing import Any

from segtad_jax.evaluation.entries import Action, Entry, number, shown
from segtad_jax.evaluation.json_files import InputError, load_sealed, read_text

INDEX, CLASSES = "recordings.json", "labels.labels.txt"


def read(folder: Any) -> Iterator[Entry]:
    """Yields the recordings of all splits.

    Raises:
        InputError: the index is not as prepare wrote it.
    """
    index = folder / INDEX
    content = load_sealed(index, "Prepare the data set again.")
    classes = content.get("classes")  # older versions wrote them beside it alone
    if classes is None:
        lines = read_text(folder / CLASSES).split("\n")
        classes = [line.strip() for line in lines if line.strip()]
    classes = ["", *classes]  # labels count from 1
    try:
        for row in content["recordings"]:
            video, split = row["video"], row["split"]
            if not (isinstance(video, str) and isinstance(split, str)):
                raise ValueError(f"video {video!r}, split {split!r}")
            where = f"{index}, video {video}"
            entry = Entry(video, where, {split: where})
            entry.durations = {_finite(row["duration"]): where}
            for (start, end), label in zip(row["segments"], row["labels"], strict=True):
                action = Action(_finite(start), _finite(end), classes[max(label, 0)], where)
                entry.actions.append(action)
                if not action.label:
                    raise ValueError(f"label {label}")
            yield entry
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{index}: not the index that prepare wrote ({error!r}); prepare the data set again"
        ) from error


def _finite(value: object) -> float:
    if (finite := number(value)) is None:
        raise ValueError(f"{shown(value)} is no finite number")
    return finite
