"""Whose folder a run is: config.json, written at the first start, holds every other to it."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from segtad_jax.checkpoint.store import locate, split
from segtad_jax.config.defaults import default, differences, flatten
from segtad_jax.data.dataset import Dataset
from segtad_jax.data.preparation import FILE as PREPARATION
from segtad_jax.postprocess import write_json
from segtad_jax.runtime import parallel
from segtad_jax.runtime.files import absolute, write_whole

FILE = "config.json"
# What a checkpoint must have in common with a config that evaluates it.
MODEL_FIELDS = ("model.", "data.num_frames", "classes", "channels")
# Where the data lie and how much is kept may change between two starts of one run.
FREE_FIELDS = ("data.dir", "train.keep", "eval.batch_size")


class Identity(NamedTuple):
    """What config.json says of a run."""

    config: ConfigDict
    classes: tuple[str, ...]  # names of the labels 1..D
    channels: int  # C of the features
    start: str | None  # the checkpoint that it started from, RUN/STEP


def read(run: epath.Path) -> Identity:
    """What config.json says of a run.

    Raises:
        ValueError: there is none, or it is of another version of this package.
    """
    content = _read(run)
    try:
        classes, channels = tuple(content.pop("classes")), int(content.pop("channels"))
        start = content.pop("start", None)
    except KeyError as error:
        raise ValueError(f"{run} is not a run: {FILE} has no field {error}") from error
    config = default()
    if unknown := sorted(set(content) - set(flatten(config))):
        raise ValueError(
            f"{run / FILE} is of another version of segtad_jax: this one knows no field "
            f"{', '.join(unknown)}. Use the version that trained it."
        )
    for field, value in content.items():
        try:
            config.update_from_flattened_dict(
                {field: tuple(value) if isinstance(value, list) else value}
            )
        except TypeError as error:
            raise ValueError(f"{run / FILE}: {field} = {value!r}: {error}") from error
    return Identity(config, classes, channels, start)


def read_classes(run: epath.Path) -> tuple[str, ...]:
    """Names of the labels 1..D of a run, of whatever version of this package.

    Raises:
        ValueError: the folder is no run.
    """
    return tuple(_read(run).get("classes", ()))


def starting_point(workdir: epath.Path, checkpoint: str | None) -> str | None:
    """The checkpoint, RUN/STEP, that a run starts from: as at its first start, else as given now.

    Args:
        workdir: of the run.
        checkpoint: RUN or RUN/STEP; None: as it was, or from new parameters.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: the run started from another one.
    """
    if not (workdir / FILE).exists():
        if checkpoint is None:
            return None
        run, step = locate(checkpoint)
        return str(absolute(run) / str(step))
    recorded = _read(workdir).get("start")
    if checkpoint is None:
        return recorded
    run, number = split(checkpoint)
    # RUN alone stays what it was at the first start, however far that run has come since.
    given = str(
        absolute(run) / (epath.Path(recorded or "").name if number is None else str(number))
    )
    if given != recorded:
        raise ValueError(
            f"{workdir} was started from {recorded or 'new parameters'}, not from {checkpoint}. "
            "Leave --checkpoint out to go on with it, or use another --workdir."
        )
    return recorded


def expect(config: ConfigDict, dataset: Dataset) -> None:
    """Raises ValueError if the data set has not the channels or classes that the config says."""
    found = {"data.num_channels": dataset.num_channels, "data.num_classes": len(dataset.classes)}
    for field, number in found.items():
        expected = flatten(config)[field]
        if expected and expected != number:
            raise ValueError(
                f"{field} = {expected}, but {dataset.directory} has {number}. Use the data set "
                f"that the config is for, or set {field} to {number}."
            )


def claim(
    workdir: epath.Path, config: ConfigDict, dataset: Dataset, start: str | None = None
) -> None:
    """Makes the folder a run of this config, or checks that it is one.

    Args:
        workdir: of the run.
        config: without open fields.
        dataset: that it trains on.
        start: of `starting_point`.

    Raises:
        ValueError: it is a run of another config; names every field that differs.
    """
    if (workdir / FILE).exists():
        refuse_other(workdir, config, dataset)
        return
    if not parallel.is_main():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    if (preparation := dataset.directory / PREPARATION).exists():  # the data set may be gone then
        write_whole(workdir / PREPARATION, preparation.read_bytes())
    write_json(workdir / FILE, _identity(config, dataset) | ({"start": start} if start else {}))


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
    theirs = _whole(workdir)
    ours = flatten(config) | {name: theirs.get(name) for name in ("classes", "channels")}
    theirs.pop("start", None)  # `starting_point` looks after it
    return [line for line in differences(ours, theirs) if not line.startswith(FREE_FIELDS)]


def refuse_other(
    workdir: epath.Path, config: ConfigDict, dataset: Dataset, fields: Sequence[str] = ("",)
) -> None:
    """Raises ValueError if the run differs in a field that starts as one of `fields`."""
    theirs = _whole(workdir)
    theirs.pop("start", None)
    found = [
        line
        for line in differences(_identity(config, dataset), theirs)
        if line.startswith(tuple(fields)) and not line.startswith(FREE_FIELDS)
    ]
    if found:
        lines = "\n  ".join(found)
        raise ValueError(
            f"{workdir} belongs to a run of another config:\n  {lines}\n"
            "Use another --workdir, or the config of that run."
        )


def _whole(workdir: epath.Path) -> dict[str, Any]:
    """With the defaults of fields that are younger than the run: off."""
    return flatten(default()) | _read(workdir)


def _read(workdir: epath.Path) -> dict[str, Any]:
    try:
        return json.loads((workdir / FILE).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{workdir} is not a run: {FILE}: {error}") from error


def _identity(config: ConfigDict, dataset: Dataset) -> dict[str, Any]:
    return flatten(config) | {"classes": list(dataset.classes), "channels": dataset.num_channels}
