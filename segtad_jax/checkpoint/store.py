"""Steps of a run, saved whole, and restored. The only place that knows Orbax."""

import contextlib
import copy
import datetime as dt
import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from segtad_jax.checkpoint import checksums
from segtad_jax.runtime import files, parallel

PyTree = Any
T = TypeVar("T")
DIRECTORY = "checkpoints"
VARIABLES = ("params", "batch_stats")  # of a state: what a model needs to be applied

log = logging.getLogger(__name__)


class Saved(NamedTuple):
    """The content of a checkpoint."""

    step: int
    state: PyTree  # host arrays
    progress: dict[str, Any]  # of the loop, between two lines of its log: JSON


class Contents(NamedTuple):
    """The content of a checkpoint: when it was saved, and shapes instead of arrays."""

    saved: dt.datetime  # UTC
    state: dict[str, PyTree]  # of jax.ShapeDtypeStruct, by the fields of the state


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of a run: RUN/checkpoints/STEP.

    A save appears whole or not at all; use as a context manager, which waits for the last one. With
    several processes all of them call, and process 0 writes.
    """

    def __init__(self, folder: epath.PathLike, keep: int, *, keep_best: bool = False) -> None:
        """Opens, or makes, the folder.

        Args:
            folder: the run.
            keep: how many of the latest stay.
            keep_best: keep also the one with the highest `score` given to `save`.
        """
        policies: list[Any] = [LatestN(keep)]
        if keep_best:
            policies.append(
                BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy(policies),
            best_fn=_score if keep_best else None,
            cleanup_tmp_directories=True,  # of saves that were killed
        )
        self._folder = files.absolute(folder) / DIRECTORY  # as Orbax wants it
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(
        self, step: int, state: PyTree, progress: dict[str, Any], score: float | None = None
    ) -> None:
        """Saves a step in the background.

        Args:
            step: how many are done.
            state: arrays, equal on all processes; copied to the host before this returns, so that
                the next training step may take their buffers.
            progress: of the loop, JSON.
            score: for `keep_best`.
        """
        state, progress = jax.device_get(state), copy.deepcopy(progress)  # written in a thread
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            progress=ocp.args.JsonSave(progress),
            checksums=ocp.args.JsonSave(checksums.checksums(state, progress)),
        )
        self._manager.save(step, args=items, metrics=None if score is None else {"score": score})

    def replace(self, step: int, state: PyTree, progress: dict[str, Any], score: float) -> None:
        """Saves a step again that was saved without its score."""
        self._manager.delete(step)
        self.save(step, state, progress, score)

    def wait(self) -> None:
        """Returns when all that was saved is on the disk.

        Raises:
            Exception: of Orbax, if something is not; what was there before is.
        """
        self._manager.wait_until_finished()

    def restore(self, step: int, like: PyTree) -> Saved:
        """Returns a saved step, as host arrays.

        Args:
            step: one that was saved.
            like: arrays or shapes as expected.

        Raises:
            ValueError: another tree or other shapes, or not what was saved.
        """
        host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(host), progress=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=items)
        jax.tree_util.tree_map_with_path(_same_shape, restored.state, host)  # Orbax takes any
        found = checksums.checksums(restored.state, restored.progress)
        checksums.require(checksums.read(self._folder / str(step)), found)
        return Saved(step, restored.state, restored.progress)

    def restore_latest(self, like: PyTree) -> Saved | None:
        """Returns the last step that can be read; None where nothing was saved.

        One that cannot (truncated, a file missing, a bit that changed) is named and renamed to
        `unreadable-STEP`.

        Raises:
            ValueError: not one of several can be read.
        """
        unreadable = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                saved = _twice(functools.partial(self.restore, step, like))
            except Exception as error:  # noqa: BLE001 (Orbax raises anything on a damaged file)
                log.warning("checkpoint %s does not read: %s", self._folder / str(step), error)
                unreadable.append(step)
                continue
            parallel.wait_for_all("checkpoints read")
            if parallel.is_main():
                for bad in unreadable:
                    (self._folder / str(bad)).rename(self._free_name(f"unreadable-{bad}"))
            parallel.wait_for_all("checkpoints renamed")
            self._manager.reload()
            return saved
        if unreadable:
            raise ValueError(
                f"none of the checkpoints {unreadable} in {self._folder} reads. Move the folder "
                "away to start anew."
            )
        return None

    def _free_name(self, name: str) -> epath.Path:
        names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
        return next(path for path in map(self._folder.__truediv__, names) if not path.exists())


def parse(checkpoint: str) -> tuple[epath.Path, int | None]:
    """Reads `RUN` or `RUN/STEP`: the run's folder and the step, if one is named."""
    path = epath.Path(checkpoint)
    if (path / DIRECTORY).exists() or not path.name.isdigit():
        return path, None
    run = path.parent.parent if path.parent.name == DIRECTORY else path.parent
    return run, int(path.name)


def kept_steps(run: epath.Path) -> list[int]:
    """Returns the steps of which a run has whole checkpoints, in order."""
    return sorted(ocp.utils.checkpoint_steps(run / DIRECTORY))


