"""Neighbours, edge weights and edge convolutions, against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segtad_jax.ops import graph

AGGREGATES = ("sum", "mean", "max")
nearest_neighbours = jax.jit(graph.nearest_neighbours, static_argnames="k")
edge_convolution = jax.jit(graph.edge_convolution, static_argnames="aggregate")
cosine_attention = jax.jit(graph.cosine_attention)


def slow_neighbours(features, k, valid=None):
    """All errors in float64, one by one; sorted is stable, so ties go to the lower index."""
    x = np.asarray(features, np.float64)
    allowed = range(len(x)) if valid is None else np.flatnonzero(valid)
    return np.array(
        [
            sorted((j for j in allowed if j != i), key=lambda j, i=i: np.mean((x[i] - x[j]) ** 2))[
                :k
            ]
            for i in range(len(x))
        ]
    )


def slow_edge_convolution(features, neighbours, kernel, weights, aggregate, valid):
    """[X, AX - X] [K1; K2] as it is written."""
    x, kernel = np.asarray(features, np.float64), np.asarray(kernel, np.float64)
    num_nodes, num_channels = x.shape
    out = []
    for i in range(num_nodes):
        js = [j for j in range(neighbours.shape[1]) if valid is None or valid[i, j]]
        terms = [(1 if weights is None else float(weights[i, j])) * x[neighbours[i, j]] for j in js]
        if aggregate == "max":
            other = kernel[num_channels:]
            most = np.max([t @ other for t in terms], axis=0) if terms else 0
            out.append(x[i] @ (kernel[:num_channels] - other) + most)
            continue
        ax = np.sum(terms, axis=0) if terms else np.zeros(num_channels)
        if aggregate == "mean":
            ax /= max(len(js), 1)
        out.append(np.concatenate([x[i], ax - x[i]]) @ kernel)
    return np.array(out)


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    num_nodes, k, num_channels, width = 12, 3, 5, 7
    valid = rng.random((num_nodes, k)) < 0.6
    valid[4] = False  # a node without any neighbour
    valid[5] = True
    arrays = {
        "features": rng.normal(size=(num_nodes, num_channels)).astype(np.float32),
        "neighbours": rng.integers(0, num_nodes, (num_nodes, k)).astype(np.int32),
        "kernel": rng.normal(size=(2 * num_channels, width)).astype(np.float32),
        "weights": rng.normal(size=(num_nodes, k)).astype(np.float32),
        "valid": valid,
    }
    return {name: jnp.asarray(array) for name, array in arrays.items()}


@pytest.mark.parametrize("k", [1, 4, 19])
def test_nearest_neighbours_are_the_true_ones(k):
    features = np.random.default_rng(k).normal(size=(20, 6)).astype(np.float32)
    for function in (nearest_neighbours, graph.nearest_neighbours):
        found = function(jnp.asarray(features), k)
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, slow_neighbours(features, k))


def test_near_rows_far_from_the_origin_keep_their_order():
    # 1000^2 has no digits left for differences of 0.01 in float32: an expanded square fails here.
    offsets = np.array([0, 1, 3, 6, 10, 15, 21, 28])[:, None] / 128
    features = (1000 + offsets * np.ones(16)).astype(np.float32)
    np.testing.assert_array_equal(nearest_neighbours(features, 3), slow_neighbours(features, 3))


@pytest.mark.parametrize("num_nodes", [40, 125])
def test_equal_rows_tie_to_the_lower_index(num_nodes):
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(4, num_nodes, 256)).astype(np.float32)
    copies = [3, 10, 31, num_nodes - 1]
    batch[:, copies] = batch[:, :1]  # with node 0 there are five equal rows
    find = jax.jit(jax.vmap(lambda x: graph.nearest_neighbours(x, 4)))
    found = np.asarray(find(batch))
    equal = [0, *copies]
    for node in equal:
        assert (found[:, node] == [other for other in equal if other != node]).all()
    # A node that holds one of them as a neighbour meets them in order of index.
    for neighbours in found.reshape(-1, 4).tolist():
        met = [n for n in neighbours if n in equal]
        assert met == sorted(met)
    constant = nearest_neighbours(jnp.ones((6, 3)), 2)
    assert constant.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]


def test_invalid_nodes_are_chosen_last_and_the_node_itself_never():
    features = np.random.default_rng(2).normal(size=(10, 4)).astype(np.float32)
    valid = np.ones(10, bool)
    valid[[1, 6, 7]] = False
    found = np.asarray(nearest_neighbours(features, 4, valid))
    np.testing.assert_array_equal(found, slow_neighbours(features, 4, valid))

    few = np.zeros(10, bool)
    few[[2, 5]] = True
    found = np.asarray(nearest_neighbours(features, 3, few))
    assert found[2, 0] == 5
    assert found[5, 0] == 2
    assert few[found[0, :2]].all()
    assert not few[found[0, 2]]
    assert (found != np.arange(10)[:, None]).all()


def test_no_gradient_through_the_choice():
    features = jnp.asarray(np.random.default_rng(3).normal(size=(6, 4)), jnp.float32)

    def through_choice(x):
        return (graph.nearest_neighbours(x, 2) * 1.0).sum()

    assert not np.asarray(jax.grad(through_choice)(features)).any()


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("with_valid", [False, True])
def test_edge_convolution_is_equation_1(example, aggregate, with_weights, with_valid):
    weights = example["weights"] if with_weights else None
    valid = example["valid"] if with_valid else None
    args = (example["features"], example["neighbours"], example["kernel"], weights)
    expected = slow_edge_convolution(*args, aggregate, valid)
    functions = [edge_convolution]
    if with_weights and with_valid:
        functions.append(graph.edge_convolution)
    for function in functions:
        found = function(*args, aggregate=aggregate, valid=valid)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


def test_edge_convolution_takes_the_mean_by_default(example):
    args = (example["features"], example["neighbours"], example["kernel"])
    expected = slow_edge_convolution(*args, None, "mean", None)
    np.testing.assert_allclose(edge_convolution(*args), expected, rtol=1e-5, atol=1e-5)


def test_invalid_neighbours_have_no_influence(example):
    node = 0
    valid = np.ones((12, 3), bool)
    valid[node, 1] = False
    ignored = example["neighbours"].at[node].set(jnp.array([4, 8, 9]))
    for aggregate in AGGREGATES:

        def first(x, aggregate=aggregate):
            out = edge_convolution(
                x, ignored, example["kernel"], example["weights"], aggregate, valid
            )
            return out[node].sum()

        gradient = np.asarray(jax.grad(first)(example["features"]))
        assert np.isfinite(gradient).all()
        assert not gradient[8].any()
        assert gradient[node].any()
        assert gradient[[4, 9]].any()


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_gradients_of_edge_convolution(example, aggregate):
    valid = example["valid"]

    def total(x, kernel, weights):
        neighbours = example["neighbours"]
        out = edge_convolution(x, neighbours, kernel, weights, aggregate=aggregate, valid=valid)
        return jnp.sin(out).sum()

    args = [example[name] for name in ("features", "kernel", "weights")]
    gradients = jax.grad(total, argnums=(0, 1, 2))(*args)
    rng = np.random.default_rng(1)
    for position, gradient in enumerate(gradients):
        direction = rng.normal(size=gradient.shape)

        def slow_total(step, position=position, direction=direction):
            moved = [np.asarray(a, np.float64) for a in args]
            moved[position] = moved[position] + step * direction
            x, kernel, weights = moved
            neighbours = example["neighbours"]
            out = slow_edge_convolution(x, neighbours, kernel, weights, aggregate, valid)
            return np.sin(out).sum()

        expected = (slow_total(1e-6) - slow_total(-1e-6)) / 2e-6
        np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=2e-3, atol=1e-3)


def test_edge_convolution_keeps_the_dtype_of_the_features(example):
    out = edge_convolution(
        example["features"].astype(jnp.bfloat16),
        example["neighbours"],
        example["kernel"],
        example["weights"],
    )
    assert out.dtype == jnp.bfloat16


def test_cosines(example):
    x = np.asarray(example["features"], np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = np.einsum("nc,nkc->nk", unit, unit[example["neighbours"]])
    found = cosine_attention(example["features"], example["neighbours"])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    scaled = cosine_attention(1000 * example["features"], example["neighbours"])
    np.testing.assert_allclose(scaled, expected, atol=1e-6)


def test_cosine_of_a_zero_row_is_0_with_finite_gradients(example):
    features, neighbours = example["features"].at[3].set(0), example["neighbours"]
    neighbours = neighbours.at[3].set(jnp.array([0, 3, 1]))  # from the zero row, even to itself
    neighbours = neighbours.at[0].set(jnp.array([3, 1, 2]))  # and to it
    cosines = cosine_attention(features, neighbours)
    assert not np.asarray(cosines[3]).any()
    assert cosines[0, 0] == 0

    def squares(x):
        return jnp.square(cosine_attention(x, neighbours) - 0.5).sum()

    assert np.isfinite(jax.grad(squares)(features)).all()
    assert np.isfinite(jax.grad(squares)(jnp.zeros_like(features))).all()


def test_vmap_equals_a_loop(example):
    rng = np.random.default_rng(4)
    batch = rng.normal(size=(3, 12, 5)).astype(np.float32)
    kernel = example["kernel"]

    def one(x):
        neighbours = graph.nearest_neighbours(x, 3)
        weights = graph.cosine_attention(x, neighbours)
        return graph.edge_convolution(x, neighbours, kernel, weights)

    batched, one = jax.jit(jax.vmap(one))(batch), jax.jit(one)
    for x, out in zip(batch, batched, strict=True):
        np.testing.assert_allclose(out, one(x), rtol=1e-5, atol=1e-5)
