"""SGAlign (section 3.3, after G-TAD) as an integral: means over the bins of each proposal."""

from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32, Real

from segtad_jax.ops.proposals import proposal_grid

INTERPOLATIONS = ("constant", "linear")


class Lattice(NamedTuple):
    """Where the running integral is needed for the whole grid of proposals: host constants.

    Attributes:
        points: coordinates in nodes of the features, increasing, clipped to the support.
        edges: for each proposal the rows of `points` at its bin edges.
        widths: width of each proposal's bins, in nodes.
        parts: points to a node, where the integral is linear between nodes ('constant') and points
            lie closer than nodes; else 1.
    """

    points: Float32[np.ndarray, " P"]
    edges: Int32[np.ndarray, "M R+1"]
    widths: Float32[np.ndarray, " M"]
    parts: int


def running_integral(
    features: Float[Array | np.ndarray, "T C"],
    points: Real[Array | np.ndarray, " P"],
    interpolation: str = "constant",
    num_nodes: int | Int[Array | np.ndarray, ""] | None = None,
) -> Float[Array, "P C"]:
    """F(x), the integral of the features from 0 to x, in float32 (or float64, if they are).

    Args:
        features: one node a row.
        points: coordinates x, any real values; F is constant outside the support.
        interpolation: 'constant', node t has its value on [t, t + 1), support [0, T]; 'linear',
            node t at coordinate t, linear between nodes, the first value held over [-1, 0] and the
            last over [T - 1, T], support [-1, T]. Zero outside the support.
        num_nodes: of the T those that are real; the support ends there. All where None.

    Raises:
        ValueError: on an unknown interpolation.
    """
    x = floating(features)
    total = x.shape[0]
    low, high = support(total if num_nodes is None else num_nodes, interpolation)
    if num_nodes is not None:
        x = jnp.where(jnp.arange(total)[:, None] < num_nodes, x, 0)
    if interpolation == "constant":
        left = right = x
        before = jnp.zeros_like(x[:1])
    else:
        following = jnp.concatenate([x[1:], x[-1:]])
        if num_nodes is not None:  # held, not a slope down to the padding
            following = jnp.where(jnp.arange(total)[:, None] + 1 < num_nodes, following, x)
        left, right = jnp.concatenate([x[:1], x]), jnp.concatenate([x[:1], following])
        before = -x[:1]  # F(-1)
    whole = jnp.cumsum(jnp.concatenate([before, (left + right) / 2]), axis=0)
    position = jnp.clip(jnp.asarray(points, x.dtype), low, high) - low
    cell = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, left.shape[0] - 1)
    part = (position - cell)[:, None]
    return whole[cell] + part * (left[cell] + part / 2 * (right[cell] - left[cell]))


def sgalign(
    features: Float[Array | np.ndarray, "T C"],
    segments: Real[Array | np.ndarray, "M 2"],
    num_bins: int = 32,
    context: float = 0.5,
    interpolation: str = "constant",
) -> Float[Array, "M {num_bins} C"]:
    """Mean of the features over each of the bins of each segment, widened on both sides.

    For any segments; the model, whose proposals are a grid, never holds their bins
    (`ops.bin_projection`).

    Args:
        features: one frame a row.
        segments: [start, end) in frames, any real values.
        num_bins: R, bins of equal width over the widened segment.
        context: how much is added on each side, in lengths of the segment.
        interpolation: as in `running_integral`.

    Returns:
        Means, at least float32; what lies outside the video counts as 0. A segment without length
        has bins of 0.
    """
    features = floating(features)
    segments = jnp.asarray(segments, features.dtype)
    start, length = segments[:, :1], segments[:, 1:] - segments[:, :1]
    fractions = (1 + 2 * context) * jnp.arange(num_bins + 1) / num_bins - context
    edges = start + length * fractions  # [M, R + 1]

    # A running sum of features with an offset cancels badly in float32: the mean is taken out and
    # put back by how much of each bin is inside. Neither result nor gradients depend on its value.
    mean = jax.lax.stop_gradient(features).mean(0)
    integral = running_integral(features - mean, edges.reshape(-1), interpolation)
    inside = jnp.clip(edges, *support(features.shape[0], interpolation))
    sums = jnp.diff(integral.reshape(*edges.shape, -1), axis=1)
    sums += jnp.diff(inside, axis=1)[..., None] * mean
    widths = jnp.diff(edges, axis=1)[..., None]  # as rounded, so that a constant stays itself
    return jnp.where(widths > 0, sums / jnp.where(widths > 0, widths, 1), 0)


def lattice(
    num_frames: int,
    stride: int,
    num_bins: int = 32,
    context: float = 0.5,
    interpolation: str = "constant",
    decoder_stride: int = 1,
) -> Lattice:
    """The bin edges of all of `proposal_grid(num_frames, stride)`, which lie on one lattice.

    Args:
        num_frames: T.
        stride: eta, frames.
        num_bins: R.
        context: as in `sgalign`.
        interpolation: as in `running_integral`; it sets the support.
        decoder_stride: q, frames to a node of the features, which have T / q nodes.

    Returns:
        1 + T R / (2 eta) points for a context of 0.5, and for 'linear' those left of 0.

    Raises:
        ValueError: where the edges lie on no common lattice: num_bins must be a multiple of 4 for
            a context of 0.5; where decoder_stride does not divide num_frames; on an unknown
            interpolation.
    """
    ratio = Fraction(context).limit_denominator(1000)
    multiple = ratio.denominator + 2 * ratio.numerator
    if num_bins < 1 or num_bins % multiple:
        raise ValueError(
            f"num_bins={num_bins} must be a positive multiple of {multiple} for context={context}: "
            "else the bin edges of the proposals lie on no common lattice"
        )
    if decoder_stride < 1 or num_frames % decoder_stride:
        raise ValueError(
            f"decoder_stride={decoder_stride} does not divide num_frames={num_frames}: "
            "choose 1 or another divisor"
        )
    low, high = support(num_frames // decoder_stride, interpolation)
    cells = proposal_grid(num_frames, stride) // stride
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


def floating(x: Float[Array | np.ndarray, "T C"]) -> Float[Array, "T C"]:
    """In float32, or float64 if it is."""
    return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))


def support(
    num_nodes: int | Int[Array | np.ndarray, ""], interpolation: str
) -> tuple[int, int | Int[Array | np.ndarray, ""]]:
    """Where the features are not zero, in nodes."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation={interpolation!r} is unknown: use one of {INTERPOLATIONS}")
    return (0 if interpolation == "constant" else -1), num_nodes
