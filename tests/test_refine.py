"""Refined boundaries: what a choice stands for, what cannot be chosen, where losses lead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segtad_jax.ops.proposals import proposal_grid
from segtad_jax.ops.refine import choice_logits, choice_losses, refined_segments

T, B = 24, 8
GRID = proposal_grid(T, 4)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("num_frames", [24, 13])
def test_logits_add_what_frames_and_proposals_say(num_frames: int) -> None:
    fields, own = random(T, 2), random(len(GRID), 2, B)
    found = np.asarray(choice_logits(GRID, fields, own, num_frames))
    for row, segment in enumerate(GRID):
        for side in range(2):
            for k in range(B):
                # Choice k stands for segment[side] + k - 3.5: the middle of a frame in which an
                # action starts, or the time half a frame after the last frame of one.
                frame = int(segment[side] - side + k - B // 2)
                if 0 <= frame < num_frames:
                    expected = fields[frame, side] + own[row, side, k]
                    np.testing.assert_allclose(found[row, side, k], expected, rtol=1e-6)
                else:
                    assert found[row, side, k] < -1e8


@pytest.mark.parametrize(("start", "end"), [(5.5, 12.5), (6.2, 14.9), (4.0, 9.0)])
def test_descending_the_loss_ends_at_the_action(start: float, end: float) -> None:
    segments, target = np.array([[4, 12]]), np.array([[start, end]], np.float32)

    def loss(logits: jax.Array) -> jax.Array:
        losses, within = choice_losses(segments, logits, target)
        assert within.shape == (1, 2)
        return losses.sum()

    logits = jnp.zeros((1, 2, B))
    for _ in range(300):
        logits -= 2.0 * jax.grad(loss)(logits)
    np.testing.assert_allclose(refined_segments(segments, logits), target, atol=0.05)


def test_what_is_not_among_the_choices_has_no_weight() -> None:
    segments = np.array([[8, 16], [8, 16], [0, 24], [0, 24]])
    targets = np.float32([[4.6, 19.4], [4.3, 20.2], [0.5, 24.4], [-3.0, 31.0]])
    logits = choice_logits(segments, random(T, 2), random(4, 2, B), T)
    losses, within = choice_losses(segments, logits, targets)
    np.testing.assert_array_equal(within, [[1, 1], [0, 0], [1, 1], [0, 0]])
    assert np.isfinite(losses).all()
    assert not losses[within == 0].any()
    gradient = jax.grad(lambda x: choice_losses(segments, x, targets)[0].sum())(logits)
    assert np.isfinite(gradient).all()


def test_a_segment_of_which_nothing_would_be_left_stays() -> None:
    logits = jnp.full((1, 2, B), -30.0).at[0, 0, B - 1].set(30.0).at[0, 1, 0].set(30.0)
    np.testing.assert_array_equal(refined_segments(np.array([[4, 8]]), logits), [[4, 8]])
    np.testing.assert_allclose(refined_segments(np.array([[4, 16]]), logits), [[7.5, 12.5]])
