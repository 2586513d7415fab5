"""The running integral and the lattice of bin edges, against integrals piece by piece."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segtad_jax.ops import align, bin_projection
from segtad_jax.ops.proposals import proposal_grid

INTERPOLATIONS = ("constant", "linear")
running_integral = jax.jit(align.running_integral, static_argnames="interpolation")


def slow_integral(features, a, b, interpolation):
    """Integral of the features from a to b, piece by piece between the nodes, in float64."""
    features = np.asarray(features, np.float64)
    if b < a:
        return -slow_integral(features, b, a, interpolation)
    num_nodes = len(features)
    inner = [x for x in range(-1, num_nodes + 1) if a < x < b]
    total = np.zeros(features.shape[1])
    for left, right in zip([a, *inner], [*inner, b], strict=True):
        middle = (left + right) / 2
        if interpolation == "constant":
            inside = 0 <= middle < num_nodes
            value = features[int(middle)] if inside else 0
        else:
            inside = -1 <= middle <= num_nodes
            nodes = np.arange(num_nodes)
            value = np.array([np.interp(middle, nodes, channel) for channel in features.T])
        total += (right - left) * (value if inside else 0)  # linear: the middle is the mean
    return total


def slow_sgalign(features, segments, num_bins, context, interpolation):
    """[M, R, C] means over the bins of each segment, widened by `context` of its length."""
    out = np.zeros((len(segments), num_bins, np.shape(features)[1]))
    for m, (start, end) in enumerate(np.asarray(segments, np.float64)):
        length = end - start
        edges = np.linspace(start - context * length, end + context * length, num_bins + 1)
        for r in range(num_bins):
            total = slow_integral(features, edges[r], edges[r + 1], interpolation)
            out[m, r] = total / (edges[r + 1] - edges[r])
    return out


def bins_of_one_channel(features, grid, rows, interpolation="constant", num_nodes=None):
    """[n, R] bins of the package: a linear layer copies them."""
    copy = jnp.eye(grid.edges.shape[1] - 1)[:, None]  # [R, 1, R]
    x, rows = jnp.asarray(features)[:, None], jnp.asarray(rows)
    return bin_projection.align_and_project(x, grid, rows, copy, interpolation, num_nodes)


def random_features(num_nodes, num_channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(num_nodes, num_channels)).astype(np.float32)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("num_nodes", [1, 2, 9])
def test_running_integral_is_the_integral_from_0(interpolation, num_nodes):
    features = random_features(num_nodes)
    points = np.concatenate([np.arange(-3, num_nodes + 4) / 1.0, np.linspace(-2.7, 11.3, 40)])
    expected = [slow_integral(features, 0, x, interpolation) for x in points]
    found = running_integral(features, points, interpolation=interpolation)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if num_nodes == 9:
        plain = align.running_integral(jnp.array(features), jnp.array(points), interpolation)
        np.testing.assert_allclose(plain, expected, atol=1e-5)


@given(
    arrays(np.float32, (7, 2), elements=st.floats(-10, 10, width=32)),
    st.tuples(*[st.floats(-4, 12, width=32)] * 3),
    st.sampled_from(INTERPOLATIONS),
)
def test_integrals_over_adjoining_parts_add_up(features, points, interpolation):
    a, b, c = sorted(points)
    at = np.asarray(running_integral(features, np.float32([a, b, c]), interpolation=interpolation))
    left = slow_integral(features, a, b, interpolation)
    right = slow_integral(features, b, c, interpolation)
    np.testing.assert_allclose(at[1] - at[0], left, atol=1e-4)
    np.testing.assert_allclose(at[2] - at[0], left + right, atol=1e-4)


def test_bins_by_hand():
    features, segments = np.arange(8.0) + 1, proposal_grid(8, 2).tolist()  # 1, 2, .. 8
    # [2, 6) widened to [0, 8); [0, 4) to [-2, 6), where the first quarter is outside.
    rows = np.array([segments.index([2, 6]), segments.index([0, 4])])
    constant = bins_of_one_channel(features, align.lattice(8, 2, 4), rows)
    np.testing.assert_allclose(constant, [[1.5, 3.5, 5.5, 7.5], [0, 1.5, 3.5, 5.5]], atol=1e-6)
    grid = align.lattice(8, 2, 4, interpolation="linear")
    linear = bins_of_one_channel(features, grid, rows, "linear")
    # Node t is at t: over [6, 8) from 7 to 8, then 8; over [-2, 0) half outside, half the first.
    np.testing.assert_allclose(linear, [[2, 4, 6, 7.75], [0.5, 2, 4, 6]], atol=1e-6)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("value", [-50.0, 0.1, 7.3])
def test_a_constant_stays_itself_inside_and_nothing_is_outside(value, interpolation):
    grid = align.lattice(64, 4, 8, interpolation=interpolation)
    segments = proposal_grid(64, 4)
    features = np.full(64, value, np.float32)
    found = bins_of_one_channel(features, grid, np.arange(len(segments)), interpolation)
    start, end = segments.T
    context = (end - start) / 2
    edges = np.linspace(start - context, end + context, 9, axis=1)
    inside = (edges[:, :-1] >= 0) & (edges[:, 1:] <= 64)
    low = 0 if interpolation == "constant" else -1  # the first value is held over [-1, 0]
    outside = (edges[:, 1:] <= low) | (edges[:, :-1] >= 64)
    assert inside.sum() > 50
    assert outside.sum() > 50
    found = np.asarray(found)
    np.testing.assert_allclose(found[inside], value, rtol=1e-5)
    np.testing.assert_allclose(found[outside], 0, atol=1e-5 * abs(value))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_an_offset_does_not_cost_the_digits_of_short_segments(interpolation):
    features = random_features(1000, 1)[:, 0] + 50  # a plain running sum is off by about 1e-2 here
    segments = proposal_grid(1000, 8)
    rows = np.flatnonzero(np.diff(segments)[:, 0] == 8)[[0, 40, 123]]
    expected = slow_sgalign(features[:, None], segments[rows], 32, 0.5, interpolation)
    grid = align.lattice(1000, 8, 32, interpolation=interpolation)
    found = bins_of_one_channel(features, grid, rows, interpolation)
    np.testing.assert_allclose(found, expected[..., 0], atol=4e-4)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("decoder_stride", [1, 4])
@pytest.mark.parametrize(
    ("num_frames", "stride", "num_bins", "context"),
    [(64, 8, 32, 0.5), (60, 12, 4, 0.5), (48, 4, 12, 0.5), (40, 8, 5, 0.0), (36, 3, 6, 1.0)],
)
def test_lattice_holds_all_bin_edges(
    num_frames, stride, num_bins, context, decoder_stride, interpolation
):
    grid = align.lattice(num_frames, stride, num_bins, context, interpolation, decoder_stride)
    assert grid.points.dtype == grid.widths.dtype == np.float32
    assert grid.edges.dtype == np.int32
    assert (np.diff(grid.points) > 0).all()
    start, end = proposal_grid(num_frames, stride).T / decoder_stride
    length = end - start
    low = 0 if interpolation == "constant" else -1
    for r in range(num_bins + 1):
        edge = start - context * length + r * (1 + 2 * context) * length / num_bins
        expected = np.clip(edge, low, num_frames // decoder_stride)
        np.testing.assert_allclose(grid.points[grid.edges[:, r]], expected, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(grid.widths, (1 + 2 * context) * length / num_bins, rtol=1e-6)


def test_lattice_of_the_paper():
    grid = align.lattice(1000, 8, 32)
    assert grid.points.shape == (1 + 1000 * 32 // (2 * 8),)
    assert grid.edges.shape == (7875, 33)
    np.testing.assert_array_equal(grid.points, np.arange(2001) / 2)
    # Linear interpolation needs the frame left of 0 as well.
    assert align.lattice(1000, 8, 32, interpolation="linear").points[:3].tolist() == [-1, -0.5, 0]
