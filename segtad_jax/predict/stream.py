"""Detections in a recording that goes on: `segtad_jax.load(RUN).stream(rate=...)`."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from segtad_jax.data.features import FeatureError, cast
from segtad_jax.data.preparation import Preparation
from segtad_jax.data.signals import LOOK_AHEAD, GrowingStatistics
from segtad_jax.evaluation.instances import temporal_iou
from segtad_jax.evaluation.operating_point import Threshold, above
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD
from segtad_jax.postprocess import Candidates, Detection, Selected, finite, process_batch, select

CONTEXT = 1 / 32  # of the window: what the network sees beyond an action's end by default


class Decided(NamedTuple):
    """Detections as arrays, in frames of the recording."""

    segments: Float[np.ndarray, "n 2"]
    labels: Int[np.ndarray, " n"]  # 0..D-1
    scores: Float[np.ndarray, " n"]

    def where(self, chosen: Bool[np.ndarray, " n"] | Int[np.ndarray, " k"]) -> "Decided":
        """Returns some of them."""
        return Decided(*(column[chosen] for column in self))


NOTHING = Decided(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0))


class WindowProgram:
    """A model's compiled programs for one window at a time, which all of its streams share."""

    def __init__(
        self, config: ConfigDict, classes: Sequence[str], variables: Mapping[str, Any]
    ) -> None:
        """Compiles nothing yet."""
        self.config, self.classes = config, tuple(classes)
        self.num_frames: int = config.data.num_frames
        constants = grid(config)
        model = SegTAD(config, len(classes))

        def score(
            variables: Mapping[str, Any], features: Array, frames: Array, cut: Array
        ) -> tuple[Candidates | Selected, Bool[Array, " b"]]:
            outputs: Any = model.apply(variables, features, frames)
            found = process_batch(
                *(outputs, constants.segments, frames, cut, config.eval, False),
                scales=constants.scales,
            )
            return found, finite(outputs)

        self._score = functools.partial(jax.jit(score), jax.device_put(variables))
        self._select = jax.jit(functools.partial(select, settings=config.eval))

    def warm_up(self, channels: int) -> None:
        """Compiles for features of so many channels."""
        one = np.zeros((1, self.num_frames, channels), np.float32)
        found, _ = self._score(one, np.ones(1, np.int32), np.zeros((1, 2), bool))
        jax.block_until_ready(self._select(jax.tree.map(lambda x: x[0], found)))

    def candidates(
        self, frames: Float[np.ndarray, "n C"], *, goes_back: bool
    ) -> tuple[Float[np.ndarray, "D M"], Float[np.ndarray, "M 2"]]:
        """Returns scores and segments of the candidates in the last frames of a recording.

        Args:
            frames: T or fewer; the recording ends with them.
            goes_back: whether the recording has others before them.

        Raises:
            FeatureError: kind 'not_finite': the network makes NaN or infinity of them.
        """
        features = np.zeros((1, self.num_frames, frames.shape[1]), np.float32)
        features[0, : len(frames)] = frames
        number, cut = np.array([len(frames)], np.int32), np.array([[goes_back, False]])
        found, sound = jax.device_get(self._score(features, number, cut))
        if not sound.all():
            largest = np.abs(frames).max()
            raise FeatureError(
                "not_finite",
                "the network makes NaN or infinity of it; the largest feature of the window is "
                f"{largest:g}",
            )
        return found.scores[0], found.segments[0]

    def select(
        self, scores: Float[np.ndarray, "D M"], segments: Float[np.ndarray, "M 2"]
    ) -> Decided:
        """Returns what soft-NMS takes of a window's candidates, in frames of the window."""
        candidates = Candidates(scores.astype(np.float32), segments)
        labels, taken, left = jax.device_get(self._select(candidates))
        there = labels >= 0
        return Decided(taken.astype(np.float64), labels, left.astype(np.float64)).where(there)


