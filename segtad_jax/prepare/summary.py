"""Collects what `prepare` reads and sums it up as report.json."""

import collections
import dataclasses
import itertools
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, SupportsFloat

import numpy as np

from segtad_jax.config.fit import finest_pyramid
from segtad_jax.data.defects import KINDS, LEFT_OUT, Defect
from segtad_jax.data.pipeline import inference_step
from segtad_jax.data.preparation import Preparation
from segtad_jax.data.records import Record
from segtad_jax.data.value_range import ValueRange
from segtad_jax.evaluation.ceiling import Clip, grid_ceiling
from segtad_jax.evaluation.ids import whole_id
from segtad_jax.prepare.annotations import Annotations
from segtad_jax.prepare.intake import SPLITS, Outcome

QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent
# A window holds so many actions of the median length, and so many of those that few are longer
# than: what is around an action tells what it is, and longer windows are slower to train.
MEDIAN_ACTIONS, LONG_ACTIONS = 8, 2
SHORTEST_WINDOW, LONGEST_WINDOW = 256, 1024
WINDOW_MULTIPLE = 16  # every stride up to 16 divides it
STRIDES = (2, 4, 8, 16)  # frames, of the grids of proposals whose ceilings are computed
THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
OVERLAP = 0.5  # of windows in inference
OVERRUN = 1.05  # of the duration: features may end a little before their video


