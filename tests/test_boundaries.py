"""Snapping and scores at boundaries, against loops and by properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtad_jax.ops.boundaries import boundary_scores, snap
from segtad_jax.ops.proposals import proposal_grid

T = 24
GRID = proposal_grid(T, 4)


def slow_snap(segments: np.ndarray, scores: np.ndarray, radius: int, num_frames: int) -> np.ndarray:
    moved = segments.astype(float)
    for row, (start, end) in enumerate(segments):
        found = []
        for side, frame in enumerate((start, end - 1)):
            near = [f for f in range(num_frames) if abs(f - frame) <= radius]
            best = max(near, key=lambda f: (scores[f, side], -abs(f - frame), -f))
            found.append(best + side)
        if found[0] < found[1]:
            moved[row] = found
    return moved


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.sampled_from([8, 20, 24]), st.booleans())
def test_snap_against_a_loop(seed: int, radius: int, num_frames: int, ties: bool) -> None:
    scores = np.random.default_rng(seed).random((T, 2)).astype(np.float32)
    scores = np.round(scores, 0 if ties else 7)
    inside = GRID[GRID[:, 1] <= num_frames]
    found = snap(inside, scores, radius, num_frames)
    np.testing.assert_array_equal(found, slow_snap(inside, scores, radius, num_frames))


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


@pytest.mark.parametrize("shift", [0.0, 0.4, -0.4])
def test_scores_are_those_of_the_first_and_last_frame(shift: float) -> None:
    scores = np.random.default_rng(0).random((T, 2)).astype(np.float32)
    found = boundary_scores(GRID + shift, scores)
    expected = [[scores[start, 0], scores[end - 1, 1]] for start, end in GRID]
    np.testing.assert_array_equal(found, expected)
