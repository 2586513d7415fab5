"""mAP against a literal twin of the official evaluator, with the rules where that is unstable."""

import json
import random

import numpy as np
import pytest

from evaluation_cases import THRESHOLDS, random_case, slow_tiou
from segtad_jax.evaluation import instances
from segtad_jax.evaluation.average_precision import detection_map


def slow_average_precision(truths, predictions, threshold):
    """One class, as the official script goes: truths and predictions of all videos in loops."""
    taken = set()
    hits = []
    for video, start, end, _ in sorted(predictions, key=lambda p: -p[3]):  # stable
        candidates = sorted(
            (-slow_tiou((start, end), (t[1], t[2])), t[1], t[2], index)
            for index, t in enumerate(truths)
            if t[0] == video
        )
        hit = False
        for negative_tiou, _, _, index in candidates:
            if -negative_tiou < threshold:
                break
            if index not in taken:
                taken.add(index)
                hit = True
                break
        hits.append(hit)
    precision, recall = [0.0], [0.0]
    for count in range(1, len(hits) + 1):
        precision.append(sum(hits[:count]) / count)
        recall.append(sum(hits[:count]) / len(truths))
    precision, recall = [*precision, 0.0], [*recall, 1.0]
    for index in range(len(precision) - 2, -1, -1):
        precision[index] = max(precision[index], precision[index + 1])
    return sum(
        (recall[i] - recall[i - 1]) * precision[i]
        for i in range(1, len(recall))
        if recall[i] != recall[i - 1]
    )


def slow_map(ground_truth, predictions, thresholds):
    classes = sorted({label for actions in ground_truth.values() for _, _, label in actions})
    result = {label: [] for label in classes}
    for label in classes:
        truths = [
            (video, s, e) for video, rows in ground_truth.items() for s, e, c in rows if c == label
        ]
        detected = [
            (video, s, e, score)
            for video, rows in predictions.items()
            for s, e, c, score in rows
            if c == label
        ]
        for threshold in thresholds:
            result[label].append(slow_average_precision(truths, detected, threshold))
    return result


def assert_agrees(ground_truth, predictions, thresholds=THRESHOLDS):
    expected = slow_map(ground_truth, predictions, thresholds)
    result = detection_map(ground_truth, predictions, thresholds)
    assert list(result["per_class"]) == list(expected)
    for label, values in expected.items():
        got = [result["per_class"][label][f"{threshold:.2f}"] for threshold in thresholds]
        np.testing.assert_allclose(got, values, rtol=0, atol=1e-12, err_msg=str(label))
    mean = np.mean(list(expected.values()), axis=0) if expected else np.zeros(len(thresholds))
    np.testing.assert_allclose(list(result["per_tiou"].values()), mean, rtol=0, atol=1e-12)
    assert result["average"] == pytest.approx(mean.mean(), abs=1e-12)
    return result


@pytest.mark.parametrize("seed", range(200))
def test_random_cases_agree_with_the_slow_twin(seed):
    ground_truth, predictions = random_case(seed)
    known = {label for rows in ground_truth.values() for _, _, label in rows}
    result = assert_agrees(ground_truth, predictions, [0.3, 0.5, 0.75, 1.0])
    scored = sum(row[2] in known for rows in predictions.values() for row in rows)
    assert result["counts"] == {
        "videos": len(ground_truth),
        "actions": sum(map(len, ground_truth.values())),
        "classes": len(known),
        "predictions": scored,
    }


def shuffled(rng, videos):
    return {
        video: rng.sample(videos[video], len(videos[video]))
        for video in rng.sample(list(videos), len(videos))
    }


@pytest.mark.parametrize("seed", range(50))
def test_without_ties_the_order_of_the_input_does_not_matter(seed):
    rng = random.Random(seed)
    ground_truth, predictions = random_case(seed)
    predictions = {v: [(*row[:3], rng.random()) for row in rows] for v, rows in predictions.items()}
    result = detection_map(ground_truth, predictions, THRESHOLDS)
    again = detection_map(shuffled(rng, ground_truth), shuffled(rng, predictions), THRESHOLDS)
    assert again == result
    assert result["ties"]["predictions"] == 0
    for order in ("hits_first", "misses_first"):
        assert result["ties"][order] == result["per_tiou"] | {"average": result["average"]}


@pytest.mark.parametrize("seed", range(50))
def test_ties_are_bounded_whatever_their_order(seed):
    """A class has one action a video, so that every order of a tie hits the same."""
    rng = random.Random(seed)
    ground_truth, predictions = random_case(seed)
    ground_truth = {
        video: list({row[2]: row for row in rows}.values()) for video, rows in ground_truth.items()
    }
    result = detection_map(ground_truth, predictions, THRESHOLDS)
    bounds = result["ties"]
    again = detection_map(ground_truth, shuffled(rng, predictions), THRESHOLDS)
    assert again["ties"] == bounds
    for key, value in again["per_tiou"].items():
        assert bounds["misses_first"][key] - 1e-12 <= value <= bounds["hits_first"][key] + 1e-12


