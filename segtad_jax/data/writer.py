"""Writes data sets: TFRecord shards, an index of their records, and what TFDS needs to read them.

Records are written one after the other, so that memory does not grow with their number.
"""

import collections
import contextlib
import dataclasses
import errno
import json
import logging
import os
import platform
import re
import time
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from etils import epath
from numpy.typing import DTypeLike

from segtad_jax.data.dataset import LABELS, exists, open_dataset
from segtad_jax.data.index import INDEX, index_content, index_rows
from segtad_jax.data.records import Record, feature_spec, serialiser
from segtad_jax.data.tfrecord import FOOTER_BYTES, HEADER
from segtad_jax.evaluation.json_files import sealed

log = logging.getLogger(__name__)

VERSION = "1.0.0"
# A class's name is a line of a file: no control characters, no line or paragraph separators, nor
# halves of a surrogate pair.
_SEPARATORS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
OLD_SECONDS = 86400  # after which what a process of another machine left is named
SHARD_BYTES = 1 << 28  # a shard is closed when it has as many


def dataset_folder(root: epath.PathLike, name: str) -> epath.Path:
    """Returns the folder of a data set below a folder of data sets: ROOT/NAME/VERSION."""
    return epath.Path(root) / name / VERSION


def write_dataset(
    root: epath.PathLike,
    *,
    name: str,
    classes: Sequence[str],
    num_channels: int,
    splits: Mapping[str, Iterable[Record]],
    description: str,
    citation: str = "",
    dtype: DTypeLike = np.float32,
    files: Iterable[tuple[str, str]] = (),
) -> epath.Path:
    """Writes a data set unless it is there, and returns its folder.

    Of several processes that write the same at once one wins, and the others take its.

    Args:
        root: folder of data sets.
        name: of the data set: letters, digits and underscores.
        classes: names in any order; label d is the d-th in sorted order, from 1.
        num_channels: C.
        splits: records by the names of the splits; not read if the data set is there.
        description: what it is and how it was made.
        citation: whom to cite.
        dtype: of the stored features, float32 or float16.
        files: names and texts of what else lies in the folder; not read if the data set is there.

    Raises:
        ValueError: a record that cannot be right, with the video and the value; or a split without
            any.
    """
    target = dataset_folder(root, name)
    if exists(target):
        return target
    try:
        with ShardWriter(
            root, name, classes, num_channels, np.dtype(dtype), description, citation
        ) as writer:
            for split, records in splits.items():
                for record in records:
                    writer.write(split, record)
                if split not in writer.written:
                    raise ValueError(f"split {split} of {name} has no recordings")
            for file, text in files:
                (writer.folder / file).write_text(text)
            return writer.finish()
    except FileExistsError:
        if not exists(target):
            raise
        return target


@dataclasses.dataclass
class _Shard:
    """An open file of a split."""

    name: str
    file: Any  # tf.io.TFRecordWriter
    size: int = 0  # bytes


