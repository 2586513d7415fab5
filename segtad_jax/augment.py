"""Augmentation of training windows, on the device."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray
from ml_collections import ConfigDict


def augment(
    key: PRNGKeyArray,
    features: Float[Array | np.ndarray, "T C"],
    num_frames: int | Int[Array, ""],
    settings: ConfigDict,
) -> Float[Array, "T C"]:
    """Mirrors one window or not, then adds normal noise to each value of its real frames.

    Args:
        key: of this window in this step.
        features: zero beyond `num_frames`, and so they stay.
        num_frames: real frames.
        settings: `config.augment`.
    """
    features = jnp.asarray(features)
    mirror_key, noise_key = jax.random.split(key)
    if settings.mirror:
        channels = jnp.array(settings.mirror)
        chosen = jax.random.bernoulli(mirror_key)
        features = jnp.where(chosen, features.at[:, channels].multiply(-1), features)
    if not settings.noise:
        return features
    noise = settings.noise * jax.random.normal(noise_key, features.shape)
    return features + jnp.where((jnp.arange(len(features)) < num_frames)[:, None], noise, 0.0)


def mix_styles(
    key: PRNGKeyArray,
    features: Float[Array | np.ndarray, "b T C"],
    num_frames: Int[Array | np.ndarray, " b"],
    position: Int[Array | np.ndarray, " b"],
    probability: float,
    concentration: float,
    axis_name: str | None = None,
) -> Float32[Array, "b T C"]:
    """MixStyle (Zhou et al., ICLR 2021) of features: who is seen changes, what is done stays.

    Each channel's mean and standard deviation over a window become, in some windows, a random
    convex combination of their own and those of another window of the step.

    Args:
        key: of the step, the same on all devices.
        features: of this device's windows, zero beyond `num_frames`, and so they stay.
        num_frames: real frames.
        position: of the windows in the global batch.
        probability: with which a window is changed.
        concentration: of the Beta distribution of the other's share, symmetric; well below 1 it
            is mostly close to none or all.
        axis_name: the device axis, over which the windows of a step lie in order.
    """
    features, num_frames = jnp.asarray(features, jnp.float32), jnp.asarray(num_frames)
    real = (jnp.arange(features.shape[1]) < num_frames[:, None])[..., None]
    count = jnp.maximum(num_frames, 1)[:, None, None]
    mean = jnp.sum(features, axis=1, keepdims=True) / count
    centred = jnp.where(real, features - mean, 0.0)
    deviation = jnp.sqrt(jnp.sum(centred**2, axis=1, keepdims=True) / count + 1e-6)

    own = jnp.stack([mean, deviation])  # [2, b, 1, C]
    everyone = own
    if axis_name is not None:
        everyone = jax.lax.all_gather(own, axis_name, axis=1, tiled=True)
    partners_key, shares_key = jax.random.split(key)
    partner = jax.random.permutation(partners_key, everyone.shape[1])[position]

    def share_of_the_other(position: Array) -> Array:
        chosen, share = jax.random.split(jax.random.fold_in(shares_key, position))
        drawn = jax.random.beta(share, concentration, concentration)
        return jnp.where(jax.random.bernoulli(chosen, probability), drawn, 0.0)

    share = jax.vmap(share_of_the_other)(jnp.asarray(position))[:, None, None]
    mixed_mean, mixed_deviation = own + share * (everyone[:, partner] - own)
    return jnp.where(real, centred / deviation * mixed_deviation + mixed_mean, 0.0)
