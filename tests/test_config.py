"""Defaults, switches, the check's messages, and config files by name."""

import importlib.util
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from segtad_jax.config import files, literal
from segtad_jax.config.check import (
    CHOICES,
    OFF_AT_0,
    POSITIVE,
    SHARES,
    check,
    check_data,
    unknown_field,
)
from segtad_jax.config.defaults import PAPER, PLAIN, SWITCHES, default, flatten, with_arguments
from segtad_jax.config.stored import ANY_DATA, OPENABLE
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.step import loss_terms

ROOT_CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"
CONFIGS = sorted(ROOT_CONFIGS.glob("*.py"))


def load(path: pathlib.Path, argument: str = "") -> ConfigDict:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


def changed(fields: dict) -> ConfigDict:
    config = default()
    config.update_from_flattened_dict(fields)
    return config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "argument", ["", "paper", "runlocal", "paper,runlocal", "plain,ablation=no_graph"]
)
def test_every_config_file_can_be_run(path: pathlib.Path, argument: str) -> None:
    check(load(path, argument), partial=path.stem == "custom")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_plain_leaves_nothing_of_ours_in_any_config(path: pathlib.Path) -> None:
    plain, known = flatten(load(path, "plain")), flatten(default())
    of_the_data = {"eval.sigma", "eval.max_detections", "eval.batch_size"}
    ours = {name for name in known if name.startswith(("augment.", "loss.", "eval."))}
    assert not {name for name in ours - of_the_data if plain[name] != known[name]}
    assert flatten(load(path, "plain,paper")) == flatten(load(path, "paper"))


def test_paper_is_plain_and_every_literal_reading() -> None:
    assert PLAIN.items() <= PAPER.items()
    paper = flatten(with_arguments(default(), "paper"))
    assert flatten(changed(paper | PAPER)) == paper


