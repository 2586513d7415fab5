"""Makes batches of windows of recordings; a training batch depends on (seed, step) alone.

A window is a cut of T frames, or fewer, out of a recording. A batch is a dict of arrays of B
windows, N being the most actions that any window of the recordings can have:

    features    [B, T, C]  float    zero beyond the recording; float16 where the shards have it
    num_frames  [B]        int32    frames of the recording in the window, T or less

and in training

    segments    [B, N, 2]  float32  from the window's start, in units of T frames: inside is 0..1;
                                    an action cut by the window keeps its true start < 0 or end > 1
    labels      [B, N]     int32    1..D, 0 where not valid
    valid       [B, N]     bool
    position    [B]        int32    position in the global batch

or in inference

    window      [B]        int32    index in the list of windows, -1 for padding
"""

import collections
import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import SupportsIndex, TypeVar

import numpy as np
from jaxtyping import Float, Int

from segtad_jax.data.dataset import Dataset, Recording

Batch = dict[str, np.ndarray]
Item = TypeVar("Item")
Result = TypeVar("Result")

READERS = 2  # threads
PREFETCH = 4  # batches made ahead
CACHE_BYTES = 1 << 30  # recordings that take less than this altogether stay in memory
NEARBY_RECORDINGS = 8  # in memory otherwise: a recording's windows follow one another in inference
# Frames of an action that a window must have, or all of it: a frame that is mostly something else
# is not labelled by the hundredth of an action that the cut left in it.
MIN_OVERLAP = 0.5


@dataclasses.dataclass(frozen=True)
class Window:
    """A cut of a recording, for inference."""

    recording: int  # index in the list of recordings
    offset: int  # first frame
    num_frames: int  # real ones; T or less


