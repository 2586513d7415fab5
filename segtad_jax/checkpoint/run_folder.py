"""Guards the folder of a run: later starts must match the config.json that the first one wrote."""

import contextlib
import logging
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from segtad_jax.checkpoint.store import locate, parse
from segtad_jax.config.defaults import default, flatten
from segtad_jax.config.stored import differences, read_fields, restore
from segtad_jax.data.dataset import Dataset
from segtad_jax.data.preparation import FILE as PREPARATION
from segtad_jax.data.preparation import read_preparation
from segtad_jax.runtime import lease, parallel
from segtad_jax.runtime.files import (
    absolute,
    read_json,
    remove_leftovers,
    write_sealed,
    write_whole,
)

log = logging.getLogger(__name__)

FILE = "config.json"  # the flat config, and beside its fields:
IDENTITY = ("classes", "channels", "start", "dataset")
KINDS = {"classes": list, "channels": int, "start": str, "dataset": dict, "train.steps": int}
# What a checkpoint must have in common with a config that evaluates it.
MODEL_FIELDS = ("model.", "data.num_frames", "classes", "channels")
# Where the data lie and how much is kept may change between two starts of one run.
FREE_FIELDS = ("data.dir", "train.keep", "eval.batch_size")


class Identity(NamedTuple):
    """The content of config.json."""

    config: ConfigDict
    classes: tuple[str, ...]  # names of the labels 1..D
    channels: int  # C of the features
    start: str | None  # the checkpoint that it started from, RUN/STEP


@contextlib.contextmanager
def in_use(workdir: epath.Path) -> Iterator[lease.Lease | None]:
    """Holds the folder for this process, or for all that share a run; yields the lease.

    Process 0 holds it, and the others get None. What killed processes left there is removed.

    Raises:
        ValueError: another process, or another run's, holds it.
    """
    holding = lease.held(workdir / lease.FILE, f"--workdir={workdir}")
    with parallel.entered_by_main(holding) as held:
        if held:
            remove_leftovers(workdir)
        yield held


def read(run: epath.Path) -> Identity:
    """Reads config.json of a run, of this or an older version.

    Raises:
        ValueError: there is none, or it has a field or a value that this version does not know.
    """
    fields = _read(run)
    if missing := {"classes", "channels"} - fields.keys():
        raise ValueError(f"{run} is not a run: {FILE} has no field '{min(missing)}'.")
    classes, channels, start, _ = (fields.pop(name, None) for name in IDENTITY)
    try:
        return Identity(restore(fields), tuple(classes), int(channels), start)
    except ValueError as error:
        raise ValueError(f"{run / FILE}: {error}") from error


def read_classes(run: epath.Path) -> tuple[str, ...]:
    """Reads the names of the labels 1..D of a run, of any version.

    Raises:
        ValueError: the folder is no run.
    """
    return tuple(_read_json(run).get("classes", ()))


