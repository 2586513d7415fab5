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
    out = np.zeros((len(segments), num_bins, np.shape(features)[1]))
    for m, (start, end) in enumerate(np.asarray(segments, np.float64)):
        length = end - start
        edges = np.linspace(start - context * length, end + context * length, num_bins + 1)
        for r in range(num_bins):
            if length > 0:
                total = slow_integral(features, edges[r], edges[r + 1], interpolation)
                out[m, r] = total / (edges[r + 1] - edges[r])
    return out


def random_features(num_nodes, num_channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(num_nodes, num_channels)).astype(np.float32)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("num_nodes", [1, 2, 9])
def test_running_integral_is_the_integral_from_0(interpolation, num_nodes):
    features = random_features(num_nodes)
    points = np.concatenate([np.arange(-3, num_nodes + 4) / 1.0, np.linspace(-2.7, 11.3, 40)])
    expected = [slow_integral(features, 0, x, interpolation) for x in points]
    compiled = jax.jit(align.running_integral, static_argnames="interpolation")
    for function in (align.running_integral, compiled):
        found = function(features, points, interpolation=interpolation)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@given(
    arrays(np.float32, (7, 2), elements=st.floats(-10, 10, width=32)),
    st.tuples(*[st.floats(-4, 12, width=32)] * 3),
    st.sampled_from(INTERPOLATIONS),
)
def test_integrals_over_adjoining_parts_add_up(features, points, interpolation):
    a, b, c = sorted(points)
    at = np.asarray(align.running_integral(features, np.float32([a, b, c]), interpolation))
    left = slow_integral(features, a, b, interpolation)
    right = slow_integral(features, b, c, interpolation)
    np.testing.assert_allclose(at[1] - at[0], left, atol=1e-4)
    np.testing.assert_allclose(at[2] - at[0], left + right, atol=1e-4)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("num_bins", "context"), [(32, 0.5), (8, 0.5), (5, 0.0), (1, 1.0)])
def test_sgalign_takes_the_mean_over_each_bin(interpolation, num_bins, context):
    features = random_features(24)
    rng = np.random.default_rng(1)
    anywhere = np.sort(rng.uniform(-6, 30, (10, 2)), axis=1).astype(np.float32)
    for segments in (anywhere, proposal_grid(24, 8)):
        expected = slow_sgalign(features, segments, num_bins, context, interpolation)
        found = align.sgalign(features, segments, num_bins, context, interpolation)
        np.testing.assert_allclose(found, expected, atol=5e-5)


def test_sgalign_by_default():
    features = random_features(24)
    segments = proposal_grid(24, 8)
    expected = slow_sgalign(features, segments, 32, 0.5, "constant")
    np.testing.assert_allclose(align.sgalign(features, segments), expected, atol=1e-5)


def test_by_hand():
    features = jnp.arange(8.0)[:, None] + 1  # 1, 2, .. 8
    # [2, 6) widened to [0, 8); [0, 4) to [-2, 6), where the first quarter is outside.
    constant = align.sgalign(features, np.array([[2, 6], [0, 4]]), num_bins=4)
    np.testing.assert_allclose(constant[..., 0], [[1.5, 3.5, 5.5, 7.5], [0, 1.5, 3.5, 5.5]])
    linear = align.sgalign(features, np.array([[2, 6], [0, 4]]), 4, interpolation="linear")
    # Node t is at t: over [6, 8) from 7 to 8, then 8; over [-2, 0) half outside, half the first.
    np.testing.assert_allclose(linear[..., 0], [[2, 4, 6, 7.75], [0.5, 2, 4, 6]])


@given(st.floats(-50, 50, width=32), st.sampled_from(INTERPOLATIONS), st.integers(0, 2**31 - 1))
def test_a_constant_stays_itself_inside_and_nothing_is_outside(value, interpolation, seed):
    num_frames = 40
    rng = np.random.default_rng(seed)
    inside = np.sort(rng.uniform(14, 26, (6, 2)), axis=1)  # widened: within [8, 32]
    inside[:, 1] += 0.5
    outside = inside + rng.choice([-80, 80], (6, 1))
    features = np.full((num_frames, 1), value, np.float32)
    bins = align.sgalign(features, np.concatenate([inside, outside]), 8, 0.5, interpolation)
    np.testing.assert_allclose(bins[:6], value, rtol=1e-5, atol=1e-6)
    assert not np.asarray(bins[6:]).any()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_an_offset_does_not_cost_the_digits_of_short_segments(interpolation):
    features = random_features(1000, 4) + 50  # a plain running sum is off by about 1e-2 here
    segments = np.stack([np.arange(0, 992, 8), np.arange(8, 1000, 8)], axis=1)
    found = align.sgalign(features, segments, 32, 0.5, interpolation)
    picked = np.array([0, 40, 123])
    expected = slow_sgalign(features, segments[picked], 32, 0.5, interpolation)
    np.testing.assert_allclose(found[picked], expected, atol=4e-4)

    grid = align.lattice(1000, 8, 32, interpolation=interpolation)
    rows = np.flatnonzero((proposal_grid(1000, 8) == segments[picked][:, None]).all(-1).any(0))
    one_channel = np.zeros((32, 4, 32), np.float32)
    one_channel[np.arange(32), 1, np.arange(32)] = 1  # copies channel 1 of every bin
    found = bin_projection.align_and_project(features, grid, rows, one_channel, interpolation)
    np.testing.assert_allclose(found, expected[..., 1], atol=4e-4)


