"""Selects what is scored: one subset of the annotations, and the predictions that belong to it."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Hashable, Iterable
from os import PathLike

from segtad_jax.evaluation.annotations import (
    AMBIGUOUS,
    canonical_subset,
    has_subsets,
    read_videos,
    whole_entries,
)
from segtad_jax.evaluation.entries import NOTE, SECONDS, Entry, Reading, shown
from segtad_jax.evaluation.ids import clean_label, ending_note, match_id, matching
from segtad_jax.evaluation.instances import Predictions
from segtad_jax.evaluation.json_files import InputError

_OVERRUN = 1.05  # durations are rounded, and some features run a little past the end
_EXPECTED = {  # by kind of finding
    "bad_action": "must have 'segment': [start, end] and 'label': the name of the class",
    "bad_time": "must have two finite numbers of seconds",
    "reversed": "must end after it starts",
    "bad_video": "must be an object with 'subset', 'duration' and a list of 'annotations'",
    "repeated_video": "must occur once; remove one",
    "bad_duration": "is no duration of the video in seconds: it counts as unknown",
    "durations_differ": "are durations of one video: it counts as unknown",
    "subsets_differ": "are subsets of one video; name one",
    "label_changed": "on one line",
    "ignored": "left out by --ignore",
    "moment": "is an event without a length: left out",
    "not_annotated": "left out",
}
_LET_PASS = (
    *("bad_duration", "durations_differ", "label_changed", "ignored", "moment", "not_annotated"),
)

_ALWAYS_REFUSED = ("bad_video", "repeated_video")  # in whatever subset, and with --lenient

Finding = tuple[str, str, object, str]  # as reported by the reader: kind, video, value, where


@dataclasses.dataclass(frozen=True)
class Subset:
    """One subset of the annotations, and what is known of the rest of the file."""

    path: str
    name: str
    ground_truth: dict[str, list[tuple[float, float, str]]]  # seconds; in file order
    durations: dict[str, float]  # seconds, of the videos for which the file has it
    videos: dict[str, str]  # {match_id: id in the file}, of all subsets
    blocked: frozenset[str]  # match_ids that are left out, of whatever subset
    labels: frozenset[str]  # of all subsets
    notes: list[str]  # one line for each thing that was let pass


def read_ground_truth(
    path: str | PathLike[str],
    subset: str,
    reading: Reading = SECONDS,
    *,
    blocked: Collection[str] = (),
    lenient: bool = False,
    ignored: Collection[str] = (),
) -> Subset:
    """Reads the actions of a subset.

    Args:
        path: annotations in any form that `annotation_files` reads; several that complete each
            other, as BMN's json and csv, are separated by commas.
        subset: training, validation or testing, another usual name of these, or the word in the
            file. THUMOS14's validation videos are "training" and, as its authors have it,
            "validation". Where no video has a subset, all are scored.
        reading: decides what the file leaves open.
        blocked: ids of videos to leave out.
        lenient: leave out broken actions and videos without a subset.
        ignored: classes that are none, such as a background.

    Raises:
        InputError: names the file, the place and the value.
    """
    findings: list[Finding] = []
    entries = read_videos(
        path.split(",") if isinstance(path, str) else [path],
        lambda *finding: findings.append(finding),
        reading,
        ignored=ignored,
    )
    notes = list(dict.fromkeys(str(value) for kind, _, value, _ in findings if kind == NOTE))
    findings = [finding for finding in findings if finding[0] != NOTE]
    selected = _selected(entries, subset, str(path), notes, lenient)
    found = matching(map(match_id, blocked), entries)
    left_out = frozenset(found.values())
    if absent := set(map(match_id, blocked)) - found.keys():
        notes.append(f"blocked ids that are not in {path}: {_first(absent)}")
    # Of a recording whose end is of another subset, what is of this one.
    scored = whole_entries({k: entry for k, entry in selected.items() if k not in left_out})
    for entry in scored.values():
        for action in entry.actions:
            if action.end < action.start:
                value = f"segment [{action.start:g}, {action.end:g}]"
                findings.append(("reversed", entry.video, value, action.where))
    elsewhere = entries.keys() - (selected.keys() - left_out)
    relevant = [f for f in findings if f[0] in _ALWAYS_REFUSED or match_id(f[1]) not in elsewhere]
    _refuse_or_note_findings(relevant, notes, lenient)
    if not selected:
        counts = Counter(str(entry.written_subset) for entry in entries.values())
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "none"
        raise InputError(f"{path}: has no video of the subset {subset!r}; it has: {listed}")
    ground_truth = {
        entry.video: [(a.start, a.end, a.label) for a in entry.actions if a.start <= a.end]
        for entry in scored.values()
    }
    if not any(ground_truth.values()):
        raise InputError(f"{path}: the subset {subset!r} has no annotated action to score against")
    return Subset(
        path=str(path),
        name=canonical_subset(subset),
        ground_truth=ground_truth,
        durations={e.video: e.duration for e in scored.values() if e.duration is not None},
        videos={key: entry.video for key, entry in (entries | scored).items()},
        blocked=left_out,
        labels=frozenset(a.label for entry in entries.values() for a in entry.actions),
        notes=notes,
    )


def _selected(
    entries: dict[str, Entry], subset: str, path: str, notes: list[str], lenient: bool
) -> dict[str, Entry]:
    if entries and not has_subsets(entries):
        notes.append(
            f"{path}: names no subset, so all {len(entries)} videos are scored; the folder of a "
            "prepared data set has the part that prepare chose"
        )
        return entries
    without = [entry.where for entry in entries.values() if entry.subset is None]
    if without:
        problem = f"{without[0]}: has no 'subset', nor have {len(without) - 1} others"
        _refuse_or_note(problem, notes, lenient)
    words = {subset, canonical_subset(subset)}
    return {k: e for k, e in entries.items() if words & {e.subset, e.written_subset}}


def _refuse_or_note_findings(findings: list[Finding], notes: list[str], lenient: bool) -> None:
    numbers = Counter(kind for kind, *_ in findings)
    for kind, number in numbers.items():  # in the order of their first findings
        _, _, value, where = next(finding for finding in findings if finding[0] == kind)
        problem = f"{where}: {shown(value)} {_EXPECTED[kind]}"
        problem += f", and {number - 1} more" if number > 1 else ""
        if kind in _ALWAYS_REFUSED:
            raise InputError(problem)
        if kind in _LET_PASS:
            notes.append(problem)
        else:
            _refuse_or_note(problem, notes, lenient)


def predictions_in_scope(
    subset: Subset, predictions: Predictions, *, lenient: bool = False
) -> tuple[dict[str, list[tuple]], dict]:
    """Selects the predictions to score; their videos are renamed to the ids of the annotations.

    Predictions of another subset's videos stay: they count as false positives, as officially.
    Labels that the file knows but the subset has no truth of are left out.

    Returns:
        The predictions, and {"outside_subset": {"videos", "predictions"}, "left_out":
        {"blocked_videos": [id], "unknown_videos": {id: n}, "unknown_labels": {label: n},
        "labels_without_truth": {label: n}}, "notes": [line]} with numbers of predictions.

    Raises:
        InputError: videos or labels that the file does not know, unless `lenient` leaves them out;
            times in another unit; two spellings of one video; or nothing is left.
    """
    notes: list[str] = []
    blocked, unknown_videos = [], {}
    inside: dict[str, list[tuple]] = {}
    matched = matching(map(match_id, predictions), subset.videos)
    notes += ending_note(matched, "ids of predictions")
    for video, rows in predictions.items():
        key = matched.get(match_id(video), "")
        if key in subset.blocked:
            blocked.append(video)
        elif key not in subset.videos:
            unknown_videos[video] = len(rows)
        elif subset.videos[key] in inside:
            raise InputError(f"predictions of one video under two ids, one of them {video!r}")
        else:
            inside[subset.videos[key]] = list(rows)
    if unknown_videos:
        problem = f"{len(unknown_videos)} of {len(predictions)} videos are not in {subset.path}"
        _refuse_or_note(f"{problem}: {_first(unknown_videos)}", notes, lenient)

    labels = Counter(row[2] for rows in inside.values() for row in rows if row[2] is not None)
    cleaned = {label: clean_label(str(label)) for label in labels.keys() - subset.labels}
    if same := {label: name for label, name in cleaned.items() if name in subset.labels}:
        inside = {
            video: [(*row[:2], same.get(row[2], row[2]), *row[3:]) for row in rows]
            for video, rows in inside.items()
        }
        labels = Counter(same.get(label, label) for label in labels.elements())
    unknown_labels = {label: n for label, n in labels.items() if label not in subset.labels}
    if unknown_labels:
        problem = f"{len(unknown_labels)} of {len(labels)} labels are not in {subset.path}"
        numbers = all(str(label).lstrip("-").isdigit() for label in unknown_labels)
        hint = "; write names of classes, not their ids" if numbers else ""
        _refuse_or_note(f"{problem}: {_first(unknown_labels)}{hint}", notes, lenient)
    here = {row[2] for rows in subset.ground_truth.values() for row in rows} - {AMBIGUOUS}
    without_truth = {label: n for label, n in labels.items() if label in subset.labels - here}
    if dropped := unknown_labels.keys() | without_truth.keys():
        inside = {v: [row for row in rows if row[2] not in dropped] for v, rows in inside.items()}

    _check_unit(subset, inside, notes, lenient)
    if any(predictions.values()) and not any(inside.values()):
        raise InputError(f"no prediction is left to score: {'; '.join(notes) or 'all are blocked'}")
    outside = [rows for video, rows in inside.items() if video not in subset.ground_truth]
    return inside, {
        "outside_subset": {"videos": len(outside), "predictions": sum(map(len, outside))},
        "left_out": {
            "blocked_videos": blocked,
            "unknown_videos": unknown_videos,
            "unknown_labels": unknown_labels,
            "labels_without_truth": without_truth,
        },
        "notes": notes,
    }


def _check_unit(subset: Subset, predictions: Predictions, notes: list[str], lenient: bool) -> None:
    checked = beyond = 0
    for video, seconds in subset.durations.items():
        rows = predictions.get(video, [])
        checked += len(rows)
        beyond += sum(float(row[1]) > _OVERRUN * seconds for row in rows)
    if 2 * beyond > checked:
        problem = (
            f"{beyond} of {checked} predictions end after their video: are the times in frames? "
            "They must be seconds"
        )
        if not lenient:
            raise InputError(problem)
        notes.append(problem)


def _refuse_or_note(problem: str, notes: list[str], lenient: bool) -> None:
    if not lenient:
        raise InputError(f"{problem}. Mend it, or score with --lenient, which leaves it out")
    notes.append(f"{problem}; left out")


def _first(names: Iterable[Hashable]) -> str:
    quoted = sorted(map(repr, names))
    return ", ".join(quoted[:5]) + (", ..." if len(quoted) > 5 else "")
