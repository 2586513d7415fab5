"""SGAlign and the linear layer after it, in two orders that agree exactly on paper.

For some proposals (training) the bins are gathered, then projected. For the whole grid (inference)
the running integral is projected first, once for each edge of a bin, and the proposals gather the
products: all of their edges lie on one lattice of few points. Both go edge by edge, so that what is
gathered stays in the cache: all edges at once are R C numbers a proposal.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from segtad_jax.ops.align import Lattice, floating, running_integral, support

Count = int | Int[Array | np.ndarray, ""] | None


def align_and_project(
    features: Float[Array | np.ndarray, "T C"],
    lattice: Lattice,
    rows: Int[Array | np.ndarray, " n"],
    kernel: Float[Array | np.ndarray, "R C W"],
    interpolation: str = "constant",
    num_nodes: Count = None,
) -> Float[Array, "n W"]:
    """SGAlign and the linear layer after it: sum over r of bin_r @ kernel_r, without bias.

    Args:
        features: one node a row; 0 beyond `num_nodes`.
        lattice: of the whole grid.
        rows: the proposals wanted.
        kernel: one matrix for each bin; its dtype is that of the products, integrals and sums are
            at least float32.
        interpolation: as the lattice was made for.
        num_nodes: of the T those that are real; all where None.
    """
    kernel = jnp.asarray(kernel)
    centred, mean = _without_mean(features, num_nodes)
    integral = running_integral(centred, lattice.points, interpolation, num_nodes)
    edges = jnp.asarray(lattice.edges)[rows]
    widths = jnp.asarray(lattice.widths, integral.dtype)[rows]
    inside = _inside(lattice, edges, widths, interpolation, num_nodes)
    bins = _project_bins(integral, edges, kernel) / widths[:, None]
    return bins + _dot(inside, _projected_mean(mean, kernel))


def align_and_project_all(
    features: Float[Array | np.ndarray, "T C"],
    lattice: Lattice,
    kernel: Float[Array | np.ndarray, "R C W"],
    interpolation: str = "constant",
    num_nodes: Count = None,
) -> Float[Array, "M W"]:
    """`align_and_project` of the whole grid, projecting before the gather; float32 only.

    With F the running integral, e_r the edges of a proposal's bins and w their width, the sum is
    1/w sum over r = 0..R of F(e_r) (B_{r-1} - B_r), B_r the kernel of bin r and B_{-1} = B_R = 0.
    F is large where bins are small: in a product of bfloat16, or of the fewer bits that
    accelerators take for float32, nothing would be left of the difference.
    """
    centred, mean = _without_mean(features, num_nodes)
    kernel = jnp.asarray(kernel, centred.dtype)
    edges, parts = lattice.edges, lattice.parts
    if parts == 1:
        knots, rows = lattice.points, edges
    else:  # F is linear between nodes, and so is its product: rows of nodes, then of those between
        nodes = centred.shape[0]
        node, part = np.divmod(edges, parts)
        knots = np.arange(nodes + 1)
        rows = np.where(part == 0, node, nodes + 1 + (part - 1) * nodes + node)
    integral = running_integral(centred, knots, interpolation, num_nodes)
    ends = jnp.zeros_like(kernel[:1])
    steps = jnp.concatenate([ends, kernel]) - jnp.concatenate([kernel, ends])  # [R + 1, C, W]

    def add_edge(total: Array, edge: tuple[Array, Array]) -> tuple[Array, None]:
        rows, step = edge  # [M], [C, W]
        return total + _take(integral @ step, rows), None

    def add_edge_between(total: Array, edge: tuple[Array, Array]) -> tuple[Array, None]:
        rows, step = edge
        at = integral @ step
        between = [at[:-1] + i / parts * (at[1:] - at[:-1]) for i in range(1, parts)]
        return total + _take(jnp.concatenate([at, *between]), rows), None

    total = jnp.zeros((len(edges), kernel.shape[-1]), centred.dtype)
    on_nodes = np.all(rows < len(knots), axis=0)  # [R + 1]
    for chosen, add in ((on_nodes, add_edge), (~on_nodes, add_edge_between)):
        if chosen.any():
            total = jax.lax.scan(add, total, (jnp.asarray(rows.T[chosen]), steps[chosen]))[0]
    widths = jnp.asarray(lattice.widths, centred.dtype)
    inside = _inside(lattice, jnp.asarray(edges), widths, interpolation, num_nodes)
    return total / widths[:, None] + inside @ _projected_mean(mean, kernel)


@jax.custom_vjp
def _project_bins(
    integral: Float[Array, "P C"], edges: Int[Array, "n E"], kernel: Float[Array, "E-1 C W"]
) -> Float[Array, "n W"]:
    """Sum over r of (F(e_{r+1}) - F(e_r)) @ kernel_r; its own backward gathers again.

    What autodiff keeps for it, every bin of every proposal, costs more to write and read back. Both
    edges of a bin are gathered and added to anew: a row carried over to the next bin would be
    copied there by one thread while the others wait.
    """

    def add_bin(total: Array, one_bin: tuple[Array, Array, Array]) -> tuple[Array, None]:
        first, last, kernel_r = one_bin
        return total + _dot(_take(integral, last) - _take(integral, first), kernel_r), None

    total = jnp.zeros((edges.shape[0], kernel.shape[-1]), integral.dtype)
    return jax.lax.scan(add_bin, total, (edges.T[:-1], edges.T[1:], kernel))[0]


def _project_bins_forward(integral: Array, edges: Array, kernel: Array) -> tuple[Array, tuple]:
    return _project_bins(integral, edges, kernel), (integral, edges, kernel)


def _project_bins_backward(saved: tuple[Array, Array, Array], gradient: Array) -> tuple:
    integral, edges, kernel = saved

    def add_bin(total: Array, one_bin: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        first, last, kernel_r = one_bin
        one = _take(integral, last) - _take(integral, first)
        by_kernel = _dot(one.T, gradient.astype(kernel.dtype))
        by_bin = _dot(gradient, kernel_r.T)
        total = total.at[first].add(-by_bin, mode="promise_in_bounds")
        return total.at[last].add(by_bin, mode="promise_in_bounds"), by_kernel

    bins = (edges.T[:-1], edges.T[1:], kernel)
    total, by_kernel = jax.lax.scan(add_bin, jnp.zeros_like(integral), bins)
    return total, None, by_kernel.astype(kernel.dtype)


_project_bins.defvjp(_project_bins_forward, _project_bins_backward)


def _without_mean(
    features: Float[Array | np.ndarray, "T C"], num_nodes: Count
) -> tuple[Float[Array, "T C"], Float[Array, " C"]]:
    """Features less their mean over time (see `sgalign`), through which no gradient flows."""
    x = floating(features)
    count = x.shape[0] if num_nodes is None else jnp.maximum(num_nodes, 1)
    mean = jax.lax.stop_gradient(x).sum(0) / count
    return x - mean, mean


def _inside(
    lattice: Lattice,
    edges: Int[Array, "n E"],
    widths: Float[Array, " n"],
    interpolation: str,
    num_nodes: Count,
) -> Float[Array, "n E-1"]:
    """Which part of each bin lies on the support."""
    points = jnp.asarray(lattice.points, widths.dtype)
    if num_nodes is not None:
        points = jnp.clip(points, *support(num_nodes, interpolation))
    return jnp.diff(points[edges], axis=1) / widths[:, None]


def _projected_mean(mean: Float[Array, " C"], kernel: Float[Array, "R C W"]) -> Float[Array, "R W"]:
    return jnp.einsum("c,rcw->rw", mean, kernel.astype(mean.dtype))


def _take(x: Float[Array, "P C"], rows: Int[Array, " n"]) -> Float[Array, "n C"]:
    return x.at[rows].get(mode="promise_in_bounds")


def _dot(a: Float[Array, "n C"], b: Float[Array, "C W"]) -> Float[Array, "n W"]:
    """A product in the dtype of `b`, added up in float32 at least."""
    kind = jnp.promote_types(b.dtype, jnp.float32)
    return jnp.matmul(a.astype(b.dtype), b, preferred_element_type=kind)
