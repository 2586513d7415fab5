"""Features of a recording of any length, in constant memory."""

import concurrent.futures
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Float, UInt8

from segtad_jax.runtime import parallel
from segtad_jax.video.backbones import Backbone, Stream

PASS_FRAMES = 256  # of a pass of `apply`, beside the context at both ends that is thrown away
UNKNOWN = 2**30  # frames of a recording that has not ended yet

Item = TypeVar("Item")

# Features as the devices make them, [devices, k, channels], and for each device those that count.
Made = tuple[Any, Sequence[slice]]


def first_frame(backbone: Backbone, feature: int) -> int:
    """Returns the frame from which `features(..., first=feature)` needs the recording."""
    return max(0, feature * backbone.stride - _context(backbone))


def features(
    frames: Iterable[UInt8[np.ndarray, "size size 3"]],
    backbone: Backbone,
    *,
    first: int = 0,
    chunk: int | None = None,
) -> Iterator[Float[np.ndarray, "k channels"]]:
    """Yields the features of a recording in order, a few at a time; none of no frames.

    Feature k is that of the frames from k * stride. They are those of one pass over the whole
    recording, whatever the chunk. Where the last group of frames is short, its last one is
    repeated. A thread takes the next frames while the devices work.

    Args:
        frames: of the recording, from frame `first_frame(backbone, first)`.
        backbone: makes the features.
        first: the feature to begin with, for an extraction that was interrupted.
        chunk: frames of a pass beside its context, a multiple of the stride; by default what is
            fast and fits.

    Raises:
        ValueError: `chunk` does not do, or a plug-in's features have another shape than it says.
    """
    if chunk is not None and (chunk <= 0 or chunk % backbone.stride):
        raise ValueError(f"chunk {chunk} is no multiple of the stride, {backbone.stride} frames")
    start = first_frame(backbone, first)
    # Several devices of one CPU are no faster than it.
    if backbone.stream and (jax.local_device_count() == 1 or jax.default_backend() == "cpu"):
        made = _streamed(frames, backbone, backbone.stream, start, chunk)
    else:
        made = _overlapping(frames, backbone, chunk)
    skipped = first - start // backbone.stride
    for outputs, counting in _one_late(made):
        for rows, part in zip(np.asarray(outputs, np.float32), counting, strict=True):
            block = rows[part]
            if len(block) > skipped:
                yield block[skipped:]
            skipped -= min(skipped, len(block))


def _streamed(
    frames: Iterable[np.ndarray], backbone: Backbone, stream: Stream, time: int, chunk: int | None
) -> Iterator[Made]:
    """Takes each frame once; the last features come when as many steps again have passed."""
    stride, chunk = backbone.stride, chunk or stream.chunk
    state, begin, end = stream.create(), time, UNKNOWN
    blocks = _ahead(_blocks(frames, itertools.repeat(chunk), stride))
    nothing = np.zeros((0, backbone.size, backbone.size, 3), np.uint8)
    for block in itertools.chain(blocks, itertools.repeat(nothing)):
        end = min(end, time + len(block)) if len(block) < chunk else end
        late = time - stream.delay * stride  # of the first feature that this step makes
        if late >= end or begin == end:
            return
        filled = np.pad(block, ((0, chunk - len(block)), (0, 0), (0, 0), (0, 0)))
        state, made = stream.step(state, filled, time, end)
        yield made[None], [slice(*(max(0, t - late) // stride for t in (begin, end)))]
        time += chunk


def _overlapping(
    frames: Iterable[np.ndarray], backbone: Backbone, chunk: int | None
) -> Iterator[Made]:
    """Takes frames with their context, a window of them on each device."""
    context, stride = _context(backbone), backbone.stride
    hop = chunk or max(1, PASS_FRAMES // stride) * stride
    windows = _ahead(_windows(frames, hop, context, stride))
    devices = jax.local_device_count()
    while batch := list(itertools.islice(windows, devices)):
        blocks, counting = zip(*batch, strict=True)
        if devices == 1:
            made = backbone.apply(blocks[0])[None]
        else:
            spare = devices - len(batch)
            stacked = np.stack([*blocks, *blocks[-1:] * spare])
            made = _on_all_devices(backbone.apply)(None, stacked)
            counting += (slice(0),) * spare
        expected = (devices, len(blocks[0]) // stride, backbone.channels)
        if made.shape != expected:
            raise ValueError(
                f"--backbone={backbone.name}: {len(blocks[0])} frames gave features of the shape "
                f"{made.shape[1:]}, expected {expected[1:]}: one for each {stride} frames "
                f"(`stride`), of {backbone.channels} numbers (`channels`)."
            )
        yield made, counting


def _windows(
    frames: Iterable[np.ndarray], hop: int, context: int, stride: int
) -> Iterator[tuple[np.ndarray, slice]]:
    """Yields windows of hop + 2 * context frames, and which of their features count.

    The first begins with the recording and the last ends with it, so that they meet what is
    outside of it as one pass does. A recording that is shorter is one window.
    """
    size = hop + 2 * context
    blocks = _blocks(frames, itertools.chain([size], itertools.repeat(hop)), stride)
    window = next(blocks, None)
    begin = done = 0
    while window is not None:
        following = next(blocks, None)
        stop = begin + len(window) - (0 if following is None else context)
        yield window, slice((done - begin) // stride, (stop - begin) // stride)
        if following is None:
            return
        begin, done = begin + len(following), stop
        window = np.concatenate([window, following])[-size:]


def _blocks(
    frames: Iterable[np.ndarray], sizes: Iterable[int], stride: int
) -> Iterator[UInt8[np.ndarray, "n size size 3"]]:
    """Yields blocks of these sizes; the last is shorter, filled up to a multiple of the stride."""
    frames = iter(frames)
    for size in sizes:
        block = list(itertools.islice(frames, size))
        if not block:
            return
        yield np.stack(block + block[-1:] * (-len(block) % stride))


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yields the items, while a thread makes the next one."""
    with concurrent.futures.ThreadPoolExecutor(1, "frames") as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def _one_late(items: Iterable[Item]) -> Iterator[Item]:
    """Yields each item after the next one was asked for, which a device then works on already."""
    previous = None
    for item in items:
        if previous is not None:
            yield previous
        previous = item
    if previous is not None:
        yield previous


@functools.lru_cache(maxsize=1)
def _on_all_devices(apply: Callable) -> Callable:
    return parallel.divide_step(lambda _, frames: apply(frames), jax.local_devices())


def _context(backbone: Backbone) -> int:
    return -(-backbone.context // backbone.stride) * backbone.stride
