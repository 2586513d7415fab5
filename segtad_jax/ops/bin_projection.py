"""SGAlign and the linear layer after it, in two orders that are equal but for rounding.

Either the bins are gathered, then projected; or the running integral is projected first, once for
each edge of a bin, and proposals gather the products, since all of their edges lie on one lattice
of few points. Both go edge by edge, so that what is gathered stays in the cache: all edges at once
are R C numbers for each proposal.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real

from segtad_jax.ops.align import Lattice, floating, running_integral, support

Count = int | Int[Array, ""] | None


def align_and_project(
    features: Float[Array, "T C"],
    lattice: Lattice,
    rows: Int[Array, " n"] | None,
    kernel: Float[Array, "R C W"],
    interpolation: str = "constant",
    num_nodes: Count = None,
) -> Float[Array, "n W"]:
    """Returns the sum over r of bin_r @ kernel_r: SGAlign and the linear layer, without bias.

    Args:
        features: one node a row; 0 beyond `num_nodes`.
        lattice: of the whole grid.
        rows: proposals; None for all M.
        kernel: one matrix for each bin; products are in its dtype, integrals and sums at least in
            float32.
        interpolation: that of the lattice.
        num_nodes: real nodes; None for all T.
    """
    centred, mean = _without_mean(features, num_nodes)
    integral = running_integral(centred, jnp.asarray(lattice.points), interpolation, num_nodes)
    total = _project_bins(integral, _select(rows, lattice.edges), kernel)
    return _bin_means(total, lattice, rows, _projected_mean(mean, kernel), interpolation, num_nodes)


def project_and_align(
    features: Float[Array, "T C"],
    lattice: Lattice,
    rows: Int[Array, " n"] | None,
    kernel: Float[Array, "R C W"],
    interpolation: str = "constant",
    num_nodes: Count = None,
) -> Float[Array, "n W"]:
    """Returns what `align_and_project` does, but projects before it gathers; float32 only.

    With F the running integral, e_r the edges of a proposal's bins and w their width, the sum is
    1/w sum over r = 0..R of F(e_r) (B_{r-1} - B_r), B_r the kernel of bin r and B_{-1} = B_R = 0.
    F is large where bins are small: a product in bfloat16, or in the fewer bits that accelerators
    take for float32, would leave nothing of the difference.
    """
    centred, mean = _without_mean(features, num_nodes)
    kernel = kernel.astype(centred.dtype)
    edges, parts = lattice.edges, lattice.parts
    knots = _knots(lattice, centred.shape[0])
    if parts > 1:  # F is linear between nodes, and so is its product: such rows come after nodes
        nodes = centred.shape[0]
        node, part = np.divmod(edges, parts)
        edges = np.where(part == 0, node, nodes + 1 + (part - 1) * nodes + node)
    integral = running_integral(centred, jnp.asarray(knots), interpolation, num_nodes)
    ends = jnp.zeros_like(kernel[:1])
    steps = jnp.concatenate([ends, kernel]) - jnp.concatenate([kernel, ends])  # [R + 1, C, W]

    def add_edge(total: Array, edge: tuple[Array, Array]) -> tuple[Array, None]:
        at, step = edge  # [n], [C, W]
        return total + _take(integral @ step, at), None

    def add_edge_between(total: Array, edge: tuple[Array, Array]) -> tuple[Array, None]:
        at, step = edge
        product = integral @ step
        first, change = product[:-1], product[1:] - product[:-1]
        between = [first + i / parts * change for i in range(1, parts)]
        return total + _take(jnp.concatenate([product, *between]), at), None

    at = _select(rows, edges).T  # [R + 1, n]
    total = jnp.zeros((at.shape[1], kernel.shape[-1]), centred.dtype)
    on_nodes = np.all(edges < len(knots), axis=0)  # [R + 1]
    for chosen, add in ((on_nodes, add_edge), (~on_nodes, add_edge_between)):
        if chosen.any():
            total = jax.lax.scan(add, total, (at[chosen], steps[chosen]))[0]
    return _bin_means(total, lattice, rows, _projected_mean(mean, kernel), interpolation, num_nodes)


def prefer_project_first(lattice: Lattice, nodes: int, proposals: int) -> bool:
    """Returns whether `project_and_align` takes less than two thirds of the products of rows.

    With four fifths of them it takes as long, and the other order loses fewer digits.

    Args:
        lattice: of the whole grid.
        nodes: T.
        proposals: n, how many are wanted.
    """
    edges = lattice.edges.shape[1]
    return 1.5 * len(_knots(lattice, nodes)) * edges < proposals * (edges - 1)


@jax.custom_vjp
def _project_bins(
    integral: Float[Array, "P C"], edges: Int[Array, "n E"], kernel: Float[Array, "E-1 C W"]
) -> Float[Array, "n W"]:
    """Returns the sum over r of (F(e_{r+1}) - F(e_r)) @ kernel_r; its backward pass gathers again.

    Autodiff would save every bin of every proposal, which costs more to write and read. Both edges
    of a bin are gathered and added to anew: one thread would copy a row that is carried over to the
    next bin, while the others wait.
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
    features: Float[Array, "T C"], num_nodes: Count
) -> tuple[Float[Array, "T C"], Float[Array, " C"]]:
    """Returns features less their mean over time, and the mean.

    A running sum of features with an offset cancels badly in float32. The mean is put back by how
    much of each bin is inside, so neither result nor gradients depend on its value.
    """
    x = floating(features)
    count = x.shape[0] if num_nodes is None else jnp.maximum(num_nodes, 1)
    mean = jax.lax.stop_gradient(x).sum(0) / count
    return x - mean, mean


def _bin_means(
    total: Float[Array, "n W"],
    lattice: Lattice,
    rows: Int[Array, " n"] | None,
    projected_mean: Float[Array, "R W"],
    interpolation: str,
    num_nodes: Count,
) -> Float[Array, "n W"]:
    """Divides integrals over bins by the width, and puts the mean over time back."""
    widths = _select(rows, lattice.widths).astype(total.dtype)
    points = jnp.asarray(lattice.points, total.dtype)
    if num_nodes is not None:
        points = jnp.clip(points, *support(num_nodes, interpolation))
    inside = jnp.diff(points[_select(rows, lattice.edges)], axis=1) / widths[:, None]  # [n, R]
    return total / widths[:, None] + _dot(inside, projected_mean)


def _knots(lattice: Lattice, nodes: int) -> Real[np.ndarray, " P"]:
    """Returns where the integral is projected: at nodes alone if it is linear between them."""
    return lattice.points if lattice.parts == 1 else np.arange(nodes + 1)


def _select(rows: Int[Array, " n"] | None, table: Real[np.ndarray, "M *_"]) -> Array:
    """Returns these proposals' rows of a table of the whole grid, or all."""
    return jnp.asarray(table) if rows is None else jnp.asarray(table)[rows]


def _projected_mean(mean: Float[Array, " C"], kernel: Float[Array, "R C W"]) -> Float[Array, "R W"]:
    return jnp.einsum("c,rcw->rw", mean, kernel.astype(mean.dtype))


def _take(x: Float[Array, "P C"], rows: Int[Array, " n"]) -> Float[Array, "n C"]:
    return x.at[rows].get(mode="promise_in_bounds")


def _dot(a: Float[Array, "n C"], b: Float[Array, "C W"]) -> Float[Array, "n W"]:
    """Multiplies in the dtype of `b` and adds up in float32 at least."""
    kind = jnp.promote_types(b.dtype, jnp.float32)
    return jnp.matmul(a.astype(b.dtype), b, preferred_element_type=kind)
