"""Windows -> detections, each window exactly once, on any number of devices."""

import collections
import functools
import io
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from segtad_jax import postprocess
from segtad_jax.data import pipeline
from segtad_jax.data.class_scores import read_class_scores
from segtad_jax.data.dataset import Dataset, Recording
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD
from segtad_jax.postprocess import Detection, Selected
from segtad_jax.runtime import parallel

Item = TypeVar("Item")


class Detected(NamedTuple):
    """Results by the ids of recordings."""

    detections: dict[str, list[Detection]]  # best first
    # Of the classes of every frame (Eq. 3), class 0 the background: the mean over windows.
    probabilities: dict[str, Float[np.ndarray, "F K"]]
    notes: dict[str, str]  # what is not as if all candidates had been kept


class Detector:
    """Applies a trained model to all windows of recordings and joins the results."""

    def __init__(
        self,
        config: ConfigDict,
        classes: Sequence[str],
        check: Callable[[], None] = lambda: None,
        devices: Sequence[jax.Device] | None = None,
        *,
        segments: bool = False,
    ) -> None:
        """Compiles nothing yet.

        Args:
            config: the model's; checked by the caller.
            classes: names in the order of the model's labels 1..D.
            check: called before every batch; may raise to leave.
            devices: to compile for; by default all.
            segments: whether `detect` can also segment; what only detects saves these outputs.
        """
        self._config, self._classes, self._check = config, tuple(classes), check
        self._segments = segments
        constants = grid(config)
        model = SegTAD(config, len(classes))
        settings = config.eval

        def predict(variables: Any, batch: dict[str, jax.Array], finish: bool) -> Any:
            outputs: Any = model.apply(variables, batch["features"], batch["num_frames"])
            results = postprocess.process_batch(
                *(outputs, constants.segments, batch["num_frames"], batch["cut"], settings, finish),
                scales=constants.scales,
            )
            # Which windows these are, -1 for padding, and the logits that name frames' classes.
            logits = postprocess.class_logits(outputs) if segments else None
            return batch["window"], results, logits, postprocess.finite(outputs)

        # A recording that is one window is finished on the device; else its windows are pooled.
        self.whole_step = parallel.divide_step(functools.partial(predict, finish=True), devices)
        self.window_step = parallel.divide_step(functools.partial(predict, finish=False), devices)
        self._select = jax.jit(functools.partial(postprocess.select, settings=settings))

    def detect(
        self,
        variables: Any,
        dataset: Dataset,
        recordings: Sequence[Recording],
        windows: Sequence[pipeline.Window] | None = None,
        segmented: int = 0,
    ) -> Detected:
        """Detects in all recordings, and segments the first ones, in one pass over their windows.

        All processes get the results of all recordings.

        Args:
            variables: {"params", "batch_stats"} of SegTAD.
            dataset: where the recordings' features are.
            recordings: of that data set.
            windows: of these, as `pipeline.inference_windows` cuts them.
            segmented: how many recordings, from the first, are segmented.

        Raises:
            NotFiniteError: the network's outputs for some recordings have NaN or infinity.
            RuntimeError: if a window was not seen exactly once.
            ValueError: `eval.class_scores` names a file that does not have all of the recordings,
                or it was made without `segments` and shall segment.
        """
        if segmented and not self._segments:
            raise ValueError("this Detector was made without `segments`, and cannot segment")
        if windows is None:
            frames, settings = self._config.data.num_frames, self._config.eval
            windows = pipeline.inference_windows(
                recordings, frames, settings.window_overlap, settings.whole_windows
            )
        video_scores = self.video_scores(recordings)
        broken: set[str] = set()  # recordings with outputs that are no numbers
        segmentation = _Segmentation(recordings[:segmented], len(self._classes) + 1)
        sizes = collections.Counter(w.recording for w in windows)

        def results() -> Iterator[tuple[int, Any]]:
            for index, result, logits, finite in _fetched(
                self._dispatched(windows, sizes, variables, dataset, recordings, segmented)
            ):
                if not finite:
                    broken.add(recordings[windows[index].recording].video)
                if logits is not None:
                    segmentation.add(windows[index], logits)
                yield index, result

        detections: dict[str, list[Detection]] = {}
        notes: dict[str, str] = {}
        for number, on_device, left_out in _one_later(
            self._selected(results(), windows, sizes, recordings)
        ):
            recording, selected = recordings[number], jax.device_get(on_device)
            scores = video_scores.get(recording.video)
            detections[recording.video] = self._to_detections(recording, scores, selected)
            if note := postprocess.told_left_out(left_out, selected):
                notes[recording.video] = note
        _require_finite(broken)
        detections, notes = _from_all_processes(detections, notes, recordings)
        return Detected(detections, segmentation.probabilities(), notes)

    def compile_selections(self, windows: int) -> None:
        """Compiles soft-NMS for recordings of up to so many windows, whatever is found in them."""
        num_classes = 1 if self._config.eval.class_scores else len(self._classes)
        most, number = windows * len(grid(self._config).segments), 1
        while number < 2 * most:  # each power of two, the last one holds them all
            self._select(postprocess.no_candidates(num_classes, number))
            number *= 2

    def _selected(
        self,
        results: Iterable[tuple[int, Any]],
        windows: Sequence[pipeline.Window],
        sizes: Mapping[int, int],
        recordings: Sequence[Recording],
    ) -> Iterator[tuple[int, Selected, float]]:
        """Yields each recording's index and what soft-NMS selects in it, as soon as it is begun.

        And the best score of the candidates that were left out of this. `results` are the windows',
        by their index.
        """
        waiting = collections.Counter(w.recording for w in windows if _is_mine(w))
        pools: dict[int, postprocess.Pool] = {}
        for index, result in results:
            number = windows[index].recording
            waiting[number] -= 1
            if sizes[number] == 1:
                yield number, result, float("-inf")
                continue
            # Candidates, to be pooled with the recording's last window.
            pool = pools.setdefault(number, postprocess.Pool(len(result.scores)))
            pool.add(result, windows[index].offset)
            if not waiting[number]:
                del pools[number]
                kept = pool.candidates()
                yield number, self._select(kept), pool.left_out
        unseen = [recordings[r].video for r, count in waiting.items() if count]
        if unseen:
            raise RuntimeError(f"not every window was seen exactly once, in: {unseen[:10]}")

    def _to_detections(
        self, recording: Recording, scores: dict[str, float] | None, selected: Selected
    ) -> list[Detection]:
        """Turns what soft-NMS selected in a recording into detections in seconds, with labels.

        `scores` are the video's of `video_scores`, None where the frames' own name the classes.
        """
        classes = self._classes if scores is None else ("",)
        rows = postprocess.in_seconds(selected, classes, recording.rate, recording.duration)
        if scores is None:
            return rows
        return postprocess.with_video_classes(rows, scores, self._config.eval)

    def video_scores(self, recordings: Sequence[Recording]) -> dict[str, dict[str, float]]:
        """Returns {video: {label: score}} of the file `eval.class_scores`; {} if none is named."""
        if not (path := self._config.eval.class_scores):
            return {}
        return read_class_scores(path, [r.video for r in recordings], self._classes)

    def _dispatched(
        self,
        windows: Sequence[pipeline.Window],
        sizes: Mapping[int, int],
        variables: Any,
        dataset: Dataset,
        recordings: Sequence[Recording],
        segmented: int,
    ) -> Iterator[tuple[Any, list[bool]]]:
        """Yields what a step returns for each batch, unfinished, and which rows are segmented."""
        frames = self._config.data.num_frames
        variables = parallel.replicate(variables)
        cut = np.array(
            [
                (w.offset > 0, w.offset + frames < recordings[w.recording].num_frames)
                for w in windows
            ]
            + [(False, False)]  # window -1: padding of the batch
        )
        # Which step a recording goes through depends on nothing but its own length.
        for step, single in ((self.whole_step, True), (self.window_step, False)):
            chosen = [i for i, w in enumerate(windows) if (sizes[w.recording] == 1) == single]
            for batch in pipeline.inference_batches(
                dataset,
                recordings,
                [windows[i] for i in chosen],
                length=frames,
                batch_size=self._config.eval.batch_size,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
            ):
                self._check()
                batch["window"] = np.array([*chosen, -1], np.int32)[batch["window"]]
                inputs = {k: batch[k] for k in ("features", "num_frames", "window")}
                inputs["cut"] = cut[batch["window"]]
                drawn = [i >= 0 and windows[i].recording < segmented for i in batch["window"]]
                yield step(variables, parallel.shard_batch(inputs)), drawn


