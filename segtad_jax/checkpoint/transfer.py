"""Starts a model from the variables of another one: what fits is taken, the rest stays new."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from segtad_jax.checkpoint import run_folder
from segtad_jax.checkpoint.store import locate, restore_variables
from segtad_jax.runtime import parallel

PyTree = Any
Shapes = dict[str, tuple[int, ...]]  # by name, such as params/pdn/scores_bias

log = logging.getLogger(__name__)


class Transfer(NamedTuple):
    """A new model's variables, and where they come from."""

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
    ours, theirs = _shapes(new), _shapes(saved)
    taken = {name: shape for name, shape in ours.items() if theirs.get(name) == shape}
    if not any(len(shape) > 1 for shape in taken.values()):
        differing = [name for name in ours if name in theirs and name not in taken]
        example = [
            f": {name} is {list(theirs[name])} there and {list(ours[name])} here"
            for name in differing[:1]
        ]
        raise ValueError(
            f"no kernel of the checkpoint fits this model{''.join(example)}. Start from a run of a "
            "like model, above all of the same model.width."
        )
    arrays, source = flatten_dict(new, sep="/"), flatten_dict(saved, sep="/")
    arrays |= {name: source[name].astype(arrays[name].dtype) for name in taken}
    return Transfer(
        {**new, **unflatten_dict(arrays, sep="/")},  # a group without arrays stays
        taken,
        left={name: shape for name, shape in theirs.items() if name not in taken},
        new={name: shape for name, shape in ours.items() if name not in taken},
    )


def start_from(checkpoint: str, new: PyTree, classes: Sequence[str]) -> PyTree:
    """Returns the variables of a new run that starts from a checkpoint; logs what fits.

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
    result = transfer(new, restore_variables(run, step))
    log.info("starting from %s:\n  %s", checkpoint, result)
    theirs = run_folder.read_classes(run)
    if len(theirs) == len(classes) and theirs != tuple(classes):
        log.warning(
            "its classes are others: the segmentation head that was %s starts as that of %s",
            ", ".join(theirs),
            ", ".join(classes),
        )
    return result.variables


def _shapes(tree: PyTree) -> Shapes:
    return {name: array.shape for name, array in sorted(flatten_dict(tree, sep="/").items())}
