"""Draws the figures of an evaluation, for the page and as files for papers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from segtad_jax.evaluation.average_precision import mean_precision_recall
from segtad_jax.evaluation.diagnosis import OUTCOMES
from segtad_jax.evaluation.instances import GroundTruth, Predictions, tabulate
from segtad_jax.evaluation.report import style
from segtad_jax.evaluation.thumos14 import without_ambiguous

FORMATS = ("png", "svg", "pdf")
OUTCOME_COLORS = dict(
    zip(OUTCOMES, ("#00926b", "#7fb2e5", "#b0478f", "#d9a400", "#d55e00", "#a9b4bf"), strict=True)
)
FEW = 10  # predictions of a bin, of which a share says little
_RECALLS = np.linspace(0, 1, 101)
_MAX_CLASSES = 60  # more bars than this are not readable in one figure


def write_figures(
    directory: str | PathLike[str],
    ground_truth: GroundTruth,
    predictions: Predictions,
    metrics: Mapping[str, Any],
    *,
    compare: Mapping[str, Any] | None = None,
) -> None:
    """Writes each figure of the metrics as png, svg and pdf."""
    figures = evaluation_figures(ground_truth, predictions, metrics, compare=compare)
    if "per_class" in metrics:
        figures["ap_per_class"] = class_figure(metrics["per_class"])
    for name, figure in figures.items():
        for form in FORMATS:
            style.save(figure, epath.Path(directory) / f"{name}.{form}")


def evaluation_figures(
    ground_truth: GroundTruth,
    predictions: Predictions,
    metrics: Mapping[str, Any],
    *,
    compare: Mapping[str, Any] | None = None,
) -> dict[str, Figure]:
    """Returns {name: figure} of what the metrics contain, beside a second result's."""
    figures = {}
    if "map" in metrics:
        figures["map_by_tiou"] = map_figure(metrics["map"], compare and compare.get("map"))
        thresholds = [float(key) for key in metrics["map"] if key != "average"]
        figures["precision_recall"] = precision_recall_figure(
            ground_truth, predictions, ends_and_middle(thresholds)
        )
    if "ar" in metrics:
        figures["average_recall"] = recall_figure(metrics["ar"], compare and compare.get("ar"))
    point = metrics.get("operating_point", {})
    for name, key, of in (
        ("reliability", "calibration", "score"),
        ("reliability_of_confidences", "confidence", "confidence"),
    ):
        if point.get(key):
            figures[name] = reliability_figure(point[key], point[f"{key}_above"], of)
    if "diagnosis" in metrics:
        figures["error_types"] = outcome_figure(metrics["diagnosis"])
        figures["sensitivity"] = sensitivity_figure(metrics["diagnosis"])
    return figures


