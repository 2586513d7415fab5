"""A small evaluation with everything a page can show, and names that try to be markup."""

import json
from pathlib import Path

import numpy as np

from segtad_jax.evaluation.report.page import Comparison, TrainingRun, write_report
from segtad_jax.evaluation.report.videos import Segmentation
from segtad_jax.evaluation.scoring import evaluate

EVIL_VIDEO = "</script><script>document.title='pwned'</script><img src=x onerror=alert(1)>"
EVIL_LABEL = "<b>bold</b> \"quoted\" 'too' & $\\frac{$"
CLASSES = ["jump", "run", EVIL_LABEL]


def truths_and_predictions(seed: int) -> tuple[dict, dict, dict]:
    """Ground truth, predictions (some wrong in every way) and durations."""
    rng = np.random.default_rng(seed)
    ground_truth: dict = {"empty": []}
    predictions: dict = {}
    for video in [*(f"video {index:02d}" for index in range(12)), EVIL_VIDEO]:
        starts = np.sort(rng.uniform(0, 100, 4))
        ground_truth[video] = [
            (float(start), float(start + rng.uniform(2, 20)), CLASSES[rng.integers(3)])
            for start in starts
        ]
        rows = []
        for start, end, label in ground_truth[video]:
            for _ in range(10):
                shift = rng.normal(size=2) * rng.uniform(0, 0.5) * (end - start)
                low, high = np.sort(np.array([start, end]) + shift).tolist()
                own = label if rng.random() < 0.8 else CLASSES[rng.integers(3)]
                rows.append((max(low, 0.0), max(high, 0.1), own, float(rng.random())))
        predictions[video] = rows
    del predictions["video 00"]
    return ground_truth, predictions, dict.fromkeys(ground_truth, 120.0)


def write_page(folder: Path) -> Path:
    """A page with a comparison, training curves, a config and segmentation curves."""
    ground_truth, predictions, durations = truths_and_predictions(0)
    others = {video: rows[::2] for video, rows in predictions.items()}
    log = folder / "metrics.jsonl"
    with log.open("w") as file:
        for step in range(10, 200, 10):
            record = {"step": step, "loss/total": 10 / step, "eval/map_average": step / 200}
            file.write(json.dumps(record) + "\n")
    labels = {row[2] for row in ground_truth["video 01"]}
    curves = {label: np.linspace(0, 1, 600) for label in labels}
    run = TrainingRun(
        metrics_jsonl=log,
        config={"model": {"width": 64, "note": "</pre><script>"}},
        segmentation={"video 01": Segmentation(5.0, curves)},
    )
    path = folder / "page.html"
    write_report(
        path,
        ground_truth,
        predictions,
        evaluate(ground_truth, predictions, durations=durations) | {"step": 190},
        durations=durations,
        compare=Comparison(others, evaluate(ground_truth, others, durations=durations)),
        run=run,
        title="A run with <i>everything</i>",
    )
    return path
