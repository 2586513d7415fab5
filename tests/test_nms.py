"""Gaussian soft-NMS of all classes at once, against lists that shrink."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segtad_jax.ops import nms

soft_nms = jax.jit(nms.soft_nms, static_argnames="max_segments")


def slow_soft_nms(segments, scores, sigma, max_segments):
    """With a list that shrinks, in float64."""
    left = [(float(score), index) for index, score in enumerate(scores)]
    taken = []
    while left and len(taken) < max_segments:
        best = max(left, key=lambda item: (item[0], -item[1]))
        left.remove(best)
        taken.append(best)
        s, e = map(float, segments[best[1]])
        decayed = []
        for score, index in left:
            u, v = map(float, segments[index])
            both = max(0.0, min(e, v) - max(s, u))
            either = (e - s) + (v - u) - both
            tiou = both / either if either > 0 else 0.0
            decayed.append((score * np.exp(-(tiou**2) / sigma), index))
        left = decayed
    indices = [index for _, index in taken] + [-1] * (max_segments - len(taken))
    return indices, [score for score, _ in taken] + [0.0] * (max_segments - len(taken))


def slow_best_of_all(segments, scores, sigma, max_segments):
    """Every class to its end, then the best of all: (classes, rows, scores)."""
    taken = []
    for label, one_class in enumerate(scores):
        present = np.flatnonzero(~np.isneginf(one_class))
        rows, kept = slow_soft_nms(segments[present], one_class[present], sigma, len(present))
        taken += [(label, int(present[row]), score) for row, score in zip(rows, kept, strict=True)]
    taken.sort(key=lambda item: (-item[2], item[0]))  # stable: a class stays in its order
    taken = taken[:max_segments] + [(-1, -1, 0.0)] * (max_segments - len(taken))
    return tuple(zip(*taken, strict=True))


def random_example(seed, size=40, num_classes=3):
    rng = np.random.default_rng(seed)
    segments = np.sort(rng.random((size, 2)) * 100, axis=1).astype(np.float32)
    scores = rng.random((num_classes, size)).astype(np.float32)
    scores[:, ::7] = -np.inf
    return segments, scores


@pytest.mark.parametrize("num_classes", [1, 4])
@pytest.mark.parametrize("sigma", [0.1, 0.4, 0.85])
@pytest.mark.parametrize("max_segments", [1, 15, 40, 145])
def test_equals_the_lists_that_shrink(sigma, max_segments, num_classes):
    segments, scores = random_example(0, num_classes=num_classes)
    labels, rows, kept = slow_best_of_all(segments, scores, sigma, max_segments)
    functions = [soft_nms]
    if max_segments == 15 and sigma == 0.4:
        functions.append(nms.soft_nms)
    for function in functions:
        arrays = jnp.asarray(segments), jnp.asarray(scores)
        found = function(*arrays, sigma, max_segments=max_segments)
        assert found[0].dtype == found[1].dtype == jnp.int32
        assert found[0].tolist() == list(labels)
        assert found[1].tolist() == list(rows)
        np.testing.assert_allclose(found[2], kept, rtol=1e-4, atol=1e-30)


def test_by_hand():
    segments = np.array([[0, 10], [0, 10], [20, 30], [5, 15]])
    scores = np.array([0.5, 0.9, 0.4, 0.8], np.float32)
    _, indices, kept = soft_nms(segments, scores[None], 0.5, 4)
    once = np.exp(-((1 / 3) ** 2) / 0.5)  # 3 and each of 0 and 1 have tIoU 5 / 15
    assert indices.tolist() == [1, 3, 2, 0]
    np.testing.assert_allclose(kept, [0.9, 0.8 * once, 0.4, 0.5 * np.exp(-2) * once], rtol=1e-6)


def test_ties_go_to_the_lower_class_and_then_the_lower_row():
    segments = np.array([[0, 1], [2, 3], [4, 5], [6, 7]])
    scores = np.array([[0.5, 0.7, 0.5, 0.7], [0.1, 0.7, 0.5, 0.2]], np.float32)
    labels, indices, _ = soft_nms(segments, scores, 0.5, 6)
    assert indices.tolist() == [1, 3, 1, 0, 2, 2]
    assert labels.tolist() == [0, 0, 1, 0, 0, 1]


def test_what_is_not_there_is_never_taken():
    segments = np.array([[0, 1], [0, 1], [4, 5]])
    scores = np.array([0.5, -np.inf, 0.0], np.float32)
    labels, indices, kept = soft_nms(segments, scores[None], 0.001, 4)  # exp(-1000) is 0 in float32
    assert indices.tolist() == [0, 2, -1, -1]
    assert labels.tolist() == [0, 0, -1, -1]
    for none in (
        soft_nms(np.zeros((0, 2)), np.zeros((3, 0)), 0.4, 2),
        soft_nms(segments, np.zeros((0, 3)), 0.4, 2),
    ):
        assert [part.tolist() for part in none] == [[-1, -1], [-1, -1], [0, 0]]
    np.testing.assert_array_equal(kept, np.float32([0.5, 0, 0, 0]))


def test_vmap_equals_a_loop():
    examples = [random_example(seed) for seed in range(4)]
    segments, scores = (np.stack(part) for part in zip(*examples, strict=True))
    batched = jax.jit(jax.vmap(lambda a, b: nms.soft_nms(a, b, 0.4, 10)))(segments, scores)
    for position, (a, b) in enumerate(examples):
        labels, rows, kept = soft_nms(a, b, 0.4, 10)
        np.testing.assert_array_equal(batched[0][position], labels)
        np.testing.assert_array_equal(batched[1][position], rows)
        np.testing.assert_allclose(batched[2][position], kept, rtol=1e-6)


SIZE = 12  # of one size, so that a test compiles once


@given(
    arrays(np.int32, (SIZE, 2), elements=st.integers(0, 50)),
    # On a CPU subnormal numbers count as 0.
    arrays(np.float32, SIZE, elements=st.floats(0, 1, width=32, allow_subnormal=False)),
    st.floats(0.1, 2),
)
def test_scores_never_rise_and_every_segment_is_taken_once(starts_and_lengths, scores, sigma):
    segments = np.cumsum(starts_and_lengths, axis=1, dtype=np.int32)
    _, indices, kept = map(np.asarray, soft_nms(segments, scores[None], sigma, SIZE))
    assert sorted(indices) == list(range(SIZE))
    assert (np.diff(kept) <= 0).all()
    assert (kept <= scores[indices]).all()
    assert kept[0] == scores.max()