def _one_later(items: Iterable[Item]) -> Iterator[Item]:
    """Yields each item when the next one is made: devices work on it while the host does."""
    waiting: list[Item] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


def _fetched(
    dispatched: Iterable[tuple[Any, list[bool]]],
) -> Iterator[tuple[int, Any, np.ndarray | None, bool]]:
    """Yields index, result, frame logits if segmented, and whether all outputs are finite."""
    for outputs, drawn in _one_later(dispatched):
        index, results, logits, finite = outputs
        index, results, finite = parallel.local_part((index, results, finite))
        # Logits are much larger than results: they stay where nobody draws them.
        frame_logits = parallel.local_part(logits) if any(drawn) else None
        for row in np.flatnonzero(index >= 0):
            yield (
                int(index[row]),
                jax.tree.map(operator.itemgetter(row), results),
                frame_logits[row] if frame_logits is not None and drawn[row] else None,
                bool(finite[row]),
            )


class NotFiniteError(FloatingPointError):
    """The network made NaN or infinity of recordings, whose ids are `videos`."""

    def __init__(self, videos: Sequence[str]) -> None:
        shown = ", ".join(videos[:10])
        super().__init__(
            f"the network's outputs have NaN or infinity for {len(videos)} recordings: {shown}. "
            "Either their features have values that training never had, or the training failed. "
            "`segtad_jax.prepare --blocked=FILE` leaves recordings out."
        )
        self.videos = list(videos)