LETTER = {  # sections 3.2 to 4.3; R, context and interpolation are those of G-TAD, which it cites
    "model": {
        "normalise": False,
        "branches": ["graph", "atrous", "global"],
        "dilations": [1, 10, 20, 30],
        "global_convolution": False,
        "snippet_neighbours": 4,
        "aggregate": "sum",
        "decoder_stride": 1,
        "input_highway": False,
        "stride": 8,
        "num_bins": 32,
        "context": 0.5,
        "interpolation": "linear",
        "proposal_neighbours": 4,
        "proposal_layers": 3,
        "proposal_graph": True,
        "classifier": False,
        "similarity": "tiou",
        "pyramid": 0,
    },
    "sampling": {"seeds": 50, "second_hop": "remaining", "edges": "list"},
    "loss": {
        "segmentation": 1.0,
        "segmentation_classes": True,
        "detection": 1.0,
        "boundary": 1.0,
        "positive_tiou": 0.5,
        "boundary_radius": 0,
        "balance_boundaries": False,
        "snap": 0,
        "balance_proposals": False,
    },
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_paper_sets_every_field_of_the_method_in_every_config(path: pathlib.Path) -> None:
    """A field that is added has the paper's value here and in PAPER, or a reason in `literal`."""
    config = load(path, "paper")
    fields = flatten(config)
    for group, expected in LETTER.items():
        found = {name: fields[f"{group}.{name}"] for name in config[group]}
        left = {name for name in found if f"{group}.{name}" in literal.OPEN}
        assert {name: value for name, value in found.items() if name not in left} == expected
    assert set(literal.OPEN) <= set(fields)
    assert set(literal.OPEN).isdisjoint(PAPER)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_paper_can_be_trained_with_every_config(path: pathlib.Path) -> None:
    """Also where dilations reach beyond the window, and seeds are more than there are proposals."""
    config = load(path, "paper")
    config.data.num_frames = config.data.num_frames or 80
    config.model.width = 8
    config.train.batch_size = config.train.batch_size or 8
    config.train.steps, config.eval.snap = config.train.steps or 10, 0
    config.eval.sigma = config.eval.sigma or 0.4
    check(config)
    length, channels = config.data.num_frames, 4

    def terms(features: jax.Array) -> dict:
        batch = {"features": features, "num_frames": jnp.full(1, length)}
        batch |= {"segments": jnp.array([[[0.1, 0.5]]]), "labels": jnp.ones((1, 1), int)}
        batch |= {"valid": jnp.ones((1, 1), bool), "position": jnp.zeros(1, int)}
        model = SegTAD(config, 3)
        variables = create_variables(config, model, channels)
        return loss_terms(config, model, variables, batch, jax.random.key(0))[0]

    found = jax.eval_shape(terms, jax.ShapeDtypeStruct((1, length, channels), jnp.float32))
    assert {"segmentation", "classification"} < found.keys()
    proposals = length // 8 * (length // 8 + 1) // 2
    assert grid(config).members.shape == (proposals, 21)


def test_paper_says_what_it_leaves_and_why() -> None:
    said = "\n".join(literal.remarks(load(ROOT_CONFIGS / "watch.py", "paper")))
    assert "not Table 1's or 2's protocol" in said
    for field in ("model.width = 128", "optim.schedule = 'cosine'", "eval.sigma = 0.2"):
        assert field in said
    assert "eval.class_scores = ''" in said
    activitynet = load(ROOT_CONFIGS / "activitynet.py", "paper")
    assert "not Table 1's" in literal.remarks(activitynet)[0]
    activitynet.eval.class_scores = "scores.json"
    assert "not Table 1's" not in literal.remarks(activitynet)[0]
    assert "class_scores" not in "\n".join(literal.remarks(activitynet))
    assert (
        "[10, 20, 30] reach beyond 8"
        in literal.remarks(load(ROOT_CONFIGS / "tiny.py", "paper"))[-1]
    )
    row = load(ROOT_CONFIGS / "watch.py", "paper,ablation=no_graph")
    assert literal.remarks(row) == literal.remarks(load(ROOT_CONFIGS / "watch.py", "paper"))
    assert not literal.remarks(load(ROOT_CONFIGS / "watch.py", "plain"))
    assert all(f"# {line}" in files.listing(row) for line in literal.remarks(row))


def test_an_unknown_switch_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(ValueError, match=r"'papr' in ':papr,runlocal'.*'paper'") as raised:
        with_arguments(default(), "papr,runlocal")
    assert all(name in str(raised.value) for name in SWITCHES)


def test_two_ablations_are_refused() -> None:
    with pytest.raises(ValueError, match=r":ablation=no_graph,ablation=no_global.*name one"):
        with_arguments(default(), "ablation=no_graph,ablation=no_global")


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"data.num_frames": 100}, "104"),
        ({"data.num_frames": 1000, "model.stride": 7}, r"1000 .*stride = 7.*=None.*1008 frames"),
        ({"model.num_bins": 30, "model.context": 0.5}, "32"),
        ({"model.num_bins": 32, "model.context": 1.0}, "33"),
        ({"model.branches": ("graph", "atrus")}, "atrous, global, graph"),
        ({"model.branches": ()}, "atrous, global, graph"),
        ({"model.dilations": ()}, "1,10,20,30"),
        ({"model.dilations": (1, 0)}, "1,10,20,30"),
        ({"model.snippet_neighbours": 125, "data.num_frames": 1000}, "more frames"),
        ({"model.proposal_neighbours": 4, "model.stride": 200}, "a smaller stride"),
        ({"train.batch_size": 6}, "8"),
        ({"eval.batch_size": 3}, "4"),
        ({"train.save_every": 15, "train.log_every": 10}, "20"),
        ({"train.eval_every": 15, "train.log_every": 10}, "20"),
        ({"eval.window_overlap": 1.0}, r"\[0, 1\)"),
        ({"augment.rotate": (1, 2, 2, 3)}, r"\(0, 3\)"),
        ({"augment.rotate": ((1, 2), (4, 5))}, r"\(0, 3\)"),
        ({"augment.rotate": (1.5, 2)}, r"\(0, 3\)"),
        ({"augment.mirror": ("a",)}, r"\(0, 3\)"),
        ({"augment.mirror": (3, 3)}, r"\(0, 3\)"),
        ({"train.log_every": None}, "set it"),
        ({"model.width": None}, "set it"),
        *(({field: "median"}, ", ".join(map(str, CHOICES[field]))) for field in CHOICES),
        *(({field: 0}, "above 0") for field in POSITIVE),
        *(({field: -1}, "off at 0") for field in OFF_AT_0),
        *(({field: 1.5}, r"0\.\.1") for field in SHARES),
    ],
)
def test_what_cannot_be_run_is_refused_with_field_value_and_remedy(fields, remedy) -> None:
    config = default()
    with config.ignore_type():
        config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=remedy) as raised:
        check(config, num_devices=4)
    for field, value in fields.items():
        assert field in str(raised.value)
        assert value is None or str(value) in str(raised.value)


