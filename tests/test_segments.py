"""Temporal intersection over union, against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segtad_jax.ops import segments

pairwise_tiou = jax.jit(segments.pairwise_tiou)


def slow_tiou(a, b):
    """By the definition, in Python floats."""
    result = np.zeros((len(a), len(b)))
    for i, (s, e) in enumerate(np.asarray(a, float)):
        for j, (u, v) in enumerate(np.asarray(b, float)):
            both = max(0.0, min(e, v) - max(s, u))
            either = (e - s) + (v - u) - both
            result[i, j] = both / either if either > 0 else 0.0
    return result


def integer_segments(size):  # of one size, so that a test compiles once
    starts_and_lengths = arrays(np.int32, (size, 2), elements=st.integers(0, 1000))
    return starts_and_lengths.map(lambda x: np.stack([x[:, 0], x.sum(1, dtype=np.int32)], axis=1))


@given(integer_segments(6), integer_segments(4))
def test_equals_the_definition_for_integers_and_floats(a, b):
    expected = slow_tiou(a, b)
    np.testing.assert_allclose(pairwise_tiou(a, b), expected, rtol=2e-7)
    floats = pairwise_tiou(jnp.asarray(a, jnp.float32) / 8, jnp.asarray(b, jnp.float32) / 8)
    np.testing.assert_allclose(floats, expected, rtol=2e-7)


@given(integer_segments(6), integer_segments(4))
def test_is_symmetric_and_between_0_and_1(a, b):
    tiou = np.asarray(pairwise_tiou(a, b))
    np.testing.assert_array_equal(tiou, np.asarray(pairwise_tiou(b, a)).T)
    assert ((tiou >= 0) & (tiou <= 1)).all()
    itself = np.diag(np.asarray(pairwise_tiou(a, a)))
    np.testing.assert_array_equal(itself, a[:, 1] > a[:, 0])


@given(integer_segments(6), integer_segments(4), st.integers(-500, 500), st.integers(1, 9))
def test_does_not_depend_on_origin_or_unit(a, b, shift, scale):
    moved = pairwise_tiou(a * scale + shift, b * scale + shift)
    np.testing.assert_array_equal(moved, pairwise_tiou(a, b))


def test_equal_ratios_tie_exactly():
    a = np.array([[0, 3]])
    b = np.array([[0, 1], [2, 3], [-3, 6], [0, 9]])
    assert len(set(np.asarray(pairwise_tiou(a, b))[0].tolist())) == 1


def test_without_length_it_is_0_with_finite_gradients():
    a = jnp.array([[2.0, 2.0], [0.0, 4.0]])
    b = jnp.array([[2.0, 2.0], [4.0, 6.0]])
    np.testing.assert_array_equal(pairwise_tiou(a, b), np.zeros((2, 2)))
    gradients = jax.grad(lambda a, b: pairwise_tiou(a, b).sum(), argnums=(0, 1))(a, b)
    assert all(np.isfinite(g).all() for g in gradients)


def test_jit_and_vmap_change_nothing():
    rng = np.random.default_rng(0)
    a, b = np.sort(rng.random((2, 3, 5, 2), np.float32), axis=-1)
    batched = jax.jit(jax.vmap(segments.pairwise_tiou))(a, b)
    for x, y, z in zip(a, b, batched, strict=True):
        np.testing.assert_allclose(z, slow_tiou(x, y), rtol=1e-5)
        plain = segments.pairwise_tiou(jnp.asarray(x), jnp.asarray(y))
        np.testing.assert_allclose(z, plain, rtol=1e-6)
