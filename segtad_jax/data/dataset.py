"""A data set of TFRecord shards, open for random access: any record by its byte offset.

Shards are written by `writer.py`, or by any TFDS builder with the features of `records.py`. Opening
one imports TFDS; nothing here imports TensorFlow, which costs seconds and half a gigabyte.
"""

import dataclasses
import fnmatch
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from etils import epath
from jaxtyping import Float, Int

INFO = "dataset_info.json"
INDEX = "recordings.json"
# A TFRecord is its length and a checksum of that, the contents, and a checksum of them.
HEADER = struct.Struct("<QI")
LENGTH_BYTES = 8
FOOTER_BYTES = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """What is known of a recording without reading its features."""

    video: str
    num_frames: int  # F
    rate: float  # frames per second
    duration: float  # seconds
    segments: Float[np.ndarray, "n 2"]  # seconds, end exclusive
    labels: Int[np.ndarray, " n"]  # 1..D
    shard: str  # file name
    offset: int  # of the record in it, bytes
    size: int  # of the serialised example, bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """An opened data set. Recordings of a split are in order of their ids."""

    directory: epath.Path
    name: str
    classes: tuple[str, ...]  # of the labels 1..D
    num_channels: int  # C
    dtype: np.dtype  # of the features: float16 where they are stored as such, else float32
    splits: dict[str, tuple[Recording, ...]]
    read: Callable[[Recording], Float[np.ndarray, "F C"]]  # as stored

    def features(self, recording: Recording) -> Float[np.ndarray, "F C"]:
        """Returns all features of one recording, of `dtype`.

        Raises:
          ValueError: the shard is not what the index says, or is damaged.
        """
        return self.read(recording).astype(self.dtype, copy=False)

    def recordings(self, split: str) -> tuple[Recording, ...]:
        """Of a split.

        Raises:
          ValueError: there is no such split; says which there are.
        """
        if split not in self.splits:
            raise ValueError(
                f"no split '{split}' in {self.directory}; it has {', '.join(sorted(self.splits))}"
            )
        return self.splits[split]


