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
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from segtad_jax.data.timeline import NAMES, read_dates

KEY = "feats"  # the name of the array in a file that holds several
# Packed data that are unpacked to more than both of these are taken for a bomb.
MOST_UNPACKED = 1 << 28  # bytes
MOST_RATIO = 100  # unpacked / packed
# What tables of annotations are called, and their columns.
TABLES = {"labels", "annotations", "ground_truth", "groundtruth", "durations", "classes", "splits"}
VIDEO_COLUMNS = {"video", "video_id", "video_name", "video-id"}
STARTS, ENDS = ("start", "begin", "onset", "t-start"), ("end", "stop", "offset", "t-end")
MATLAB_NUMBERS = {"double", "single", "logical"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
SAFE_TORCH = (2, 6)  # before it, weights_only=True could still run code (CVE-2025-32434)


class FeatureError(ValueError):
    """Raised for features that cannot be used; `kind` is a key of `defects.KINDS`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Stored(NamedTuple):
    """An array as a file holds it."""

    array: np.ndarray
    columns: tuple[str, ...] = ()  # of a table, all different; 'column 3' where it has no name
    beside: tuple[str, ...] = ()  # names of other arrays in the file, which are not read
    times: tuple[str, np.ndarray] | None = None  # name and numbers of an array beside it
    dates: Mapping[str, str] = MappingProxyType({})  # times that are ISO 8601 there, seconds here
    wrong: Mapping[str, str] = MappingProxyType({})  # columns that are no numbers, NaN here: why


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

        def read(member: str) -> np.ndarray:
            entry = archive.getinfo(f"{member}.npy")
            if entry.flag_bits & 1:
                raise ValueError("encrypted: save it without a password")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("compressed in another way than by np.savez_compressed")
            _require_no_bomb(entry.compress_size, entry.file_size)
            return _load_npy(archive.read(entry), f"{path}, {member}")

        return _with_times(members, read) if name is None else Stored(read(name))


def _with_times(names: Sequence[str], read: Callable[[str], np.ndarray]) -> Stored:
    """Reads the one array of a file, and the times of its frames where an array is called so."""
    called = [name for name in names if name.casefold() in NAMES]
    chosen = _choose([name for name in names if name not in called] or names)
    array, times, dates = read(chosen), None, dict[str, str]()
    for name in called if chosen not in called else ():
        values = read(name)
        if times is None and values.size == max(values.shape, default=0) in array.shape:
            times = name, as_times(values.reshape(-1), name, dates)
    unread = (name for name in names if name != chosen and (times is None or name != times[0]))
    return Stored(array, beside=tuple(unread), times=times, dates=dates)


def as_times(values: np.ndarray, name: str, dates: dict[str, str]) -> np.ndarray:
    """Returns times as numbers; dates (since 1970) and lengths of time as seconds.

    The first of these is put down as a text in `dates`, by the name.
    """
    if values.dtype.kind == "M":
        dates[name] = str(values[0].astype("datetime64[us]"))
        seconds = values.astype("datetime64[ns]").astype(np.int64) / 1e9
        return np.where(np.isnat(values), np.nan, seconds)
    if values.dtype.kind == "m":
        dates[name] = str(values[0])
        return values / np.timedelta64(1, "s")
    if values.dtype.kind == "U":
        dates[name] = str(values[0])
        return read_dates(values.tolist())
    return values.astype(np.float64)


def _read_csv(path: epath.Path) -> Stored:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}: save it as UTF-8 text") from error
    lines = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if lines and _has_blanks_between(lines[-1][1]):  # as numpy.savetxt writes by default
        width = len(lines[-1][1].split())
        lines = [(n, _with_commas(line, width)) for n, line in lines]
    first = lines[0][1] if lines else ""
    commented = first.startswith("#")  # as numpy.savetxt writes a header
    first = first.lstrip("# ")
    delimiter = next((d for d in "\t;" if d in first), ",")
    cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    header = commented or _is_header(cells)
    columns = column_names(cells if header else [""] * len(cells))
    lines = lines[header:]
    if not lines:
        return Stored(np.zeros((0, len(columns))), columns)
    width = len(next(csv.reader([lines[0][1]], delimiter=delimiter)))
    if commented and len(cells) < 2:  # a title
        columns = column_names([""] * width)
    if width != len(columns):
        raise ValueError(f"{len(columns)} columns have names, {width} have values")
    rows = [line for _, line in lines]
    try:
        array = np.loadtxt(rows, delimiter=delimiter, ndmin=2, comments=None, quotechar='"')
    except ValueError:
        return _read_cells(lines, delimiter, columns)
    return Stored(array, columns)


def _has_blanks_between(line: str) -> bool:
    """Returns whether blanks alone separate the numbers of a line."""
    parts = line.split()
    return len(parts) > 1 and "\t" not in line and all(map(is_number, parts))


def _with_commas(line: str, width: int) -> str:
    """Returns a line with commas for blanks; a comment only if it has the `width` of the others."""
    words = line.lstrip("#").split()
    if not line.startswith("#"):
        return ",".join(words)
    return f"#{','.join(words)}" if len(words) == width else line


def _read_cells(
    lines: Sequence[tuple[int, str]], delimiter: str, columns: tuple[str, ...]
) -> Stored:
    """Reads a table that has dates, or cells that are no numbers."""
    rows = [next(csv.reader([line], delimiter=delimiter)) for _, line in lines]
    for (number, _), row in zip(lines, rows, strict=True):
        if len(row) != len(columns):
            raise ValueError(f"line {number} has {len(row)} columns, expected {len(columns)}")
    array, dates, wrong = np.full((len(rows), len(columns)), np.nan), {}, {}
    for index, name in enumerate(columns):
        cells = [row[index].strip() for row in rows]
        try:
            array[:, index] = list(map(float, cells))  # as text, all would be as wide as the widest
        except ValueError:
            try:
                array[:, index] = read_dates(cells)
                dates[name] = cells[0]
            except ValueError:
                wrong[name] = _first_wrong([n for n, _ in lines], cells, index + 1, name)
    return Stored(array, columns, dates=dates, wrong=wrong)


def _first_wrong(lines: Sequence[int], cells: Sequence[str], index: int, name: str) -> str:
    """Returns line, column and value of the first cell that is not as a column's others are."""
    dated = _is_date(cells[0])
    fits = _is_date if dated else is_number
    number, cell = next((n, c) for n, c in zip(lines, cells, strict=True) if not fits(c))
    column = f"column {index}"
    column += f" ({name!r})" if name != column else ""
    advice = "remove the line or the column, or name the others: --channels=A,B"
    if is_number(cell.replace(",", ".")):
        advice = "write decimals with a point"
    elif dated or _like_a_date(cell):
        dates = "write dates as 2024-05-01T10:00:00.000"
        advice = f"{dates}, or {advice} --time=none --rate=HZ"
    kind = "no ISO 8601 time" if dated else "no number"
    return f"line {number}, {column}: {cell[:40]!r} is {kind}: {advice}"


def _is_date(text: str) -> bool:
    try:
        read_dates([text])
    except ValueError:
        return False
    return True


def _like_a_date(text: str) -> bool:
    return bool(re.search(r"\d[-./:]\d+[-./:]\d", text))


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
    return not VIDEO_COLUMNS.isdisjoint(head) or (all(ends) and not all(map(is_number, row)))


def _is_header(cells: Sequence[str]) -> bool:
    """Returns whether a first line names columns: by no number, or by 0, 1, 2 as pandas does."""
    numbers = [cell for cell in cells if is_number(cell)]
    counted = numbers == [str(number) for number in range(len(numbers))]
    return bool(cells) and (not numbers or (counted and len(cells) > min(len(numbers), 2)))


def column_names(cells: Sequence[str]) -> tuple[str, ...]:
    """Returns names that are all different: `column 3` where there is none, or one is repeated."""
    names: list[str] = []
    for number, cell in enumerate(cells, start=1):
        unnamed = not cell or cell in names or cell.startswith("Unnamed:")  # the last by pandas
        names.append(f"column {number}" if unnamed else cell)
    return tuple(names)


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


def _read_parquet(path: epath.Path) -> Stored:
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    packed = path.read_bytes()
    schema = parquet.read_schema(arrow.BufferReader(packed))
    texts = [field.name for field in schema if arrow.types.is_string(field.type)]
    # As a dictionary the same text takes no memory for each row.
    table = parquet.ParquetFile(arrow.BufferReader(packed), read_dictionary=texts)
    groups = [table.metadata.row_group(k) for k in range(table.metadata.num_row_groups)]
    shape = table.metadata.num_rows, len(schema)
    unpacked = max(sum(group.total_byte_size for group in groups), 8 * math.prod(shape))
    _require_no_bomb(len(packed), unpacked)
    flat = [field.name for field in schema if not arrow.types.is_nested(field.type)]
    # Its threads go on after one of them has met damage, and then read from a file that is closed.
    content = table.read(flat, use_threads=False)
    # The second is how pandas calls an index without a name.
    columns = column_names([re.sub(r"^__index_level_\d+__$", "", name) for name in schema.names])
    array, dates, wrong = np.full(shape, np.nan), dict[str, str](), dict[str, str]()
    for index, (field, name) in enumerate(zip(schema, columns, strict=True)):
        try:
            if field.name in texts:
                parts = content.column(field.name).chunks
                words = [np.array(part.dictionary.to_pylist(), object) for part in parts]
                codes = [part.indices.to_numpy(zero_copy_only=False) for part in parts]
                cells = np.concatenate([w[c] for w, c in zip(words, codes, strict=True)]).tolist()
                array[:, index], dates[name] = read_dates(cells), cells[0]
            else:
                values = content.column(field.name).to_numpy()
                array[:, index] = as_times(values, name, dates)
        except Exception as error:  # noqa: BLE001 - nested, a text, a null, ...: all the same
            dates.pop(name, None)
            wrong[name] = (
                f"column {name!r} holds {field.type}: {_reason(error)}: remove it, or name the "
                "others: --channels=A,B"
            )
    return Stored(array, columns, dates=dates, wrong=wrong)


def _read_mat(path: epath.Path) -> Stored:
    with path.open("rb") as file:
        if file.read(10) == b"MATLAB 7.3":  # which is HDF5
            return _read_mat73(path)
        from scipy import io as matlab

        found = {name: (shape, kind) for name, shape, kind in matlab.whosmat(file)}
        shapes = {n: shape for n, (shape, kind) in found.items() if kind in MATLAB_NUMBERS}

        def read(name: str) -> np.ndarray:
            _require_no_bomb(path.stat().length, 8 * math.prod(shapes[name]))
            file.seek(0)
            return matlab.loadmat(file, variable_names=[name])[name]

        return _from_variables(shapes, read, [name for name in found if name not in shapes])


def _read_mat73(path: epath.Path) -> Stored:
    import h5py

    with path.open("rb") as file, h5py.File(file, "r") as content:
        items = {n: _item(content, n) for n in content if not n.startswith("#")}
        kinds = {n: item.attrs.get("MATLAB_class", b"").decode() for n, item in items.items()}
        shapes = {n: items[n].shape[::-1] for n, kind in kinds.items() if kind in MATLAB_NUMBERS}

        def read(name: str) -> np.ndarray:
            return _numbers(items[name], f"{path}, {name}").T  # MATLAB writes columns first

        return _from_variables(shapes, read, [name for name in items if name not in shapes])


def _from_variables(
    shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], np.ndarray], others: Sequence[str]
) -> Stored:
    """Reads one matrix of numbers, or vectors of one length as columns; single numbers are not."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items() if math.prod(shape) > 1}
    beside = (*others, *(name for name in shapes if name not in sizes))
    if not sizes and others:
        raise ValueError(
            f"holds no matrix of numbers, but {', '.join(map(repr, others[:5]))} (tables, structs "
            "and cells are not read): save('x.mat', 'feats') of one, or writetable to csv"
        )
    vectors = [name for name, size in sizes.items() if size == max(shapes[name])]
    if len(vectors) > 1 and vectors == list(sizes) and len(set(sizes.values())) == 1:
        table = np.stack([read(name).reshape(-1) for name in vectors], axis=1)
        return Stored(table.astype(np.float64), tuple(vectors), beside)
    stored = _with_times(list(sizes), read)
    return stored._replace(beside=(*stored.beside, *beside))


READERS: dict[str, Callable[[epath.Path], Stored]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".mat": _read_mat,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".pkl": _refuse_pickle,
    ".pickle": _refuse_pickle,
}


def _read_h5(path: epath.Path, name: str) -> Stored:
    import h5py

    with path.open("rb") as file, h5py.File(file, "r") as content:
        item = _item(content, name)

        def read(item: Any) -> np.ndarray:
            where = f"{path}, {name}"
            if not isinstance(item, h5py.Dataset):
                raise FeatureError("bad_type", f"{where}: a group of groups, expected an array")
            return _numbers(item, where)

        if isinstance(item, h5py.Group):  # as in ActivityNet's own, where it holds c3d_features
            return _with_times(list(item), lambda inner: read(_item(item, inner)))
        return Stored(read(item))


def _numbers(item: Any, where: str) -> np.ndarray:
    """Returns a data set of HDF5 whose numbers are in the file."""
    if item.dtype.hasobject:
        raise FeatureError("bad_type", f"{where}: holds {item.dtype}, expected numbers")
    if item.is_virtual or item.external:
        raise ValueError("its numbers lie in other files, which are not read: copy them")
    _require_stored(item)
    return item[()]


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


def is_number(text: str) -> bool:
    """Returns whether a cell of a table is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _reason(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:300]
