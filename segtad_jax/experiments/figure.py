"""Draws all tables in one figure: each row's average mAP less SegTAD's."""

import functools
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segtad_jax.evaluation.report import style
from segtad_jax.experiments.paper import TABLES
from segtad_jax.experiments.tables import Results, difference

_LABELS = ("a seed", "mean, standard error", "the paper, on its data")
_ROW, _PANEL = 0.27, 0.75  # inches: of a row, of a panel's title and axis


def ablation_figure(numbers: Iterable[int], results: Results) -> Figure:
    """Draws a panel a table: every seed, the mean with its standard error, the paper's number."""
    numbers = list(numbers)
    heights = [_PANEL + _ROW * (len(TABLES[n].rows) - 1) for n in numbers]
    with style.axes(len(numbers), 1, size=(7.4, sum(heights))) as (figure, panels):
        grid = panels[0, 0].get_gridspec()
        grid.set_height_ratios(heights)
        for panel, number in zip(panels[:, 0], numbers, strict=True):
            _panel(panel, number, results)
        panels[-1, 0].set_xlabel("average mAP less SegTAD's, points")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=3)
        limits = np.array([panel.get_xlim() for panel in panels[:, 0]])
        for panel in panels[:, 0]:
            panel.set_xlim(limits[:, 0].min(), limits[:, 1].max())
        return figure


def _panel(panel: Axes, number: int, results: Results) -> None:
    table = TABLES[number]
    rows = [row for row in table.rows if row.ablation != table.reference]
    reference = results(table.reference)
    paper = next(row for row in table.rows if row.ablation == table.reference).paper
    for place, row in enumerate(rows):
        seeds = results(row.ablation)
        names = _LABELS if place == 0 else (None, None, None)
        if (ours := difference(seeds, reference)) is not None:
            level = np.mean([100 * result.map["average"] for result in reference])
            values = [100 * result.map["average"] - level for result in seeds]
            faint = style.ACCENT + "59"
            panel.plot(
                values, [place] * len(values), "o", color=faint, markersize=4, label=names[0]
            )
            errorbar = functools.partial(panel.errorbar, fmt="D", markersize=5, capsize=3)
            errorbar(ours.mean, place, xerr=ours.error, color=style.ACCENT, label=names[1])
        draw = functools.partial(panel.plot, color=style.COLORS[1], markersize=6, label=names[2])
        draw(row.paper[3] - paper[3], place, "s", fillstyle="none")
    panel.axvline(0, color=style.INK, linewidth=0.8)
    panel.set_yticks(range(len(rows)), [row.ablation for row in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_title(f"Table {number}. {table.title}")
