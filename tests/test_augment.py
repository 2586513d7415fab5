"""Augmentation: how much, where, and of whom."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from segtad_jax.augment import augment, mix_styles
from segtad_jax.config import default


def test_noise_has_its_size_and_padding_none() -> None:
    settings = default().augment
    features = np.random.default_rng(0).normal(size=(400, 50)).astype(np.float32)
    features[300:] = 0.0
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
    found = [np.asarray(augment(jax.random.key(i), features, 40, settings)) for i in range(200)]
    times = [np.array_equal(x, mirrored) for x in found]
    assert 70 < sum(times) < 130
    assert all(m or np.array_equal(x, features) for m, x in zip(times, found, strict=True))


def test_styles_are_mixed_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    num_frames, position = np.array([60, 40, 1, 60, 50, 60]), np.arange(6)
    real = (np.arange(60) < num_frames[:, None])[..., None]
    features = random.normal(random.normal(size=(6, 1, 4)), 2.0, size=(6, 60, 4)) * real
    found = mix_styles(
        jax.random.key(0), features, num_frames, position, probability=1.0, concentration=0.1
    )
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

    halves = mix_styles(
        jax.random.key(0), features, num_frames, position, probability=1.0, concentration=1e6
    )
    for i, window in enumerate(np.asarray(halves)):  # Beta(1e6, 1e6): all in the middle
        mean = style(window, num_frames[i])[0]
        assert min(np.abs((own[i][0] + other[0]) / 2 - mean).max() for other in own) < 0.02

    same = mix_styles(
        jax.random.key(0), features, num_frames, position, probability=0.0, concentration=0.1
    )
    np.testing.assert_allclose(same, features, atol=1e-5)


def test_styles_come_from_all_devices() -> None:
    assert jax.local_device_count() == 4
    features = np.random.default_rng(0).normal(np.arange(8)[:, None, None], size=(8, 20, 3))
    key, frames, position = jax.random.key(1), np.full(8, 20), np.arange(8)
    one = mix_styles(key, features, frames, position, probability=1.0, concentration=0.1)

    def on_a_device(features: Array, frames: Array, position: Array) -> Array:
        return mix_styles(
            key, features, frames, position, probability=1.0, concentration=0.1, axis_name="batch"
        )

    parts = [x.reshape(4, 2, *x.shape[1:]) for x in (features, frames, position)]
    four = jax.pmap(on_a_device, axis_name="batch")(*parts)
    np.testing.assert_allclose(four.reshape(one.shape), one, atol=1e-5)
