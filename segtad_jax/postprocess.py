"""Scores of proposals and frames -> detections: classes, soft-NMS, seconds, and the result file.

Soft-NMS runs once per recording: with the network where a recording is one window (the caller maps
over the windows of a batch), else after the windows of a recording are pooled on the host.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from segtad_jax.evaluation.ids import whole_id
from segtad_jax.ops.boundaries import boundary_scores, centre, snap
from segtad_jax.ops.nms import LANES, soft_nms
from segtad_jax.ops.videos import over_videos
from segtad_jax.runtime.files import write_json

POOLED = 1 << 23  # scores of a recording that are pooled at most, over all classes


class Candidates(NamedTuple):
    """Proposals with a score for each class."""

    scores: Float[Array | np.ndarray, "*b D M"]  # -inf: none
    segments: Float[Array | np.ndarray, "*b M 2"]  # in frames; pooled: [D, M, 2], each class's own


class Selected(NamedTuple):
    """Segments that soft-NMS selected, best first; R is `eval.max_detections`."""

    labels: Int[Array | np.ndarray, "*b R"]  # 0..D-1; -1: none
    segments: Float[Array | np.ndarray, "*b R 2"]  # in frames
    scores: Float[Array | np.ndarray, "*b R"]


class Detection(NamedTuple):
    """A detected action; start and end in seconds."""

    start: float
    end: float
    label: str
    score: float

    @property
    def segment(self) -> tuple[float, float]:
        """Start and end."""
        return self.start, self.end

    def to_dict(self) -> dict[str, Any]:
        """Returns the official form."""
        return {"score": self.score, "segment": [self.start, self.end], "label": self.label}


def class_logits(outputs: Mapping[str, Array]) -> Array:
    """Returns the logits that name classes: those of the classifier where SegTAD has one."""
    return outputs.get("class_logits", outputs["frame_logits"])


def finite(outputs: Mapping[str, Array]) -> Bool[Array, " b"]:
    """Returns for each window whether all outputs of the network are finite."""
    floats = [x for x in outputs.values() if jnp.issubdtype(x.dtype, jnp.floating)]
    parts = [jnp.isfinite(x).all(axis=tuple(range(1, x.ndim))) for x in floats]
    return jnp.stack(parts).all(axis=0)


def frame_class_scores(
    frame_logits: Float[Array, "T K"],
    segments: Int[Array | np.ndarray, "M 2"],
    renormalise: bool,
    mean: str = "arithmetic",
) -> Float[Array, "M D"]:
    """Averages the frames' softmax over [start, end) of every proposal; K = D + 1.

    Args:
        frame_logits: class 0 is the background.
        segments: in frames.
        renormalise: divide by the classes' sum, so that scores do not say how much is action.
        mean: 'arithmetic', or 'geometric': a class that some frames rule out is ruled out.
    """
    logits = frame_logits.astype(jnp.float32)
    geometric = mean == "geometric"
    values = (jax.nn.log_softmax if geometric else jax.nn.softmax)(logits)[:, 1:]
    sums = jnp.cumsum(jnp.pad(values, ((1, 0), (0, 0))), axis=0)  # [T + 1, D]
    start, end = jnp.asarray(segments).T
    scores = (sums[end] - sums[start]) / (end - start)[:, None]
    if geometric:
        return jax.nn.softmax(scores) if renormalise else jnp.exp(scores)
    if renormalise:
        # A background that is certain leaves 0 / 0.
        scores /= jnp.maximum(jnp.sum(scores, axis=1, keepdims=True), 1e-12)
    return scores


def candidates(
    outputs: Mapping[str, Array],
    segments: Int[np.ndarray, "M 2"],
    num_frames: Int[Array, ""],
    cut: Bool[Array, "2"],
    settings: ConfigDict,
    scales: Int[np.ndarray, " M"] | None = None,
) -> Candidates:
    """Scores the proposals of one window for soft-NMS: s = s1 * s2 times the class (section 3.4).

    Args:
        outputs: of SegTAD for all M proposals of this window.
        segments: the grid, frames.
        num_frames: real frames of the window.
        cut: whether the recording goes on before and after the window: proposals that touch such
            an edge are dropped, a neighbouring window sees the action whole.
        settings: `config.eval`.
        scales: by which `settings.snap` is multiplied for each proposal, or None for 1.

    Returns:
        Scores for D classes; for a single one, any action, where `class_scores` names a file whose
        scores come later.
    """
    grid = jnp.asarray(segments)
    scores = jnp.prod(jax.nn.sigmoid(outputs["proposal_logits"].astype(jnp.float32)), axis=1)
    start, end = grid.T
    uncut = ~(cut[0] & (start == 0)) & ~(cut[1] & (end == outputs["frame_logits"].shape[0]))
    valid = (end <= num_frames) & uncut
    logits = jnp.stack([outputs["start_logits"], outputs["end_logits"]], axis=1)
    logits = logits.astype(jnp.float32)
    boundaries = jax.nn.sigmoid(logits)
    moved = snap(grid, boundaries, settings.snap, num_frames, scales)
    if settings.boundary_power:
        at_boundaries = jnp.prod(boundary_scores(moved, boundaries), axis=1)
        scores *= at_boundaries**settings.boundary_power
    if settings.snap:  # a frame's score says that the boundary is somewhere in it
        if settings.snap_mean:
            moved = centre(moved, logits, settings.snap, num_frames)
        # But the middle of its first frame is too late for an action that a recording begins with.
        first = (moved == 0) & ~cut[0] & jnp.array([True, False])
        moved = jnp.clip(moved + settings.snap_offset, 0, num_frames) * ~first
    if settings.class_scores:  # section 3.4: soft-NMS of all proposals, then labels
        return Candidates(jnp.where(valid, scores, -jnp.inf)[None], moved)
    classes = frame_class_scores(
        class_logits(outputs), grid, settings.renormalise, settings.class_mean
    )
    scores = scores[:, None] * classes  # [M, D]
    valid = valid[:, None] & (scores > settings.min_score)
    fused = jnp.sqrt(scores) if settings.fusion == "sqrt" else scores
    return Candidates(jnp.where(valid, fused, -jnp.inf).T, moved)


def select(candidates: Candidates, settings: ConfigDict) -> Selected:
    """Applies soft-NMS per class to a recording's candidates; keeps the best `max_detections`."""
    scores, segments = map(jnp.asarray, candidates)
    labels, rows, scores = soft_nms(segments, scores, settings.sigma, settings.max_detections)
    places = segments[rows] if segments.ndim == 2 else segments[labels, rows]
    return Selected(labels, places, scores)


