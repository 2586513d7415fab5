"""Reads arrays from files of every supported form. Nothing is ever unpickled.

A file is material to doubt: it may be damaged, claim more than it holds, or point to other files.
What cannot be read is refused by name, before memory is taken for what it claims.
"""

import csv
import importlib
import io
import math
import pathlib
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

KEY = "feats"  # the name of the array in a file that holds several
# Packed data that are unpacked to more than both of these are taken for a bomb.
MOST_UNPACKED = 1 << 28  # bytes
MOST_RATIO = 100  # unpacked / packed
# What tables of annotations are called, and their columns.
TABLES = {"labels", "annotations", "ground_truth", "groundtruth", "durations", "classes", "splits"}
VIDEO_COLUMNS = {"video", "video_id", "video_name", "video-id"}
STARTS, ENDS = ("start", "begin", "onset", "t-start"), ("end", "stop", "offset", "t-end")
SAFE_TORCH = (2, 6)  # before it, weights_only=True could still run code (CVE-2025-32434)


class FeatureError(ValueError):
    """Raised for features that cannot be used; `kind` is a key of `defects.KINDS`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Stored(NamedTuple):
    """An array as a file holds it."""

    array: np.ndarray
    columns: tuple[str, ...] = ()  # of a csv file, all different; 'column 3' where it has no name
    beside: tuple[str, ...] = ()  # names of other arrays in the file, which are not read


def list_arrays(path: epath.Path) -> list[str]:
    """Returns the names of the arrays in a file of many videos, whose ending is in CONTAINERS."""
    try:
        _require_file(path)
        with path.open("rb") as file:
            if path.suffix.lower() == ".npz":
                with zipfile.ZipFile(file) as archive:
                    return _members(archive)
            import h5py

            with h5py.File(file, "r") as content:
                return list(content)
    except Exception as error:  # see `read_array`
        raise FeatureError("unreadable", f"{path}: {_reason(error)}") from error


def read_array(path: epath.Path, name: str | None = None) -> Stored:
    """Returns the array of a file with one video, or the one of this name in a file with many.

    Raises:
        FeatureError: kind 'pickle', 'bad_type' or 'unreadable'.
    """
    suffix = path.suffix.lower()
    try:
        _require_file(path)
        return READERS[suffix](path) if name is None else CONTAINERS[suffix](path, name)
    except FeatureError:
        raise
    except Exception as error:  # at damaged files, decoders raise errors of any type
        raise FeatureError("unreadable", f"{place_name(path, name)}: {_reason(error)}") from error


def place_name(path: epath.Path, name: str | None) -> str:
    """Returns what messages call a file, or an array in it."""
    return str(path) if name is None else f"{path}, {name}"


def _require_file(path: epath.Path) -> None:
    """Refuses a pipe or a device of this machine, which would be waited for without an end."""
    local = pathlib.Path(path)
    if local.exists() and not local.is_file():
        raise ValueError("not a regular file")


def _read_npy(path: epath.Path) -> Stored:
    return Stored(_load_npy(path.read_bytes(), str(path)))


def _load_npy(content: bytes, where: str) -> np.ndarray:
    if not content.startswith(b"\x93NUMPY"):
        if content.startswith(b"\x80"):
            raise _pickle(where)
        raise ValueError("not an npy file" if content else "an empty file")
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:  # 2.0 is for longer headers; no other holds plain numbers
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        raise _pickle(where)
    _require_size(shape, dtype, len(content) - file.tell())
    return np.ndarray(shape, dtype, content, file.tell(), order="F" if fortran else "C")


def _require_size(shape: Sequence[int], dtype: np.dtype, size: int, at_least: bool = False) -> None:
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > size or (claimed < size and not at_least):
        raise ValueError(
            f"damaged: shape {tuple(shape)} of {dtype} takes {claimed:,} bytes, it holds {size:,}"
        )


def _require_no_bomb(packed: int, unpacked: int) -> None:
    if unpacked > MOST_UNPACKED and unpacked > MOST_RATIO * packed:
        raise ValueError(
            f"{packed:,} bytes that claim to unpack to {unpacked:,}: store the array uncompressed"
        )


def _members(archive: zipfile.ZipFile) -> list[str]:
    """Returns the names of the arrays in an npz, less what macOS puts beside them."""
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    return [name for name in names if not name.rpartition("/")[2].startswith("._")]


def _read_npz(path: epath.Path, name: str | None = None) -> Stored:
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = _members(archive)
        chosen = _choose(members) if name is None else name
        entry = archive.getinfo(f"{chosen}.npy")
        if entry.flag_bits & 1:
            raise ValueError("encrypted: save it without a password")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("compressed in another way than by np.savez_compressed")
        _require_no_bomb(entry.compress_size, entry.file_size)
        array = _load_npy(archive.read(entry), f"{path}, {chosen}")
        others = () if name is not None else tuple(m for m in members if m != chosen)
        return Stored(array, beside=others)


def _read_csv(path: epath.Path) -> Stored:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}: save it as UTF-8 text") from error
    lines = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    first = lines[0][1] if lines else ""
    commented = first.startswith("#")  # as numpy.savetxt writes a header
    first = first.lstrip("# ")
    delimiter = next((d for d in "\t;" if d in first), ",")
    cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    header = commented or _is_header(cells)
    columns = _column_names(cells if header else [""] * len(cells))
    lines = lines[header:]
    if not lines:
        return Stored(np.zeros((0, len(columns))), columns)
    rows = [line for _, line in lines]
    try:
        array = np.loadtxt(rows, delimiter=delimiter, ndmin=2, comments=None, quotechar='"')
    except ValueError as error:
        _require_numbers(lines, delimiter, columns)
        raise ValueError(_reason(error)) from error
    if commented and len(cells) < 2:  # a title
        columns = _column_names([""] * array.shape[1])
    if array.shape[1] != len(columns):
        raise ValueError(f"{len(columns)} columns have names, {array.shape[1]} have numbers")
    return Stored(array, columns)


def is_table_of_annotations(path: epath.Path) -> bool:
    """Returns whether a csv has annotations or durations of videos, by its name or its header."""
    if path.stem.casefold() in TABLES:
        return True
    try:
        _require_file(path)
        with path.open("rb") as file:
            text = file.read(1 << 16).decode("utf-8-sig", "replace")
    except (OSError, ValueError):
        return False  # fails by name when it is read
    lines = [*text.casefold().splitlines(), "", ""]
    head, row = ([cell.strip() for cell in re.split('[,;\t"]', line)] for line in lines[:2])
    ends = [any(cell.startswith(words) for cell in head) for words in (STARTS, ENDS)]
    return not VIDEO_COLUMNS.isdisjoint(head) or (all(ends) and not all(map(_is_number, row)))


def _is_header(cells: Sequence[str]) -> bool:
    """Returns whether a first line names columns: by no number, or by 0, 1, 2 as pandas does."""
    numbers = [cell for cell in cells if _is_number(cell)]
    counted = numbers == [str(number) for number in range(len(numbers))]
    return bool(cells) and (not numbers or (counted and len(cells) > min(len(numbers), 2)))


def _column_names(cells: Sequence[str]) -> tuple[str, ...]:
    names: list[str] = []
    for number, cell in enumerate(cells, start=1):
        unnamed = not cell or cell in names or cell.startswith("Unnamed:")  # the last by pandas
        names.append(f"column {number}" if unnamed else cell)
    return tuple(names)


def _require_numbers(
    lines: Sequence[tuple[int, str]], delimiter: str, columns: Sequence[str]
) -> None:
    for number, line in lines:
        cells = next(csv.reader([line], delimiter=delimiter))
        if len(cells) != len(columns):
            raise ValueError(f"line {number} has {len(cells)} columns, expected {len(columns)}")
        for index, (cell, name) in enumerate(zip(cells, columns, strict=True), start=1):
            if not _is_number(cell):
                column = f"column {index}"
                column += f" ({name!r})" if name != column else ""
                point = _is_number(cell.replace(",", "."))
                advice = "write decimals with a point" if point else "remove the column or the line"
                raise ValueError(f"line {number}, {column}: {cell[:40]!r} is no number: {advice}")


def _read_torch(path: epath.Path) -> Stored:
    try:
        torch: Any = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise FeatureError(
            "unreadable",
            f"{path}: needs PyTorch, which is not installed: pip install torch, or convert it: "
            "np.save('x.npy', torch.load('x.pt', weights_only=True).numpy())",
        ) from error
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < SAFE_TORCH:
        raise ValueError(
            f"PyTorch {torch.__version__} may run code of the file: pip install 'torch>=2.6'"
        )
    content = path.read_bytes()
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed, as torch.save makes no file")
            if bad := archive.testzip():  # PyTorch itself compares no checksum
                raise ValueError(f"damaged: the checksum of {bad} is wrong")
    try:
        value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle's, zip's and its own errors
        if "weights" in str(error).lower():
            raise _pickle(str(path)) from error
        raise ValueError(_reason(error)) from error
    beside: tuple[str, ...] = ()
    if isinstance(value, dict):
        chosen = _choose(list(value))
        beside = tuple(str(name) for name in value if name != chosen)
        value = value[chosen]
    if not isinstance(value, torch.Tensor):
        raise FeatureError("bad_type", f"{path}: holds {type(value).__name__}, expected a tensor")
    array = (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
    # A view may repeat one stored number without an end.
    _require_size(array.shape, np.dtype(f"V{value.element_size()}"), len(content), at_least=True)
    return Stored(array, beside=beside)


def _refuse_pickle(path: epath.Path) -> Stored:
    raise _pickle(str(path))


def _pickle(where: str) -> FeatureError:
    return FeatureError(
        "pickle",
        f"{where}: a pickle, which runs code when it is loaded, so it was not. If you trust where "
        "it is from, convert it once: np.save('new.npy', np.asarray(np.load('old', "
        "allow_pickle=True).tolist(), np.float32))",
    )


READERS: dict[str, Callable[[epath.Path], Stored]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".pkl": _refuse_pickle,
    ".pickle": _refuse_pickle,
}


def _read_h5(path: epath.Path, name: str) -> Stored:
    import h5py

    with path.open("rb") as file, h5py.File(file, "r") as content:
        item, others = _item(content, name), ()
        if isinstance(item, h5py.Group):  # as in ActivityNet's own, where it holds c3d_features
            chosen = _choose(list(item))
            others = tuple(other for other in item if other != chosen)
            item = _item(item, chosen)
        if not isinstance(item, h5py.Dataset):
            raise FeatureError("bad_type", f"{path}, {name}: a group of groups, expected an array")
        if item.dtype.hasobject:
            raise FeatureError("bad_type", f"{path}, {name}: holds {item.dtype}, expected numbers")
        if item.is_virtual or item.external:
            raise ValueError("its numbers lie in other files, which are not read: copy them")
        _require_stored(item)
        return Stored(item[()], beside=others)


def _item(group: Any, name: str) -> Any:
    """Returns a member of a group; links may lead anywhere on this machine's disks."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name!r} is a link, which may lead to any file: copy the array to it")
    return group[name]


def _require_stored(item: Any) -> None:
    """Refuses a data set of HDF5 whose numbers were never written, or not all of them."""
    stored = item.id.get_storage_size()
    if item.chunks is None:
        _require_size(item.shape, item.dtype, stored)
        return
    chunks = math.prod(-(-n // size) for n, size in zip(item.shape, item.chunks, strict=True))
    if item.id.get_num_chunks() != chunks:
        raise ValueError(f"damaged: {item.id.get_num_chunks():,} of {chunks:,} parts are in it")
    _require_no_bomb(stored, math.prod(item.shape) * item.dtype.itemsize)


CONTAINERS: dict[str, Callable[[epath.Path, str], Stored]] = {
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
