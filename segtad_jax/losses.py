"""The terms of Eq. 11, as sums and weights of one video.

A mean over devices with different weights is exact only if sums are divided after they are added
up: the caller vmaps, adds over videos and devices, and then calls `mean`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


class Term(NamedTuple):
    """Parts of a loss, two where positives and negatives are balanced, else one.

    The value is the mean over parts of sum / weight.
    """

    sums: Float[Array, "*batch parts"]
    weights: Float[Array, "*batch parts"]


def mean(term: Term) -> Float[Array, ""]:
    """Returns the value of a term; a part without any weight counts 0."""
    return jnp.mean(term.sums / jnp.maximum(term.weights, 1.0))


def cross_entropy(
    logits: Float[Array, "T K"], classes: Float[Array, "T K"], weights: Float[Array, " T"]
) -> Term:
    """Returns the segmentation loss (Eq. 4); `weights` are 0 on padded frames."""
    losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), classes)
    return _weighted(losses, weights)


def action_or_not(
    logits: Float[Array, "T K"], classes: Float[Array, "T K"], weights: Float[Array, " T"]
) -> Term:
    """Returns the binary loss of Table 4: is a frame inside any action?

    The head stays as it is: the mean of its action logits less the background's is one linear
    output, whose initial bias is 0 whatever the number of classes.
    """
    inside = jnp.mean(logits[:, 1:], axis=1) - logits[:, 0]
    return binary_cross_entropy(inside, 1.0 - classes[:, 0], weights, balanced=False)


def binary_cross_entropy(
    logits: Float[Array, " n"],
    labels: Float[Array, " n"],
    weights: Float[Array, " n"],
    balanced: bool,
) -> Term:
    """Returns a start, end or classification loss (Eq. 5, Eq. 10); labels are 0 or 1.

    If `balanced`, positives and negatives have half the weight each, since one frame in a thousand
    is a start; a kind that is absent adds 0.
    """
    logits = logits.astype(jnp.float32)
    losses = optax.sigmoid_binary_cross_entropy(logits, labels)
    if not balanced:
        return _weighted(losses, weights)
    kinds = jnp.stack([labels, 1.0 - labels]) * weights  # [2, n]
    return Term(kinds @ losses, jnp.sum(kinds, axis=1))


def squared_error(
    logits: Float[Array, " n"], labels: Float[Array, " n"], weights: Float[Array, " n"]
) -> Term:
    """Returns the regression loss (Eq. 10), the mean squared error of sigmoid(logits)."""
    return _weighted((jax.nn.sigmoid(logits.astype(jnp.float32)) - labels) ** 2, weights)


def _weighted(losses: Float[Array, "*n"], weights: Float[Array, "*n"]) -> Term:
    """Returns a term of one part."""
    return Term(jnp.sum(losses * weights)[None], jnp.sum(weights)[None])
