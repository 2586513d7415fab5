"""Detections as a person reads them: how often and how long something happened in a recording."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from segtad_jax.postprocess import Detection
from segtad_jax.predict.output import Prediction


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


def told(detections: Iterable[Detection]) -> str:
    """Returns one line: `3 actions: walk 2 (61 s), run 1 (4.5 s)`, the most frequent first."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for found in detections:
        seconds[found.label].append(found.end - found.start)
    number = sum(map(len, seconds.values()))
    classes = sorted(seconds.items(), key=lambda item: (-len(item[1]), item[0]))
    parts = [f"{label} {len(lengths)} ({sum(lengths):.3g} s)" for label, lengths in classes]
    return f"{number:,} action{'' if number == 1 else 's'}" + ": " * bool(parts) + ", ".join(parts)
