"""Divides videos into training and validation: by people, by a list, by time, or by a checksum."""

import dataclasses
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from segtad_jax.data.timeline import Piece
from segtad_jax.evaluation.annotations import SUBSETS, canonical_subset, has_subsets, read_videos
from segtad_jax.evaluation.entries import NOTE, Entry, ReportDefect, shown
from segtad_jax.evaluation.ids import (
    ending_note,
    match_id,
    matching,
    read_ids,
    without_ending,
)
from segtad_jax.evaluation.json_files import InputError, load_json

VALIDATION_PART = 5  # where nothing names subsets, one video or group in so many validates


@dataclasses.dataclass(frozen=True)
class Division:
    """How videos are divided, by --split and --group; by default as the annotations say."""

    files: tuple[str, ...] = ()  # that list who is where
    by_group: bool = False  # whatever subsets the annotations name
    time: float | None = None  # the share of each recording that trains
    group: re.Pattern | None = None  # its first capture in an id is the person

    def apply(
        self,
        entries: Mapping[str, Entry],
        report: ReportDefect,
        paths: Sequence[epath.PathLike] = (),
    ) -> dict[str, Entry]:
        """Sets the subset of every video, and returns those that have one.

        Args:
            entries: annotations by `match_id`.
            report: called with what is left out, and with what is to be told.
            paths: of the annotations; one that knows no subsets beside others trains.

        Raises:
            InputError: a list cannot be used, an id has no group, or there is one group alone.
        """
        groups = group_videos({key: entry.video for key, entry in entries.items()}, self.group)
        if self.files:
            entries = self._divide_by_list(entries, report)
        elif self.time is not None:
            for entry in entries.values():
                entry.subset = "testing" if entry.subset == "testing" else "training"
            line = (
                f"after {self.time:.0%} of a recording the rest validates, if there are whole "
                "actions on both sides; ids of the parts end in #t=START,END, seconds of the whole"
            )
            report(NOTE, "", line, "")
        elif self.by_group or not has_subsets(entries):
            self._divide_by_group(entries, groups, report)
        else:
            for path in paths:
                _train_on(path, entries, report)
        subsets = {key: str(entry.subset) for key, entry in entries.items()}
        if self.group and (both := groups_on_both_sides(subsets, groups)):
            name, sides = next(iter(both.items()))
            videos = "; ".join(f"{side} {_first(keys)}" for side, keys in sorted(sides.items()))
            line = (
                f"{len(both)} of {len(set(groups.values()))} groups stand on both sides of the "
                f"split, which flatters the scores: {_first(both)}. The first, {name!r}: {videos}. "
                "--split=group divides by --group instead"
            )
            report(NOTE, "", line, "")
        return dict(entries)

    def _divide_by_list(
        self, entries: Mapping[str, Entry], report: ReportDefect
    ) -> dict[str, Entry]:
        files = ",".join(self.files)
        listed, rest = read_lists(self.files)
        found = matching(listed, entries)
        if not found:
            raise InputError(
                f"--split={files}: names no annotated video, but {_first(listed)}; the annotations "
                f"name {_first(entry.video for entry in entries.values())}"
            )
        notes = ending_note(found, "ids of --split")
        if absent := listed.keys() - found.keys():
            notes.append(f"ids of --split that no annotation names: {_first(absent)}")
        subsets = {key: listed[other] for other, key in found.items()}
        for key, entry in entries.items():
            entry.subset = subsets.get(key, rest)
            if entry.subset is None:
                report("unlisted", entry.video, entry.video, files)
        counts = Counter(entry.subset for entry in entries.values() if entry.subset)
        told = ", ".join(f"{number} {subset}" for subset, number in sorted(counts.items()))
        for line in (*notes, f"videos are divided by --split={files}: {told}"):
            report(NOTE, "", line, "")
        return {key: entry for key, entry in entries.items() if entry.subset is not None}

    def _divide_by_group(
        self, entries: Mapping[str, Entry], groups: Mapping[str, str], report: ReportDefect
    ) -> None:
        # Videos for testing stay: nobody wants to train on them unasked.
        groups = {key: groups[key] for key, e in entries.items() if e.subset != "testing"}
        chosen = draw_groups(groups.values())
        for key, name in groups.items():
            entries[key].subset = "validation" if name in chosen else "training"
        number = f"{sum(name in chosen for name in groups.values())} of {len(groups)} videos"
        if self.group is None:
            line = (
                f"no subset is named: {number} validate, chosen by a checksum of the id; a column "
                "or field `subset` or --split=FILE chooses otherwise, and --group=REGEX keeps all "
                "videos of a person on one side"
            )
        elif not chosen:
            raise InputError(
                f"--group={self.group.pattern!r} finds one group alone, {_first(groups.values())}, "
                f"in {len(groups)} videos: its first parentheses must enclose what tells people "
                "apart"
            )
        else:
            line = (
                f"{len(chosen)} of {len(set(groups.values()))} groups validate ({number}), chosen "
                f"by a checksum: {_first(chosen, 20)}"
            )
        report(NOTE, "", line, "")


def group_videos(videos: Mapping[str, str], group: re.Pattern | None) -> dict[str, str]:
    """Returns {key: first capture of the pattern in the id}; without one, each is its own group.

    Args:
        videos: {key: id}.
        group: searched for in each id.

    Raises:
        InputError: it is not in every id; names the first without.
    """
    if group is None:
        return {key: key for key in videos}
    matches = {key: group.search(video) for key, video in videos.items()}
    groups = {key: match[1] for key, match in matches.items() if match and match[1]}
    if without := [video for key, video in videos.items() if key not in groups]:
        raise InputError(
            f"--group={group.pattern!r} finds nothing in {len(without)} of {len(videos)} ids: "
            f"{_first(without)}. Extend it: its first parentheses must match in every id"
        )
    return groups


