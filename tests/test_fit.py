"""Open fields on prepared data are chosen to fit, by rules; what is set stays."""

import logging
from pathlib import Path

import pytest

from segtad_jax.config.check import check
from segtad_jax.config.defaults import default
from segtad_jax.config.fit import MOST_PROPOSALS, RULES, Size, fitted
from segtad_jax.config.stored import ANY_DATA, OPENABLE
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.embedded import open_or_build
from segtad_jax.ops.proposals import proposal_pyramid
from tests.test_config import ROOT_CONFIGS, load

DATA = Path(__file__).resolve().parent / "old_runs" / "data" / "old" / "1.0.0"


def custom(argument=""):
    return load(ROOT_CONFIGS / "custom.py", argument)


@pytest.fixture(scope="module")
def dataset():
    """Six recordings of some 50 frames to train on, with actions of 10 frames; T = 80."""
    return open_dataset(DATA)


def test_everything_open_is_chosen_and_logged(dataset, caplog):
    config = custom()
    with caplog.at_level(logging.INFO, "segtad_jax"):
        found = fitted(config, dataset)
    check(found)
    expected = {"data.num_frames": 80, "model.stride": 2, "model.dilations": (1, 2, 3, 4)}
    expected |= {"model.width": 128, "model.num_bins": 16, "sampling.seeds": 25}
    expected |= {"train.batch_size": 8, "train.steps": 800, "eval.snap": 1}
    expected |= {"eval.boundary_power": 0.35, "eval.class_mean": "geometric", "eval.sigma": 0.4}
    expected |= {"model.pyramid": 8, "augment.mix_style": 1.0}
    expected |= {"eval.renormalise": True, "eval.snap_mean": True, "eval.snap_offset": 0.5}
    assert {field: found[field] for field in RULES} == expected
    for field in RULES:
        assert any(line.startswith(f"{field} = {expected[field]}: ") for line in caplog.messages)
    assert config.data.num_frames is None  # the config itself is as it was


def test_every_field_that_can_be_open_has_a_rule_or_needs_none():
    assert RULES.keys() == OPENABLE.keys() - set(ANY_DATA)


@pytest.mark.parametrize(
    ("ceilings", "window", "stride"),
    [
        ({2: 0.97, 4: 0.91, 8: 0.79, 16: 0.6}, 256, 4),
        ({2: 0.97, 4: 0.96, 8: 0.95, 16: 0.9}, 256, 16),
        ({2: 0.9, 4: 0.5, 8: 0.35, 16: 0.3}, 256, 2),  # 8,256 proposals
        ({2: 0.9, 4: 0.5, 8: 0.35, 16: 0.3}, 272, 4),  # stride 2 has 9,316
        ({2: 0.9, 4: 0.89, 8: 0.88, 16: 0.87}, 232, 8),  # 16 does not divide it
        ({}, 64, 4),
        ({}, 1000, 8),
    ],
)
def test_the_stride_follows_from_the_ceilings(ceilings, window, stride):
    value, reason = RULES["model.stride"](default(), Size(window, 100, ceilings))
    assert value == stride
    assert "the largest" in reason


@pytest.mark.parametrize(
    ("window", "stride", "cells"),
    [(256, 2, 8), (512, 2, 8), (768, 2, 4), (1024, 2, 4), (1000, 2, 4), (4096, 8, 4), (41, 1, 8)],
)
def test_the_pyramid_is_as_fine_as_the_number_of_proposals_allows(window, stride, cells):
    config = custom()
    config.data.num_frames = window
    config.model.stride, _ = RULES["model.stride"](config, Size(window, 100, {}))
    assert config.model.stride == stride
    chosen, reason = RULES["model.pyramid"](config, Size(window, 100, {}))
    assert chosen == cells
    number = len(proposal_pyramid(window, stride, cells))
    assert reason.startswith(f"{number} proposals")
    assert number <= MOST_PROPOSALS


def test_styles_are_mixed_where_a_recording_is_not_of_one_class():
    rule = RULES["augment.mix_style"]
    assert rule(custom(), Size(256, 100, {}, classes=1.0))[0] == 0.0
    assert rule(custom(), Size(256, 100, {}, classes=2.0))[0] == 1.0


def test_what_is_set_stays(dataset):
    config = custom()
    config.update_from_flattened_dict(
        {"model.stride": 4, "model.dilations": (1, 3), "train.steps": 7}
    )
    found = fitted(config, dataset)
    assert (found.model.stride, found.model.dilations, found.train.steps) == (4, (1, 3), 7)
    assert found.eval.snap == 2
    closed = default()
    assert fitted(closed, dataset).to_dict() == closed.to_dict()


def test_what_is_set_wrongly_is_refused_before_anything_is_chosen(dataset):
    config = custom()
    config.model.stride = 0
    with pytest.raises(ValueError, match=r"model\.stride is 0.*model\.stride=None"):
        fitted(config, dataset)


def test_any_config_can_be_opened(dataset):
    config = default()
    config.model.width = None
    assert fitted(config, dataset).model.width == 128


def test_without_prepare_t_has_to_be_given(tmp_path):
    config = custom("runlocal")
    config.data.dir = str(tmp_path)
    data = open_or_build(config.data)
    found = fitted(config, data)
    check(found)
    assert found.model.stride == 4
    config.data.num_frames = None
    with pytest.raises(ValueError, match=r"not made by .*prepare.*Set --config\.data\.num_frames"):
        fitted(config, data)