def test_ties_by_hand():
    """Ranks 2 to 4 are tied: in the order given a hit, a miss of y, then a hit of x."""
    ground_truth = {"x": [(0, 10, "a")], "y": [(0, 10, "a")]}
    predictions = {
        "z": [(70, 80, "a", 0.9)],
        "y": [(0, 10, "a", 0.5), (50, 60, "a", 0.5)],
        "x": [(0, 10, "a", 0.5)],
    }
    result = detection_map(ground_truth, predictions, [0.5])
    # Precision at the hits, ranks 2 and 4: 1/2, 2/4; monotone from the right: 1/2, 1/2.
    assert result["per_tiou"]["0.50"] == pytest.approx(1 / 2)
    # Ranks 2 and 3: 1/2, 2/3, monotone 2/3, 2/3. Ranks 3 and 4: 1/3, 2/4, monotone 1/2, 1/2.
    assert result["ties"] == {
        "predictions": 3,
        "largest": 3,
        "hits_first": pytest.approx({"0.50": 2 / 3, "average": 2 / 3}),
        "misses_first": pytest.approx({"0.50": 1 / 2, "average": 1 / 2}),
    }


def test_small_blocks_of_pairs_give_the_same(monkeypatch):
    ground_truth, predictions = random_case(7)
    whole = detection_map(ground_truth, predictions, THRESHOLDS)
    monkeypatch.setattr(instances, "_PAIRS_PER_BLOCK", 3)
    assert detection_map(ground_truth, predictions, THRESHOLDS) == whole


def test_by_hand():
    """Two truths; the better-scored prediction misses, the others hit: precision 1/2, then 2/3."""
    ground_truth = {"x": [(0, 10, 3), (20, 30, 3)]}
    predictions = {"x": [(0, 10, 3, 0.5), (12, 18, 3, 0.9), (20, 29, 3, 0.4)]}
    result = detection_map(ground_truth, predictions, [0.5, 0.95])
    assert result["per_tiou"]["0.50"] == pytest.approx(2 / 3)
    assert result["per_tiou"]["0.95"] == pytest.approx(1 / 2 * 1 / 2)
    assert result["average"] == pytest.approx((2 / 3 + 1 / 4) / 2)


def test_a_threshold_reached_exactly_counts():
    ground_truth = {"x": [(0.0, 10.0, "a")]}
    assert detection_map(ground_truth, {"x": [(0.0, 5.0, "a", 1.0)]}, [0.5])["average"] == 1.0


@pytest.mark.parametrize("truths", [[(0, 20), (0, 5)], [(0, 5), (0, 20)]])
def test_of_equal_tiou_the_earlier_truth_is_taken(truths):
    """The first prediction overlaps both truths by half: the shorter one is spoken for."""
    ground_truth = {"x": [(*truth, "a") for truth in truths]}
    second = {(0, 5): 0.5, (0, 20): 1.0}
    for segment, expected in second.items():
        predictions = {"x": [(0, 10, "a", 0.9), (*segment, "a", 0.8)]}
        assert detection_map(ground_truth, predictions, [0.5])["average"] == expected


def test_nothing_predicted_and_nothing_true():
    assert detection_map({"x": [(0, 1, "a")]}, {}, [0.5])["average"] == 0.0
    assert detection_map({"x": []}, {"x": [(0, 1, "a", 1.0)]}, [0.5])["average"] == 0.0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((2.0, 1.0, "a", 0.5), r"predictions, video 'x': .* start <= end"),
        ((float("nan"), 1.0, "a", 0.5), r"predictions, video 'x': .* finite"),
        ((0.0, 1.0, "a", float("inf")), r"predictions, video 'x': .* finite"),
    ],
)
def test_broken_predictions_are_refused(row, message):
    with pytest.raises(ValueError, match=message):
        detection_map({"x": [(0, 1, "a")]}, {"x": [(0, 1, "a", 0.1), row]}, [0.5])


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.501], [0.0], [1.5]])
def test_thresholds_are_checked(thresholds):
    with pytest.raises(ValueError, match="tiou_thresholds"):
        detection_map({"x": []}, {}, thresholds)


@pytest.fixture
def activitynet_validation(shared_data):
    """The complete validation truth, which is kept in the form of a result file."""
    path = shared_data / "activitynet13" / "sample_detection_prediction.json"
    results = json.loads(path.read_text())["results"]
    return {
        video: [(*row["segment"], row["label"], row["score"]) for row in rows]
        for video, rows in results.items()
    }


@pytest.mark.slow
def test_activitynet_truth_against_itself(activitynet_validation):
    """Its three segments of zero length cannot be found, so that the score stays below 1."""
    ground_truth = {
        video: [row[:3] for row in rows] for video, rows in activitynet_validation.items()
    }
    result = assert_agrees(ground_truth, activitynet_validation)
    assert result["counts"] == {
        "videos": 4926,
        "actions": 7654,
        "classes": 200,
        "predictions": 7654,
    }
    assert 0.99 < result["average"] < 1.0


@pytest.mark.slow
def test_activitynet_truth_against_the_bmn_subset(activitynet_validation, shared_data):
    """BMN's 4,728 videos: the predictions of the other 198 count as false positives."""
    folder = shared_data / "activitynet13"
    annotations = json.loads((folder / "anet_anno_action.json").read_text())
    listed = (folder / "video_info_new.csv").read_text().splitlines()
    validation = [row.split(",")[0] for row in listed if row.split(",")[5] == "validation"]
    ground_truth = {
        video.removeprefix("v_"): [
            (*row["segment"], row["label"]) for row in annotations[video]["annotations"]
        ]
        for video in validation
    }
    result = assert_agrees(ground_truth, activitynet_validation)
    assert result["counts"]["videos"] == 4728
    assert 0.9 < result["average"] < 1.0
