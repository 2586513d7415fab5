"""configs/custom.py on prepared data: what is open is chosen to fit, what is set stays."""

import importlib.util
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from segtad_jax.config.check import check
from segtad_jax.config.defaults import default
from segtad_jax.config.fit import RULES, Size, fitted
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.embedded import open_or_build
from segtad_jax.prepare.__main__ import main

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def config_of(name, argument=""):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Eight recordings of about 250 frames with actions of 4 to 20 s at 5 frames per second."""
    folder = tmp_path_factory.mktemp("custom")
    random = np.random.default_rng(0)
    database = {}
    (folder / "features").mkdir()
    for index in range(8):
        frames = 240 + index
        np.save(folder / "features" / f"x{index}.npy", random.normal(size=(frames, 6)))
        starts = np.arange(1, 40, 8) + random.uniform(0, 2, 5)
        annotations = [
            {"segment": [float(s), float(s + random.uniform(1, 6))], "label": "ab"[n % 2]}
            for n, s in enumerate(starts)
        ]
        subset = "validation" if index > 5 else "training"
        database[f"x{index}"] = {
            "subset": subset, "duration": frames / 5, "annotations": annotations
        }  # fmt: skip
    (folder / "truth.json").write_text(json.dumps({"database": database}))
    flags = ["--name=mine", f"--features={folder / 'features'}", f"--output={folder / 'data'}"]
    assert main([*flags, f"--annotations={folder / 'truth.json'}"]) == 0
    return open_dataset(folder / "data" / "mine" / "1.0.0")


def test_everything_open_is_chosen_and_said(dataset, caplog):
    config = config_of("custom")
    with caplog.at_level(logging.INFO, "segtad_jax"):
        found = fitted(config, dataset)
    check(found)
    assert found.data.num_frames == 256
    assert found.model.stride in (2, 4, 8, 16)
    assert found.model.dilations == (1, 2, 5, 8)
    assert (found.train.batch_size, found.train.steps, found.model.width) == (8, 1000, 128)
    for field in RULES:
        assert any(line.startswith(f"{field} = ") for line in caplog.messages)
    assert config.data.num_frames == 0  # the config itself is as it was


@pytest.mark.parametrize(
    ("ceilings", "window", "stride"),
    [
        ({2: 0.97, 4: 0.91, 8: 0.79, 16: 0.6}, 256, 4),
        ({2: 0.97, 4: 0.96, 8: 0.95, 16: 0.9}, 256, 16),
        ({2: 0.9, 4: 0.5, 8: 0.35, 16: 0.3}, 256, 4),  # stride 2 has 8,256 proposals
        ({2: 0.9, 4: 0.89, 8: 0.88, 16: 0.87}, 232, 8),  # 16 does not divide it
        ({}, 64, 4),
        ({}, 1000, 8),
    ],
)
def test_the_stride_follows_from_the_ceilings(ceilings, window, stride):
    value, reason = RULES["model.stride"](default(), Size(window, 100, ceilings))
    assert value == stride
    assert "the largest" in reason


def test_what_is_set_stays(dataset):
    config = config_of("custom")
    config.model.stride = 2
    config.model.dilations = (1, 3)
    config.train.steps = 7
    found = fitted(config, dataset)
    assert (found.model.stride, found.model.dilations, found.train.steps) == (2, (1, 3), 7)
    assert found.eval.snap == 1
    closed = default()
    assert fitted(closed, dataset).to_dict() == closed.to_dict()


def test_without_prepare_t_has_to_be_said(tmp_path):
    config = config_of("custom", "runlocal")
    config.data.dir = str(tmp_path)
    found = fitted(config, open_or_build(config.data))
    check(found)
    assert found.model.stride == 4
    config.data.num_frames = 0
    with pytest.raises(
        ValueError, match=r"was not made by .*prepare.*Set --config\.data\.num_frames"
    ):
        fitted(config, open_or_build(config.data))


@pytest.mark.parametrize("name", ["activitynet", "hacs", "hapt", "thumos14"])
@pytest.mark.parametrize("argument", ["", "paper", "runlocal"])
def test_configs_can_be_run(name, argument):
    config = config_of(name, argument)
    check(config)
