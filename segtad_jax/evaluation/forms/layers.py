"""Tiers, on which annotations must not overlap, and what else forms that people edit share."""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from segtad_jax.evaluation.confidence import Knots
from segtad_jax.evaluation.entries import NOTE, Reading, ReportDefect, shown
from segtad_jax.evaluation.json_files import InputError

Detections = Sequence[tuple[float, float, str, float]]  # start, end, label, score
TIER = "actions"  # and "actions (2)" for those that overlap with others


@dataclasses.dataclass(frozen=True)
class Writing:
    """Settings that decide where a form needs what detections do not say."""

    label_fps: float | None = None  # frames a second of the videos; None: not needed
    media_pattern: str = ""  # where the annotation tool finds a recording: videos/{id}.mp4
    confidence: Knots | None = None  # by which scores become confidences; None: there are none

    def media(self, video: str, ending: str = ".mp4") -> str:
        """Returns the file of a recording."""
        return (self.media_pattern or "{id}" + ending).replace("{id}", video)

    def frames(self) -> float:
        """Returns the frames a second of the videos.

        Raises:
            InputError: they are not given.
        """
        if self.label_fps is None:
            raise InputError(
                "a form that counts in frames needs those a second of the videos: --label_fps=25"
            )
        return self.label_fps


class Interval(NamedTuple):
    """An annotation on a tier; times in seconds, a moment has no end."""

    start: object
    end: object
    text: str
    where: str


def layers(detections: Detections) -> list[list[tuple[float, float, str, float]]]:
    """Returns the detections in as few lists as can be of which none overlap, in order of time."""
    lists: list[list[tuple[float, float, str, float]]] = []
    for detection in sorted(detections):
        free = next((rows for rows in lists if rows[-1][1] <= detection[0]), None)
        if free is None:
            lists.append(free := [])
        free.append(detection)
    return lists


def layer_name(index: int) -> str:
    """Returns the name of a tier."""
    return f"{TIER} ({index + 1})" if index else TIER


def choose_tiers(
    tiers: Mapping[str, Sequence[Interval]], path: object, report: ReportDefect, reading: Reading
) -> list[Interval]:
    """Returns the annotations of the tiers that `--tier` names, or of the only one that has any.

    NAME, NAME (2) ... count as one: they are one tier whose annotations overlap. Where all of a
    tier are empty, its name is the class.

    Raises:
        InputError: several tiers have annotations and none is named, or none has a name that is.
    """
    used = {name: rows for name, rows in tiers.items() if rows}
    stems = {name: re.sub(r" \(\d+\)$", "", name) for name in tiers}
    if reading.tier is None or reading.tier == "all":
        chosen = set(stems.values())
    else:
        chosen = {name for name in reading.tier.split(",") if name}
    names = [name for name in tiers if name in chosen or stems[name] in chosen]
    if (reading.tier is None and len({stems[name] for name in used}) > 1) or (tiers and not names):
        problem = "has annotations on several tiers" if names else f"has no tier {reading.tier!r}"
        flag = f"--tier={shown(next(iter(used), 'NAME'))}"
        listed = [f"\n  {shown(name)}: {len(r)}, {_sample(r)}" for name, r in used.items()]
        raise InputError(
            f"{path}: {problem}. Name those whose annotations are the classes, as {flag}, several "
            f"with commas, or --tier=all:{''.join(listed)}"
        )
    if rest := [name for name in used if name not in names]:
        text = f"tiers that --tier does not name are not read: {', '.join(map(shown, rest))}"
        report(NOTE, "", text, "tiers")
    intervals: list[Interval] = []
    for name in names:
        rows = tiers[name]
        if rows and not any(row.text.strip() for row in rows):
            text = f"tiers whose annotations are empty are classes: {shown(stems[name])}"
            report(NOTE, "", text, f"empty {stems[name]}")
            rows = [row._replace(text=stems[name]) for row in rows]
        intervals += rows
    return intervals


def _sample(rows: Sequence[Interval]) -> str:
    texts = Counter(row.text for row in rows)
    return "such as " + ", ".join(repr(shown(text)) for text, _ in texts.most_common(3))
