"""Whose folder a run is: config.json, written at the first start, holds every other to it."""

import json
from collections.abc import Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from segtad_jax.config import differences, flatten
from segtad_jax.data.dataset import Dataset
from segtad_jax.data.preparation import FILE as PREPARATION
from segtad_jax.detections import write_json

FILE = "config.json"
# What a checkpoint must have in common with a config that evaluates it.
MODEL_FIELDS = ("model.", "data.num_frames", "classes", "channels")
# Where the data lie and how much is kept may change between two starts of one run.
FREE_FIELDS = ("data.dir", "train.keep", "eval.batch_size")


def expect(config: ConfigDict, dataset: Dataset) -> None:
    """Raises ValueError if the data set has other channels or classes than the config says."""
    found = {"data.num_channels": dataset.num_channels, "data.num_classes": len(dataset.classes)}
    for field, number in found.items():
        expected = flatten(config)[field]
        if expected and expected != number:
            raise ValueError(
                f"{field} = {expected}, but {dataset.directory} has {number}. Use the data set "
                f"that the config is for, or set {field} to {number}."
            )


def claim(workdir: epath.Path, config: ConfigDict, dataset: Dataset) -> None:
    """Makes the folder a run of this config, or checks that it is one.

    Raises:
        ValueError: it is a run of another config; names every field that differs.
    """
    if (workdir / FILE).exists():
        refuse_other(workdir, config, dataset)
        return
    workdir.mkdir(parents=True, exist_ok=True)
    if (preparation := dataset.directory / PREPARATION).exists():  # the data set may be gone then
        preparation.copy(workdir / PREPARATION, overwrite=True)
    write_json(workdir / FILE, _identity(config, dataset))


def refuse_results(workdir: epath.Path, config: ConfigDict, dataset: Dataset, step: int) -> None:
    """Raises ValueError where results of this evaluation would pass for those of a run's end."""
    if not (workdir / FILE).exists():
        return
    refuse_other(workdir, config, dataset, ("data.", "eval."))
    last = json.loads((workdir / FILE).read_text())["train.steps"]
    if step < last and (workdir / "metrics.json").exists():
        raise ValueError(
            f"{workdir} holds the results of its step {last}; give another --workdir for those of "
            f"step {step}."
        )


def other_fields(workdir: epath.Path, config: ConfigDict) -> list[str]:
    """Lines that tell in which fields the run differs from the config, whatever the data.

    Raises:
        ValueError: the folder is no run.
    """
    theirs = _read(workdir)
    ours = flatten(config) | {name: theirs.get(name) for name in ("classes", "channels")}
    return [line for line in differences(ours, theirs) if not line.startswith(FREE_FIELDS)]


def refuse_other(
    workdir: epath.Path, config: ConfigDict, dataset: Dataset, fields: Sequence[str] = ("",)
) -> None:
    """Raises ValueError if the run differs in a field that starts as one of `fields`."""
    found = [
        line
        for line in differences(_identity(config, dataset), _read(workdir))
        if line.startswith(tuple(fields)) and not line.startswith(FREE_FIELDS)
    ]
    if found:
        lines = "\n  ".join(found)
        raise ValueError(
            f"{workdir} belongs to a run of another config:\n  {lines}\n"
            "Use another --workdir, or the config of that run."
        )


def _read(workdir: epath.Path) -> dict[str, Any]:
    try:
        return json.loads((workdir / FILE).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{workdir} is not a run: {FILE}: {error}") from error


def _identity(config: ConfigDict, dataset: Dataset) -> dict[str, Any]:
    return flatten(config) | {"classes": list(dataset.classes), "channels": dataset.num_channels}
