"""Text that describes a checkpoint, without reading an array."""

from typing import Any

import jax
from etils import epath

from segtad_jax.checkpoint import run_folder
from segtad_jax.checkpoint.store import DIRECTORY, kept_steps, locate, read_contents
from segtad_jax.data.preparation import read_preparation


def summary(checkpoint: str) -> str:
    """What is in RUN or RUN/STEP, as text.

    Raises:
        FileNotFoundError: no such checkpoint; says which there are.
        ValueError: it does not read, or the folder is no run of this version.
    """
    run, step = locate(checkpoint)
    config, classes, channels, start = run_folder.read(run)
    contents = read_contents(run, step)
    preparation = read_preparation(run)
    rate = preparation.frame_rate if preparation else None
    state = contents.state
    facts = {
        "run": f"{run}, step {step} of {config.train.steps}",
        "steps kept": ", ".join(map(str, kept_steps(run))),
        "saved": f"{contents.saved:%Y-%m-%d %H:%M:%S} UTC",
        "size on disk": _megabytes(_size(run / DIRECTORY / str(step))),
        "started from": start or "new parameters",
        "features": f"{channels} channels"
        + (f" at {rate:g} frames per second" if rate else "")
        + f", windows of T = {config.data.num_frames} frames",
        "classes": f"{len(classes)}: {', '.join(classes)}",
    }
    totals = {
        "parameters": _total(state["params"]),
        "BatchNorm statistics": _total(state.get("batch_stats")),
        "optimiser state": f"{_total(state['opt_state'])}, which only training reads",
    }
    return "\n\n".join([_lines(facts), _table(state["params"]), _lines(totals)])


def _table(params: Any) -> str:
    rows = [("parameter", "shape", "dtype", "values")]
    rows += [
        (
            jax.tree_util.keystr(path, simple=True, separator="/"),
            " x ".join(map(str, leaf.shape)),
            str(leaf.dtype),
            f"{leaf.size:,}",
        )
        for path, leaf in jax.tree.leaves_with_path(params)
    ]
    name, shape, dtype, values = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        f"{row[0]:<{name}}  {row[1]:>{shape}}  {row[2]:<{dtype}}  {row[3]:>{values}}"
        for row in rows
    )


def _lines(facts: dict[str, str]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())


def _total(tree: Any) -> str:
    leaves = jax.tree.leaves(tree)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return f"{len(leaves)} arrays, {sum(leaf.size for leaf in leaves):,} values, {_megabytes(size)}"


def _size(folder: epath.Path) -> int:
    """Bytes of all files below a folder."""
    return sum(_size(p) if p.is_dir() else p.stat().length for p in folder.iterdir())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
