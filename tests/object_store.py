"""What stands in for a bucket: epath's gs:// in a local folder, without append or rename.

An object appears when its file is closed; folders are what names have in common.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator

import pytest
from etils.epath import backend, gpath


class ObjectStore(backend._OsPathBackend):
    """A backend of epath; gs://bucket/name is the file root/bucket/name."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root

    def place(self, path: os.PathLike | str) -> pathlib.Path:
        assert str(path).startswith("gs://"), f"{path} is no object"
        return self.root / str(path).removeprefix("gs://")

    @contextlib.contextmanager
    def open(self, path, mode) -> Iterator[io.IOBase]:
        assert mode in {"r", "rb", "w", "wb"}, f"an object store has no mode {mode}"
        place = self.place(path)
        if "r" in mode:
            with place.open(mode) as file:
                yield file
            return
        content = io.BytesIO() if "b" in mode else io.StringIO()
        yield content
        place.parent.mkdir(parents=True, exist_ok=True)
        written = content.getvalue()
        place.write_bytes(written if isinstance(written, bytes) else written.encode())

    def exists(self, path) -> bool:
        return self.place(path).exists()

    def isdir(self, path) -> bool:
        return self.place(path).is_dir()

    def listdir(self, path) -> list[str]:
        return [p.name for p in self.place(path).iterdir()]

    def makedirs(self, path, *, exist_ok=False, mode=None) -> None:
        pass

    def mkdir(self, path, *, exist_ok=False, mode=None) -> None:
        pass

    def rmtree(self, path) -> None:
        super().rmtree(self.place(path))

    def remove(self, path) -> None:
        super().remove(self.place(path))

    def rename(self, path, dst) -> None:
        raise NotImplementedError(f"an object store cannot rename {path} to {dst}")

    def replace(self, path, dst) -> None:
        self.rename(path, dst)

    def copy(self, path, dst, overwrite) -> None:
        raise NotImplementedError("between two stores")


def bucket_in(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Keeps gs:// in a folder from now on; where in it lies what is written to gs://bucket."""
    store, disk = ObjectStore(folder), backend.os_backend
    kind = property(lambda self: store if self._uri_scheme == "gs" else disk)
    monkeypatch.setattr(gpath._GPath, "_backend", kind)
    return folder / "bucket"
