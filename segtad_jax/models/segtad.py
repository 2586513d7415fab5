"""SegTAD (Figure 2): SSN decodes frames, SGAlign reads proposals off them, PDN scores these."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from segtad_jax.models.pdn import PDN
from segtad_jax.models.ssn import ENCODER_STRIDE, SSN
from segtad_jax.ops import align, bin_projection, proposals, sampling
from segtad_jax.ops.videos import over_videos


class Grid(NamedTuple):
    """What is constant for a window's length and a stride: built once, on the host."""

    segments: np.ndarray  # [M, 2] int32 frames, Eq. 8
    neighbours: np.ndarray  # [M, K] the proposal graph
    members: np.ndarray  # [M, 1 + K + K*K] the neighbourhood that a seed draws
    edges: np.ndarray  # [M, 1 + K + K*K, K] its graph, as positions within it
    lattice: align.Lattice  # where SGAlign needs the features' integral


def grid(config: ConfigDict) -> Grid:
    """The grid of a config (`data.num_frames`, `model.stride`, ...); equal ones are built once."""
    model = config.model
    return _grid(
        config.data.num_frames,
        model.stride,
        model.proposal_neighbours,
        model.similarity,
        (model.num_bins, model.context, model.interpolation, model.decoder_stride),
    )


@functools.lru_cache(maxsize=4)
def _grid(num_frames: int, stride: int, k: int, similarity: str, lattice: tuple) -> Grid:
    segments = proposals.proposal_grid(num_frames, stride)
    return Grid(
        segments,
        proposals.neighbour_table(segments, k, similarity),
        *proposals.neighbourhoods(segments, k, similarity),
        align.lattice(num_frames, stride, *lattice),
    )


class SegTAD(nn.Module):
    """The whole network for a batch of windows of T frames.

    Attributes:
        config: as `segtad_jax.config.default()` (frozen by Flax).
        num_classes: D, without the background.
        boundary_bias: initial logit of the start and end heads; 0 where their loss is balanced.
        axis_name: the device axis over which BatchNorm sums in training, or None.

    Call:
        features [b, T, C] float, zero beyond `num_frames`;
        num_frames [b] int, real frames of each window;
        seeds [b, S] int or None: proposals whose neighbourhoods are scored (training), or all M
        proposals (inference);
        train: whether BatchNorm uses, and updates, statistics of the batch.

    Returns a dict:
        `frame_logits` [b, T, D + 1] (0 is background), `start_logits` [b, T], `end_logits` [b, T],
        `proposal_logits` [b, n, 2] (tIoU, class), `rows` [b, n] the proposals they belong to,
        with n = M or S * (1 + K + K*K).
    """

    config: ConfigDict
    num_classes: int
    boundary_bias: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        features: Float[Array | np.ndarray, "b T C"],
        num_frames: Int[Array | np.ndarray, " b"],
        seeds: Int[Array | np.ndarray, "b S"] | None = None,
        train: bool = False,
    ) -> dict[str, Array]:
        """See the class."""
        model = self.config.model
        dtype = jnp.dtype(model.dtype)
        constants = grid(self.config)
        expected = self.config.data.num_frames
        if features.shape[1] != expected or expected % ENCODER_STRIDE:
            raise ValueError(
                f"features of {features.shape[1]} frames, but data.num_frames = {expected}: cut or "
                f"pad them to that length, which must be divisible by {ENCODER_STRIDE}"
            )
        features, num_frames = jnp.asarray(features), jnp.asarray(num_frames)
        seeds = None if seeds is None else jnp.asarray(seeds)
        out = SSN(
            self.num_classes,
            model.width,
            model.branches,
            model.dilations,
            model.global_convolution,
            model.snippet_neighbours,
            model.aggregate,
            model.decoder_stride,
            self.boundary_bias,
            dtype,
            self.axis_name,
            name="ssn",
        )(features, num_frames, train)

        rows, neighbours = self._rows(constants, seeds, len(features))
        valid = jnp.asarray(constants.segments)[rows, 1] <= num_frames[:, None]  # [b, n]
        aligned = self._sgalign(
            out.pop("decoded"), num_frames, seeds is not None, rows, constants.lattice
        )
        aligned = jnp.where(valid[..., None], nn.relu(aligned), 0)
        pdn = PDN(model.width, model.proposal_layers, model.aggregate, dtype, name="pdn")
        return out | {"proposal_logits": pdn(aligned, neighbours, valid), "rows": rows}

    def _rows(
        self, constants: Grid, seeds: Int[Array, "b S"] | None, batch: int
    ) -> tuple[Int[Array, "b n"], Int[Array, "*b n K"]]:
        """The proposals to score and, for each, its neighbours as positions among them."""
        if seeds is None:
            rows = jnp.arange(len(constants.segments))
            return jnp.broadcast_to(rows, (batch, len(rows))), jnp.asarray(constants.neighbours)
        model = self.config.model
        rows, neighbours = jax.vmap(sampling.gather_neighbourhoods, (0, None, None))(
            seeds, constants.members, constants.edges
        )
        if self.config.sampling.edges == "list":  # `:paper`
            k, similarity = model.proposal_neighbours, model.similarity
            neighbours = jax.vmap(
                lambda listed: sampling.list_neighbours(listed, constants.segments, k, similarity)
            )(rows)
        return rows, neighbours

    def _sgalign(
        self,
        decoded: Float[Array, "b n C"],
        num_frames: Int[Array, " b"],
        seeded: bool,
        rows: Int[Array, "b m"],
        lattice: align.Lattice,
    ) -> Float[Array, "b m W"]:
        """SGAlign and the linear layer after it (G-TAD, reference 43), before its ReLU."""
        model = self.config.model
        dtype = jnp.dtype(model.dtype)
        shape = (model.num_bins, decoded.shape[-1], model.width)
        kernel = self.param("align_kernel", nn.initializers.lecun_normal(), shape).astype(dtype)
        bias = self.param("align_bias", nn.initializers.zeros, (model.width,))
        num_nodes = -(-num_frames // model.decoder_stride)

        def project(nodes: Array, num_nodes: Array, rows: Array) -> Array:
            return bin_projection.align_and_project(
                nodes, lattice, rows, kernel, model.interpolation, num_nodes
            )

        def project_all(nodes: Array, num_nodes: Array, _: Array) -> Array:
            return bin_projection.align_and_project_all(
                nodes, lattice, kernel, model.interpolation, num_nodes
            )

        whole = not seeded and dtype == jnp.float32
        cpu_function = project_all if whole else project
        return over_videos(project, decoded, num_nodes, rows, cpu_function=cpu_function) + bias
