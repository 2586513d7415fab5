"""Defaults, arguments and the check's messages."""

import importlib.util
import pathlib

import pytest
from ml_collections import ConfigDict

from segtad_jax.config.check import check
from segtad_jax.config.defaults import PAPER, default, differences, flatten, with_arguments
from segtad_jax.config.fit import open_fields

ROOT_CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"
CONFIGS = sorted(ROOT_CONFIGS.glob("*.py"))


def load(path: pathlib.Path, argument: str = "") -> ConfigDict:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "argument", ["", "paper", "runlocal", "paper,runlocal", "plain,ablation=no_graph"]
)
def test_every_config_file_can_be_run(path: pathlib.Path, argument: str) -> None:
    config = load(path, argument)
    if open_fields(config):
        assert path.stem == "custom"  # a data set settles these: tests/test_fit.py
    else:
        check(config)


def test_paper_selects_every_literal_reading() -> None:
    config = with_arguments(default(), "paper")
    found = config.copy_and_resolve_references()
    found.update_from_flattened_dict(PAPER)
    assert flatten(found) == flatten(config)
    assert config.model.aggregate == "sum"
    assert config.model.interpolation == "linear"
    assert config.sampling.edges == "list"
    assert config.loss.boundary_radius == 0
    assert not config.loss.balance_boundaries
    assert not config.model.global_convolution


@pytest.mark.parametrize("name", ["watch", "hapt", "custom"])
def test_plain_leaves_nothing_of_ours(name: str) -> None:
    plain, found = flatten(default()), flatten(load(ROOT_CONFIGS / f"{name}.py", "plain"))
    ours = {
        field
        for field in plain
        if field.partition(".")[0] in ("loss", "augment", "eval") and found[field] != plain[field]
    }
    assert ours <= {"eval.max_detections", "eval.sigma"}


def test_unknown_argument_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'papr' in ':papr,runlocal'.*mean 'paper'.*runlocal"):
        with_arguments(default(), "papr,runlocal")


