"""The learning rate's schedules and the L2 term of Eq. 11."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segtad_jax.optim import learning_rate, optimizer
from tests.test_models import small_config


@pytest.mark.parametrize(
    ("fields", "rates"),
    [
        ({"train__steps": 150}, {0: 1e-3, 69: 1e-3, 70: 1e-4, 149: 1e-4}),
        (  # the drop is at 7/15 of training, whatever the warm-up
            {"train__steps": 150, "optim__warmup_steps": 20},
            {0: 0, 1: 5e-5, 10: 5e-4, 20: 1e-3, 69: 1e-3, 70: 1e-4, 149: 1e-4},
        ),
        (
            {
                "train__steps": 10,
                "optim__warmup_steps": 4,
                "optim__decay_at": 0.5,
                "optim__decay_factor": 0.5,
            },
            {0: 0, 3: 7.5e-4, 4: 1e-3, 5: 5e-4, 9: 5e-4},
        ),
        (
            {"train__steps": 100, "optim__schedule": "cosine", "optim__warmup_steps": 20},
            {0: 0, 10: 5e-4, 20: 1e-3, 60: 5e-4, 100: 0},
        ),
    ],
    ids=["step", "step after warm-up", "step soon after warm-up", "cosine after warm-up"],
)
def test_schedules(fields: dict, rates: dict[int, float]) -> None:
    rate = learning_rate(small_config(optim__learning_rate=1e-3, **fields))
    assert {step: float(rate(step)) for step in rates} == pytest.approx(rates, abs=1e-9)


def test_l2_is_coupled_and_on_kernels_alone() -> None:
    config = small_config(loss__l2=0.1, optim__learning_rate=1e-2)
    transform = optimizer(config)
    params = {
        "kernel": jnp.full(3, 2.0),
        "graph_kernel": jnp.full(2, 2.0),
        "bias": jnp.full(3, 2.0),
    }
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transform.update(zeros, transform.init(params), params)
    # Adam's first step has the size of the rate whatever the gradient: decay passed through it.
    np.testing.assert_allclose(updates["kernel"], -1e-2, rtol=1e-4)
    np.testing.assert_allclose(updates["graph_kernel"], -1e-2, rtol=1e-4)
    np.testing.assert_array_equal(updates["bias"], 0.0)
