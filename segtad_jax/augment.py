"""Augmentation of training windows, on the device. One window at a time; the caller vmaps."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from ml_collections import ConfigDict


def augment(
    key: PRNGKeyArray,
    features: Float[Array | np.ndarray, "T C"],
    num_frames: int | Int[Array, ""],
    settings: ConfigDict,
) -> Float[Array, "T C"]:
    """Adds normal noise to each value of the real frames.

    Args:
        key: of this window in this step.
        features: zero beyond `num_frames`, and so they stay.
        num_frames: real frames.
        settings: `config.augment`.
    """
    features = jnp.asarray(features)
    if not settings.noise:
        return features
    noise = settings.noise * jax.random.normal(key, features.shape)
    return features + jnp.where((jnp.arange(len(features)) < num_frames)[:, None], noise, 0.0)
