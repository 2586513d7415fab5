"""THUMOS14's own protocol against a literal twin, on random cases and on the official txt files."""

import random

import numpy as np
import pytest

from evaluation_cases import slow_tiou
from segtad_jax.evaluation.average_precision import detection_map
from segtad_jax.evaluation.ground_truth import read_ground_truth
from segtad_jax.evaluation.thumos14 import thumos14_map

THRESHOLDS = [0.3, 0.4, 0.5, 0.6, 0.7]


def slow_class(ground_truth, predictions, label, threshold):
    """AP of one class, step by step as the official script takes them."""
    scored, num_truths = [], 0
    for video in sorted(set(ground_truth) | set(predictions)):
        truths = [row for row in ground_truth.get(video, []) if row[2] == label]
        unsure = [row for row in ground_truth.get(video, []) if row[2] == "Ambiguous"]
        num_truths += len(truths)
        rows = [row for row in predictions.get(video, []) if row[2] == label]
        rows.sort(key=lambda row: (-row[3], row[0], row[1]))
        hits = set()
        for truth in truths:
            free = [index for index in range(len(rows)) if index not in hits]
            if free:
                best = max(free, key=lambda index: (slow_tiou(truth, rows[index]), -index))
                if slow_tiou(truth, rows[best]) > threshold:
                    hits.add(best)
        for index, (start, end, _, score) in enumerate(rows):
            if index in hits:
                scored.append((-score, video, start, end, True))
            elif not any(min(end, u[1]) - max(start, u[0]) > 0 for u in unsure):
                scored.append((-score, video, start, end, False))
    total = found = 0
    for count, (*_, hit) in enumerate(sorted(scored, key=lambda row: row[:4]), start=1):
        if hit:
            found += 1
            total += found / count
    return total / num_truths


def assert_agrees(ground_truth, predictions):
    result = thumos14_map(ground_truth, predictions, THRESHOLDS)
    labels = {row[2] for rows in ground_truth.values() for row in rows} - {"Ambiguous"}
    assert set(result["per_class"]) == labels
    for threshold in THRESHOLDS:
        expected = {
            label: slow_class(ground_truth, predictions, label, threshold) for label in labels
        }
        for label, value in expected.items():
            got = result["per_class"][label][f"{threshold:.2f}"]
            assert got == pytest.approx(value, abs=1e-12), (label, threshold)
        mean = np.mean(list(expected.values())) if expected else 0.0
        assert result["per_tiou"][f"{threshold:.2f}"] == pytest.approx(mean, abs=1e-12)
    return result


@pytest.mark.parametrize("seed", range(60))
def test_random_cases_agree_with_the_slow_twin(seed):
    rng = random.Random(seed)

    def segment():
        start = rng.randint(0, 30) / 2
        return start, start + rng.randint(0, 12) / 2

    def rows(labels, *scores):
        # Scores are all distinct: the order of equally scored duplicates, one a hit, is open.
        return [(*segment(), rng.choice(labels), *(s() for s in scores)) for _ in range(20)]

    videos = [f"v{index}" for index in range(4)]
    ground_truth = {
        video: rows(["a", "b", "c", "Ambiguous"])[: rng.randint(0, 9)] for video in videos
    }
    predictions = {video: rows(["a", "b", "unknown"], rng.random) for video in [*videos, "w"]}
    assert_agrees(ground_truth, predictions)


def test_ambiguous_segments_excuse_false_positives_but_take_no_hit() -> None:
    ground_truth = {"x": [(0.0, 10.0, "a"), (9.0, 30.0, "Ambiguous")]}
    predictions = {"x": [(0.0, 10.0, "a", 0.1), (20.0, 40.0, "a", 0.9), (29.9, 60.0, "a", 0.5)]}
    assert thumos14_map(ground_truth, predictions, [0.5])["average"] == 1.0
    predictions["x"][2] = (30.0, 60.0, "a", 0.5)  # touches the Ambiguous segment only in a point
    assert thumos14_map(ground_truth, predictions, [0.5])["average"] == 0.5


def test_the_threshold_itself_is_no_hit() -> None:
    ground_truth = {"x": [(0.0, 10.0, "a")]}
    predictions = {"x": [(0.0, 5.0, "a", 1.0)]}
    assert thumos14_map(ground_truth, predictions, [0.5])["average"] == 0.0
    assert detection_map(ground_truth, predictions, [0.5])["average"] == 1.0


def test_precision_is_not_made_monotone() -> None:
    """Hits at ranks 2 and 3: (1/2 + 2/3) / 2, where ActivityNet's way gives 2/3."""
    ground_truth = {"x": [(0.0, 10.0, "a"), (20.0, 30.0, "a")]}
    rows = [(50.0, 60.0, "a", 0.9), (0.0, 10.0, "a", 0.8), (20.0, 30.0, "a", 0.7)]
    assert thumos14_map(ground_truth, {"x": rows}, [0.5])["average"] == pytest.approx(7 / 12)
    assert detection_map(ground_truth, {"x": rows}, [0.5])["average"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("subset", "videos", "actions"), [("test", 213, 3358), ("validation", 200, 3007)]
)
def test_official_txt_files(shared_data, subset, videos, actions):
    """The truth scores 1 against itself; jittered, with Ambiguous ones predicted, as the twin."""
    folder = shared_data / "thumos14" / "official_txt"
    annotations = read_ground_truth(folder, subset)
    ground_truth = annotations.ground_truth
    itself = {
        video: [(*row, 1.0) for row in rows if row[2] != "Ambiguous"]
        for video, rows in ground_truth.items()
    }
    result = thumos14_map(ground_truth, itself, THRESHOLDS)
    assert result["counts"]["videos"] == videos
    assert result["counts"]["actions"] == actions
    assert result["counts"]["classes"] == 20
    assert result["average"] == 1.0

    rng = np.random.default_rng(0)
    predictions = {}
    for video, rows in list(ground_truth.items())[:40]:
        jittered = []
        for start, end, label in rows:
            moved = np.sort([start, end] + rng.normal(size=2) * 0.2 * (end - start)).tolist()
            own = "Diving" if label == "Ambiguous" else label
            jittered.append((*moved, own, rng.random()))
        predictions[video] = jittered
    result = assert_agrees({v: ground_truth[v] for v in predictions}, predictions)
    assert 0.3 < result["average"] < 1.0
