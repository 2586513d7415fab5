"""Reads text and JSON strictly: every error names the file and the place."""

import hashlib
import io
import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """A file that cannot be used as it is; the message is for the person who wrote it."""


def as_path(path: str | PathLike[str]) -> Any:
    """Returns a path object: the same one if it opens itself, as etils.epath does on gs://."""
    return path if hasattr(path, "open") else Path(path)


def open_file(path: str | PathLike[str]) -> Any:
    """Opens a file to read bytes."""
    try:
        return as_path(path).open("rb")
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, not a file") from error


def read_text(path: str | PathLike[str], *, utf16: bool = False) -> str:
    """Reads a whole file of UTF-8, with or without a byte order mark; also of UTF-16 with one."""
    with open_file(path) as file:
        encoding = "utf-8-sig"
        if utf16:
            encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else encoding
            file.seek(0)
        text = io.TextIOWrapper(file, encoding=encoding)
        try:
            return text.read()
        except UnicodeDecodeError as error:
            marked = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
            encoding = "UTF-16" if marked else "CP1252"
            raise InputError(
                f"{path}: not UTF-8 text (byte {error.start}). Save it again as UTF-8, in a "
                f"spreadsheet as 'CSV UTF-8'; if it is {encoding}: "
                f"iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > NEW"
            ) from error


def load_json(
    path: str | PathLike[str],
    make: Callable[[dict], Any] = lambda record: record,
    *,
    repeated: Callable[[str], None] | None = None,
) -> Any:
    """Reads the value of a JSON file.

    Args:
        path: the file.
        make: may replace each object as soon as it is read.
        repeated: called with each key that an object repeats; its first value counts. Without it
            such a key is an error. The json module alone would keep the last value silently.

    Raises:
        InputError: names the file and the place or the key.
    """

    def build(pairs: list[tuple[str, Any]]) -> Any:
        record = dict(pairs)
        if len(record) < len(pairs):
            for key in (Counter(key for key, _ in pairs) - Counter(record.keys())).elements():
                if repeated is None:
                    raise InputError(f"{path}: the key {key!r} occurs twice in one object")
                repeated(key)
            record |= reversed(pairs)  # the first value of each key comes last
        return make(record)

    return _parsed(path, build)


def _parsed(path: str | PathLike[str], build: Callable[[list], Any] | None = None) -> Any:
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=build)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: not JSON ({where}: {error.msg})") from error
    except InputError:
        raise
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number too long
        raise InputError(f"{path}: not JSON of this kind ({error})") from error


def checksum(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of an object, whatever the order of its keys, without its `checksum`."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns JSON's types of an object, with its checksum."""
    content = json.loads(json.dumps(content))
    return {**content, "checksum": checksum(content)}


def load_sealed(path: str | PathLike[str], remedy: str) -> dict[str, Any]:
    """Reads an object and compares it with its checksum; older files have none.

    Args:
        path: the file.
        remedy: what to do about a damaged one, a sentence.

    Raises:
        InputError: it is damaged; names it, and the remedy.
    """
    try:
        content = require_object(_parsed(path), path, ())
    except InputError as error:
        raise InputError(f"{error}. {remedy}") from error
    if (stored := content.get("checksum")) is not None and stored != checksum(content):
        raise InputError(f"{path}: is not as it was written: its checksum differs. {remedy}")
    return content


def require_object(value: Any, path: str | PathLike[str], keys: tuple[str, ...]) -> dict:
    """Returns the value if it is an object with these keys, and raises InputError otherwise."""
    if not isinstance(value, dict):
        raise InputError(f"{path}: must be an object with {_listed(keys)}")
    missing = [key for key in keys if key not in value]
    if missing:
        present = _listed(list(value)[:5]) or "none"
        raise InputError(f"{path}: has no {_listed(missing)}; its keys are {present}")
    return value


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(repr(name) for name in names)
