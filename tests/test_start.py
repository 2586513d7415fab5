"""Runs that start from another run's checkpoint, and runs that change their number of devices."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath

from segtad_jax import evaluate, train
from segtad_jax.checkpoint.store import kept_steps, restore_variables
from segtad_jax.step import TrainState
from tests.test_processes import finish, start
from tests.tiny_runs import ROOT, logged, saved, tiny


class StoppedError(Exception):
    """Training is left, as by a lost machine."""


BRIEF = {
    "train.log_every": 1,
    "train.save_every": 2,
    "train.eval_every": 0,
    "train.keep": 9,
    "model.width": 8,
    "train.batch_size": 8,
    "sampling.seeds": 4,
}


def brief(data_dir: str, **fields: object):
    """Four steps of a small model, saved every two."""
    settings = {name.replace(".", "__"): value for name, value in BRIEF.items()}
    return tiny(data_dir, **{"train__steps": 4, **settings, **fields})


@pytest.fixture(scope="module")
def source(once: Callable, data_dir: str, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A finished run with the checkpoints 2 and 4."""
    made = once("source", lambda folder: train.train(brief(data_dir), folder))
    return shutil.copytree(made, tmp_path_factory.mktemp("source") / "run")


def first_state(config: Any, folder: pathlib.Path, checkpoint: str | None) -> TrainState:
    """What a run would train on, without training."""
    states = []

    def leave(state: TrainState, *_: object) -> None:
        states.append(jax.device_get(state))
        raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "parallel_step", lambda *_: leave)
        with pytest.raises(StoppedError):
            train.train(config, folder, checkpoint)
    return states[0]


def leave_after(batches: int, config: Any, folder: pathlib.Path, *checkpoint: str) -> None:
    """Trains for some steps, then leaves."""
    shard_batch, number = train.parallel.shard_batch, iter(range(batches))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            train.parallel, "shard_batch", lambda batch: (next(number), shard_batch(batch))[1]
        )
        with pytest.raises(StopIteration):
            train.train(config, folder, *checkpoint)


def variables(state: TrainState) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves_with_path(state.variables)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves}


def restored(folder: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves_with_path(restore_variables(epath.Path(folder), step))
    return {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves}


def test_a_new_run_starts_at_step_0_with_the_variables_of_the_checkpoint(
    source: pathlib.Path, data_dir: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "segtad_jax")
    state = first_state(brief(data_dir, optim__learning_rate=1e-4), tmp_path, f"{source}/2")
    assert state.step == 0
    expected = restored(source, 2)
    for name, array in variables(state).items():
        np.testing.assert_array_equal(array, expected[name])
    assert all(not np.any(x) for x in jax.tree.leaves(state.opt_state))  # Adam starts anew
    assert f"starting from {source}/2:\n  55 arrays with" in caplog.text
    assert "0 left in the checkpoint\n  0 made new\n" in caplog.text
    assert json.loads((tmp_path / "config.json").read_text())["start"] == f"{source}/2"


@pytest.mark.slow
def test_it_goes_on_from_its_own_checkpoints_as_an_unbroken_one_does(
    source: pathlib.Path, data_dir: str, tmp_path: pathlib.Path
) -> None:
    config, whole, broken = brief(data_dir), tmp_path / "whole", tmp_path / "broken"
    train.train(config, whole, str(source))
    leave_after(1, config, broken, str(source))  # before its first checkpoint
    assert not kept_steps(epath.Path(broken))
    leave_after(3, config, broken)  # without --checkpoint: what it started from is known
    assert kept_steps(epath.Path(broken)) == [2]
    elsewhere = source.with_name("moved")
    source.rename(elsewhere)  # is not needed any more
    try:
        train.train(config, broken, str(source))
    finally:
        elsewhere.rename(source)
    assert logged(broken) == logged(whole)
    jax.tree.map(np.testing.assert_array_equal, saved(config, broken, 4), saved(config, whole, 4))
    assert (broken / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    assert not np.array_equal(  # than from new parameters
        saved(config, whole, 4).params["pdn"]["align_kernel"],
        saved(config, source, 4).params["pdn"]["align_kernel"],
    )

    with pytest.raises(ValueError, match=rf"was started from {source}/4, not from {source}/2\. "):
        train.train(config, broken, f"{source}/2")
    with pytest.raises(ValueError, match="was started from new parameters, not from"):
        train.train(config, source, str(whole))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "new"),
    [
        ({"data__synthetic_classes": 5}, {"ssn/segmentation/bias", "ssn/segmentation/kernel"}),
        ({"data__synthetic_channels": 24}, {"ssn/encoder_0/kernel"}),
        (
            {"model__branches": ("atrous", "global"), "model__proposal_layers": 4},
            {"ssn/pag/fuse/kernel", "pdn/edge_3_kernel"},
        ),
    ],
    ids=["classes", "channels", "parts"],
)
def test_what_fits_another_model_is_taken(
    source: pathlib.Path,
    data_dir: str,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, object],
    new: set[str],
) -> None:
    caplog.set_level("INFO", "segtad_jax")
    config = brief(data_dir, **fields)
    if any("synthetic" in field for field in fields):
        config.data.dir = str(tmp_path / "data")
    fresh = variables(first_state(config, tmp_path / "fresh", None))
    started = variables(first_state(config, tmp_path / "run", str(source)))
    expected = restored(source, 4)
    made = {f"params/{name}" for name in new}
    for name, array in started.items():
        other = fresh if name in made else expected
        np.testing.assert_array_equal(array, other[name], err_msg=name)
    left = {n for n, x in expected.items() if n not in started or x.shape != started[n].shape}
    assert f"{len(started) - len(new)} arrays with" in caplog.text
    assert f"{len(left)} left in the checkpoint:" in caplog.text
    assert f"{len(new)} made new:" in caplog.text
    for name in made | left:
        assert re.search(rf"^      {name} \[", caplog.text, re.MULTILINE), name


