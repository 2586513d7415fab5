"""Annotations of videos: what files say of each, joined, and where they disagree."""

import dataclasses
import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from os import PathLike

from segtad_jax.evaluation.annotation_files import read_entries
from segtad_jax.evaluation.entries import NOTE, SECONDS, Entry, Reading, ReportDefect, shown
from segtad_jax.evaluation.ids import match_id, whole_id
from segtad_jax.evaluation.json_files import InputError

AMBIGUOUS = "Ambiguous"  # THUMOS14's class of segments that are no actions
SUBSETS = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "testing",
    "testing": "testing",
}
# THUMOS14 is trained on its validation videos; which those are stands in the ids.
_THUMOS14 = re.compile(r"video_(validation|test)_\d{7}")
_THUMOS14_SUBSETS = {"validation": "training", "test": "testing"}
_SAME_DURATION = 0.1  # seconds: durations are rounded
_BACKGROUND = {"background", "bg", "none", "null", "no_action", "no action", "sil", "other"}


def canonical_subset(word: str) -> str:
    """Returns training, validation or testing for any usual word, and other words as they are."""
    return SUBSETS.get(word.strip().lower(), word)


def read_videos(
    paths: Sequence[str | PathLike[str]],
    report: ReportDefect,
    reading: Reading = SECONDS,
    *,
    ignored: Collection[str] = (),
    durations: bool = False,
) -> dict[str, Entry]:
    """Reads files or folders that complete each other, and joins what they say of each video.

    Args:
        paths: as of `read_entries`.
        report: called with each defect. Where the lines of a video name several subsets it is left
            out, where they name several durations its duration is unknown.
        reading: decides what the files leave open.
        ignored: classes that are none, such as a background.
        durations: also read a json {id: seconds}.

    Returns:
        {match_id: entry}, in the order of the files; the first entry spells the id.

    Raises:
        InputError: a file cannot be read or has another form.
    """
    videos: dict[str, Entry] = {}
    for path in paths:
        for entry in read_entries(path, report, reading, durations=durations):
            first = videos.setdefault(match_id(entry.video), entry)
            if first is not entry:
                first.join(entry)
    videos = whole_entries(videos)
    _choose_words(videos, report)
    labels = {action.label for entry in videos.values() for action in entry.actions}
    for key, entry in list(videos.items()):
        named = {canonical_subset(word) for word in entry.words}
        if len(named) > 1:
            report("subsets_differ", entry.video, _places(entry.words, entry.where), entry.where)
            del videos[key]
        _check_durations(entry, report)
        for action in entry.actions:
            if action.label in ignored:
                value = f"[{action.start:.10g}, {action.end:.10g}] {action.label}"
                report("ignored", entry.video, value, action.where)
        entry.actions = [action for action in entry.actions if action.label not in ignored]
    for label in sorted(set(ignored) - labels):
        there = ", ".join(map(repr, sorted(labels)[:10])) + (", ..." if len(labels) > 10 else "")
        report(NOTE, "", f"--ignore: {label!r} is no class here; these are: {there}", "")
    for label in sorted(label for label in labels - set(ignored) if label.lower() in _BACKGROUND):
        flag = f"--ignore={shlex.quote(label)}"
        report(NOTE, "", f"{label!r} is a class like any other here; {flag} leaves it out", "")
    return videos


def whole_entries(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Joins the parts of a recording, as a prepared data set has them, if they are of one subset.

    They are one entry by its `match_id`, in seconds of the whole.
    """
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries.values():
        groups[whole_id(entry.video)[0]].append(entry)
    joined: dict[str, Entry] = {}
    for video, parts in groups.items():
        if video == parts[0].video or len({part.written_subset for part in parts}) > 1:
            joined |= {match_id(part.video): part for part in parts}
            continue
        actions, end, where = [], 0.0, parts[0].where
        for part in parts:
            start = whole_id(part.video)[1]
            actions += [
                dataclasses.replace(a, start=a.start + start, end=a.end + start)
                for a in part.actions
            ]
            end = max(end, start + (part.duration or 0.0))
        whole = dataclasses.replace(parts[0], video=video, durations={end: where}, actions=actions)
        joined[match_id(video)] = whole
    return joined


def _choose_words(videos: Mapping[str, Entry], report: ReportDefect) -> None:
    """Sets the subsets, of which THUMOS14's have other names; own data may have ids like its."""
    matches = [_THUMOS14.fullmatch(entry.video) for entry in videos.values()]
    thumos14 = all(
        match and {canonical_subset(word) for word in entry.words} <= {canonical_subset(match[1])}
        for match, entry in zip(matches, videos.values(), strict=True)
    )
    said = False
    for match, entry in zip(matches, videos.values(), strict=True):
        if thumos14 and match:
            said |= match[1] == "validation" and bool(entry.words)
            entry.words = entry.words or {match[1]: entry.where}
            entry.subset = _THUMOS14_SUBSETS[match[1]]
        elif entry.words:
            entry.subset = canonical_subset(next(iter(entry.words)))
    if said:
        report(NOTE, "", "the ids are THUMOS14's, whose validation videos train", "")


def _check_durations(entry: Entry, report: ReportDefect) -> None:
    """Removes durations that differ, or that are the lengths of the actions."""
    seconds = entry.durations
    lengths = [a.end - a.start for a in entry.actions]
    is_length = all(any(abs(s - length) < 0.01 for length in lengths) for s in seconds)
    last = max((action.end for action in entry.actions), default=0.0)
    differ = len(seconds) > 1 and max(seconds) - min(seconds) > _SAME_DURATION
    if differ or (seconds and is_length and last > max(seconds) + _SAME_DURATION):
        value = _places({f"{s:g} s": where for s, where in seconds.items()}, entry.where)
        value += ": lengths of actions, end - start" if is_length else ""
        kind = "durations_differ" if differ else "bad_duration"
        report(kind, entry.video, value, entry.where)
        entry.durations = {}


def _places(values: Mapping[str, str], where: str) -> str:
    """Returns values with their places, without the file where it is that of `where`."""
    file = where.rpartition(", ")[0] + ", "
    return ", ".join(f"{value} ({place.removeprefix(file)})" for value, place in values.items())


def has_subsets(videos: Mapping[str, Entry]) -> bool:
    """Returns whether any video has a subset.

    Raises:
        InputError: none has, because BMN's json is read without its csv.
    """
    if any(entry.subset is not None for entry in videos.values()):
        return True
    if any(entry.covered is not None for entry in videos.values()):
        raise InputError(
            "BMN's json does not say which videos train: name its csv too, as in "
            "anet_anno_action.json,video_info_new.csv"
        )
    return False


def read_durations(path: str | PathLike[str]) -> dict[str, float]:
    """Reads the seconds of each video, from a json {id: seconds} or any form of annotations.

    Returns:
        {match_id: seconds}

    Raises:
        InputError: the file is of neither kind, or a duration is no positive number.
    """

    def report(kind: str, video: str, value: object, where: str) -> None:
        if kind == "bad_duration":
            raise InputError(
                f"{where}: video {video!r}: duration {shown(value)} is no positive number of "
                "seconds of the video"
            )
        if kind == "durations_differ":
            raise InputError(f"{path}: video {video!r} has several durations: {shown(value)}")

    seconds = {
        key: entry.duration
        for key, entry in read_videos([path], report, durations=True).items()
        if entry.duration is not None
    }
    if not seconds:
        raise InputError(
            f"{path}: has no durations; expected a csv with the columns video,duration or a json "
            '{"id": seconds}'
        )
    return seconds
