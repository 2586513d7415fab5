"""A run from end to end, on tiny.py and its shrunk sisters: learns, resumes, refuses, evaluates."""

import itertools
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from segtad_jax import evaluate, train
from segtad_jax.checkpoint import thresholds
from segtad_jax.checkpoint.store import locate
from segtad_jax.config import fit
from segtad_jax.config.check import check, check_data
from segtad_jax.data.dataset import Recording, split_holdout
from segtad_jax.detector import Detector
from segtad_jax.evaluation import operating_point
from segtad_jax.models.segtad import SegTAD
from segtad_jax.optim import optimizer
from segtad_jax.runtime import parallel
from segtad_jax.runtime.files import read_json
from segtad_jax.runtime.metric_log import NonFiniteLossError
from segtad_jax.step import create_state, parallel_step
from segtad_jax.tpu import compile as shapes
from tests.test_config import CONFIGS, load
from tests.tiny_runs import ROOT, TINY, assert_equal_runs, logged, short, tiny


@pytest.mark.slow
def test_tiny_learns_and_leaves_its_results(data_dir: str, tmp_path: pathlib.Path) -> None:
    metrics = train.train(tiny(data_dir), tmp_path)
    losses = [line["loss/total"] for line in logged(tmp_path) if "loss/total" in line]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    assert metrics["map"]["0.50"] > 0.8
    assert metrics["counts"] | {"predictions": 0} == {
        "videos": 12,
        "actions": metrics["counts"]["actions"],
        "classes": 3,
        "predictions": 0,
    }
    assert read_json(tmp_path / "metrics.json", "") == metrics
    results = json.loads((tmp_path / "detections.json").read_text())
    assert results["version"] == "VERSION 1.3"
    assert results["external_data"] == {}
    assert len(results["results"]) == 12
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert all(video in page for video in results["results"])


