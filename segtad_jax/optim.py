"""Adam with coupled L2 on kernels, and the learning rate's schedule."""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict


def optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Returns the optimizer of a config: coupled L2, Adam and the schedule.

    The L2 term of Eq. 11 is added to the gradient before Adam (coupled, as in the authors'
    framework), not decoupled as in AdamW.
    """
    return optax.chain(
        optax.add_decayed_weights(config.loss.l2, mask=is_kernel),
        optax.scale_by_adam(),
        optax.scale_by_learning_rate(learning_rate(config)),
    )


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """Returns step -> rate: linear warm-up, then one drop (section 4.1) or a cosine to zero.

    The drop is at `decay_at` of all steps, those of the warm-up included.
    """
    optim, steps = config.optim, config.train.steps
    rest = max(steps - optim.warmup_steps, 1)
    if optim.schedule == "cosine":
        main = optax.cosine_decay_schedule(optim.learning_rate, rest)
    else:
        drop = round(optim.decay_at * steps) - optim.warmup_steps
        main = optax.piecewise_constant_schedule(optim.learning_rate, {drop: optim.decay_factor})
    if not optim.warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, optim.learning_rate, optim.warmup_steps)
    return optax.join_schedules([warmup, main], [optim.warmup_steps])


def is_kernel(params: Any) -> Any:
    """Returns a tree that is True for kernels, which the L2 term counts."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: str(path[-1].key).endswith("kernel"), params
    )