def locate(checkpoint: str) -> tuple[epath.Path, int]:
    """Returns the run's folder and the step, by default the latest, of `RUN` or `RUN/STEP`.

    Raises:
        FileNotFoundError: no such run, or it has no such checkpoint.
    """
    run, step = parse(checkpoint)
    if not (run / DIRECTORY).exists():
        raise FileNotFoundError(
            f"no run with checkpoints at '{checkpoint}': expected {run / DIRECTORY}. "
            "Give RUN or RUN/STEP, where RUN is the --workdir of a training."
        )
    steps = kept_steps(run)
    if not steps or (step is not None and step not in steps):
        raise FileNotFoundError(
            f"{run} has no checkpoint{'' if step is None else f' {step}'}; "
            f"it has: {', '.join(map(str, steps)) or 'none'}."
        )
    return run, steps[-1] if step is None else step


def step_identity(run: epath.Path, step: int) -> str:
    """Returns a short name of the variables in a step of `locate`: others have another name.

    Raises:
        ValueError: it does not read.
    """
    with _readable(run, step):
        saved = checksums.read(_folder(run, step))
        if saved is None:  # of an older version
            return checksums.files_identity(_folder(run, step) / "state")
        return checksums.identity(saved, VARIABLES)


def read_contents(run: epath.Path, step: int) -> Contents:
    """Returns the shapes in a step of `locate`; reads none of its arrays.

    Raises:
        ValueError: it does not read.
    """

    def read() -> Contents:
        metadata = reader.metadata(_folder(run, step))
        tree = metadata.item_metadata["state"].tree
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
        found = checksums.named({name: state[name] for name in VARIABLES if name in state})
        found = {name: checksums.described(shape) + " " for name, shape in found.items()}
        checksums.require(checksums.read(_folder(run, step)), found)
        seconds = metadata.commit_timestamp_nsecs / 1e9
        return Contents(dt.datetime.fromtimestamp(seconds, dt.UTC), state)

    with _reader() as reader, _readable(run, step):
        return _twice(read)


def restore_variables(run: epath.Path, step: int, like: PyTree = None) -> dict[str, PyTree]:
    """Returns parameters and BatchNorm statistics of a step of `locate`, as host arrays.

    Args:
        run: its folder; nothing is written there.
        step: one of `kept_steps`.
        like: {"params", "batch_stats"} as arrays or shapes; by default whatever there is.

    Raises:
        ValueError: it does not read, or is of another tree or of other shapes than `like`.
    """
    state = read_contents(run, step).state
    shapes = {name: state.get(name) or {} for name in VARIABLES}
    if like is not None:
        try:
            _require_like(shapes, like)
        except ValueError as error:
            raise ValueError(
                f"{run / DIRECTORY / str(step)} is of another model: {error}"
            ) from error
    item = {name: tree for name, tree in shapes.items() if tree}
    to_host = ocp.RestoreArgs(restore_type=np.ndarray)
    arguments = ocp.args.PyTreeRestore(
        item=jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), item),
        restore_args=jax.tree.map(lambda _: to_host, item),
        partial_restore=True,
    )

    def read() -> dict[str, PyTree]:
        restored = reader.restore(_folder(run, step), args=ocp.args.Composite(state=arguments))
        found = checksums.checksums(dict(restored.state))
        checksums.require(checksums.read(_folder(run, step)), found)
        return dict(restored.state)

    with _reader() as reader, _readable(run, step):
        return shapes | _twice(read)


def _reader() -> ocp.Checkpointer:
    """Returns what reads any part of a step, and makes no folder, as a manager would."""
    return ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(
            state=ocp.PyTreeCheckpointHandler(),
            progress=ocp.JsonCheckpointHandler(),
            checksums=ocp.JsonCheckpointHandler(),
        )
    )


def _folder(run: epath.Path, step: int) -> epath.Path:
    return files.absolute(run) / DIRECTORY / str(step)


def _twice(read: Callable[[], T]) -> T:
    """Returns what is read; tries again once, as disks and networks fail for a moment, too."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 (as in restore_latest)
        log.debug("reading a checkpoint again: %s", error)
        return read()


@contextlib.contextmanager
def _readable(run: epath.Path, step: int) -> Iterator[None]:
    """Returns a context in which any error says that the step does not read, and what does."""
    try:
        yield
    except Exception as error:  # as in restore_latest
        others = ", ".join(str(other) for other in kept_steps(run) if other != step)
        advice = f"Name another one, {run}/STEP: {others}."
        raise ValueError(
            f"checkpoint {run / DIRECTORY / str(step)} does not read: {error}\n"
            + (advice if others else "The run has no other one.")
        ) from error


def _require_like(saved: PyTree, expected: PyTree) -> None:
    """Raises ValueError unless both trees have the same paths and shapes."""
    theirs, ours = dict(jax.tree.leaves_with_path(saved)), dict(jax.tree.leaves_with_path(expected))
    for alone, where in (
        (ours.keys() - theirs.keys(), "model"),
        (theirs.keys() - ours.keys(), "checkpoint"),
    ):
        if alone:
            names = ", ".join(sorted(map(jax.tree_util.keystr, alone)))
            raise ValueError(f"in the {where} alone: {names}.")
    for path, leaf in theirs.items():
        _same_shape(path, leaf, ours[path])


def _same_shape(path: tuple, saved: Any, expected: Any) -> None:
    if (saved.shape, saved.dtype) != (expected.shape, expected.dtype):
        raise ValueError(
            f"{jax.tree_util.keystr(path)} is {saved.dtype}{list(saved.shape)} in the checkpoint, "
            f"but {expected.dtype}{list(expected.shape)} in this model."
        )


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]
