"""One training step: the state, the loss terms of Eq. 11, the update, on any number of devices."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from segtad_jax import losses, optim, targets
from segtad_jax.augment import augment_batch
from segtad_jax.data.dataset import Recording
from segtad_jax.data.signals import Normalisation
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.ops import sampling
from segtad_jax.ops.boundaries import snap
from segtad_jax.runtime import parallel

DeviceBatch = Mapping[str, Any]  # a batch of data.pipeline, on the devices
Metrics = dict[str, Float[Array, ""]]


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes and a checkpoint holds."""

    step: Any  # int32, steps done
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that `SegTAD.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    config: ConfigDict,
    model: SegTAD,
    optimizer: optax.GradientTransformation,
    num_channels: int,
    normalisation: Normalisation | None = None,
) -> TrainState:
    """Returns a state at step 0 with new variables; `normalisation` is the features'."""
    variables = create_variables(config, model, num_channels)
    if normalisation is not None:
        mean, std = (jnp.asarray(x, jnp.float32) for x in (normalisation.mean, normalisation.std))
        variables["batch_stats"] = variables["batch_stats"] | {"mean": mean, "std": std}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
    )


def boundary_bias(config: ConfigDict, recordings: Sequence[Recording]) -> float:
    """Returns the initial logit of the start and end heads.

    0 where their loss is balanced, else the logit of the base rate of boundary frames.
    """
    if config.loss.balance_boundaries:
        return 0.0
    positives = sum(len(r.labels) for r in recordings) * (2 * config.loss.boundary_radius + 1)
    rate = np.clip(positives / sum(r.num_frames for r in recordings), 1e-4, 0.5)
    return float(np.log(rate / (1 - rate)))


def loss_terms(
    config: ConfigDict, model: SegTAD, variables: dict[str, Any], batch: DeviceBatch, key: Array
) -> tuple[dict[str, losses.Term], Any]:
    """Returns the terms of Eq. 11, summed over a batch, and the new BatchNorm statistics.

    Args:
        config: as checked.
        model: SegTAD.
        variables: its parameters and statistics.
        batch: as `data.pipeline.training_batches` gives.
        key: of this step; each video folds in its position in the global batch, so that draws do
            not depend on the number of devices.
    """
    constants = grid(config)
    segments = jnp.asarray(constants.segments)  # [M, 2]
    label = functools.partial(
        targets.video_targets,
        proposals=segments,
        num_frames=config.data.num_frames,
        num_classes=model.num_classes,
        boundary_radius=config.loss.boundary_radius,
    )
    truth = jax.vmap(label)(batch["segments"], batch["labels"], batch["valid"])

    # Half of the seeds are positive (section 3.3); each stands for the proposals around it.
    seeds_key, *augment_keys = jax.random.split(key, 4)
    seeds_keys = jax.vmap(jax.random.fold_in, (None, 0))(seeds_key, batch["position"])
    positive = truth.tiou > config.loss.positive_tiou  # h_cls, [b, M]
    real = segments[:, 1] <= batch["num_frames"][:, None]  # [b, M]
    draw = functools.partial(sampling.draw_seeds, num_seeds=config.sampling.seeds)
    seeds, seed_weights = jax.vmap(draw)(seeds_keys, positive, real)  # [b, S]
    # The proposals that all seeds draw, S times the members of a neighbourhood, are n from here on.
    weights = seed_weights[:, :, None] * jnp.asarray(constants.copies)[seeds]
    weights = weights.reshape(len(seeds), -1)  # [b, n]

    def augment(features: Array) -> Array:
        return augment_batch(
            *(augment_keys, features, batch["num_frames"], batch["position"]),
            settings=config.augment,
            axis_name=model.axis_name,
        )

    outputs, updates = model.apply(
        variables,
        *(batch["features"], batch["num_frames"], seeds),
        train=True,
        augment=augment,
        mutable="batch_stats",
    )
    terms = jax.vmap(functools.partial(video_terms, config, segments, constants.scales))(
        outputs, truth, batch["num_frames"], weights
    )
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), terms), updates["batch_stats"]


def video_terms(
    config: ConfigDict,
    segments: Int[Array, "M 2"],
    scales: Int[np.ndarray, " M"],
    outputs: Mapping[str, Array],
    truth: targets.Targets,
    num_frames: Int[Array, ""],
    weights: Float[Array, " n"],
) -> dict[str, losses.Term]:
    """Returns the terms of Eq. 11 for one video.

    Args:
        config: as checked.
        segments: the grid, frames.
        scales: strides of the segments, in units of the finest.
        outputs: of SegTAD, for n sampled proposals; `proposals` says which of the grid.
        truth: labels of frames and of all proposals.
        num_frames: real frames.
        weights: of the sampled proposals.
    """
    settings, proposals = config.loss, outputs["proposals"]
    frames = (jnp.arange(config.data.num_frames) < num_frames).astype(jnp.float32)
    weights = weights * (segments[proposals, 1] <= num_frames)
    tiou = truth.tiou[proposals]
    if settings.snap:
        # Inference moves boundaries before it ranks proposals, so that what PDN scores are the
        # moved ones: their tIoU replaces the grid's.
        boundary_logits = jnp.stack([outputs["start_logits"], outputs["end_logits"]], axis=1)
        moved = snap(
            *(segments[proposals], boundary_logits, settings.snap, num_frames),
            *(jnp.asarray(scales)[proposals], int(scales.max())),
        )
        moved = jax.lax.stop_gradient(moved)
        tiou = targets.proposal_tiou(moved, truth.actions, truth.counted)
    regress, classify = outputs["proposal_logits"].T
    segmentation = losses.cross_entropy if settings.segmentation_classes else losses.action_or_not
    boundary = functools.partial(
        losses.binary_cross_entropy, weights=frames, balanced=settings.balance_boundaries
    )
    terms = {
        "segmentation": segmentation(outputs["frame_logits"], truth.frame_classes, frames),
        "start": boundary(outputs["start_logits"], truth.starts),
        "end": boundary(outputs["end_logits"], truth.ends),
        "regression": losses.squared_error(regress, tiou, weights),
        "classification": losses.binary_cross_entropy(
            classify,
            (tiou > settings.positive_tiou).astype(jnp.float32),
            weights,
            settings.balance_proposals,
        ),
    }
    if config.model.classifier:  # for Tables 3 and 4
        terms["classifier"] = losses.cross_entropy(
            outputs["class_logits"], truth.frame_classes, frames
        )
    return terms


def train_step(
    state: TrainState,
    batch: DeviceBatch,
    *,
    config: ConfigDict,
    model: SegTAD,
    optimizer: optax.GradientTransformation,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Returns the next state and the metrics of one step on this device's part of the batch.

    Both are equal on all devices of `axis_name`.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    lambdas = {  # of Eq. 11
        "segmentation": config.loss.segmentation,
        "start": config.loss.boundary,
        "end": config.loss.boundary,
        "regression": config.loss.detection,
        "classification": config.loss.detection,
        "classifier": 1.0,
    }

    def loss(params: Any) -> tuple[Array, tuple[Metrics, Any]]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        terms, batch_stats = loss_terms(config, model, variables, batch, key)
        # Inside the differentiated function: devices hold different numbers of valid frames, so
        # that only the quotient of the sums over all of them is the loss, and its gradient exact.
        if axis_name is not None:
            terms = jax.lax.psum(terms, axis_name)
        values = {name: losses.mean(term) for name, term in terms.items()}
        total = sum(lambdas[name] * value for name, value in values.items())
        return total, (values, batch_stats)

    (total, (values, batch_stats)), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    # The transpose of psum is psum: each of N devices holds N times its own videos' share of the
    # gradient, and the mean over devices is the whole of it.
    if axis_name is not None:
        gradients = jax.lax.pmean(gradients, axis_name)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    # The L2 term is only logged: the optimizer has added its gradient.
    kernels = jax.tree.map(
        lambda p, kernel: p if kernel else jnp.zeros(()),
        state.params,
        optim.is_kernel(state.params),
    )
    l2 = 0.5 * config.loss.l2 * optax.tree.norm(kernels, squared=True)
    metrics = {f"loss/{name}": value for name, value in values.items()} | {
        "loss/l2": l2,
        "loss/total": total + l2,
        "learning_rate": optim.learning_rate(config)(state.step),
        "norm/gradients": optax.tree.norm(gradients),
        "norm/parameters": optax.tree.norm(state.params),
    }
    state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    return state, metrics


def parallel_step(
    config: ConfigDict,
    model: SegTAD,
    optimizer: optax.GradientTransformation,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[TrainState, DeviceBatch], tuple[TrainState, Metrics]]:
    """Returns `train_step` compiled for `devices` (default: all); `model` has their axis name."""
    step = functools.partial(
        train_step, config=config, model=model, optimizer=optimizer, axis_name=parallel.AXIS
    )
    return parallel.replicate_step(step, devices)
