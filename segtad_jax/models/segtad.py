"""SegTAD (Figure 2): SSN decodes frames, PDN reads proposals off them and scores these."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from segtad_jax.models.pdn import PDN
from segtad_jax.models.ssn import ENCODER_STRIDE, SSN
from segtad_jax.ops import align, proposals, refine, sampling


class Grid(NamedTuple):
    """What is constant for a window's length and a stride: built once, on the host."""

    segments: np.ndarray  # [M, 2] int32 frames, Eq. 8
    neighbours: np.ndarray  # [M, K] the proposal graph
    members: np.ndarray  # [M, n <= 1 + K + K*K] the neighbourhood that a seed draws
    copies: np.ndarray  # [M, n] float32, how often it has each of them; 1 + K + K*K in all
    edges: np.ndarray  # [M, n, K] its graph, as positions within it
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


def create_variables(config: ConfigDict, model: "SegTAD", num_channels: int) -> dict[str, Any]:
    """Returns new {"params", "batch_stats"} from the config's seed; C is `num_channels`."""
    features = jnp.zeros((1, config.data.num_frames, num_channels))
    num_frames = jnp.full(1, config.data.num_frames)
    variables = jax.jit(model.init)(jax.random.key(config.seed), features, num_frames)
    return {"batch_stats": {}} | variables


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
        with n = M or S times the members of a neighbourhood (`Grid`). With `refine` also
        `choice_logits` [b, n, 2, B] and the refined `segments` [b, n, 2] in frames (ops.refine).
        With `classifier` also `class_logits` [b, T, D + 1], which share nothing with the others but
        the features.
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
        again = self.config.train.rematerialise
        ssn = functools.partial(
            nn.remat(SSN, static_argnums=(3,)) if again else SSN,
            self.num_classes,
            model.width,
            model.branches,
            model.dilations,
            model.global_convolution,
            model.snippet_neighbours,
            model.aggregate,
            model.decoder_stride,
            model.input_highway,
            model.refine,
            self.boundary_bias,
            dtype,
            self.axis_name,
        )
        out = ssn(name="ssn")(features, num_frames, train)
        if model.classifier:
            classified = ssn(name="classifier")(features, num_frames, train)
            out["class_logits"] = classified["frame_logits"]

        if seeds is None:
            every = jnp.arange(len(constants.segments))
            rows = jnp.broadcast_to(every, (features.shape[0], len(every)))
            neighbours = jnp.asarray(constants.neighbours)
        else:
            rows, neighbours = self._neighbourhoods(constants, seeds)
        valid = jnp.asarray(constants.segments)[rows, 1] <= num_frames[:, None]  # [b, n]
        choices = 2 * model.stride if model.refine else 0  # for either boundary
        said = PDN(
            model.width,
            model.proposal_layers,
            model.proposal_graph,
            model.num_bins,
            model.interpolation,
            2 + 2 * choices,
            model.aggregate,
            dtype,
            again,
            name="pdn",
        )(
            out.pop("decoded"),
            -(-num_frames // model.decoder_stride),
            constants.lattice,
            None if seeds is None else rows,
            neighbours,
            valid,
        )
        out |= {"proposal_logits": said[..., :2], "rows": rows}
        if not model.refine:
            return out
        fields = jnp.stack([out.pop("start_field"), out.pop("end_field")], axis=-1)
        own = said[..., 2:].reshape(*rows.shape, 2, choices)
        segments = jnp.asarray(constants.segments)[rows]
        logits = jax.vmap(refine.choice_logits)(segments, fields, own, num_frames)
        refined = jax.vmap(refine.refined_segments)(segments, logits)
        return out | {"choice_logits": logits, "segments": refined}

    def _neighbourhoods(
        self, constants: Grid, seeds: Int[Array, "b S"]
    ) -> tuple[Int[Array, "b n"], Int[Array, "b n K"]]:
        """The proposals that seeds draw and, for each, its neighbours as positions among them."""
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
