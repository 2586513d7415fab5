"""Starting from the variables of another model: what fits is taken, the rest is new."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from segtad_jax.checkpoint import run_folder
from segtad_jax.checkpoint.store import locate, restore_variables
from segtad_jax.runtime import parallel

PyTree = Any
Shapes = dict[str, tuple[int, ...]]  # by name, such as params/pdn/scores_bias

log = logging.getLogger(__name__)


class Transfer(NamedTuple):
    """A new model's variables, and where they are from."""

    variables: PyTree
    taken: Shapes  # in both, of one shape
    left: Shapes  # of the checkpoint alone, or of another shape in the model
    new: Shapes  # of the model alone, or of another shape in the checkpoint

    def __str__(self) -> str:
        """Counts and names, for the log."""
        values = sum(int(np.prod(shape)) for shape in self.taken.values())
        lines = [f"{len(self.taken)} arrays with {values:,} values fit and are taken"]
        for title, shapes in (("left in the checkpoint", self.left), ("made new", self.new)):
            lines.append(f"{len(shapes)} {title}" + (":" if shapes else ""))
            lines += [f"    {name} {list(shape)}" for name, shape in shapes.items()]
        return "\n  ".join([*lines, f"taken: {', '.join(self.taken)}"])


def transfer(new: PyTree, saved: PyTree) -> Transfer:
    """Takes every array of `saved` whose path and shape are those of one in `new`.

    Args:
        new: {"params", "batch_stats"} of a model.
        saved: the same of another one.

    Raises:
        ValueError: not one kernel fits, only biases and the like: they have nothing in common.
    """
    ours, theirs = _by_name(new), _by_name(saved)
    taken = {n: x.shape for n, x in ours.items() if n in theirs and theirs[n].shape == x.shape}
    if not any(len(shape) > 1 for shape in taken.values()):
        differing = [n for n in ours if n in theirs and n not in taken]
        example = (
            f": {differing[0]} is {list(theirs[differing[0]].shape)} there and "
            f"{list(ours[differing[0]].shape)} here"
            if differing
            else ""
        )
        raise ValueError(
            f"no kernel of the checkpoint fits this model{example}. Start from a run of a like "
            "model, above all of the same model.width."
        )
    variables = jax.tree_util.tree_map_with_path(
        lambda path, x: theirs[_name(path)].astype(x.dtype) if _name(path) in taken else x, new
    )
    return Transfer(
        variables,
        taken,
        left={n: x.shape for n, x in theirs.items() if n not in taken},
        new={n: x.shape for n, x in ours.items() if n not in taken},
    )


def start_from(checkpoint: str, new: PyTree, classes: Sequence[str]) -> PyTree:
    """The variables of a new run that starts from a checkpoint; tells what fits, and what does not.

    Args:
        checkpoint: RUN/STEP.
        new: {"params", "batch_stats"} of the new run's model.
        classes: of the new run.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: it does not read, or not one kernel fits.
    """
    run, step = locate(checkpoint)
    parallel.require_equal(step, f"the processes see different checkpoints in {run}")
    found = transfer(new, restore_variables(run, step))
    log.info("starting from %s:\n  %s", checkpoint, found)
    theirs = run_folder.read_classes(run)
    if len(theirs) == len(classes) and theirs != tuple(classes):
        log.warning(
            "its classes are others: the segmentation head that was %s starts as that of %s",
            ", ".join(theirs),
            ", ".join(classes),
        )
    return found.variables


def _by_name(tree: PyTree) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
