"""Detections as a person reads them: how often and how long something happened in a recording."""

from collections.abc import Callable, Mapping

from segtad_jax.evaluation.operating_point import Threshold, above
from segtad_jax.postprocess import Detection, told
from segtad_jax.predict.output import Prediction

SHOWN = 10  # failures, notes and videos


def tell_results(
    predictions: Mapping[str, Prediction],
    notes: Mapping[str, str],
    threshold: Threshold | None,
    tell: Callable[[str], None],
) -> dict[str, list[Detection]]:
    """Prints what failed, what is odd, and how much of what was found counts; returns that.

    Args:
        predictions: of all recordings.
        notes: what is odd, by recording or file.
        threshold: from which score detections count; None: nobody knows.
        tell: prints a line.
    """
    _list("failed: ", {v: p.result for v, p in predictions.items() if p.failed}, "failed", tell)
    _list("note: ", notes, "notes", tell)
    if threshold is None:
        tell("The run has no thresholds for these scores: --threshold=X says which actions count.")
        return {}
    counted = above(detections_of(predictions), threshold)
    _list("", {video: told(rows) for video, rows in counted.items()}, "videos", tell)
    tell(f"in all, {told(row for rows in counted.values() for row in rows)}")
    return counted


def _list(before: str, lines: Mapping[str, object], what: str, tell: Callable[[str], None]) -> None:
    """Prints the first lines, by their names, and how many more there are."""
    for name, text in list(lines.items())[:SHOWN]:
        tell(f"{before}{name}: {text}")
    if len(lines) > SHOWN:
        tell(f"... {len(lines) - SHOWN:,} more {what}; all are in the output.")


def detections_of(predictions: Mapping[str, Prediction]) -> dict[str, list[Detection]]:
    """Returns the detections of the recordings that did not fail, best first."""
    return {
        video: [
            Detection(start, end, row["label"], row["score"])
            for row in found.result
            for start, end in [row["segment"]]
        ]
        for video, found in predictions.items()
        if not isinstance(found.result, str)
    }
