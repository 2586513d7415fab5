"""Opens data sets of TFRecord shards for random access: any record by its byte offset.

Shards are written by `writer.py`, or by any TFDS builder with the features of `records.py`. Opening
one imports TFDS; nothing here imports TensorFlow, which costs seconds and half a gigabyte.
"""

import dataclasses
import fnmatch
import functools
import itertools
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from segtad_jax.data.index import (
    ANEW,
    INDEX,
    RESTORE,
    Recording,
    decode,
    index_content,
    index_rows,
    recordings_by_split,
)
from segtad_jax.data.tfrecord import read_record
from segtad_jax.evaluation.annotations import canonical_subset
from segtad_jax.evaluation.ids import whole_id
from segtad_jax.evaluation.json_files import checksum, load_json, load_sealed

INFO, FEATURES, LABELS = "dataset_info.json", "features.json", "labels.labels.txt"
# What the index and these files both have.
DESCRIBED = {"name": INFO, "classes": LABELS, "channels": FEATURES, "dtype": FEATURES}
HOLDOUT = "holdout"  # as a name of a split: the training recordings that are held aside
FIELDS = {"video", "features", "rate", "duration", "segments", "labels"}  # of a record


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
    fingerprint: str = ""  # equal for equal data, wherever they lie; "" of what is no data set

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

    What `writer.py` wrote is compared with the checksum in its index; the shards have the sizes of
    their records. Without an index, as other tools leave it, all records are read once to find
    where they are.

    Raises:
        FileNotFoundError: no data set there.
        ValueError: its records are not those of `records.feature_spec`; or a file is missing,
            damaged or of another data set: names it, and what to do.
    """
    directory = epath.Path(directory)
    if not exists(directory):
        raise FileNotFoundError(
            f"no data set in {directory}: it has no {INFO}. Expected the folder that "
            "holds this file, usually .../NAME/VERSION."
        )
    import tensorflow_datasets as tfds

    spec, shards, described = _described(directory)
    path, index = directory / INDEX, {}
    if indexed := path.exists():
        index = load_sealed(path, ANEW)
        if not isinstance(rows := index.get("recordings"), list):
            raise ValueError(f"{path}: has no list 'recordings'. {ANEW}")
        for field, file in DESCRIBED.items():
            if (value := described[field]) != (expected := index.get(field, value)):
                if isinstance(value, list) and isinstance(expected, list):
                    both = itertools.zip_longest(value, expected)
                    value, expected = next((a, b) for a, b in both if a != b)
                raise ValueError(
                    f"{directory / file}: {field}: {value!r} here, in {INDEX} {expected!r}: "
                    f"the file was damaged or replaced. {RESTORE}"
                )
    else:
        rows = [
            row
            for split, files in shards.items()
            for shard in files
            for row in index_rows(spec, split, shard)
        ]
    stored = spec["features"]
    splits = recordings_by_split(
        rows,
        directory,
        indexed=indexed,
        splits=shards,
        num_classes=len(described["classes"]),
        frame_bytes=stored.shape[1] * np.dtype(stored.np_dtype).itemsize,
    )
    return Dataset(
        directory=directory,
        name=described["name"],
        classes=tuple(described["classes"]),
        num_channels=described["channels"],
        dtype=np.dtype(np.float16 if stored.np_dtype == np.float16 else np.float32),
        splits=splits,
        read=functools.partial(
            _read_features,
            directory,
            tfds.features.FeaturesDict({"features": stored, "video": spec["video"]}),
        ),
        fingerprint=index.get("checksum") or checksum(index_content(rows, **described)),
    )


def _described(
    directory: epath.Path,
) -> tuple[Any, dict[str, list[epath.Path]], dict[str, Any]]:
    """Returns what TFDS wrote beside the shards: FeaturesDict, shards by split, and DESCRIBED."""
    import tensorflow_datasets as tfds

    described: dict[str, Any] = {}
    try:
        load_json(directory / FEATURES, _known_features)
        info = tfds.builder_from_directory(directory).info
        spec, shards = info.features, {name: s.filepaths for name, s in info.splits.items()}
        if not (missing := FIELDS - set(spec)):
            described = {
                "name": info.name,
                "classes": spec["labels"].feature.names,
                "channels": int(spec["features"].shape[1]),
                "dtype": np.dtype(spec["features"].np_dtype).name,
            }
    except Exception as error:  # each of TFDS's parsers raises its own
        raise ValueError(
            f"{directory}: {INFO}, {FEATURES} and {LABELS} describe no data set "
            f"({type(error).__name__}: {error}). {RESTORE}"
        ) from error
    if missing:
        raise ValueError(
            f"{directory / FEATURES}: records have no {', '.join(sorted(missing))}; "
            f"expected {', '.join(sorted(FIELDS))}"
        )
    if (directory / INDEX).exists() and not (directory / LABELS).exists():  # TFDS would count
        raise ValueError(f"{directory / LABELS}: is missing. {RESTORE}")
    return spec, shards, described


def _known_features(record: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for a kind of feature that TFDS would import, which runs code."""
    for key in ("pythonClassName", "python_class_name", "type"):
        name = record.get(key)
        if isinstance(name, str) and "." in name and not name.startswith("tensorflow_datasets."):
            raise ValueError(f"{FEATURES}: {name!r} is no feature of TFDS, and is not imported")
    return record


def _read_features(
    directory: epath.Path, spec: Any, recording: Recording
) -> Float[np.ndarray, "F C"]:
    path = directory / recording.shard
    with path.open("rb") as file:
        file.seek(recording.offset)
        payload = read_record(file, path, recording.size)
    video, where = recording.video, f"{path}: the record at byte {recording.offset}"
    replaced = f"The shard was replaced: delete {directory / INDEX} or prepare the data set again."
    if payload is None or len(payload) != recording.size:
        raise ValueError(
            f"{where} is not that of video {video}, which has {recording.size} bytes. {replaced}"
        )
    if recording.checksum not in (None, zlib.crc32(payload)):
        raise ValueError(
            f"{where}, of video {video}, is not as it was written: its checksum differs. The shard "
            f"is damaged or was replaced. {RESTORE}"
        )
    example = decode(spec, payload, f"{where}, of video {video},")
    if (there := example["video"]) != video:
        raise ValueError(f"{where} is that of video {there!r}, expected {video!r}. {replaced}")
    features = example["features"]
    if len(features) != recording.num_frames:
        raise ValueError(
            f"{where}, of video {video}, has {len(features)} frames, but by {INDEX} "
            f"{recording.num_frames}. {replaced}"
        )
    return features


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

    A share, '20%', is of the recordings, at least one and not all: the last in the order of their
    ids, since recordings of a person, a place or a day, which are named alike, would tell of those
    of the same if they were on both sides. So would the parts of one, which stay together.

    Raises:
        ValueError: a pattern that names no recording, or if nothing is left to train on.
    """
    if re.fullmatch(r"\d+(\.\d+)?%", holdout):
        names = {r.video: whole_id(r.video)[0] for r in recordings}
        if len(set(names.values())) == 1:  # there is nothing but its parts
            names = dict(zip(names, names, strict=True))
        drawn = sorted(set(names.values()), reverse=True)
        number = round(len(drawn) * float(holdout[:-1]) / 100)
        chosen = set(drawn[: min(max(number, 1), len(drawn) - 1)])
        rest = [r for r in recordings if names[r.video] not in chosen]
        return rest, [r for r in recordings if names[r.video] in chosen]
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
