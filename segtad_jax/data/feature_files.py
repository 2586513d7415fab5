"""Reads arrays from files of every supported form. Nothing is ever unpickled."""

import csv
import importlib
import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath

KEY = "feats"  # the name of the array in a file that holds several


class FeatureError(ValueError):
    """Raised for features that cannot be used; `kind` is a key of `defects.KINDS`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def list_arrays(path: epath.Path) -> list[str]:
    """Returns the names of the arrays in a file of many videos, whose ending is in CONTAINERS."""
    try:
        with path.open("rb") as file:
            if path.suffix == ".npz":
                with zipfile.ZipFile(file) as archive:
                    return [member.removesuffix(".npy") for member in archive.namelist()]
            import h5py

            with h5py.File(file, "r") as content:
                return list(content)
    except (OSError, zipfile.BadZipFile) as error:
        raise FeatureError("unreadable", f"{path}: {_reason(error)}") from error


def read_array(path: epath.Path, name: str | None = None) -> np.ndarray:
    """Returns the array of a file with one video, or the one of this name in a file with many.

    Raises:
        FeatureError: kind 'pickle', 'bad_type' or 'unreadable'.
    """
    where = str(path) if name is None else f"{path}, {name}"
    try:
        return READERS[path.suffix](path) if name is None else CONTAINERS[path.suffix](path, name)
    except FeatureError:
        raise
    except (OSError, ValueError, EOFError, MemoryError, KeyError, zipfile.BadZipFile) as error:
        raise FeatureError("unreadable", f"{where}: {_reason(error)}") from error


def _read_npy(path: epath.Path) -> np.ndarray:
    return _load_npy(path.read_bytes(), str(path))


def _load_npy(content: bytes, where: str) -> np.ndarray:
    if not content.startswith(b"\x93NUMPY"):
        if content.startswith(b"\x80"):
            raise _pickle(where)
        raise ValueError("not an npy file" if content else "an empty file")
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        if "Object arrays" in str(error):
            raise _pickle(where) from error
        raise


def _read_npz(path: epath.Path, name: str | None = None) -> np.ndarray:
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = [member.removesuffix(".npy") for member in archive.namelist()]
        chosen = _choose(members) if name is None else name
        return _load_npy(archive.read(f"{chosen}.npy"), f"{path}, {chosen}")


def _read_csv(path: epath.Path) -> np.ndarray:
    text = path.read_bytes().decode("utf-8-sig")
    first = next(csv.reader(io.StringIO(text)), [])
    header = bool(first) and not all(_is_number(cell) for cell in first)
    lines = text.splitlines()[header:]
    if not any(line.strip() for line in lines):
        return np.zeros((0, len(first)))
    return np.loadtxt(lines, delimiter=",", ndmin=2, comments=None)


def _read_torch(path: epath.Path) -> np.ndarray:
    try:
        torch: Any = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise FeatureError(
            "unreadable",
            f"{path}: needs PyTorch, which is not installed: pip install torch, or convert it: "
            "np.save('x.npy', torch.load('x.pt', weights_only=True).numpy())",
        ) from error
    try:
        value = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle's, zip's and its own errors
        if "weights" in str(error).lower():
            raise _pickle(str(path)) from error
        raise ValueError(_reason(error)) from error
    if isinstance(value, dict):
        value = value[_choose(list(value))]
    if not isinstance(value, torch.Tensor):
        raise FeatureError("bad_type", f"{path}: holds {type(value).__name__}, expected a tensor")
    return (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()


def _refuse_pickle(path: epath.Path) -> np.ndarray:
    raise _pickle(str(path))


def _pickle(where: str) -> FeatureError:
    return FeatureError(
        "pickle",
        f"{where}: a pickle, which runs code when it is loaded, so it was not. If you trust where "
        "it is from, convert it once: np.save('new.npy', np.asarray(np.load('old', "
        "allow_pickle=True).tolist(), np.float32))",
    )


READERS: dict[str, Callable[[epath.Path], np.ndarray]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".pkl": _refuse_pickle,
    ".pickle": _refuse_pickle,
}


def _read_h5(path: epath.Path, name: str) -> np.ndarray:
    import h5py

    with path.open("rb") as file, h5py.File(file, "r") as content:
        item = content[name]
        if isinstance(item, h5py.Group):  # as in ActivityNet's own, where it holds c3d_features
            item = item[_choose(list(item))]
        if not isinstance(item, h5py.Dataset):
            raise FeatureError("bad_type", f"{path}, {name}: a group of groups, expected an array")
        if item.dtype.hasobject:
            raise FeatureError("bad_type", f"{path}, {name}: holds {item.dtype}, expected numbers")
        return item[()]


CONTAINERS: dict[str, Callable[[epath.Path, str], np.ndarray]] = {
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
}


def _choose(names: Sequence[str]) -> str:
    """Returns which of several arrays to read: the one called KEY, or the only one."""
    if KEY in names:
        return KEY
    if len(names) != 1:
        listed = ", ".join(map(repr, names[:5])) or "none"
        raise ValueError(
            f"holds {len(names)} arrays ({listed}); expected one, or one named {KEY!r}"
        )
    return names[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _reason(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:300]
