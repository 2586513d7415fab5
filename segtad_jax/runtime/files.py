"""Files of a run, on disks and on object stores (gs://), which know neither append nor rename."""

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from etils import epath

PARTS = ".parts"  # beside a log on an object store: lines that are not in it yet
CHECKSUM = "checksum"  # a field of the JSON of `write_sealed`
MOST_PARTS = 100  # before they are joined
ENDS = 1 << 16  # bytes


def on_object_store(path: epath.PathLike) -> bool:
    """Returns whether a path names an object, such as gs://bucket/run/metrics.json."""
    return "://" in str(epath.Path(path))


def absolute(path: epath.PathLike) -> epath.Path:
    """Returns an absolute path; epath's `resolve` would look for gs:// in the working directory."""
    path = epath.Path(path)
    return path if on_object_store(path) else path.resolve()


def write_whole(path: epath.PathLike, content: str | bytes) -> None:
    """Writes a file whole or not at all; what was there before stays until then.

    Raises:
        OSError: it cannot be written, for instance because the disk is full; nothing has changed.
    """
    path = epath.Path(path)
    content = content.encode() if isinstance(content, str) else content
    if on_object_store(path):  # an object appears when it is whole
        path.write_bytes(content)
        return
    with written_whole(path) as file:
        file.write(content)


@contextlib.contextmanager
def written_whole(path: epath.PathLike) -> Iterator[BinaryIO]:
    """Returns a context with a file that becomes `path` when it ends without an error.

    Raises:
        OSError: it cannot be written; nothing has changed.
    """
    path = epath.Path(path)
    remote = on_object_store(path)
    folder = epath.Path(tempfile.gettempdir()) if remote else path.parent
    temporary = folder / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with temporary.open("wb") as file:
            yield file
        if remote:
            temporary.copy(path, overwrite=True)
            return
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.filename not in (None, str(temporary)):  # of another file, while this is open
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync(path: epath.PathLike) -> None:
    """Returns when a file, or the names in a folder, are on the disk, whatever happens to it.

    What is renamed before may be empty after a loss of power. Some file systems cannot, and on
    object stores there is nothing to do.
    """
    if on_object_store(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise
    finally:
        os.close(descriptor)


def checksum_of_ends(path: epath.PathLike) -> int:
    """Returns the checksum of the first and the last 64 KiB of a file, which may be huge."""
    with epath.Path(path).open("rb") as file:
        ends = file.read(ENDS)
        file.seek(max(file.seek(0, os.SEEK_END) - ENDS, 0))
        return zlib.crc32(ends + file.read(ENDS))


def remove_leftovers(folder: epath.PathLike, name: str | None = None) -> None:
    """Removes what processes that were killed left of `write_whole` in a folder.

    Nobody else may be writing there: any file, or the one of this name.
    """
    written = r".+" if name is None else re.escape(name)
    for path in epath.Path(folder).iterdir():
        if re.fullmatch(rf"\.{written}\.[0-9a-f]{{32}}|\.seen-by-process-0-\d+", path.name):
            path.unlink(missing_ok=True)


def read_json(path: epath.PathLike, remedy: str) -> dict[str, Any]:
    """Reads a JSON object, and compares the checksum of one that was sealed.

    Args:
        path: of a file that is there.
        remedy: what to do where it does not read; ends the message.

    Raises:
        ValueError: it is empty, cut off, damaged, or something else.
    """
    path = epath.Path(path)
    content = path.read_bytes()
    try:
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError(f"a JSON object was expected, not {type(found).__name__}")
        if found.pop(CHECKSUM, checksum := _checksum(found)) != checksum:
            raise ValueError("its content is not what was written")
    except (ValueError, RecursionError) as error:
        fault = f"does not read: {error}" if content.strip() else "is empty"
        raise ValueError(f"{path} {fault}. {remedy}") from error
    return found


def write_sealed(path: epath.PathLike, content: dict[str, Any]) -> None:
    """Writes a JSON object with its checksum, for `read_json`, as `write_json`."""
    write_json(path, content | {CHECKSUM: _checksum(content)})


def _checksum(content: dict[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:16]


def write_json(path: epath.PathLike, content: object) -> None:
    """Writes JSON, whole or not at all.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have.
    """
    write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


class LineLog:
    """A text file that grows by lines; on an object store in parts, which are joined in the end."""

    def __init__(self, path: epath.PathLike) -> None:
        """Nothing is read or written yet."""
        self._path = epath.Path(path)
        self._parts = self._path.with_name(self._path.name + PARTS)
        self._pending = 0  # parts that this object wrote

    def read(self) -> list[str]:
        """Returns all lines; the last one may be cut off, if the writer was killed.

        Bytes that are no text are shown by their codes.
        """
        content = self._path.read_bytes() if self._path.exists() else b""
        lines = content.decode(errors="backslashreplace").splitlines()
        parts = sorted(self._parts.iterdir()) if self._parts.exists() else []
        return lines + [line for part in parts for line in part.read_text().splitlines()]

    def rewrite(self, lines: list[str]) -> None:
        """Replaces all lines."""
        write_whole(self._path, "".join(line + "\n" for line in lines))
        self._parts.rmtree(missing_ok=True)
        self._pending = 0

    def append(self, line: str) -> None:
        """Appends a line, on the disk when this returns."""
        if not on_object_store(self._path):
            with self._path.open("a") as file:
                file.write(line + "\n")
            return
        self._parts.mkdir(parents=True, exist_ok=True)
        (self._parts / f"{time.time_ns():020}").write_text(line + "\n")  # in order of their names
        self._pending += 1
        if self._pending == MOST_PARTS:
            self.join()

    def join(self) -> None:
        """Joins the parts, if there are any, into one file."""
        if self._pending:
            self.rewrite(self.read())
