"""Runs of configs/tiny.py that several test files share, and what is compared of them."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from segtad_jax import evaluate, train
from segtad_jax.checkpoint.store import Checkpoints
from segtad_jax.config.defaults import flatten
from segtad_jax.data.dataset import Dataset
from segtad_jax.data.embedded import open_or_build
from segtad_jax.detector import Detector
from segtad_jax.models.segtad import SegTAD
from segtad_jax.optim import optimizer
from segtad_jax.runtime.files import on_object_store
from segtad_jax.step import TrainState, create_state
from tests.test_config import load

ROOT = pathlib.Path(__file__).resolve().parent.parent
TINY = ROOT / "configs" / "tiny.py"


# Half of what such a run costs is tracing its steps, a third drawing its report. So in a process
# equal configs share their steps, and the first run of a config draws the report for all.
_shared: dict[str, Any] = {}


def _key(config: ConfigDict, *more: object) -> str:
    return json.dumps([flatten(config), *map(str, more)], sort_keys=True)


def _share_step(config, model, optimizer, make=train.parallel_step):
    key = _key(config, "step", model.num_classes, model.boundary_bias)
    if key not in _shared:
        _shared[key] = make(config, model, optimizer)
    return _shared[key]


def _share_programs(self, config, classes, *others, make=Detector.__init__, **settings) -> None:
    make(self, config, classes, *others, **settings)
    programs = {name: value for name, value in vars(self).items() if hasattr(value, "lower")}
    key = _key(config, "detector", classes, others[1:], settings)
    vars(self).update(_shared.setdefault(key, programs))


def _draw_once(config, workdir, *others, draw=evaluate._write_report) -> None:
    if _shared.setdefault(_key(config, "report", on_object_store(workdir)), workdir) is workdir:
        draw(config, workdir, *others)


train.parallel_step, Detector.__init__ = _share_step, _share_programs
evaluate._write_report = _draw_once


def tiny(data_dir: str, **fields: object) -> ConfigDict:
    """configs/tiny.py with other fields, `train__steps` being train.steps."""
    config = load(TINY)
    config.data.dir = data_dir
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return config


def short(data_dir: str, **fields: object) -> ConfigDict:
    """Twelve steps that save and evaluate every four; the fixture `unbroken` is such a run."""
    settings = {"train__log_every": 2, "train__save_every": 4, "train__eval_every": 4}
    return tiny(data_dir, **{"train__steps": 12, "train__keep": 10, **settings, **fields})


def opened(data_dir: str) -> Dataset:
    return open_or_build(tiny(data_dir).data)


def random_run(
    folder: pathlib.Path, config: ConfigDict, classes: Sequence[str], channels: int, step: int = 20
) -> pathlib.Path:
    """A run with one checkpoint, of random parameters: nothing is trained or compiled for it."""
    model = SegTAD(config, len(classes))
    shapes = jax.eval_shape(lambda: create_state(config, model, optimizer(config), channels))
    random = np.random.default_rng(0)

    def drawn(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if leaf.ndim < 2:  # biases, statistics and scales, which must be positive
            return random.uniform(0.5, 1, leaf.shape).astype(leaf.dtype)
        fan_in = np.prod(leaf.shape[:-1])
        return (random.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(leaf.dtype)

    with Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.save(step, jax.tree.map(drawn, shapes), {"interval": [], "owed": False})
    content = flatten(config) | {"classes": list(classes), "channels": channels}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def logged(folder: pathlib.Path) -> list[dict]:
    """The lines of the log, without what differs between equal runs."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if not k.startswith("timing/")} for line in lines]


def saved(config: ConfigDict, folder: pathlib.Path, step: int) -> TrainState:
    """A checkpoint of a run on tiny's data set."""
    state = jax.eval_shape(lambda: create_state(config, SegTAD(config, 3), optimizer(config), 16))
    with Checkpoints(folder, 10) as checkpoints:
        return checkpoints.restore(step, state).state


def assert_equal_runs(config: ConfigDict, ours: pathlib.Path, theirs: pathlib.Path) -> None:
    """Bit for bit: logs, the last state, results."""
    assert logged(ours) == logged(theirs)
    last = config.train.steps
    jax.tree.map(
        np.testing.assert_array_equal, saved(config, ours, last), saved(config, theirs, last)
    )
    for name in ("detections.json", "metrics.json"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
