"""The only place that knows Orbax: steps of a run, saved whole, and restored."""

import copy
import logging
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

PyTree = Any
DIRECTORY = "checkpoints"

log = logging.getLogger(__name__)


class Saved(NamedTuple):
    """What a checkpoint holds."""

    step: int
    state: PyTree  # host arrays
    progress: dict[str, Any]  # of the loop, between two lines of its log: JSON


class Checkpoints:
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
            best = BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
            policies.append(best)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy(policies),
            best_fn=_score if keep_best else None,
        )
        self._folder = epath.Path(folder).resolve() / DIRECTORY  # Orbax wants absolute paths
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

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
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(jax.device_get(state)),
            progress=ocp.args.JsonSave(copy.deepcopy(progress)),  # written later, in a thread
        )
        metrics = None if score is None else {"score": score}
        self._manager.save(step, args=items, metrics=metrics)

    def replace(self, step: int, state: PyTree, progress: dict[str, Any], score: float) -> None:
        """Saves a step that was saved before without its score."""
        self._manager.delete(step)
        self.save(step, state, progress, score)

    def restore(self, step: int, like: PyTree) -> Saved:
        """A saved step, as host arrays.

        Args:
            step: one of `steps`.
            like: arrays or shapes as expected.

        Raises:
            ValueError: another tree or other shapes.
        """
        host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(host), progress=ocp.args.JsonRestore()
        )
        found = self._manager.restore(step, args=items)
        jax.tree_util.tree_map_with_path(_same_shape, found.state, host)  # Orbax takes any
        return Saved(step, found.state, found.progress)

    def restore_latest(self, like: PyTree) -> Saved | None:
        """The last step that can be read; None where nothing was saved.

        One that cannot (truncated, a file missing) is named and renamed to `unreadable-STEP`.

        Raises:
            ValueError: not one of several can be read.
        """
        unreadable = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                saved = self.restore(step, like)
            except Exception as error:  # noqa: BLE001 (Orbax raises anything on a damaged file)
                log.warning("checkpoint %s does not read: %s", self._folder / str(step), error)
                unreadable.append(step)
                continue
            for bad in unreadable:
                (self._folder / str(bad)).rename(self._folder / f"unreadable-{bad}")
            self._manager.reload()
            return saved
        if unreadable:
            raise ValueError(
                f"none of the checkpoints {unreadable} in {self._folder} reads. Move the folder "
                "away to start anew."
            )
        return None


def locate(checkpoint: str) -> tuple[epath.Path, int]:
    """`RUN` or `RUN/STEP` -> the run's folder and the step, by default the latest.

    Raises:
        FileNotFoundError: no such run, or it has no such checkpoint.
    """
    path, step = epath.Path(checkpoint), None
    if not (path / DIRECTORY).exists() and path.name.isdigit():
        path, step = path.parent, int(path.name)
        if path.name == DIRECTORY:
            path = path.parent
    if not (path / DIRECTORY).exists():
        raise FileNotFoundError(
            f"no run with checkpoints at '{checkpoint}': expected {path / DIRECTORY}. "
            "Give RUN or RUN/STEP, where RUN is the --workdir of a training."
        )
    steps = sorted(int(p.name) for p in (path / DIRECTORY).iterdir() if p.name.isdigit())
    if not steps or (step is not None and step not in steps):
        raise FileNotFoundError(
            f"{path} has no checkpoint{'' if step is None else f' {step}'}; "
            f"it has: {', '.join(map(str, steps)) or 'none'}."
        )
    return path, steps[-1] if step is None else step


def _same_shape(path: tuple, found: np.ndarray, expected: np.ndarray) -> None:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        raise ValueError(
            f"{jax.tree_util.keystr(path)} is {found.dtype}{list(found.shape)} in the checkpoint, "
            f"but {expected.dtype}{list(expected.shape)} in this model."
        )


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]
