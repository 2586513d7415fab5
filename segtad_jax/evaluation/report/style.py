"""Draws and saves figures in one look, that of figures.mplstyle."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from os import PathLike
from typing import Any

import matplotlib as mpl
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segtad_jax.runtime.files import write_whole

PACKAGE = "segtad_jax.evaluation.report"  # its files are the look, templates and the script
with resources.as_file(resources.files(PACKAGE) / "figures.mplstyle") as _path:
    _STYLE: Any = mpl.rc_params_from_file(_path, use_default_template=False)
COLORS = tuple(_STYLE["axes.prop_cycle"].by_key()["color"])
ACCENT, INK, MUTED = COLORS[0], _STYLE["text.color"], _STYLE["axes.labelcolor"]


@contextmanager
def axes(
    rows: int = 1,
    columns: int = 1,
    *,
    size: tuple[float, float],
    ratios: Sequence[float] | None = None,
) -> Iterator:
    """Yields a figure of `size` inches and its [rows, columns] array of axes.

    `ratios` are of the columns' widths.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, width_ratios=ratios)


def note(panel: Axes, text: str) -> None:
    """Writes into an empty panel why it is empty."""
    panel.text(
        0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color=MUTED, wrap=True
    )
    panel.set_xticks([])
    panel.set_yticks([])


def legend_below(figure: Figure) -> None:
    """Puts the legend of all panels under them, where it hides nothing."""
    figure.legend(loc="outside lower center", ncols=2)


def encode(figure: Figure, form: str, *, transparent: bool = False) -> bytes:
    """Returns the figure as bytes of an image; `form` is png, svg or pdf."""
    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Of names in other scripts; they stand as text on the page, too.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format=form, dpi=200, metadata=metadata, transparent=transparent)
    return buffer.getvalue()


def save(figure: Figure, path: str | PathLike[str]) -> None:
    """Writes the figure in the format that the ending of `path` names."""
    write(path, encode(figure, epath.Path(path).suffix.removeprefix(".")))


def write(path: str | PathLike[str], content: bytes) -> None:
    """Writes a file whole or not at all, in a folder that is made if need be."""
    file = epath.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, content)