def ends_and_middle(thresholds: list[float]) -> list[float]:
    """Returns the lowest, middle and highest threshold."""
    return sorted({thresholds[0], thresholds[len(thresholds) // 2], thresholds[-1]})


@contextmanager
def _panel(title: str, xlabel: str, *, top: float | None) -> Iterator[tuple[Figure, Axes]]:
    """Yields a small figure and its one panel, whose y axis is in percent."""
    with style.axes(size=(4.4, 3.3)) as (figure, panels):
        panel = panels[0, 0]
        panel.set_title(title)
        panel.set_xlabel(xlabel)
        yield figure, panel
        _percent_axis(panel.yaxis)
        panel.set_ylim(0, top)


def _compared(values: Any, compare: Any) -> list[tuple[str, Any, str]]:
    """Returns (prefix of its label, values, colour) for the result and the other, if any."""
    if compare is None:
        return [("", values, style.ACCENT)]
    return [("this: ", values, style.ACCENT), ("other: ", compare, style.MUTED)]


def _percent_axis(axis: Any, top: float | None = None) -> None:
    axis.set_major_formatter(PercentFormatter(1.0, symbol=""))
    if top is not None:
        axis.axes.set_ylim(0, top)


def map_figure(values: Mapping[str, float], compare: Mapping[str, float] | None = None) -> Figure:
    """Draws mAP at each tIoU, with the average as a dashed line."""
    with _panel("mAP by tIoU (%)", "tIoU threshold", top=None) as (figure, panel):
        for name, result, color in _compared(values, compare):
            points = {float(key): value for key, value in result.items() if key != "average"}
            label = f"{name}average {100 * result['average']:.2f}"
            panel.plot(list(points), list(points.values()), "o-", color=color, label=label)
            panel.axhline(result["average"], color=color, linewidth=1, linestyle=(0, (4, 3)))
        style.legend_below(figure)
    return figure


def precision_recall_figure(
    ground_truth: GroundTruth, predictions: Predictions, thresholds: list[float]
) -> Figure:
    """Draws precision against recall, mean over classes."""
    table = tabulate(without_ambiguous(ground_truth), predictions)
    with _panel("Precision and recall, class mean (%)", "recall", top=1.02) as (figure, panel):
        for threshold in thresholds:
            curve = mean_precision_recall(table, threshold, _RECALLS)
            panel.plot(_RECALLS, curve, label=f"tIoU {threshold:.2f}")
        panel.set_ylabel("precision")
        _percent_axis(panel.xaxis)
        panel.set_xlim(0, 1)
        style.legend_below(figure)
    return figure


def recall_figure(values: Mapping[str, Any], compare: Mapping[str, Any] | None = None) -> Figure:
    """Draws average recall against the average number of proposals per video."""
    xlabel = "proposals per video, on average"
    with _panel("Average recall (%)", xlabel, top=1.02) as (figure, panel):
        for name, result, color in _compared(values, compare):
            label = f"{name}AUC {100 * result['auc']:.2f}"
            panel.plot(np.arange(1, 101), result["curve"], color=color, label=label)
        panel.set_xlim(0, 100)
        style.legend_below(figure)
    return figure


def reliability_figure(
    calibration: Mapping[str, Any], above: Mapping[str, Any] | None = None, of: str = "score"
) -> Figure:
    """Draws the share of predictions that are right against their score, or their confidence.

    Of those above the thresholds, too. Bins of fewer than FEW are hollow, and not on the line.
    """
    title = f"Right among predictions of a {of} (%)"
    with _panel(title, of, top=1.02) as (figure, panel):
        panel.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for name, found, look in (
            ("all", calibration, {"color": style.ACCENT}),
            ("above the thresholds", above, {"color": "#d55e00", "linestyle": (0, (1, 1.5))}),
        ):
            if not found:
                continue
            line = {"marker": "o", "markersize": 4, **look}
            few = {**line, "linestyle": "none", "markerfacecolor": "none"}
            label = f"{name}: off by {100 * found['error']:.1f}"
            for those, looks in ((True, {**line, "label": label}), (False, few)):
                bins = [row for row in found["bins"] if (row["predictions"] >= FEW) == those]
                points = [row["score"] for row in bins], [row["right"] for row in bins]
                panel.plot(*points, **looks)
        panel.set_xlim(0, 1)
        style.legend_below(figure)
    return figure


def outcome_figure(diagnosis: Mapping[str, Any]) -> Figure:
    """Draws the outcomes of the best predictions, and what each kind of error costs."""
    outcomes = diagnosis["outcomes"]
    with style.axes(1, 2, size=(12.4, 3.6)) as (figure, panels):
        profile, impact = panels[0]
        ranks = np.arange(1, len(outcomes["by_rank"]) + 1)
        base = np.zeros(len(ranks))
        for name in OUTCOMES:
            share = np.array([row[name] for row in outcomes["by_rank"]])
            profile.bar(ranks, share, 0.8, base, color=OUTCOME_COLORS[name], label=_spaced(name))
            base += share
        profile.set_title(f"Best predictions at tIoU {diagnosis['tiou']:.2f} (%)")
        profile.set_xlabel("rank in its class, in multiples of the class's actions G")
        profile.set_xticks(ranks, [f"{rank}G" for rank in ranks])
        profile.grid(visible=False, axis="x")
        _percent_axis(profile.yaxis, top=1.0)
        profile.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

        gains = outcomes["gain"]
        names = list(gains)[::-1]
        bars = impact.barh(
            [_spaced(name) for name in names],
            [gains[name] for name in names],
            color=[OUTCOME_COLORS[name] for name in names],
        )
        impact.bar_label(bars, [f"+{100 * gains[name]:.1f}" for name in names], padding=4)
        impact.set_title("mAP$_N$ gained without them (points)")
        impact.grid(visible=False, axis="y")
        impact.margins(x=0.15)
        _percent_axis(impact.xaxis)
        return figure


def sensitivity_figure(diagnosis: Mapping[str, Any]) -> Figure:
    """Draws normalised mAP and misses by coverage, length and number of the actions."""
    sensitivity = diagnosis["sensitivity"]
    titles = {
        "coverage": "share of the video",
        "length": "length (s)",
        "instances": "actions of its class in the video",
    }
    with style.axes(2, len(sensitivity), size=(12.4, 4.4)) as (figure, panels):
        for column, (name, bins) in enumerate(sensitivity.items()):
            ranges = [row["range"].removesuffix(" s") for row in bins]
            upper, lower = panels[:, column]
            _bars(upper, ranges, [row["map_n"] for row in bins], style.ACCENT)
            upper.axhline(diagnosis["map_n"], color=style.INK, linewidth=1, linestyle=(0, (4, 3)))
            upper.set_title(f"By {name}")
            _bars(lower, ranges, [row["missed"] for row in bins], "#d55e00")
            lower.set_xlabel(titles[name])
        panels[0, 0].set_ylabel("mAP$_N$ (%)")
        panels[1, 0].set_ylabel("missed (%)")
        return figure


def _bars(panel: Axes, ranges: list[str], values: list[float | None], color: str) -> None:
    bars = panel.bar(ranges, [value or 0.0 for value in values], 0.7, color=color)
    labels = ["none" if value is None else f"{100 * value:.0f}" for value in values]
    panel.bar_label(bars, labels, padding=2, fontsize=8, color=style.MUTED)
    panel.tick_params(axis="x", labelsize=7.5)
    panel.grid(visible=False, axis="x")
    _percent_axis(panel.yaxis, top=1.12)
    panel.set_yticks([0, 0.5, 1.0])


def class_figure(per_class: Mapping[Any, Mapping[str, float]]) -> Figure:
    """Draws the average AP of each class, or of the best and the worst where there are many."""
    ordered = sorted(per_class.items(), key=lambda item: item[1]["average"])
    if len(ordered) > _MAX_CLASSES:
        half = _MAX_CLASSES // 2
        ordered = [*ordered[:half], *ordered[-half:]]
    with style.axes(size=(6.4, 1.0 + 0.17 * len(ordered))) as (figure, panels):
        panel = panels[0, 0]
        places = np.arange(len(ordered))
        values = [row["average"] for _, row in ordered]
        bars = panel.barh(places, values, 0.7, color=style.ACCENT)
        panel.bar_label(bars, [f"{100 * value:.1f}" for value in values], padding=3, fontsize=7)
        panel.set_yticks(places, [_plain(str(label)) for label, _ in ordered], fontsize=7.5)
        many = f" ({len(ordered) // 2} worst and best)" if len(ordered) < len(per_class) else ""
        panel.set_title(f"AP per class, mean over tIoU (%){many}")
        panel.grid(visible=False, axis="y")
        panel.margins(y=0.01)
        panel.set_xlim(0, 1.08)
        _percent_axis(panel.xaxis)
        return figure


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _plain(text: str) -> str:
    """Escapes dollars, between which matplotlib reads mathematics."""
    return text.replace("$", r"\$")
