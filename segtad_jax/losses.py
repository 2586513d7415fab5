"""The terms of Eq. 11. Each gives sums and weights: a mean is taken once all devices are summed.

A `Term` holds one (sum, weight) pair, or two where positives and negatives are balanced; arrays of
one video, the caller vmaps, adds over videos and devices and then calls `mean`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


class Term(NamedTuple):
    """Parts of a loss: its value is the mean over parts of sum / weight."""

    sums: Float[Array, "*batch parts"]
    weights: Float[Array, "*batch parts"]


def mean(term: Term) -> Float[Array, ""]:
    """The value of a term; a part without any weight counts 0."""
    return jnp.mean(term.sums / jnp.maximum(term.weights, 1.0))


def cross_entropy(
    logits: Float[Array, "T K"], classes: Int[Array, " T"], weights: Float[Array, " T"]
) -> Term:
    """Segmentation loss (Eq. 4): mean over frames; `weights` are 0 on padded frames."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), classes)
    return weighted(losses, weights)


def action_or_not(
    logits: Float[Array, "T K"], classes: Int[Array, " T"], weights: Float[Array, " T"]
) -> Term:
    """What Table 4 compares the segmentation loss with: is a frame inside any action?

    The head stays as it is: the mean of its action logits less the background's is one linear
    output, whose bias is 0 at the start whatever the number of classes.
    """
    inside = jnp.mean(logits[:, 1:], axis=1) - logits[:, 0]
    return binary_cross_entropy(inside, (classes > 0).astype(jnp.float32), weights, balanced=False)


def binary_cross_entropy(
    logits: Float[Array, " n"],
    labels: Float[Array, " n"],
    weights: Float[Array, " n"],
    balanced: bool,
) -> Term:
    """Start, end and classification losses (Eq. 5, Eq. 10); labels are 0 or 1.

    Balanced, positives and negatives have half the weight each, and a kind that is absent adds 0:
    one frame in a thousand is a start.
    """
    logits = logits.astype(jnp.float32)
    losses = optax.sigmoid_binary_cross_entropy(logits, labels)
    if not balanced:
        return weighted(losses, weights)
    kinds = jnp.stack([labels, 1.0 - labels]) * weights  # [2, n]
    return Term(kinds @ losses, jnp.sum(kinds, axis=1))


def squared_error(
    logits: Float[Array, " n"], labels: Float[Array, " n"], weights: Float[Array, " n"]
) -> Term:
    """Regression loss (Eq. 10): mean squared error of sigmoid(logits)."""
    return weighted((jax.nn.sigmoid(logits.astype(jnp.float32)) - labels) ** 2, weights)


def weighted(losses: Float[Array, "*n"], weights: Float[Array, "*n"]) -> Term:
    """Losses of one part."""
    return Term(jnp.sum(losses * weights)[None], jnp.sum(weights)[None])
