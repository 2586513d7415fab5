"""SGAlign (section 3.3, after G-TAD) as an integral: where it is needed, and its values there.

A proposal is widened on both sides and cut into R bins; a bin is the mean of the features over it,
that is the difference of two values of their running integral F, divided by the width.
"""

from fractions import Fraction
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32, Real

from segtad_jax.ops.proposals import proposal_grid


class Lattice(NamedTuple):
    """The bin edges of a whole grid of proposals, on the host.

    Attributes:
        points: where the integral is needed, in nodes of the features, increasing, within its
            support.
        edges: rows of `points` at the bin edges of each proposal.
        widths: width of each proposal's bins, in nodes.
        parts: points for each node, where the integral is linear between nodes ('constant') and
            points lie closer than nodes; else 1.
    """

    points: Float32[np.ndarray, " P"]
    edges: Int32[np.ndarray, "M R+1"]
    widths: Float32[np.ndarray, " M"]
    parts: int


def running_integral(
    features: Float[Array, "T C"],
    points: Real[Array, " P"],
    interpolation: str = "constant",
    num_nodes: int | Int[Array, ""] | None = None,
) -> Float[Array, "P C"]:
    """Returns F(x), the integral of the features from 0 to x, in float32 or float64 as they are.

    Args:
        features: one node a row.
        points: coordinates x, any real values; F is constant outside the support.
        interpolation: 'constant', node t has its value on [t, t + 1), support [0, T]; 'linear',
            node t at coordinate t, linear between nodes, the first value held over [-1, 0] and the
            last over [T - 1, T], support [-1, T]. Zero outside the support.
        num_nodes: real nodes, where the support ends; None for all T.
    """
    x = floating(features)
    number = jnp.arange(len(x))[:, None]
    num_nodes = len(x) if num_nodes is None else num_nodes
    low, high = support(num_nodes, interpolation)
    x = jnp.where(number < num_nodes, x, 0)
    if interpolation == "constant":
        left = right = x
        before = jnp.zeros_like(x[:1])
    else:
        following = jnp.concatenate([x[1:], x[-1:]])  # held, not a slope down to the padding:
        following = jnp.where(number + 1 < num_nodes, following, x)
        left, right = jnp.concatenate([x[:1], x]), jnp.concatenate([x[:1], following])
        before = -x[:1]  # F(-1)
    whole = jnp.cumsum(jnp.concatenate([before, (left + right) / 2]), axis=0)
    position = jnp.clip(points.astype(x.dtype), low, high) - low
    cell = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, left.shape[0] - 1)
    part = (position - cell)[:, None]
    return whole[cell] + part * (left[cell] + part / 2 * (right[cell] - left[cell]))


def lattice(
    num_frames: int,
    stride: int,
    num_bins: int = 32,
    context: float = 0.5,
    interpolation: str = "constant",
    decoder_stride: int = 1,
    segments: Int[np.ndarray, "M 2"] | None = None,
) -> Lattice:
    """Returns the bin edges of `proposal_grid(num_frames, stride)`, which lie on one lattice.

    Args:
        num_frames: T.
        stride: eta, frames.
        num_bins: R.
        context: by how much of its length a proposal is widened on each side.
        interpolation: as in `running_integral`; it sets the support.
        decoder_stride: q, frames to a node of the features, which have T / q nodes.
        segments: a part of the grid, or None for all of it.

    Returns:
        1 + T R / (2 eta) points for a context of 0.5, and for 'linear' those left of 0.
    """
    ratio = Fraction(context).limit_denominator(1000)
    multiple = ratio.denominator + 2 * ratio.numerator  # divides num_bins, or there is no lattice
    low, high = support(num_frames // decoder_stride, interpolation)
    cells = (proposal_grid(num_frames, stride) if segments is None else segments) // stride
    start, length = cells[:, :1], cells[:, 1:] - cells[:, :1]

    per_cell = num_bins * ratio.denominator // multiple  # lattice steps in one cell
    per_context = num_bins * ratio.numerator // multiple  # the same in one cell's context
    edges = start * per_cell - length * per_context + length * np.arange(num_bins + 1)

    step = stride / (per_cell * decoder_stride)  # in nodes
    first, last = int(np.floor(low / step)), num_frames // stride * per_cell
    points = np.clip(step * np.arange(first, last + 1), low, high)
    edges = np.clip(edges, first, last) - first
    widths = step * length[:, 0]
    parts = max(round(1 / step), 1) if interpolation == "constant" else 1
    parts = parts if parts * step == 1 else 1
    return Lattice(
        points.astype(np.float32), edges.astype(np.int32), widths.astype(np.float32), parts
    )


def floating(x: Float[Array, "T C"]) -> Float[Array, "T C"]:
    """Returns x in float32, or float64 if it is."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def support(
    num_nodes: int | Int[Array, ""], interpolation: str
) -> tuple[int, int | Int[Array, ""]]:
    """Returns where the features' support starts and ends, in nodes."""
    return (0 if interpolation == "constant" else -1), num_nodes
