"""What of a result file is scored against a ground truth, and what is not, said aloud."""

from collections import Counter
from collections.abc import Hashable, Iterable

from segtad_jax.evaluation.annotations import Annotations
from segtad_jax.evaluation.instances import Predictions
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.evaluation.thumos14 import actions_of

_OVERRUN = 1.05  # durations are rounded, and some features run a little past the end


def predictions_in_scope(
    annotations: Annotations, predictions: Predictions, *, lenient: bool = False
) -> tuple[dict[str, list[tuple]], dict]:
    """The predictions to score, and what was found.

    Predictions of another subset's videos stay: they count as false positives, as officially.
    Labels that the file knows but the subset has no truth of are left out. Videos and labels that
    the file does not know, and times in another unit, are errors; with `lenient` the former are
    left out.

    Returns:
      The predictions, and {"outside_subset": {"videos", "predictions"}, "left_out":
      {"blocked_videos": [id], "unknown_videos": {id: n}, "unknown_labels": {label: n},
      "labels_without_truth": {label: n}}, "notes": [line]} with numbers of predictions.
    """
    notes: list[str] = []
    blocked = [video for video in predictions if video in annotations.blocked]
    inside = {v: list(rows) for v, rows in predictions.items() if v not in annotations.blocked}

    known = annotations.ground_truth.keys() | annotations.other_videos
    unknown_videos = {video: len(rows) for video, rows in inside.items() if video not in known}
    if unknown_videos:
        _refuse_or_note(
            f"{len(unknown_videos)} of {len(predictions)} videos are not in {annotations.path}: "
            f"{_some(unknown_videos)}{_prefix_hint(unknown_videos, known)}",
            notes,
            lenient,
        )
        inside = {video: rows for video, rows in inside.items() if video in known}

    labels = Counter(row[2] for rows in inside.values() for row in rows if row[2] is not None)
    unknown_labels = {label: n for label, n in labels.items() if label not in annotations.labels}
    if unknown_labels:
        ids = all(str(label).lstrip("-").isdigit() for label in unknown_labels)
        _refuse_or_note(
            f"{len(unknown_labels)} of {len(labels)} labels are not in {annotations.path}: "
            f"{_some(unknown_labels)}{'; write names of classes, not their ids' if ids else ''}",
            notes,
            lenient,
        )
    here = {row[2] for rows in actions_of(annotations.ground_truth).values() for row in rows}
    without_truth = {label: n for label, n in labels.items() if label in annotations.labels - here}
    if unknown_labels or without_truth:
        dropped = unknown_labels.keys() | without_truth.keys()
        inside = {v: [row for row in rows if row[2] not in dropped] for v, rows in inside.items()}

    _check_unit(annotations, inside, notes, lenient)
    if any(predictions.values()) and not any(inside.values()):
        raise InputError(f"no prediction is left to score: {'; '.join(notes) or 'all are blocked'}")
    outside = [rows for video, rows in inside.items() if video in annotations.other_videos]
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


def _refuse_or_note(problem: str, notes: list[str], lenient: bool) -> None:
    if not lenient:
        raise InputError(f"{problem}. Mend it, or score with --lenient, which leaves them out")
    notes.append(f"{problem}; left out")


def _check_unit(
    annotations: Annotations, predictions: Predictions, notes: list[str], lenient: bool
) -> None:
    checked = beyond = 0
    for video, seconds in annotations.durations.items():
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


def _some(names: Iterable[Hashable]) -> str:
    quoted = sorted(map(repr, names))
    return ", ".join(quoted[:5]) + (", ..." if len(quoted) > 5 else "")


def _prefix_hint(unknown: Iterable[str], known: Iterable[str]) -> str:
    known = set(known)
    if any(video.removeprefix("v_") in known or f"v_{video}" in known for video in unknown):
        return "; ids must be written as there, with or without 'v_'"
    return ""
