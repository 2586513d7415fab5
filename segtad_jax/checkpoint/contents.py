"""Describes a checkpoint, without reading an array."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
from etils import epath
from flax.traverse_util import flatten_dict
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from segtad_jax.checkpoint import run_folder
from segtad_jax.checkpoint.store import DIRECTORY, kept_steps, locate, read_contents
from segtad_jax.data.preparation import read_preparation


def summary(checkpoint: str) -> str:
    """Returns a description of RUN or RUN/STEP.

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
    parameters = (
        (name, " x ".join(map(str, leaf.shape)), str(leaf.dtype), f"{leaf.size:,}")
        for name, leaf in flatten_dict(state["params"], sep="/").items()
    )
    totals = {
        "parameters": _total(state["params"]),
        "BatchNorm statistics": _total(state.get("batch_stats")),
        "optimiser state": f"{_total(state['opt_state'])}, which only training reads",
    }
    heading = ("parameter", Column("shape", justify="right"), "dtype")
    tables = (
        _table(facts.items()),
        _table(parameters, *heading, Column("values", justify="right")),
        _table(totals.items()),
    )
    return "\n\n".join(tables)


def _table(rows: Iterable[Sequence[str]], *heading: str | Column) -> str:
    table = Table(
        *heading, box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(heading)
    )
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(width=10_000, color_system=None)  # no name is cut, whatever the terminal
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _total(tree: Any) -> str:
    leaves = jax.tree.leaves(tree)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return f"{len(leaves)} arrays, {sum(leaf.size for leaf in leaves):,} values, {_megabytes(size)}"


def _size(folder: epath.Path) -> int:
    """Returns the bytes of all files below a folder."""
    return sum(_size(p) if p.is_dir() else p.stat().length for p in folder.iterdir())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
