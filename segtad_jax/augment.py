"""Augmentation of training windows, on the device."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray
from ml_collections import ConfigDict


def augment_batch(
    keys: Sequence[PRNGKeyArray],
    features: Float[Array, "b T C"],
    num_frames: Int[Array, " b"],
    position: Int[Array, " b"],
    settings: ConfigDict,
    axis_name: str | None = None,
) -> Float[Array, "b T C"]:
    """Applies all that `settings` ask for, in the order of this file.

    Args:
        keys: three of the step, the same on all devices: for what changes in each window alone,
            for styles and for masks.
        features: windows of this device, zero beyond `num_frames`.
        num_frames: real frames.
        position: places of the windows in the global batch, so that draws do not depend on the
            number of devices.
        settings: `config.augment`.
        axis_name: the device axis, over which the windows of a step lie in order.
    """
    fold_in = jax.vmap(jax.random.fold_in, (None, 0))
    windows_key, styles_key, masks_key = keys
    features = jax.vmap(functools.partial(augment, settings=settings))(
        fold_in(windows_key, position), features, num_frames
    )
    if settings.mix_style:
        features = mix_styles(
            *(styles_key, features, num_frames, position),
            probability=settings.mix_style,
            concentration=settings.mix_concentration,
            axis_name=axis_name,
        )
    if settings.masks:
        mask = functools.partial(mask_spans, masks=settings.masks, longest=settings.mask_frames)
        features = jax.vmap(mask)(fold_in(masks_key, position), features)
    return features


def augment(
    key: PRNGKeyArray,
    features: Float[Array, "T C"],
    num_frames: int | Int[Array, ""],
    settings: ConfigDict,
) -> Float[Array, "T C"]:
    """Mirrors one window or not, rotates it, then adds noise to its real frames.

    Features are zero beyond `num_frames`, and so they stay.
    """
    mirror_key, noise_key, rotation_key = jax.random.split(key, 3)
    if settings.mirror:
        channels = jnp.array(settings.mirror)
        chosen = jax.random.bernoulli(mirror_key)
        features = jnp.where(chosen, features.at[:, channels].multiply(-1), features)
    if settings.rotate:
        features = rotate(rotation_key, features, settings.rotate, settings.rotate_degrees)
    if not settings.noise:
        return features
    noise = settings.noise * jax.random.normal(noise_key, features.shape)
    return features + jnp.where((jnp.arange(len(features)) < num_frames)[:, None], noise, 0.0)


def rotate(
    key: PRNGKeyArray, features: Float[Array, "T C"], channels: Sequence[int], degrees: float
) -> Float32[Array, "T C"]:
    """Rotates the sensor of one window about an axis, as if it were worn otherwise.

    After Um et al., "Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring
    using Convolutional Neural Networks" (ICMI 2017), about one axis. Exact for the axes of raw
    signals and their means. Channels that are normalised one by one rotate nearly so, as long as
    the two of a pair have nearly the same deviation and a mean close to zero.

    Args:
        key: of this window in this step.
        features: zero where there is no frame, and so they stay.
        channels: pairs of axes, each across the axis of rotation, all turned by one angle:
            (1, 2, 4, 5) takes y towards z of an accelerometer and of a gyroscope.
        degrees: standard deviation of the angle, which is normal around zero.
    """
    features = features.astype(jnp.float32)
    first, second = np.reshape(channels, (-1, 2)).T
    angle = jnp.deg2rad(degrees) * jax.random.normal(key)
    one, other = features[:, first], features[:, second]
    features = features.at[:, first].set(jnp.cos(angle) * one - jnp.sin(angle) * other)
    return features.at[:, second].set(jnp.sin(angle) * one + jnp.cos(angle) * other)


def mix_styles(
    key: PRNGKeyArray,
    features: Float[Array, "b T C"],
    num_frames: Int[Array, " b"],
    position: Int[Array, " b"],
    probability: float,
    concentration: float,
    axis_name: str | None = None,
) -> Float32[Array, "b T C"]:
    """Applies MixStyle (Zhou et al., ICLR 2021): who is seen changes, what is done stays.

    With a probability, each channel's mean and standard deviation in a window become a random
    convex combination of themselves and those of another window of the step, whose share is drawn
    from Beta(concentration, concentration): well below 1, most are close to 0 or 1. The key is of
    the step; all else is as in `augment_batch`.
    """
    features = features.astype(jnp.float32)
    real = (jnp.arange(features.shape[1]) < num_frames[:, None])[..., None]
    count = jnp.maximum(num_frames, 1)[:, None, None]
    mean = jnp.sum(features, axis=1, keepdims=True) / count
    centred = jnp.where(real, features - mean, 0.0)
    deviation = jnp.sqrt(jnp.sum(centred**2, axis=1, keepdims=True) / count + 1e-6)

    styles = all_styles = jnp.stack([mean, deviation])  # [2, b, 1, C]
    if axis_name is not None:
        all_styles = jax.lax.all_gather(styles, axis_name, axis=1, tiled=True)
    partners_key, shares_key = jax.random.split(key)
    partner = jax.random.permutation(partners_key, all_styles.shape[1])[position]

    def draw_share(position: Array) -> Array:
        chosen, share = jax.random.split(jax.random.fold_in(shares_key, position))
        drawn = jax.random.beta(share, concentration, concentration)
        return jnp.where(jax.random.bernoulli(chosen, probability), drawn, 0.0)

    share = jax.vmap(draw_share)(position)[:, None, None]
    mixed_mean, mixed_deviation = styles + share * (all_styles[:, partner] - styles)
    return jnp.where(real, centred / deviation * mixed_deviation + mixed_mean, 0.0)


def mask_spans(
    key: PRNGKeyArray, features: Float[Array, "T C"], masks: int, longest: int
) -> Float[Array, "T C"]:
    """Hides spans of one window, whose labels must then be seen from what is around them.

    The time masking of SpecAugment (Park et al., Interspeech 2019). So many masks, which may
    overlap, of `longest` frames at most, with uniform lengths and starts, become zero, as frames
    beyond a recording are. Labels stay, and so do the losses of hidden frames.
    """
    starts_key, lengths_key = jax.random.split(key)
    starts = jax.random.uniform(starts_key, (masks, 1), maxval=len(features))
    lengths = jax.random.uniform(lengths_key, (masks, 1), maxval=longest)
    frame = jnp.arange(len(features))
    hidden = jnp.any((starts <= frame) & (frame < starts + lengths), axis=0)
    return jnp.where(hidden[:, None], 0.0, features)
