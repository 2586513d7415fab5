"""What the tests of the evaluation share: awkward cases at random, and tIoU in plain Python."""

import random

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)


def slow_tiou(a, b):
    intersection = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (b[1] - b[0]) + (a[1] - a[0]) - intersection
    return intersection / union if union > 0 else 0.0


def random_case(seed):
    """Few distinct times and scores, so that ties, duplicates and zero lengths abound."""
    rng = random.Random(seed)
    videos = [f"v{index}" for index in range(rng.randint(1, 6))]
    labels = ["a", "b", "c", "never predicted"]
    grid = rng.choice([4, 12, 1000])

    def segment():
        return tuple(sorted((rng.randint(0, grid) / 3, rng.randint(0, grid) / 3)))

    ground_truth = {
        video: [(*segment(), rng.choice(labels)) for _ in range(rng.choice([0, 1, 3, 8]))]
        for video in videos
    }
    predictions = {}
    for video in [*videos, "elsewhere"]:
        rows = [
            (*segment(), rng.choice([*labels[:3], "unknown"]), rng.randint(0, 4) / 4)
            for _ in range(rng.choice([0, 2, 20]))
        ]
        for start, end, label in ground_truth.get(video, []):
            if rng.random() < 0.7:
                rows.append(
                    (start, end + rng.choice([0, 0.1]), label, rng.choice([0.5, rng.random()]))
                )
        if rows and rng.random() < 0.3:
            rows.append(rows[0])
        if rows or rng.random() < 0.5:
            predictions[video] = rows
    return ground_truth, predictions
