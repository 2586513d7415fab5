"""Annotations in every form they come in -> one form; what is wrong is named, never passed over.

Read are ActivityNet's and HACS' json, BMN's json with its csv, THUMOS14's json, csv and folder of
txt files, and a plain csv `video,start,end,label` (with `subset` and `duration` if there are any).
"""

import dataclasses
import re
import unicodedata
import zlib
from collections.abc import Sequence

from etils import epath

from segtad_jax.data.defects import Defect
from segtad_jax.data.records import DURATION_TOLERANCE
from segtad_jax.prepare.annotation_files import (
    Action,
    AnnotationError,
    Draft,
    Report,
    bare,
    read_file,
    shown,
)

VALIDATION_PART = 5  # where a file names no subsets, one video in so many validates
SUBSETS = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "testing",
    "testing": "testing",
}
# THUMOS14 trains on its validation videos: what is to be trained on is in the id.
_THUMOS14 = re.compile(r"video_(validation|test)_\d{7}")
_THUMOS14_SUBSETS = {"validation": "training", "test": "testing"}
_MAX_ID = 255  # bytes; longer ones are no file names


@dataclasses.dataclass(frozen=True)
class Video:
    """What the files say of one video."""

    video: str  # the id as the first file spells it
    subset: str  # training, validation or testing
    duration: float | None  # seconds
    covered: float | None  # seconds that BMN's features cover; they end a little before the video
    actions: tuple[Action, ...]  # in the order of the files


@dataclasses.dataclass(frozen=True)
class Annotations:
    """All videos by `bare` id, and all that is wrong with the files."""

    videos: dict[str, Video]
    defects: tuple[Defect, ...]
    notes: tuple[str, ...]  # what holds for the whole, a line each

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in sorted order."""
        return tuple(sorted({a.label for video in self.videos.values() for a in video.actions}))


def read_annotations(paths: Sequence[epath.PathLike]) -> Annotations:
    """Reads one file or folder, or several that complete each other, as BMN's json and csv do.

    Raises:
      AnnotationError: a file cannot be read, has another form, or there is no video in any.
    """
    defects: list[Defect] = []

    def report(kind: str, video: str, value: object, where: str) -> None:
        defects.append(Defect(kind, video, shown(value), where))

    drafts: dict[str, Draft] = {}
    for path in paths:
        for name, draft in read_file(epath.Path(path), report):
            if _is_bad(name):
                report("bad_id", name, name, draft.where)
            else:
                drafts.setdefault(bare(name), Draft(name, draft.where)).complete(draft)
    listed = ", ".join(str(path) for path in paths)
    if not drafts:
        raise AnnotationError(f"{listed}: there is no video in it")
    notes = _subsets(drafts, report)
    if not drafts:
        raise AnnotationError(
            f"{listed}: no video has a subset that is training, validation or testing"
            + (f", but {defects[-1].value}" if defects else "")
        )
    videos = {
        key: Video(d.video, str(d.subset), d.duration, d.covered, tuple(d.actions))
        for key, d in sorted(drafts.items())
    }
    return Annotations(videos, tuple(defects), tuple(notes))


def read_durations(path: epath.PathLike) -> dict[str, float]:
    """Seconds of each video, by `bare` id, of a json {id: seconds} or any form of annotations.

    Raises:
      AnnotationError: the file is of neither kind, or a duration is no positive number.
    """
    path = epath.Path(path)
    defects: list[Defect] = []

    def report(kind: str, video: str, value: object, where: str) -> None:
        defects.append(Defect(kind, video, shown(value), where))

    found = {bare(name): draft.duration for name, draft in read_file(path, report, durations=True)}
    for defect in defects:
        if defect.kind == "bad_duration":
            raise AnnotationError(
                f"{defect.where}: video {defect.video!r}: duration {defect.value} is no positive "
                "number of seconds"
            )
    known = {video: seconds for video, seconds in found.items() if seconds is not None}
    if not known:
        raise AnnotationError(
            f"{path}: has no durations; expected a csv with the columns video,duration or a json "
            '{"id": seconds}'
        )
    return known


def checked_actions(video: Video, duration: float) -> tuple[tuple[Action, ...], tuple[Defect, ...]]:
    """The actions that lie in a video of this many seconds, cut to it, and what was wrong."""
    kept: list[Action] = []
    defects: list[Defect] = []
    labels: dict[tuple[float, float], set[str]] = {}
    for action in video.actions:
        same = labels.setdefault((action.start, action.end), set())
        kinds, inside = _checked(action, duration, same)
        if inside is not None:
            kept.append(inside)
            same.add(action.label)
        value = f"[{action.start:g}, {action.end:g}] {action.label}, duration {duration:g}"
        defects += [Defect(kind, video.video, value, action.where) for kind in kinds]
    return tuple(kept), tuple(defects)


def _checked(action: Action, duration: float, same: set[str]) -> tuple[list[str], Action | None]:
    """Kinds of defects of an action, and what is left of it; `same`: labels of its segment."""
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
    kinds += ["zero_length"] if start == end else []
    end = duration if end > limit else end
    start = min(max(start, 0.0), end)
    return kinds, dataclasses.replace(action, start=start, end=end)


def _subsets(drafts: dict[str, Draft], report: Report) -> list[str]:
    """Gives every video one of our three subsets, or takes it out."""
    for draft in drafts.values():
        if match := _THUMOS14.fullmatch(draft.video):
            draft.subset = _THUMOS14_SUBSETS[match[1]]
    if all(draft.subset is None for draft in drafts.values()):
        if any(draft.covered is not None for draft in drafts.values()):
            raise AnnotationError(
                "BMN's json does not say which videos train: name its csv too, as in "
                "--annotations=anet_anno_action.json,video_info_new.csv"
            )
        # By a checksum of the id, so that it stays the same when videos are added or renamed.
        order = sorted(drafts, key=lambda key: (zlib.crc32(key.encode()), key))
        chosen = set(order[: max(len(order) // VALIDATION_PART, 1)]) if len(order) > 1 else set()
        for key, draft in drafts.items():
            draft.subset = "validation" if key in chosen else "training"
        note = (
            f"no subset is named: {len(chosen)} of {len(drafts)} videos validate, chosen by a "
            "checksum of the id; a column or field `subset` chooses otherwise"
        )
        return [note]
    for key, draft in list(drafts.items()):
        subset = SUBSETS.get((draft.subset or "").strip().lower())
        if subset is None:
            report("unknown_subset", draft.video, draft.subset, draft.where)
            del drafts[key]
        else:
            draft.subset = subset
    return []


def _is_bad(video: str) -> bool:
    """Whether no file can have this name."""
    return (
        not video.strip()
        or bare(video) in ("", ".", "..")
        or len(video.encode(errors="replace")) > _MAX_ID
        or any(c in "/\\" or unicodedata.category(c) in ("Cc", "Cs") for c in video)
    )
