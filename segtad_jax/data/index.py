"""Makes and checks the index of a data set, recordings.json: a row for each record."""

import collections
import dataclasses
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from segtad_jax.data.tfrecord import FOOTER_BYTES, HEADER, read_records

INDEX = "recordings.json"
RESTORE = "Copy it from where the data set was prepared, or prepare the data set again."
ANEW = "Delete it, for it is made anew from the shards; or prepare the data set again."
LARGEST = 1e15  # of any number in a row; NaN is not less either
MOST_INFLATED = 1032  # bytes that a byte of a zlib stream can become


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
    checksum: int | None = None  # CRC-32 of the serialised example; None in older indices


def index_content(
    rows: Iterable[dict[str, Any]], *, name: str, classes: Sequence[str], channels: int, dtype: str
) -> dict[str, Any]:
    """Returns what the index says, in one order: its checksum is the fingerprint of the data.

    Every row has its record's size and checksum, but in the indices of older versions the size
    alone.
    """
    ordered = sorted(rows, key=lambda row: (row["split"], row["video"]))
    described = {"name": name, "classes": list(classes), "channels": channels, "dtype": dtype}
    return described | {"recordings": ordered}


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
        example = decode(spec, payload, f"{shard}: the record at byte {offset}")
        yield {
            "video": example["video"],
            "num_frames": len(example["features"]),
            "rate": float(example["rate"]),
            "duration": float(example["duration"]),
            "segments": np.asarray(example["segments"], np.float64).tolist(),
            "labels": [int(label) + 1 for label in example["labels"]],  # 0 is background
            "split": split,
            "shard": shard.name,
            "offset": offset,
            "size": len(payload),
            "checksum": zlib.crc32(payload),
        }


def decode(spec: Any, payload: bytes, where: str) -> dict[str, Any]:
    """Returns the fields of a serialised example, its video as text.

    Raises:
        ValueError: it is none of this specification; says where it is.
    """
    try:
        example = spec.deserialize_example_np(payload)
        return example | {"video": example["video"].decode()}
    except Exception as error:  # protobuf, zlib, NumPy and TFDS raise what they like
        raise ValueError(
            f"{where} cannot be decoded ({type(error).__name__}: {error}): it is damaged, or "
            "features.json is. Prepare the data set again."
        ) from error


def recordings_by_split(
    rows: Iterable[Any],
    directory: epath.Path,
    *,
    indexed: bool,
    splits: Collection[str],
    num_classes: int,
    frame_bytes: int,
) -> dict[str, tuple[Recording, ...]]:
    """Returns the recordings of every split in order of their ids, if all rows can be right.

    The records of a shard lie end to end and fill it, so that their sizes are the shard's.

    Args:
        rows: of the index, as JSON has them.
        directory: of the shards.
        indexed: whether the rows come from recordings.json or were made of the shards just now.
        splits: names that a row may have.
        num_classes: D.
        frame_bytes: that a frame's features take in memory.

    Raises:
        ValueError: names the file, the video, the field and its value.
    """
    index, remedy = directory, "Write the data set again."
    if indexed:
        index = directory / INDEX
        remedy = ANEW
    names = [field.name for field in dataclasses.fields(Recording)]
    recordings: dict[str, dict[str, Recording]] = {split: {} for split in splits}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{index}: recording {number} is no object. {remedy}")
        for field, expected in _flaws(row, splits, num_classes, frame_bytes):
            raise ValueError(
                f"{index}: recording {number}, video {row.get('video')!r}: {field} is "
                f"{row.get(field)!r:.100}, expected {expected}. {remedy}"
            )
        if row["video"] in recordings[row["split"]]:
            raise ValueError(f"{index}: video {row['video']!r} occurs twice. {remedy}")
        fields = {name: row[name] for name in names if name in row}
        fields["segments"] = np.asarray(row["segments"], np.float64).reshape(-1, 2)
        fields["labels"] = np.asarray(row["labels"], np.int32)
        recordings[row["split"]][row["video"]] = Recording(**fields)
    for shard, records in _by_shard(recordings.values()).items():
        _require_whole(directory / shard, records, remedy)
    return {
        split: tuple(videos[video] for video in sorted(videos))
        for split, videos in recordings.items()
    }


def _flaws(
    row: Mapping[str, Any], splits: Collection[str], num_classes: int, frame_bytes: int
) -> Iterator[tuple[str, str]]:
    """Yields the fields of a row that cannot be right, each with what is expected of it."""
    video, split, shard = map(row.get, ("video", "split", "shard"))
    size: Any = row.get("size")
    num_frames: Any = row.get("num_frames")
    segments: Any = row.get("segments")
    labels: Any = row.get("labels")
    fits = _whole(size, 1) and _whole(num_frames, 1)
    fits = fits and num_frames * frame_bytes <= MOST_INFLATED * size
    paired = isinstance(segments, list) and all(map(_segment, segments))
    labelled = paired and isinstance(labels, list) and len(labels) == len(segments)
    labelled = labelled and all(_whole(label, 1) and label <= num_classes for label in labels)
    sound = {
        "video": (isinstance(video, str) and video, "an id"),
        "split": (isinstance(split, str) and split in splits, f"one of {', '.join(splits)}"),
        "shard": (isinstance(shard, str) and shard and "/" not in shard, "a file's name"),
        "offset": (_whole(row.get("offset"), 0), "a whole number"),
        "size": (_whole(size, 1), "a positive whole number"),
        "num_frames": (fits, f"as many as a record of {size} bytes can hold"),
        "rate": (_number(row.get("rate")) and row["rate"] > 0, "a positive number"),
        "duration": (_number(row.get("duration")) and row["duration"] > 0, "a positive number"),
        "segments": (paired, "pairs of seconds"),
        "labels": (labelled, f"a class from 1 to {num_classes} for each segment"),
        "checksum": (_whole(row.get("checksum", 0), 0), "a whole number"),
    }
    yield from ((field, expected) for field, (right, expected) in sound.items() if not right)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LARGEST


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < LARGEST


def _segment(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_number, value))


def _by_shard(splits: Collection[Mapping[str, Recording]]) -> dict[str, list[Recording]]:
    shards = collections.defaultdict(list)
    for videos in splits:
        for recording in videos.values():
            shards[recording.shard].append(recording)
    return shards


def _require_whole(path: epath.Path, records: Sequence[Recording], remedy: str) -> None:
    """Raises ValueError unless the records lie end to end and fill the shard."""
    if not path.exists():
        raise ValueError(
            f"{path}: is missing, and {INDEX} has {len(records)} recordings in it. {RESTORE}"
        )
    end = 0
    for record in sorted(records, key=lambda record: record.offset):
        if record.offset != end:
            raise ValueError(
                f"{path.parent / INDEX}: video {record.video!r}: offset is {record.offset}, but "
                f"the record before it in {path.name} ends at {end}. {remedy}"
            )
        end += HEADER.size + record.size + FOOTER_BYTES
    if (size := path.stat().length) != end:
        raise ValueError(
            f"{path}: has {size} bytes, but by {INDEX} {end}: it was cut short or replaced. "
            f"{RESTORE} If it is as it should be, delete {path.parent / INDEX}."
        )
