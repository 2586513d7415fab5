"""Maps over the videos of a batch; the one place where a form is chosen by the platform."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

PyTree = Any


def over_videos(
    function: Callable, *batches: PyTree, cpu_function: Callable | None = None
) -> PyTree:
    """Maps `function` over the videos of a batch.

    Accelerators take all videos at once. A CPU takes one after the other, with all of its threads:
    the arrays of one video stay in its cache, those of a batch do not (docs/performance.md). What
    counts is the platform that the program is compiled or exported for.

    Args:
        function: of one video.
        *batches: its arguments, with a leading axis; None stays None.
        cpu_function: replaces `function` on a CPU; its results are equal but for rounding.
    """

    def one_by_one(*batches: PyTree) -> PyTree:
        return jax.lax.map(lambda video: (cpu_function or function)(*video), batches)

    return jax.lax.platform_dependent(*batches, cpu=one_by_one, default=jax.vmap(function))


def over_first(
    function: Callable[[PyTree], PyTree], batch: PyTree, count: Int[Array, ""]
) -> PyTree:
    """Applies `function` to a batch whose first `count` rows are real, and the rest padding.

    Accelerators take the batch whole. A CPU takes one row after the other and leaves out padding: a
    batch costs what is in it, and a row's results depend on no other row, to the bit.

    Args:
        function: of a batch of any size; treats its rows alike.
        batch: arrays with a leading axis.
        count: what comes of rows from there on means nothing.
    """

    def one_by_one(batch: PyTree, count: Array) -> PyTree:
        def add(row: Array, results: PyTree) -> PyTree:
            alone = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, row, 1), batch)
            return jax.tree.map(
                lambda x, of_row: jax.lax.dynamic_update_slice_in_dim(x, of_row, row, 0),
                *(results, function(alone)),
            )

        shapes = jax.eval_shape(function, batch)
        return jax.lax.fori_loop(
            *(0, count, add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
        )

    def whole(batch: PyTree, _: Array) -> PyTree:
        return function(batch)

    return jax.lax.platform_dependent(batch, count, cpu=one_by_one, default=whole)
