"""SegTAD (Figure 2): the 1D-SSN decodes frames, the PDN scores proposals from what it decoded."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from segtad_jax.models.grid import Grid, grid
from segtad_jax.models.pdn import PDN
from segtad_jax.models.ssn import SSN
from segtad_jax.ops import sampling


class SegTAD(nn.Module):
    """The whole network for a batch of windows of T frames.

    Attributes:
        config: as `segtad_jax.config.defaults.default` returns it (Flax freezes it), checked.
        num_classes: D, without the background.
        boundary_bias: initial logit of the start and end heads; 0 where their loss is balanced.
        axis_name: the device axis over which BatchNorm sums in training, or None.
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
        augment: Callable[[Array], Array] = lambda features: features,
    ) -> dict[str, Array]:
        """Scores all proposals, or the neighbourhoods of some.

        Args:
            features: of each frame. Those beyond `num_frames` are not read.
            num_frames: real frames of each window.
            seeds: proposals whose neighbourhoods are scored (training), or None: all M proposals
                (inference).
            train: whether BatchNorm uses, and updates, statistics of the batch.
            augment: what training does to features, after they are normalised.

        Returns:
            `frame_logits` [b, T, D + 1], 0 being the background; `start_logits` and `end_logits`
            [b, T]; `proposals` [b, n], which they are, n being M or S times the members of a
            neighbourhood (`Grid`); their `proposal_logits` [b, n, 2], of the tIoU and of the class;
            with `model.classifier` also `class_logits` [b, T, D + 1], which share nothing with the
            others but the features.

        Raises:
            ValueError: windows of another length than `data.num_frames`.
        """
        config, model, constants = self.config, self.config.model, grid(self.config)
        if features.shape[1] != config.data.num_frames:
            raise ValueError(
                f"features of {features.shape[1]} frames, but data.num_frames = "
                f"{config.data.num_frames}: cut or pad them to that length"
            )
        features, num_frames = jnp.asarray(features), jnp.asarray(num_frames)
        if model.normalise:
            mean = self.variable("batch_stats", "mean", jnp.zeros, features.shape[-1:])
            std = self.variable("batch_stats", "std", jnp.ones, features.shape[-1:])
            real = jnp.arange(features.shape[1]) < num_frames[:, None]
            scaled = (features.astype(jnp.float32) - mean.value) / std.value
            features = jnp.where(real[..., None], scaled, 0)
        features = augment(features)
        recompute = config.train.rematerialise
        ssn = functools.partial(
            nn.remat(SSN, static_argnums=(3,)) if recompute else SSN,
            config=model,
            num_classes=self.num_classes,
            boundary_bias=self.boundary_bias,
            axis_name=self.axis_name,
        )
        out = ssn(name="ssn")(features, num_frames, train)
        if model.classifier:
            classified = ssn(name="classifier")(features, num_frames, train)
            out["class_logits"] = classified["frame_logits"]

        segments = jnp.asarray(constants.segments)
        if seeds is None:
            every = jnp.arange(len(segments))
            # Of features: where the network is exported, b is a symbol.
            proposals = jnp.broadcast_to(every, (features.shape[0], len(every)))
            neighbours = jnp.asarray(constants.neighbours)
        else:
            proposals, neighbours = self._neighbourhoods(constants, jnp.asarray(seeds))
        pdn = PDN(config=model, rematerialise=recompute, name="pdn")
        out["proposal_logits"] = pdn(
            out.pop("decoded"),
            num_nodes=-(-num_frames // model.decoder_stride),
            lattice=constants.lattice,
            proposals=None if seeds is None else proposals,
            neighbours=neighbours,
            valid=segments[proposals, 1] <= num_frames[:, None],
        )
        return out | {"proposals": proposals}

    def _neighbourhoods(
        self, constants: Grid, seeds: Int[Array, "b S"]
    ) -> tuple[Int[Array, "b n"], Int[Array, "b n K"]]:
        """Returns the proposals that seeds draw, and their neighbours as positions among them."""
        model = self.config.model
        members, edges = jnp.asarray(constants.members), jnp.asarray(constants.edges)
        proposals, neighbours = jax.vmap(sampling.gather_neighbourhoods, (0, None, None))(
            seeds, members, edges
        )
        if self.config.sampling.edges == "list":  # `:paper`
            list_neighbours = functools.partial(
                sampling.list_neighbours,
                segments=jnp.asarray(constants.segments),
                k=model.proposal_neighbours,
                similarity=model.similarity,
            )
            neighbours = jax.vmap(list_neighbours)(proposals)
        return proposals, neighbours


def create_variables(config: ConfigDict, model: SegTAD, num_channels: int) -> dict[str, Any]:
    """Returns new {"params", "batch_stats"} from the config's seed; C is `num_channels`."""
    features = jnp.zeros((1, config.data.num_frames, num_channels))
    num_frames = jnp.full(1, config.data.num_frames)
    variables = jax.jit(model.init)(jax.random.key(config.seed), features, num_frames)
    return {"batch_stats": {}} | variables
