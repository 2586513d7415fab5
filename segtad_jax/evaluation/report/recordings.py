"""Writes one HTML page of what was detected in new recordings, whose truth nobody knows."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from os import PathLike
from types import MappingProxyType
from typing import Any

import numpy as np

from segtad_jax.evaluation.confidence import Knots
from segtad_jax.evaluation.instances import Predictions
from segtad_jax.evaluation.operating_point import TIOU, Threshold, above
from segtad_jax.evaluation.report import style
from segtad_jax.evaluation.report.html import write_html
from segtad_jax.evaluation.report.media import Media, media_data
from segtad_jax.evaluation.report.signals import Trace, thin
from segtad_jax.evaluation.report.videos import timelines

DRAWN = 100  # recordings with a timeline, the first; bounds the page and the memory for signals
LISTED = 2000  # recordings in the table, and failures
_DETECTIONS = 1000  # of a recording
_BINS = 400  # of a drawn signal, each with its least and greatest value


def write_recordings(
    path: str | PathLike[str],
    detections: Predictions,
    *,
    classes: Collection[str],
    threshold: Threshold | None,
    trace: Callable[[str], Trace] | None = None,
    summary: Callable[[Iterable[Any]], str],
    failures: Mapping[str, str],
    notes: Mapping[str, str],
    title: str,
    durations: Mapping[str, float] = MappingProxyType({}),
    media: Callable[[str], Media] | None = None,
    caution: str = "",
    confidence: Knots | None = None,
) -> None:
    """Writes the page to an HTML file.

    Args:
        path: of the page.
        detections: {video: [(start, end, label, score), ...]}, all of them, in seconds.
        classes: all that there are.
        threshold: from which score detections count; None: nothing is known of it, all do.
        trace: returns the signal of a recording; called for the first DRAWN; None: there is none.
        summary: returns one line on detections, for the table.
        failures: {video: why there are no detections}.
        notes: {video or file: what is odd about it}.
        title: of the page.
        durations: {video: seconds}, of those where they are known.
        media: returns the video of a recording; called for the first DRAWN; None: there is none.
        caution: what to know before believing the page; "" for nothing.
        confidence: by which scores become confidences; None: the page tells none.
    """
    counted = above(detections, -np.inf if threshold is None else threshold)
    drawn = {video: detections[video] for video in sorted(detections)[:DRAWN]}
    data = timelines(
        {video: [] for video in drawn},
        drawn,
        tiou_thresholds=[TIOU],
        tiou=TIOU,
        durations=durations,
        compare=None,
        segmentation={},
        classes=classes,
        most=_DETECTIONS,
    )
    for video in data["videos"]:
        video["count"] = len(counted[video["id"]])
        if media is not None:
            video["media"] = media_data(media(video["id"]))
        if trace is None:
            continue
        try:
            found = trace(video["id"])
        except (KeyError, OSError, ValueError) as error:
            known = [notes[video["id"]]] if video["id"] in notes else []
            notes = {**notes, video["id"]: "; ".join([*known, f"its signal is not drawn: {error}"])}
            continue
        video["signal"] = _thinned(found)
        ends = [round(100 * end) for _, end, _ in found.pieces]
        video["duration"] = max([video["duration"], *ends])
    least = None
    if threshold is not None:
        each = threshold if isinstance(threshold, Mapping) else dict.fromkeys(classes, threshold)
        least = [float(each[label]) if label in each else None for label in data["labels"]]
    listed = sorted(detections)[:LISTED]
    write_html(
        path,
        "recordings.html",
        title=title,
        images={},
        script="page.js",
        media=media is not None,
        caution=caution,
        confidence=confidence,
        counts={
            "recordings": len(detections),
            "actions": sum(map(len, counted.values())),
            "failures": len(failures),
        },
        classes=_class_rows(counted, classes),
        least=dict(zip(data["labels"], least, strict=True)) if least else None,
        same=None if threshold is None or isinstance(threshold, Mapping) else float(threshold),
        recordings=[
            {
                "id": video,
                "actions": len(counted[video]),
                "seconds": sum(end - start for start, end, _, _ in counted[video]),
                "summary": summary(counted[video]).partition(": ")[2],
                "note": notes.get(video, ""),
            }
            for video in listed
        ],
        failures=dict(islice(failures.items(), LISTED)),
        others={name: note for name, note in notes.items() if name not in detections},
        data={
            **data,
            "blind": True,
            "confidence": confidence,
            "thresholds": least,
            "outcomes": [],
            "colors": [style.ACCENT],
            "tiou": TIOU,
        },
    )


def _thinned(trace: Trace) -> dict[str, Any]:
    """Returns each channel in percent of its range, and the pieces' ends in hundredths of a s."""
    values = np.concatenate([values for _, _, values in trace.pieces])
    low, extent = values.min(axis=0), np.ptp(values, axis=0)
    seconds = sum(end - start for start, end, _ in trace.pieces)
    pieces = []
    for start, end, part in trace.pieces:
        share = (end - start) / seconds if seconds else 1
        _, points = thin(np.arange(len(part)), part, max(int(_BINS * share), 1))
        scaled = (points - low) / np.where(extent > 0, extent, 1)
        percent = np.round(100 * scaled).astype(int).T.tolist()
        pieces.append({"start": round(100 * start), "end": round(100 * end), "values": percent})
    ranges = [f"{a:.3g} to {b:.3g}" for a, b in zip(low, low + extent, strict=True)]
    return {"names": trace.names, "ranges": ranges, "pieces": pieces}


def _class_rows(counted: Predictions, classes: Collection[str]) -> list[dict[str, Any]]:
    """Returns how often and how long each class was found, the most frequent first."""
    lengths: dict[str, list[float]] = defaultdict(list)
    recordings: dict[str, set[str]] = defaultdict(set)
    for video, found in counted.items():
        for start, end, label, _ in found:
            lengths[label].append(float(end) - float(start))
            recordings[label].add(video)
    rows: list[dict[str, Any]] = [
        {
            "label": label,
            "actions": len(lengths[label]),
            "recordings": len(recordings[label]),
            "seconds": sum(lengths[label]),
            "mean": sum(lengths[label]) / len(lengths[label]) if lengths[label] else None,
            "shortest": min(lengths[label], default=None),
            "longest": max(lengths[label], default=None),
        }
        for label in classes
    ]
    return sorted(rows, key=lambda row: -row["actions"])
