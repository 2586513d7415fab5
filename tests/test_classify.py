"""Actions found by a backbone's own classifier: what stands out, where, and how sure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtad_jax.video import classify
from segtad_jax.video.classify import detect, segments, shares_of, smoothed

RATE = 3.125  # features a second of I3D
CLASSES = [f"class {n}" for n in range(20)]


def scene(*actions, frames=100, strength=6.0):
    """Logits of a recording in which class `label` is seen from `start` to `end` seconds."""
    logits = np.random.default_rng(0).normal(0, 0.5, (frames, len(CLASSES))).astype(np.float32)
    for label, start, end in actions:
        logits[round(start * RATE) : round(end * RATE), label] += strength
    return logits


def test_an_action_is_named_and_found_where_it_is():
    found = detect(scene((3, 10, 18), (7, 22, 27)), CLASSES, RATE, 32.0)
    assert {d.label for d in found[:2]} == {"class 3", "class 7"}
    for d, (start, end) in zip(sorted(found[:2]), [(10, 18), (22, 27)], strict=True):
        assert (d.start, d.end) == pytest.approx((start, end), abs=0.5)
        assert d.score > 0.7
    assert max((d.score for d in found[2:]), default=0) < 0.5


def test_an_action_that_fills_the_recording_is_one():
    found = detect(scene((3, 0, 32)), CLASSES, RATE, 31.9)
    assert found[0].label == "class 3"
    assert (found[0].start, found[0].end) == (0, 31.9)
    assert all(d.score < 0.5 for d in found[1:])


def test_two_of_a_class_are_two():
    found = detect(scene((3, 5, 10), (3, 18, 24)), CLASSES, RATE, 32.0)
    assert [d.label for d in found[:2]] == ["class 3"] * 2
    assert sorted(round(d.start) for d in found[:2]) == [5, 18]


def test_where_nothing_stands_out_nothing_scores_high():
    assert all(d.score < 0.3 for d in detect(scene(), CLASSES, RATE, 32.0))
    even = np.zeros((100, 400), np.float32)
    assert detect(even, [str(n) for n in range(400)], RATE, 32.0) == []


def test_shares_are_smoothed():
    logits = scene((3, 10, 18))
    expected = np.exp(logits.astype(np.float64))
    expected /= expected.sum(axis=1, keepdims=True)
    shares = shares_of(logits)
    np.testing.assert_allclose(shares, expected, rtol=1e-4)
    half = round(classify.WINDOW * RATE / 2)
    for at, low in ((50, 50 - half), (0, 0)):
        mean = expected[low : at + half + 1].mean(axis=0)
        np.testing.assert_allclose(smoothed(shares, RATE)[at], mean, rtol=1e-4)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40).filter(any))
def test_segments_are_within_and_scored_by_what_is_around(values):
    share = np.array(values)
    found = list(segments(share[::-1], share))
    assert len({(start, end) for start, end, _ in found}) == len(found)
    for start, end, score in found:
        assert 0 <= start < end <= len(share)
        margin = max(round(classify.AROUND * (end - start)), 1)
        around = np.r_[share[max(start - margin, 0) : start], share[end : end + margin]]
        expected = share[start:end].mean() - (around.mean() if around.size else 0)
        assert score == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 7, 300])
def test_recordings_of_any_length(frames):
    found = detect(scene((3, 0, frames / RATE), frames=frames), CLASSES, RATE, frames / RATE)
    assert found[0].label == "class 3"
    assert all(0 <= d.start < d.end <= frames / RATE for d in found)
