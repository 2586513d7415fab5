"""Strict reading of JSON: what is wrong is said with the file and the place."""

import io
import json
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """A file that cannot be scored as it is; the message is for the person who wrote it."""


def open_file(path: str | PathLike[str]) -> Any:
    """Opens for reading; a path object that opens itself (as etils.epath on gs://) may do so."""
    file: Any = path if hasattr(path, "open") else Path(path)
    try:
        return file.open("rb")
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, not a file") from error


def read_text(path: str | PathLike[str]) -> str:
    """The whole file; UTF-8, with or without a byte order mark."""
    with open_file(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
        try:
            return text.read()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error


def load_json(
    path: str | PathLike[str], make: Callable[[dict], Any] = lambda record: record
) -> Any:
    """The value of a JSON file; `make` may replace each object as soon as it is read.

    Keys must differ within an object: the json module would keep the last one without a word.
    """

    def build(pairs: list[tuple[str, Any]]) -> Any:
        record = dict(pairs)
        if len(record) < len(pairs):
            keys = [key for key, _ in pairs]
            key = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{path}: the key {key!r} occurs twice in one object; remove one")
        return make(record)

    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=build)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: not JSON ({where}: {error.msg})") from error
    except RecursionError as error:
        raise InputError(f"{path}: not JSON of this kind (nested too deeply)") from error


def require_object(value: Any, path: str | PathLike[str], keys: tuple[str, ...]) -> dict:
    """The value if it is an object with these keys."""
    if not isinstance(value, dict):
        raise InputError(f"{path}: must be an object with {_listed(keys)}")
    missing = [key for key in keys if key not in value]
    if missing:
        found = _listed(list(value)[:5]) or "none"
        raise InputError(f"{path}: has no {_listed(missing)}; its keys are {found}")
    return value


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(repr(name) for name in names)