class Summary:
    """Everything but the features of the videos that were read, and all defects."""

    def __init__(self, annotations: Annotations, defects: Iterable[Defect]) -> None:
        """Starts with all annotations, and the defects from before any features were read."""
        self.annotations = annotations
        self.defects = list(defects)
        self.records: dict[str, list[Record]] = {split: [] for split in SPLITS}
        self._moving = np.zeros(0, bool)  # channels that are not the same in all of a recording
        # What the training recordings had.
        self._range: ValueRange | None = None
        self._rates: list[float] = []
        self._annotated = {(v.video, v.subset) for v in annotations.videos.values()}
        self._used = dict.fromkeys(SPLITS, 0)  # recordings of which there are records
        self._times: dict[str, Any] = {}

    def add(self, outcome: Outcome) -> None:
        """Takes in a video that was read."""
        self.defects += outcome.defects
        # The end of a recording may validate, whose annotations are of a video that trains.
        self._annotated.add((outcome.video.video, outcome.video.subset))
        self._used[outcome.video.subset] += bool(outcome.records)
        if outcome.times is not None:
            self._times[outcome.video.video] = outcome.times
        for record in outcome.records:
            nothing = np.zeros((len(record.features), 0), np.float32)
            light = dataclasses.replace(record, features=nothing)
            self.records[outcome.video.subset].append(light)
        if outcome.range is not None:
            moving = outcome.range.low < outcome.range.high
            self._moving = moving | self._moving if self._moving.size else moving
            if outcome.video.subset == "training":
                self._rates.append(outcome.rate)
                if not any(defect.kind == "outlier" for defect in outcome.defects):
                    ranges = [r for r in (self._range, outcome.range) if r is not None]
                    self._range = ValueRange.union(ranges)

    @property
    def all_records(self) -> list[Record]:
        """The records of all splits, without their features."""
        return [record for records in self.records.values() for record in records]

    @property
    def flawed(self) -> bool:
        """Returns whether anything was left out or changed that no flag asked to be."""
        return any(defect.is_flaw for defect in self.defects)

    def complete(self, preparation: Preparation) -> Preparation:
        """Returns the preparation with a window, and with what the training recordings had."""
        return dataclasses.replace(
            preparation,
            window=preparation.window or self._natural_window(),
            rates=(min(self._rates), max(self._rates)) if self._rates else None,
            range=self._range,
        )

    def _natural_window(self) -> int:
        """Returns the T of a data set without one: as its actions, or its longest recording."""
        longest = max((len(record.features) for record in self.all_records), default=0)
        training = self.records["training"]
        lengths = [n * r.rate for r in training for n in np.diff(r.segments)[:, 0]] or [0.0]
        wanted = MEDIAN_ACTIONS * np.median(lengths), LONG_ACTIONS * np.percentile(lengths, 95)
        window = min(max(*wanted, SHORTEST_WINDOW), longest, LONGEST_WINDOW)
        return int(-(-window // WINDOW_MULTIPLE) * WINDOW_MULTIPLE)

    def report(self, preparation: Preparation) -> dict[str, Any]:
        """Returns the contents of report.json, in JSON's types."""
        splits = {subset for _, subset in self._annotated}
        return {
            "name": preparation.name,
            "channels": preparation.num_channels,
            "window": preparation.window,
            "dtype": preparation.dtype,
            "resize": preparation.num_frames and preparation.resize,
            "splits": {split: self._split(split) for split in SPLITS if split in splits},
            "defects": self._defects(preparation),
            "notes": [*self.annotations.notes, *self._frames_for_seconds(), *self._moments()],
            "times": self._times,
            "classes": self._classes(),
            "lengths": self._lengths(),
            "ceiling": self._ceiling(preparation.window),
        }

    def _split(self, split: str) -> dict[str, Any]:
        records = self.records[split]
        annotated = sum(subset == split for _, subset in self._annotated)
        actions = sum(len(record.labels) for record in records)
        seconds = sum(record.duration for record in records)
        return {
            "annotated": annotated,
            "found": self._used[split],
            "left_out": annotated - self._used[split],
            "without_annotations": sum(not record.labels for record in records),
            "actions": actions,
            "hours": seconds / 3600,
            "background": 1 - sum(map(_covered, records)) / seconds if actions else None,
            "frames": _quantiles([len(record.features) for record in records]),
            "seconds": _quantiles([record.duration for record in records]),
            "rate": _quantiles([record.rate for record in records]),
        }

    def _defects(self, preparation: Preparation) -> dict[str, Any]:
        by_kind = collections.defaultdict(list)
        names = [name for columns in preparation.columns for name in columns]
        dead = [
            Defect("dead_channels", names[n] if len(names) == self._moving.size else str(n), "", "")
            for n in np.flatnonzero(~self._moving).tolist()
        ]
        for d in (*self.defects, *dead):
            by_kind[d.kind].append({"video": d.video, "value": d.value, "where": d.where})
        return {
            kind: {
                "treatment": treatment,
                "meaning": meaning,
                "count": len(by_kind[kind]),
                "items": by_kind[kind],
            }
            for kind, (treatment, meaning) in KINDS.items()
            if kind in by_kind
        }

    def _frames_for_seconds(self) -> list[str]:
        """Returns a note if most annotations leave their videos: the unit must be another."""
        total = sum(len(video.actions) for video in self.annotations.videos.values())
        beyond = [defect for defect in self.defects if defect.kind in ("beyond_end", "outside")]
        if len(beyond) <= total / 2:
            return []
        note = (
            f"{len(beyond)} of {total} annotations reach beyond the end of their video, the first: "
            f"{beyond[0].value} ({beyond[0].where}). Are their times frames or milliseconds? "
            "Expected are seconds; --unit=ms (or us, frames) says otherwise, --clock that they are "
            "times of the day."
        )
        return [note]

    def why_useless(self) -> str | None:
        """Returns why nothing can be done with what is left of the annotations, or None."""
        videos = self.annotations.videos.values()
        durations: dict[str, float] = {}
        for record in self.all_records:  # in order of time, where one was split
            video, start = whole_id(record.video)
            durations[video] = start + record.duration
        there = [(v.video, action) for v in videos if v.video in durations for action in v.actions]
        if there and all(action.end > OVERRUN * durations[video] for video, action in there):
            video, a = there[0]
            return (
                f"every annotation ends after its video, the first: video {video!r}, "
                f"[{a.start:.10g}, {a.end:.10g}] of {durations[video]:g} s ({a.where}). Times must "
                "be seconds: say --unit=ms, us or frames where they are others, or --clock where "
                "they are of the day"
            )
        annotated = any(video.actions for video in videos if video.subset == "training")
        if annotated and not any(record.labels for record in self.records["training"]):
            return f"no annotation of the training videos is left{self.first_lost()}"
        moments = self._classes_of_moments()
        if moments and moments == {label for r in self.records["training"] for label in r.labels}:
            _, first = next((v, a) for v, a in there if a.label in moments)
            return (
                "every training annotation is a moment, of which nothing can be learned; the "
                f"first: [{first.start:.10g}, {first.end:.10g}] {first.label} ({first.where}). "
                "--widen=SECONDS makes actions of moments"
            )
        return None

    def _classes_of_moments(self) -> set[str]:
        """Returns the classes of which all training annotations are moments."""
        pairs = {
            (label, bool(length))
            for record in self.records["training"]
            for label, length in zip(record.labels, np.diff(record.segments)[:, 0], strict=True)
        }
        return {label for label, _ in pairs} - {label for label, has_length in pairs if has_length}

    def _moments(self) -> list[str]:
        """Returns a note if classes cannot be learned."""
        if not (classes := sorted(self._classes_of_moments())):
            return []
        listed = ", ".join(map(repr, classes[:5])) + (", ..." if len(classes) > 5 else "")
        flag = shlex.quote(",".join(classes))
        note = (
            f"all training annotations of {listed} are moments, of which nothing can be learned: "
            f"--widen=SECONDS makes actions of moments, --ignore={flag} leaves these classes out"
        )
        return [note]

    def first_lost(self) -> str:
        """Returns the end of a sentence that names the first thing left out, if there is any."""
        lost = (defect for defect in self.defects if defect.treatment == LEFT_OUT)
        return "".join(f"; the first: {defect.line}" for defect in itertools.islice(lost, 1))

    def training_flags(self) -> str:
        """Returns the flags of `segtad_jax.main` that the splits ask for, such as an eval_split.

        Raises:
            ValueError: it cannot be trained on; says why and what to do.
        """
        lengths = {
            split: [float(length) for r in records for length in np.diff(r.segments)[:, 0]]
            for split, records in self.records.items()
        }
        if not lengths["training"]:
            raise ValueError(
                "no training recording has an annotation: a column or field `subset` must say "
                "training"
            )
        if lengths["validation"]:
            return ""
        return f" --config.data.eval_split={'testing' if lengths['testing'] else 'training'}"

    def _classes(self) -> dict[str, dict[str, int]]:
        counts = {
            split: collections.Counter(label for record in records for label in record.labels)
            for split, records in self.records.items()
        }
        return {
            label: {split: count[label] for split, count in counts.items() if count}
            for label in self.annotations.classes
        }

    def _lengths(self) -> dict[str, Any]:
        seconds, shares = [], []
        for record in self.all_records:
            lengths = np.diff(record.segments)[:, 0]
            seconds += lengths.tolist()
            shares += (lengths / record.duration).tolist()
        counts = [
            len(record.labels)
            for split, records in self.records.items()
            for record in records
            if record.labels or split != "testing"
        ]
        return {
            "seconds": _quantiles(seconds),
            "share_of_video": _quantiles(shares),
            "actions_of_a_video": _quantiles(counts),
            "seconds_histogram": _histogram(seconds),
            "share_histogram": _histogram(shares),
        }

    def _ceiling(self, window: int) -> dict[str, Any]:
        """Returns what the grid of proposals can reach on the split that will be scored."""
        split, clips = "training", {}
        for candidate in ("validation", "testing", "training"):
            if any(record.labels for record in self.records[candidate]):
                split = candidate
                clips = {record.video: _clip(record, window) for record in self.records[split]}
                break
        strides = {
            str(stride): grid_ceiling(clips, window, stride, THRESHOLDS)
            | {"divides": window % stride == 0}
            for stride in STRIDES
            if stride <= window
        }
        stride, cells = finest_pyramid(window)
        reached = grid_ceiling(clips, window, stride, THRESHOLDS, cells)
        pyramid = [{"stride": stride, "cells": cells} | reached] if stride <= window else []
        return {"split": split, "window": window, "strides": strides, "pyramid": pyramid}


def _covered(record: Record) -> float:
    """Returns the seconds of a recording that lie in any action."""
    covered, until = 0.0, 0.0
    for start, end in sorted(record.segments.tolist()):
        covered += max(end - max(start, until), 0.0)
        until = max(until, end)
    return min(covered, record.duration)


def _clip(record: Record, window: int) -> Clip:
    frames = len(record.features)
    step = inference_step(window, OVERLAP)
    offsets = range(0, max(frames - window, 0) + step, step)
    segments = record.segments.tolist()
    actions = [(*segment, label) for segment, label in zip(segments, record.labels, strict=True)]
    return Clip(frames, record.rate, record.duration, offsets, actions)


def _quantiles(values: Sequence[SupportsFloat]) -> dict[str, float]:
    if not values:
        return {}
    quantiles = np.percentile(np.asarray(values, float), QUANTILES).tolist()
    return {str(q): value for q, value in zip(QUANTILES, quantiles, strict=True)}


def _histogram(values: Sequence[float]) -> dict[str, list[float]]:
    """Returns counts in bins of equal ratio, as lengths differ by orders of magnitude."""
    positive = np.array([value for value in values if value > 0])
    if not positive.size:
        return {"edges": [], "counts": []}
    edges = np.geomspace(positive.min() * 0.999, positive.max() * 1.001, 25)
    counts, _ = np.histogram(positive, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
