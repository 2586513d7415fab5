"""The contents of a TFRecord: a whole recording with its annotations."""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from segtad_jax.data.features import cast

# An annotation may end this much after its recording: rounding, e.g. of 112.337 s to 112.34 s.
DURATION_TOLERANCE = 0.01  # seconds


@dataclasses.dataclass(frozen=True)
class Record:
    """A recording on its way into a shard."""

    video: str
    features: Float[np.ndarray, "F C"]
    rate: float  # frames per second
    duration: float  # seconds
    segments: Float[np.ndarray, "n 2"]  # seconds
    labels: tuple[str, ...]  # names of classes


def feature_spec(classes: Sequence[str], num_channels: int, dtype: np.dtype) -> Any:
    """Returns the tfds.features.FeaturesDict that a record is stored with.

    Float64 goes as raw bytes: TFRecord's own lists of numbers are float32.
    """
    import tensorflow_datasets as tfds

    def raw(*shape: int | None) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=shape, dtype=np.float64, encoding="bytes")

    return tfds.features.FeaturesDict(
        {
            "video": tfds.features.Text(),
            "features": tfds.features.Tensor(
                shape=(None, num_channels), dtype=dtype, encoding="zlib"
            ),
            "rate": raw(),
            "duration": raw(),
            "segments": raw(None, 2),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=list(classes))),
        }
    )


def serialiser(
    classes: Sequence[str], num_channels: int, dtype: np.dtype
) -> Callable[[Record], bytes]:
    """Returns a function that checks a record and serialises it for `feature_spec` to read.

    It raises ValueError for features, times or labels that cannot be right, with the video and the
    value.

    The features are a zlib stream of stored blocks. Floats hardly shrink, float16 noise by 8 %, and
    to inflate them took most of the time of reading; but the stream carries their checksum.
    """
    import tensorflow_datasets as tfds

    spec = feature_spec(classes, num_channels, dtype)
    spec = tfds.features.FeaturesDict({**spec, "features": tfds.features.Text()})

    def serialise(record: Record) -> bytes:
        shape = record.features.shape
        if len(shape) != 2 or shape[1] != num_channels or shape[0] == 0:
            raise ValueError(
                f"video {record.video}: features of shape {shape}, expected (frames, "
                f"{num_channels}) with at least one frame"
            )
        features = cast(record.features, dtype, f"video {record.video}")
        _check_annotations(record, classes)
        example = {
            "video": record.video,
            "features": zlib.compress(features.tobytes(), level=0),
            "rate": np.float64(record.rate),
            "duration": np.float64(record.duration),
            "segments": np.asarray(record.segments, np.float64).reshape(-1, 2),
            "labels": list(record.labels),
        }
        return spec.serialize_example(example)

    return serialise


def _check_annotations(record: Record, classes: Sequence[str]) -> None:
    video = record.video
    for field in ("rate", "duration"):
        value = getattr(record, field)
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"video {video}: {field} is {value}, expected a positive number")
    if len(record.segments) != len(record.labels):
        raise ValueError(
            f"video {video}: {len(record.segments)} segments but {len(record.labels)} labels"
        )
    for start, end in record.segments:
        if not 0 <= start <= end <= record.duration + DURATION_TOLERANCE:
            raise ValueError(
                f"video {video}: segment ({start}, {end}) s does not lie in the recording of "
                f"{record.duration} s"
            )
    for label in record.labels:
        if label not in classes:
            raise ValueError(
                f"video {video}: label '{label}' is none of the {len(classes)} classes: "
                f"{', '.join(classes)}"
            )
