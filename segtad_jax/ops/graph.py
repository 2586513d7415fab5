"""Graphs of snippets and of proposals: neighbours, edge weights, edge convolution (Eq. 1)."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32


def nearest_neighbours(
    features: Float[Array, "T C"], k: int, valid: Bool[Array, " T"] | None = None
) -> Int32[Array, "T {k}"]:
    """Returns the `k` others with the least mean squared error to each node (section 3.2.2).

    Args:
        features: one node a row.
        k: number of neighbours, fewer than T.
        valid: nodes that may be chosen; None for all.

    Returns:
        Rows of `features`, best first, ties to the lower index, never the node itself. Where fewer
        than k others are valid, invalid ones stand at the end: mask them with
        `valid[neighbours]`. No gradient flows through the choice.
    """
    x = jax.lax.stop_gradient(features.astype(jnp.float32))
    # Differences, not the expanded square: equal rows must tie exactly, and near ones not cancel.
    error = jnp.square(x[:, None] - x[None]).mean(-1)
    if valid is not None:
        error = jnp.where(valid, error, jnp.finfo(jnp.float32).max)
    error = jnp.where(jnp.eye(len(x), dtype=bool), jnp.inf, error)
    return jax.lax.top_k(-error, k)[1]


def edge_convolution(
    features: Float[Array, "N C"],
    neighbours: Int[Array, "N k"],
    kernel: Float[Array, "2*C D"],
    weights: Float[Array, "N k"] | None = None,
    aggregate: str = "mean",
    valid: Bool[Array, "N k"] | None = None,
) -> Float[Array, "N D"]:
    """Returns the edge convolution of Eq. 1, [X, AX - X] K, computed as X (K1 - K2) + (AX) K2.

    Args:
        features: X, one node a row.
        neighbours: rows of X.
        kernel: K1 over K2.
        weights: a_ij, the values of A; None for 1.
        aggregate: AX is the 'sum' of a_ij x_j over the neighbours j; their 'mean', the sum divided
            by the number of valid neighbours (not by the sum of the weights); or 'max', where
            max_j(a_ij x_j K2) stands in place of (AX) K2.
        valid: neighbours that count; None for all. A node without any has AX = 0.

    Returns:
        Nodes in the dtype of `features`, without bias and activation.
    """
    x = features
    kernel_self, kernel_other = jnp.split(kernel.astype(x.dtype), 2)
    # Linear, so project first and gather after; one product reads the features once.
    both = x @ jnp.concatenate([kernel_self - kernel_other, kernel_other], axis=1)
    by_itself, projected = jnp.split(both, 2, axis=1)

    counted = jnp.ones(neighbours.shape, bool) if valid is None else valid
    factors = jnp.ones(neighbours.shape, x.dtype) if weights is None else weights
    if aggregate == "max":
        messages = [
            jnp.where(counted[:, j, None], factors[:, j, None] * message, -jnp.inf)
            for j, message in enumerate(_messages(projected, neighbours))
        ]
        has_any = counted.any(1)[:, None]
        combined = jnp.where(has_any, functools.reduce(jnp.maximum, messages), 0)
    else:
        factors = jnp.where(counted, factors, 0)
        if aggregate == "mean":
            factors = factors / jnp.maximum(counted.sum(1, keepdims=True), 1)
        weighted = (
            factors[:, j, None] * message
            for j, message in enumerate(_messages(projected, neighbours))
        )
        combined = functools.reduce(jnp.add, weighted)
    return (by_itself + combined).astype(x.dtype)


def cosine_attention(
    features: Float[Array, "N C"], neighbours: Int[Array, "N k"]
) -> Float[Array, "N k"]:
    """Returns the entries a_ij = u_i . u_j of A in float32, with u = x / sqrt(sum x^2 + 1e-12).

    Args:
        features: one node a row. A row of zeros gives 0 and finite gradients.
        neighbours: rows of `features`.
    """
    x = features.astype(jnp.promote_types(features.dtype, jnp.float32))
    scale = jax.lax.rsqrt(jnp.sum(x * x, axis=-1) + 1e-12)
    # Products of the rows as they are, scaled after: the sums then vectorise.
    products = [jnp.sum(x * other, axis=-1) for other in _messages(x, neighbours)]
    return jnp.stack(products, axis=1) * scale[:, None] * scale[neighbours]


def _messages(x: Float[Array, "N D"], neighbours: Int[Array, "N k"]) -> list[Float[Array, "N D"]]:
    """Gathers each node's first neighbour, its second and so on.

    One gather of [N, k, D] is far slower on a CPU.
    """
    return [x.at[column].get(mode="promise_in_bounds") for column in neighbours.T]
