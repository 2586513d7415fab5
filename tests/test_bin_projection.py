"""SGAlign with its linear layer, in both orders, against bins made one by one and multiplied."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segtad_jax.ops import align, bin_projection
from segtad_jax.ops.proposals import proposal_grid
from tests.test_align import INTERPOLATIONS, random_features, slow_sgalign

FORMS = (bin_projection.align_and_project, bin_projection.project_and_align)


def both_forms(
    grid: align.Lattice,
    interpolation: str,
    num_nodes: int | None = None,
    rows: np.ndarray | None = None,
):
    """Bins first, and projected first; of the whole grid by default."""

    def bound(form):
        at = None if rows is None else jnp.asarray(rows)
        return jax.jit(lambda x, kernel: form(x, grid, at, kernel, interpolation, num_nodes))

    return [bound(form) for form in FORMS]


@pytest.mark.parametrize("every_row", [True, False])
@pytest.mark.parametrize(
    # Lattice points two to a node, one, one to two nodes; a decoder of stride 4; no context.
    ("num_frames", "stride", "num_bins", "context", "decoder_stride", "interpolation"),
    [
        (48, 8, 32, 0.5, 1, "constant"),
        (48, 8, 32, 0.5, 1, "linear"),
        (48, 8, 16, 0.5, 1, "constant"),
        (64, 16, 8, 0.5, 1, "constant"),
        (64, 8, 16, 0.5, 4, "constant"),
        (64, 8, 16, 0.5, 4, "linear"),
        (32, 4, 1, 0.0, 1, "constant"),
    ],
)
def test_both_orders_in_float64_are_the_bins_and_the_linear_layer(
    num_frames, stride, num_bins, context, decoder_stride, interpolation, every_row
):
    rng = np.random.default_rng(0)
    segments = proposal_grid(num_frames, stride)
    features = rng.normal(size=(num_frames // decoder_stride, 3)) + 5
    direction = rng.normal(size=features.shape)
    kernel = rng.normal(size=(num_bins, 3, 2))
    rows = None if every_row else rng.integers(len(segments), size=30)  # some more than once
    at = segments[np.arange(len(segments)) if every_row else rows] / decoder_stride
    outer = rng.normal(size=(len(at), 2))
    bins = slow_sgalign(features, at, num_bins, context, interpolation)
    moved = slow_sgalign(direction, at, num_bins, context, interpolation)  # it is linear
    grid = align.lattice(num_frames, stride, num_bins, context, interpolation, decoder_stride)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
    with jax.enable_x64(True):
        for form in both_forms(grid, interpolation, rows=rows):
            found, pull = jax.vjp(form, jnp.asarray(features), jnp.asarray(kernel))
            assert found.dtype == jnp.float64
            by_features, by_kernel = pull(jnp.asarray(outer))
            close(found, np.einsum("nrc,rcw->nw", bins, kernel))
            expected = np.einsum("nrc,rcw,nw", moved, kernel, outer)
            close((by_features * direction).sum(), expected)
            close(by_kernel, np.einsum("nrc,nw->rcw", bins, outer))


@pytest.mark.slow
# Far from zero a running sum that is not centred is off by 2.6e-4 of the mean and more.
@pytest.mark.parametrize(("offset", "bound"), [(0, 1e-3), (100, 1e-4)])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_float32_keeps_its_digits_on_features_that_drift(interpolation, offset, bound):
    rng = np.random.default_rng(0)
    # From 10 to -10 within the video, and an offset: what a running sum cancels worst.
    drift = 10 * np.cos(np.linspace(0, np.pi, 1000))[:, None] + offset + rng.normal(size=8)
    features = (rng.normal(size=(1000, 8)) + drift).astype(np.float32)
    kernel = rng.normal(size=(32, 8, 8)) / 16
    grid = align.lattice(1000, 8, 32, interpolation=interpolation)
    with jax.enable_x64(True):
        bins_first, _ = both_forms(grid, interpolation)
        outer = rng.normal(size=(len(grid.edges), 8))
        exact, pull = jax.vjp(bins_first, jnp.asarray(features, jnp.float64), jnp.asarray(kernel))
        exact, *exact_gradients = jax.device_get((exact, *pull(jnp.asarray(outer))))
    for form in both_forms(grid, interpolation):
        found, pull = jax.vjp(form, jnp.asarray(features), jnp.asarray(kernel, jnp.float32))
        assert found.dtype == jnp.float32
        # CPUs sum in different orders: the worst of 63,000 values was off by 5.7e-4 on one.
        assert np.abs(found - exact).max() < bound * np.abs(exact).mean()
        gradients = pull(jnp.asarray(outer, jnp.float32))
        for gradient, expected in zip(gradients, exact_gradients, strict=True):
            assert gradient.dtype == jnp.float32
            assert np.abs(gradient - expected).max() < 1e-3 * np.abs(expected).mean()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_padding_changes_nothing_where_the_video_is(interpolation):
    features = random_features(32, 3)
    padded = np.concatenate([features, np.zeros((16, 3), np.float32)])
    kernel = random_features(8, 12).reshape(8, 3, 4)
    alone, whole = (align.lattice(n, 4, 8, interpolation=interpolation) for n in (32, 48))
    end_before = proposal_grid(48, 4)[:, 1] <= 32
    for form, of_padded in zip(
        both_forms(alone, interpolation),
        both_forms(whole, interpolation, num_nodes=32),
        strict=True,
    ):
        found = of_padded(padded, kernel)[end_before]
        np.testing.assert_allclose(found, form(features, kernel), atol=1e-4)


def test_align_and_project_is_sgalign_and_a_linear_layer():
    """In float32, with and without jit, of some proposals and of a batch of videos."""
    grid, kernel = align.lattice(48, 8, 8), random_features(8, 35, seed=3).reshape(8, 5, 7)
    rows = np.array([20, 3, 3, 11])
    videos = np.stack([random_features(48, 5, seed) for seed in range(3)])
    segments = proposal_grid(48, 8)[rows]
    bins = [slow_sgalign(x, segments, 8, 0.5, "constant") for x in videos]
    expected = np.einsum("bnrc,rcw->bnw", bins, kernel)
    one = functools.partial(
        bin_projection.align_and_project,
        lattice=grid,
        rows=jnp.asarray(rows),
        kernel=jnp.asarray(kernel),
    )
    plain = one(jnp.asarray(videos[0]))
    assert plain.dtype == jnp.float32
    np.testing.assert_allclose(plain, expected[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jax.jit(jax.vmap(one))(videos), expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_multiplies_in_it_and_adds_in_float32():
    grid = align.lattice(64, 8, 32)
    features = jnp.asarray(random_features(64, 16))
    kernel = random_features(32, 16 * 8).reshape(32, 16, 8)
    exact = bin_projection.align_and_project(features, grid, None, jnp.asarray(kernel))
    half = jnp.asarray(kernel, jnp.bfloat16)
    assert align.running_integral(features.astype(half.dtype), jnp.ones(1)).dtype == jnp.float32

    def total(kernel):
        found = bin_projection.align_and_project(features, grid, None, kernel)
        assert found.dtype == jnp.float32
        return jnp.sum(found**2) / 2, found

    by_kernel, found = jax.jit(jax.grad(total, has_aux=True))(half)
    assert by_kernel.dtype == jnp.bfloat16
    error = np.abs(found - exact).mean() / np.abs(exact).mean()
    assert 1e-4 < error < 1e-2  # rounded once, not once for each of 32 bins


@pytest.mark.parametrize(
    # Nodes and edges against proposals and bins: training at ActivityNet's and at HACS' shapes,
    # and detection; where the integral is not linear between nodes, all points are projected.
    ("num_frames", "proposals", "interpolation", "expected"),
    [
        (1000, 850, "constant", False),
        (1000, 7875, "constant", True),
        (400, 850, "constant", True),
        (400, 621, "constant", True),
        (400, 620, "constant", False),
        (400, 850, "linear", False),
    ],
)
def test_projected_first_is_what_takes_clearly_fewer_products(
    num_frames, proposals, interpolation, expected
):
    grid = align.lattice(num_frames, 8, 32, interpolation=interpolation)
    assert bin_projection.prefer_project_first(grid, num_frames, proposals) == expected
