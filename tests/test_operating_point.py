"""Thresholds and what is counted at them, against slow twins, and by their properties."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation_cases import random_case, slow_tiou
from segtad_jax.evaluation import operating_point as op
from segtad_jax.evaluation.json_files import InputError

CLASSES = ("a", "b", "c", "never predicted")
cases = st.integers(0, 10_000).map(random_case)


def slow_match(ground_truth, detections, tiou=0.5):
    """(right, of the detections left those that hit another class's action, false, missed)."""
    right, confused, false, missed = [], [], [], []
    for video in sorted(ground_truth.keys() | detections.keys()):
        free = sorted(ground_truth.get(video, []))
        rows = sorted(detections.get(video, []), key=lambda row: (-row[3], row[2]))
        left = []
        for row in rows:
            fits = [a for a in free if a[2] == row[2] and slow_tiou(a, row) >= tiou]
            if fits:
                best = max(fits, key=lambda action: slow_tiou(action, row))
                free.remove(best)
                right.append((best[2], row[2]))
            else:
                left.append(row)
        for row in left:
            fits = [a for a in free if slow_tiou(a, row) >= tiou]
            if fits:
                best = max(fits, key=lambda action: slow_tiou(action, row))
                free.remove(best)
                confused.append((best[2], row[2]))
            else:
                false.append(row[2])
        missed += [action[2] for action in free]
    return right, confused, false, missed


def distinct(case):
    """Scores that differ, so that neither order nor equal tIoU leave a choice."""
    ground_truth, predictions = case
    rng = random.Random(0)
    moved = {
        video: [
            (s + rng.random() / 50, e + 0.1 + rng.random() / 50, label, rng.random())
            for s, e, label, _ in rows
            if label in CLASSES
        ]
        for video, rows in predictions.items()
    }
    return ground_truth, moved


def f1_of(ground_truth, predictions, threshold, label):
    truth = {v: [r for r in rows if r[2] == label] for v, rows in ground_truth.items()}
    rows = {
        v: [r for r in rows if r[2] == label and r[3] >= threshold]
        for v, rows in predictions.items()
    }
    right, _, _, missed = slow_match(truth, rows)
    shown = sum(map(len, rows.values()))
    return 2 * len(right) / max(shown + len(right) + len(missed), 1), len(right), shown


def scores_of(predictions, label):
    return {row[3] for rows in predictions.values() for row in rows if row[2] == label}


@given(cases)
def test_the_best_f1_and_of_equal_ones_the_highest(case):
    ground_truth, predictions = case
    chosen = op.choose(ground_truth, predictions, classes=CLASSES)
    assert list(chosen) == sorted(CLASSES)
    for label in CLASSES:
        actions = sum(row[2] == label for rows in ground_truth.values() for row in rows)
        tried = {
            score: f1_of(ground_truth, predictions, score, label)[0]
            for score in scores_of(predictions, label)
        }
        if actions < op.FEWEST or not any(tried.values()):
            continue  # takes that of all classes together
        best = max(tried.values())
        assert f1_of(ground_truth, predictions, chosen[label], label)[0] == best
        lowest = max(score for score, f1 in tried.items() if f1 == best)
        below = max((score for score in tried if score < lowest), default=lowest)
        assert chosen[label] == pytest.approx((lowest + below) / 2)


@given(cases, st.sampled_from([0.2, 0.5, 0.9, 1.0]))
def test_the_best_recall_at_a_precision(case, precision):
    ground_truth, predictions = case
    chosen = op.choose(ground_truth, predictions, precision=precision, classes=CLASSES)
    for label in CLASSES:
        actions = sum(row[2] == label for rows in ground_truth.values() for row in rows)
        tried = [
            f1_of(ground_truth, predictions, score, label)
            for score in scores_of(predictions, label)
        ]
        if actions < op.FEWEST or not any(right for _, right, _ in tried):
            continue
        _, right, shown = f1_of(ground_truth, predictions, chosen[label], label)
        enough = [hits for _, hits, number in tried if hits / number >= precision]
        if enough:
            assert right / shown >= precision
            assert right == max(enough)
        else:
            assert right / shown == max(hits / number for _, hits, number in tried)


def test_a_class_with_few_actions_takes_the_threshold_of_all():
    many = {f"v{i}": [(0.0, 1.0, "many"), (5.0, 6.0, "few")][: 2 - (i > 2)] for i in range(20)}
    rows = {
        v: [(0.0, 1.0, "many", 0.8), (9.0, 10.0, "many", 0.4), (5.0, 6.0, "few", 0.1)] for v in many
    }
    chosen = op.choose(many, rows, classes=["unseen"])
    assert chosen["many"] == pytest.approx(0.6)
    assert chosen["few"] == chosen["unseen"] == chosen["many"]


def test_neighbouring_scores_have_no_threshold_between_them():
    score, below = 0.1, 0.09999999999999999
    truth = {str(i): [(0.0, 1.0, "a")] for i in range(9)}
    rows = {v: [(0.0, 1.0, "a", score), (5.0, 6.0, "a", below)] for v in truth}
    assert op.choose(truth, rows) == {"a": score}


def test_nothing_to_choose_from():
    assert op.choose({}, {}) == {}
    assert op.choose({"x": [(0.0, 1.0, "a")]}, {}) == {"a": 0.0}
    assert op.assess({"x": []}, {}, None, classes=["a"])["f1"] is None


# ---- counting


@given(cases.map(distinct))
def test_counts_are_those_of_a_slow_twin(case):
    ground_truth, detections = case
    found = op.count(ground_truth, detections, classes=CLASSES)
    right, confused, false, missed = slow_match(ground_truth, detections)
    matrix = {(row, column): number for row, column, number in found["confusion"]}
    pairs = [*right, *confused, *((None, x) for x in false), *((x, None) for x in missed)]
    assert matrix == {pair: pairs.count(pair) for pair in pairs}
    assert found["right"] == len(right)
    assert found["false"] == len(confused) + len(false)
    assert found["missed"] == len(confused) + len(missed)


@given(cases)
def test_every_action_and_every_detection_is_in_the_matrix_once(case):
    ground_truth, detections = case
    found = op.count(ground_truth, detections, classes=CLASSES)
    actions = [row[2] for rows in ground_truth.values() for row in rows]
    labels = [row[2] for rows in detections.values() for row in rows if row[2] in CLASSES]
    for label in CLASSES:
        rows = [n for action, _, n in found["confusion"] if action == label]
        columns = [n for _, detection, n in found["confusion"] if detection == label]
        own = found["per_class"][label]
        assert sum(rows) == actions.count(label) == own["right"] + own["missed"]
        assert sum(columns) == labels.count(label) == own["right"] + own["false"]
    assert found["right"] == sum(n for row, column, n in found["confusion"] if row == column)
    for name, whole in (("precision", labels), ("recall", actions)):
        assert found[name] == (found["right"] / len(whole) if whole else None)


@given(cases, st.floats(0, 1))
def test_what_is_hit_does_not_depend_on_what_is_below(case, threshold):
    """So that one matching serves all thresholds, as `choose` has it."""
    ground_truth, predictions = case
    table = op.tabulate(ground_truth, predictions)
    above = table.predictions.score >= threshold
    expected = int((op._taken(table, 0.5)[above] >= 0).sum())
    assert op.count(ground_truth, op.above(predictions, threshold))["right"] == expected


def test_detections_of_a_class_without_actions_are_false_alarms():
    truth, rows = {"x": [(0.0, 1.0, "a")]}, {"x": [(0.0, 1.0, "a", 0.9), (0.0, 1.0, "b", 0.8)]}
    assert op.count(truth, rows)["false"] == 0  # as the mAP does
    assert op.count(truth, rows, classes=["b"])["false"] == 1


# ---- on which recordings


@settings(max_examples=30, deadline=None)
@given(cases, st.integers(0, 5))
def test_cross_fitting_never_looks_at_the_recording_itself(case, number):
    ground_truth, predictions = case
    videos = sorted(ground_truth)
    video = videos[number % len(videos)]
    before = op.cross_fitted(ground_truth, predictions, classes=CLASSES)
    other = {**ground_truth, video: [(s, e + 7.0, "b") for s, e, _ in ground_truth[video]]}
    after = op.cross_fitted(other, predictions, classes=CLASSES)
    if len(videos) > 1:
        assert after.get(video) == before.get(video)


def many(number, seed=0):
    rng = random.Random(seed)
    truth = {f"v{i:02d}": [(10.0 * n, 10.0 * n + 5, "a") for n in range(3)] for i in range(number)}
    rows = {
        video: [(s, e, "a", rng.uniform(0.3, 1)) for s, e, _ in actions]
        + [(s + 6, e + 3, "a", rng.uniform(0, 0.6)) for s, e, _ in actions]
        for video, actions in truth.items()
    }
    return truth, rows


def test_how_it_was_measured_is_told():
    truth, rows = many(10)
    chosen = op.Chosen(op.choose(truth, rows), list(truth))
    assert op.assess(truth, rows, None)["measured"] == op.CROSS_FITTED
    assert op.assess(truth, rows, chosen)["measured"] == op.CROSS_FITTED
    assert op.assess(truth, rows, 0.5)["measured"] == op.GIVEN
    others = op.assess(truth, rows, chosen._replace(videos=["elsewhere"]))
    assert others["measured"] == op.OTHERS
    assert others["f1"] == others["best_f1"]  # they were chosen here after all
    assert op.assess(truth, rows, None)["f1"] <= others["best_f1"]
    one = {"v00": truth["v00"]}
    assert op.assess(one, {"v00": rows["v00"]}, None)["measured"] == op.SAME
    assert op.assess(truth, rows, 0.25)["thresholds"] == {"a": 0.25}


@pytest.mark.parametrize("name", ["{}#t=40,60", "v_{}"])
def test_parts_of_recordings_are_no_other_recordings(name):
    truth, rows = many(10)
    chosen = op.Chosen({"a": 0.5}, list(map(name.format, truth)))
    assert op.assess(truth, rows, chosen)["measured"] == op.CROSS_FITTED


def test_thresholds_are_measured_as_they_were_chosen():
    truth = {f"v{n}": [(0.0, 1.0, "a"), (2.0, 3.0, "a")] for n in range(6)}
    rows = {v: [(0.0, 1.0, "a", 0.9), (5.0, 6.0, "a", 0.8), (2.0, 3.0, "a", 0.7)] for v in truth}
    by_f1, precise = op.Chosen({"a": 0.0}, list(truth)), op.Chosen({"a": 0.8}, list(truth), {}, 0.9)
    assert op.assess(truth, rows, by_f1)["false"] == 6
    assert op.assess(truth, rows, precise)["false"] == 0
    assert op.assess(truth, rows, by_f1, precision=0.9)["false"] == 0  # of an older version


def test_cross_fitting_keeps_the_parts_of_a_recording_together():
    truth, rows = many(4)
    names = dict(zip(truth, ["x#t=0,30", "x#t=40,70", "x#t=80,99", "y"], strict=True))
    truth = {names[video]: actions for video, actions in truth.items()}
    rows = {names[video]: found for video, found in rows.items()}
    ends = op.choose({"y": truth["y"]}, {"y": rows["y"]})
    kept = op.cross_fitted(truth, rows)
    assert {v: kept[v] for v in truth if v != "y"} == op.above(
        {v: r for v, r in rows.items() if v != "y"}, ends
    )
    one = {video: truth[video] for video in list(truth)[:3]}
    assert op.assess(one, {v: rows[v] for v in one}, None)["measured"] == op.SAME


def test_a_file_of_thresholds(tmp_path):
    path = tmp_path / "thresholds-8.json"
    chosen = op.Chosen({"a": 0.25, "b": 0.5}, ["x", "y"], {"eval.sigma": 0.4})
    path.write_text(json.dumps(op.to_json(chosen)))
    assert op.read_chosen(path) == chosen


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("0.25", "0.35"),
        lambda text: "[]",
        lambda text: '{"thresholds": {"a": "high"}, "videos": [], "settings": {}}',
        lambda text: '{"thresholds": {"a": 0.5}}',
    ],
)
def test_a_damaged_file_says_what_to_do(tmp_path, damage):
    path = tmp_path / "thresholds-8.json"
    path.write_text(damage(json.dumps(op.to_json(op.Chosen({"a": 0.25}, ["x"], {})))))
    with pytest.raises(InputError, match=r"thresholds-8.json.*Delete it.*segtad evaluate"):
        op.read_chosen(path)


