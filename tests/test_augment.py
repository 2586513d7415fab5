"""Augmentation: how much, where, and of whom."""

import jax
import jax.numpy as jnp
import numpy as np

from segtad_jax.augment import augment
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
