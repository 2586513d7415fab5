"""What fits of other variables is taken, the rest stays new, and all of it is named."""

import numpy as np
import pytest

from segtad_jax.checkpoint.transfer import transfer


def variables(width: int = 4, classes: int = 3, value: float = 0.0) -> dict:
    full = np.float32(value)
    return {
        "params": {
            "encoder": {"kernel": np.full((5, width), full), "bias": np.full(width, full)},
            "head": {"kernel": np.full((width, classes), full), "bias": np.full(classes, full)},
        },
        "batch_stats": {"norm": {"mean": np.full(width, full)}},
    }


def test_of_the_same_model_all_is_taken():
    found = transfer(variables(), variables(value=1.0))
    assert not found.left
    assert not found.new
    assert len(found.taken) == 5
    for tree in (found.variables["params"]["head"], found.variables["batch_stats"]["norm"]):
        assert all((x == 1).all() for x in tree.values())


def test_what_does_not_fit_stays_new_and_is_named():
    saved = variables(classes=6, value=1.0)
    saved["params"]["old"] = {"bias": np.ones(2)}
    found = transfer(variables(), saved)
    head = {"params/head/kernel", "params/head/bias"}
    assert set(found.new) == head
    assert set(found.left) == head | {"params/old/bias"}
    assert found.left["params/head/kernel"] == (4, 6)
    assert set(found.taken) == {
        "params/encoder/kernel",
        "params/encoder/bias",
        "batch_stats/norm/mean",
    }
    assert (found.variables["params"]["head"]["kernel"] == 0).all()
    assert (found.variables["params"]["encoder"]["kernel"] == 1).all()
    text = str(found)
    assert "3 arrays with 28 values fit and are taken" in text
    assert "3 left in the checkpoint:\n      params/head/bias [6]" in text
    assert "2 made new:\n      params/head/bias [3]" in text
    assert "taken: batch_stats/norm/mean, params/encoder/bias, params/encoder/kernel" in text


def test_what_is_taken_has_the_models_type():
    saved = variables(value=1.0)
    saved["params"]["head"]["bias"] = saved["params"]["head"]["bias"].astype(np.float64)
    taken = transfer(variables(), saved).variables["params"]["head"]["bias"]
    assert taken.dtype == np.float32


def test_nothing_in_common_is_an_error():
    """The heads' biases fit whatever the width is: they alone are nothing to start from."""
    with pytest.raises(
        ValueError, match=r"no kernel .* batch_stats/norm/mean is \[8\] there and \[4\] here"
    ):
        transfer(variables(), variables(width=8))
    with pytest.raises(ValueError, match=r"no kernel of the checkpoint fits this model\. Start"):
        transfer(variables(), {"params": {"another": np.ones((3, 3))}})
