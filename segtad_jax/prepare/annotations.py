"""Annotations as preparation needs them: every video has a subset, and every defect is named."""

import dataclasses
from collections.abc import Collection, Sequence

from etils import epath

from segtad_jax.data.defects import Defect
from segtad_jax.data.records import DURATION_TOLERANCE
from segtad_jax.evaluation.annotations import AMBIGUOUS, SUBSETS, read_videos
from segtad_jax.evaluation.entries import (
    NOTE,
    SECONDS,
    Action,
    Entry,
    Reading,
    ReportDefect,
    shown,
)
from segtad_jax.evaluation.ids import is_bad_id, look_alikes
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.prepare.split import Division


@dataclasses.dataclass(frozen=True)
class Video:
    """Annotations of one video."""

    video: str  # the id as the first file spells it
    subset: str  # training, validation or testing
    duration: float | None  # seconds
    covered: float | None  # seconds that BMN's features cover; they end a little before the video
    actions: tuple[Action, ...]  # in the order of the files


@dataclasses.dataclass(frozen=True)
class Annotations:
    """All videos by `match_id`, and all that is wrong with the files."""

    videos: dict[str, Video]
    defects: tuple[Defect, ...]
    notes: tuple[str, ...]  # lines that hold for all videos

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in sorted order."""
        return tuple(sorted({a.label for video in self.videos.values() for a in video.actions}))


def read_annotations(
    paths: Sequence[epath.PathLike],
    reading: Reading = SECONDS,
    *,
    ignored: Collection[str] = (),
    division: Division | None = None,
) -> Annotations:
    """Reads one file or folder, or several that complete each other, as BMN's json and csv do.

    Args:
        paths: of the files.
        reading: decides what the files leave open.
        ignored: classes that are none, such as a background.
        division: of the videos into training and validation; by default as the files say.

    Raises:
        InputError: a file cannot be read, has another form, or there is no video in any.
    """
    defects: list[Defect] = []
    notes: list[str] = []

    def report(kind: str, video: str, value: object, where: str) -> None:
        if kind == NOTE:
            notes.append(str(value))
        else:
            defects.append(Defect(kind, video, shown(value), where))

    entries = read_videos([epath.Path(path) for path in paths], report, reading, ignored=ignored)
    for key, entry in list(entries.items()):
        _drop_ambiguous(entry, report)
        if is_bad_id(entry.video):
            report("bad_id", entry.video, entry.video, entry.where)
            del entries[key]
    listed = ", ".join(str(path) for path in paths)
    if not entries:
        first = f"; the first: {defects[0].value} ({defects[0].where})" if defects else ""
        raise InputError(f"{listed}: there is no video in it that could be used{first}")
    entries = (division or Division()).apply(entries, report, paths)
    videos = {}
    for key, entry in entries.items():
        subset, actions = str(entry.subset), tuple(entry.actions)
        if subset in SUBSETS.values():
            videos[key] = Video(entry.video, subset, entry.duration, entry.covered, actions)
        else:
            report("unknown_subset", entry.video, entry.written_subset, entry.where)
    if not videos:
        raise InputError(
            f"{listed}: no video has a subset that is training, validation or testing, but "
            f"{defects[-1].value}"
        )
    annotations = Annotations(dict(sorted(videos.items())), tuple(defects), ())
    notes += [
        f"labels that differ in case or blanks are several classes: {', '.join(map(repr, group))}"
        for group in look_alikes(annotations.classes)
    ]
    return dataclasses.replace(annotations, notes=tuple(dict.fromkeys(notes)))


def _drop_ambiguous(entry: Entry, report: ReportDefect) -> None:
    for action in entry.actions:
        if action.label == AMBIGUOUS:
            report("ambiguous", entry.video, f"[{action.start}, {action.end}]", action.where)
    entry.actions = [action for action in entry.actions if action.label != AMBIGUOUS]


def checked_actions(
    video: Video, duration: float, widen: float = 0.0
) -> tuple[tuple[Action, ...], tuple[Defect, ...]]:
    """Returns the actions that lie in a video of this many seconds, cut to it, and the defects.

    A moment, whose start is its end, becomes an action of `widen` seconds around it.
    """
    inside: list[Action] = []
    defects: list[Defect] = []
    labels: dict[tuple[float, float], set[str]] = {}
    for action in video.actions:
        same = labels.setdefault((action.start, action.end), set())
        kinds, cut = _checked(action, duration, same, widen)
        if cut is not None:
            inside.append(cut)
            same.add(action.label)
        value = f"[{action.start:.10g}, {action.end:.10g}] {action.label}, duration {duration:g}"
        if cut is not None and "widened" in kinds:
            value += f": [{cut.start:.10g}, {cut.end:.10g}]"
        defects += [Defect(kind, video.video, value, action.where) for kind in kinds]
    return tuple(inside), tuple(defects)


def _checked(
    action: Action, duration: float, same: set[str], widen: float
) -> tuple[list[str], Action | None]:
    """Returns the kinds of defects of an action, and what is left of it.

    `same` has the labels of earlier actions with the same segment.
    """
    start, end, limit = action.start, action.end, duration + DURATION_TOLERANCE
    if end < start:
        return ["reversed"], None
    if start > limit or end < 0 or start < 0 == end:
        return ["outside"], None
    if action.label in same:
        return ["duplicate"], None
    kinds = ["two_labels"] if same else []
    kinds += ["negative"] if start < 0 else []
    kinds += ["beyond_end"] if end > limit else []
    if start == end:
        kinds += ["widened"] if widen else ["zero_length"]
    if start == end and widen:
        start, end = max(start - widen / 2, 0.0), min(end + widen / 2, duration)
    end = duration if end > limit else end
    start = min(max(start, 0.0), end)
    return kinds, dataclasses.replace(action, start=start, end=end)
