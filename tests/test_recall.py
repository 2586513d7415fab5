"""AR@AN against a literal twin of the official evaluator."""

import numpy as np
import pytest

from evaluation_cases import THRESHOLDS, random_case, slow_tiou
from segtad_jax.evaluation.recall import average_recall


def slow_average_recall(ground_truth, proposals, thresholds):
    videos = [video for video, actions in ground_truth.items() if actions]
    ratio = 100 * float(len(videos)) / sum(map(len, proposals.values()))
    tious, total = {}, 0
    for video in videos:
        rows = sorted(proposals.get(video, []), key=lambda p: -p[3])
        rows = rows[: min(int(len(rows) * ratio), len(rows))]
        total += len(rows)
        tious[video] = [[slow_tiou(action, row) for row in rows] for action in ground_truth[video]]
    recall = np.zeros((len(thresholds), 100))
    if not total:
        return recall
    for index, threshold in enumerate(thresholds):
        for number in range(1, 101):
            share = number / 100.0 * (100 * float(len(videos)) / total)
            found = count = 0
            for video in videos:
                for row in tious[video]:
                    kept = min(int(len(row) * share), len(row))
                    found += any(tiou >= threshold for tiou in row[:kept])
                    count += 1
            recall[index, number - 1] = found / count
    return recall


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("repeat", [1, 30])
def test_random_cases_agree_with_the_slow_twin(seed: int, repeat: int) -> None:
    """Also with more than 100 proposals a video, where only the best of each count."""
    ground_truth, proposals = random_case(seed)
    rng = np.random.default_rng(seed)
    proposals = {
        video: [(s, e + rng.random(), None, score) for s, e, _, score in rows * repeat]
        for video, rows in proposals.items()
    }
    result = average_recall(ground_truth, proposals, THRESHOLDS)
    if not (any(ground_truth.values()) and any(proposals.values())):
        assert result["auc"] == 0.0
        return
    expected = slow_average_recall(ground_truth, proposals, THRESHOLDS)
    curve = expected.mean(axis=0)
    np.testing.assert_allclose(result["curve"], curve, rtol=0, atol=1e-12)
    np.testing.assert_allclose(list(result["per_tiou"].values()), expected[:, -1], atol=1e-12)
    assert result["10"] == pytest.approx(curve[9])
    assert result["auc"] == pytest.approx(np.trapezoid(curve, np.arange(1, 101)) / 100)


def test_by_hand() -> None:
    """One video, four proposals: the truth is found by the third, so from AN = 3 of 4 on."""
    ground_truth = {"x": [(0.0, 10.0, "a")], "nothing true": []}
    proposals = {"x": [(50.0 + i, 60.0, None, 1.0) for i in range(2)]}
    proposals["x"] += [(0.0, 10.0, None, 0.5), (70.0, 80.0, None, 0.1)]
    result = average_recall(ground_truth, proposals, [0.5])
    assert result["1"] == 0.0
    assert result["per_tiou"] == {"0.50": 1.0}
    assert result["curve"].index(1.0) == 2  # 0.03 * (100 / 4) of 4 proposals are 3


def test_a_truth_is_found_by_any_proposal_and_one_proposal_may_find_two() -> None:
    ground_truth = {"x": [(0.0, 10.0, "a"), (1.0, 10.0, "b")]}
    result = average_recall(ground_truth, {"x": [(0.0, 10.0, None, 1.0)]}, [0.5])
    assert result["100"] == 1.0


def test_nothing_proposed() -> None:
    result = average_recall({"x": [(0.0, 1.0, "a")]}, {}, THRESHOLDS)
    assert result["auc"] == 0.0
    assert len(result["curve"]) == 100
