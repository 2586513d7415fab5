"""Checkpoints: variables without the optimiser, what is in them, and what cannot be read."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from etils import epath

from segtad_jax.checkpoint import __main__ as contents
from segtad_jax.checkpoint import checksums
from segtad_jax.checkpoint.store import (
    Checkpoints,
    kept_steps,
    locate,
    parse,
    read_contents,
    restore_variables,
    step_identity,
)
from segtad_jax.config.defaults import default, flatten
from tests.object_store import bucket_in

PARAMS = {"a": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3)}, "b": np.ones(2)}
NORM = {"norm": {"mean": np.array([1, 2], np.float32)}}


def write_run(folder: pathlib.Path, **state: object) -> epath.Path:
    """Two steps of a state that is no model's."""
    run = epath.Path(folder)
    with Checkpoints(run, keep=3) as checkpoints:
        for step in (4, 8):
            whole = {"params": PARAMS, "batch_stats": NORM, "opt_state": [{}, {"mu": PARAMS}]}
            whole |= {"step": np.int32(step)} | state
            checkpoints.save(step, whole, {"interval": []})
    content = flatten(default()) | {"classes": ["run", "jump"], "channels": 2}
    (run / "config.json").write_text(json.dumps(content))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> epath.Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


def test_names_of_checkpoints(run):
    assert parse(str(run)) == (run, None)
    assert parse(f"{run}/4") == parse(f"{run}/checkpoints/4") == (run, 4)
    assert parse("gone/12") == (epath.Path("gone"), 12)
    assert locate(str(run)) == (run, 8)
    assert kept_steps(run) == [4, 8]
    assert kept_steps(run / "nothing") == []


def test_variables_are_restored_without_the_rest(run):
    found = restore_variables(run, 4)
    assert set(found) == {"params", "batch_stats"}
    expected = {"params": PARAMS, "batch_stats": NORM}
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(found))
    like = jax.eval_shape(lambda: expected) | {}
    like["params"] = PARAMS  # float64, which JAX does not have
    jax.tree.map(np.testing.assert_array_equal, restore_variables(run, 4, like), expected)


def test_a_state_of_other_shapes_is_not_restored(run):
    """Orbax itself would restore it, and training would fail later, or not at all."""
    state = {"params": PARAMS, "batch_stats": NORM, "opt_state": [{}, {"mu": PARAMS}]}
    state |= {"step": np.int32(0)}
    with Checkpoints(run, keep=3) as checkpoints:
        assert checkpoints.restore(8, state).state["step"] == 8
        with pytest.raises(
            ValueError, match=r"\['b'\].*\[2\] in the checkpoint.*\[3\] in this model"
        ):
            checkpoints.restore(8, state | {"params": PARAMS | {"b": np.ones(3)}})


def test_a_model_without_batch_norm(tmp_path):
    run = write_run(tmp_path / "run", batch_stats={})
    assert restore_variables(run, 8)["batch_stats"] == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": np.ones(3)}, r"\['params'\]\['b'\] is float64\[2\] in .* but float64\[3\] in this"),
        ({"c": np.ones(3)}, r"in the model alone: \['params'\]\['c'\]\."),
        ({"b": {}}, r"in the checkpoint alone: \['params'\]\['b'\]\."),
    ],
)
def test_another_model_is_named(run, change, message):
    with pytest.raises(ValueError, match=rf"checkpoints/4 is of another model: .*{message}"):
        restore_variables(run, 4, {"params": PARAMS | change, "batch_stats": NORM})


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_what_does_not_read_is_named_with_the_others(run, tmp_path, damage):
    copy = epath.Path(tmp_path / "copy")
    shutil.copytree(run, copy)
    for path in pathlib.Path(copy / "checkpoints" / "8" / "state").rglob("*"):
        if path.is_file() and damage == "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif path.is_file():
            path.unlink()
    pattern = re.escape(f"checkpoint {copy}/checkpoints/8 does not read: ")
    with pytest.raises(ValueError, match=rf"(?s){pattern}.*Name another one, {copy}/STEP: 4\."):
        restore_variables(copy, 8)
    shutil.rmtree(copy / "checkpoints" / "4")
    with pytest.raises(ValueError, match=r"(?s)does not read.*The run has no other one\."):
        restore_variables(copy, 8)


