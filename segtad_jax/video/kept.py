"""Reads what made a file of features, which is told beside it: of a.npy in a.npy.json."""

from collections.abc import Iterable
from typing import Any

from etils import epath

from segtad_jax.data.preparation import VideoTransform
from segtad_jax.runtime import files

MARK = b'"segtad_jax"'  # a key of ours


def statement_of(file: epath.Path) -> epath.Path:
    """Returns the file that says what made a file of features."""
    return file.with_name(f"{file.name}.json")


def read_statement(file: epath.Path) -> tuple[VideoTransform, dict[str, Any]]:
    """Returns what made a file of features, and what else is told of it.

    Raises:
        ValueError: the file beside it is damaged, or of something else; names it.
    """
    stated = statement_of(file)
    details = files.read_json(stated, f"Remove it and {file.name}: they are made again.")
    try:
        transform = VideoTransform(**details["transform"])
        _, _, _ = details["source"], details["duration"], details["notes"]
        if not 0 < transform.rate < float("inf"):
            raise ValueError(f"its rate is {transform.rate}")
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{stated}: does not say what made {file.name} ({error!r})") from error
    return transform, details


def common_transform(features: Iterable[epath.Path]) -> VideoTransform | None:
    """Returns what made all these files of features; None where one has no word of it.

    Raises:
        ValueError: two were made in different ways, or as `read_statement`.
    """
    first: tuple[VideoTransform, epath.Path] | None = None
    for file in features:
        stated = statement_of(file)
        if not stated.exists() or MARK not in stated.read_bytes():  # or another program's
            return None
        transform, _ = read_statement(file)
        if first and transform != first[0]:
            raise ValueError(
                f"{file} was made by {transform}, {first[1]} by {first[0]}: features of one data "
                "set are made in one way. Make one of them again, with --save_features=DIR"
            )
        first = first or (transform, file)
    return first[0] if first else None