def test_without_length_bins_are_0_with_finite_gradients():
    segments = np.array([[3.0, 3.0], [2.0, 5.0]])

    def total(x):
        return align.sgalign(x, segments, 4).sum()

    assert not np.asarray(align.sgalign(random_features(8), segments, 4)[0]).any()
    gradient = np.asarray(jax.grad(total)(jnp.asarray(random_features(8))))
    assert np.isfinite(gradient).all()
    assert gradient.any()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_gradients(interpolation):
    num_frames, stride, num_bins = 24, 4, 8
    features = jnp.asarray(random_features(num_frames) + 5)
    segments = proposal_grid(num_frames, stride)
    rng = np.random.default_rng(2)
    cotangent = rng.normal(size=(len(segments), num_bins, 3))
    direction = rng.normal(size=features.shape)
    bins = slow_sgalign(direction, segments, num_bins, 0.5, interpolation)  # linear in features
    gradient = jax.grad(
        lambda x: (align.sgalign(x, segments, num_bins, 0.5, interpolation) * cotangent).sum()
    )(features)
    np.testing.assert_allclose(
        (gradient * direction).sum(), (bins * cotangent).sum(), rtol=1e-4, atol=1e-3
    )

    grid = align.lattice(num_frames, stride, num_bins, interpolation=interpolation)
    kernel = jnp.asarray(rng.normal(size=(num_bins, 3, 2)), jnp.float32)
    outer = rng.normal(size=(len(segments), 2))

    def total(x, kernel):
        out = bin_projection.align_and_project(
            x, grid, np.arange(len(segments)), kernel, interpolation
        )
        return (out * outer).sum()

    by_features, by_kernel = jax.grad(total, argnums=(0, 1))(features, kernel)
    expected = np.einsum("nrc,rcw,nw", bins, kernel, outer)
    np.testing.assert_allclose((by_features * direction).sum(), expected, rtol=1e-4, atol=1e-3)
    exact = slow_sgalign(features, segments, num_bins, 0.5, interpolation)
    np.testing.assert_allclose(
        by_kernel, np.einsum("nrc,nw->rcw", exact, outer), rtol=1e-4, atol=1e-3
    )


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


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("decoder_stride", [1, 4])
def test_align_and_project_is_sgalign_and_a_linear_layer(interpolation, decoder_stride):
    num_frames, stride, num_bins = 48, 8, 8
    segments = proposal_grid(num_frames, stride)
    features = random_features(num_frames // decoder_stride, 5)
    kernel = np.random.default_rng(3).normal(size=(num_bins, 5, 7)).astype(np.float32)
    grid = align.lattice(num_frames, stride, num_bins, 0.5, interpolation, decoder_stride)
    bins = slow_sgalign(features, segments / decoder_stride, num_bins, 0.5, interpolation)
    expected = np.einsum("nrc,rcw->nw", bins, kernel)
    some = np.array([20, 3, 3, 11])
    compiled = jax.jit(bin_projection.align_and_project, static_argnames="interpolation")
    for function in (bin_projection.align_and_project, compiled):
        for rows in (np.arange(len(segments)), some):
            out = function(features, grid, rows, kernel, interpolation=interpolation)
            np.testing.assert_allclose(out, expected[rows], rtol=1e-4, atol=1e-4)


def test_vmap_equals_a_loop_and_integrals_are_float32_whatever_the_dtype():
    grid = align.lattice(32, 4, 8)
    kernel = jnp.ones((8, 3, 2))

    def one(x):
        return bin_projection.align_and_project(x, grid, np.arange(len(grid.edges)), kernel)

    batch = np.stack([random_features(32, seed=seed) for seed in range(3)])
    for x, out, bins in zip(
        batch,
        jax.vmap(one)(batch),
        jax.vmap(lambda x: align.sgalign(x, np.array([[0, 8]])))(batch),
        strict=True,
    ):
        np.testing.assert_allclose(out, one(x), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(bins, align.sgalign(x, np.array([[0, 8]])), atol=1e-5)

    half = jnp.asarray(batch[0], jnp.bfloat16)
    assert align.running_integral(half, np.array([1.0])).dtype == jnp.float32
    np.testing.assert_array_equal(
        align.sgalign(half, np.array([[0, 8]])),
        align.sgalign(half.astype(jnp.float32), np.array([[0, 8]])),
    )
    out = bin_projection.align_and_project(
        half, grid, np.arange(len(grid.edges)), kernel.astype(jnp.bfloat16)
    )
    assert out.dtype == jnp.float32


def test_errors_name_the_numbers():
    with pytest.raises(ValueError, match=r"num_bins=30 must be a positive multiple of 4 for cont"):
        align.lattice(64, 8, 30)
    with pytest.raises(ValueError, match="num_bins=0"):
        align.lattice(64, 8, 0)
    with pytest.raises(ValueError, match=r"decoder_stride=3 does not divide num_frames=64: choose"):
        align.lattice(64, 8, 32, decoder_stride=3)
    with pytest.raises(ValueError, match=r"num_frames=60 .* stride=8"):
        align.lattice(60, 8, 32)
    with pytest.raises(ValueError, match=r"interpolation='cubic' is unknown: use one of .*linear"):
        align.sgalign(random_features(8), np.array([[0, 8]]), interpolation="cubic")
