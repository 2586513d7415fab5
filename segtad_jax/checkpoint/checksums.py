"""Checksums of the arrays in a checkpoint, saved with them and compared when they are restored.

They are of values, names, types and shapes, not of files: whatever changes on the way from one
memory to the other shows, and what changes none of these is no damage.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

PyTree = Any
Checksums = dict[str, str]  # by array, such as params/pdn/scores_bias: type, shape and SHA-256

ITEM = "checksums"  # a folder of a step
PROGRESS = "progress"  # not an array: the loop's


def checksums(state: PyTree, progress: Any = None) -> Checksums:
    """Returns the checksums of host arrays, and of the loop's progress where it is given."""
    sums = {
        name: f"{described(array)} {_digest(np.ravel(array).view(np.uint8).data)}"
        for name, array in named(state).items()
    }
    if progress is not None:
        sums[PROGRESS] = _digest(json.dumps(progress, sort_keys=True).encode())
    return sums


def read(step: epath.Path) -> Checksums | None:
    """Returns what was saved with a step; None for one of an older version.

    Raises:
        ValueError: they do not read.
    """
    if not (step / ITEM).exists():
        return None
    sums = json.loads((step / ITEM / "metadata").read_text())  # as Orbax names it
    if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
        raise ValueError(f"{step / ITEM} holds no checksums")
    return sums


def require(saved: Checksums | None, found: Mapping[str, str]) -> None:
    """Raises ValueError unless these fields are as they were saved; names the first that is not.

    Args:
        saved: of `read`; None compares nothing.
        found: checksums, or the beginnings of them, of all arrays in some fields of the state.
    """
    if saved is None:
        return
    fields = {_field(name) for name in found}
    names = [name for name in saved if _field(name) in fields]
    changed = [name for name in {*names, *found} if not _same(saved.get(name), found.get(name))]
    if changed:
        raise ValueError(
            f"{min(changed)} is not as it was saved ({len(changed)} of {len(names)} are not): the "
            "files were damaged"
        )


def identity(saved: Checksums, fields: tuple[str, ...]) -> str:
    """Returns a short name of these fields' content."""
    content = sorted(item for item in saved.items() if _field(item[0]) in fields)
    return _digest(json.dumps(content).encode())


def files_identity(folder: epath.Path) -> str:
    """Returns a short name of the content of all files below a folder."""
    entries = [
        (path.name, files_identity(path) if path.is_dir() else _digest(path.read_bytes()))
        for path in sorted(folder.iterdir())
    ]
    return _digest(json.dumps(entries).encode())


def named(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves by their names: the way to each, divided by slashes."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def described(array: Any) -> str:
    """Returns type and shape, with which a checksum begins."""
    return f"{array.dtype}{list(array.shape)}"


def _field(name: str) -> str:
    return name.partition("/")[0]


def _same(saved: str | None, found: str | None) -> bool:
    return saved is not None and found is not None and saved.startswith(found)


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
