"""Keeps thresholds and confidences of a run's steps: RUN/thresholds-STEP.json."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from segtad_jax.config.defaults import default, flatten
from segtad_jax.evaluation.confidence import Knots
from segtad_jax.evaluation.operating_point import Chosen, read_chosen, to_json
from segtad_jax.runtime.files import write_whole

# Fields of `eval` that leave the scores as they are.
NEUTRAL = ("eval.batch_size", "eval.least_precision")


def write(
    run: epath.PathLike,
    step: int,
    config: ConfigDict,
    thresholds: Mapping[str, float],
    videos: Collection[str],
    confidence: Knots,
) -> Chosen:
    """Stores the thresholds and confidences of a step; returns them as `read` will.

    Args:
        run: its folder.
        step: whose scores they are for.
        config: with the settings that made the scores, and by which the thresholds were chosen.
        thresholds: of every class.
        videos: ids of the recordings that they were chosen on.
        confidence: by which the scores become confidences, as these recordings have it.
    """
    settings, precision = _settings(flatten(config)), config.eval.least_precision
    chosen = Chosen(thresholds, sorted(videos), settings, precision, confidence)
    write_whole(_path(run, step), json.dumps(to_json(chosen), indent=1, allow_nan=False) + "\n")
    return chosen


def read(run: epath.PathLike, step: int, config: ConfigDict) -> Chosen | None:
    """Returns the thresholds of a step.

    None where there are none, as in runs of older versions and of steps that were not evaluated, or
    where they are for scores that other settings made.

    Raises:
        InputError: the file is damaged; names it, and what to do.
    """
    if not (path := _path(run, step)).exists():
        return None
    chosen = read_chosen(path)
    # A younger field had its default.
    same = _settings(flatten(default()) | {**chosen.settings}) == _settings(flatten(config))
    return chosen if same else None


def _path(run: epath.PathLike, step: int) -> epath.Path:
    return epath.Path(run) / f"thresholds-{step}.json"


def _settings(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that make the scores what they are; of class scores only if there are."""
    settings = {
        name: value
        for name, value in fields.items()
        if name.startswith("eval.") and name not in NEUTRAL
    }
    return settings | {"eval.class_scores": bool(settings["eval.class_scores"])}