def process_batch(
    outputs: Mapping[str, Array],
    segments: Int[np.ndarray, "M 2"],
    num_frames: Int[Array, " b"],
    cut: Bool[Array, "b 2"],
    settings: ConfigDict,
    finish: bool,
    scales: Int[np.ndarray, " M"] | None = None,
) -> Candidates | Selected:
    """Maps `candidates` over windows, then, if `finish`, `select`: each is a whole recording."""

    def of_window(
        outputs: Mapping[str, Array], num_frames: Array, cut: Array
    ) -> Candidates | Selected:
        scored = candidates(outputs, segments, num_frames, cut, settings, scales)
        return select(scored, settings) if finish else scored

    return over_videos(of_window, outputs, num_frames, cut, real=num_frames > 0)


class Pool:
    """The candidates of a recording, window after window; of each only those that exist.

    Of a class only the best are kept, as many as keep POOLED scores in all: memory does not grow
    with a recording. What scores less than the best that is left out decays nothing above itself,
    so all that is selected down to this score, `left_out`, is as if everything had been kept.
    """

    def __init__(self, num_classes: int) -> None:
        """Starts without any."""
        self._most = max(POOLED // num_classes, LANES)  # of a class
        self._counts = np.zeros(num_classes, int)
        self._parts: list[_Listed] = []
        self.left_out = float("-inf")  # the best score of a candidate that is not kept

    def add(self, window: Candidates, offset: int) -> None:
        """Adds those of the next window in time, which begins at frame `offset`."""
        scores, segments = map(np.asarray, window)
        labels, rows = np.nonzero(scores > -np.inf)
        moved = segments[rows] + np.float32(offset)
        self._parts.append(_Listed(labels, scores[labels, rows], moved))
        self._counts += np.bincount(labels, minlength=len(self._counts))
        if self._counts.max() > 2 * self._most:
            self._keep_best()

    def candidates(self) -> Candidates:
        """Returns all, in one of the shapes of `no_candidates`."""
        self._keep_best()
        (kept,) = self._parts
        scores, segments = no_candidates(len(self._counts), int(self._counts.max()))
        columns = (
            np.arange(len(kept.labels)) - (np.cumsum(self._counts) - self._counts)[kept.labels]
        )
        scores[kept.labels, columns], segments[kept.labels, columns] = kept.scores, kept.segments
        return Candidates(scores, segments)

    def _keep_best(self) -> None:
        """Joins the parts class by class, in order of time within each, less what is too much."""
        joined = _Listed(*map(np.concatenate, zip(*self._parts, strict=True)))
        order = np.argsort(joined.labels, kind="stable")
        stops = np.cumsum(self._counts)
        for label in np.flatnonzero(self._counts > self._most):
            its = order[stops[label] - self._counts[label] : stops[label]]
            worst_first = np.argpartition(joined.scores[its], -self._most)[: -self._most]
            best = float(joined.scores[its[worst_first]].max())
            self.left_out = max(self.left_out, best)
            joined.scores[its[worst_first]] = -np.inf
            self._counts[label] = self._most
        order = order[joined.scores[order] > -np.inf]
        self._parts = [_Listed(*(x[order] for x in joined))]


def no_candidates(num_classes: int, number: int) -> Candidates:
    """Returns the room for so many candidates of each class, or more, without any.

    There is a power of two of a class: `select` is compiled for few shapes.
    """
    shape = num_classes, 1 << (max(number, LANES) - 1).bit_length()
    return Candidates(np.full(shape, -np.inf, np.float32), np.zeros((*shape, 2), np.float32))


class _Listed(NamedTuple):
    """Candidates of all classes, one after the other."""

    labels: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    segments: Float[np.ndarray, "n 2"]


def told_left_out(left_out: float, selected: Selected) -> str:
    """Returns the note on what soft-NMS selected in a pool; '' if nothing that counts is left out.

    As long as all that it selected scores more than what is left out, nothing differs.
    """
    if left_out < selected.scores[-1]:
        return ""
    return (
        "too long to keep all candidates: detections are exact down to a score of "
        f"{left_out:.3g} (before class scores, if there are any), below it some may be missing or "
        "score too much; where these count, cut it into shorter recordings"
    )


def in_seconds(
    selected: Selected, classes: Sequence[str], rate: float, duration: float
) -> list[Detection]:
    """Returns what was selected in a recording, less what is empty once it is clipped to it.

    Args:
        selected: on the host.
        classes: names of the D classes.
        rate: frames per second.
        duration: seconds, to which the segments are clipped.
    """
    taken = selected.labels >= 0
    seconds = np.clip(selected.segments[taken] / rate, 0.0, duration)
    return [
        Detection(start, end, classes[label], score)
        for label, (start, end), score in zip(
            selected.labels[taken].tolist(),
            seconds.tolist(),
            selected.scores[taken].tolist(),
            strict=True,
        )
        if end > start
    ]


def with_video_classes(
    proposals: Sequence[Detection], class_scores: Mapping[str, float], settings: ConfigDict
) -> list[Detection]:
    """Labels proposals with the best classes of their video (section 4.1): top-1, top-2, ...

    Args:
        proposals: of one video, without labels.
        class_scores: of the video by an external classifier, {label: score}.
        settings: `config.eval`; every proposal is written once for each of the `top_classes`.
    """
    best = sorted(class_scores.items(), key=lambda item: (-item[1], item[0]))
    best = best[: settings.top_classes]
    fused = [
        Detection(p.start, p.end, label, p.score * score)
        for p in proposals
        for label, score in best
    ]
    if settings.fusion == "sqrt":
        fused = [d._replace(score=d.score**0.5) for d in fused]
    return sorted(fused, key=lambda d: -d.score)


def join_pieces(
    detections: Mapping[str, Sequence[Detection]],
) -> dict[str, list[Detection]]:
    """Returns the detections by recording and in its seconds, best first, of pieces between gaps.

    Those of whole recordings stay as they are.
    """
    joined: dict[str, list[Detection]] = {}
    for ident, rows in detections.items():
        video, start = whole_id(ident)
        moved = [d._replace(start=d.start + start, end=d.end + start) for d in rows]
        joined.setdefault(video, []).extend(rows if ident == video else moved)
        if ident != video:
            joined[video].sort(key=lambda d: -d.score)
    return joined


def told(detections: Iterable[Detection]) -> str:
    """Returns one line: `3 actions: walk 2 (61 s), run 1 (4.5 s)`, the most frequent first."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for found in detections:
        seconds[found.label].append(found.end - found.start)
    number = sum(map(len, seconds.values()))
    classes = sorted(seconds.items(), key=lambda item: (-len(item[1]), item[0]))
    parts = [f"{label} {len(lengths)} ({sum(lengths):.3g} s)" for label, lengths in classes]
    return f"{number:,} action{'' if number == 1 else 's'}" + ": " * bool(parts) + ", ".join(parts)


def official_file(results: Mapping[str, Any], **external_data: Any) -> dict[str, Any]:
    """Returns the official file of `official_results`, with all three keys."""
    return {"version": "VERSION 1.3", "results": results, "external_data": external_data}


def official_results(detections: Mapping[str, Sequence[Detection]]) -> dict[str, Any]:
    """Returns the `results` of the official file: {video: [{"score", "segment", "label"}, ...]}."""
    return {video: [d.to_dict() for d in rows] for video, rows in detections.items()}


def write_detections(path: epath.PathLike, detections: Mapping[str, Sequence[Detection]]) -> None:
    """Writes the official result file: ids and seconds as in the annotations."""
    write_json(path, official_file(official_results(join_pieces(detections))))
