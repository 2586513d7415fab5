"""THUMOS14's own protocol against a literal twin, on random cases and on the official txt files."""

import json
import random

import numpy as np
import pytest

from evaluation_cases import slow_tiou
from segtad_jax.evaluation.__main__ import main
from segtad_jax.evaluation.average_precision import detection_map
from segtad_jax.evaluation.ground_truth import read_ground_truth
from segtad_jax.evaluation.thumos14 import thumos14_map

THRESHOLDS = [0.3, 0.4, 0.5, 0.6, 0.7]


def slow_class(ground_truth, predictions, label, threshold):
    """AP of one class, step by step as the official script takes them."""
    scored, num_truths = [], 0
    for video in predictions | ground_truth:  # in the order of the predictions
        truths = [row for row in ground_truth.get(video, []) if row[2] == label]
        unsure = [row for row in ground_truth.get(video, []) if row[2] == "Ambiguous"]
        num_truths += len(truths)
        rows = [row for row in predictions.get(video, []) if row[2] == label]
        hits = set()
        for truth in truths:
            free = [index for index in range(len(rows)) if index not in hits]
            if free:
                best = max(free, key=lambda index: (slow_tiou(truth, rows[index]), -index))
                if slow_tiou(truth, rows[best]) > threshold:
                    hits.add(best)
        for index, (start, end, _, score) in enumerate(rows):
            if index in hits:
                scored.append((-score, True))
            elif not any(min(end, u[1]) - max(start, u[0]) > 0 for u in unsure):
                scored.append((-score, False))
    total = found = 0
    for count, (*_, hit) in enumerate(sorted(scored, key=lambda row: row[0]), start=1):
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
        return [(*segment(), rng.choice(labels), *(s() for s in scores)) for _ in range(20)]

    videos = [f"v{index}" for index in range(4)]
    ground_truth = {
        video: rows(["a", "b", "c", "Ambiguous"])[: rng.randint(0, 9)] for video in videos
    }
    order = rng.sample([*videos, "w"], 5)
    predictions = {
        video: rows(["a", "b", "unknown"], lambda: rng.randint(0, 9) / 9) for video in order
    }
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


def test_ties_keep_the_order_of_the_file_by_hand(tmp_path) -> None:
    """A result file in which a tie goes over two videos, the later id first."""
    truth = {
        video: {"subset": "test", "annotations": [{"segment": [0, 10], "label": "a"}]}
        for video in ("x", "y")
    }
    rows = {"z": [(70, 80, 0.9)], "y": [(0, 10, 0.5), (50, 60, 0.5)], "x": [(0, 10, 0.5)]}
    truth["z"] = {"subset": "test", "annotations": []}
    results = {
        video: [{"segment": [s, e], "label": "a", "score": score} for s, e, score in found]
        for video, found in rows.items()
    }
    (tmp_path / "gt.json").write_text(json.dumps({"database": truth}))
    content = {"version": "", "external_data": {}, "results": results}
    (tmp_path / "p.json").write_text(json.dumps(content))
    flags = [f"--ground_truth={tmp_path / 'gt.json'}", f"--predictions={tmp_path / 'p.json'}"]
    flags += ["--protocol=thumos14", "--subset=test", f"--output={tmp_path / 'm.json'}"]
    assert main([*flags, "--metrics=map", "--tiou=0.5"]) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    # The official program sorts by score and keeps the file's order: a miss of z, then of those
    # with 0.5 the hit and the miss of y and the hit of x. AP is the sum of the precision at the
    # hits over the number of truths: ranks 2 and 4, (1/2 + 2/4) / 2 = 1/2.
    assert metrics["map"]["0.50"] == pytest.approx(1 / 2)
    # With hits first they have ranks 2 and 3, (1/2 + 2/3) / 2 = 7/12; with misses first ranks 3
    # and 4, (1/3 + 2/4) / 2 = 5/12. By id x would be before y: 7/12 as well.
    assert metrics["ties"]["hits_first"]["0.50"] == pytest.approx(7 / 12)
    assert metrics["ties"]["misses_first"]["0.50"] == pytest.approx(5 / 12)
    assert (metrics["ties"]["predictions"], metrics["ties"]["largest"]) == (3, 3)


def test_of_equal_tiou_the_earlier_in_the_file_is_the_hit() -> None:
    """Both are the truth itself: the first is the hit, however low its score."""
    ground_truth = {"x": [(0.0, 10.0, "a")]}
    predictions = {"x": [(0.0, 10.0, "a", 0.1), (0.0, 10.0, "a", 0.9)]}
    assert thumos14_map(ground_truth, predictions, [0.5])["average"] == 0.5


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
