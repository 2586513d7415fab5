"""Opens data sets of TFRecord shards for random access: any record by its byte offset.

Shards are written by `writer.py`, or by any TFDS builder with the features of `records.py`. Opening
one imports TFDS; nothing here imports TensorFlow, which costs seconds and half a gigabyte.
"""

import dataclasses
import fnmatch
import functools
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from segtad_jax.data.tfrecord import read_record, read_records
from segtad_jax.evaluation.annotations import canonical_subset

INFO = "dataset_info.json"
INDEX = "recordings.json"
FIELDS = {"video", "features", "rate", "duration", "segments", "labels"}  # of a record


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """A recording as the index describes it: all but its features, and where they are."""

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
        """Returns the recordings of a split, which may have another usual name: test, val.

        Raises:
            ValueError: there is no such split; says which there are.
        """
        name = split if split in self.splits else canonical_subset(split)
        if name not in self.splits:
            raise ValueError(
                f"no split '{split}' in {self.directory}; it has {', '.join(sorted(self.splits))}: "
                "name one of these, by --config.data.eval_split=... or predict's --subset=..."
            )
        return self.splits[name]


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
    if missing := FIELDS - set(spec):
        raise ValueError(
            f"{directory / 'features.json'}: records have no {', '.join(sorted(missing))}; "
            f"expected {', '.join(sorted(FIELDS))}"
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
        read=functools.partial(
            _read_features, directory, tfds.features.FeaturesDict({"features": stored})
        ),
    )


def _read_features(
    directory: epath.Path, spec: Any, recording: Recording
) -> Float[np.ndarray, "F C"]:
    path = directory / recording.shard
    with path.open("rb") as file:
        file.seek(recording.offset)
        payload = read_record(file, path)
    if payload is None or len(payload) != recording.size:
        raise ValueError(
            f"{path}: the record at byte {recording.offset} is not that of video "
            f"{recording.video}, which has {recording.size} bytes. The shard was replaced: "
            f"delete {directory / INDEX}."
        )
    try:
        return spec.deserialize_example_np(payload)["features"]
    except zlib.error as error:
        raise ValueError(
            f"{path}: the features of video {recording.video}, at byte {recording.offset}, are "
            f"damaged: {error}. Prepare the data set again."
        ) from error


def exists(directory: epath.PathLike) -> bool:
    """Returns whether a data set is there; a writer renames it into place when it is whole."""
    return (epath.Path(directory) / INFO).exists()


def find(directory: epath.PathLike, option: str) -> epath.Path:
    """Returns the folder of the one data set that DATA, DATA/NAME or DATA/NAME/VERSION holds.

    Args:
        directory: any of these; DATA is what `prepare` was given as --output.
        option: the flag that named it, for the messages.

    Raises:
        FileNotFoundError: there is none; says how to make one.
        ValueError: there are several; names them.
    """
    folders = find_all(directory)
    if not folders:
        raise FileNotFoundError(
            f"no data set in {directory}: it has no {INFO}, nor has a folder NAME/VERSION in it. "
            "Make one with `python -m segtad_jax.prepare ... --output=DATA`, and name DATA by "
            f"{option}=DATA"
        )
    if len(folders) > 1:
        choices = "\n  ".join(f"{option}={path}" for path in folders)
        raise ValueError(
            f"{directory} holds {len(folders)} data sets; name one of them:\n  {choices}"
        )
    return folders[0]


def find_all(directory: epath.PathLike) -> list[epath.Path]:
    """Returns the folder if it is a data set, otherwise the data sets NAME/VERSION below it."""
    directory = epath.Path(directory)
    if exists(directory):
        return [directory]
    infos = [path for depth in ("*", "*/*") for path in directory.glob(f"{depth}/{INFO}")]
    # A writer is still at work in a hidden folder.
    hidden = [any(p.startswith(".") for p in i.relative_to(directory).parts) for i in infos]
    return sorted(info.parent for info, skip in zip(infos, hidden, strict=True) if not skip)


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
    for offset, payload in read_records(shard):
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
