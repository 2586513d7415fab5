"""Thresholds of a run's steps: chosen by training, kept beside the checkpoints, found by others."""

import json
import shutil

import numpy as np
import pytest
from etils import epath

import segtad_jax
from segtad_jax import evaluate
from segtad_jax.checkpoint import thresholds
from segtad_jax.data.dataset import open_dataset
from segtad_jax.evaluation import operating_point as op
from segtad_jax.evaluation.results import read_predictions
from segtad_jax.predict import __main__ as predict
from segtad_jax.runtime.files import read_json
from tests.tiny_runs import opened, short


def truth_of(config, data_dir):
    dataset = opened(data_dir)
    return evaluate.evaluated_split(config, dataset, dataset.recordings("validation")).annotations


def test_training_leaves_those_of_every_step_that_it_evaluated(unbroken, data_dir):
    config = short(data_dir)
    assert sorted(path.name for path in unbroken.glob("thresholds-*")) == [
        f"thresholds-{step}.json" for step in (12, 4, 8)
    ]
    truth = truth_of(config, data_dir)
    predictions, _ = read_predictions(unbroken / "detections.json")
    classes = opened(data_dir).classes
    chosen = thresholds.read(unbroken, 12, config)
    assert chosen.thresholds == op.choose(truth, predictions, classes=classes)
    assert list(chosen.videos) == sorted(truth)
    assert chosen.confidence == op.fit_confidence(truth, predictions, classes=classes)
    point = read_json(unbroken / "metrics.json", "")["operating_point"]
    assert point["thresholds"] == chosen.thresholds
    assert point["measured"] == op.CROSS_FITTED  # these recordings chose them
    kept = op.cross_fitted(truth, predictions, classes=classes)
    assert point["right"] == op.count(truth, kept)["right"]
    assert point["knots"] == chosen.confidence
    assert sum(row["predictions"] for row in point["confidence"]["bins"]) == 600
    assert thresholds.read(unbroken, 7, config) is None


def test_those_of_other_settings_are_for_other_scores(unbroken, data_dir):
    assert thresholds.read(unbroken, 12, short(data_dir, eval__batch_size=4))
    assert thresholds.read(unbroken, 12, short(data_dir, eval__least_precision=0.9))
    assert thresholds.read(unbroken, 12, short(data_dir, eval__sigma=0.3)) is None
    assert thresholds.read(unbroken, 12, short(data_dir, eval__class_scores="x.json")) is None


def test_by_which_precision_they_were_chosen_is_kept(data_dir, tmp_path):
    config = short(data_dir, eval__least_precision=0.9)
    thresholds.write(epath.Path(tmp_path), 3, config, {"a": 0.5}, ["x"], [[0.0, 0.1]])
    assert thresholds.read(tmp_path, 3, short(data_dir)).precision == 0.9
    content = json.loads((tmp_path / "thresholds-3.json").read_text())
    del content["precision"], content["confidence"], content["checksum"]  # as older versions
    (tmp_path / "thresholds-3.json").write_text(json.dumps(content))
    older = thresholds.read(tmp_path, 3, config)
    assert older.precision is None
    assert older.confidence is None


def test_a_field_that_came_later_had_its_default(unbroken, data_dir, tmp_path):
    content = json.loads((unbroken / "thresholds-12.json").read_text())
    del content["settings"]["eval.snap_mean"], content["checksum"]
    (tmp_path / "thresholds-12.json").write_text(json.dumps(content))
    assert thresholds.read(tmp_path, 12, short(data_dir))
    assert thresholds.read(tmp_path, 12, short(data_dir, eval__snap_mean=True)) is None


def test_class_scores_are_another_file_for_other_recordings(data_dir, tmp_path):
    config = short(data_dir, eval__class_scores="validation.json")
    thresholds.write(epath.Path(tmp_path), 3, config, {"a": 0.5}, ["x"], [[0.0, 0.1]])
    config.eval.class_scores = "new.json"
    assert thresholds.read(tmp_path, 3, config).thresholds == {"a": 0.5}


@pytest.fixture
def run(unbroken, tmp_path):
    return shutil.copytree(unbroken, tmp_path / "run")


@pytest.mark.slow
def test_an_older_run_gets_them_when_it_is_evaluated(run, data_dir, tmp_path):
    before = (run / "thresholds-12.json").read_bytes()
    for path in run.glob("thresholds-*"):
        path.unlink()
    model = segtad_jax.load(str(run))
    features = opened(data_dir).features(opened(data_dir).recordings("validation")[0])
    everything = model.detect(features, rate=1.0)
    with pytest.raises(ValueError, match=r"step 12 .*no thresholds.*segtad evaluate"):
        model.detect(features, rate=1.0, threshold="auto")
    evaluate.evaluate_checkpoint(short(data_dir), tmp_path / "elsewhere", str(run))
    assert not list(run.glob("thresholds-*"))  # somebody else's
    evaluate.evaluate_checkpoint(short(data_dir), run)
    assert (run / "thresholds-12.json").read_bytes() == before
    least = json.loads(before)["thresholds"]
    found = segtad_jax.load(str(run)).detect(features, rate=1.0, threshold="auto")
    assert found == [d for d in everything if d.score >= least[d.label]]
    assert 0 < len(found) < len(everything)


