"""Records -> TFRecord shards one after the other: memory does not grow with their number.

`builder.py` shuffles what it writes, and holds a gigabyte to do so; this is for data sets of any
size. Both leave the same files behind, which TFDS reads.
"""

import json
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from etils import epath

from segtad_jax.data.dataset import FOOTER_BYTES, HEADER, INDEX, write_index
from segtad_jax.data.records import Record
from segtad_jax.data.tensorflow_on_cpu import tensorflow_on_cpu

VERSION = "1.0.0"
SHARD_BYTES = 1 << 28  # a shard is closed when it has as many


class ShardWriter:
    """A data set that appears whole or not at all: written beside its place, then renamed to it.

    Use as a context manager, which removes what is written unless `finish` was called. What a
    process that was killed leaves behind, the next writer of this name removes.
    """

    def __init__(
        self,
        root: epath.PathLike,
        name: str,
        classes: Sequence[str],
        spec: Any,
        description: str,
        citation: str = "",
    ) -> None:
        """Makes the folder to write in.

        Args:
          root: folder of data sets; this one becomes root/name/VERSION.
          name: of the data set.
          classes: names in sorted order; label d is the d-th, from 1.
          spec: of `records.feature_spec`.
          description: what it is and how it was made.
          citation: whom to cite.

        Raises:
          FileExistsError: the data set is there already.
        """
        import tensorflow_datasets as tfds

        self.target = epath.Path(root) / name / VERSION
        if self.target.exists():
            raise FileExistsError(
                f"{self.target} is there already; remove it, or give another --name or --output"
            )
        self.folder = epath.Path(root) / f".preparing-{name}"
        if self.folder.exists():
            self.folder.rmtree()
        self.folder.mkdir(parents=True)
        self._labels = {label: number for number, label in enumerate(classes, start=1)}
        identity = tfds.core.DatasetIdentity(
            name=name,
            version=tfds.core.Version(VERSION),
            data_dir=str(self.folder),
            module_name="",
        )
        self._info = tfds.core.DatasetInfo(
            builder=identity,
            features=spec,
            description=description,
            citation=citation,
        )
        self._splits: dict[str, _Split] = {}
        self._rows: list[dict[str, Any]] = []
        self._adopted = False

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for split in self._splits.values():
            split.close()
        self.folder.rmtree(missing_ok=True)

    def write(self, split: str, record: Record, payload: bytes) -> None:
        """Appends a record.

        Args:
          split: training, validation or testing.
          record: what the index will say of it.
          payload: the record as a `records.serialiser` gives it.
        """
        if split not in self._splits:
            self._splits[split] = _Split(self._info.name, split, self.folder)
        shard, offset = self._splits[split].write(payload)
        row = {
            "video": record.video,
            "num_frames": len(record.features),
            "rate": record.rate,
            "duration": record.duration,
            "segments": record.segments.tolist(),
            "labels": [self._labels[label] for label in record.labels],
        }
        place = {"split": split, "shard": shard, "offset": offset, "size": len(payload)}
        self._rows.append(row | place)

    def adopt(self, split: str, number: int) -> None:
        """Takes shards that others wrote into `folder`, named by `shard_prefix`.

        Raises:
          ValueError: they do not hold this number of records.
        """
        self._adopted = True
        self._splits[split] = found = _Split(self._info.name, split, self.folder)
        found.adopt(self.folder)
        if sum(found.lengths) != number:
            raise ValueError(
                f"{self.folder}: the shards of {split} hold {sum(found.lengths)} records, expected "
                f"{number}"
            )

    def finish(self) -> epath.Path:
        """Writes what describes the data set, and puts it in its place.

        Whatever else lies in `folder` by then becomes part of it.
        """
        import tensorflow_datasets as tfds

        for split in self._splits.values():
            split.close()
        infos = [self._splits[split].info() for split in sorted(self._splits)]
        self._info.set_file_format("tfrecord")
        self._info.set_splits(tfds.core.SplitDict(infos))
        self._info.write_to_directory(self.folder)
        if self._adopted:
            write_index(self.folder)  # only the shards know the order of their records
        else:
            (self.folder / INDEX).write_text(json.dumps({"recordings": self._rows}))
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.folder.rename(self.target)
        return self.target


def shard_prefix(name: str, split: str) -> str:
    """What the names of a split's shards begin with; then `-00000`, `-00001` and so on."""
    return f"{name}-{split}.tfrecord"


def _sizes(path: epath.Path) -> Iterator[int]:
    """Bytes of each record, of which only the headers are read."""
    with path.open("rb") as file:
        while header := file.read(HEADER.size):
            size, _ = HEADER.unpack(header)
            file.seek(size + FOOTER_BYTES, 1)
            yield size


class _Split:
    """The shards of one split."""

    def __init__(self, name: str, split: str, folder: epath.Path) -> None:
        import tensorflow_datasets as tfds

        self._name = split
        self._template = tfds.core.ShardedFileTemplate(
            dataset_name=name,
            data_dir=folder,
            split=split,
            filetype_suffix="tfrecord",
            template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",  # as `shard_prefix`
        )
        self.lengths: list[int] = []  # records of each shard
        self._num_bytes = 0
        self._offset = 0  # in the open shard
        self._writer: Any = None

    def write(self, payload: bytes) -> tuple[str, int]:
        """Appends a record; the name of its shard and where it begins there."""
        if self._writer is None or self._offset >= SHARD_BYTES:
            self._open()
        index, offset = len(self.lengths) - 1, self._offset
        self._writer.write(payload)
        self.lengths[-1] += 1
        self._num_bytes += len(payload)
        self._offset += HEADER.size + len(payload) + FOOTER_BYTES
        return self._path(index).name, offset

    def adopt(self, folder: epath.Path) -> None:
        """Counts the records of shards that are there."""
        for path in sorted(
            folder.glob(f"{shard_prefix(self._template.dataset_name, self._name)}-*")
        ):
            sizes = list(_sizes(path))
            self.lengths.append(len(sizes))
            self._num_bytes += sum(sizes)

    def _open(self) -> None:
        tf = tensorflow_on_cpu()
        self.close()
        self.lengths.append(0)
        self._offset = 0
        self._writer = tf.io.TFRecordWriter(str(self._path(len(self.lengths) - 1)))

    def _path(self, index: int) -> epath.Path:
        return epath.Path(self._template.sharded_filepath(shard_index=index, num_shards=None))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def info(self) -> Any:
        """Returns the tfds.core.SplitInfo."""
        import tensorflow_datasets as tfds

        return tfds.core.SplitInfo(
            name=self._name,
            shard_lengths=self.lengths,
            num_bytes=self._num_bytes,
            filename_template=self._template,
        )
