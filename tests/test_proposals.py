"""The grid of proposals, its graph and its neighbourhoods, against exact fractions."""

import time
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from segtad_jax.ops.proposals import (
    neighbour_table,
    neighbourhoods,
    proposal_grid,
    proposal_pyramid,
    pyramid_scales,
)

SIMILARITIES = ("tiou", "center")


def similarity_key(a, b, similarity):
    """The larger the more similar, exact: compared as (first key, second key)."""
    (s, e), (u, v) = (tuple(map(int, a)), tuple(map(int, b)))
    both = max(0, min(e, v) - max(s, u))
    either = (e - s) + (v - u) - both
    tiou = Fraction(both, either) if either else Fraction(0)
    return (tiou,) if similarity == "tiou" else (-abs(s + e - u - v), tiou)


def slow_order(segments, m, similarity, candidates=None):
    """Others by falling similarity to proposal m, ties to the lower index (sort is stable)."""
    candidates = range(len(segments)) if candidates is None else sorted(candidates)
    keys = {c: similarity_key(segments[m], segments[c], similarity) for c in candidates if c != m}
    return stable_descending(keys)


def stable_descending(keys):
    return sorted(keys, key=lambda c: tuple(-k for k in keys[c]))


def test_grid_is_equation_8_in_order_of_start_then_length():
    expected = [
        (i, i + j) for i in range(0, 24, 4) for j in range(4, 25, 4) if i + j <= 24
    ]  # i % 4 == 0, j % 4 == 0, j >= 4, i + j <= T
    grid = proposal_grid(24, 4)
    assert grid.dtype == np.int32
    np.testing.assert_array_equal(grid, expected)


@pytest.mark.parametrize(("num_frames", "size"), [(1000, 7875), (400, 1275), (8, 1)])
def test_size_of_the_grid(num_frames, size):
    assert proposal_grid(num_frames, 8).shape == (size, 2)


@pytest.mark.parametrize(("num_frames", "stride"), [(1001, 8), (4, 8), (8, 0), (0, 8)])
def test_grid_names_the_numbers_that_do_not_fit(num_frames, stride):
    with pytest.raises(ValueError, match=rf"num_frames={num_frames} .* stride={stride}: choose"):
        proposal_grid(num_frames, stride)


@pytest.mark.parametrize(
    ("num_frames", "stride", "cells"), [(64, 2, 4), (60, 3, 2), (40, 1, 1), (48, 4, 8), (8, 8, 1)]
)
def test_a_pyramid_has_the_longer_segments_on_coarser_grids(num_frames, stride, cells):
    expected, own, scale, shortest = [], {}, 1, 1
    while shortest * scale * stride <= num_frames:  # in cells of this grid
        for length in range(shortest, 2 * cells + 1):
            cell = scale * stride
            for start in range(0, num_frames - length * cell + 1, cell):
                expected.append((start, start + length * cell))
                own[expected[-1]] = scale
        scale, shortest = 2 * scale, cells + 1
    pyramid = proposal_pyramid(num_frames, stride, cells)
    assert pyramid.tolist() == sorted(map(list, expected))
    scales = [own[tuple(segment)] for segment in pyramid.tolist()]
    np.testing.assert_array_equal(pyramid_scales(pyramid, stride, cells), scales)


def test_a_pyramid_grows_with_the_window_and_not_with_its_square():
    sizes = [len(proposal_pyramid(n, 2, 8)) for n in (512, 1024, 2048)]
    assert sizes == [5528, 11580, 23776]  # of 32,896, 131,328 and 524,800 in the grid


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("num_cells", [2, 3, 4, 5, 7, 10])
def test_table_of_a_grid_is_the_true_top_k(num_cells, similarity):
    segments = proposal_grid(num_cells * 3, 3)
    order = np.array([slow_order(segments, m, similarity) for m in range(len(segments))])
    for k in range(1, min(10, len(segments) - 1) + 1):
        table = neighbour_table(segments, k, similarity)
        assert table.dtype == np.int32
        np.testing.assert_array_equal(table, order[:, :k], err_msg=f"k={k}")


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_table_of_a_long_grid_is_that_of_the_search_through_all(similarity):
    segments = proposal_grid(320, 8)
    # The same proposals in another place are not a grid, so all pairs are compared.
    for k in (4, 8, 10):
        np.testing.assert_array_equal(
            neighbour_table(segments, k, similarity),
            neighbour_table(segments + 1, k, similarity),
        )


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_table_of_the_papers_grid_on_sampled_rows(similarity):
    segments = proposal_grid(1000, 8)
    table = neighbour_table(segments, 8, similarity)
    rng = np.random.default_rng(0)
    edge_cases = [0, 124, len(segments) - 1]  # shortest at the start, whole video, shortest at end
    for m in (*edge_cases, *rng.integers(0, len(segments), 12)):
        assert table[m].tolist() == slow_order(segments, m, similarity)[:8]


def test_ties_go_to_the_lower_index():
    # [0, 8) shares a half with its two extensions alike, whichever comes first in the list.
    segments = np.array([[0, 16], [8, 16], [8, 24], [0, 4], [4, 12]])
    assert neighbour_table(segments, 4)[1].tolist() == [0, 2, 4, 3]
    assert neighbour_table(segments[::-1].copy(), 4)[3].tolist() == [2, 4, 0, 1]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_table_of_any_segments(similarity):
    rng = np.random.default_rng(1)
    segments = np.sort(rng.integers(0, 12, (40, 2)), axis=1)  # with copies and without length
    expected = [slow_order(segments, m, similarity)[:6] for m in range(len(segments))]
    np.testing.assert_array_equal(neighbour_table(segments, 6, similarity), expected)
    halves = neighbour_table(segments / 2 - 3, 6, similarity)
    np.testing.assert_array_equal(halves, expected)


