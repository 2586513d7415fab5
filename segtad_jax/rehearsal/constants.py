"""Chooses the constants after the network on recordings that it was not trained on."""

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from segtad_jax import postprocess
from segtad_jax.data import pipeline
from segtad_jax.evaluate import EvaluatedSplit
from segtad_jax.evaluation import scoring
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD

log = logging.getLogger(__name__)

# Tried one after the other, each with the best of those before; what is worth less than GAIN is not
# taken.
CANDIDATES: Mapping[str, Sequence[Any]] = {
    "eval.boundary_power": (0.0, 0.15, 0.35),
    "eval.class_mean": ("geometric", "arithmetic"),
    "eval.renormalise": (True, False),
    "eval.snap_mean": (True, False),
    "eval.snap_offset": (0.5, 0.0),
    "eval.sigma": (0.2, 0.4, 0.7),
}
GAIN = 0.005  # of mAP; below the noise of a hold-out


class Attempt(NamedTuple):
    """Constants that were tried once, and the mAP that they gave."""

    fields: dict[str, Any]
    map_50: float  # at tIoU 0.5
    average: float  # of tIoU 0.5 to 0.95

    @property
    def worth(self) -> float:
        """Returns what is compared, in which both ways of looking at mAP weigh the same."""
        return (self.map_50 + self.average) / 2


class Outputs(NamedTuple):
    """Outputs of the network for all windows of recordings, on the host."""

    network: dict[str, np.ndarray]  # outputs of SegTAD, [windows, ...]
    num_frames: np.ndarray  # [windows]
    cut: np.ndarray  # [windows, 2]


def choose(
    config: ConfigDict, variables: Any, split: EvaluatedSplit, fields: Sequence[str]
) -> tuple[dict[str, Any], list[Attempt]]:
    """Returns the best values of some fields of `config.eval`, and all that was tried.

    Args:
        config: of the model, without open fields; the search starts from its values.
        variables: {"params", "batch_stats"}, trained without the split.
        split: to choose on.
        fields: some of CANDIDATES.
    """
    config = config.copy_and_resolve_references()
    outputs = network_outputs(config, variables, split)
    chosen = {field: config[field] for field in fields}

    def tried(changed: Mapping[str, Any]) -> Attempt:
        config.update_from_flattened_dict({**chosen, **changed})
        scores = scoring.evaluate(
            split.annotations, detections(config, outputs, split), metrics=("map",)
        )["map"]
        return Attempt(dict(changed), scores["0.50"], scores["average"])

    best = tried({})
    trials = [best]
    for field in fields:
        for value in CANDIDATES[field]:
            if value == chosen[field]:
                continue
            trials.append(trial := tried({field: value}))
            if trial.worth > best.worth + GAIN:
                best, chosen = trial, chosen | {field: value}
    return chosen, trials


def network_outputs(config: ConfigDict, variables: Any, split: EvaluatedSplit) -> Outputs:
    """Returns what the network says about all windows of a split."""
    model = SegTAD(config, len(split.dataset.classes))
    apply = jax.jit(model.apply)
    frames = config.data.num_frames
    parts: list[dict[str, np.ndarray]] = []
    for batch in pipeline.inference_batches(
        split.dataset,
        split.recordings,
        split.windows,
        length=frames,
        batch_size=config.eval.batch_size,
    ):
        network = apply(variables, batch["features"], batch["num_frames"])
        network = {name: x for name, x in network.items() if name != "proposals"}
        parts.append(jax.device_get(network | {"num_frames": batch["num_frames"]}))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    joined = {name: x[: len(split.windows)] for name, x in joined.items()}
    cut = [
        (w.offset > 0, w.offset + frames < split.recordings[w.recording].num_frames)
        for w in split.windows
    ]
    return Outputs(joined, joined.pop("num_frames"), np.array(cut))


def detections(
    config: ConfigDict, outputs: Outputs, split: EvaluatedSplit
) -> dict[str, list[postprocess.Detection]]:
    """Returns the detections that the constants of a config make of a network's outputs."""
    constants, settings, size = grid(config), config.eval, config.eval.batch_size
    score = jax.jit(
        functools.partial(
            postprocess.process_batch,
            segments=constants.segments,
            settings=settings,
            finish=False,
            scales=constants.scales,
        )
    )
    select = jax.jit(functools.partial(postprocess.select, settings=settings))
    pools: dict[int, postprocess.Pool] = {}
    for first in range(0, len(split.windows), size):
        rows = np.arange(first, first + size) % len(split.windows)  # of one shape
        network = {name: x[rows] for name, x in outputs.network.items()}
        scored = jax.device_get(
            score(network, num_frames=outputs.num_frames[rows], cut=outputs.cut[rows])
        )
        for i, window in enumerate(split.windows[first : first + size]):
            candidates = postprocess.Candidates(scored.scores[i], scored.segments[i])
            pool = pools.setdefault(window.recording, postprocess.Pool(len(candidates.scores)))
            pool.add(candidates, window.offset)
    found = {}
    for number, pool in pools.items():
        recording = split.recordings[number]
        selected = jax.device_get(select(pool.candidates()))
        found[recording.video] = postprocess.in_seconds(
            selected, split.dataset.classes, recording.rate, recording.duration
        )
    return found
