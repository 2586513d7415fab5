"""Draws seeds and their neighbourhoods for training (section 3.3, after SAGE)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, PRNGKeyArray, Real

from segtad_jax.ops.segments import pairwise_tiou


def draw_seeds(
    key: PRNGKeyArray,
    positive: Bool[Array, " M"],
    valid: Bool[Array, " M"],
    num_seeds: int,
) -> tuple[Int32[Array, " {num_seeds}"], Float32[Array, " {num_seeds}"]]:
    """Draws half positive and half negative proposals, uniformly and without replacement.

    Args:
        key: of this video in this step.
        positive: proposals with h_cls = 1.
        valid: proposals that may be drawn.
        num_seeds: M0 slots, may exceed M; positives get one more of an odd number. Where there are
            too few of one kind the other fills up.

    Returns:
        Proposal indices, positives first, and their weights: 1, or 0 for a slot at the end that
        could not be filled, whose index is 0.
    """
    negative = valid & ~positive
    positive = valid & positive
    half = (num_seeds + 1) // 2
    num_negative = jnp.minimum(negative.sum(), num_seeds - jnp.minimum(positive.sum(), half))
    num_positive = jnp.minimum(positive.sum(), num_seeds - num_negative)

    noise = jax.random.uniform(key, positive.shape)
    k = min(num_seeds, positive.shape[0])
    slot = jnp.arange(num_seeds)
    positives = jax.lax.top_k(jnp.where(positive, noise, -1.0), k)[1]
    negatives = jax.lax.top_k(jnp.where(negative, noise, -1.0), k)[1]
    seeds = jnp.where(
        slot < num_positive,
        jnp.take(positives, slot, mode="clip"),
        jnp.take(negatives, slot - num_positive, mode="clip"),
    )
    filled = slot < num_positive + num_negative
    return jnp.where(filled, seeds, 0).astype(jnp.int32), filled.astype(jnp.float32)


def gather_neighbourhoods(
    seeds: Int[Array, " S"],
    members: Int[Array, "M n"],
    edges: Int[Array, "M n k"],
) -> tuple[Int32[Array, " S*n"], Int32[Array, "S*n k"]]:
    """Returns the sampled rows, one neighbourhood after another (`sampling.edges` 'tree').

    Args:
        seeds: proposal indices.
        members: from `proposals.neighbourhoods`.
        edges: likewise.

    Returns:
        Proposal indices, repeated where neighbourhoods overlap, and for each row its neighbours as
        positions among the rows, within the same neighbourhood.
    """
    size, k = edges.shape[1:]
    first = size * jnp.arange(seeds.shape[0], dtype=jnp.int32)
    rows = members[seeds].reshape(-1)
    neighbours = (edges[seeds] + first[:, None, None]).reshape(-1, k)
    return rows, neighbours


def list_neighbours(
    rows: Int[Array, " R"],
    segments: Real[Array, "M 2"],
    k: int,
    similarity: str = "tiou",
) -> Int32[Array, "R {k}"]:
    """Returns the top k of each sampled row within the whole list (`sampling.edges` 'list').

    Args:
        rows: proposal indices, with duplicates.
        segments: the grid's segments.
        k: number of neighbours.
        similarity: as in `proposals.neighbour_table`.

    Returns:
        Positions in `rows` of the k most similar other proposals, best first: never a copy of the
        row itself, and of several copies only the first; ties to the lower proposal index. The
        list must hold k + 1 proposals.
    """
    listed = segments[rows]
    # Columns in order of the proposal: ties then go to the first column.
    order = jnp.argsort(rows, stable=True).astype(jnp.int32)
    columns = listed[order]
    sorted_rows = rows[order]
    repeated = jnp.diff(sorted_rows, prepend=-1) == 0
    excluded = (rows[:, None] == sorted_rows) | repeated
    tiou = jnp.where(excluded, -1.0, pairwise_tiou(listed, columns))
    if similarity == "tiou":
        best = jax.lax.top_k(tiou, k)[1]
    elif similarity == "center":
        distance = jnp.abs(listed.sum(1)[:, None] - columns.sum(1)).astype(jnp.float32)
        distance = jnp.where(excluded, jnp.inf, distance)
        best = _nearest_centers(distance, tiou, k)
    else:
        raise ValueError(f"similarity={similarity!r} is unknown: use 'tiou' or 'center'")
    return order[best]


def _nearest_centers(
    distance: Float[Array, "R R"], tiou: Float[Array, "R R"], k: int
) -> Int32[Array, "R {k}"]:
    """Returns the columns of the k least distances, ties to the higher tIoU, then to the first."""
    best = []
    for _ in range(k):  # sorting whole rows by two keys takes tens of times longer
        nearest = distance == distance.min(axis=1, keepdims=True)
        best.append(jnp.argmax(jnp.where(nearest, tiou, -2.0), axis=1))
        distance = jnp.where(jnp.arange(distance.shape[1]) == best[-1][:, None], jnp.inf, distance)
    return jnp.stack(best, axis=1).astype(jnp.int32)
