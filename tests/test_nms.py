import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segtad_jax.ops.nms import soft_nms


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


def random_example(seed, size=40):
    rng = np.random.default_rng(seed)
    segments = np.sort(rng.random((size, 2)) * 100, axis=1).astype(np.float32)
    return segments, rng.random(size).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.1, 0.4, 0.85])
@pytest.mark.parametrize("max_segments", [1, 15, 40, 45])
def test_equals_the_list_that_shrinks(sigma, max_segments):
    segments, scores = random_example(0)
    indices, kept = slow_soft_nms(segments, scores, sigma, max_segments)
    compiled = jax.jit(soft_nms, static_argnames="max_segments")
    for function in (soft_nms, compiled):
        found_indices, found_scores = function(segments, scores, sigma, max_segments=max_segments)
        assert found_indices.dtype == jnp.int32
        assert found_indices.tolist() == indices
        np.testing.assert_allclose(found_scores, kept, rtol=1e-4, atol=1e-30)


def test_by_hand():
    segments = np.array([[0, 10], [0, 10], [20, 30], [5, 15]])
    scores = np.array([0.5, 0.9, 0.4, 0.8], np.float32)
    indices, kept = soft_nms(segments, scores, 0.5, 4)
    once = np.exp(-((1 / 3) ** 2) / 0.5)  # 3 and each of 0 and 1 have tIoU 5 / 15
    assert indices.tolist() == [1, 3, 2, 0]
    np.testing.assert_allclose(kept, [0.9, 0.8 * once, 0.4, 0.5 * np.exp(-2) * once], rtol=1e-6)


def test_ties_go_to_the_lower_index():
    segments = np.array([[0, 1], [2, 3], [4, 5], [6, 7]])
    indices, _ = soft_nms(segments, np.array([0.5, 0.7, 0.5, 0.7], np.float32), 0.5, 4)
    assert indices.tolist() == [1, 3, 0, 2]


def test_what_is_not_there_is_never_taken():
    segments = np.array([[0, 1], [0, 1], [4, 5]])
    scores = np.array([0.5, -np.inf, 0.0], np.float32)
    indices, kept = soft_nms(segments, scores, 0.001, 4)  # exp(-1000) is 0 in float32
    assert indices.tolist() == [0, 2, -1, -1]
    np.testing.assert_array_equal(kept, np.float32([0.5, 0, 0, 0]))


def test_vmap_equals_a_loop():
    examples = [random_example(seed) for seed in range(4)]
    segments, scores = (np.stack(part) for part in zip(*examples, strict=True))
    batched = jax.vmap(lambda a, b: soft_nms(a, b, 0.4, 10))(segments, scores)
    for position, (a, b) in enumerate(examples):
        indices, kept = soft_nms(a, b, 0.4, 10)
        np.testing.assert_array_equal(batched[0][position], indices)
        np.testing.assert_allclose(batched[1][position], kept, rtol=1e-6)


SIZE = 12  # of one size, so that a test compiles once


@given(
    arrays(np.int32, (SIZE, 2), elements=st.integers(0, 50)),
    arrays(np.float32, SIZE, elements=st.floats(0, 1, width=32)),
    st.floats(0.1, 2),
)
def test_scores_never_rise_and_every_segment_is_taken_once(starts_and_lengths, scores, sigma):
    segments = np.cumsum(starts_and_lengths, axis=1, dtype=np.int32)
    indices, kept = map(np.asarray, soft_nms(segments, scores, sigma, SIZE))
    assert sorted(indices) == list(range(SIZE))
    assert (np.diff(kept) <= 0).all()
    assert (kept <= scores[indices]).all()
    assert kept[0] == scores.max()
