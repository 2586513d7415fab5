"""A first run on a part of the training recordings settles what is open in `eval`."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from ml_collections.config_dict import placeholder

from segtad_jax import train
from segtad_jax.checkpoint.store import locate, restore_variables
from segtad_jax.config.check import check
from segtad_jax.data.dataset import split_holdout
from segtad_jax.detector import Detector
from segtad_jax.evaluate import evaluate_checkpoint, evaluated_split
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.postprocess import Detection
from segtad_jax.rehearsal import constants, plan
from tests.tiny_runs import opened, short, tiny

OPEN = {"eval.boundary_power": float, "eval.sigma": float, "eval.snap_offset": float}


def with_open_fields(config, **fields):
    for name, kind in OPEN.items():
        group, field = name.split(".")
        with config.unlocked():
            config[group][field] = placeholder(kind)
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return config


@pytest.mark.parametrize("number", [2, 5, 48])
def test_a_share_is_held_aside_whatever_the_order(data_dir, number):
    recordings = opened(data_dir).recordings("training")[:number]
    rest, held = split_holdout(recordings, "20%")
    assert len(held) == max(round(0.2 * number), 1)
    assert {r.video for r in rest} | {r.video for r in held} == {r.video for r in recordings}
    assert not {r.video for r in rest} & {r.video for r in held}
    _, again = split_holdout(recordings[::-1], "20%")
    assert {r.video for r in again} == {r.video for r in held}
    assert len(split_holdout(recordings, "99%")[0]) >= 1


@pytest.mark.parametrize(
    ("videos", "held"),
    [
        (["a", "b#t=0,10", "b#t=20,30", "b#t=40,50"], ["b#t=0,10", "b#t=20,30", "b#t=40,50"]),
        (["a#t=0,10", "a#t=20,30", "b"], ["b"]),
        (["a#t=0,10", "a#t=20,30"], ["a#t=20,30"]),
    ],
)
def test_the_parts_of_a_recording_are_held_aside_together(data_dir, videos, held):
    (recording,) = opened(data_dir).recordings("training")[:1]
    recordings = [dataclasses.replace(recording, video=video) for video in videos]
    assert [r.video for r in split_holdout(recordings, "20%")[1]] == held


@pytest.mark.parametrize("frames", [60, 150])
def test_cached_outputs_give_the_detections_of_the_detector(tmp_path, frames):
    config = tiny(str(tmp_path), data__synthetic_frames=frames, data__synthetic_recordings=8)
    config.update_from_flattened_dict({"eval.snap": 2, "eval.boundary_power": 0.35})
    dataset = opened_at(config)
    split = evaluated_split(config, dataset, dataset.recordings("validation"))
    model = SegTAD(config, len(dataset.classes))
    variables = create_variables(config, model, dataset.num_channels)
    expected, *_ = Detector(config, dataset.classes).detect(variables, dataset, split.recordings)
    outputs = constants.network_outputs(config, variables, split)
    found = constants.detections(config, outputs, split)
    assert found.keys() == expected.keys()
    for video, rows in expected.items():
        assert len(rows) > 20
        np.testing.assert_allclose(
            [(d.start, d.end, d.score) for d in found[video]],
            [(d.start, d.end, d.score) for d in rows],
            rtol=1e-4,
            atol=1e-6,
        )


def opened_at(config):
    from segtad_jax.data.embedded import open_or_build

    return open_or_build(config.data)


def test_the_best_values_are_chosen_and_small_gains_are_not_taken(data_dir, monkeypatch):
    config = short(data_dir, eval__sigma=0.4, eval__boundary_power=0.35)
    split = evaluated_split(config, opened(data_dir), opened(data_dir).recordings("validation"))
    true = {v: [Detection(*row, 1.0) for row in rows] for v, rows in split.annotations.items()}
    videos = sorted(true)

    def of_these(config, outputs, split):
        """Without boundary scores the more is right; sigma does next to nothing."""
        right = len(videos) if config.eval.boundary_power == 0 else len(videos) // 2
        extra = [Detection(0.0, 0.01, split.dataset.classes[0], 2.0)]
        extra = extra if config.eval.sigma == 0.4 and right < len(videos) else []
        return {v: (extra if n == 0 else []) + true[v] * (n < right) for n, v in enumerate(videos)}

    monkeypatch.setattr(constants, "network_outputs", lambda *_: None)
    monkeypatch.setattr(constants, "detections", of_these)
    fields = ["eval.boundary_power", "eval.sigma"]
    chosen, trials = constants.choose(config, None, split, fields)
    assert chosen == {"eval.boundary_power": 0.0, "eval.sigma": 0.4}
    assert [trial.fields for trial in trials][:3] == [
        {},
        {"eval.boundary_power": 0.0},
        {"eval.boundary_power": 0.15},
    ]
    assert max(trials, key=lambda t: t.average).average == 1.0
    assert config.eval.boundary_power == 0.35  # the config itself is as it was


@pytest.mark.slow
def test_a_rehearsal_settles_what_is_open_once(data_dir, tmp_path, monkeypatch):
    config = with_open_fields(short(data_dir), train__rehearsal=0.25, train__eval_every=0)
    found = plan.rehearsed(config, tmp_path)
    check(found)
    settled = {name: found[name] for name in OPEN}
    assert None not in settled.values()
    assert config.eval.sigma is None
    choice = json.loads((tmp_path / "rehearsal" / "choice.json").read_text())
    assert choice["chosen"] == settled
    assert len(choice["tried"]) > len(OPEN)
    (run,) = (tmp_path / "rehearsal").glob("*/config.json")
    assert run.parent.name == str(config.train.steps)
    stored = json.loads(run.read_text())
    assert (stored["data.holdout"], stored["data.eval_split"]) == ("25%", "holdout")
    metrics = json.loads((run.parent / "metrics.json").read_text())
    assert metrics["counts"]["videos"] == 12  # of 48

    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("it was rehearsed already"))
    again = plan.rehearsed(config, tmp_path)
    assert {name: again[name] for name in OPEN} == settled


@pytest.mark.parametrize(("short_is_worth", "steps"), [(0.5, 200), (0.1, 800)])
def test_the_length_of_training_is_what_was_better_on_the_recordings_held_aside(
    data_dir, tmp_path, monkeypatch, short_is_worth, steps
):
    config = short(data_dir, train__rehearsal=0.25)
    with config.unlocked():
        config.train.steps = placeholder(int)
    run = []

    def trained(config, folder, *_, **__):
        folder.mkdir(parents=True)
        run.append((config.train.steps, folder.name))
        worth = 0.3 if config.train.steps == 800 else short_is_worth
        return {"map": {"0.50": worth, "average": worth}}

    monkeypatch.setattr(plan.train, "train", trained)
    monkeypatch.setattr(plan, "locate", lambda folder: (folder, 0))
    monkeypatch.setattr(plan, "restore_variables", lambda *_: None)
    monkeypatch.setattr(plan, "choose", lambda *_: ({}, [None]))
    assert plan.rehearsed(config, tmp_path).train.steps == steps
    assert run == [(800, "800"), (200, "200")]
    tried = json.loads((tmp_path / "rehearsal" / "choice.json").read_text())["tried"]
    assert [trial["fields"] for trial in tried] == [{"train.steps": 800}, {"train.steps": 200}]


def test_what_an_older_rehearsal_did_not_choose_stays_open(data_dir, tmp_path):
    config = with_open_fields(short(data_dir, train__rehearsal=0.25))
    with config.unlocked():
        config.train.steps = placeholder(int)
    chosen = {"eval.boundary_power": 0.2, "eval.sigma": 0.5, "eval.snap_offset": 0.0}
    (tmp_path / "rehearsal").mkdir()
    (tmp_path / "rehearsal" / "choice.json").write_text(json.dumps({"chosen": chosen, "tried": []}))
    config = plan.rehearsed(config, tmp_path)
    assert config.train.steps is None
    assert {name: config[name] for name in chosen} == chosen


def test_too_few_actions_are_told_and_nothing_is_run(data_dir, tmp_path, caplog):
    config = with_open_fields(short(data_dir), train__rehearsal=0.02)
    with caplog.at_level("INFO", "segtad_jax"):
        assert plan.rehearsed(config, tmp_path) is config
    (line,) = [m for m in caplog.messages if "no rehearsal" in m]
    assert "20 are needed" in line
    assert not list(tmp_path.iterdir())


def test_nothing_is_rehearsed_where_nothing_is_open(data_dir, tmp_path):
    config = short(data_dir, train__rehearsal=0.2)
    assert plan.rehearsed(config, tmp_path) is config
    config = with_open_fields(short(data_dir))
    assert plan.rehearsed(config, tmp_path) is config


def test_evaluation_takes_what_the_run_has_settled(data_dir, unbroken, tmp_path):
    config = with_open_fields(short(data_dir))
    metrics = evaluate_checkpoint(config, tmp_path, str(unbroken))
    stored = json.loads((unbroken / "metrics.json").read_text())
    assert metrics["map"] == stored["map"]
    # `fit` alone would have chosen other values than the run has.
    like = jax.eval_shape(lambda: create_variables(config, SegTAD(config, 3), 16))
    assert restore_variables(*locate(str(unbroken)), like)