# ---- calibration


def test_calibration_by_hand():
    truth = {str(i): [(0.0, 1.0, "a")] if i < 6 else [] for i in range(10)}
    rows = {video: [(0.0, 1.0, "a", 0.75), (5.0, 6.0, "a", 0.05)] for video in truth}
    found = op.calibration(truth, rows)
    assert found["bins"] == [
        {"from": 0.0, "to": 0.1, "predictions": 10, "score": pytest.approx(0.05), "right": 0.0},
        {"from": 0.7, "to": 0.8, "predictions": 10, "score": pytest.approx(0.75), "right": 0.6},
    ]
    assert found["error"] == pytest.approx((0.05 + 0.15) / 2)


@given(cases)
def test_calibration_is_of_all_predictions(case):
    ground_truth, predictions = case
    found = op.calibration(ground_truth, predictions, classes=CLASSES)
    number = sum(row[2] in CLASSES for rows in predictions.values() for row in rows)
    if not number:
        assert found is None
        return
    bins = found["bins"]
    assert sum(b["predictions"] for b in bins) == number
    right = sum(b["predictions"] * b["right"] for b in bins)
    assert right == pytest.approx(op.count(ground_truth, predictions)["right"])
    assert 0 <= found["error"] <= 1


@pytest.mark.parametrize("score", [-0.5, 3.0])
def test_scores_that_are_no_probabilities_have_no_calibration(score):
    assert op.calibration({"x": []}, {"x": [(0.0, 1.0, "a", score)]}, classes=["a"]) is None
