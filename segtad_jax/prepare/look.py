"""Draws recordings with their labels on them, so that a wrong time axis is seen in a second."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segtad_jax.data.preparation import Preparation
from segtad_jax.data.records import DURATION_TOLERANCE, Record
from segtad_jax.evaluation.ids import match_id, whole_id
from segtad_jax.evaluation.report import style
from segtad_jax.evaluation.report.signals import FEW_CHANNELS, thin, traces_of
from segtad_jax.prepare.annotations import Video
from segtad_jax.prepare.intake import Intake

MOST_CLASSES = 24  # the most frequent, which are drawn
BINS = 400  # of a drawn signal, each with its least and greatest values
AROUND = 1.0  # of an action's length, before and after it in the close-up
MOST_LETTERS = 24  # of a channel's name
NARROW = 0.15  # of a picture, too narrow for words
BEYOND = "#c2410c"  # where annotations go on and the signal does not

Part = tuple[Float[np.ndarray, " _"], Float[np.ndarray, "_ k"]]  # seconds, values


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """A recording as it is drawn for a class."""

    label: str
    video: Video
    names: tuple[str, ...]  # of the values
    whole: Sequence[Part]  # between gaps
    near: Sequence[Part]  # around one action of the class
    closeup: tuple[float, float]  # seconds
    end: float  # of the signal, seconds
    rate: float  # its own, in Hz

    def to_json(self) -> dict[str, Any]:
        """Returns what is written above the picture, in JSON's types."""
        actions = self.video.actions
        return {
            "label": self.label,
            "video": self.video.video,
            "subset": self.video.subset,
            "drawn": ", ".join(self.names),
            "seconds": self.end,
            "rate": self.rate,
            "gaps": len(self.whole) - 1,
            "actions": sum(action.label == self.label for action in actions),
            "of": len(actions),
            "beyond": sum(action.end > self.end + DURATION_TOLERANCE for action in actions),
        }


def look_through(
    intake: Intake, preparation: Preparation, records: Iterable[Record]
) -> Iterator[Look]:
    """Yields what is drawn of each class, one recording in memory at a time.

    Args:
        intake: the recordings, which are read again.
        preparation: of their features.
        records: of those that were used.
    """
    ends: dict[str, float] = {}  # of the signals, seconds
    frames: dict[str, float] = {}  # seconds, by which features may end earlier
    for record in records:
        name, start = whole_id(record.video)
        frames[name] = 1 / record.rate
        ends[name] = max(start + len(record.features) / record.rate, ends.get(name, 0.0))
    videos = [v for v in map(intake.annotations.videos.get, intake.keys) if v and v.video in ends]
    seconds = {name: end + frames[name] for name, end in ends.items()}
    signal = preparation.signals is not None or sum(intake.widths) <= FEW_CHANNELS
    for label, video in choose_recordings(videos, seconds).items():
        recorded = intake.recorded(match_id(video.video))
        rate = intake.rate or len(recorded.pieces[0].arrays[0]) / ends[video.video]
        parts = []
        for start, arrays in recorded.pieces:
            values, names = traces_of(arrays, intake.forms[0].columns, signal)
            parts.append((start + np.arange(len(values)) / rate, values))
        end = float(parts[-1][0][-1] + 1 / rate)
        hertz = recorded.timeline.rate if recorded.timeline else rate
        yield look_at(label, video, parts, names, end, hertz)


def choose_recordings(
    videos: Iterable[Video], seconds: Mapping[str, float], most: int = MOST_CLASSES
) -> dict[str, Video]:
    """Returns the recording to draw for each class, the most frequent classes first.

    It is one in which an action of the class ends furthest beyond the signal, if there are such,
    otherwise one with many of its actions, and that is not drawn for others already.

    Args:
        videos: all that can be drawn.
        seconds: of each video's signal, by id.
        most: classes, at most.
    """
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    latest: dict[tuple[str, str], float] = collections.defaultdict(float)
    by_id = {video.video: video for video in videos}
    for video in by_id.values():
        for action in video.actions:
            counts[action.label][video.video] += 1
            end = max(latest[action.label, video.video], action.end)
            latest[action.label, video.video] = end
    chosen: dict[str, Video] = {}
    drawn: collections.Counter[str] = collections.Counter()
    for label in sorted(counts, key=lambda label: (-counts[label].total(), label))[:most]:

        def rank(name: str, label: str = label) -> tuple[float, float, str]:
            late = latest[label, name] - seconds[name]
            late = late if late > DURATION_TOLERANCE else 0.0
            return -late, -counts[label][name] / (1 + drawn[name]), name

        name = min(counts[label], key=rank)
        drawn[name] += 1
        chosen[label] = by_id[name]
    return chosen


