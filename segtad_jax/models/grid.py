"""The grid of proposals as the network needs it: constants of a config, built on the host."""

import functools
from typing import NamedTuple

from jaxtyping import Float32, Int32
from ml_collections import ConfigDict
from numpy import int32, ndarray, ones

from segtad_jax.ops import align, proposals


class Grid(NamedTuple):
    """Constants of a window's length and a stride.

    M proposals have K neighbours each; a seed draws 1 + K + K*K of them, n <= 1 + K + K*K distinct.
    """

    segments: Int32[ndarray, "M 2"]  # frames, Eq. 8
    neighbours: Int32[ndarray, "M K"]  # the proposal graph
    members: Int32[ndarray, "M n"]  # the distinct proposals of a seed's neighbourhood
    copies: Float32[ndarray, "M n"]  # how often it has each of them
    edges: Int32[ndarray, "M n K"]  # its graph, as positions within it
    lattice: align.Lattice  # where SGAlign needs the integral of the features
    scales: Int32[ndarray, " M"]  # strides of the proposals, in units of the finest


def grid(config: ConfigDict) -> Grid:
    """Returns the grid of a config; equal ones are built once."""
    model = config.model
    return _grid(
        config.data.num_frames,
        model.stride,
        model.pyramid,
        model.proposal_neighbours,
        model.similarity,
        config.sampling.second_hop,
        (model.num_bins, model.context, model.interpolation, model.decoder_stride),
    )


@functools.lru_cache(maxsize=4)
def _grid(
    num_frames: int,
    stride: int,
    pyramid: int,
    k: int,
    similarity: str,
    second_hop: str,
    of_lattice: tuple[int, float, str, int],
) -> Grid:
    if pyramid:
        segments = proposals.proposal_pyramid(num_frames, stride, pyramid)
        scales = proposals.pyramid_scales(segments, stride, pyramid)
    else:
        segments = proposals.proposal_grid(num_frames, stride)
        scales = ones(len(segments), int32)
    return Grid(
        segments,
        proposals.neighbour_table(segments, k, similarity),
        *proposals.neighbourhoods(segments, k, similarity, second_hop),
        align.lattice(num_frames, stride, *of_lattice, segments),
        scales,
    )