def test_heads_of_other_classes_are_told(
    source: pathlib.Path, data_dir: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other"
    shutil.copytree(source, other)
    content = json.loads((other / "config.json").read_text()) | {"classes": ["a", "b", "c"]}
    del content["checksum"]
    content["model.of_another_version"] = 1  # no matter: the arrays are what is taken
    (other / "config.json").write_text(json.dumps(content))
    first_state(brief(data_dir), tmp_path / "run", str(other))
    assert "the segmentation head that was a, b, c starts as that of class_00," in caplog.text


@pytest.mark.slow
def test_a_start_that_cannot_be_leaves_the_workdir_free(
    source: pathlib.Path, data_dir: str, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match="has no checkpoint 3; it has: 2, 4"):
        train.train(brief(data_dir), folder, f"{source}/3")
    wider = brief(data_dir, model__width=16)
    with pytest.raises(ValueError, match=r"no kernel of the checkpoint fits this model: .* same"):
        train.train(wider, folder, str(source))
    damaged = tmp_path / "damaged"
    shutil.copytree(source, damaged)
    for path in (damaged / "checkpoints" / "4" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"(?s)4 does not read.*Name another one, .*/STEP: 2\."):
        train.train(brief(data_dir), folder, str(damaged))
    with pytest.raises(ValueError, match=r"(?s)4 does not read.*Name another one, .*/STEP: 2\."):
        evaluate.evaluate_checkpoint(brief(data_dir), folder, str(damaged))
    assert not folder.exists()


ONE_DEVICE = """
import sys
from tests.test_start import brief, leave_after
import jax, pathlib
assert jax.device_count() == 1
leave_after(5, brief(sys.argv[1], **CHANGE), pathlib.Path(sys.argv[2]))
"""
CHANGE = {"train__steps": 10, "optim__learning_rate": 1e-4}  # Adam makes rounding larger


@pytest.mark.slow
def test_from_four_devices_to_one_and_back(data_dir: str, tmp_path: pathlib.Path) -> None:
    config, folder, whole = brief(data_dir, **CHANGE), tmp_path / "changing", tmp_path / "whole"
    assert jax.device_count() == 4
    train.train(config, whole)
    leave_after(5, config, folder)  # on four devices
    assert kept_steps(epath.Path(folder)) == [2, 4]
    alone = re.sub(r"(device_count)=\d+", r"\1=1", os.environ["XLA_FLAGS"])
    code = f"CHANGE = {CHANGE!r}\n{ONE_DEVICE}"
    command = [sys.executable, "-c", code, data_dir, str(folder)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"XLA_FLAGS": alone}, check=True)
    assert kept_steps(epath.Path(folder)) == [2, 4, 6, 8]
    train.train(config, folder)  # on four again
    ours, theirs = logged(folder), logged(whole)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for a, b in zip(ours, theirs, strict=True):
        for name in a:
            if name.startswith("loss/"):
                assert a[name] == pytest.approx(b[name], rel=1e-5), (name, a["step"])


@pytest.mark.slow
def test_several_processes_start_from_a_checkpoint(
    source: pathlib.Path, data_dir: str, tmp_path: pathlib.Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    config = brief(data_dir, optim__learning_rate=1e-4, data__synthetic_recordings=52)  # as `start`
    train.train(config, one, f"{source}/2")
    flags = [f"--config.{name}={value}" for name, value in BRIEF.items()]
    flags += ["--config.train.steps=4", f"--checkpoint={source}/2"]
    for status, output in finish(start(two, data_dir, 2, 2, *flags)):
        assert status == 0, output
    assert json.loads((two / "config.json").read_text())["start"] == f"{source}/2"
    for a, b in zip(logged(one), logged(two), strict=True):
        assert a["step"] == b["step"]
        if "loss/total" in a:
            assert a["loss/total"] == pytest.approx(b["loss/total"], rel=1e-5)
