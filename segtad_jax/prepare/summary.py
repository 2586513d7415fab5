"""What `prepare` tells of a data set: what is in it, what is not, and what can be reached on it."""

import collections
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

from segtad_jax.data.defects import CHANGED, KINDS, LEFT_OUT, Defect
from segtad_jax.prepare.annotations import Annotations
from segtad_jax.prepare.intake import SPLITS, Outcome

QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent
# A window that holds every recording whole is best, if it is not so long that it cannot be trained.
LONGEST_WINDOW = 1024
WINDOW_MULTIPLE = 16  # every stride up to 16 divides it


class Row(NamedTuple):
    """What is kept of a recording in memory."""

    video: str
    split: str
    shape: tuple[int, ...]
    num_frames: int
    rate: float
    duration: float
    segments: np.ndarray  # [n, 2] seconds
    labels: tuple[str, ...]


class Summary:
    """Collects what is met, and tells it."""

    def __init__(self, annotations: Annotations, defects: Iterable[Defect]) -> None:
        """Of annotations, and of what was wrong before any features were read."""
        self.annotations = annotations
        self.defects = list(defects)
        self.rows: list[Row] = []

    def add(self, outcome: Outcome) -> None:
        """Notes what became of a video."""
        self.defects += outcome.defects
        if outcome.record is not None:
            record = outcome.record
            self.rows.append(
                Row(
                    record.video,
                    outcome.video.subset,
                    outcome.shape,
                    len(record.features),
                    record.rate,
                    record.duration,
                    record.segments,
                    record.labels,
                )
            )

    @property
    def flawed(self) -> bool:
        """Whether anything was left out or changed."""
        return any(defect.treatment in (LEFT_OUT, CHANGED) for defect in self.defects)

    def natural_window(self) -> int:
        """T where none is asked for: the longest recording, if it is not too long."""
        longest = max((row.num_frames for row in self.rows), default=0)
        return min(-(-longest // WINDOW_MULTIPLE) * WINDOW_MULTIPLE, LONGEST_WINDOW)

    def judged(self) -> tuple[str, list[Row]]:
        """The split that will be scored, and its recordings."""
        for split in ("validation", "testing", "training"):
            rows = [row for row in self.rows if row.split == split]
            if any(row.labels for row in rows):
                return split, rows
        return "training", []

    def content(self) -> dict[str, Any]:
        """All of it but the ceiling, in JSON's types."""
        return {
            "splits": {
                split: self._split(split)
                for split in SPLITS
                if any(video.subset == split for video in self.annotations.videos.values())
            },
            "defects": self._defects(),
            "notes": [*self.annotations.notes, *self._frames_for_seconds()],
            "classes": self._classes(),
            "lengths": self._lengths(),
        }

    def _split(self, split: str) -> dict[str, Any]:
        rows = [row for row in self.rows if row.split == split]
        annotated = [v for v in self.annotations.videos.values() if v.subset == split]
        total = sum(row.duration for row in rows)
        return {
            "annotated": len(annotated),
            "found": len(rows),
            "left_out": len(annotated) - len(rows),
            "without_annotations": sum(not row.labels for row in rows),
            "actions": sum(len(row.labels) for row in rows),
            "hours": total / 3600,
            "background": 1 - sum(map(_covered, rows)) / total
            if any(row.labels for row in rows)
            else None,
            "frames": _quantiles([row.num_frames for row in rows]),
            "seconds": _quantiles([row.duration for row in rows]),
            "rate": _quantiles([row.rate for row in rows]),
            "channels": sorted({row.shape[-1] for row in rows}),
        }

    def _defects(self) -> dict[str, Any]:
        by_kind = collections.defaultdict(list)
        for defect in self.defects:
            by_kind[defect.kind].append(defect)
        return {
            kind: {
                "treatment": KINDS[kind].treatment,
                "meaning": KINDS[kind].meaning,
                "count": len(by_kind[kind]),
                "items": [
                    {"video": d.video, "value": d.value, "where": d.where} for d in by_kind[kind]
                ],
            }
            for kind in KINDS
            if kind in by_kind
        }

    def _frames_for_seconds(self) -> list[str]:
        """A note, if so many annotations leave their videos that the unit must be another."""
        total = sum(len(video.actions) for video in self.annotations.videos.values())
        beyond = sum(defect.kind in ("beyond_end", "outside") for defect in self.defects)
        if beyond <= total / 2:
            return []
        note = (
            f"{beyond} of {total} annotations reach beyond the end of their video. Are their times "
            "frames or milliseconds? Expected are seconds."
        )
        return [note]

    def _classes(self) -> dict[str, dict[str, int]]:
        counts = {
            split: collections.Counter(
                label for row in self.rows if row.split == split for label in row.labels
            )
            for split in SPLITS
        }
        return {
            label: {split: counts[split][label] for split in SPLITS if counts[split]}
            for label in self.annotations.classes
        }

    def _lengths(self) -> dict[str, Any]:
        seconds = [float(n) for row in self.rows for n in np.diff(row.segments)[:, 0]]
        shares = [float(n) for row in self.rows for n in np.diff(row.segments)[:, 0] / row.duration]
        return {
            "seconds": _quantiles(seconds),
            "share_of_video": _quantiles(shares),
            "actions_of_a_video": _quantiles(
                [len(row.labels) for row in self.rows if row.split != "testing" or row.labels]
            ),
            "seconds_histogram": _histogram(seconds),
            "share_histogram": _histogram(shares),
        }


def _covered(row: Row) -> float:
    """Seconds of a recording that lie in any action."""
    covered, until = 0.0, 0.0
    for start, end in sorted(row.segments.tolist()):
        covered += max(end - max(start, until), 0.0)
        until = max(until, end)
    return min(covered, row.duration)


def _quantiles(values: Sequence[SupportsFloat]) -> dict[str, float]:
    if not values:
        return {}
    found = np.percentile(np.asarray(values, float), QUANTILES).tolist()
    return {str(q): value for q, value in zip(QUANTILES, found, strict=True)}


def _histogram(values: Sequence[float]) -> dict[str, list[float]]:
    """Counts in bins of equal ratio, for lengths differ by orders of magnitude."""
    positive = np.array([value for value in values if value > 0])
    if not positive.size:
        return {"edges": [], "counts": []}
    edges = np.geomspace(positive.min() * 0.999, positive.max() * 1.001, 25)
    counts, _ = np.histogram(positive, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