def test_rotated_channels_come_two_and_two() -> None:
    with pytest.raises(ValueError, match=r"augment\.rotate names 3 channels.*\(1, 2, 4, 5\)"):
        check(changed({"augment.rotate": (1, 2, 4)}))


@pytest.mark.parametrize("field", OPENABLE)
def test_zero_does_not_open_a_field_any_more_and_none_does(field: str) -> None:
    """The advice is what works on the command line: tests/test_config_flag.py."""
    value = {"model.dilations": (), "eval.class_mean": "none"}.get(field, -1)
    if not isinstance(default()[field], bool):
        with pytest.raises(ValueError, match=rf"{field} is {re.escape(repr(value))}.*{field}=None"):
            check(changed({field: value}))
    check(changed({field: None}), partial=True)
    if field not in ANY_DATA:
        with pytest.raises(ValueError, match=rf"{field} is open.*set it"):
            check(changed({field: None}))


def test_values_are_checked_before_the_rest_is_chosen() -> None:
    with pytest.raises(ValueError, match=r"model\.stride is 0"):
        check(changed({"model.stride": 0, "model.width": None}), partial=True)
    check(changed({"model.stride": 7, "data.num_frames": None}), partial=True)  # may divide it


@pytest.mark.parametrize(
    ("fields", "missing"),
    [({"loss.segmentation": 0.0}, 0.0), ({"loss.segmentation_classes": False}, False)],
)
def test_something_must_learn_the_classes(fields, missing) -> None:
    (field,) = fields
    with pytest.raises(ValueError, match=rf"{field} = {missing}.*model\.classifier = True"):
        check(changed(fields))
    for other in ({"model.classifier": True}, {"eval.class_scores": "scores.json"}):
        check(changed(fields | other))


@pytest.mark.parametrize(("evaluated", "saved"), [(100, 200), (300, 200), (100, 0)])
def test_every_step_that_a_holdout_evaluates_is_saved(evaluated: int, saved: int) -> None:
    fields = {"train.eval_every": evaluated, "train.save_every": saved}
    check(changed(fields))
    message = rf"eval_every = {evaluated} .* train.save_every = {saved}.*holdout"
    with pytest.raises(ValueError, match=message):
        check(changed(fields | {"data.holdout": "a"}))
    check(changed(fields | {"data.holdout": "a", "train.eval_every": 2 * saved}))