def draw_groups(groups: Iterable[str]) -> set[str]:
    """Returns the groups that validate: one in five, at least one, and none where there is one.

    By a checksum of the name, so that most stay where they are when others are added; as ids match,
    so that `v_s01.mp4` stands where `s01` does.
    """
    order = sorted(set(groups), key=lambda name: (zlib.crc32(without_ending(name).encode()), name))
    return set(order[: max(len(order) // VALIDATION_PART, 1)]) if len(order) > 1 else set()


def groups_on_both_sides(
    subsets: Mapping[str, str], groups: Mapping[str, str]
) -> dict[str, dict[str, list[str]]]:
    """Returns {group: {subset: keys}} of the groups that train and stand elsewhere, too.

    Args:
        subsets: of each key.
        groups: of each key.
    """
    sides: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key, subset in sorted(subsets.items()):
        sides[groups[key]][subset].append(key)
    return {name: s for name, s in sorted(sides.items()) if "training" in s and len(s) > 1}


def cut_pieces(pieces: Sequence[Piece], at: float, rate: float) -> tuple[list[Piece], list[Piece]]:
    """Returns the pieces of a recording before a time, and those after it.

    Args:
        pieces: between gaps, in order of time.
        at: seconds of the recording, brought to the nearest sample.
        rate: of the samples, in Hz; that of the source with most, if there are several.
    """
    before, after = [], []
    for start, arrays in pieces:
        longest = max(map(len, arrays))
        samples = min(max(round((at - start) * rate), 0), longest)
        ends = [round(len(array) * samples / longest) for array in arrays]
        if all(ends):
            before.append(Piece(start, [a[:end] for a, end in zip(arrays, ends, strict=True)]))
        if all(end < len(array) for array, end in zip(arrays, ends, strict=True)):
            rest = [array[end:] for array, end in zip(arrays, ends, strict=True)]
            after.append(Piece(start + samples / rate, rest))
    return before, after


def read_lists(paths: Sequence[str]) -> tuple[dict[str, str], str | None]:
    """Reads who trains and who validates.

    Args:
        paths: tables video,subset, json {id: subset} or {subset: [id]}, annotations; or lists, an
            id a line or a json list, with the subset's word in the file's name, as in
            test.split1.bundle. A list without such a word validates.

    Returns:
        {match_id: subset}, and the subset of all others: None, unless there is one list alone.

    Raises:
        InputError: a file cannot be read, has another form, names a subset that is none, or a video
            in two.
    """
    subsets: dict[str, str] = {}
    rest = None
    for path in paths:
        content = load_json(path) if path.lower().endswith(".json") else None
        rows, is_list = _rows(path, content)
        for video, word in rows:
            subset = canonical_subset(word)
            if subset not in SUBSETS.values():
                raise InputError(
                    f"{path}: subset {shown(word)!r} of video {shown(video)!r} is not training, "
                    "validation or testing"
                )
            if (first := subsets.setdefault(match_id(video), subset)) != subset:
                raise InputError(
                    f"{path}: video {shown(video)!r} is in {subset}, and before in {first}: name "
                    "it once"
                )
        if is_list and len(paths) == 1:
            rest = "validation" if "training" in subsets.values() else "training"
    if not subsets:
        raise InputError(f"{', '.join(paths)}: names no video")
    return subsets, rest


def _rows(path: str, content: object) -> tuple[list[tuple[str, str]], bool]:
    """Returns each video with its subset's word, and whether the file is a list of ids alone."""
    values = list(content.values()) if isinstance(content, dict) else []
    if isinstance(content, dict) and all(isinstance(value, str) for value in values):
        return list(content.items()), False
    if isinstance(content, dict) and all(isinstance(value, list) for value in values):
        return [(str(video), word) for word, ids in content.items() for video in ids], False
    if isinstance(content, dict) or path.lower().endswith((".csv", ".tsv")):
        entries = read_videos([path], _refuse).values()
        return [(entry.video, entry.subset or "") for entry in entries], False
    words = map(canonical_subset, re.split("[^a-z]+", epath.Path(path).name.lower()))
    subset = next((word for word in words if word in SUBSETS.values()), "validation")
    return [(video, subset) for video in read_ids(path)], True


def _refuse(kind: str, video: str, value: object, where: str) -> None:
    if kind in ("bad_video", "repeated_video", "subsets_differ"):
        raise InputError(f"{where}: video {shown(video)!r}: {kind}: {shown(value)}")


def _train_on(path: epath.PathLike, entries: Mapping[str, Entry], report: ReportDefect) -> None:
    """Sets the subset of the videos of a path, if it is of none of them: 'training'.

    Detections that a person corrected in an annotation tool are such files.
    """
    videos = [entry for entry in entries.values() if entry.where.startswith(str(path))]
    if not videos or any(e.subset is not None or e.covered is not None for e in videos):
        return
    for entry in videos:
        entry.subset = "training"
    line = (
        f"{path} names no subset, and other annotations do: its {len(videos)} videos train; "
        "--split=FILE chooses otherwise"
    )
    report(NOTE, "", line, "")


def _first(names: Iterable[str], number: int = 5) -> str:
    listed = [repr(shown(name)) for name in sorted(set(names))]
    return ", ".join(listed[:number]) + (", ..." if len(listed) > number else "")
