"""A trained model over recordings: windows -> candidates on the devices -> postprocess."""

import collections
import functools
import io
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from segtad_jax import postprocess
from segtad_jax.data import pipeline
from segtad_jax.data.class_scores import read_class_scores
from segtad_jax.data.dataset import Dataset, Recording
from segtad_jax.evaluation import scoring
from segtad_jax.evaluation.ceiling import Clip, grid_ceiling
from segtad_jax.models.segtad import SegTAD, grid
from segtad_jax.postprocess import Candidates, Detection, Selected
from segtad_jax.runtime import parallel


class Detector:
    """Detects actions in recordings, each exactly once on any number of devices."""

    def __init__(
        self,
        config: ConfigDict,
        classes: Sequence[str],
        check: Callable[[], None] = lambda: None,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        """Compiles nothing yet.

        Args:
            config: the model's; checked by the caller.
            classes: names in the order of the model's labels 1..D.
            check: called before every batch; may raise to leave.
            devices: to compile for; by default all.
        """
        self._config, self._classes, self._check = config, tuple(classes), check
        segments = grid(config).segments
        model = SegTAD(config, len(classes))
        settings = config.eval

        def predict(variables: Any, batch: dict[str, jax.Array], finish: bool) -> Any:
            outputs: Any = model.apply(variables, batch["features"], batch["num_frames"])
            return postprocess.of_batch(
                outputs, segments, batch["num_frames"], batch["cut"], settings, finish
            )

        def frames_step(variables: Any, batch: dict[str, jax.Array]) -> jax.Array:
            outputs: Any = model.apply(variables, batch["features"], batch["num_frames"])
            # What else is in them is not computed.
            return jax.nn.softmax(postprocess.class_logits(outputs))

        # A recording that is one window is finished on the device; else its windows are pooled.
        self.predict_step = _with_window(functools.partial(predict, finish=True), devices)
        self._predict_windows = _with_window(functools.partial(predict, finish=False), devices)
        self._select = jax.jit(functools.partial(postprocess.select, settings=settings))
        self._predict_frames = _with_window(frames_step, devices)

    def detect(
        self, variables: Any, dataset: Dataset, recordings: Sequence[Recording]
    ) -> dict[str, list[Detection]]:
        """Detections of every recording, best first; all processes get those of all recordings.

        Args:
            variables: {"params", "batch_stats"} of SegTAD.
            dataset: where the recordings' features are.
            recordings: of that data set.

        Raises:
            RuntimeError: if a window was not seen exactly once.
            ValueError: `eval.class_scores` names a file that does not have all of the recordings.
        """
        video_scores = self.video_scores(recordings)
        frames, overlap = self._config.data.num_frames, self._config.eval.window_overlap
        windows = pipeline.inference_windows(recordings, frames, overlap)
        waiting = collections.Counter(w.recording for w in windows if _is_mine(w))
        found: dict[str, list[Detection]] = {}

        def finish(number: int, selected: Selected) -> None:
            recording = recordings[number]
            scores = video_scores.get(recording.video)
            classes = self._classes if scores is None else ("",)
            detected = postprocess.in_seconds(selected, classes, recording.rate, recording.duration)
            if scores is not None:
                detected = postprocess.with_video_classes(detected, scores, self._config.eval)
            found[recording.video] = detected

        parts: dict[int, dict[int, Candidates]] = collections.defaultdict(dict)
        whole = len(windows) == len(recordings)
        predict = self.predict_step if whole else self._predict_windows
        for index, result in self._over(windows, predict, variables, dataset, recordings):
            number = windows[index].recording
            waiting[number] -= 1
            if whole:
                finish(number, result)
                continue
            parts[number][index] = result
            if not waiting[number]:
                pieces = sorted(parts.pop(number).items())
                offsets = [windows[i].offset for i, _ in pieces]
                pooled = postprocess.pool([candidates for _, candidates in pieces], offsets)
                finish(number, jax.device_get(self._select(pooled)))
        unseen = [recordings[r].video for r, count in waiting.items() if count]
        if unseen:
            raise RuntimeError(f"not every window was seen exactly once, in: {unseen[:10]}")
        if not parallel.is_alone():
            for content in parallel.all_gather(json.dumps(found).encode()):
                theirs = json.loads(content)
                found |= {video: [Detection(*d) for d in theirs[video]] for video in theirs}
        if missing := [r.video for r in recordings if r.video not in found]:
            raise RuntimeError(f"no process has the detections of {missing[:10]}")
        return {recording.video: found[recording.video] for recording in recordings}

    def frame_probabilities(
        self, variables: Any, dataset: Dataset, recordings: Sequence[Recording]
    ) -> dict[str, Float[np.ndarray, "F K"]]:
        """The segmentation of every frame (Eq. 3), class 0 the background; windows are averaged.

        All processes get those of all recordings.
        """
        frames, overlap = self._config.data.num_frames, self._config.eval.window_overlap
        windows = pipeline.inference_windows(recordings, frames, overlap)
        sums = {
            w.recording: np.zeros(
                (recordings[w.recording].num_frames, len(self._classes) + 1), np.float32
            )
            for w in windows
            if _is_mine(w)
        }
        for index, found in self._over(
            windows, self._predict_frames, variables, dataset, recordings
        ):
            window = windows[index]
            stop = window.offset + window.num_frames
            sums[window.recording][window.offset : stop] += found[: window.num_frames]
        curves = {str(r): total / total.sum(axis=1, keepdims=True) for r, total in sums.items()}
        if not parallel.is_alone():
            own = io.BytesIO()
            np.savez(own, **curves)
            for content in parallel.all_gather(own.getvalue()):
                curves |= np.load(io.BytesIO(content))
        return {recording.video: curves[str(r)] for r, recording in enumerate(recordings)}

    def video_scores(self, recordings: Sequence[Recording]) -> dict[str, dict[str, float]]:
        """{video: {label: score}} of the file `eval.class_scores`; empty where there is none."""
        if not (path := self._config.eval.class_scores):
            return {}
        return read_class_scores(path, [r.video for r in recordings], self._classes)

    def _over(
        self,
        windows: Sequence[pipeline.Window],
        predict: Callable,
        variables: Any,
        dataset: Dataset,
        recordings: Sequence[Recording],
    ) -> Iterator[tuple[int, Any]]:
        """(index of the window, its part of what `predict` gives) for each of this process."""
        frames = self._config.data.num_frames
        variables = parallel.replicate(variables)
        cut = np.array(
            [
                (w.offset > 0, w.offset + frames < recordings[w.recording].num_frames)
                for w in windows
            ]
            + [(False, False)]  # window -1: padding of the batch
        )
        for batch in pipeline.inference_batches(
            dataset,
            recordings,
            windows,
            window=frames,
            batch_size=self._config.eval.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        ):
            self._check()
            inputs = {k: batch[k] for k in ("features", "num_frames", "window")}
            inputs["cut"] = cut[batch["window"]]
            index, outputs = parallel.local_part(predict(variables, parallel.shard_batch(inputs)))
            for i in np.flatnonzero(index >= 0):
                yield int(index[i]), jax.tree.map(operator.itemgetter(i), outputs)


def _is_mine(window: pipeline.Window) -> bool:
    return pipeline.reads(jax.process_index(), jax.process_count(), window)


def _with_window(step: Callable, devices: Sequence[jax.Device] | None) -> Callable:
    """Compiles a step of inference; its outputs say which windows they are of, -1 for padding."""
    return parallel.divide_step(
        lambda variables, batch: (batch["window"], step(variables, batch)), devices
    )


def annotations(
    recordings: Sequence[Recording], classes: Sequence[str]
) -> dict[str, list[tuple[float, float, str]]]:
    """The recordings' actions as the evaluation takes them: {video: [(start, end, label)]}."""
    return {
        r.video: [
            (float(start), float(end), classes[label - 1])
            for (start, end), label in zip(r.segments, r.labels, strict=True)
        ]
        for r in recordings
    }


def ceiling(
    config: ConfigDict, recordings: Sequence[Recording], classes: Sequence[str]
) -> dict[str, float]:
    """The best mAP that unmoved proposals of the grid allow: {"0.50": fraction, ..., "average"}."""
    frames, overlap = config.data.num_frames, config.eval.window_overlap
    offsets: dict[int, list[int]] = collections.defaultdict(list)
    for window in pipeline.inference_windows(recordings, frames, overlap):
        offsets[window.recording].append(window.offset)
    truth = annotations(recordings, classes)
    clips = {
        r.video: Clip(r.num_frames, r.rate, r.duration, offsets[number], truth[r.video])
        for number, r in enumerate(recordings)
    }
    thresholds = scoring.PROTOCOLS["activitynet"]
    return grid_ceiling(clips, frames, config.model.stride, thresholds)["map"]


def evaluate(
    found: dict[str, list[Detection]],
    recordings: Sequence[Recording],
    classes: Sequence[str],
    metrics: Sequence[str] = scoring.METRICS,
) -> dict[str, Any]:
    """Scores detections against the recordings' annotations: see `evaluation.scoring.evaluate`."""
    durations = {r.video: r.duration for r in recordings}
    truth = annotations(recordings, classes)
    return scoring.evaluate(truth, found, metrics=metrics, durations=durations)
