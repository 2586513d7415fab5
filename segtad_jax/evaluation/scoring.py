"""Scores one set of predictions by all metrics, in the form of metrics.json."""

from collections.abc import Collection, Mapping
from typing import SupportsFloat

import numpy as np

from segtad_jax.evaluation.average_precision import detection_map
from segtad_jax.evaluation.diagnosis import diagnose
from segtad_jax.evaluation.instances import GroundTruth, Predictions, Thresholds
from segtad_jax.evaluation.recall import average_recall
from segtad_jax.evaluation.thumos14 import thumos14_map, without_ambiguous

DOUBTFUL = 0.1  # mAP@0.5 below which predictions are compared with chance
METRICS = ("map", "ar", "diagnosis")
PROTOCOLS = {  # with their usual tIoU thresholds
    "activitynet": np.linspace(0.5, 0.95, 10),
    "thumos14": np.linspace(0.3, 0.7, 5),
}


def evaluate(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    tiou_thresholds: Thresholds | None = None,
    metrics: Collection[str] = METRICS,
    protocol: str = "activitynet",
    durations: Mapping[str, SupportsFloat] | None = None,
) -> dict:
    """Scores predictions.

    Args:
        ground_truth: {video: [(start, end, label), ...]} in seconds, all videos of the subset.
        predictions: {video: [(start, end, label, score), ...]}.
        tiou_thresholds: by default those of the protocol.
        metrics: some of METRICS.
        protocol: "activitynet" or "thumos14"; it decides how mAP is computed.
        durations: {video: seconds}, for the diagnosis by coverage.

    Returns:
        {"protocol", "map": {"0.50": mAP, ..., "average"}, "per_class": see `detection_map`,
        "ties": see `map_result`, "ar": see `average_recall`, "diagnosis": see `diagnose` (at tIoU
        0.5), "counts": {"videos", "actions", "classes", "predictions"}, "missing_videos": [ids of
        the subset without a prediction], "zero_length": {"actions", "videos", "treatment"},
        "ambiguous": number of segments labelled Ambiguous, no actions}; fractions, not percent.

    Raises:
        ValueError: an unknown metric or protocol, or a value that `tabulate` refuses.
    """
    unknown = set(metrics) - set(METRICS)
    if unknown or protocol not in PROTOCOLS:
        raise ValueError(
            f"metrics {sorted(metrics)} must be of {METRICS}, protocol {protocol!r} of "
            f"{tuple(PROTOCOLS)}"
        )
    thresholds = PROTOCOLS[protocol] if tiou_thresholds is None else tiou_thresholds
    actions = without_ambiguous(ground_truth)  # only THUMOS14's own mAP may see the Ambiguous ones
    result: dict = {"protocol": protocol}
    if "map" in metrics:
        if protocol == "thumos14":
            scored = thumos14_map(ground_truth, predictions, thresholds)
        else:
            scored = detection_map(actions, predictions, thresholds)
        result["map"] = {**scored["per_tiou"], "average": scored["average"]}
        result |= {key: scored[key] for key in ("per_class", "ties")}
    if "ar" in metrics:
        result["ar"] = average_recall(actions, predictions, thresholds)
    if "diagnosis" in metrics:
        result["diagnosis"] = diagnose(actions, predictions, durations)
    classes = {row[2] for rows in actions.values() for row in rows}
    counted = classes | {None}  # proposals have no label
    result["counts"] = {
        "videos": len(actions),
        "actions": sum(map(len, actions.values())),
        "classes": len(classes),
        "predictions": sum(row[2] in counted for rows in predictions.values() for row in rows),
    }
    result["missing_videos"] = sorted(v for v in ground_truth if not predictions.get(v))
    empty = [video for video, rows in actions.items() for row in rows if row[0] == row[1]]
    result["zero_length"] = {
        "actions": len(empty),
        "videos": sorted(set(empty)),
        "treatment": "counted as actions; no prediction can match them",
    }
    result["ambiguous"] = sum(map(len, ground_truth.values())) - result["counts"]["actions"]
    return result


def chance(ground_truth: GroundTruth, predictions: Predictions) -> float:
    """Returns mAP@0.5 where every video has the predictions of the next one.

    What has learnt nothing does no worse than this, however regular the videos are.
    """
    videos = sorted(ground_truth)
    others = {
        v: predictions.get(o, []) for v, o in zip(videos, videos[1:] + videos[:1], strict=True)
    }
    return detection_map(without_ambiguous(ground_truth), others, (0.5,))["average"]
