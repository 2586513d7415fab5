"""Writes one HTML page of an evaluation, which opens from disk without a network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, SupportsFloat

from segtad_jax.evaluation.diagnosis import OUTCOMES
from segtad_jax.evaluation.instances import GroundTruth, Predictions
from segtad_jax.evaluation.report import curves, figures
from segtad_jax.evaluation.report.html import write_html
from segtad_jax.evaluation.report.videos import Segmentation, timelines
from segtad_jax.evaluation.scoring import PROTOCOLS
from segtad_jax.evaluation.thumos14 import without_ambiguous

_MATRIX_CLASSES = 40  # a matrix of more is not readable
_CONFUSED_PAIRS = 100


@dataclass(frozen=True)
class TrainingRun:
    """The parts of the page that only a training run has; each may be missing."""

    metrics_jsonl: str | PathLike[str] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    segmentation: Mapping[str, Segmentation] = field(default_factory=dict)  # by video


@dataclass(frozen=True)
class Comparison:
    """A second result: its predictions and their metrics."""

    predictions: Predictions
    metrics: Mapping[str, Any]


def write_report(
    path: str | PathLike[str],
    ground_truth: GroundTruth,
    predictions: Predictions,
    metrics: Mapping[str, Any],
    *,
    durations: Mapping[str, SupportsFloat] | None = None,
    compare: Comparison | None = None,
    run: TrainingRun | None = None,
    title: str = "Temporal action detection",
) -> None:
    """Writes the page to an HTML file.

    The metrics are those of the predictions, as `scoring.evaluate` returns them, with or without
    what the command adds on the scope; the page leaves out what they lack. Timelines of recordings
    without a duration (seconds) end with their last segment.
    """
    run = run or TrainingRun()
    other = compare.metrics if compare else None
    actions = without_ambiguous(ground_truth)
    thresholds = [float(key) for key in metrics.get("map", {}) if key != "average"]
    if not thresholds:
        thresholds = PROTOCOLS["activitynet"].tolist()
    tiou = metrics["diagnosis"]["tiou"] if "diagnosis" in metrics else thresholds[0]
    data = timelines(
        actions,
        predictions,
        tiou_thresholds=thresholds,
        tiou=tiou,
        durations=durations or {},
        compare=compare.predictions if compare else None,
        segmentation=run.segmentation,
    )
    images = figures.evaluation_figures(actions, predictions, metrics, compare=other)
    if run.metrics_jsonl is not None:
        images["training"] = curves.training_figure(curves.read_series(run.metrics_jsonl))
    write_html(
        path,
        "page.html",
        title=title,
        images=images,
        script="page.js",
        metrics=metrics,
        compared=other,
        highlights=[f"{threshold:.2f}" for threshold in figures.ends_and_middle(thresholds)],
        classes=_class_rows(metrics, other),
        few=figures.FEW,
        point=(point := metrics.get("operating_point")),
        confusion=_confusion(point) if point else {},
        config=json.dumps(run.config, indent=2, default=str) if run.config else None,
        data={
            **data,
            "tiou": tiou,
            "outcomes": [name.replace("_", " ") for name in OUTCOMES],
            "colors": list(figures.OUTCOME_COLORS.values()),
            "confidence": point and point.get("knots"),
            "thresholds": point and [point["thresholds"].get(label) for label in data["labels"]],
        },
    )


def _confusion(point: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the whole matrix with the names of its rows, or of many classes the largest pairs."""
    labels = list(point["per_class"])
    counts = {(row, column): number for row, column, number in point["confusion"]}
    if len(labels) > _MATRIX_CLASSES:
        pairs = [row for row in point["confusion"] if None not in row and row[0] != row[1]]
        largest = sorted(pairs, key=lambda row: -row[2])[:_CONFUSED_PAIRS]
        return {"names": labels, "matrix": [], "pairs": largest}
    every = [*labels, None]
    matrix = [[counts.get((row, column), 0) for column in every] for row in every]
    return {"names": labels, "matrix": matrix, "pairs": []}


def _class_rows(
    metrics: Mapping[str, Any], other: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    rows = []
    for label, values in metrics.get("per_class", {}).items():
        row = {"label": str(label), **values}
        if other is not None and label in other.get("per_class", {}):
            row["change"] = values["average"] - other["per_class"][label]["average"]
        rows.append(row)
    return sorted(rows, key=lambda row: row["average"])
