"""Graphs of snippets and of proposals: neighbours, edge weights, edge convolution (Eq. 1)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32

AGGREGATES = ("sum", "mean", "max")


def nearest_neighbours(
    features: Float[Array | np.ndarray, "T C"],
    k: int,
    valid: Bool[Array | np.ndarray, " T"] | None = None,
) -> Int32[Array, "T {k}"]:
    """For each node the `k` others with the least mean squared error (section 3.2.2).

    Args:
        features: one node a row.
        k: number of neighbours, fewer than T.
        valid: nodes that may be chosen; all where None.

    Returns:
        Best first, ties to the lower index, never the node itself. Where fewer than k others are
        valid, invalid ones stand at the end: mask them with `valid[neighbours]`. Integers: no
        gradient flows through the choice.

    Raises:
        ValueError: where there are not k other nodes.
    """
    num_nodes = features.shape[0]
    if not 1 <= k < num_nodes:
        raise ValueError(
            f"k={k} neighbours in a graph of {num_nodes} nodes: k must lie in 1..{num_nodes - 1}; "
            "use a smaller k or more frames"
        )
    x = jax.lax.stop_gradient(jnp.asarray(features, jnp.float32))
    # Differences, not the expanded square: equal rows must tie exactly, and near ones not cancel.
    error = jnp.square(x[:, None] - x[None]).mean(-1)
    if valid is not None:
        error = jnp.where(valid, error, jnp.finfo(jnp.float32).max)
    error = jnp.where(jnp.eye(num_nodes, dtype=bool), jnp.inf, error)
    return jax.lax.top_k(-error, k)[1]


def edge_convolution(
    features: Float[Array | np.ndarray, "N C"],
    neighbours: Int[Array | np.ndarray, "N k"],
    kernel: Float[Array | np.ndarray, "2*C D"],
    weights: Float[Array | np.ndarray, "N k"] | None = None,
    aggregate: str = "mean",
    valid: Bool[Array | np.ndarray, "N k"] | None = None,
) -> Float[Array, "N D"]:
    """Edge convolution, Eq. 1: [X, AX - X] K, computed as X (K1 - K2) + (AX) K2.

    Args:
        features: X, one node a row.
        neighbours: rows of X.
        kernel: K1 over K2.
        weights: a_ij, the values of A; 1 where None.
        aggregate: AX is the 'sum' of a_ij x_j over the neighbours j; their 'mean', the sum divided
            by the number of valid neighbours (not by the sum of the weights); or 'max', where
            max_j(a_ij x_j K2) stands in place of (AX) K2.
        valid: neighbours that count, all where None. A node without any has AX = 0.

    Returns:
        In the dtype of `features`, before any bias or activation.

    Raises:
        ValueError: on an unknown aggregate.
    """
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate={aggregate!r} is unknown: use one of {AGGREGATES}")
    x = jnp.asarray(features)
    kernel_self, kernel_other = jnp.split(jnp.asarray(kernel, x.dtype), 2)
    # Linear, so project first and gather after; one product reads the features once.
    both = x @ jnp.concatenate([kernel_self - kernel_other, kernel_other], axis=1)
    own, projected = jnp.split(both, 2, axis=1)

    counted = jnp.ones(neighbours.shape, bool) if valid is None else jnp.asarray(valid)
    factors = jnp.ones(neighbours.shape, x.dtype) if weights is None else jnp.asarray(weights)
    if aggregate == "max":
        messages = [
            jnp.where(counted[:, j, None], factors[:, j, None] * message, -jnp.inf)
            for j, message in enumerate(_messages(projected, neighbours))
        ]
        some = counted.any(1)[:, None]
        combined = jnp.where(some, functools.reduce(jnp.maximum, messages), 0)
    else:
        factors = jnp.where(counted, factors, 0)
        if aggregate == "mean":
            factors = factors / jnp.maximum(counted.sum(1, keepdims=True), 1)
        weighted = (
            factors[:, j, None] * message
            for j, message in enumerate(_messages(projected, neighbours))
        )
        combined = functools.reduce(jnp.add, weighted)
    return (own + combined).astype(x.dtype)


def cosine_attention(
    features: Float[Array | np.ndarray, "N C"], neighbours: Int[Array | np.ndarray, "N k"]
) -> Float[Array, "N k"]:
    """Edge weights a_ij = u_i . u_j in float32, with u = x / sqrt(sum x^2 + 1e-12).

    Args:
        features: one node a row. A row of zeros gives 0 and finite gradients.
        neighbours: rows of `features`.
    """
    x = jnp.asarray(features, jnp.promote_types(features.dtype, jnp.float32))
    scale = jax.lax.rsqrt(jnp.sum(x * x, axis=-1) + 1e-12)
    # Products of the rows as they are, scaled after: the sums then vectorise.
    products = [jnp.sum(x * other, axis=-1) for other in _messages(x, neighbours)]
    return jnp.stack(products, axis=1) * scale[:, None] * scale[neighbours]


def _messages(
    x: Float[Array, "N D"], neighbours: Int[Array | np.ndarray, "N k"]
) -> list[Float[Array, "N D"]]:
    """Of each node's first, second, ... neighbour: one [N, k, D] gather is far slower on a CPU."""
    columns = jnp.asarray(neighbours).T
    return [x.at[column].get(mode="promise_in_bounds") for column in columns]
