"""What scoring costs: mAP, AR@AN and the diagnosis, and how a direct loop compares.

    python -m benchmarks.evaluation --truth=sample_detection_prediction.json [--videos=N]

The truth is a result file, such as the ActivityNet validation truth in that form; each video gets
200 predictions, made from its truths by jitter. Reading JSON is not part of any figure.
"""

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segtad_jax.evaluation.average_precision import detection_map
from segtad_jax.evaluation.diagnosis import diagnose
from segtad_jax.evaluation.recall import average_recall
from segtad_jax.evaluation.results import read_predictions

THRESHOLDS = np.linspace(0.5, 0.95, 10)
PER_VIDEO = 200


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True, help="a result file taken as truth")
    parser.add_argument("--videos", type=int, help="only the first N videos")
    flags = parser.parse_args()
    truth, _ = read_predictions(flags.truth)
    ground_truth = {v: [row[:3] for row in truth[v]] for v in list(truth)[: flags.videos]}
    predictions = jittered(ground_truth)
    print(f"{len(ground_truth):,} videos, {PER_VIDEO} predictions each")

    fast, seconds = timed("mAP", lambda: detection_map(ground_truth, predictions, THRESHOLDS))
    timed("AR@AN", lambda: average_recall(ground_truth, predictions, THRESHOLDS))
    timed("diagnosis", lambda: diagnose(ground_truth, predictions))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'peak memory, everything':28} {memory:8.2f} GB")
    slow, slow_seconds = timed(
        "mAP by a direct loop", lambda: direct_map(ground_truth, predictions)
    )
    print(f"{'ratio':28} {slow_seconds / seconds:8.1f} times")
    print(f"{'difference of the results':28} {abs(slow - fast['average']):8.1e}")


def timed(name: str, function: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the seconds it took, which are printed too."""
    start = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    print(f"{name:28} {seconds:8.2f} s", flush=True)
    return result, seconds


def jittered(ground_truth: dict[str, list[tuple]]) -> dict[str, list[tuple]]:
    """PER_VIDEO predictions a video: truths with moved boundaries, one in five mislabelled."""
    rng = np.random.default_rng(0)
    classes = sorted({row[2] for rows in ground_truth.values() for row in rows})
    predictions = {}
    for video, rows in ground_truth.items():
        chosen = [rows[index] for index in rng.integers(len(rows), size=PER_VIDEO)]
        times = np.array([row[:2] for row in chosen])
        times = times + rng.normal(0, 0.3, (PER_VIDEO, 2)) * (times[:, 1:] - times[:, :1])
        times = np.sort(np.maximum(times, 0), axis=1).tolist()
        wrong = rng.random(PER_VIDEO) < 0.2
        labels = [
            classes[rng.integers(len(classes))] if is_wrong else row[2]
            for row, is_wrong in zip(chosen, wrong, strict=True)
        ]
        scores = rng.random(PER_VIDEO).tolist()
        predictions[video] = [
            (start, end, label, score)
            for (start, end), label, score in zip(times, labels, scores, strict=True)
        ]
    return predictions


def direct_map(ground_truth: dict[str, list[tuple]], predictions: dict[str, list[tuple]]) -> float:
    """Average mAP by a loop over predictions, with NumPy for the tIoU with a video's truths."""
    truths: dict = defaultdict(lambda: defaultdict(list))
    for video, rows in ground_truth.items():
        for start, end, label in rows:
            truths[label][video].append((start, end))
    ranked = defaultdict(list)
    for video, rows in predictions.items():
        for start, end, label, score in rows:
            ranked[label].append((-score, video, start, end))
    return float(np.mean([direct_ap(truths[label], sorted(ranked[label])) for label in truths]))


def direct_ap(truths: dict[str, list[tuple]], ranked: list[tuple]) -> np.ndarray:
    """[thresholds] AP of one class."""
    segments = {video: np.array(sorted(rows)) for video, rows in truths.items()}
    free = {video: np.ones((len(THRESHOLDS), len(rows)), bool) for video, rows in truths.items()}
    hit = np.zeros((len(THRESHOLDS), len(ranked)), bool)
    for index, (_, video, start, end) in enumerate(ranked):
        if video not in segments:
            continue
        own = segments[video]
        both = np.minimum(end, own[:, 1]) - np.maximum(start, own[:, 0])
        both = np.maximum(both, 0)
        either = own[:, 1] - own[:, 0] + end - start - both
        tiou = np.divide(both, either, out=np.zeros(len(own)), where=either > 0)
        order = np.argsort(-tiou, kind="stable")
        for number, threshold in enumerate(THRESHOLDS):
            for truth in order:
                if tiou[truth] < threshold:
                    break
                if free[video][number, truth]:
                    free[video][number, truth] = False
                    hit[number, index] = True
                    break
    precision = np.cumsum(hit, axis=1) / np.arange(1, len(ranked) + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (envelope * hit).sum(axis=1) / sum(map(len, truths.values()))


if __name__ == "__main__":
    main()
