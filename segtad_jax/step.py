"""One training step: the state, the loss terms of Eq. 11, the update, on any number of devices."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from segtad_jax import losses, optim, targets
from segtad_jax.augment import augment_batch
from segtad_jax.data.dataset import Recording
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.ops import sampling
from segtad_jax.ops.boundaries import snap
from segtad_jax.runtime import parallel

Batch = Mapping[str, Any]  # of data.pipeline, on the device
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
) -> TrainState:
    """Returns a state at step 0 with new variables."""
    variables = create_variables(config, model, num_channels)
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
    config: ConfigDict, model: SegTAD, variables: dict[str, Any], batch: Batch, key: Array
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
    segments = jnp.asarray(constants.segments)
    total = config.data.num_frames
    label = functools.partial(
        targets.video_targets,
        proposals=segments,
        num_frames=total,
        boundary_radius=config.loss.boundary_radius,
    )
    truth = jax.vmap(label)(batch["segments"], batch["labels"], batch["valid"])
    positive = truth.tiou > config.loss.positive_tiou  # h_cls, [b, M]
    real = segments[:, 1] <= batch["num_frames"][:, None]  # [b, M]
    seeds_key, *augment_keys = jax.random.split(key, 4)
    seeds_keys = jax.vmap(jax.random.fold_in, (None, 0))(seeds_key, batch["position"])
    draw = functools.partial(sampling.draw_seeds, num_seeds=config.sampling.seeds)
    seeds, seed_weights = jax.vmap(draw)(seeds_keys, positive, real)
    row_weights = seed_weights[:, :, None] * jnp.asarray(constants.copies)[seeds]
    row_weights = row_weights.reshape(len(seeds), -1)  # [b, n], as the rows that are scored

    features = augment_batch(
        *(augment_keys, batch["features"], batch["num_frames"], batch["position"]),
        settings=config.augment,
        axis_name=model.axis_name,
    )
    out, updates = model.apply(
        variables, features, batch["num_frames"], seeds, train=True, mutable="batch_stats"
    )

    def video_terms(
        out: Batch, truth: targets.Targets, num_frames: Array, weights: Array
    ) -> dict[str, losses.Term]:
        frames = (jnp.arange(total) < num_frames).astype(jnp.float32)
        rows = out["rows"]
        regress, classify = out["proposal_logits"].T
        weights = weights * (segments[rows, 1] <= num_frames)
        tiou = truth.tiou[rows]
        segmentation = losses.cross_entropy
        if not config.loss.segmentation_classes:
            segmentation = losses.action_or_not
        more = {}  # of what is off by default
        if config.model.classifier:
            more["classifier"] = losses.cross_entropy(
                out["class_logits"], truth.frame_classes, frames
            )
        if config.loss.snap:  # scores are of proposals as they have moved
            scores = jnp.stack([out["start_logits"], out["end_logits"]], axis=1)
            moved = snap(segments[rows], scores, config.loss.snap, num_frames)
            moved = jax.lax.stop_gradient(moved)
            tiou = targets.proposal_tiou(moved, truth.actions, truth.counted)
        boundary = functools.partial(
            losses.binary_cross_entropy, weights=frames, balanced=config.loss.balance_boundaries
        )
        return {
            "segmentation": segmentation(out["frame_logits"], truth.frame_classes, frames),
            "start": boundary(out["start_logits"], truth.starts),
            "end": boundary(out["end_logits"], truth.ends),
            "regression": losses.squared_error(regress, tiou, weights),
            "classification": losses.binary_cross_entropy(
                classify,
                (tiou > config.loss.positive_tiou).astype(jnp.float32),
                weights,
                config.loss.balance_proposals,
            ),
            **more,
        }

    terms = jax.vmap(video_terms)(out, truth, batch["num_frames"], row_weights)
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), terms), updates["batch_stats"]


def train_step(
    state: TrainState,
    batch: Batch,
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
    lambdas = {"segmentation": config.loss.segmentation}
    lambdas |= {"start": config.loss.boundary, "end": config.loss.boundary}
    lambdas |= {"regression": config.loss.detection, "classification": config.loss.detection}

    def loss(params: Any) -> tuple[Array, tuple[Metrics, Any]]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        terms, batch_stats = loss_terms(config, model, variables, batch, key)
        # Inside the differentiated function: devices hold different numbers of valid frames, so
        # that only the quotient of the sums over all of them is the loss, and its gradient exact.
        if axis_name is not None:
            terms = jax.lax.psum(terms, axis_name)
        values = {name: losses.mean(term) for name, term in terms.items()}
        total = sum(lambdas.get(name, 1.0) * value for name, value in values.items())
        return total, (values, batch_stats)

    (total, (values, batch_stats)), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    # The transpose of psum is psum: each of N devices holds N times its own videos' share of the
    # gradient, and the mean over devices is the whole of it.
    if axis_name is not None:
        gradients = jax.lax.pmean(gradients, axis_name)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
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
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns `train_step` compiled for `devices` (default: all); `model` has their axis name."""
    step = functools.partial(
        train_step, config=config, model=model, optimizer=optimizer, axis_name=parallel.AXIS
    )
    return parallel.replicate_step(step, devices)
