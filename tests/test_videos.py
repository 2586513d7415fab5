"""A batch on any platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segtad_jax.ops.videos import over_videos


def squares(x, y):
    return x @ x.T + (0 if y is None else y)


def cubes(x, y):
    return squares(x, y) * 3


def batch():
    rng = np.random.default_rng(0)
    return jnp.float32(rng.normal(size=(3, 4, 4))), jnp.arange(3.0)


@pytest.mark.parametrize("with_none", [False, True])
def test_equals_a_loop_with_its_gradients(with_none):
    x, y = batch()
    y = None if with_none else y

    def loop(x):
        return jnp.stack([squares(v, None if y is None else y[i]) for i, v in enumerate(x)])

    def ours(x):
        return over_videos(squares, x, y)

    for function in (ours, jax.jit(ours)):
        np.testing.assert_allclose(function(x), loop(x), rtol=1e-6)
        found = jax.grad(lambda x, f=function: jnp.sum(f(x) ** 2))(x)
        expected = jax.grad(lambda x: jnp.sum(loop(x) ** 2))(x)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_only_a_cpu_takes_one_after_the_other_and_its_own_function():
    step = jax.jit(lambda x, y: over_videos(squares, x, y, cpu_function=cubes))
    text = {
        platform: step.trace(*batch()).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert "stablehlo.while" in text["cpu"]
    assert "3.000000e+00" in text["cpu"]
    for platform in ("cuda", "tpu"):
        assert "stablehlo.while" not in text[platform]
        assert "3.000000e+00" not in text[platform]


def test_a_cpu_leaves_out_padding_and_accelerators_compute_it():
    x, y = batch()
    real = jnp.arange(len(x)) % 2 == 0
    step = jax.jit(lambda x, y, real: over_videos(squares, x, y, real=real))
    found, everything = step(x, y, real), over_videos(squares, x, y)
    for values, all_values in zip(jax.tree.leaves(found), jax.tree.leaves(everything), strict=True):
        np.testing.assert_array_equal(values[::2], all_values[::2])
        assert all_values[1::2].any()
        assert not values[1::2].any()
    lowered = {
        platform: step.trace(x, y, real).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert {platform: "stablehlo.while" in text for platform, text in lowered.items()} == {
        "cpu": True, "cuda": False, "tpu": False
    }  # fmt: skip