class DetectionStream:
    """Detects in a recording while it goes on; `Trained.stream` makes one.

    At each frame n = s, 2s, 3s, ... (s frames are `every` seconds) the network sees the newest T
    frames, the model's window, as if the recording ended there. Then it is decided about the
    actions that end c frames or more before n, and later than those of the window before; so each
    end is decided about in one window:

    1. Candidates are those of `detect` in this window, with their scores and moved boundaries, less
       those whose ends earlier windows have decided about. Those that end after n - c stay: they
       may be better than what ends before.
    2. A candidate of score q loses (1 - exp(-tIoU^2 / sigma)) * min(p, q) to a decided detection of
       its class with score p; of several, to the one that takes the most. Both together have the
       score then that soft-NMS would leave them, and what was yielded is never taken back.
    3. Soft-NMS takes the best `eval.max_detections`, as in `detect`. Those that end at n - c or
       before, with a score above `eval.min_score`, are decided detections; they are yielded if they
       reach the threshold, in the order of their ends.

    `finish` decides about all ends that are left, in the last T frames of the recording. How the
    samples were cut into parts never matters, and another threshold only leaves out more or less.
    An action must be shorter than T - c - s frames, as for `detect` shorter than T.

    Attributes:
        delay: seconds: an action that ends at second t is yielded by the time that there are
            samples up to second t + delay.
        least_delay: the least that `delay` can be with this `every`, in seconds: what the features
            of signals look ahead, a step from window to window, and a frame.
        every: seconds from one window to the next, a whole number of frames.
    """

    def __init__(
        self,
        program: WindowProgram,
        preparation: Preparation,
        rate: float,
        threshold: Threshold,
        delay: float | None,
        every: float,
    ) -> None:
        """Compiles what is not compiled yet, so that no `push` waits for it; see `Trained.stream`.

        Raises:
            ValueError: the model needs whole recordings, or delay and every cannot be.
        """
        _require_no_whole(program.config, preparation)
        signals = preparation.signals
        self._program, self._preparation, self._threshold = program, preparation, threshold
        self._signals = signals
        if signals is not None:
            self._statistics = GrowingStatistics(signals.samples, signals.channels)
        self._rate = rate if signals is None else rate / signals.samples  # of frames
        self._step = max(round(every * self._rate), 1)
        most = program.num_frames // 2 - self._step  # of context
        if most < 1:
            longest = (program.num_frames // 2 - 1) / self._rate
            raise ValueError(f"every={every:g} is too long for the window: at most {longest:g} s")
        ahead = self._step + (LOOK_AHEAD if signals else 0)
        self._context = min(max(round(CONTEXT * program.num_frames), 1), most)
        if delay is not None:
            self._context = int(delay * self._rate + 1e-6) - ahead
        self.every, self.least_delay = self._step / self._rate, (ahead + 1) / self._rate
        self.delay = (ahead + self._context) / self._rate
        if not 1 <= self._context <= most:
            longest = (ahead + most) / self._rate
            raise ValueError(
                f"delay={delay:g} must be {self.least_delay:g} to {longest:g} s, with a window "
                f"every {self.every:g} s"
            )
        self._newest = np.zeros((0, preparation.num_channels), np.float32)  # frames, T at most
        self._samples = self._known = 0  # so many came; so many frames are known
        self._next = self._step  # frame at which the next window ends
        self._decided = NOTHING  # that candidates to come may overlap
        self._end = 0.0  # frame up to which ends are decided about
        self._over = self._noted = False
        program.warm_up(preparation.num_channels)

    def push(self, samples: ArrayLike) -> list[Detection]:
        """Takes the next samples; returns the actions that are final now, in order of their ends.

        Args:
            samples: any number by channels, or the channels of one: raw samples where the model
                was trained on signals, else features. Several sources lie side by side.

        Raises:
            FeatureError: another width than in training's, or something that is no finite number,
                or far from training's. None of these samples was taken; the stream can go on. Not
                so after kind 'not_finite' of the network, or 'overflow' of the features of signals.
            ValueError: the stream is over.
        """
        self._require_on()
        return self._advance(self._checked(samples), last=False)

    def finish(self) -> list[Detection]:
        """Ends the recording; returns the actions that were not final yet."""
        self._require_on()
        nothing = np.zeros((0, sum(self._preparation.widths)), np.float32)
        found = self._advance(nothing, last=True)
        if not self._known:
            text = f"the stream is over after {self._samples} samples, which fill no frame"
            warnings.warn(f"{text}: nothing can be found", stacklevel=2)
        return found

    def _require_on(self) -> None:
        if self._over:
            raise ValueError(
                "the stream is over, by finish() or an error in push(): begin another one"
            )

    def _checked(self, samples: ArrayLike) -> Float[np.ndarray, "n channels"]:
        """Returns samples as float32."""
        try:
            array = np.atleast_2d(np.asarray(samples))
        except ValueError as error:
            raise FeatureError("bad_shape", f"samples by channels expected: {error}") from error
        where = f"samples after the first {self._samples:,}"
        width = sum(self._preparation.widths)
        if array.ndim != 2 or array.shape[1] != width:
            raise FeatureError(
                "wrong_width", f"{where}: their shape is {array.shape}, expected (any, {width})"
            )
        if array.dtype.kind not in "fiu":
            raise FeatureError("bad_type", f"{where}: hold {array.dtype}, expected numbers")
        stored = np.float32 if self._signals else self._preparation.dtype
        cast(array, np.dtype(stored), where, "training's features were stored as such")
        array = array.astype(np.float32)
        if self._preparation.range is not None and len(array):
            note = self._preparation.range.compare([array])
            if note and not self._noted:
                warnings.warn(f"{where}: {note}", stacklevel=3)
                self._noted = True
        return array

    def _advance(self, samples: Float[np.ndarray, "n _"], *, last: bool) -> list[Detection]:
        self._over = True  # should anything fail: the frames would not be whole
        frames = samples
        if self._signals is not None:
            frames = self._signals.normalise(self._statistics.add(samples, last=last))
        stored = np.dtype(self._preparation.dtype)
        cast(frames, stored, "features", "training's features were stored as such")
        self._newest = np.concatenate([self._newest, frames])
        self._samples += len(samples)
        self._known += len(frames)
        found = []
        while self._next <= self._known:
            found += self._decide(self._next, self._next - self._context)
            self._next += self._step
        if last and self._known:
            found += self._decide(self._known, self._known)
        self._newest = self._newest[-self._program.num_frames :]
        self._over = last
        return above({"": found}, self._threshold)[""]

    def _decide(self, stop: int, end: int) -> list[Detection]:
        """Decides about actions that end by frame `end`, in the window that ends at frame `stop`.

        Returns them in order of their ends, whatever their scores.
        """
        first = max(stop - self._program.num_frames, 0)
        there = self._known - len(self._newest)  # the first frame of these
        frames = self._newest[first - there : stop - there]
        scores, segments = self._program.candidates(frames, goes_back=first > 0)
        moved = segments.astype(np.float64) + first
        scores = np.where(moved[:, 1] > self._end, scores.astype(np.float64), -np.inf)
        settings = self._program.config.eval
        for label in np.unique(self._decided.labels):
            before = self._decided.where(self._decided.labels == label)
            rows = np.flatnonzero(scores[label] > -np.inf)
            tiou = temporal_iou(*before.segments.T[:, :, None], *moved[rows].T[:, None])
            both = np.minimum(before.scores[:, None], scores[label, rows])
            lost = (1 - np.exp(-(tiou**2) / settings.sigma)) * both
            scores[label, rows] -= lost.max(axis=0)
        found = self._program.select(scores, segments)
        found = found._replace(segments=found.segments + first)
        found = found.where((found.segments[:, 1] <= end) & (found.scores > settings.min_score))
        found = found.where(np.argsort(found.segments[:, 1], kind="stable"))
        joined = Decided(*map(np.concatenate, zip(self._decided, found, strict=True)))
        self._decided = joined.where(joined.segments[:, 1] > first)
        self._end = max(end, self._end)
        return [
            Detection(start, stop, self._program.classes[label], score)
            for (start, stop), label, score in zip(
                (found.segments / self._rate).tolist(),
                found.labels.tolist(),
                found.scores.tolist(),
                strict=True,
            )
        ]


def _require_no_whole(config: ConfigDict, preparation: Preparation) -> None:
    """Raises ValueError if the model can only detect in whole recordings."""
    if preparation.num_frames is not None:
        raise ValueError(
            f"the model was trained on recordings resized to {preparation.num_frames} frames, and "
            "how long a stream will be is not known: prepare the training data without "
            "--num_frames, or use detect"
        )
    if config.eval.class_scores:
        raise ValueError(
            "eval.class_scores names the classes of whole recordings, which a stream does not "
            "know: load the model with class_scores='', for the frames' own classes, or use detect"
        )