@pytest.mark.slow
def test_a_resumed_run_equals_an_unbroken_one(
    unbroken: pathlib.Path, data_dir: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between two checkpoints, as by a lost machine: the same numbers, bit for bit."""
    shard_batch = train.parallel.shard_batch
    batches = iter(range(7))
    monkeypatch.setattr(
        train.parallel, "shard_batch", lambda batch: (next(batches), shard_batch(batch))[1]
    )
    with pytest.raises(StopIteration):
        train.train(short(data_dir), tmp_path)
    monkeypatch.undo()
    assert locate(str(tmp_path))[1] == 4
    train.train(short(data_dir), tmp_path)

    assert_equal_runs(short(data_dir), tmp_path, unbroken)


def test_a_finished_run_does_no_work(
    unbroken: pathlib.Path, data_dir: str, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "open_or_build", None)  # no data are read, nothing is compiled
    caplog.set_level("INFO", "segtad_jax")
    metrics = train.train(short(data_dir), unbroken)
    assert metrics == read_json(unbroken / "metrics.json", "")
    assert "is finished: 12 steps are trained and evaluated" in caplog.text


def test_evaluation_of_checkpoints(
    unbroken: pathlib.Path, data_dir: str, tmp_path: pathlib.Path
) -> None:
    config = short(data_dir)
    config.eval.batch_size = 4  # another division of the work
    last = evaluate.evaluate_checkpoint(config, tmp_path / "a", str(unbroken))
    theirs = read_json(unbroken / "metrics.json", "")
    point, its = last.pop("operating_point"), theirs.pop("operating_point")
    assert last == theirs
    assert point["confusion"] == its["confusion"]
    assert point["thresholds"] == its["thresholds"]  # the run's
    assert point["calibration"]["error"] == pytest.approx(its["calibration"]["error"])  # of scores
    earlier = evaluate.evaluate_checkpoint(config, tmp_path / "b", f"{unbroken}/4")
    assert earlier["step"] == 4
    evaluated = {k: v for k, v in logged(unbroken)[2].items() if k.startswith("eval/")}
    assert evaluated == evaluate.brief(earlier["map"])
    assert (tmp_path / "b" / "detections.json").exists()


@pytest.mark.slow
def test_class_scores_of_a_file_label_the_proposals(
    unbroken: pathlib.Path, data_dir: str, tmp_path: pathlib.Path
) -> None:
    config = short(data_dir)
    dataset = evaluate.open_or_build(config.data)
    videos = [r.video for r in dataset.recordings("validation")]
    path = tmp_path / "scores.json"
    results = {video: [0.6, 0.3, 0.1] for video in videos}
    path.write_text(json.dumps({"results": results, "class": list(dataset.classes)}))
    config.eval.class_scores = str(path)
    evaluate.evaluate_checkpoint(config, tmp_path, str(unbroken))
    found = json.loads((tmp_path / "detections.json").read_text())["results"]
    labels = {d["label"] for detected in found.values() for d in detected}
    assert labels == set(dataset.classes[:2])  # top-2
    del results[videos[3]]
    path.write_text(json.dumps({"results": results, "class": list(dataset.classes)}))
    with pytest.raises(ValueError, match=videos[3]):
        evaluate.evaluate_checkpoint(config, tmp_path, str(unbroken))


def test_wrong_checkpoints_are_named(
    unbroken: pathlib.Path, data_dir: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(FileNotFoundError, match="no run with checkpoints at"):
        evaluate.evaluate_checkpoint(short(data_dir), tmp_path)
    with pytest.raises(FileNotFoundError, match="has no checkpoint 7; it has: 4, 8, 12"):
        evaluate.evaluate_checkpoint(short(data_dir), tmp_path, f"{unbroken}/7")
    other = short(data_dir, model__width=16)
    with pytest.raises(ValueError, match=r"model\.width: 16 here, 32 there"):
        evaluate.evaluate_checkpoint(other, tmp_path, str(unbroken))


def test_a_workdir_of_another_config_is_refused(unbroken: pathlib.Path, data_dir: str) -> None:
    before = (unbroken / "config.json").read_bytes()
    other = short(data_dir, optim__learning_rate=0.5, seed=3)
    with pytest.raises(ValueError, match=r"(?s)another config:.*learning_rate: 0.5 here.*seed: 3"):
        train.train(other, unbroken)
    assert (unbroken / "config.json").read_bytes() == before


def test_results_of_the_end_are_not_overwritten_by_others(
    unbroken: pathlib.Path, data_dir: str
) -> None:
    before = (unbroken / "metrics.json").read_bytes()
    with pytest.raises(ValueError, match=r"another config:.*\n.*eval\.sigma: 0\.9 here"):
        evaluate.evaluate_checkpoint(short(data_dir, eval__sigma=0.9), unbroken)
    with pytest.raises(ValueError, match=r"holds the results of its step 12; give another"):
        evaluate.evaluate_checkpoint(short(data_dir), unbroken, f"{unbroken}/4")
    assert (unbroken / "metrics.json").read_bytes() == before


def test_a_wrong_first_start_leaves_the_workdir_free(data_dir: str, tmp_path) -> None:
    for wrong in ({"data__eval_split": "test"}, {"data__holdout": "nobody"}):
        with pytest.raises(ValueError, match=r"no split|names none"):
            train.train(short(data_dir, **wrong), tmp_path)
    with pytest.raises(ValueError, match=r"scores\.json: there is no such file"):
        train.train(short(data_dir, eval__class_scores=str(tmp_path / "scores.json")), tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_batch_size_of_evaluation_is_the_same_run(
    unbroken: pathlib.Path, data_dir: str
) -> None:
    train.train(short(data_dir, eval__batch_size=4, train__keep=2), unbroken)


@pytest.mark.slow
def test_best_checkpoint_by_holdout_stays(data_dir: str, tmp_path: pathlib.Path) -> None:
    config = short(data_dir, train__keep=1, data__holdout="training_00*")
    dataset = evaluate.open_or_build(config.data)
    first = dataset.recordings("training")[0].video
    config.data.holdout = first[:-1] + "*"
    metrics = train.train(config, tmp_path)
    held = thresholds.read(tmp_path, 12, config).videos
    assert {video[:-1] for video in held} == {first[:-1]}
    assert metrics["operating_point"]["measured"] == operating_point.OTHERS
    scores = {m["step"]: m["eval/map_average"] for m in logged(tmp_path) if "eval/map_0.50" in m}
    assert set(scores) == {4, 8, 12}
    steps = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert steps == {12, max(scores, key=lambda step: (scores[step], step))}


def test_an_unknown_split_or_missing_data_says_what_to_do(data_dir: str, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no split 'testing' .* it has training, validation"):
        train.train(short(data_dir, data__eval_split="testing"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"segtad_jax\.prepare"):
        train.train(short(str(tmp_path), data__source="prepared"), tmp_path)


def test_other_channels_or_classes_than_expected_are_named(data_dir: str, tmp_path) -> None:
    check_data(short(data_dir, data__num_channels=16, data__num_classes=3), 16, 3, "the data")
    with pytest.raises(ValueError, match=r"data\.num_channels = 400, but .* has 16\."):
        train.train(short(data_dir, data__num_channels=400), tmp_path)
    with pytest.raises(ValueError, match=r"data\.num_classes = 200, but .* has 3\."):
        train.train(short(data_dir, data__num_classes=200), tmp_path)
    for field, channels in itertools.product(("mirror", "rotate"), ((0, 16), (-1, 2))):
        message = f"augment.{field} names channels {channels[0]} to {channels[1]}, .* are 0 to 15"
        with pytest.raises(ValueError, match=message):
            train.train(short(data_dir, **{f"augment__{field}": channels}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_nan_in_the_features_stops_training_with_the_term_and_step(
    data_dir: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segtad_jax.data.dataset import Dataset

    features = Dataset.features
    monkeypatch.setattr(Dataset, "features", lambda self, r: features(self, r) * np.nan)
    with pytest.raises(NonFiniteLossError, match=r"loss/segmentation.*at step 1 \(steps 1 to"):
        train.train(short(data_dir), tmp_path)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))  # nothing bad was saved


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_runlocal_of_every_config_trains_and_predicts_by_its_shapes(path: pathlib.Path) -> None:
    """Traced, not compiled: the run from the command line below stands for all of them."""
    config = load(path, "runlocal")
    config.update_from_flattened_dict({"data.num_channels": 16, "data.num_classes": 3})
    for field in fit.open_fields(config):  # of custom.py's `eval`, which needs no data
        config.update_from_flattened_dict({field: fit.RULES[field](config, fit.Size(64, 1, {}))[0]})
    check(config, 4)
    model = SegTAD(config, 3, axis_name=parallel.AXIS)
    state = jax.eval_shape(lambda: create_state(config, model, optimizer(config), 16))
    step = parallel_step(config, model, optimizer(config))
    stepped, metrics = jax.eval_shape(step, state, shapes.batch_shapes(config, 4, 2))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), stepped) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert metrics["loss/total"].shape == ()
    predict = Detector(config, ["a", "b", "c"]).whole_step
    found = jax.eval_shape(predict, state.variables, shapes.window_shapes(config, 4, 1))
    assert {x.shape[:2] for x in jax.tree.leaves(found)} == {(4, 1)}


@pytest.mark.slow
def test_runlocal_from_the_command_line(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "segtad_jax.main", "--config=custom:runlocal"]
    command += [f"--workdir={tmp_path / 'run'}", f"--config.data.dir={tmp_path / 'data'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tIoU" in done.stdout
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "is finished" in again.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.model.widht=3"], "'model.width'"),
        (["--config.train.batch_size=6"], "train.batch_size = 6 is not a multiple of 4"),
        (["--mode=evaluate"], "no run with checkpoints"),
        (["--checkpoint=x"], "no run with checkpoints at 'x'"),
    ],
)
def test_wrong_use_of_the_command_line(flags: list[str], message: str, tmp_path) -> None:
    command = [sys.executable, "-m", "segtad_jax.main", f"--config={TINY}", *flags]
    command += [f"--workdir={tmp_path / 'run'}", f"--config.data.dir={tmp_path / 'data'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def named(video: str) -> Recording:
    """A recording of which only the id matters."""
    return Recording(video, 100, 5.0, 20.0, np.zeros((0, 2)), np.zeros(0, np.int32), "", 0, 1)


def test_holdout_is_kept_aside_and_must_exist() -> None:
    recordings = [named(v) for v in ("s01_0", "s01_1", "s02_0")]
    rest, held = split_holdout(recordings, "s01_*")
    assert [r.video for r in held] == ["s01_0", "s01_1"]
    assert [r.video for r in rest] == ["s02_0"]
    assert split_holdout(recordings, "") == (recordings, [])
    with pytest.raises(ValueError, match=r"'s09_\*' names none of the 3 training.*'s01_0'"):
        split_holdout(recordings, "s01_*, s09_*")
    with pytest.raises(ValueError, match="leaves no recording to train on"):
        split_holdout(recordings, "*")
