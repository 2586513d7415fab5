"""Snapping and scores at boundaries, against loops and by properties."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtad_jax.ops import boundaries
from segtad_jax.ops.proposals import proposal_grid

T = 24
RADII = (0, 1, 2, 5, 9)
GRID = proposal_grid(T, 4)
boundary_scores = jax.jit(boundaries.boundary_scores)
snap = jax.jit(boundaries.snap, static_argnames=("radius", "largest"))
SCALES = (1 + (GRID[:, 1] - GRID[:, 0]) // 8).astype(np.int32)
further = jax.jit(functools.partial(boundaries.snap, scales=SCALES), static_argnames="radius")
centre = jax.jit(boundaries.centre, static_argnames="radius")


def slow_snap(
    segments: np.ndarray,
    scores: np.ndarray,
    radius: int,
    num_frames: int,
    scales: np.ndarray | None = None,
) -> np.ndarray:
    moved = segments.astype(float)
    for row, (start, end) in enumerate(segments):
        found = []
        reach = radius * (1 if scales is None else scales[row])
        for side, frame in enumerate((start, end - 1)):
            near = [f for f in range(num_frames) if abs(f - frame) <= reach]
            best = max(near, key=lambda f: (scores[f, side], -abs(f - frame), -f))
            found.append(best + side)
        if found[0] < found[1]:
            moved[row] = found
    return moved


@given(
    *(st.integers(0, 2**32 - 1), st.sampled_from(RADII), st.sampled_from([8, 20, 24])),
    st.booleans(),
)
def test_snap_against_a_loop(seed: int, radius: int, num_frames: int, ties: bool) -> None:
    scores = np.random.default_rng(seed).random((T, 2)).astype(np.float32)
    scores = np.round(scores, 0 if ties else 7)
    inside = GRID[:, 1] <= num_frames
    found = snap(GRID, scores, radius, num_frames)[inside]
    np.testing.assert_array_equal(found, slow_snap(GRID[inside], scores, radius, num_frames))


@given(st.integers(0, 2**32 - 1), st.sampled_from((1, 2)))
def test_longer_segments_may_snap_further(seed: int, radius: int) -> None:
    scores = np.random.default_rng(seed).random((T, 2)).astype(np.float32)
    expected = slow_snap(GRID, scores, radius, T, SCALES)
    np.testing.assert_array_equal(further(GRID, scores, radius, T), expected)
    largest = int(SCALES.max())
    traced = snap(GRID, scores, radius, T, scales=SCALES, largest=largest)
    np.testing.assert_array_equal(traced, expected)


def test_snapping_again_changes_nothing_where_peaks_are_far_apart() -> None:
    scores = np.zeros((T, 2), np.float32)
    scores[[3, 13], 0] = scores[[9, 20], 1] = 1.0
    once = snap(GRID, scores, 2, T)
    assert (np.asarray(once) != GRID).any()
    np.testing.assert_array_equal(snap(once, scores, 2, T), once)
    assert [3, 10] in once.tolist()  # of [4, 8), [4, 12) and such: frame 3 to the end of frame 9


def test_a_segment_of_which_nothing_would_be_left_stays() -> None:
    scores = np.zeros((T, 2), np.float32)
    scores[6, 0] = scores[5, 1] = 1.0
    np.testing.assert_array_equal(snap(np.array([[4, 8]]), scores, 3, T), [[4, 8]])


def slow_centre(
    segments: np.ndarray, logits: np.ndarray, radius: int, num_frames: int
) -> np.ndarray:
    moved = segments.astype(float)
    for row, (start, end) in enumerate(segments):
        for side, frame in enumerate((start, end - 1)):
            reach = min(radius, frame, num_frames - 1 - frame)
            near = range(frame - reach, frame + reach + 1)
            moved[row, side] = side + np.average(near, weights=np.exp(logits[near, side] / 2))
        if moved[row, 0] >= moved[row, 1]:
            moved[row] = segments[row]
    return moved


@given(st.integers(0, 2**32 - 1), st.sampled_from(RADII), st.sampled_from([8, 20, 24]))
def test_centre_against_a_loop(seed: int, radius: int, num_frames: int) -> None:
    logits = np.random.default_rng(seed).normal(scale=4, size=(T, 2)).astype(np.float32)
    inside = GRID[:, 1] <= num_frames
    found = centre(GRID, logits, radius, num_frames)[inside]
    expected = slow_centre(GRID[inside], logits, radius, num_frames)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_centre_stays_with_scores_that_are_symmetric_and_ends_are_those_of_frames() -> None:
    logits = np.full((T, 2), -40.0, np.float32)
    logits[[9, 10, 11], 0] = 1.0
    logits[[14, 16], 1] = 2.0
    np.testing.assert_allclose(centre(np.array([[10, 16]]), logits, 3, T), [[10, 16]], atol=1e-5)
    np.testing.assert_allclose(centre(np.array([[11, 15]]), logits, 3, T), [[10, 16]], atol=1e-5)


def test_centre_leaves_what_lies_beyond_the_video() -> None:
    logits = np.random.default_rng(0).normal(size=(T, 2)).astype(np.float32)
    np.testing.assert_array_equal(centre(GRID, logits, 2, 0), GRID)
    found = centre(np.array([[0, 12], [14, 20]]), logits, 2, 12)
    np.testing.assert_array_equal(found, [[0, 12], [14, 20]])  # edges of the recording stay


@pytest.mark.parametrize("shift", [0.0, 0.4, -0.4])
def test_scores_are_those_of_the_first_and_last_frame(shift: float) -> None:
    scores = np.random.default_rng(0).random((T, 2)).astype(np.float32)
    found = boundary_scores(GRID + shift, scores)
    expected = [[scores[start, 0], scores[end - 1, 1]] for start, end in GRID]
    np.testing.assert_array_equal(found, expected)
