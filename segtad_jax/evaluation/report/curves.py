"""Draws training curves: losses and evaluation over steps."""

import json
import math
from os import PathLike
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from segtad_jax.evaluation.report import style
from segtad_jax.runtime.files import LineLog

Series = dict[str, dict[int, float]]


def read_series(metrics_jsonl_path: str | PathLike[str]) -> Series:
    """Returns {name: {step: value}} of a log whose lines are objects with a `step`.

    A resumed run logs some steps twice: the last one counts. A last line that was cut off when the
    run was stopped is left out.

    Raises:
        ValueError: another line is not JSON or has no step; names the file and the line.
    """
    series: Series = {}
    lines = LineLog(metrics_jsonl_path).read()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{metrics_jsonl_path}, line {number}: not JSON: {error}") from error
        if not isinstance(record, dict) or "step" not in record:
            raise ValueError(f"{metrics_jsonl_path}, line {number}: has no 'step'")
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                series.setdefault(name, {})[record["step"]] = float(value)
    return {name: dict(sorted(values.items())) for name, values in series.items()}


def draw_training_curves(
    metrics_jsonl_path: str | PathLike[str], png_path: str | PathLike[str]
) -> None:
    """Draws losses and mAP over steps to a png, svg or pdf file."""
    style.save(training_figure(read_series(metrics_jsonl_path)), png_path)


def training_figure(series: Series) -> Figure:
    """Returns two panels: `loss/...` on a logarithmic scale, `eval/map_...` as fractions."""
    with style.axes(1, 2, size=(11.0, 3.8)) as (figure, panels):
        losses, evaluation = panels[0]
        losses.set_title("Loss")
        values = _lines(losses, series, "loss/", strong="total")
        if min(values, default=0) > 0:
            losses.set_yscale("log")
            losses.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            losses.yaxis.set_major_formatter("{x:g}")
            losses.yaxis.set_minor_locator(NullLocator())
        evaluation.set_title("mAP on evaluation")
        _lines(evaluation, series, "eval/map_", strong="average", marker="o")
        evaluation.set_ylim(bottom=0)
        return figure


def _lines(
    panel: Axes, series: Series, prefix: str, *, strong: str, marker: str = ""
) -> list[float]:
    """Draws the series whose names begin with `prefix`, and returns all their values."""
    named = {n.removeprefix(prefix): row for n, row in series.items() if n.startswith(prefix)}
    if not named:
        style.note(panel, "nothing logged yet")
        return []
    for name, values in named.items():
        weight: Any = {"color": style.INK, "linewidth": 2.4, "zorder": 3} if name == strong else {}
        panel.plot(
            list(values), list(values.values()), marker=marker, markersize=3.5, label=name, **weight
        )
    panel.set_xlabel("step")
    panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    return [value for values in named.values() for value in values.values()]
