"""Augmentation: how much, where, and of whom."""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from ml_collections import ConfigDict

from segtad_jax.augment import augment, augment_batch, mask_spans, mix_styles, rotate
from segtad_jax.config.defaults import default


def keys(number: int) -> Array:
    return jax.vmap(jax.random.key)(jnp.arange(number))


def augmented(settings: ConfigDict, *batch: Any) -> Array:
    return jax.jit(functools.partial(augment_batch, settings=settings))(*batch)


def test_noise_has_its_size_and_padding_none() -> None:
    settings = default().augment
    features = np.random.default_rng(0).normal(size=(400, 50)).astype(np.float32)
    features[300:] = 0.0
    features = jnp.asarray(features)
    key = jax.random.key(0)
    np.testing.assert_array_equal(augment(key, features, 300, settings), features)
    settings.noise = 0.3
    added = augment(key, features, 300, settings) - features
    np.testing.assert_allclose(jnp.std(added[:300]), 0.3, rtol=0.02)
    np.testing.assert_allclose(jnp.mean(added[:300]), 0.0, atol=0.01)
    assert not added[300:].any()
    other = augment(jax.random.key(1), features, 300, settings) - features
    assert abs(np.corrcoef(added[:300].ravel(), other[:300].ravel())[0, 1]) < 0.02


def test_half_of_the_windows_are_mirrored_whole() -> None:
    settings = default().augment
    settings.mirror = (0, 3)
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    mirrored = features * np.array([-1, 1, 1, -1, 1], np.float32)
    draw = jax.vmap(functools.partial(augment, settings=settings), (0, None, None))
    found = np.asarray(jax.jit(draw)(keys(200), features, 40))
    times = [np.array_equal(x, mirrored) for x in found]
    assert 70 < sum(times) < 130
    assert all(m or np.array_equal(x, features) for m, x in zip(times, found, strict=True))


def test_a_rotated_window_is_what_rotated_axes_measure() -> None:
    signal = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    signal[30:] = 0.0
    angles = []
    turn = functools.partial(rotate, channels=(1, 2, 5, 4), degrees=45.0)
    for found in np.asarray(jax.jit(jax.vmap(turn, (0, None)))(keys(400), signal)):
        np.testing.assert_array_equal(found[:, [0, 3, 6]], signal[:, [0, 3, 6]])
        assert not found[30:].any()
        before, after = ((x[:30, [1, 5]] + 1j * x[:30, [2, 4]]) for x in (signal, found))
        by = after / before  # the same for all frames and both pairs, and of length one
        np.testing.assert_allclose(by, by[0, 0], rtol=1e-3)
        np.testing.assert_allclose(np.abs(by), 1.0, rtol=1e-3)
        angles.append(np.angle(by[0, 0], deg=True))
    assert abs(np.mean(angles)) < 7
    np.testing.assert_allclose(np.std(angles), 45.0, rtol=0.1)


