"""Targets against the definitions of design, frame by frame."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtad_jax import targets
from segtad_jax.ops.proposals import proposal_grid

T = 40


def segments_and_labels():
    """Segments that may reach beyond the window, at least partly inside it."""
    start = st.floats(-0.5, 0.97)
    length = st.floats(0.01, 1.0)
    segment = st.tuples(start, length).map(lambda x: (x[0], x[0] + x[1]))
    inside = segment.filter(lambda s: s[1] > 0.01)
    one = st.tuples(inside, st.integers(1, 3), st.booleans())
    return st.lists(one, min_size=5, max_size=5)  # of one size, so that a test compiles once


def arrays(actions):
    segments, labels, valid = zip(*actions, strict=True)
    return np.array(segments, np.float32), np.array(labels, np.int32), np.array(valid)


frame_classes = jax.jit(targets.frame_classes, static_argnames=("num_frames", "num_classes"))
boundary_labels = jax.jit(targets.boundary_labels, static_argnames=("num_frames", "radius"))


def slow_frames(start: float, end: float) -> range:
    first = int(np.floor(start * T + 1e-4))
    return range(first, max(int(np.floor(end * T + 1e-4)), first + 1))


@given(segments_and_labels(), st.integers(0, 2))
def test_labels_of_frames_against_a_loop(actions, radius) -> None:
    segments, labels, valid = arrays(actions)
    classes, starts, ends = [set() for _ in range(T)], np.zeros(T), np.zeros(T)
    for (start, end), label, counts in zip(segments, labels, valid, strict=True):
        if not counts:
            continue
        frames = slow_frames(start, end)
        for t in range(T):
            classes[t] |= {label} if t in frames else set()
            for found, frame in ((starts, frames[0]), (ends, frames[-1])):
                found[t] = max(found[t], 0 <= frame < T and abs(t - frame) <= radius)
    shares = [[(c in (known or {0})) / max(len(known), 1) for c in range(4)] for known in classes]
    np.testing.assert_array_equal(frame_classes(segments, labels, valid, T, 3), np.float32(shares))
    found = boundary_labels(segments, valid, T, radius)
    np.testing.assert_array_equal(found[0], starts)
    np.testing.assert_array_equal(found[1], ends)


def test_a_third_of_the_way_is_that_frame_in_float32() -> None:
    frames = jnp.arange(1000)
    segments = jnp.stack([frames / 1000, (frames + 1) / 1000], axis=1)  # [1000, 2], float32
    one = functools.partial(targets.frame_classes, num_frames=1000, num_classes=1)
    each = jax.vmap(one, (0, None, None))
    classes = each(segments[:, None], jnp.ones(1, jnp.int32), jnp.ones(1, bool))
    np.testing.assert_array_equal(classes[..., 1], np.eye(1000))


def test_proposal_tiou_is_the_best_of_the_valid() -> None:
    proposals = jnp.array([[0.0, 4.0], [4.0, 8.0], [20.0, 24.0]])
    segments = jnp.array([[0.0, 2.0], [0.0, 4.0], [5.0, 9.0]])
    valid = jnp.array([True, False, True])
    np.testing.assert_allclose(
        targets.proposal_tiou(proposals, segments, valid), [0.5, 3 / 5, 0.0], rtol=1e-6
    )
    none = targets.proposal_tiou(proposals, jnp.zeros((0, 2)), jnp.zeros(0, bool))
    np.testing.assert_array_equal(none, 0.0)


@pytest.mark.parametrize(("start", "counts"), [(-0.1, True), (-0.4, True), (-0.41, False)])
def test_a_cut_action_counts_for_proposals_when_half_of_it_is_inside(start, counts) -> None:
    segments = jnp.array([[start, start + 0.8]])
    found = targets.video_targets(
        segments, jnp.ones(1, jnp.int32), jnp.ones(1, bool), jnp.array(proposal_grid(T, 4)), T, 1, 1
    )
    assert (found.tiou.max() > 0) == counts
    assert found.frame_classes[:, 1].any()  # frames are labelled all the same
    assert not found.starts.any()  # but a start that is not in the window is no start
    assert found.ends.any()


@pytest.mark.slow
def test_proposals_are_labelled_with_the_actions_that_count() -> None:
    segments = jnp.array([[-0.1, 0.3], [0.5, 0.9], [0.05, 0.4], [-0.4, 0.1]])
    labels, valid = jnp.array([1, 2, 3, 1]), jnp.array([True, True, False, True])
    grid = jnp.array(proposal_grid(T, 8))
    found = targets.video_targets(segments, labels, valid, grid, T, 3, 0)
    np.testing.assert_array_equal(found.counted, [True, True, False, False])
    np.testing.assert_allclose(found.actions[:2], [[0, 0.3 * T], [0.5 * T, 0.9 * T]], rtol=1e-6)
    assert (found.tiou > 0.5).sum() > 4
    np.testing.assert_allclose(
        targets.proposal_tiou(grid, found.actions, found.counted), found.tiou, rtol=1e-6
    )
    none = targets.video_targets(segments[:0], labels[:0], valid[:0], grid, T, 3, 0)
    assert not none.tiou.any()
    np.testing.assert_array_equal(none.frame_classes, np.eye(4)[[0] * T])


@pytest.mark.parametrize("frame", [10.0, 9.98, 10.02, 9.4])
def test_a_window_has_the_labels_of_the_recording(frame: float) -> None:
    """An action of 17.6 frames around a cut at frame 10: where it begins and ends, and halfway."""
    valid = jnp.ones(1, bool)
    for start, end in ((frame, frame + 17.6), (frame - 17.6, frame), (frame - 8.8, frame + 8.8)):
        whole = {t for t in range(-20, 40) if np.floor(start + 1e-4) <= t < np.floor(end + 1e-4)}
        seen, ends = set(), []
        for offset in range(-20, 40, 10):
            segments = jnp.array([[start - offset, end - offset]]) / 10
            classes = targets.frame_classes(segments, jnp.ones(1, jnp.int32), valid, 10, 1)
            seen |= {offset + t for t in np.flatnonzero(classes[:, 1])}
            _, found = targets.boundary_labels(segments, valid, 10, 0)
            ends += [offset + t for t in np.flatnonzero(found)]
        assert seen == whole
        assert ends == [max(whole)]


def test_frames_of_two_classes_are_of_both() -> None:
    """CliffDiving is Diving as well: whichever stands later in the file, neither loses a frame."""
    segments = jnp.array([[0.1, 0.5], [0.1, 0.5], [0.4, 0.6], [0.45, 0.6]])
    labels, valid = jnp.array([1, 2, 2, 2]), jnp.array([True] * 4)
    found = targets.frame_classes(segments, labels, valid, 20, 3)
    np.testing.assert_array_equal(found[2:10], [[0, 0.5, 0.5, 0]] * 8)
    np.testing.assert_array_equal(found[10:12], [[0, 0, 1, 0]] * 2)  # a class counts once
    order = jnp.array([3, 1, 0, 2])
    again = targets.frame_classes(segments[order], labels[order], valid, 20, 3)
    np.testing.assert_array_equal(found, again)


def test_one_frame_and_nothing_but_action() -> None:
    one = jnp.array([[0.5, 0.5]])
    labels, valid = jnp.ones(1, jnp.int32), jnp.ones(1, bool)
    assert targets.frame_classes(one, labels, valid, T, 1)[:, 1].sum() == 1
    whole = jnp.array([[0.0, 1.0]])
    starts, ends = targets.boundary_labels(whole, jnp.ones(1, bool), T, 0)
    assert np.flatnonzero(starts).tolist() == [0]
    assert np.flatnonzero(ends).tolist() == [T - 1]


def test_room_for_more_actions_changes_no_bit() -> None:
    segments = jnp.array([[0.1, 0.3], [-0.2, 0.25], [0.8, 1.4]])
    labels, valid, grid = (
        jnp.array([1, 2, 3]),
        jnp.array([True] * 3),
        jnp.array(proposal_grid(T, 4)),
    )
    label = jax.jit(targets.video_targets, static_argnums=(4, 5, 6))
    few = label(segments, labels, valid, grid, T, 3, 1)
    more = (jnp.pad(x, [(0, 9)] + [(0, 0)] * (x.ndim - 1)) for x in (segments, labels, valid))
    many = label(*more, grid, T, 3, 1)
    many = many._replace(actions=many.actions[:3], counted=many.counted[:3])
    jax.tree.map(np.testing.assert_array_equal, few, many)


def test_jit_equals_no_jit() -> None:
    segments = jnp.array([[0.1, 0.3], [-0.2, 0.25], [0.8, 1.4]])
    arguments = (segments, jnp.array([1, 2, 3]), jnp.array([True, True, True]))
    grid = jnp.array(proposal_grid(T, 4))
    plain = targets.video_targets(*arguments, grid, T, 3, 1)
    compiled = jax.jit(targets.video_targets, static_argnums=(4, 5, 6))(*arguments, grid, T, 3, 1)
    jax.tree.map(np.testing.assert_array_equal, plain, compiled)