def test_two_ablations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"names 2 ablations.*name one"):
        with_arguments(default(), "ablation=no_graph,ablation=no_global")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.num_frames", 100, r"num_frames = 100 is not divisible by 8.*use 104"),
        ("model.stride", 7, r"num_frames = 1000 is not divisible by model.stride = 7.*1001"),
        (
            "model.num_bins",
            30,
            r"num_bins = 30 is not a multiple of 4, as .* = 0.5 asks; use 32",
        ),
        ("model.num_bins", 0, r"num_bins = 0 is not a multiple of 4, .*use 4"),
        ("model.context", 1.0, r"num_bins = 32 is not a multiple of 3, as .* = 1.0 asks; use 33"),
        ("model.context", -0.25, r"model.context is -0.25; it must not be negative"),
        ("model.dilations", (), r"dilations is \(\), but model.branches has 'atrous': give"),
        ("model.dilations", (1, 0), r"dilations is \(1, 0\), but .* above 0"),
        ("model.aggregate", "median", r"aggregate is 'median'; it can be: sum, mean, max"),
        ("model.branches", ("graph", "atrus"), r"branches is \('graph', 'atrus'\)"),
        ("model.branches", (), r"name at least one of"),
        ("model.decoder_stride", 2, r"decoder_stride = 2; it can be 1 or 4"),
        ("model.snippet_neighbours", 125, r"1000 frames give 125"),
        ("model.stride", 200, r"stride 200 give 15 proposals.*needs more than 24"),
        ("train.batch_size", 6, r"train.batch_size = 6 does not divide among 4 devices.*8"),
        ("eval.batch_size", 3, r"eval.batch_size = 3 does not divide among 4 devices.*4"),
        ("train.save_every", 15, r"save_every = 15 is not a multiple of train.log_every = 10"),
        ("train.steps", 0, r"train.steps is 0"),
        ("train.keep", 0, r"train.keep is 0; it must be above 0"),
        ("eval.sigma", 0.0, r"eval.sigma is 0.0; it must be above 0"),
        ("eval.snap", -1, r"eval.snap = -1; 0 leaves it out"),
        ("eval.snap_offset", 1.5, r"eval.snap_offset = 1.5 is not in 0..1"),
        ("augment.masks", -1, r"augment.masks = -1; 0 leaves it out"),
        ("augment.rotate", (1, 2, 4), r"augment.rotate names 3 channels, but they rotate two and"),
        ("augment.rotate", (1, 2, 2, 3), r"augment.rotate = \(1, 2, 2, 3\) is not .* named once"),
        ("augment.rotate", ((1, 2), (4, 5)), r"augment.rotate = .* is not a tuple of channels"),
        ("augment.rotate", (1.5, 2), r"augment.rotate = \(1.5, 2\) is not a tuple of channels"),
        ("augment.mirror", ("a",), r"augment.mirror = \('a',\) is not a tuple of channels"),
        ("augment.mirror", (3, 3), r"augment.mirror = \(3, 3\) is not a tuple .* each named once"),
        ("augment.rotate_degrees", -1.0, r"augment.rotate_degrees = -1.0; 0 leaves it out"),
        ("augment.mask_frames", 0, r"augment.mask_frames is 0; it must be above 0"),
        ("augment.mix_style", 1.5, r"augment.mix_style = 1.5 is not in 0..1"),
        ("augment.mix_concentration", 0.0, r"mix_concentration is 0.0; it must be above 0"),
        ("eval.class_mean", "harmonic", r"eval.class_mean is 'harmonic'; it can be: arithmetic"),
        ("eval.boundary_power", -0.5, r"eval.boundary_power = -0.5; 0 leaves it out"),
        ("eval.batch_size", 0, r"eval.batch_size is 0"),
        ("eval.window_overlap", 1.0, r"window_overlap = 1.0 is not in \[0, 1\)"),
    ],
)
def test_check_names_the_numbers(field: str, value: object, message: str) -> None:
    config = default()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        check(config, num_devices=4)


@pytest.mark.parametrize(
    ("field", "value"), [("loss.segmentation", 0.0), ("loss.segmentation_classes", False)]
)
def test_something_must_learn_the_classes(field: str, value: object) -> None:
    config = default()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=rf"{field} = {value}.*set model.classifier = True, or"):
        check(config)
    for other in ({"model.classifier": True}, {"eval.class_scores": "scores.json"}):
        able = config.copy_and_resolve_references()
        able.update_from_flattened_dict(other)
        check(able)


@pytest.mark.parametrize(("judged", "saved"), [(100, 200), (300, 200), (100, 0)])
def test_every_step_that_a_holdout_judges_is_saved(judged: int, saved: int) -> None:
    config = default()
    config.train.eval_every, config.train.save_every = judged, saved
    check(config)
    config.data.holdout = "a"
    message = rf"eval_every = {judged} is not a multiple of train.save_every = {saved}.*holdout"
    with pytest.raises(ValueError, match=message):
        check(config)
    config.train.eval_every = 2 * saved
    check(config)


def test_other_contexts_have_bins_of_their_own() -> None:
    config = default()
    config.model.context, config.model.num_bins = 0.25, 30  # 6 = 4 + 2
    check(config)
    config.model.branches, config.model.dilations = ("graph",), ()
    check(config)


def test_nothing_is_chosen_for_a_config_that_does_not_ask() -> None:
    config = default()
    config.train.steps = 0
    assert open_fields(config) == []


def test_unknown_field_is_refused_with_a_hint() -> None:
    config = default()
    with pytest.raises(AttributeError, match=r"Did you mean.*width"):
        config.lock().model.widht = 3


def test_differences_name_both_values() -> None:
    ours, theirs = {"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}
    assert differences(ours, theirs) == [
        "b: 2 here, 3 there",
        "c: '(absent)' here, 4 there",
    ]
