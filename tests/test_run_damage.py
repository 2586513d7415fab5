"""The small files of a run, damaged: predict and evaluate name the file, or nothing has changed."""

import pathlib
import re
import shutil

import numpy as np
import pytest
from etils import epath

import segtad_jax
from segtad_jax import evaluate
from segtad_jax.checkpoint import run_folder
from segtad_jax.config.defaults import flatten
from segtad_jax.data.embedded import open_or_build
from tests.damage import damaged
from tests.tiny_runs import short

METADATA = ("_CHECKPOINT_METADATA", "progress/metadata", "checksums/metadata", "state/_METADATA")
FILES = ("config.json", "metrics.json", *(f"checkpoints/12/{name}" for name in METADATA))


def facts(data_dir: str, run: pathlib.Path) -> object:
    """All that predict and evaluate take from the small files of a run."""
    config = short(data_dir)
    dataset = open_or_build(config.data)
    run_folder.refuse_other(epath.Path(run), config, dataset)
    run_folder.refuse_results(epath.Path(run), config, dataset, 12)
    metrics = evaluate.finished(epath.Path(run), config)
    model = segtad_jax.load(str(run))
    weights = [np.asarray(x).tobytes() for x in _leaves(model.variables)]
    config = flatten(model.config)
    return metrics, config, model.classes, model.num_channels, model.step, weights


def _leaves(tree: object) -> list:
    return [x for v in tree.values() for x in _leaves(v)] if hasattr(tree, "values") else [tree]


@pytest.fixture(scope="module")
def whole(data_dir, unbroken):
    return facts(data_dir, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_any_damage_is_named_or_harmless(data_dir, unbroken, whole, tmp_path, name):
    run = pathlib.Path(shutil.copytree(unbroken, tmp_path / "run"))
    file, named = run / name, 0
    before = file.read_bytes()
    for seed in range(8):
        damage = damaged(before, np.random.default_rng(seed))
        file.write_bytes(damage)
        try:
            found = facts(data_dir, run)
        except (ValueError, OSError) as error:
            message, named = str(error), named + 1
        else:
            assert found == whole, (seed, damage)
            continue
        place = run / "checkpoints" / "12" if "checkpoints" in name else file
        assert re.search(rf"{re.escape(str(place))}|{run} is not a run: {name}", message), message
    assert named > 2 or "checkpoints" in name
