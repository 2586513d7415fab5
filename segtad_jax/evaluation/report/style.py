"""One look for all figures, on screen and in print."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

import matplotlib as mpl
from cycler import cycler
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segtad_jax.runtime.files import write_whole

INK = "#1c2733"
MUTED = "#6b7785"
GRID = "#e4e8ec"
ACCENT = "#0f6fde"
# Told apart by colour-blind readers too (Okabe and Ito's, without black and yellow, deepened).
COLORS = ("#0f6fde", "#d55e00", "#00926b", "#b0478f", "#c98a00", "#3aa0cf", "#6b7785")

_STYLE: Any = {
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so the same everywhere
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": "#b8c1ca",
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.prop_cycle": cycler(color=COLORS),
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,  # TrueType: text stays text in a paper
    "svg.fonttype": "path",
    "svg.hashsalt": "segtad",  # equal results give equal files
}


@contextmanager
def axes(rows: int = 1, columns: int = 1, *, size: tuple[float, float]) -> Iterator:
    """A figure of `size` inches and its [rows, columns] array of axes, in the house style."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False)


def note(panel: Axes, text: str) -> None:
    """Says in an empty panel why it is empty."""
    panel.text(
        0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color=MUTED, wrap=True
    )
    panel.set_xticks([])
    panel.set_yticks([])


def encode(figure: Figure, form: str) -> bytes:
    """The figure as bytes of an image; `form` is png, svg or pdf."""
    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format=form, dpi=200, metadata=metadata)
    return buffer.getvalue()


def save(figure: Figure, path: str | PathLike[str]) -> None:
    """Writes the figure in the format that the ending of `path` names."""
    write(path, encode(figure, epath.Path(path).suffix.removeprefix(".")))


def write(path: str | PathLike[str], content: bytes) -> None:
    """Writes a file whole or not at all."""
    file = epath.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, content)