class ShardWriter:
    """A data set that appears whole or not at all: written beside its place, then renamed to it.

    Use as a context manager, which removes what is written unless `finish` was called. What a
    killed process left behind, the next writer of this name on the same machine removes.
    """

    def __init__(
        self,
        root: epath.PathLike,
        name: str,
        classes: Sequence[str],
        num_channels: int,
        dtype: np.dtype,
        description: str,
        citation: str = "",
    ) -> None:
        """Makes a folder to write in.

        Args: as of `write_dataset`.

        Raises:
            FileExistsError: the data set is there already.
            ValueError: a class is named twice.
        """
        if repeated := sorted({c for c in classes if list(classes).count(c) > 1}):
            raise ValueError(f"classes named twice: {', '.join(repeated)}")
        if broken := [c for c in classes if c != c.strip() or _SEPARATORS.search(c) or not c]:
            raise ValueError(
                f"class {broken[0]!r} cannot be a line of {LABELS}: its name is empty, or has a "
                "control character or a line break in it, or blanks around it. Rename it in the "
                "annotations."
            )
        self.target = dataset_folder(root, name)
        require_free(self.target)
        self._name, self._texts = name, {"description": description, "citation": citation}
        self._labels = {label: number for number, label in enumerate(sorted(classes), start=1)}
        self._spec = feature_spec(list(self._labels), num_channels, dtype)
        self.serialise = serialiser(list(self._labels), num_channels, dtype)
        self._open: dict[str, _Shard] = {}  # by split
        self._rows: list[dict[str, Any]] = []  # of the index
        self._split_by_video: dict[str, str] = {}
        self.folder = _working_folder(epath.Path(root), name)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._close()
        self.folder.rmtree(missing_ok=True)

    @property
    def written(self) -> set[str]:
        """The splits that have records."""
        return {row["split"] for row in self._rows}

    def write(self, split: str, record: Record, payload: bytes | None = None) -> None:
        """Appends a record.

        Args:
            split: training, validation or testing.
            record: what to write.
            payload: what `serialise` makes of it, where a thread has done so already.

        Raises:
            ValueError: the record cannot be right, or its video was written before.
        """
        if earlier := self._split_by_video.get(record.video):
            raise ValueError(f"video {record.video} occurs twice, in {earlier} and in {split}")
        payload = self.serialise(record) if payload is None else payload
        self._split_by_video[record.video] = split
        shard = self._open.get(split)
        if shard is None or shard.size >= SHARD_BYTES:
            shard = self._open[split] = self._next_shard(split)
        place = {"split": split, "shard": shard.name, "offset": shard.size, "size": len(payload)}
        shard.file.write(payload)
        shard.size += HEADER.size + len(payload) + FOOTER_BYTES
        row = {
            "video": record.video,
            "num_frames": len(record.features),
            "rate": record.rate,
            "duration": record.duration,
            "segments": record.segments.tolist(),
            "labels": [self._labels[label] for label in record.labels],
            "checksum": zlib.crc32(payload),
        }
        self._rows.append(row | place)

    def adopt(self, split: str, number: int) -> None:
        """Takes shards that others wrote into `folder`, named by `shard_prefix`.

        Raises:
            ValueError: they do not hold this number of records.
        """
        rows = [row for path in self._shards(split) for row in index_rows(self._spec, split, path)]
        if len(rows) != number:
            raise ValueError(
                f"{self.folder}: the shards of {split} hold {len(rows)} records, expected {number}"
            )
        self._rows += rows

    def finish(self) -> epath.Path:
        """Writes what describes the data set, puts it in its place and returns that.

        Whatever else lies in `folder` by then becomes part of it.

        Raises:
            FileExistsError: another process has put one there meanwhile.
        """
        import tensorflow_datasets as tfds

        self._close()
        infos = []
        for split in sorted(self.written):
            template = tfds.core.ShardedFileTemplate(
                dataset_name=self._name,
                data_dir=self.folder,
                split=split,
                filetype_suffix="tfrecord",
                template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",  # as `shard_prefix`
            )
            rows = [row for row in self._rows if row["split"] == split]
            lengths = collections.Counter(row["shard"] for row in rows)
            infos.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[lengths[path.name] for path in self._shards(split)],
                    num_bytes=sum(row["size"] for row in rows),
                    filename_template=template,
                )
            )
        tfds.folder_dataset.write_metadata(
            data_dir=self.folder,
            features=self._spec,
            split_infos=infos,
            version=VERSION,
            filename_template=infos[0].filename_template,
            check_data=False,
            **self._texts,
        )
        stored = self._spec["features"]
        index = index_content(
            self._rows,
            name=self._name,
            classes=list(self._labels),
            channels=stored.shape[1],
            dtype=np.dtype(stored.np_dtype).name,
        )
        (self.folder / INDEX).write_text(json.dumps(sealed(index)))
        open_dataset(self.folder)  # sizes, classes and rows are those that were meant
        _sync(self.folder)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.folder.rename(self.target)
        except OSError:
            require_free(self.target)
            raise
        return self.target

    def _shards(self, split: str) -> list[epath.Path]:
        return sorted(self.folder.glob(f"{shard_prefix(self._name, split)}-*"))

    def _next_shard(self, split: str) -> "_Shard":
        if split in self._open:
            self._open[split].file.close()
        name = f"{shard_prefix(self._name, split)}-{len(self._shards(split)):05d}"
        return _Shard(name, tensorflow_on_cpu().io.TFRecordWriter(str(self.folder / name)))

    def _close(self) -> None:
        for shard in self._open.values():
            shard.file.close()
        self._open.clear()


def require_free(target: epath.Path) -> None:
    """Raises FileExistsError if there is something where a data set is to be."""
    if target.exists():
        raise FileExistsError(
            f"{target} is there already; remove it, or give another --name or --output"
        )


def shard_prefix(name: str, split: str) -> str:
    """Returns what the names of a split's shards begin with; then `-00000`, `-00001` and so on."""
    return f"{name}-{split}.tfrecord"


def tensorflow_on_cpu() -> Any:
    """Imports TensorFlow, which takes seconds, and hides all accelerators from it.

    It would take the memory of every GPU that it sees, at the first operation.
    """
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        # Where the caller's own program has used TensorFlow before, it is too late.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], kind)
    return tf


def _sync(folder: epath.Path) -> None:
    """Has the disk write all files of a folder, and their names, before it is renamed."""
    if "://" in str(folder):  # an object is whole when it is there
        return
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:  # some file systems cannot
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise
        finally:
            os.close(handle)


def _working_folder(root: epath.Path, name: str) -> epath.Path:
    """Makes a folder for one writer, whose name says which process is at work in it."""
    prefix = f".preparing-{name}-"
    for path in root.glob(f"{prefix}*-*-*"):
        host, process, _ = path.name.removeprefix(prefix).rsplit("-", 2)
        if host != platform.node():
            with contextlib.suppress(OSError):  # it may end just now
                idle = time.time() - max(p.stat().mtime for p in [path, *path.iterdir()])
                if idle > OLD_SECONDS:
                    log.warning(
                        "%s: process %s on %s has written nothing for %d hours. If it has ended, "
                        "remove the folder: it is no part of a data set.",
                        *(path, process, host, idle // 3600),
                    )
        elif process.isdigit() and not _runs(int(process)):
            path.rmtree(missing_ok=True)
    folder = root / f"{prefix}{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    return folder


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