def test_other_contexts_have_bins_of_their_own() -> None:
    fields = {"model.context": 0.25, "model.num_bins": 30}  # 6 = 4 + 2
    check(changed(fields))
    check(changed(fields | {"model.branches": ("graph",), "model.dilations": ()}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.num_channels": 400}, r"data\.num_channels = 400, but DATA has 16.*set .* to 16"),
        ({"data.num_classes": 200}, r"data\.num_classes = 200, but DATA has 3.*set .* to 3"),
        ({"augment.mirror": (0, 16)}, r"augment\.mirror names channels 0 to 16.* 0 to 15.*\(\)"),
        ({"augment.rotate": (-1, 2)}, r"augment\.rotate names channels -1 to 2.* 0 to 15.*\(\)"),
    ],
)
def test_data_must_have_what_the_config_names(fields, message) -> None:
    check_data(changed({"data.num_channels": 16, "augment.mirror": (0, 15)}), 16, 3, "DATA")
    with pytest.raises(ValueError, match=message):
        check_data(changed(fields), 16, 3, "DATA")


@pytest.mark.parametrize(
    ("typo", "field"),
    [
        ("model.widht", "model.width"),
        ("modle.width", "model.width"),
        ("width", "model.width"),
        ("eval.batchsize", "eval.batch_size"),
        ("sede", "seed"),
    ],
)
def test_an_unknown_field_is_answered_with_the_nearest(typo: str, field: str) -> None:
    assert re.search(rf"'{re.escape(typo)}'.*'{field}'", unknown_field(typo))


def test_a_file_that_sets_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'model\.widht'.*'model\.width'"):
        check(changed({"model.widht": 3}))
    for field, advice in (("fit", "None"), ("model.refine", "what_helped")):  # of older versions
        with pytest.raises(ValueError, match=rf"'{field}' any more: leave it out.*{advice}"):
            check(changed({field: True}))


def test_a_name_is_a_shipped_config_and_a_path_a_file(tmp_path, monkeypatch) -> None:
    assert files.shipped() == {path.stem: path for path in CONFIGS}  # the clone's own
    monkeypatch.chdir(tmp_path)
    for name in ("watch", "watch.py", "mine"):
        (tmp_path / name).write_text((ROOT_CONFIGS / "tiny.py").read_text())
    assert files.config_path("watch") == ROOT_CONFIGS / "watch.py"
    assert flatten(files.load("watch:plain")) == flatten(load(ROOT_CONFIGS / "watch.py", "plain"))
    for name in ("./watch", "watch.py", "mine", str(tmp_path / "watch.py")):
        assert files.load(f"{name}:paper").model.width == 32  # tiny's
    assert files.load("mine").is_locked


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("whatch", "watch"), ("configs/hap.py", "configs/hapt.py"), ("elsewhere/tinny.py", "tiny")],
)
def test_a_typo_in_a_files_name_is_answered_with_the_nearest(name, nearest, monkeypatch) -> None:
    monkeypatch.chdir(ROOT_CONFIGS.parent)
    with pytest.raises(ValueError, match=rf"'{name}'.*'{nearest}'.*activitynet, custom"):
        files.load(name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("    nothing.there = 1", "line 4: NameError: .*'nothing'"),
        ("    config.model.width = 'wide'", "line 4: TypeError: .*'width'.* wide "),
        ("    config =", "line 4: SyntaxError"),
    ],
)
def test_a_file_that_raises_is_named_with_the_line(tmp_path, line, message) -> None:
    path = tmp_path / "mine.py"
    text = "from segtad_jax.config import default\ndef get_config(_=''):\n    config = default()\n"
    path.write_text(f"{text}{line}\n    return config\n")
    with pytest.raises(ValueError, match=f"mine.py, {message}"):
        files.load(str(path))


def test_the_listing_has_every_field_with_its_value_and_comment() -> None:
    config = load(ROOT_CONFIGS / "custom.py")
    lines = files.listing(config).splitlines()
    fields = [line.partition(" = ")[0] for line in lines if " = " in line and line[0] != "#"]
    assert set(fields) == set(flatten(config))
    assert len(fields) == len(flatten(config))
    width = next(line for line in lines if line.startswith("model.width"))
    assert width == "model.width = None  # C', channels inside (ours)"
    assert "# Synthetic recordings: what tests and `:runlocal` use." in lines
    config.data.synthetic_seed = 7
    assert "data.synthetic_seed = 7" in files.listing(config).splitlines()