def flip(file: pathlib.Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("reads", ["training", "predicting"])
def test_a_flipped_bit_is_seen_or_changes_nothing(run, tmp_path, reads):
    """One in every file of a step, and 60 more, each as likely as another."""
    random = np.random.default_rng(0)
    folder = pathlib.Path(shutil.copytree(run, tmp_path / "copy"))
    files = [p for p in (folder / "checkpoints" / "8").rglob("*") if p.is_file()]
    files = [p for p in files if p.stat().st_size]
    likely = np.array([p.stat().st_size for p in files], float)
    state = {"params": PARAMS, "batch_stats": NORM}
    whole = state | {"opt_state": [{}, {"mu": PARAMS}], "step": np.int32(8)}
    seen = 0
    for file in [*files, *random.choice(files, 60, p=likely / likely.sum())]:
        before = file.read_bytes()
        flip(file, int(random.integers(8 * len(before))))
        try:
            if reads == "training":
                with Checkpoints(folder, keep=3) as checkpoints:
                    found = checkpoints.restore(8, whole)._asdict()
            else:
                found = {"state": restore_variables(epath.Path(folder), 8)}
        except Exception:  # noqa: BLE001 (Orbax raises anything)
            seen += 1
        else:
            expected = whole if reads == "training" else state
            jax.tree.map(np.testing.assert_array_equal, found["state"], expected)
            assert found.get("progress", {"interval": []}) == {"interval": []}
        file.write_bytes(before)
    assert seen > 10


def test_what_orbax_would_read_is_not_taken_if_it_changed(run, tmp_path):
    """The arrays themselves, as a disk may return them: named, and nothing but them."""
    with Checkpoints(tmp_path / "run", keep=1) as checkpoints:
        state = {"params": {"w": np.zeros(4096)}, "batch_stats": {}, "step": np.int32(0)}
        checkpoints.save(1, state, {})
    run = epath.Path(tmp_path / "run")
    sums = pathlib.Path(run, "checkpoints", "1", "checksums", "metadata")
    recorded = json.loads(sums.read_text())
    sums.write_text(json.dumps(recorded | {"params/w": "float64[4096] 0"}))
    with pytest.raises(ValueError, match=r"checkpoints/1 does not read: params/w is not as it was"):
        restore_variables(run, 1)
    with (
        Checkpoints(run, keep=1) as checkpoints,
        pytest.raises(ValueError, match="params/w is not as it was saved"),
    ):
        checkpoints.restore(1, state)


def test_a_step_without_checksums_reads_as_before(run, tmp_path):
    copy = epath.Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "checkpoints" / "8" / "checksums")
    assert set(restore_variables(copy, 8)) == {"params", "batch_stats"}
    before = step_identity(copy, 8)
    assert len(before) == len(step_identity(copy, 4)) == 32
    flip(next(pathlib.Path(copy, "checkpoints", "8", "state").rglob("d/*")), 99)
    assert step_identity(copy, 8) != before


def test_a_step_is_known_by_its_variables(run, tmp_path):
    same, other = write_run(tmp_path / "same"), write_run(tmp_path / "other", params={"b": NORM})
    assert step_identity(run, 8) == step_identity(run, 4) == step_identity(same, 8)
    assert step_identity(run, 8) != step_identity(other, 8)


def test_a_read_that_fails_once_is_tried_again(run, monkeypatch):
    read, failures = checksums.read, [OSError("a moment")]

    def read_later(step):
        if failures:
            raise failures.pop()
        return read(step)

    monkeypatch.setattr(checksums, "read", read_later)
    assert set(restore_variables(run, 8)) == {"params", "batch_stats"}


def test_contents(run):
    found = read_contents(run, 8)
    assert found.state["params"]["a"]["kernel"].shape == (2, 3)
    assert found.state["opt_state"][1]["mu"]["b"].dtype == np.float64
    age = found.saved.now(found.saved.tzinfo) - found.saved
    assert 0 <= age.total_seconds() < 3600


def test_the_command_prints_what_is_in_a_checkpoint(run, capsys):
    assert contents.main([f"{run}/4"]) == 0
    printed = capsys.readouterr().out
    for line in (
        rf"run +{run}, step 4 of 1000",
        r"steps kept +4, 8",
        r"saved +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC",
        r"size on disk +0\.\d\d MB",
        r"started from +new parameters",
        r"features +2 channels, windows of T = 1000 frames",
        r"classes +2: run, jump",
        r"parameter +shape +dtype +values",
        r"a/kernel +2 x 3  float32 +6",
        r"b +2  float64 +2",
        r"parameters +2 arrays, 8 values, 0\.00 MB",
        r"BatchNorm statistics +1 arrays, 2 values, 0\.00 MB",
        r"optimiser state +2 arrays, 8 values, 0\.00 MB, which only training reads",
    ):
        assert re.search(f"^{line}$", printed, re.MULTILINE), (line, printed)


def test_the_size_is_that_of_all_files(run, capsys, monkeypatch):
    contents.main([str(run)])
    files = [p for p in pathlib.Path(run, "checkpoints", "8").rglob("*") if p.is_file()]
    size = sum(p.stat().st_size for p in files) / 1e6
    assert f"size on disk  {size:.2f} MB" in capsys.readouterr().out


def test_wrong_use_of_the_command(run, tmp_path, capsys):
    assert contents.main([f"{run}/5"]) == 1
    assert "error: " in (told := capsys.readouterr().err)
    assert "has no checkpoint 5; it has: 4, 8." in told
    assert contents.main([str(tmp_path)]) == 1
    assert "no run with checkpoints at" in capsys.readouterr().err


def test_the_command_has_the_name_of_the_module(run):
    command = [sys.executable, "-m", "segtad_jax.checkpoint", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "steps kept    4, 8" in done.stdout
    assert not done.stderr


def test_a_step_in_a_bucket_counts_once_it_is_committed(tmp_path, monkeypatch) -> None:
    bucket_in(tmp_path, monkeypatch)
    run = epath.Path("gs://bucket/run")
    for step in (10, 20):
        (run / "checkpoints" / str(step) / "metadata").write_text("{}")
    (run / "checkpoints" / "10" / "commit_success.txt").write_text("done")
    assert kept_steps(run) == [10]
