"""Confidences of scores, against a slow twin and by their properties."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segtad_jax.evaluation import operating_point as op
from segtad_jax.evaluation.confidence import confidence_of, fit, reliability
from segtad_jax.evaluation.json_files import InputError, sealed

# Few distinct scores, so that ties abound.
detections = st.lists(
    st.tuples(st.sampled_from(np.linspace(0, 2, 9).tolist()), st.booleans()), min_size=1
)


def slow_twin(pairs):
    """{score: the isotonic fit there}, as the greatest of the least means around it."""
    scores = sorted({score for score, _ in pairs})
    groups = [[right for s, right in pairs if s == score] for score in scores]
    groups[-1].append(False)

    def mean(first, last):
        return np.mean([right for group in groups[first : last + 1] for right in group])

    count = range(len(scores))
    return {
        scores[i]: max(min(mean(a, b) for b in count[i:]) for a in count[: i + 1]) for i in count
    }


@settings(deadline=None)
@given(detections)
def test_the_fit_is_that_of_a_slow_twin(pairs):
    score, right = map(np.array, zip(*pairs, strict=True))
    knots = fit(score, right)
    expected = slow_twin(pairs)
    assert confidence_of([*expected], knots).tolist() == pytest.approx([*expected.values()])


@settings(deadline=None)
@given(detections)
def test_confidences_keep_the_order_and_none_is_certain(pairs):
    score, right = map(np.array, zip(*pairs, strict=True))
    knots = np.array(fit(score, right))
    everywhere = confidence_of(np.linspace(-1, 3, 101), knots.tolist())
    assert (np.diff(everywhere) >= 0).all()
    assert (np.diff(knots[:, 0]) > 0).all()  # `numpy.interp` needs it
    assert 0 <= everywhere.min() <= everywhere.max() < 1
    total = confidence_of(score, knots.tolist()).sum() + knots[-1, 1]
    assert total == pytest.approx(right.sum())  # as many as were right


def test_by_hand():
    score, right = np.array([0.1, 0.2, 0.3, 0.4, 0.9]), np.array([0, 1, 0, 1, 1], bool)
    assert fit(score, right) == [[0.1, 0.0], [0.2, 0.5], [0.3, 0.5], [0.4, 2 / 3], [0.9, 2 / 3]]
    assert fit(score[:0], right[:0]) == []


def test_confidences_tell_the_share_of_new_recordings_that_are_right():
    """Scores that are too sure: of those of score s the share s squared is right."""
    rng = random.Random(0)
    truth, found = {}, {}
    for index in range(40):
        scores = [rng.random() for _ in range(50)]
        truth[f"v{index:02d}"] = [
            (10.0 * n, 10.0 * n + 5, "a") for n, s in enumerate(scores) if rng.random() < s * s
        ]
        found[f"v{index:02d}"] = [(10.0 * n, 10.0 * n + 5, "a", s) for n, s in enumerate(scores)]
    point = op.assess(truth, found, None)
    assert point["measured"] == op.CROSS_FITTED
    assert point["calibration"]["error"] > 0.15
    assert point["confidence"]["error"] < 0.03
    assert point["confidence_above"]["error"] < 0.05
    number = sum(row["predictions"] for row in point["confidence"]["bins"])
    assert number == 40 * 50
    above = sum(row["predictions"] for row in point["confidence_above"]["bins"])
    assert above == point["right"] + point["false"]


def test_no_recording_fits_its_own_confidences():
    truth = {f"v{n}": [(0.0, 1.0, "a")] for n in range(5)}
    found = {video: [(0.0, 1.0, "a", 0.5)] for video in truth}
    found["v0"] = [(3.0, 4.0, "a", 0.5)]  # the only one that is wrong
    (row,) = op.assess(truth, found, None)["confidence"]["bins"][-1:]
    assert row["to"] == 0.9  # v0's, of the four others and the one that is added: 4 / 5
    assert row["right"] == 0.0


def test_thresholds_without_confidences_give_none():
    truth = {f"v{n}": [(0.0, 1.0, "a")] for n in range(6)}
    found = {video: [(0.0, 1.0, "a", 0.5)] for video in truth}
    own, others = op.Chosen({"a": 0.2}, list(truth)), op.Chosen({"a": 0.2}, ["x"])
    for threshold in (0.2, own, others):  # given, and of older versions
        point = op.assess(truth, found, threshold)
        assert point["calibration"]["error"] == 0.5
        assert not any(point[key] for key in ("confidence", "confidence_above", "knots"))
    knots = [[0.5, 0.75]]
    point = op.assess(truth, found, others._replace(confidence=knots))
    assert point["knots"] == knots
    assert point["confidence"]["error"] == pytest.approx(0.25)
    assert op.assess(truth, {}, None)["confidence"] is None  # nothing to fit


def test_reliability_has_no_bins_of_what_is_no_probability():
    assert reliability(np.zeros(0), np.zeros(0, bool)) is None
    assert reliability(np.array([1.5]), np.ones(1, bool)) is None


@pytest.mark.parametrize(
    "knots",
    [
        "high", [0.5], [[0.5]], [[0.1, 0.5], [0.2, 0.4]], [[0.2, 0.4], [0.1, 0.5]], [[0.1, 1.5]],
        [["0.1", 0.5]], [[0.1, None]], [[1e999, 0.5]], {"0.1": 0.5},
    ],
)  # fmt: skip
def test_knots_that_are_none_are_refused(tmp_path, knots):
    content = {"thresholds": {"a": 0.5}, "videos": [], "settings": {}, "confidence": knots}
    path = tmp_path / "thresholds-8.json"
    path.write_text(json.dumps(sealed(content)))
    with pytest.raises(InputError, match=r"thresholds-8\.json.*confidence.*Delete it"):
        op.read_chosen(path)