def training_batches(
    dataset: Dataset,
    recordings: Sequence[Recording],
    *,
    length: int,
    batch_size: int,
    seed: int,
    even: bool = False,
    first_step: int,
    last_step: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Yields the batches of steps first_step..last_step - 1, made ahead by threads.

    Steps count from 0 here, as in `TrainState.step`: batch s is for the state after s steps.

    Args:
        dataset: the data set of the recordings.
        recordings: what to train on.
        length: T, frames of a window.
        batch_size: windows of all processes together.
        seed: the run's.
        even: as in `draw_windows`.
        first_step: where to start; a resumed run gets what an unbroken one would.
        last_step: exclusive.
        process_index: which contiguous part of the global batch this process reads.
        process_count: how many parts there are.

    Raises:
        ValueError: no recordings, or a batch size that the number of processes does not divide.
    """
    positions = _share(batch_size, process_index, process_count)
    if not recordings:
        raise ValueError("there are no recordings to train on")
    lengths = np.array([recording.num_frames for recording in recordings])
    num_actions = max(most_actions(recording, length) for recording in recordings)
    read = _reader(dataset, recordings)

    def batch(step: int) -> Batch:
        chosen, starts = draw_windows(seed, step, batch_size, lengths, length, even)
        result = _blank(dataset, len(positions), length) | {
            "segments": np.zeros((len(positions), num_actions, 2), np.float32),
            "labels": np.zeros((len(positions), num_actions), np.int32),
            "valid": np.zeros((len(positions), num_actions), bool),
            "position": positions.astype(np.int32),
        }
        for row, position in enumerate(positions):
            index, start = chosen[position], int(starts[position])
            _fill(result, row, read(index)[start : start + length])
            segments, labels = actions_inside(recordings[index], start, length)
            result["segments"][row, : len(labels)] = segments / length
            result["labels"][row, : len(labels)] = labels
            result["valid"][row, : len(labels)] = True
        return result

    return map_ahead(batch, range(first_step, last_step), READERS, PREFETCH)


def draw_windows(
    seed: int,
    step: int,
    batch_size: int,
    num_frames: Int[np.ndarray, " n"],
    length: int,
    even: bool = False,
) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
    """Draws the windows of a training step: (recordings, first frames) of the global batch.

    If every recording fits into one window, each epoch sees all of them once, in a random order.
    Otherwise recordings are drawn in proportion to max(F, T) - T/2 and cut at a random frame; with
    `even` in proportion to F, and around a random frame, so that beginnings and ends are seen, too.
    """
    if num_frames.max() <= length:
        epochs, within = np.divmod(step * batch_size + np.arange(batch_size), len(num_frames))
        orders = {
            epoch: np.random.default_rng([seed, epoch]).permutation(len(num_frames))
            for epoch in np.unique(epochs)
        }
        chosen = np.array([orders[e][i] for e, i in zip(epochs, within, strict=True)])
        return chosen, np.zeros(batch_size, int)
    first, second = np.random.default_rng([seed, step]).random((2, batch_size))
    if even:
        cumulative = np.cumsum(num_frames)
        chosen = np.searchsorted(cumulative, first * cumulative[-1], side="right")
        starts = (second * num_frames[chosen]).astype(int) - length // 2
        return chosen, np.clip(starts, 0, np.maximum(num_frames[chosen] - length, 0))
    cumulative = np.cumsum(np.maximum(num_frames, length) - length / 2)
    chosen = np.searchsorted(cumulative, first * cumulative[-1], side="right")
    starts = second * (np.maximum(num_frames[chosen] - length, 0) + 1)
    return chosen, starts.astype(int)


def actions_inside(
    recording: Recording, start: int, length: int
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """Returns the actions in a window that begins at frame `start`, and their labels.

    They are in frames of the window and keep their true start and end. An action counts if at least
    MIN_OVERLAP frames of it, or all that the recording has of it, lie inside.
    """
    segments = recording.segments * recording.rate - start
    first, stop = segments.T
    end = recording.num_frames - start  # of the recording
    inside = np.minimum(stop, min(length, end)) - np.maximum(first, 0)
    there = (inside > 0) & (inside >= np.minimum(np.minimum(stop, end) - first, MIN_OVERLAP))
    return segments[there], recording.labels[there]


def most_actions(recording: Recording, length: int) -> int:
    """Returns how many actions a window of `length` frames has at most."""
    start, stop = recording.segments.T * recording.rate
    last = max(recording.num_frames - length, 0)
    # The first and last frame at which a window can begin that has a part of the action; the most
    # actions are in a window that begins at the first frame of one of them.
    first_from = np.clip(np.floor(start - length) + 1, 0, last)
    last_from = np.clip(np.ceil(stop) - 1, 0, last)
    begun = np.searchsorted(np.sort(first_from), first_from, side="right")
    ended = np.searchsorted(np.sort(last_from), first_from, side="left")
    return int(np.max(begun - ended, initial=0))


def inference_step(length: int, overlap: float) -> int:
    """Returns the number of frames from one window of `inference_windows` to the next."""
    if not 0 <= overlap < 1:
        raise ValueError(f"windows overlap by {overlap} of their length; it must be in [0, 1)")
    return max(round(length * (1 - overlap)), 1)


def inference_windows(
    recordings: Sequence[Recording], length: int, overlap: float, whole: bool = False
) -> list[Window]:
    """Returns windows at steps of `length` * (1 - overlap) frames that cover every recording.

    The last one of a recording may have fewer frames; or it starts so early that it has none the
    fewer, if `whole`.

    Raises:
        ValueError: an overlap outside of [0, 1).
    """
    step = inference_step(length, overlap)

    def offsets(frames: int) -> Iterable[int]:
        rest = max(frames - length, 0)
        return (*range(0, rest, step), rest) if whole else range(0, rest + step, step)

    return [
        Window(index, offset, min(length, recording.num_frames - offset))
        for index, recording in enumerate(recordings)
        for offset in offsets(recording.num_frames)
    ]


def reads(process_index: int, process_count: int, window: Window) -> bool:
    """Returns whether a process reads a window in inference."""
    return window.recording % process_count == process_index


def inference_batches(
    dataset: Dataset,
    recordings: Sequence[Recording],
    windows: Sequence[Window],
    *,
    length: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Yields every window exactly once over all processes, each of which gets as many batches.

    All windows of a recording go to one process, which can pool what is detected in them.

    Args:
        dataset: the data set of the recordings.
        recordings: what the windows refer to.
        windows: from `inference_windows`.
        length: T, frames of a window.
        batch_size: windows of all processes together.
        process_index: which recordings this process reads; see `reads`.
        process_count: how many processes there are.

    Raises:
        ValueError: a batch size that the number of processes does not divide.
    """
    share = len(_share(batch_size, process_index, process_count))
    shares = [
        [i for i, w in enumerate(windows) if reads(process, process_count, w)]
        for process in range(process_count)
    ]
    num_batches = -(-max(map(len, shares)) // share)
    padded = np.full(num_batches * share, -1, np.int32)
    padded[: len(shares[process_index])] = shares[process_index]
    read = _reader(dataset, recordings)

    def batch(number: int) -> Batch:
        indices = padded[number * share : (number + 1) * share]
        result = _blank(dataset, share, length) | {"window": indices}
        for row in np.flatnonzero(indices >= 0):
            window = windows[indices[row]]
            stop = window.offset + window.num_frames
            _fill(result, row, read(window.recording)[window.offset : stop])
        return result

    return map_ahead(batch, range(num_batches), READERS, PREFETCH)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Iterator[Result]:
    """Yields `function` of each item in their order, while threads work on the next ones.

    Threads do, as reading files and (de)compressing arrays release Python's lock. They end with the
    iterator; at most `ahead` results wait.
    """
    with concurrent.futures.ThreadPoolExecutor(workers, "ahead") as pool:
        pending: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _share(batch_size: int, process_index: int, process_count: int) -> Int[np.ndarray, " b"]:
    """Returns the positions of the global batch that a process reads."""
    if batch_size % process_count:
        raise ValueError(
            f"a batch of {batch_size} windows does not divide among {process_count} processes; "
            f"use a multiple of {process_count}"
        )
    share = batch_size // process_count
    return process_index * share + np.arange(share)


def _reader(
    dataset: Dataset, recordings: Sequence[Recording]
) -> Callable[[int], Float[np.ndarray, "F C"]]:
    """Returns a function index -> features that caches where that takes little memory."""
    frames = sum(recording.num_frames for recording in recordings)
    size = frames * dataset.num_channels * dataset.dtype.itemsize
    maxsize = None if size <= CACHE_BYTES else NEARBY_RECORDINGS
    return functools.lru_cache(maxsize)(lambda index: dataset.features(recordings[index]))


def _blank(dataset: Dataset, size: int, length: int) -> Batch:
    """Returns a batch of padding alone."""
    return {
        "features": np.zeros((size, length, dataset.num_channels), dataset.dtype),
        "num_frames": np.zeros(size, np.int32),
    }


def _fill(batch: Batch, row: SupportsIndex, frames: Float[np.ndarray, "n C"]) -> None:
    """Writes the frames of a window into a row of the batch."""
    batch["features"][row, : len(frames)] = frames
    batch["num_frames"][row] = len(frames)