def starting_point(workdir: epath.Path, checkpoint: str | None) -> str | None:
    """Returns the checkpoint, RUN/STEP, that a run starts from; None for new parameters.

    Args:
        workdir: of the run; where it was started before, it starts from the same as then.
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
    recorded = _read_json(workdir).get("start")
    if checkpoint is None:
        return recorded
    run, number = parse(checkpoint)
    # RUN alone stays what it was at the first start, however far that run has come since.
    step_name = epath.Path(recorded or "").name if number is None else str(number)
    if str(absolute(run) / step_name) != recorded:
        raise ValueError(
            f"{workdir} was started from {recorded or 'new parameters'}, not from {checkpoint}. "
            "Leave --checkpoint out to resume it, or use another --workdir."
        )
    return recorded


def settle_classifier(config: ConfigDict, run: epath.Path) -> None:
    """Replaces `model.classifier` by the run's, or off, where a file names the classes.

    The rows of Tables 3 and 4 have a classifier, which then nobody would read.
    """
    if config.eval.class_scores and config.model.classifier:
        config.model.classifier = (run / FILE).exists() and read(run).config.model.classifier
        if not config.model.classifier:
            log.info("model.classifier = False: %s names the classes", config.eval.class_scores)


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
        ValueError: it is a run of another config, names every field that differs; or on other data.
    """
    if (workdir / FILE).exists():
        refuse_other(workdir, config, dataset)
        refuse_other_data(workdir, dataset)
        return
    if not parallel.is_main():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    if read_preparation(dataset.directory):  # the data set may be gone later
        write_whole(workdir / PREPARATION, (dataset.directory / PREPARATION).read_bytes())
    fields = flatten(config) | _data_identity(dataset) | ({"start": start} if start else {})
    fields |= {"dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint}}
    write_sealed(workdir / FILE, fields)


def refuse_other(
    workdir: epath.Path, config: ConfigDict, dataset: Dataset, fields: Sequence[str] = ("",)
) -> None:
    """Raises ValueError if the run differs in a field that starts as one of `fields`."""
    lines = other_fields(workdir, config, dataset)
    if lines := [line for line in lines if line.startswith(tuple(fields))]:
        listed = "\n  ".join(lines)
        theirs, known = _read(workdir), flatten(config)
        names = [name for name in known if any(line.startswith(f"{name}: ") for line in lines)]
        flags = " ".join(shlex.quote(f"--config.{name}={_typed(theirs[name])}") for name in names)
        raise ValueError(
            f"{workdir} belongs to a run of another config:\n  {listed}\n"
            f"Use another --workdir, or the config of that run{flags and f': {flags}'}"
        )


def _typed(value: Any) -> str:
    """Returns a stored value as the command line takes it."""
    return str(tuple(value) if isinstance(value, list) else value).replace(" ", "")


def refuse_other_data(workdir: epath.Path, dataset: Dataset) -> None:
    """Raises ValueError if the run was trained on other data, even of equal shape."""
    if (recorded := recorded_data(workdir)) is None:
        log.info(
            "%s was started by an older version, which did not record its data: taken to be %s",
            *(workdir, dataset.directory),
        )
    elif recorded.get("fingerprint") != dataset.fingerprint:
        raise ValueError(
            f"{workdir} belongs to a run on other data: on the data set {recorded.get('name')!r} "
            f"with the fingerprint {recorded.get('fingerprint')!s:.12}, but {dataset.directory} is "
            f"{dataset.name!r} with {dataset.fingerprint:.12}. Fingerprints are equal where "
            "recordings, annotations, classes and features are. Name the data of that run by "
            "--config.data.dir, or use another --workdir (to evaluate the run on these data: "
            f"--mode=evaluate --checkpoint={workdir}, and another --workdir)."
        )


def recorded_data(workdir: epath.Path) -> dict[str, Any] | None:
    """Returns name and fingerprint of the data that a run was trained on; None in older runs."""
    return _read_json(workdir).get("dataset")


def refuse_results(workdir: epath.Path, config: ConfigDict, dataset: Dataset, step: int) -> None:
    """Raises ValueError where results of this step or data would pass for those of a run's end."""
    if not (workdir / FILE).exists():
        return
    refuse_other(workdir, config, dataset, ("data.", "eval."))
    refuse_other_data(workdir, dataset)
    last = _read_json(workdir).get("train.steps", step)
    if step < last and (workdir / "metrics.json").exists():
        raise ValueError(
            f"{workdir} holds the results of its step {last}; give another --workdir for those of "
            f"step {step}."
        )


def other_fields(
    workdir: epath.Path, config: ConfigDict, dataset: Dataset | None = None
) -> list[str]:
    """Returns a line for each field in which the run differs from the config.

    Args:
        workdir: of the run.
        config: without open fields.
        dataset: whose classes and channels are compared, too.

    Raises:
        ValueError: the folder is no run, or has a field that this version does not know.
    """
    theirs = _read(workdir)
    given = (
        _data_identity(dataset) if dataset else {name: theirs.get(name) for name in IDENTITY[:2]}
    )
    for name in ("start", "dataset"):  # `starting_point` and `refuse_other_data` look after these
        theirs.pop(name, None)
    lines = differences(flatten(config) | given, theirs)
    return [line for line in lines if not line.startswith(FREE_FIELDS)]


def _read(workdir: epath.Path) -> dict[str, Any]:
    """Reads the fields as this version has them, the younger ones with their defaults: off."""
    fields = read_fields(_read_json(workdir))
    for name in fields.keys() - flatten(default()).keys() - set(IDENTITY):
        raise ValueError(
            f"{workdir / FILE} has {name} = {fields[name]!r}, a field that this version of "
            "segtad_jax does not have. Use the version that trained it."
        )
    return fields


def _read_json(workdir: epath.Path) -> dict[str, Any]:
    remedy = (
        "Put a copy of it back, or use another folder; where you have edited it yourself, remove "
        "its field 'checksum'."
    )
    try:
        fields = read_json(workdir / FILE, remedy)
    except OSError as error:
        raise ValueError(f"{workdir} is not a run: {FILE}: {error}") from error
    for name, kind in KINDS.items():
        if fields.get(name) is not None and not isinstance(fields[name], kind):
            raise ValueError(f"{workdir / FILE}: {name} = {fields[name]!r} is wrong. {remedy}")
    return fields


def _data_identity(dataset: Dataset) -> dict[str, Any]:
    return {"classes": list(dataset.classes), "channels": dataset.num_channels}
