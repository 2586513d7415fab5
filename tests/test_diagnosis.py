"""The diagnosis against a literal twin of DETAD's script, and cases by hand."""

import math

import numpy as np
import pytest

from evaluation_cases import random_case, slow_tiou
from segtad_jax.evaluation.diagnosis import OUTCOMES, diagnose


def interpolated(precision, recall):
    precision, recall = [0.0, *precision, 0.0], [0.0, *recall, 1.0]
    for index in range(len(precision) - 2, -1, -1):
        precision[index] = max(precision[index], precision[index + 1])
    steps = range(1, len(recall))
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in steps)


def slow_normalized_ap(hits, num_actions, normalizer):
    precision, recall, found = [], [], 0
    for count, hit in enumerate(hits, start=1):
        found += hit
        mass = found / num_actions * normalizer
        precision.append(mass / (mass + count - found) if count else 0.0)
        recall.append(found / num_actions)
    return interpolated(precision, recall), precision


class SlowDiagnosis:
    """One pass over plain lists: matches, outcomes and bins of one tIoU."""

    def __init__(self, ground_truth, predictions, durations, tiou):
        self.truths = sorted(
            (video, start, end, label)
            for video, rows in ground_truth.items()
            for start, end, label in rows
        )
        self.classes = sorted({truth[3] for truth in self.truths})
        self.durations = durations
        self.normalizer = len(self.truths) / len(self.classes)
        self.by_class = {}  # label: [(prediction, truth index or None, outcome)]
        for label in self.classes:
            rows = [
                (video, *row)
                for video, rows in predictions.items()
                for row in rows
                if row[2] == label
            ]
            rows.sort(key=lambda p: -p[4])
            taken, scored = set(), []
            for row in rows:
                match = self.match(row, taken, tiou)
                scored.append((row, match, self.outcome(row, match, tiou)))
            self.by_class[label] = scored

    def match(self, row, taken, tiou):
        near = [
            (-slow_tiou(row[1:3], truth[1:3]), index)
            for index, truth in enumerate(self.truths)
            if truth[0] == row[0] and truth[3] == row[3]
        ]
        for negative, index in sorted(near):
            if -negative >= tiou and index not in taken:
                taken.add(index)
                return index
        return None

    def outcome(self, row, match, tiou):
        if match is not None:
            return "true_positive"
        near = [
            (slow_tiou(row[1:3], truth[1:3]), truth[3] == row[3])
            for truth in self.truths
            if truth[0] == row[0]
        ]
        best, same = max(near, default=(0.0, False))
        if best >= tiou:
            return "double_detection" if same else "wrong_label"
        if best >= 0.1:
            return "localization" if same else "confusion"
        return "background"

    def actions(self, label, truths=None):
        truths = range(len(self.truths)) if truths is None else truths
        return sum(self.truths[index][3] == label for index in truths)

    def map_n(self, keep=lambda *_: True, truths=None):
        values = []
        for label, rows in self.by_class.items():
            if self.actions(label, truths):
                hits = [
                    match is not None
                    for rank, (_, match, outcome) in enumerate(rows)
                    if keep(label, rank, outcome)
                    and (match is None or truths is None or match in truths)
                ]
                values.append(
                    slow_normalized_ap(hits, self.actions(label, truths), self.normalizer)[0]
                )
        return sum(values) / len(values) if values else None

    def top(self, label, rank, multiple=10):
        return rank < multiple * self.actions(label)

    def found(self):
        found = set()
        for label, rows in self.by_class.items():
            hits = [match is not None for _, match, _ in rows]
            precision = slow_normalized_ap(hits, self.actions(label), self.normalizer)[1]
            found |= {
                match
                for (_, match, _), p in zip(rows, precision, strict=True)
                if match is not None and p > 0.05
            }
        return found

    def value(self, name, index):
        video, start, end, label = self.truths[index]
        if name == "coverage":
            return (end - start) / self.durations[video]
        if name == "length":
            return end - start
        return sum(t[0] == video and t[3] == label for t in self.truths)


