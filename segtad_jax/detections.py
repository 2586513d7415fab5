"""Scores of proposals and frames -> detections: classes, soft-NMS, seconds, and the result file.

The first half runs on the device, one window at a time (the caller vmaps); the second pools the
windows of a recording on the host, where soft-NMS runs once per recording.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from segtad_jax import files
from segtad_jax.ops.boundaries import boundary_scores, snap
from segtad_jax.ops.nms import soft_nms


class Candidates(NamedTuple):
    """The best proposals of every class."""

    scores: Float[Array, "*b D n"]  # -inf: none
    segments: Float[Array, "*b D n 2"]  # in frames of the window


class Detection(NamedTuple):
    """One detected action; start and end in seconds."""

    start: float
    end: float
    label: str
    score: float


def frame_class_scores(
    frame_logits: Float[Array, "T K"], segments: Int[Array | np.ndarray, "M 2"], renormalise: bool
) -> Float[Array, "M D"]:
    """Class scores of every proposal: the frames' softmax, averaged over [start, end); K = D + 1.

    Args:
        frame_logits: class 0 is the background.
        segments: in frames.
        renormalise: divide by the classes' sum, so that c does not say how much is action.
    """
    probabilities = jax.nn.softmax(frame_logits.astype(jnp.float32))[:, 1:]
    sums = jnp.cumsum(jnp.pad(probabilities, ((1, 0), (0, 0))), axis=0)  # [T + 1, D]
    start, end = jnp.asarray(segments).T
    scores = (sums[end] - sums[start]) / (end - start)[:, None]
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
) -> Candidates:
    """The candidates of one window for soft-NMS.

    Args:
        outputs: of SegTAD for all M proposals of this window.
        segments: the grid, frames.
        num_frames: real frames of the window.
        cut: whether the recording goes on before and after the window: proposals that touch such
            an edge are dropped, a neighbouring window sees the action whole.
        settings: `config.eval`.

    Returns:
        Of the D classes; of a single one, any action, where `class_scores` names a file whose
        scores come later.
    """
    scores = jnp.prod(jax.nn.sigmoid(outputs["proposal_logits"].astype(jnp.float32)), axis=1)
    start, end = jnp.asarray(segments).T
    whole = ~(cut[0] & (start == 0)) & ~(cut[1] & (end == outputs["frame_logits"].shape[0]))
    kept = (end <= num_frames) & whole
    boundaries = jax.nn.sigmoid(
        jnp.stack([outputs["start_logits"], outputs["end_logits"]], axis=1).astype(jnp.float32)
    )
    moved = snap(segments, boundaries, settings.snap, num_frames)
    if settings.boundary_power:
        at_boundaries = jnp.prod(boundary_scores(moved, boundaries), axis=1)
        scores *= at_boundaries**settings.boundary_power
    if settings.class_scores:  # section 3.4: soft-NMS of all proposals, then labels
        best, rows = jax.lax.top_k(jnp.where(kept, scores, -jnp.inf)[None], len(segments))
        return Candidates(best, moved[rows])
    classes = frame_class_scores(outputs["frame_logits"], segments, settings.renormalise)
    scores = scores[:, None] * classes  # [M, D]
    kept = kept[:, None] & (scores > settings.min_score)
    fused = jnp.sqrt(scores) if settings.fusion == "sqrt" else scores
    scores = jnp.where(kept, fused, -jnp.inf)
    best, rows = jax.lax.top_k(scores.T, min(settings.candidates, len(segments)))
    return Candidates(best, moved[rows])


def recording_detections(
    scores: Float[np.ndarray, "w D n"],
    segments: Float[np.ndarray, "w D n 2"],
    classes: Sequence[str],
    rate: float,
    duration: float,
    settings: ConfigDict,
) -> list[Detection]:
    """Pools the candidates of a recording's windows, runs soft-NMS per class, keeps the best.

    Args:
        scores: of the candidates of w windows, -inf where there is none.
        segments: of the candidates, in frames of the recording.
        classes: names of the D classes.
        rate: frames per second.
        duration: seconds, to which the segments are clipped.
        settings: `config.eval`.

    Returns:
        At most `max_detections`, best first.
    """
    pooled_scores = np.concatenate(scores, axis=1)  # [D, w * n]
    pooled = np.concatenate(segments, axis=1)
    best = np.argsort(-pooled_scores, axis=1, kind="stable")[:, : scores.shape[2]]
    pooled_scores = np.take_along_axis(pooled_scores, best, axis=1)
    pooled = np.take_along_axis(pooled, best[..., None], axis=1)
    rounds = min(settings.max_detections, best.shape[1])
    index, kept = jax.device_get(_soft_nms(pooled, pooled_scores, settings.sigma, rounds))

    label, slot = np.nonzero(index >= 0)
    order = np.argsort(-kept[label, slot], kind="stable")[: settings.max_detections]
    label, slot = label[order], slot[order]
    seconds = np.clip(pooled[label, index[label, slot]] / rate, 0.0, duration)
    names = [classes[d] for d in label.tolist()]
    return [
        Detection(float(start), float(end), name, float(score))
        for (start, end), name, score in zip(seconds, names, kept[label, slot], strict=True)
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
    fused = [
        Detection(p.start, p.end, label, p.score * score)
        for p in proposals
        for label, score in best[: settings.top_classes]
    ]
    if settings.fusion == "sqrt":
        fused = [d._replace(score=d.score**0.5) for d in fused]
    return sorted(fused, key=lambda d: -d.score)


@functools.partial(jax.jit, static_argnums=3)
def _soft_nms(
    segments: Array, scores: Array, sigma: float | Array, rounds: int
) -> tuple[Array, Array]:
    return jax.vmap(soft_nms, in_axes=(0, 0, None, None))(segments, scores, sigma, rounds)


def write_detections(path: epath.PathLike, detections: Mapping[str, Sequence[Detection]]) -> None:
    """Writes the official result file: ids as in the annotations, all three keys."""
    results = {
        video: [{"score": d.score, "segment": [d.start, d.end], "label": d.label} for d in detected]
        for video, detected in detections.items()
    }
    content = {"version": "VERSION 1.3", "results": results, "external_data": {}}
    write_json(path, content)


def write_json(path: epath.PathLike, content: object) -> None:
    """Writes a whole file or none."""
    files.write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
