"""The only place that knows Orbax: steps of a run, saved whole, and restored."""

from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

PyTree = Any
DIRECTORY = "checkpoints"


class Checkpoints:
    """The checkpoints of a run: RUN/checkpoints/STEP.

    Saves are asynchronous and appear whole or not at all; use as a context manager, which waits
    for the last one.
    """

    def __init__(self, workdir: epath.PathLike, keep: int, *, keep_best: bool = False) -> None:
        """Opens, or makes, the folder.

        Args:
            workdir: the run.
            keep: how many of the latest stay.
            keep_best: keep also the one with the highest `score` given to `save`.
        """
        policies = [LatestN(keep)]
        if keep_best:
            policies.append(
                BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy(policies),
            best_fn=_score if keep_best else None,
            enable_async_checkpointing=True,
        )
        self._manager = ocp.CheckpointManager(
            epath.Path(workdir).resolve() / DIRECTORY, options=options
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        """The last step saved whole."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step of the highest score, where scores were given."""
        return self._manager.best_step()

    def save(self, step: int, state: PyTree, score: float | None = None) -> None:
        """Saves the state of a step; a step that is there already stays as it is."""
        metrics = None if score is None else {"score": score}
        self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

    def restore(self, step: int, abstract: PyTree) -> PyTree:
        """The state of a step as host arrays.

        Args:
            step: a saved step.
            abstract: the shapes and types expected; Orbax raises ValueError where they differ.
        """
        return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))


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
            f"{path} has no checkpoint {'' if step is None else step}; "
            f"it has: {', '.join(map(str, steps)) or 'none'}."
        )
    return path, steps[-1] if step is None else step


def abstract(state: PyTree) -> PyTree:
    """Shapes and types of a state, for `restore`."""
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, state)


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]