def open_dataset(directory: epath.PathLike) -> Dataset:
    """Opens a folder with dataset_info.json, features.json and shards.

    Without an index, as other tools leave it, all records are read once to find where they are.

    Raises:
      FileNotFoundError: no data set there.
      ValueError: its records are not those of `records.feature_spec`.
    """
    directory = epath.Path(directory)
    if not exists(directory):
        raise FileNotFoundError(
            f"no data set in {directory}: it has no {INFO}. Expected the folder that "
            "holds this file, usually .../NAME/VERSION."
        )
    import tensorflow_datasets as tfds

    info = tfds.builder_from_directory(directory).info
    spec = info.features
    expected = {"video", "features", "rate", "duration", "segments", "labels"}
    if missing := expected - set(spec):
        raise ValueError(
            f"{directory / 'features.json'}: records have no {', '.join(sorted(missing))}; "
            f"expected {', '.join(sorted(expected))}"
        )
    index = directory / INDEX
    if index.exists():
        rows = json.loads(index.read_text())["recordings"]
    else:
        rows = [
            row
            for split, split_info in info.splits.items()
            for shard in split_info.filepaths
            for row in index_rows(spec, split, shard)
        ]
    stored = spec["features"]
    return Dataset(
        directory=directory,
        name=info.name,
        classes=tuple(spec["labels"].feature.names),
        num_channels=stored.shape[1],
        dtype=np.dtype(np.float16 if stored.np_dtype == np.float16 else np.float32),
        splits={split: _recordings(rows, split) for split in info.splits},
        # The rest of a record stands in the index.
        read=_Reader(directory, tfds.features.FeaturesDict({"features": stored})),
    )


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads the features of recordings from the shards in a folder."""

    directory: epath.Path
    spec: Any  # tfds.features.FeaturesDict of the features alone

    def __call__(self, recording: Recording) -> Float[np.ndarray, "F C"]:
        path = self.directory / recording.shard
        with path.open("rb") as file:
            file.seek(recording.offset)
            payload = _read_record(file, path)
        if payload is None or len(payload) != recording.size:
            raise ValueError(
                f"{path}: the record at byte {recording.offset} is not that of video "
                f"{recording.video}, which has {recording.size} bytes. The shard was replaced: "
                f"delete {self.directory / INDEX}."
            )
        try:
            return self.spec.deserialize_example_np(payload)["features"]
        except zlib.error as error:
            raise ValueError(
                f"{path}: the features of video {recording.video}, at byte {recording.offset}, are "
                f"damaged: {error}. Prepare the data set again."
            ) from error


def exists(directory: epath.PathLike) -> bool:
    """Whether a data set is there; builders rename a folder into place only when it is whole."""
    return (epath.Path(directory) / INFO).exists()


def find(directory: epath.PathLike, option: str) -> epath.Path:
    """The folder of the one data set that DATA, DATA/NAME or DATA/NAME/VERSION holds.

    Args:
      directory: any of these; DATA is what `prepare` was given as --output.
      option: of the command line that named it, for the messages.

    Raises:
      FileNotFoundError: there is none; says how to make one.
      ValueError: there are several; names them.
    """
    found = find_all(directory)
    if not found:
        raise FileNotFoundError(
            f"no data set in {directory}: it has no {INFO}, nor has a folder NAME/VERSION in it. "
            "Make one with `python -m segtad_jax.prepare ... --output=DATA`, and name DATA by "
            f"{option}=DATA"
        )
    if len(found) > 1:
        choices = "\n  ".join(f"{option}={path}" for path in found)
        raise ValueError(
            f"{directory} holds {len(found)} data sets; name one of them:\n  {choices}"
        )
    return found[0]


def find_all(directory: epath.PathLike) -> list[epath.Path]:
    """The folder, if it is one of a data set, or else all that are as in NAME/VERSION below it."""
    directory = epath.Path(directory)
    if exists(directory):
        return [directory]
    found = [path.parent for depth in ("*", "*/*") for path in directory.glob(f"{depth}/{INFO}")]
    return sorted(path for path in found if not _hidden(path.relative_to(directory)))


def _hidden(path: epath.Path) -> bool:
    """Whether builders are still at work there."""
    return any(part.startswith(".") for part in path.parts)


def split_holdout(
    recordings: Sequence[Recording], holdout: str
) -> tuple[list[Recording], list[Recording]]:
    """Divides training recordings into those to train on and those that `data.holdout` names.

    Raises:
        ValueError: a pattern that names no recording, or if nothing is left to train on.
    """
    patterns = [part.strip() for part in holdout.split(",") if part.strip()]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(r.video, pattern) for r in recordings):
            raise ValueError(
                f"data.holdout: '{pattern}' names none of the {len(recordings)} training "
                f"recordings, such as '{recordings[0].video}'."
            )
    held = [r for r in recordings if any(fnmatch.fnmatchcase(r.video, p) for p in patterns)]
    rest = [r for r in recordings if r not in held]
    if not rest:
        raise ValueError(f"data.holdout = '{holdout}' leaves no recording to train on.")
    return rest, held


def _recordings(rows: list[dict[str, Any]], split: str) -> tuple[Recording, ...]:
    recordings = [
        Recording(
            segments=np.asarray(row["segments"], np.float64).reshape(-1, 2),
            labels=np.asarray(row["labels"], np.int32),
            **{key: row[key] for key in row if key not in ("split", "segments", "labels")},
        )
        for row in rows
        if row["split"] == split
    ]
    return tuple(sorted(recordings, key=lambda recording: recording.video))


def index_rows(spec: Any, split: str, shard: epath.Path) -> Iterator[dict[str, Any]]:
    """Yields the index's rows of a shard: all of each record but its features, and where it is.

    Args:
      spec: tfds.features.FeaturesDict of the records.
      split: to which the shard belongs.
      shard: its file.

    Raises:
      ValueError: the shard is damaged.
    """
    for offset, payload in _records(shard):
        example = spec.deserialize_example_np(payload)
        yield {
            "video": example["video"].decode(),
            "num_frames": len(example["features"]),
            "rate": float(example["rate"]),
            "duration": float(example["duration"]),
            "segments": np.asarray(example["segments"], np.float64).tolist(),
            "labels": [int(label) + 1 for label in example["labels"]],  # 0 is background
            "split": split,
            "shard": shard.name,
            "offset": offset,
            "size": len(payload),
        }


def _records(path: epath.Path) -> Iterator[tuple[int, bytes]]:
    """All (offset, serialised example) of a shard."""
    offset = 0
    with path.open("rb") as file:
        while (payload := _read_record(file, path)) is not None:
            yield offset, payload
            offset = file.tell()


def _read_record(file: BinaryIO, path: epath.Path) -> bytes | None:
    """The record at the file's position, None at its end.

    The checksum of the contents is left out: in Python it would take a hundred times as long as all
    the rest, and the features, nearly all of a record, carry zlib's own.
    """
    offset = file.tell()
    header = file.read(HEADER.size)
    if not header:
        return None
    if len(header) == HEADER.size:
        size, checksum = HEADER.unpack(header)
        if checksum == _masked_crc32c(header[:LENGTH_BYTES]):
            payload, footer = file.read(size), file.read(FOOTER_BYTES)
            if len(payload) + len(footer) == size + FOOTER_BYTES:
                return payload
    raise ValueError(f"{path}: no whole record at byte {offset}; the file is damaged or cut short")


def _masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord: CRC-32C, rotated and shifted by a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
