"""Features of a recording of any length, in constant memory."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, UInt8

from segtad_jax.video.backbones import Backbone


def first_frame(backbone: Backbone, feature: int) -> int:
    """Returns the frame from which `features(..., first=feature)` needs the recording."""
    context = -(-backbone.context // backbone.stride) * backbone.stride
    return max(0, feature * backbone.stride - context)


def features(
    frames: Iterable[UInt8[np.ndarray, "size size 3"]],
    backbone: Backbone,
    *,
    first: int = 0,
    chunk: int | None = None,
) -> Iterator[Float[np.ndarray, "k channels"]]:
    """Yields the features of a recording, in order, a few at a time.

    Feature k is that of the frames from k * stride. They are those of one pass over all frames,
    whatever the chunk; a last group that is short of frames is filled up with the last frame.

    Args:
        frames: those of the recording, from frame `first_frame(backbone, first)`.
        backbone: makes them.
        first: the feature to begin with; for extraction that was interrupted.
        chunk: frames of a pass.
    """
    whole = np.stack(list(frames))  # TODO chunks
    missing = -len(whole) % backbone.stride
    whole = np.concatenate([whole, *itertools.repeat(whole[-1:], missing)])
    skipped = first - first_frame(backbone, first) // backbone.stride
    yield np.asarray(backbone.apply(whole), np.float32)[skipped:]