def test_a_damaged_file_is_named_with_what_to_do(run, data_dir):
    path = run / "thresholds-12.json"
    path.write_text(path.read_text().replace("0.", "0.0", 1))
    with pytest.raises(ValueError, match=r"thresholds-12\.json.*Delete it: `segtad evaluate"):
        segtad_jax.load(str(run))


def test_thresholds_in_python(unbroken, data_dir):
    model = segtad_jax.load(str(unbroken))
    features = opened(data_dir).features(opened(data_dir).recordings("validation")[0])
    everything = model.detect(features, rate=1.0)
    first, second = (d.score for d in everything[:2])
    assert model.detect(features, rate=1.0, threshold=second) == everything[:2]
    label = everything[0].label
    assert model.detect(features, rate=1.0, threshold={label: first}) == everything[:1]
    confidences = model.detect(features, rate=1.0, threshold=second).confidences
    knots = thresholds.read(unbroken, 12, short(data_dir)).confidence
    assert confidences == pytest.approx(np.interp([first, second], *zip(*knots, strict=True)))
    with pytest.raises(ValueError, match=r"threshold has 'walk', but the classes are: class_00"):
        model.detect(features, rate=1.0, threshold={"walk": 0.5})
    with pytest.raises(ValueError, match=r"threshold='high' is neither 'auto' nor a number"):
        model.detect(features, rate=1.0, threshold="high")
    for wrong in (float("nan"), -0.1, {label: float("nan")}):
        with pytest.raises(ValueError, match=r"threshold=.*(nan|-0\.1).*: scores .* from 0 on"):
            model.detect(features, rate=1.0, threshold=wrong)


@pytest.mark.parametrize("text", ["high", "-0.1", "nan", "inf", ""])
def test_the_flag_takes_auto_or_a_score(text, capsys):
    with pytest.raises(SystemExit):
        predict.main(["--checkpoint=x", "--features=x", "--output=x", f"--threshold={text}"])
    assert f"'{text}' is neither auto nor a score" in capsys.readouterr().err


def summary(capsys, run, directory, *flags):
    output = f"--output={run.parent / 'found.json'}"
    predict.main(
        [f"--checkpoint={run}", f"--features={directory}", "--subset=validation", output, *flags]
    )
    return capsys.readouterr()


@pytest.mark.slow
def test_the_console_tells_what_counts_and_the_json_keeps_all(run, data_dir, capsys):
    directory = opened(data_dir).directory
    recordings = open_dataset(directory).recordings("validation")
    out = summary(capsys, run, directory).out
    results = json.loads((run.parent / "found.json").read_text())["results"]
    assert sum(map(len, results.values())) == 600
    least = json.loads((run / "thresholds-12.json").read_text())["thresholds"]
    counted = {
        v: [d for d in rows if d["score"] >= least[d["label"]]] for v, rows in results.items()
    }
    number = sum(map(len, counted.values()))
    assert f"in all, {number} actions: " in out
    first = recordings[0].video
    assert f"{first}: {len(counted[first])} action" in out
    assert "... 2 more videos" in out
    before = (run.parent / "found.json").read_bytes()
    page = run.parent / "found.html"
    summary(capsys, run, directory, "--format=csv", f"--report={page}")
    lines = (run.parent / "found.csv").read_text().splitlines()
    knots = json.loads((run / "thresholds-12.json").read_text())["confidence"]
    assert lines[0].endswith(",score,confidence")
    score, confidence = map(float, lines[1].split(",")[4:])
    assert confidence == pytest.approx(np.interp(score, *zip(*knots, strict=True)), abs=6e-4)
    assert "about 80 in 100" in page.read_text()
    assert "in all, 600 actions: " in summary(capsys, run, directory, "--threshold=0").out
    assert (run.parent / "found.json").read_bytes() == before
    for path in run.glob("thresholds-*"):
        path.unlink()
    assert "no thresholds" in summary(capsys, run, directory).out
    assert "no thresholds" in summary(capsys, run, directory, "--threshold=auto").err


def test_seconds_and_numbers_are_told():
    from segtad_jax.postprocess import Detection
    from segtad_jax.predict.shown import told

    rows = [(0.0, 5.5, "run"), (6.0, 10.0, "walk"), (20.0, 90.0, "walk")]
    detections = [Detection(start, end, label, 0.5) for start, end, label in rows]
    assert told(detections) == "3 actions: walk 2 (74 s), run 1 (5.5 s)"
    assert told(detections[:1]) == "1 action: run 1 (5.5 s)"
    assert told([]) == "0 actions"
