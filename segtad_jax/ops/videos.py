"""Maps over the videos of a batch; the one place where a form is chosen by the platform."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

PyTree = Any


def over_videos(
    function: Callable,
    *batches: PyTree,
    cpu_function: Callable | None = None,
    real: Bool[Array, " b"] | None = None,
) -> PyTree:
    """Maps `function` over the videos of a batch.

    Accelerators take all videos at once. A CPU takes one after the other, with all of its threads:
    the arrays of one video stay in its cache, those of a batch do not (docs/performance.md). What
    counts is the platform that the program is compiled or exported for.

    Args:
        function: of one video.
        *batches: its arguments, with a leading axis; None stays None.
        cpu_function: replaces `function` on a CPU; its results are equal but for rounding.
        real: which videos are no padding. A CPU leaves padding out, whose results are then 0. Not
            for training, where it would keep more for the backward pass.
    """
    on_cpu = cpu_function or function

    def unless_padding(video: PyTree) -> PyTree:
        is_real, *arguments = video
        shapes = jax.eval_shape(on_cpu, *arguments)
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.cond(is_real, on_cpu, lambda *_: blank, *arguments)

    def one_by_one(*batches: PyTree) -> PyTree:
        if real is None:
            return jax.lax.map(lambda video: on_cpu(*video), batches)
        return jax.lax.map(unless_padding, (real, *batches))

    return jax.lax.platform_dependent(*batches, cpu=one_by_one, default=jax.vmap(function))