UPPER = {  # DETAD's bins are (lower, upper]
    "to 0.2": 0.2, "0.2-0.4": 0.4, "0.4-0.6": 0.6, "0.6-0.8": 0.8, "over 0.8": math.inf,
    "to 0.02": 0.02, "0.02-0.04": 0.04, "0.04-0.06": 0.06, "0.06-0.08": 0.08, "over 0.08": math.inf,
    "to 30 s": 30, "30-60 s": 60, "60-120 s": 120, "120-180 s": 180, "over 180 s": math.inf,
    "to 3 s": 3, "3-6 s": 6, "6-12 s": 12, "12-18 s": 18, "over 18 s": math.inf,
    "1": 1, "2-4": 4, "5-8": 8, "over 8": math.inf, "2-40": 40, "41-80": 80, "over 80": math.inf,
}  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_random_cases_agree_with_the_slow_twin(seed):
    ground_truth, predictions = random_case(seed)
    if not any(ground_truth.values()):
        assert diagnose(ground_truth, predictions)["map_n"] == 0.0
        return
    rng = np.random.default_rng(seed)
    scale = rng.choice([1.0, 20.0])  # short and long actions, for both scales of bins
    ground_truth = {
        v: [(s * scale, e * scale, c) for s, e, c in rows] for v, rows in ground_truth.items()
    }
    predictions = {
        v: [(s * scale, e * scale, c, score) for s, e, c, score in rows]
        for v, rows in predictions.items()
    }
    longest = max((row[1] for rows in ground_truth.values() for row in rows), default=1.0)
    durations = {video: float(longest + 1 + rng.integers(1000)) for video in ground_truth}
    result = diagnose(ground_truth, predictions, durations, tiou=0.5)
    slow = SlowDiagnosis(ground_truth, predictions, durations, 0.5)

    assert result["map_n"] == pytest.approx(slow.map_n(), abs=1e-12)
    top = [
        outcome
        for label, rows in slow.by_class.items()
        for rank, (_, _, outcome) in enumerate(rows)
        if slow.top(label, rank)
    ]
    for name in OUTCOMES:
        share = top.count(name) / max(len(top), 1)
        assert result["outcomes"]["share"][name] == pytest.approx(share, abs=1e-12)
    first = [
        outcome
        for label, rows in slow.by_class.items()
        for rank, (_, _, outcome) in enumerate(rows)
        if slow.top(label, rank, 1)
    ]
    for name in OUTCOMES:
        share = first.count(name) / max(len(first), 1)
        assert result["outcomes"]["by_rank"][0][name] == pytest.approx(share, abs=1e-12)
    base = slow.map_n(lambda label, rank, _: slow.top(label, rank))
    for name, gain in result["outcomes"]["gain"].items():
        without = slow.map_n(lambda c, rank, o, n=name: slow.top(c, rank) and o != n)
        assert gain == pytest.approx(without - base, abs=1e-12)

    found = slow.found()
    for name, bins in result["sensitivity"].items():
        lower = -math.inf
        assert sum(row["actions"] for row in bins) == len(slow.truths)
        for row in bins:
            upper = UPPER[row["range"]]
            inside = {i for i in range(len(slow.truths)) if lower < slow.value(name, i) <= upper}
            lower = upper
            assert row["actions"] == len(inside), (name, row)
            if inside:
                assert row["map_n"] == pytest.approx(slow.map_n(truths=inside), abs=1e-12)
                missed = 1 - len(inside & found) / len(inside)
                assert row["missed"] == pytest.approx(missed, abs=1e-12)
            else:
                assert row["map_n"] is row["missed"] is None


def test_each_error_type_by_hand() -> None:
    ground_truth = {"x": [(0.0, 10.0, "a"), (20.0, 30.0, "b")], "y": [(0.0, 1.0, "a")] * 9}
    predictions = {
        "x": [
            (0.0, 10.0, "a", 0.9),  # true positive
            (0.0, 9.0, "a", 0.8),  # double detection
            (20.0, 30.0, "a", 0.7),  # wrong label
            (5.0, 20.0, "a", 0.6),  # localization: tIoU 0.25
            (25.0, 50.0, "a", 0.5),  # confusion: tIoU 1/6
            (9.5, 19.0, "a", 0.4),  # background: tIoU below 0.1
            (100.0, 110.0, "a", 0.3),  # background
        ]
    }
    share = diagnose(ground_truth, predictions)["outcomes"]["share"]
    counts = {name: round(7 * value) for name, value in share.items()}
    assert counts == dict(zip(OUTCOMES, [1, 1, 1, 1, 1, 2], strict=True))


def test_removing_the_only_error_gives_the_rest() -> None:
    ground_truth = {"x": [(0.0, 10.0, "a")]}
    predictions = {"x": [(50.0, 60.0, "a", 0.9), (0.0, 10.0, "a", 0.8)]}
    result = diagnose(ground_truth, predictions)
    assert result["map_n"] == pytest.approx(0.5)
    assert result["outcomes"]["gain"]["background"] == pytest.approx(0.5)
    assert result["outcomes"]["gain"]["wrong_label"] == 0.0


@pytest.mark.parametrize(("errors", "missed"), [(18, 0.0), (20, 1.0)])
def test_found_only_after_many_errors_is_missed(errors: int, missed: float) -> None:
    """The threshold is a normalised precision of 1 in 20."""
    rows = [(50.0, 60.0, "a", 0.9)] * errors + [(0.0, 10.0, "a", 0.1)]
    bins = diagnose({"x": [(0.0, 10.0, "a")]}, {"x": rows})["sensitivity"]["length"]
    assert [row["missed"] for row in bins if row["actions"]] == [missed]


def test_a_duplicate_truth_under_another_label_is_no_wrong_label() -> None:
    """THUMOS14 has every CliffDiving also as Diving."""
    ground_truth = {"x": [(0.0, 10.0, "CliffDiving"), (0.0, 10.0, "Diving")]}
    predictions = {"x": [(0.0, 10.0, "Diving", 0.9), (0.0, 10.0, "Diving", 0.8)]}
    share = diagnose(ground_truth, predictions)["outcomes"]["share"]
    assert share["double_detection"] == 0.5
    assert share["wrong_label"] == 0.0


def test_no_durations_no_coverage() -> None:
    result = diagnose({"x": [(0.0, 1.0, "a")]}, {}, {})
    assert set(result["sensitivity"]) == {"length", "instances"}


def test_bins_follow_the_data() -> None:
    """Short actions would all fall in ActivityNet's first bin: THUMOS14's bins tell them apart."""
    short = {"x": [(0.0, float(length), "a") for length in range(1, 20)]}
    ranges = [row["range"] for row in diagnose(short, {})["sensitivity"]["length"]]
    assert ranges == ["to 3 s", "3-6 s", "6-12 s", "12-18 s", "over 18 s"]
    long = {"x": [(0.0, 10.0 * length, "a") for length in range(1, 20)]}
    ranges = [row["range"] for row in diagnose(long, {})["sensitivity"]["length"]]
    assert ranges == ["to 30 s", "30-60 s", "60-120 s", "120-180 s", "over 180 s"]