def _require_finite(videos: Iterable[str]) -> None:
    """Raises NotFiniteError, in all processes at once, if there are such recordings in any."""
    found = parallel.all_gather(json.dumps(sorted(videos)).encode())
    if everywhere := sorted({video for content in found for video in json.loads(content)}):
        raise NotFiniteError(everywhere)


class _Segmentation:
    """Probabilities of every frame's classes, averaged over windows as they come in."""

    def __init__(self, recordings: Sequence[Recording], num_outputs: int) -> None:
        self._recordings = recordings
        self._num_outputs = num_outputs
        self._sums: dict[int, np.ndarray] = {}  # by index of the recording

    def add(self, window: pipeline.Window, logits: Float[np.ndarray, "T K"]) -> None:
        number = window.recording
        if number not in self._sums:
            frames = self._recordings[number].num_frames
            self._sums[number] = np.zeros((frames, self._num_outputs), np.float32)
        logits = logits[: window.num_frames].astype(np.float32)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        stop = window.offset + window.num_frames
        self._sums[number][window.offset : stop] += odds / odds.sum(axis=1, keepdims=True)

    def probabilities(self) -> dict[str, Float[np.ndarray, "F K"]]:
        """Returns those of all recordings, from all processes."""
        curves = {
            str(r): total / total.sum(axis=1, keepdims=True) for r, total in self._sums.items()
        }
        if not parallel.is_alone():
            content = io.BytesIO()
            np.savez(content, **curves)
            for theirs in parallel.all_gather(content.getvalue()):
                curves |= np.load(io.BytesIO(theirs))
        return {recording.video: curves[str(r)] for r, recording in enumerate(self._recordings)}


def _is_mine(window: pipeline.Window) -> bool:
    return pipeline.reads(jax.process_index(), jax.process_count(), window)


def _from_all_processes(
    detections: dict[str, list[Detection]],
    notes: dict[str, str],
    recordings: Sequence[Recording],
) -> tuple[dict[str, list[Detection]], dict[str, str]]:
    """Returns the detections of all processes, in the recordings' order, and their notes.

    Raises:
        RuntimeError: no process has the detections of a recording.
    """
    if not parallel.is_alone():
        for content in parallel.all_gather(json.dumps([detections, notes]).encode()):
            theirs, noted = json.loads(content)
            detections |= {video: [Detection(*d) for d in theirs[video]] for video in theirs}
            notes |= noted
    if missing := [r.video for r in recordings if r.video not in detections]:
        raise RuntimeError(f"no process has the detections of {missing[:10]}")
    return {recording.video: detections[recording.video] for recording in recordings}, notes
