"""Seeds and their neighbourhoods, against their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segtad_jax.ops import graph, proposals, sampling

SIZE = 20  # of one size, so that a test compiles once per number of seeds
draw_seeds = jax.jit(sampling.draw_seeds, static_argnames="num_seeds")
gather_neighbourhoods = jax.jit(sampling.gather_neighbourhoods)
list_neighbours = jax.jit(sampling.list_neighbours, static_argnames=("k", "similarity"))


@given(
    arrays(bool, SIZE),
    arrays(bool, SIZE),
    st.sampled_from([1, 6, 7, 25]),
    st.integers(0, 2**31 - 1),
)
def test_seeds_are_half_of_each_kind_and_the_other_fills_up(positive, valid, num_seeds, seed):
    seeds, weight = draw_seeds(jax.random.key(seed), positive, valid, num_seeds)
    assert seeds.dtype == jnp.int32
    assert weight.dtype == jnp.float32
    seeds, weight = np.asarray(seeds), np.asarray(weight)

    num_positive, num_negative = (valid & positive).sum(), (valid & ~positive).sum()
    # By definition: positives and negatives in turn, as long as there are any of either.
    want_positive = want_negative = 0
    for turn in range(2 * num_seeds):
        if want_positive + want_negative == num_seeds:
            break
        if turn % 2 == 0 and want_positive < num_positive:
            want_positive += 1
        elif turn % 2 == 1 and want_negative < num_negative:
            want_negative += 1
    filled = want_positive + want_negative
    np.testing.assert_array_equal(weight, np.arange(num_seeds) < filled)
    drawn = seeds[:filled]
    assert len(set(drawn.tolist())) == filled
    assert valid[drawn].all()
    np.testing.assert_array_equal(positive[drawn], np.arange(filled) < want_positive)
    assert (seeds[filled:] == 0).all()


def test_seeds_are_drawn_uniformly_and_independently_per_video():
    positive = np.arange(SIZE) < 5
    valid = np.arange(SIZE) != 7
    draw = jax.vmap(functools.partial(sampling.draw_seeds, num_seeds=6), (0, None, None))
    keys = jax.random.split(jax.random.key(0), 4000)
    seeds = np.asarray(jax.jit(draw)(keys, positive, valid)[0])
    counts = np.bincount(seeds.reshape(-1), minlength=SIZE) / len(keys)
    np.testing.assert_allclose(counts[:5], 3 / 5, atol=0.04)
    np.testing.assert_allclose(np.delete(counts[5:], 2), 3 / 14, atol=0.04)
    assert counts[7] == 0

    # A loop draws the same, also without jit.
    one, weight = sampling.draw_seeds(keys[9], jnp.asarray(positive), jnp.asarray(valid), 6)
    np.testing.assert_array_equal(seeds[9], one)
    assert weight.all()


def test_gathered_neighbourhoods_are_those_of_the_seeds():
    segments = proposals.proposal_grid(64, 8)
    members, _, edges = map(jnp.asarray, proposals.neighbourhoods(segments, 4))
    seeds, size = jnp.array([5, 30, 5, 0]), members.shape[1]
    for function in (sampling.gather_neighbourhoods, gather_neighbourhoods):
        rows, neighbours = function(seeds, members, edges)
        assert rows.dtype == neighbours.dtype == jnp.int32
        for position, seed in enumerate(seeds):
            for within in range(size):
                row = position * size + within
                assert rows[row] == members[seed, within]
                expected = position * size + edges[seed, within]
                np.testing.assert_array_equal(neighbours[row], expected)
    batch = jnp.stack([seeds, seeds[::-1]])
    batched = jax.vmap(sampling.gather_neighbourhoods, (0, None, None))(batch, members, edges)
    np.testing.assert_array_equal(batched[1][1], gather_neighbourhoods(batch[1], members, edges)[1])


def slow_list_neighbours(rows, segments, k, similarity):
    found = []
    for row in rows:
        s, e = map(int, segments[row])
        ranked = []
        for proposal in set(rows) - {row}:
            u, v = map(int, segments[proposal])
            both = max(0, min(e, v) - max(s, u))
            tiou = both / ((e - s) + (v - u) - both)
            distance = abs(s + e - u - v) if similarity == "center" else 0
            ranked.append((distance, -tiou, proposal))
        found.append([rows.index(proposal) for _, _, proposal in sorted(ranked)[:k]])
    return found


@pytest.mark.parametrize("similarity", proposals.SIMILARITIES)
def test_list_neighbours_are_the_top_k_other_proposals(similarity):
    segments = proposals.proposal_grid(96, 8)
    members, _, edges = proposals.neighbourhoods(segments, 4, similarity)
    seeds = np.array([40, 3, 41, 77, 3, 60])  # neighbourhoods that overlap, and one twice
    rows, _ = gather_neighbourhoods(seeds, members, edges)
    expected = slow_list_neighbours(rows.tolist(), segments, 4, similarity)
    segments = jnp.asarray(segments)
    find = functools.partial(sampling.list_neighbours, k=4, similarity=similarity)
    found = find(rows, segments)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, expected)
    batched = jax.jit(jax.vmap(find, (0, None)))(jnp.stack([rows[::-1], rows]), segments)
    np.testing.assert_array_equal(batched[1], expected)


def test_list_neighbours_by_an_unknown_similarity():
    with pytest.raises(ValueError, match="similarity='iou' is unknown: use 'tiou' or 'center'"):
        list_neighbours(np.arange(6), proposals.proposal_grid(24, 8), 2, "iou")


@pytest.mark.parametrize("similarity", proposals.SIMILARITIES)
@pytest.mark.parametrize("sample_edges", ["tree", "list"])
def test_sampled_and_full_graphs_agree_for_seeds_through_two_layers(sample_edges, similarity):
    segments = proposals.proposal_grid(128, 8)
    members, _, edges = proposals.neighbourhoods(segments, 4, similarity)
    seeds = np.array([0, 15, 70, 71, len(segments) - 1])
    rows, neighbours = gather_neighbourhoods(seeds, members, edges)
    if sample_edges == "list":
        neighbours = list_neighbours(rows, segments, 4, similarity)
    table = proposals.neighbour_table(segments, 4, similarity)

    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(12, 6)), jnp.float32)
    full = rng.normal(size=(len(segments), 6)).astype(np.float32)
    sampled = full[rows]
    at_seeds = np.arange(len(seeds)) * members.shape[1]

    @jax.jit
    def layer_of(x, nodes):
        return graph.edge_convolution(x, nodes, kernel, graph.cosine_attention(x, nodes))

    for layer in range(3):
        full, sampled = layer_of(full, table), layer_of(sampled, neighbours)
        if layer < 2:
            np.testing.assert_allclose(sampled[at_seeds], full[seeds], rtol=1e-4, atol=1e-4)
    assert np.abs(np.asarray(sampled[at_seeds] - full[seeds])).max() > 0.1
