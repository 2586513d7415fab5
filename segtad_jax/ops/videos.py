"""Maps over the videos of a batch; the one place where a form is chosen by the platform."""

from collections.abc import Callable
from typing import Any

import jax

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
