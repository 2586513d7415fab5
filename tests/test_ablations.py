"""Rows of Tables 3 to 8: what they set, that they can be run, and what they are in the model."""

import json
import re

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from segtad_jax.checkpoint import run_folder
from segtad_jax.config.ablations import ABLATIONS
from segtad_jax.config.check import check
from segtad_jax.config.defaults import PLAIN, RUNLOCAL, default, flatten, with_arguments
from segtad_jax.experiments import plan
from segtad_jax.experiments.paper import MEASURES, TABLES
from segtad_jax.models.segtad import SegTAD
from tests.test_config import CONFIGS, ROOT_CONFIGS, load

FILES = {path.stem: path for path in CONFIGS}
IDENTITY = {"classes": ["a"], "channels": 3}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_row_can_be_run_with_every_config(name: str) -> None:
    for path in CONFIGS:
        if path.stem != "custom":  # a data set settles its fields
            check(load(path, f"plain,ablation={name}"))
            check(load(path, f"runlocal,ablation={name}"))


def test_tables_name_every_ablation_and_no_other() -> None:
    named = {row.ablation for table in TABLES.values() for row in table.rows}
    assert named == set(ABLATIONS)
    for table in TABLES.values():
        assert table.reference in {row.ablation for row in table.rows}
        assert all(len(row.cells) == len(table.heading) for row in table.rows)
        assert all(len(row.paper) == len(MEASURES) for row in table.rows)


def test_rows_of_a_table_differ_in_what_the_table_is_about() -> None:
    about = {
        3: {"loss.segmentation"},
        4: {"loss.segmentation_classes"},
        5: {"model.branches"},
        6: {"model.dilations"},
        7: {"model.proposal_graph"},
        8: {"model.similarity"},
    }
    assert about.keys() == TABLES.keys()
    for number, table in TABLES.items():
        first, *others = (flatten(config_of(row.ablation)) for row in table.rows)
        for other in others:
            assert {field for field in first if first[field] != other[field]} == about[number]


def config_of(ablation: str, argument: str = ""):
    return with_arguments(default(), f"{argument}ablation={ablation}")


def test_segtad_itself_is_the_default() -> None:
    assert flatten(config_of("segtad")) == flatten(default())
    assert flatten(config_of("dilations_1_10_20_30")) == flatten(default())


@pytest.mark.parametrize(
    ("ablation", "without"),
    [
        ("no_atrous", r"pag/atrous_\d"),
        ("no_graph", "pag/graph_kernel"),
        ("no_global", "pag/global"),
        ("segtad", "classifier"),
    ],
)
def test_a_row_takes_its_part_out_of_the_model(ablation: str, without: str) -> None:
    def parameters(ablation: str) -> set[str]:
        config = config_of(ablation, "runlocal,")
        variables = jax.eval_shape(
            SegTAD(config, 3).init, jax.random.key(0), jnp.zeros((1, 64, 6)), jnp.full(1, 64)
        )
        leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
        return {"/".join(key.key for key in path) for path, _ in leaves}

    own, full = parameters(ablation), parameters("segmentation_loss")
    gone = {name for name in full - own if not name.startswith("classifier") or "class" in without}
    assert gone
    assert all(re.search(without, name) for name in gone)
    assert own <= full


@pytest.mark.parametrize("name", ["segmentation_loss", "no_segmentation_loss"])
def test_no_classifier_is_trained_where_a_file_names_the_classes(name: str, tmp_path, caplog):
    with_file = {"eval.class_scores": "scores.json"}
    base = plan.base("watch.py", with_file, load(FILES["watch"], "plain"))
    base.config.update_from_flattened_dict(with_file)
    assert not plan.trial(base, name, 0).config.model.classifier
    assert plan.trial(
        base._replace(overrides={"eval.class_scores": ""}), name, 0
    ).config.model.classifier

    run = epath.Path(tmp_path)
    config = load(FILES["watch"], f"plain,ablation={name}")
    run_folder.settle_classifier(config, run)
    assert config.model.classifier
    (run / "config.json").write_text(json.dumps(flatten(config) | IDENTITY))
    config.eval.class_scores = "scores.json"
    run_folder.settle_classifier(config, run)  # a run that has one goes on with it
    assert config.model.classifier
    caplog.set_level("INFO", "segtad_jax")
    run_folder.settle_classifier(config, run / "new")
    assert not config.model.classifier
    assert "model.classifier = False: scores.json names the classes" in caplog.text
    (run / "config.json").write_text(json.dumps(flatten(config) | IDENTITY))
    again = load(FILES["watch"], f"plain,ablation={name}")
    again.eval.class_scores = "scores.json"
    run_folder.settle_classifier(again, run)  # the same command resumes, and evaluates
    assert flatten(again) == flatten(config)


def test_an_ablation_goes_with_the_other_arguments_in_any_order() -> None:
    one = load(FILES["watch"], "plain,ablation=dilations_1_2_4_6,runlocal")
    other = load(FILES["watch"], "ablation=dilations_1_2_4_6,runlocal,plain")
    assert flatten(one) == flatten(other)
    assert one.model.dilations == (1, 2, 4, 6)
    assert one.data.source == "synthetic"


def test_what_plain_and_runlocal_both_set_is_the_same_so_that_their_order_is_none() -> None:
    assert {name: PLAIN[name] for name in PLAIN.keys() & RUNLOCAL.keys()} == {
        name: RUNLOCAL[name] for name in PLAIN.keys() & RUNLOCAL.keys()
    }


def test_unknown_ablation_is_answered_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"mean 'ablation=no_graph'.*=center_distance"):
        with_arguments(default(), "plain,ablation=no_grahp")


def test_numbers_are_the_papers() -> None:
    """Of rows that are the same everywhere, and the differences that section 4.3 speaks of."""
    for table in TABLES.values():
        best = next(row for row in table.rows if row.ablation == table.reference)
        assert best.paper == (49.86, 34.37, 6.50, 33.53)
        assert all(row.paper[3] < best.paper[3] for row in table.rows if row is not best)


def test_docs_name_every_ablation() -> None:
    text = (ROOT_CONFIGS.parent / "docs" / "ablations.md").read_text()
    assert not [name for name in ABLATIONS if name not in text]
