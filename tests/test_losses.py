"""Loss terms against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segtad_jax import losses


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_cross_entropy_is_the_mean_over_real_frames(random) -> None:
    logits, classes = random.normal(size=(9, 4)), random.integers(0, 4, 9)
    weights = np.array([1.0] * 6 + [0.0] * 3)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(probabilities[np.arange(6), classes[:6]]).mean()
    shares = np.eye(4)[classes]
    term = losses.cross_entropy(*map(jnp.float32, (logits, shares, weights)))
    assert losses.mean(term) == pytest.approx(expected, rel=1e-6)
    shares[0] = 0, 0.5, 0, 0.5  # two classes
    expected += (np.log(probabilities[0, classes[0]]) - np.log(probabilities[0, [1, 3]]).mean()) / 6
    term = losses.cross_entropy(*map(jnp.float32, (logits, shares, weights)))
    assert losses.mean(term) == pytest.approx(expected, rel=1e-6)


def test_action_or_not_is_binary_and_blind_to_the_class(random) -> None:
    logits, classes = random.normal(size=(20, 5)), random.integers(0, 5, 20)
    weights = (random.random(20) < 0.7).astype(float)
    p = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1:].mean(axis=1)))
    each = -np.where(classes > 0, np.log(p), np.log(1 - p))

    def found(classes: np.ndarray) -> jnp.ndarray:
        arrays = map(jnp.float32, (logits, np.eye(5)[classes], weights))
        return losses.mean(losses.action_or_not(*arrays))

    assert found(classes) == pytest.approx((each * weights).sum() / weights.sum(), rel=1e-5)
    assert found(classes) == found(np.where(classes > 0, 5 - classes, 0))


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("kinds", ["both", "positive", "negative"])
def test_binary_cross_entropy(random, balanced: bool, kinds: str) -> None:
    logits = random.normal(size=50)
    labels = {"both": random.random(50) < 0.1, "positive": np.ones(50), "negative": np.zeros(50)}
    y = labels[kinds].astype(float)
    weights = (random.random(50) < 0.8).astype(float)
    p = 1 / (1 + np.exp(-logits))
    each = -weights * (y * np.log(p) + (1 - y) * np.log(1 - p))
    if balanced:
        positive, negative = (weights * y).sum(), (weights * (1 - y)).sum()
        expected = 0.5 * (each * y).sum() / max(positive, 1)
        expected += 0.5 * (each * (1 - y)).sum() / max(negative, 1)
    else:
        expected = each.sum() / weights.sum()
    term = losses.binary_cross_entropy(
        jnp.float32(logits), jnp.float32(y), jnp.float32(weights), balanced
    )
    assert losses.mean(term) == pytest.approx(expected, rel=1e-5)


def test_squared_error_is_of_the_sigmoid(random) -> None:
    logits, labels = random.normal(size=20), random.random(20)
    expected = ((1 / (1 + np.exp(-logits)) - labels) ** 2).mean()
    term = losses.squared_error(jnp.float32(logits), jnp.float32(labels), jnp.ones(20))
    assert losses.mean(term) == pytest.approx(expected, rel=1e-5)


def test_parts_of_a_batch_add_up_to_the_whole(random) -> None:
    """Sums and weights of halves of different weight add up; means of them would not."""
    logits, labels = jnp.float32(random.normal(size=30)), jnp.float32(random.random(30) < 0.2)
    weights = jnp.float32(random.random(30) < 0.5)
    whole = losses.binary_cross_entropy(logits, labels, weights, True)
    parts = [
        losses.binary_cross_entropy(logits[part], labels[part], weights[part], True)
        for part in (slice(0, 7), slice(7, 30))
    ]
    total = jax.tree.map(lambda *x: sum(x), *parts)
    assert losses.mean(total) == pytest.approx(float(losses.mean(whole)), rel=1e-6)


def test_no_weight_at_all_gives_zero_and_finite_gradients() -> None:
    def loss(logits):
        return losses.mean(losses.binary_cross_entropy(logits, jnp.zeros(4), jnp.zeros(4), True))

    value, gradient = jax.value_and_grad(loss)(jnp.array([0.0, 1e4, -1e4, 3.0]))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0.0)
