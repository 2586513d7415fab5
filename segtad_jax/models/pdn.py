"""Proposal detection network (section 3.3): SGAlign, three edge convolutions and two scores."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from segtad_jax.ops.align import Lattice
from segtad_jax.ops.bin_projection import (
    align_and_project,
    pays_to_project_first,
    project_and_align,
)
from segtad_jax.ops.graph import cosine_attention, edge_convolution
from segtad_jax.ops.videos import over_videos


class PDN(nn.Module):
    """Decoded features and a graph of proposals -> logits of the two scores of Eq. 9.

    Call:
        decoded [b, T/q, C];
        num_nodes [b]: those of T/q that are real;
        lattice: of the grid;
        rows [b, n] int, proposals of the grid, or None for all of them;
        neighbours [b, n, K] as positions in `rows`, or [M, K] for all proposals;
        valid [b, n].
        -> [b, n, num_outputs]: channel 0 regresses the tIoU, channel 1 classifies; what more there
        is belongs to the caller.

    A proposal that is not valid counts as no neighbour (its entry of A is 0). Without a `graph`
    every layer is a Conv1D(k=1) on each proposal alone (Table 7): Eq. 1 with A = 0.
    """

    width: int
    num_layers: int
    graph: bool
    num_bins: int
    interpolation: str
    num_outputs: int
    aggregate: str
    dtype: jnp.dtype
    rematerialise: bool

    @nn.compact
    def __call__(
        self,
        decoded: Float[Array, "b nodes C"],
        num_nodes: Int[Array, " b"],
        lattice: Lattice,
        rows: Int[Array, "b n"] | None,
        neighbours: Int[Array, "*b n K"],
        valid: Bool[Array, "b n"],
    ) -> Float[Array, "b n {self.num_outputs}"]:
        """See the class."""
        width, init = self.width, nn.initializers.lecun_normal()
        align_kernel = self.param("align_kernel", init, (self.num_bins, decoded.shape[-1], width))
        align_bias = self.param("align_bias", nn.initializers.zeros, (width,))
        edge_kernels = [
            self.param(f"edge_{layer}_kernel", init, ((1 + self.graph) * width, width))
            for layer in range(self.num_layers)
        ]
        score_kernel = self.param("scores_kernel", init, (width, self.num_outputs))
        score_bias = self.param("scores_bias", nn.initializers.zeros, (self.num_outputs,))

        # Of a layer, only products are kept for the way back: to gather again costs less than to
        # write and read what was gathered.
        kept = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        layer = jax.checkpoint(self._layer, policy=kept)

        def scored(aligned: Callable) -> Callable:
            def video(
                nodes: Array,
                num_nodes: Array,
                valid: Array,
                rows: Array | None = None,
                neighbours: Array = neighbours,
            ) -> Array:
                # Kernels become `dtype` here: the videos' gradients then add up in float32.
                kernel = align_kernel.astype(self.dtype)
                x = aligned(nodes, lattice, rows, kernel, self.interpolation, num_nodes)
                x = jnp.where(valid[:, None], nn.relu(x + align_bias), 0)
                for kernel in edge_kernels:
                    # Else XLA makes x anew for each of its readers, neighbour by neighbour.
                    x = jax.lax.optimization_barrier(x)
                    x = layer(x, neighbours, valid, kernel.astype(self.dtype))
                scores = x.astype(self.dtype) @ score_kernel.astype(self.dtype)
                return scores.astype(jnp.float32) + score_bias

            return jax.checkpoint(video) if self.rematerialise else video

        own = () if rows is None else (rows, neighbours)  # else those of all videos
        # Not on accelerators, which take fewer bits for float32: too few for `project_and_align`.
        pays = pays_to_project_first(lattice, nodes=decoded.shape[1], proposals=valid.shape[1])
        exact = self.dtype == jnp.float32
        on_cpu = project_and_align if exact and pays else align_and_project
        return over_videos(
            scored(align_and_project),
            decoded,
            num_nodes,
            valid,
            *own,
            cpu_function=scored(on_cpu),
        )

    def _layer(self, x: Array, neighbours: Array, valid: Array, kernel: Array) -> Array:
        """Eq. 1 with the cosine of the layer's own input as the entries of A."""
        if self.graph:
            attention = cosine_attention(x.astype(jnp.float32), neighbours)
            y = edge_convolution(
                x.astype(self.dtype),
                neighbours,
                kernel,
                weights=attention.astype(self.dtype),
                aggregate=self.aggregate,
                valid=valid[neighbours],
            )
        else:
            y = x.astype(self.dtype) @ kernel
        return jnp.where(valid[:, None], nn.relu(y), 0)