def test_features_of_half_precision_are_rotated_in_single() -> None:
    features = jnp.asarray(np.random.default_rng(0).normal(size=(40, 4)), jnp.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rotate(jax.random.key(0), features, (1, 2), degrees=30.0)
    assert found.dtype == jnp.float32
    expected = rotate(jax.random.key(0), features.astype(jnp.float32), (1, 2), degrees=30.0)
    np.testing.assert_array_equal(found, expected)


def test_each_window_of_a_batch_is_rotated_by_an_angle_of_its_own() -> None:
    settings = default().augment
    settings.rotate = (1, 2)
    window = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    batch = (list(keys(3)), jnp.stack([window] * 64), jnp.full(64, 40), jnp.arange(64))

    def angles(degrees: float) -> np.ndarray:
        settings.rotate_degrees = degrees
        found = np.asarray(augmented(settings, *batch))
        np.testing.assert_array_equal(found[..., 0], batch[1][..., 0])
        rotated = (found[:, 0, 1] + 1j * found[:, 0, 2]) / (window[0, 1] + 1j * window[0, 2])
        return np.angle(rotated, deg=True)

    assert len({*angles(30.0).round(3).tolist()}) == 64
    np.testing.assert_allclose(angles(30.0), 3 * angles(10.0), atol=1e-3)
    np.testing.assert_allclose(angles(0.0), 0.0, atol=1e-3)


def test_styles_are_mixed_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    num_frames, position = np.array([60, 40, 1, 60, 50, 60]), np.arange(6)
    real = (np.arange(60) < num_frames[:, None])[..., None]
    features = random.normal(random.normal(size=(6, 1, 4)), 2.0, size=(6, 60, 4)) * real

    def mix(**options: float) -> Array:
        compiled = jax.jit(functools.partial(mix_styles, **options))
        return compiled(jax.random.key(0), features, num_frames, position)

    found = mix(probability=1.0, concentration=0.1)
    assert not np.asarray(found)[~real[..., 0]].any()

    def style(window: np.ndarray, frames: int) -> np.ndarray:
        return np.stack([window[:frames].mean(0), window[:frames].std(0)])

    own = [style(x, n) for x, n in zip(features, num_frames, strict=True)]
    shares = []
    for i, (window, frames) in enumerate(zip(np.asarray(found), num_frames, strict=True)):
        mixed = style(window, frames)
        if frames > 1:
            content = [
                (x[:frames] - m) / d for x, (m, d) in ((window, mixed), (features[i], own[i]))
            ]
            np.testing.assert_allclose(*content, atol=1e-4)
        # One share for both statistics of all channels, towards one of the others. A single frame
        # takes another mean alone: it has no deviation.
        moved = (mixed - own[i])[: 2 if frames > 1 else 1]
        ways = {}
        for j in set(range(6)) - {i}:
            way = (own[j] - own[i])[: len(moved)]
            share = np.vdot(moved, way) / np.vdot(way, way)
            ways[np.abs(share * way - moved).max()] = share
        assert min(ways) < 1e-3
        shares.append(ways[min(ways)])
    assert min(shares) > -1e-4
    assert 0.5 < max(shares) < 1 + 1e-4

    halves = mix(probability=1.0, concentration=1e6)
    for i, window in enumerate(np.asarray(halves)):  # Beta(1e6, 1e6): all in the middle
        mean = style(window, num_frames[i])[0]
        assert min(np.abs((own[i][0] + other[0]) / 2 - mean).max() for other in own) < 0.02

    same = mix(probability=0.0, concentration=0.1)
    np.testing.assert_allclose(same, features, atol=1e-5)


def test_masks_hide_whole_frames_in_spans_up_to_the_longest() -> None:
    features = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    lengths = []
    hide = jax.vmap(functools.partial(mask_spans, masks=1, longest=20), (0, None))
    for found in np.asarray(jax.jit(hide)(keys(300), features)):
        hidden = (found == 0).all(axis=1)
        np.testing.assert_array_equal(found[~hidden], features[~hidden])
        (edges,) = np.diff(hidden, prepend=False, append=False).nonzero()
        assert len(edges) in (0, 2)  # one span, or none of less than a frame
        lengths.append(int(hidden.sum()))
    assert max(lengths) == 20
    np.testing.assert_allclose(np.mean(lengths), 10, atol=1)
    many = mask_spans(jax.random.key(0), jnp.asarray(features), masks=9, longest=20)
    assert 40 < (np.asarray(many) == 0).all(axis=1).sum() < 150


@pytest.mark.slow
def test_a_batch_is_augmented_as_its_settings_say_whatever_the_device() -> None:
    settings = default().augment
    features = jnp.asarray(np.random.default_rng(0).normal(size=(4, 40, 3)), jnp.float32)
    step_keys, frames, position = list(keys(3)), jnp.full(4, 40), jnp.arange(4)
    of = (step_keys, features, frames, position)
    np.testing.assert_array_equal(augmented(settings, *of), features)

    settings.update(noise=0.1, mirror=(0,), rotate=(1, 2), masks=2, mask_frames=10)
    together = np.asarray(augmented(settings, *of))
    parts = [augmented(settings, step_keys, *(x[i : i + 2] for x in of[1:])) for i in (0, 2)]
    np.testing.assert_allclose(np.concatenate(parts), together, atol=1e-6)
    hidden = (together == 0).all(axis=2)
    assert hidden.any(axis=1).all()  # in every window
    assert len({tuple(row) for row in hidden.tolist()}) == 4  # not the same frames

    settings.update(noise=0.0, mirror=(), rotate=(), masks=0, mix_style=1.0)
    mixed = mix_styles(step_keys[1], features, frames, position, probability=1.0, concentration=0.1)
    np.testing.assert_allclose(augmented(settings, *of), mixed, atol=1e-6)

    settings.masks = 2  # after the styles, which would move what is hidden from zero
    hidden = (np.asarray(augmented(settings, *of)) == 0).all(axis=2)
    assert hidden.any(axis=1).all()


@pytest.mark.slow
def test_styles_come_from_all_devices() -> None:
    assert jax.local_device_count() == 4
    features = np.random.default_rng(0).normal(np.arange(8)[:, None, None], size=(8, 20, 3))
    features, key = jnp.asarray(features), jax.random.key(1)
    frames, position = jnp.full(8, 20), jnp.arange(8)
    one = mix_styles(key, features, frames, position, probability=1.0, concentration=0.1)

    def on_a_device(features: Array, frames: Array, position: Array) -> Array:
        return mix_styles(
            key, features, frames, position, probability=1.0, concentration=0.1, axis_name="batch"
        )

    parts = [x.reshape(4, 2, *x.shape[1:]) for x in (features, frames, position)]
    four = jax.pmap(on_a_device, axis_name="batch")(*parts)
    np.testing.assert_allclose(four.reshape(one.shape), one, atol=1e-5)