def test_part_of_a_grid_is_not_taken_for_the_grid():
    segments = np.delete(proposal_grid(40, 4), [3, 17], axis=0)
    expected = [slow_order(segments, m, "tiou")[:4] for m in range(len(segments))]
    np.testing.assert_array_equal(neighbour_table(segments, 4), expected)


def test_table_names_what_does_not_fit():
    segments = proposal_grid(24, 8)
    with pytest.raises(ValueError, match=r"similarity='iou' is unknown: use one of .*'tiou'"):
        neighbour_table(segments, 4, "iou")
    with pytest.raises(ValueError, match=r"k=6 neighbours among M=6 proposals.*use a smaller k"):
        neighbour_table(segments, 6)
    with pytest.raises(ValueError, match="k=0 neighbours"):
        neighbour_table(segments, 0)


def check_neighbourhood(segments, seed, members, copies, edges, k, similarity, second_hop="own"):
    members, edges = members.tolist(), edges.tolist()
    first = slow_order(segments, seed, similarity)[:k]
    sampled = [seed, *first]
    for hop in first:
        not_these = (seed, *first) if second_hop == "own" else tuple(sampled)
        others = [c for c in slow_order(segments, hop, similarity) if c not in not_these]
        sampled += others[:k]
    distinct = list(dict.fromkeys(sampled))
    assert members[: len(distinct)] == distinct
    assert set(members[len(distinct) :]) <= set(distinct)
    filled = [0] * (len(members) - len(distinct))
    assert copies.tolist() == [*map(sampled.count, distinct), *filled]
    for position, m in enumerate(members):
        others = [p for p, c in enumerate(members) if c != m and c not in members[:p]]
        others.sort(key=lambda p: (members[p], p))
        keys = {p: similarity_key(segments[m], segments[members[p]], similarity) for p in others}
        assert edges[position] == stable_descending(keys)[:k]


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("second_hop", ["own", "remaining"])
@pytest.mark.parametrize(("num_cells", "k"), [(7, 4), (9, 4), (4, 2), (2, 1), (8, 3)])
def test_neighbourhoods_of_every_seed(num_cells, k, similarity, second_hop):
    segments = proposal_grid(num_cells * 8, 8)
    if len(segments) <= k * k + 2 * k:
        segments = proposal_grid((num_cells + 1) * 8, 8)
    members, copies, edges = neighbourhoods(segments, k, similarity, second_hop)
    if second_hop == "remaining":  # the paper's 1 + K + K x K proposals, all of them different
        assert members.shape[1] == 1 + k + k * k
        assert (copies == 1).all()
    assert copies.shape == members.shape
    assert edges.shape == (*members.shape, k)
    assert (copies > 0).all(axis=1).any()  # no column is of fillers alone
    assert members.dtype == edges.dtype == np.int32
    assert copies.dtype == np.float32
    for seed in range(len(segments)):
        found = members[seed], copies[seed], edges[seed]
        check_neighbourhood(segments, seed, *found, k, similarity, second_hop)


@pytest.mark.slow
def test_neighbourhoods_of_the_papers_grid():
    segments = proposal_grid(1000, 8)
    members, copies, edges = neighbourhoods(segments, 4)
    assert members.shape == (7875, 17)  # of 21 drawn
    table = neighbour_table(segments, 4)
    for seed in np.random.default_rng(0).integers(0, len(segments), 4):
        found = members[seed], copies[seed], edges[seed]
        check_neighbourhood(segments, seed, *found, 4, "tiou")
    # The seed and its first hop keep their true neighbours; no edge leads to a copy.
    pointed = np.take_along_axis(members[:, :, None], edges.reshape(len(edges), -1, 1), axis=1)
    pointed = pointed.reshape(edges.shape)
    np.testing.assert_array_equal(pointed[:, :5], table[members[:, :5]])
    assert (pointed != members[:, :, None]).all()
    complete = (np.sort(pointed[:, 5:]) == np.sort(table[members[:, 5:]])).all(-1)
    assert round(np.average(complete, weights=copies[:, 5:]), 2) == 0.08  # of the second hop


def test_neighbourhoods_need_enough_proposals():
    with pytest.raises(ValueError, match=r"M=21 .* k=4: more than k\*k \+ 2k = 24 are needed"):
        neighbourhoods(proposal_grid(48, 8), 4)
    assert len(neighbourhoods(proposal_grid(56, 8), 4)[0]) == 28
    with pytest.raises(ValueError, match="similarity='x' is unknown"):
        neighbourhoods(proposal_grid(56, 8), 4, "x")


def test_a_long_recordings_table_stays_small():
    segments = proposal_grid(4000, 8)  # 125,250 proposals: the full matrix would be 125 GB
    tracemalloc.start()
    started = time.monotonic()
    table = neighbour_table(segments, 8)
    seconds = time.monotonic() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table.shape == (125_250, 8)
    assert peak < 500e6
    assert seconds < 30
