"""What one TFRecord holds: a whole recording with its annotations."""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

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
    """Makes what checks records (see `encode`) and serialises them for `feature_spec` to read.

    The features are a zlib stream of stored blocks. Floats hardly shrink, float16 noise by 8 %, and
    to inflate them took most of the time of reading; but the stream carries their checksum.
    """
    import tensorflow_datasets as tfds

    spec = feature_spec(classes, num_channels, dtype)
    spec = tfds.features.FeaturesDict({**spec, "features": tfds.features.Text()})

    def serialise(record: Record) -> bytes:
        example = encode(record, classes, num_channels, dtype)
        stored = zlib.compress(example["features"].tobytes(), level=0)
        return spec.serialize_example(example | {"features": stored})

    return serialise


def encode(
    record: Record, classes: Sequence[str], num_channels: int, dtype: np.dtype
) -> dict[str, Any]:
    """The example of `feature_spec` for a record, checked.

    Raises:
      ValueError: features, times or labels that cannot be right, with the video and the value.
    """
    with np.errstate(over="ignore"):
        features = np.asarray(record.features).astype(dtype)
    _check_features(record, features, num_channels)
    _check_annotations(record, classes)
    return {
        "video": record.video,
        "features": features,
        "rate": np.float64(record.rate),
        "duration": np.float64(record.duration),
        "segments": np.asarray(record.segments, np.float64).reshape(-1, 2),
        "labels": list(record.labels),
    }


def _check_features(record: Record, features: np.ndarray, num_channels: int) -> None:
    video, shape = record.video, features.shape
    if len(shape) != 2 or shape[1] != num_channels or shape[0] == 0:
        raise ValueError(
            f"video {video}: features of shape {shape}, expected (frames, {num_channels}) "
            "with at least one frame"
        )
    if not np.isfinite(features).all():
        frame, channel = np.argwhere(~np.isfinite(features))[0]
        value = np.asarray(record.features)[frame, channel]
        raise ValueError(
            f"video {video}: feature {value} at frame {frame}, channel {channel} is not a finite "
            f"{features.dtype}"
        )


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