def look_at(
    label: str,
    video: Video,
    pieces: Sequence[Part],
    names: Sequence[str],
    end: float,
    rate: float,
) -> Look:
    """Returns what is drawn of a recording for a class.

    Args:
        label: the class.
        video: with an action of it.
        pieces: seconds and values of the samples between gaps.
        names: of the values' channels, () if unknown.
        end: of the signal, seconds.
        rate: of the signal as it was recorded, in Hz.
    """
    actions = [action for action in video.actions if action.label == label]
    inside = [a for a in actions if a.start < end] or actions
    action = sorted(inside, key=lambda a: a.end - a.start)[len(inside) // 2]
    margin = AROUND * (action.end - action.start) or 0.02 * end
    last = max([end, *(a.end for a in video.actions)])
    closeup = max(action.start - margin, min(action.start, 0.0)), min(action.end + margin, last)
    near = [
        (seconds[within], values[within])
        for seconds, values in pieces
        if (within := (closeup[0] <= seconds) & (seconds <= closeup[1])).any()
    ]
    shares = [len(seconds) / sum(len(s) for s, _ in pieces) for seconds, _ in pieces]
    return Look(
        label=label,
        video=video,
        names=tuple(names),
        whole=[
            thin(*piece, max(int(BINS * share), 1))
            for piece, share in zip(pieces, shares, strict=True)
        ],
        near=[thin(*piece, BINS // 2) for piece in near],
        closeup=closeup,
        end=end,
        rate=rate,
    )


def look_figure(look: Look) -> Figure:
    """Draws the whole recording, and one action of the class near by."""
    with style.axes(1, 2, size=(10.0, 1.0 + 0.5 * len(look.names)), ratios=(2.0, 1.0)) as (
        figure,
        panels,
    ):
        whole, near = panels[0]
        first = min([0.0, *(a.start for a in look.video.actions)])
        last = max([look.end, *(a.end for a in look.video.actions)])
        _draw(whole, look, look.whole, (first, last))
        _draw(near, look, look.near, look.closeup)
        whole.set_yticks(
            [*(len(look.names) - 0.5 - n for n in range(len(look.names))), -0.35, -0.8],
            [*map(_plain, look.names), "this class", "others"],
        )
        near.set_yticks([])
        near.locator_params(axis="x", nbins=5)
        return figure


def _draw(panel: Axes, look: Look, parts: Sequence[Part], span: tuple[float, float]) -> None:
    """Draws the signal's channels one above the other, and below them the labels."""
    rows = len(look.names)
    values = np.concatenate([values for _, values in parts] or [np.zeros((1, rows))])
    low, extent = values.min(axis=0), np.ptp(values, axis=0)
    for seconds, part in parts:
        scaled = np.where(extent > 0, (part - low) / np.where(extent > 0, extent, 1), 0.5)
        scaled = 0.05 + 0.9 * scaled
        for number in range(rows):
            heights = scaled[:, number] + rows - 1 - number
            panel.plot(seconds, heights, color=style.INK, linewidth=0.6)
    for mine, bottom, color in ((True, -0.55, style.ACCENT), (False, -1.0, style.MUTED)):
        actions = [a for a in look.video.actions if (a.label == look.label) == mine]
        bars = [(a.start, a.end - a.start) for a in actions]
        panel.broken_barh(bars, (bottom, 0.4), color=color, linewidth=0.8, edgecolor="white")
        if mine:
            panel.broken_barh(bars, (0, rows), color=color, alpha=0.14, linewidth=0.8)
    for (before, _), (after, _) in itertools.pairwise(parts):
        panel.axvspan(before[-1], after[0], color=style.MUTED, alpha=0.14, zorder=0)
    panel.axvline(look.end, color=style.MUTED, linewidth=0.8)
    if span[1] > look.end + DURATION_TOLERANCE:
        start = max(look.end, span[0])
        panel.axvspan(start, span[1], color=BEYOND, alpha=0.14, zorder=0)
        if span[1] - start > NARROW * (span[1] - span[0]):
            panel.text((start + span[1]) / 2, rows / 2, "no signal", color=BEYOND, ha="center")
    panel.set_xlim(*span)
    panel.set_ylim(-1.1, rows)
    panel.set_xlabel("s")
    panel.grid(visible=False, axis="y")


def _plain(name: str) -> str:
    """Returns a name that fits beside a picture; between dollars matplotlib reads mathematics."""
    short = name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"
    return short.replace("$", r"\$")
