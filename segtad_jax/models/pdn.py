"""Proposal detection network (section 3.3): SGAlign, edge convolutions and two scores."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from segtad_jax.ops.align import Lattice
from segtad_jax.ops.bin_projection import (
    align_and_project,
    prefer_project_first,
    project_and_align,
)
from segtad_jax.ops.graph import cosine_attention, edge_convolution
from segtad_jax.ops.videos import over_videos


class PDN(nn.Module):
    """Scores proposals on a graph of proposals (Eq. 9).

    Without `config.proposal_graph` every layer is a Conv1D(k=1) on each proposal alone (Table 7):
    Eq. 1 with A = 0.
    """

    config: ConfigDict  # `config.model`
    rematerialise: bool  # whether the backward pass computes activations again

    @nn.compact
    def __call__(
        self,
        decoded: Float[Array, "b nodes C"],
        num_nodes: Int[Array, " b"],
        lattice: Lattice,
        proposals: Int[Array, "b n"] | None,
        neighbours: Int[Array, "*b n K"],
        valid: Bool[Array, "b n"],
    ) -> Float[Array, "b n 2"]:
        """Returns logits of the tIoU and of the class.

        Args:
            decoded: features of T / q nodes, q being `config.decoder_stride`.
            num_nodes: nodes of each video that are real.
            lattice: of the grid.
            proposals: proposals of the grid, or None for all of them.
            neighbours: positions in `proposals`, or [M, K] where all proposals are scored.
            valid: proposals within the video; others count as no neighbour (their entry of A is 0).
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        width, init = config.width, nn.initializers.lecun_normal()
        align_kernel = self.param("align_kernel", init, (config.num_bins, decoded.shape[-1], width))
        align_bias = self.param("align_bias", nn.initializers.zeros, (width,))
        edge_kernels = [
            self.param(f"edge_{i}_kernel", init, ((1 + config.proposal_graph) * width, width))
            for i in range(config.proposal_layers)
        ]
        score_kernel = self.param("scores_kernel", init, (width, 2))
        score_bias = self.param("scores_bias", nn.initializers.zeros, (2,))

        # A layer saves only its products for the backward pass: gathering again costs less than
        # writing and reading what was gathered.
        saved = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        layer = jax.checkpoint(self._layer, policy=saved)

        def score(align: Callable) -> Callable:
            """Returns the function that scores one video; `align` is one of the two below."""

            def score_video(
                nodes: Array,
                num_nodes: Array,
                valid: Array,
                proposals: Array | None = None,
                neighbours: Array = neighbours,
            ) -> Array:
                # Cast within a video, so that the gradients of all videos add up in float32.
                kernel = align_kernel.astype(dtype)
                x = align(nodes, lattice, proposals, kernel, config.interpolation, num_nodes)
                x = jnp.where(valid[:, None], nn.relu(x + align_bias), 0)
                for edge_kernel in edge_kernels:
                    # Without the barrier XLA computes x anew for each reader, that is neighbour.
                    x = jax.lax.optimization_barrier(x)
                    x = layer(x, neighbours, valid, edge_kernel.astype(dtype))
                scores = x.astype(dtype) @ score_kernel.astype(dtype)
                return scores.astype(jnp.float32) + score_bias

            return jax.checkpoint(score_video) if self.rematerialise else score_video

        # `project_and_align` needs all bits of float32, and accelerators take fewer for products.
        first = prefer_project_first(lattice, nodes=decoded.shape[1], proposals=valid.shape[1])
        on_cpu = project_and_align if first and dtype == jnp.float32 else align_and_project
        sampled = () if proposals is None else (proposals, neighbours)
        return over_videos(
            score(align_and_project),
            decoded,
            num_nodes,
            valid,
            *sampled,
            cpu_function=score(on_cpu),
            real=num_nodes > 0 if proposals is None else None,
        )

    def _layer(self, x: Array, neighbours: Array, valid: Array, kernel: Array) -> Array:
        """Applies Eq. 1 and ReLU; the entries of A are the cosines of the layer's own input."""
        dtype = jnp.dtype(self.config.dtype)
        if self.config.proposal_graph:
            attention = cosine_attention(x.astype(jnp.float32), neighbours)
            y = edge_convolution(
                x.astype(dtype),
                neighbours,
                kernel,
                weights=attention.astype(dtype),
                aggregate=self.config.aggregate,
                valid=valid[neighbours],
            )
        else:
            y = x.astype(dtype) @ kernel
        return jnp.where(valid[:, None], nn.relu(y), 0)
