"""`predict` and `load`: what the run's own evaluation found, from raw files, resumed, shared."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import segtad_jax
from segtad_jax import train
from segtad_jax.config.defaults import default
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.feature_files import FeatureError
from segtad_jax.data.preparation import FILE
from segtad_jax.evaluation.entries import Reading
from segtad_jax.evaluation.ids import match_id
from segtad_jax.predict import __main__ as predict
from segtad_jax.predict import work
from segtad_jax.predict.inference import Inference
from segtad_jax.predict.inputs import InputMaker
from segtad_jax.prepare.__main__ import main as prepare
from segtad_jax.prepare.annotations import read_annotations
from segtad_jax.runtime import command
from tests.tiny_runs import random_run

RATE = 50.0


def signals(number, channels=3, offset=0):
    """Recordings of 70 s or so: a loud and a fast movement in noise."""
    made, truth = {}, {}
    for index in range(offset, offset + number):
        random = np.random.default_rng(index)
        samples = 3400 + 10 * index
        x = 0.3 * random.standard_normal((samples, channels))
        annotations = []
        for n, start in enumerate(range(300, samples - 700, 800)):
            length = int(random.integers(200, 600))
            label = ("loud", "fast")[(n + index) % 2]
            t = np.arange(length)[:, None] / RATE
            move = 3.0 if label == "loud" else np.sin(2 * np.pi * 4 * t)
            x[start : start + length] += move
            segment = [start / RATE, (start + length) / RATE]
            annotations.append({"segment": segment, "label": label})
        subset = "validation" if index % 4 == 3 else "training"
        made[f"s{index}"] = x.astype(np.float32)
        truth[f"s{index}"] = {
            "subset": subset, "duration": samples / RATE, "annotations": annotations
        }  # fmt: skip
    return made, truth


@pytest.fixture(scope="module")
def trained(once):
    """A run on features of raw signals, and where those are."""
    return once("trained", train_on_signals)


def train_on_signals(folder):
    made, truth = signals(8)
    (folder / "raw").mkdir(parents=True)
    for video, x in made.items():
        np.save(folder / "raw" / f"{video}.npy", x)
    (folder / "truth.json").write_text(json.dumps({"database": truth}))
    flags = {
        "name": "mine", "features": folder / "raw", "annotations": folder / "truth.json",
        "output": folder / "data", "signals": "statistics", "rate": RATE, "window": 64,
        "dtype": "float32",
    }  # fmt: skip
    assert prepare([f"--{name}={value}" for name, value in flags.items()]) == 0
    train.train(config(folder / "data" / "mine" / "1.0.0"), folder / "run")


def config(directory):
    made = default()
    made.data.dir = str(directory)
    made.data.num_frames = 64
    made.model.width = 16
    made.model.num_bins = 8
    made.model.stride = 4
    made.model.dilations = (1, 2)
    made.sampling.seeds = 8
    made.optim.learning_rate = 3e-3
    made.train.batch_size = 8
    made.train.steps = 30
    made.train.eval_every = 0
    made.train.save_every = 10
    made.eval.batch_size = 8
    made.eval.max_detections = 20
    return made


@pytest.fixture
def flags(trained, tmp_path):
    return {
        "checkpoint": trained / "run",
        "features": trained / "raw",
        "output": tmp_path / "found.json",
    }


def detect(flags):
    return predict.main([f"--{name}={value}" for name, value in flags.items()])


def maker(model):
    return InputMaker(model.preparation, model.config)


def result_of(flags):
    return json.loads(flags["output"].read_text())


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a["label"] == b["label"]
        assert a["score"] == pytest.approx(b["score"], rel=1e-3, abs=1e-5)
        assert a["segment"] == pytest.approx(b["segment"], abs=1e-3)


def test_raw_recordings_give_what_the_runs_own_evaluation_found(trained, flags, capsys):
    assert detect(flags) == 0
    assert "8 videos" in capsys.readouterr().out
    found = result_of(flags)
    assert sorted(found) == ["external_data", "results", "version"]
    assert sorted(found["results"]) == [f"s{index}" for index in range(8)]
    expected = json.loads((trained / "run" / "detections.json").read_text())["results"]
    assert sorted(expected) == ["s3", "s7"]
    for video, detections in expected.items():
        assert detections
        assert_same(found["results"][video], detections)
    assert not flags["output"].with_name("found.json.parts").exists()


@pytest.mark.parametrize("folder", ["data/mine/1.0.0", "data"])
def test_a_prepared_data_set_gives_the_same(trained, flags, folder):
    data = trained / folder
    assert detect(flags | {"features": data, "subset": "validation"}) == 0
    expected = json.loads((trained / "run" / "detections.json").read_text())["results"]
    found = result_of(flags)["results"]
    assert found.keys() == expected.keys()
    for video in expected:
        assert_same(found[video], expected[video])


def test_from_python(trained):
    model = segtad_jax.load(str(trained / "run"))
    raw = np.load(trained / "raw" / "s3.npy")
    detections = model.detect(raw, rate=RATE)
    expected = json.loads((trained / "run" / "detections.json").read_text())["results"]["s3"]
    found = [{"label": d.label, "score": d.score, "segment": [d.start, d.end]} for d in detections]
    assert_same(found, expected)
    assert model.step == 30
    assert segtad_jax.load(str(trained / "run" / "10")).step == 10
    with pytest.raises(ValueError, match=r"rate.* 100 Hz.* 50 Hz.*resample"):
        model.detect(raw, rate=100.0)
    with pytest.raises(ValueError, match=r"source 1 .*2 .*3"):
        model.detect(raw[:, :2], rate=RATE)
    with pytest.raises(ValueError, match=r"features.*nan.*frame 0.*channel 0"):
        model.detect(np.full((100, 3), np.nan), rate=RATE)
    with pytest.raises(ValueError, match=r"9 samples.*shorter"):
        model.detect(raw[:9], rate=RATE)
    with pytest.raises(ValueError, match=r"2 sources.* 1"):
        model.detect([raw, raw], rate=RATE)
    with pytest.raises(FileNotFoundError, match=r" 11.*10, 20, 30"):
        segtad_jax.load(str(trained / "run" / "11"))


def test_videos_that_fail_are_named_and_the_others_are_found(trained, flags, tmp_path, capsys):
    folder = tmp_path / "raw"
    folder.mkdir()
    for index in (0, 1):
        np.save(folder / f"v_s{index}.npy", np.load(trained / "raw" / f"s{index}.npy"))
    np.save(folder / "wide.npy", np.zeros((500, 4)))
    np.save(folder / "short.npy", np.zeros((5, 3)))
    (folder / "cut.npy").write_bytes((folder / "v_s0.npy").read_bytes()[:-7])
    (folder / "p.pkl").write_bytes(b"\x80anything")
    page = tmp_path / "new" / "page.html"
    assert detect(flags | {"features": folder, "report": page, "threshold": 0.2}) == 3
    found = result_of(flags)
    assert sorted(found["results"]) == ["v_s0", "v_s1"]
    assert all(len(rows) == 20 for rows in found["results"].values())  # all, whatever counts
    text = page.read_text()
    data = json.loads(text.split('type="application/json">')[1].split("</")[0])
    for video in data["videos"]:
        rows = found["results"][video["id"]]
        assert video["count"] == sum(row["score"] >= 0.2 for row in rows)
        signal = video["signal"]  # the raw samples
        assert signal["names"] == ["channel 0", "channel 1", "channel 2"]
        assert signal["pieces"][0]["end"] == pytest.approx(100 * 68, abs=50)
    assert all(f'<td class="text">{name}</td>' in text for name in ("cut", "p", "short", "wide"))
    failures = found["external_data"]["failures"]
    assert sorted(failures) == ["cut", "p", "short", "wide"]
    assert re.search("source 1 .*4 .*3", failures["wide"])
    assert "shorter than a frame" in failures["short"]
    assert "cut.npy" in failures["cut"]
    assert "a pickle" in failures["p"]
    assert f"wide: {failures['wide']}" in capsys.readouterr().out


@pytest.mark.slow
def test_odd_recordings_are_named(trained, flags, tmp_path, capsys):
    folder = tmp_path / "raw"
    folder.mkdir()
    x = np.load(trained / "raw" / "s0.npy")
    for name, value in (("fill", -9999), ("far", 5e4), ("odd", 60)):
        changed = x.copy()
        changed[40, 1] = value
        np.save(folder / f"{name}.npy", changed)
    np.savez(folder / "times.npz", feats=x, timestamps=np.arange(len(x)))
    np.save(folder / "long.npy", x)
    np.save(folder / "still.npy", np.ones_like(x))
    np.save(folder / "brief.npy", x[:10])
    (folder / "._odd.npy").write_bytes(b"Mac OS X")
    (folder / "labels.csv").write_text("video,start,end,label\nodd,1,2,loud\n")
    durations = tmp_path / "durations.csv"
    durations.write_text(f"video,duration\nodd,{len(x) / RATE}\nlong,9\n")
    assert detect(flags | {"features": folder, "durations": durations}) == 3
    found = result_of(flags)
    failures, notes = found["external_data"]["failures"], found["external_data"]["notes"]
    assert sorted(failures) == ["far", "fill", "long"]
    assert "fill.npy: -9999 at frame 40, channel 1" in failures["fill"]
    assert re.match(r"50000 at frame 40, channel 1, which was -.* in training", failures["far"])
    assert re.search(rf"{len(x)} frames / 50 Hz = .* but the duration is 9 s", failures["long"])
    assert sorted(notes) == [
        "._odd.npy", "brief", "column 'timestamps'", "labels.csv", "odd", "still", "times",
    ]  # fmt: skip
    assert "counts rows" in notes["column 'timestamps'"]
    assert notes["odd"].startswith("60 at frame 40, channel 1, which was")
    assert "'timestamps'" in notes["times"]
    assert "1 frame, and the shortest proposal has 4" in notes["brief"]
    assert found["results"]["brief"] == []
    assert found["results"]["odd"]
    printed = capsys.readouterr().out
    assert f"note: odd: {notes['odd']}" in printed
    assert detect(flags | {"features": folder, "durations": durations}) == 3  # is finished
    assert f"note: odd: {notes['odd']}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_process_goes_on_and_does_no_video_twice(flags, monkeypatch):
    assert detect(flags) == 0
    expected = flags["output"].read_bytes()
    flags["output"].unlink()
    monkeypatch.setattr(work, "CHUNK", 2)
    seen = []
    original = work.FeatureFiles.detect

    def killed(self, videos):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.extend(videos)
        return original(self, videos)

    monkeypatch.setattr(work.FeatureFiles, "detect", killed)
    assert detect(flags) == command.INTERRUPTED
    assert not flags["output"].exists()

    def goes_on(self, videos):
        seen.extend(videos)
        return original(self, videos)

    monkeypatch.setattr(work.FeatureFiles, "detect", goes_on)
    assert detect(flags) == 0
    assert sorted(seen) == [f"s{index}" for index in range(8)]
    assert flags["output"].read_bytes() == expected
    assert detect(flags) == 0  # is finished
    assert len(seen) == 8


def test_two_processes_share_the_work(flags, capsys):
    assert detect(flags | {"output": flags["output"].with_name("alone.json")}) == 0
    assert detect(flags | {"num_processes": 2, "process_id": 1}) == 4
    assert "4 videos are left to the other processes" in capsys.readouterr().out
    assert not flags["output"].exists()
    assert detect(flags | {"num_processes": 2, "process_id": 0}) == 0
    alone = flags["output"].with_name("alone.json").read_bytes()
    assert flags["output"].read_bytes() == alone


def test_class_scores(trained, flags, tmp_path):
    """With a classifier's scores: soft-NMS of all proposals, then the best labels."""
    scores = {f"s{index}": [{"label": "loud", "score": 1.0}] for index in range(8)}
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"results": scores}))
    assert detect(flags | {"class_scores": path}) == 0
    labels = {d["label"] for found in result_of(flags)["results"].values() for d in found}
    assert labels == {"loud"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": "nowhere"}, "'nowhere'"),
        ({"features": "nowhere"}, "features.* nowhere"),
        ({"features": "{raw},{raw}"}, "2 sources.* 1.*--features=A,B"),
        ({"features": "{data}"}, "'testing'.*training, validation"),
        ({"features": "{two}"}, " 2 data sets.*\n  --features=.*/a/1.0.0\n  --features="),
        ({"rate": 25}, "rate.* 25 Hz.* 50 Hz.*resample"),
        ({"durations": "nowhere.csv"}, "nowhere.csv"),
        ({"output": "{truth}"}, "truth.json .*Move it away.*--output"),
    ],
)
def test_what_is_refused(trained, flags, tmp_path, change, message, capsys):
    places = {"raw": trained / "raw", "data": trained / "data" / "mine" / "1.0.0"}
    places |= {"truth": trained / "truth.json", "two": tmp_path / "two"}
    for name in ("a", "b"):
        shutil.copytree(places["data"], tmp_path / "two" / name / "1.0.0")
    change = {k: v.format(**places) if isinstance(v, str) else v for k, v in change.items()}
    assert detect(flags | change) == 1
    assert re.search(f"error: .*{message}", capsys.readouterr().err)


@pytest.mark.slow
def test_other_files_and_another_model_under_the_same_names(trained, flags, tmp_path, capsys):
    """What changed is done anew, and is what a start without a past gives, to the byte."""
    folder, run = tmp_path / "raw", tmp_path / "run"
    shutil.copytree(trained / "run", run)
    shutil.copytree(trained / "raw", folder)
    flags = flags | {"features": folder, "checkpoint": run}

    def told() -> str:
        assert detect(flags) == 0
        return capsys.readouterr().out

    told()
    first = result_of(flags)["results"]
    for name, other in (("s0", "s3"), ("s9", "s7")):  # another file of this name, and a new one
        shutil.copy(trained / "raw" / f"{other}.npy", folder / f"{name}.npy")
    time = (trained / "raw" / "s1.npy").stat().st_mtime_ns
    np.save(folder / "s1.npy", 2 * np.load(folder / "s1.npy"))
    os.utime(folder / "s1.npy", ns=(time, time))  # as archives give many files one time
    (folder / "s2.npy").unlink()
    assert "5 kept, 2 changed, 1 new, 1 removed" in told()
    found = result_of(flags)["results"]
    fresh = flags | {"output": tmp_path / "fresh.json"}
    assert detect(fresh) == 0
    assert flags["output"].read_bytes() == fresh["output"].read_bytes()
    assert found["s0"] == first["s3"] != first["s0"]
    assert found["s1"] != first["s1"]
    assert found["s9"] == first["s7"]
    assert "s2" not in found
    steps = run / "checkpoints"
    shutil.rmtree(steps / "30")
    shutil.copytree(steps / "10", steps / "30")  # as trained anew, under the same path and step
    assert re.search(r"another model.*checkpoint: '\w+' here, '\w+' there", told())
    assert result_of(flags)["results"]["s3"] != first["s3"]
    scores = tmp_path / "scores.json"
    flags["class_scores"] = scores
    for label in ("loud", "fast"):
        row = [{"label": label, "score": 1.0}]
        scores.write_text(json.dumps({"results": {p.stem: row for p in folder.iterdir()}}))
        assert "class_scores: '" in told()
        assert {d["label"] for d in result_of(flags)["results"]["s3"]} == {label}
    # That with the removed recording, and one for each change of the model or of its scores.
    assert len(list(tmp_path.glob("found.before-*.json"))) == 4


@pytest.mark.slow
def test_a_recording_does_not_depend_on_its_neighbours(embedded):
    """To the bit: alone, in any order, beside recordings of one window and of several."""
    random = np.random.default_rng(0)
    inputs = {
        f"x{i}": maker(embedded).prepare(
            f"x{i}", [random.normal(size=(n, 16)).astype("f")], 5.0, None
        )
        for i, n in enumerate((40, 90, 64, 9, 200, 33, 64, 150, 17, 40, 64))
    }
    network = Inference(embedded.config, embedded.classes, embedded.variables)
    together = network.detect(list(inputs.values())).detections
    assert sum(map(len, together.values())) > 100
    for start, step in ((0, 2), (1, 2), (None, -1), (0, 1), (3, 4)):
        chosen = list(inputs)[start::step]
        found = network.detect([inputs[video] for video in chosen])
        assert found.detections == {video: together[video] for video in chosen}
    detector = network.detector
    whole, rows = detector.whole_step, []
    detector.whole_step = lambda *given: rows.append(given) or whole(*given)
    network.detect([inputs["x1"], inputs["x0"]])
    detector.whole_step = whole
    assert [np.asarray(batch["window"]).max() for _, batch in rows] == [2]  # x0's, after x1's two


def test_a_run_of_another_version(trained, flags, tmp_path, capsys):
    shutil.copytree(trained / "run", tmp_path / "run")
    content = json.loads((tmp_path / "run" / "config.json").read_text()) | {"model.depth": 3}
    del content["checksum"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(content))
    assert detect(flags | {"checkpoint": tmp_path / "run"}) == 1
    assert re.search(r"model\.depth = 3.*Use the version that trained it", capsys.readouterr().err)


def test_another_width_is_refused(flags, tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    for index in range(3):
        np.save(tmp_path / "raw" / f"x{index}.npy", np.zeros((500 + index, 7)))
    assert detect(flags | {"features": tmp_path / "raw"}) == 1
    assert "(3 channels are expected): say --layout" in capsys.readouterr().err


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A model of an embedded source, which knows no rate and no preparation."""
    folder = tmp_path_factory.mktemp("synthetic")
    made = config(folder / "data")
    made.data.source = "synthetic"
    return segtad_jax.load(str(random_run(folder / "run", made, ["a", "b"], 16)))


def test_features_that_prepare_did_not_make(embedded, trained):
    found = embedded.detect(np.random.default_rng(0).normal(size=(90, 16)), rate=5.0)
    assert found
    assert all(0 <= d.start < d.end <= 18 for d in found)
    same = embedded.detect(np.random.default_rng(0).normal(size=(90, 16)), duration=18.0)
    assert same == found
    for rate in (np.float32(5), np.int64(5), 5):
        assert embedded.detect(np.random.default_rng(0).normal(size=(90, 16)), rate=rate) == found
    for duration in (np.float32(18), np.int16(18)):
        found = embedded.detect(np.random.default_rng(0).normal(size=(90, 16)), duration=duration)
        assert found == same
    with pytest.raises(ValueError, match=r"source 1 .*15 .*16"):
        embedded.detect(np.zeros((90, 15)), rate=5.0)
    with pytest.raises(ValueError, match=r"rate=.*duration="):
        embedded.detect(np.zeros((90, 16)))
    other = open_dataset(trained / "data" / "mine" / "1.0.0")
    with pytest.raises(ValueError, match=r" 81 channels.* 16"):
        maker(embedded).require_same(other)
    of_as_many = dataclasses.replace(embedded.preparation, widths=(81,))  # all that is known of it
    InputMaker(of_as_many, embedded.config).require_same(other)


def test_what_python_passes_as_features(embedded):
    x = np.random.default_rng(0).normal(size=(90, 16)).astype(np.float32)
    expected = embedded.detect(x, rate=5.0)
    assert embedded.detect(x.tolist(), rate=5.0) == expected
    assert embedded.detect([x], rate=5.0) == expected
    for wrong, message in (
        (x.T, r"90 channels, expected 16; its shape is \(16, 90\).*\(frames, 16\).* by frames\?"),
        (x.astype(object), "holds object, expected numbers"),
        (x.astype(str), "holds <U32, expected numbers"),
        (x[:0], r"shape \(0, 16\): nothing"),
        ([[1.0, 2.0], [3.0]], "expected frames by channels: .*inhomogeneous"),
        ([], "expected frames by channels"),
        (x[None, None, :, :, None].repeat(2, 0), "expected frames by channels"),
    ):
        with pytest.raises(ValueError, match=message):
            embedded.detect(wrong, rate=5.0)
    for given in ({"rate": 0}, {"rate": -1.0}, {"duration": float("nan")}):
        with pytest.raises(ValueError, match=r"\w+=\S+ must be a number above 0"):
            embedded.detect(x, **given)
    with pytest.warns(UserWarning, match="all 90 frames are the same"):
        embedded.detect(np.ones((90, 16)), rate=5.0)
    with pytest.warns(UserWarning, match="2 frames, and the shortest proposal has 4"):
        assert embedded.detect(x[:2], rate=5.0) == []


def test_what_the_network_makes_nan_of_is_never_nothing(embedded):
    x = np.random.default_rng(0).normal(size=(90, 16)).astype(np.float32)
    huge = 1e30 * np.abs(x)
    huge[41, 7] = 1e35
    with pytest.raises(FeatureError, match=r"NaN or infinity.*1e\+35 at frame 41, channel 7"):
        embedded.detect(huge, rate=5.0)
    inputs = [
        maker(embedded).prepare(name, [a], 5.0, None) for name, a in (("x", x), ("huge", huge))
    ]
    found = Inference(embedded.config, embedded.classes, embedded.variables).detect(inputs)
    assert found.detections == {"x": embedded.detect(x, rate=5.0)}
    assert list(found.failures) == ["huge"]


@pytest.mark.parametrize(
    ("rates", "rate", "duration", "seconds"),
    [
        ((2.0, 2.0), None, None, 45.0),
        ((2.0, 2.0), 2.01, None, 90 / 2.01),
        ((2.0, 2.0), None, 44.0, 44.0),
        ((2.0, 3.0), None, 33.0, 33.0),
        ((2.0, 3.0), None, None, "rate=.*duration="),
        ((2.0, 2.0), 20.0, None, r"the rate is 20 Hz.* trained at 2 Hz: resample"),
        ((2.0, 2.0), 0.2, None, r"the rate is 0\.2 Hz.* trained at 2 Hz"),
        ((2.0, 3.0), None, 9.0, r"the rate is 10 Hz.* trained at 2 to 3 Hz"),
        ((2.0, 2.0), 2.0, 20.0, r"90 frames / 2 Hz = 45\.00 s, but the duration is 20 s"),
        (None, 20.0, None, 4.5),
    ],
)
def test_the_rates_of_training_hold_without_a_rate(embedded, rates, rate, duration, seconds):
    """As of a data set that was prepared by durations."""
    known = dataclasses.replace(embedded.preparation, rates=rates)
    model = dataclasses.replace(embedded, preparation=known)
    x = [np.ones((90, 16), np.float32)]
    if isinstance(seconds, str):
        with pytest.raises(ValueError, match=seconds):
            maker(model).prepare("x", x, rate, duration)
    else:
        made = maker(model).prepare("x", x, rate, duration).recording
        assert made.duration == pytest.approx(seconds)
        assert made.rate == pytest.approx(90 / seconds)


def test_the_last_frame_of_a_short_recording_may_be_cut(embedded):
    known = dataclasses.replace(embedded.preparation, rates=(1.0, 1.0))
    model = dataclasses.replace(embedded, preparation=known)
    x = [np.ones((4, 16), np.float32)]
    for rate in (None, 1.0):
        assert maker(model).prepare("x", x, rate, 4.9).recording.duration == 4.9
        with pytest.raises(ValueError, match=r"0\.5 Hz|but the duration is 8 s"):
            maker(model).prepare("x", x, rate, 8.0)


@pytest.mark.slow
def test_a_video_that_one_of_two_sources_lacks_fails_alone(tmp_path, capsys):
    random = np.random.default_rng(0)
    database = {}
    for source, width in (("rgb", 3), ("flow", 2)):
        (tmp_path / source).mkdir()
        for index in range(4):
            np.save(tmp_path / source / f"x{index}.npy", random.normal(size=(60 + index, width)))
    for index in range(4):
        annotations = [{"segment": [2, 6], "label": "a"}]
        subset = "validation" if index == 3 else "training"
        database[f"x{index}"] = {"subset": subset, "duration": 20, "annotations": annotations}
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    sources = f"{tmp_path / 'rgb'},{tmp_path / 'flow'}"
    made = ["--name=two", f"--features={sources}", f"--annotations={tmp_path / 'truth.json'}"]
    assert prepare([*made, f"--output={tmp_path}", "--window=64"]) == 0
    directory = tmp_path / "two" / "1.0.0"
    random_run(tmp_path / "run", config(directory), ["a"], 5)
    shutil.copy(directory / FILE, tmp_path / "run")
    stored = tmp_path / "run" / FILE  # of a version with another default; nothing was resized
    content = json.loads(stored.read_text())
    assert content.pop("checksum")
    assert content.pop("resize") == "half_pixel"
    stored.write_text(json.dumps(content | {"resize": "linear"}))
    maker(segtad_jax.load(str(tmp_path / "run"))).require_same(open_dataset(directory))
    (tmp_path / "flow" / "x1.npy").unlink()
    flags = {"checkpoint": tmp_path / "run", "features": sources, "output": tmp_path / "f.json"}
    assert detect(flags | {"rate": 3}) == 3
    assert "x1: has no features" in capsys.readouterr().out
    assert sorted(result_of(flags)["results"]) == ["x0", "x2", "x3"]


def test_forms_that_people_correct_are_read_again(trained, flags, capsys):
    assert detect(flags) == 0
    every = result_of(flags)["results"]
    threshold = float(np.median([row["score"] for rows in every.values() for row in rows]))
    people = {"format": "elan,csv,cvat", "label_fps": 50, "media": "x/{id}.avi"}
    people["threshold"] = threshold
    assert detect(flags | people) == 0
    assert result_of(flags)["results"] == every
    folder = flags["output"].parent
    assert f"Written too: {folder / 'found.elan'}" in capsys.readouterr().out.replace("\n", "")
    for form, units in (("elan", 1000), ("csv", 1000), ("cvat", 50)):  # a second
        annotations = read_annotations([folder / f"found.{form}"], Reading(label_fps=50.0))
        assert annotations.videos.keys() == every.keys()
        for video in annotations.videos.values():
            found = [(a.start, a.end, a.label) for a in video.actions]
            rows = [row for row in every[video.video] if row["score"] >= threshold]
            wanted = [(*row["segment"], row["label"]) for row in rows]
            rounded = [
                sorted((round(units * a), round(units * b), label) for a, b, label in triples)
                for triples in (found, wanted)
            ]
            assert rounded[0] == rounded[1]
    assert "x/s0.avi" in (folder / "found.elan" / "s0.eaf").read_text()
    (folder / "found.csv").write_text("video,start,end,label\ns0,1,2,mine\n")
    assert detect(flags | people) == 1
    assert "found.csv is there" in capsys.readouterr().err.replace("\n", " ")
    assert "mine" in (folder / "found.csv").read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "word"}, "'word' is none of json, csv"),
        ({"format": "cvat"}, "--format=cvat counts in frames of the videos: --label_fps=25"),
        ({"format": "csv", "output": "x/found.csv"}, "--output=x/found.json"),
    ],
)
def test_wrong_forms(flags, change, says, capsys):
    with pytest.raises(SystemExit, match="2"):
        detect(flags | change)
    assert says in capsys.readouterr().err


def test_wrong_process_ids(flags, capsys):
    with pytest.raises(SystemExit, match="2"):
        detect(flags | {"process_id": 1})
    assert "--process_id=1" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        detect(flags | {"batch": 0})
    assert "--batch=0" in capsys.readouterr().err


def test_another_batch_gives_the_same(flags):
    assert detect(flags) == 0
    expected = result_of(flags)
    flags["output"].unlink()
    assert detect(flags | {"batch": 3}) == 0
    found = result_of(flags)
    assert found["external_data"]["made_by"] == expected["external_data"]["made_by"]
    assert found["results"].keys() == expected["results"].keys()
    for video, rows in expected["results"].items():
        assert_same(found["results"][video], rows)


def test_features_prepared_in_another_way_are_refused(trained, flags, tmp_path, capsys):
    made, truth = signals(4, offset=20)
    (tmp_path / "raw").mkdir()
    for video, x in made.items():
        np.save(tmp_path / "raw" / f"{video}.npy", x)
    (tmp_path / "truth.json").write_text(json.dumps({"database": truth}))
    prepare(
        [
            "--name=other", f"--features={tmp_path / 'raw'}", "--signals=statistics", "--rate=50",
            f"--annotations={tmp_path / 'truth.json'}", f"--output={tmp_path}", "--window=64",
        ]
    )  # fmt: skip
    other = tmp_path / "other" / "1.0.0"
    assert detect(flags | {"features": other, "subset": "training"}) == 1
    assert re.search(f"{other}.*signals.*Prepare it together", capsys.readouterr().err)


def test_without_the_data_set_the_run_itself_knows_the_transform(trained, flags, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    content["data.dir"] = "gone"
    del content["checksum"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(content))
    assert detect(flags | {"checkpoint": tmp_path / "run"}) == 0


@pytest.mark.slow
def test_kill_at_five_moments(trained, flags, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for index in range(96):
        np.save(many / f"x{index}.npy", np.load(trained / "raw" / f"s{index % 8}.npy"))
    flags = flags | {"features": many}
    code = "import sys; from segtad_jax.predict.__main__ import main; sys.exit(main())"
    started = [sys.executable, "-c", code, *(f"--{k}={v}" for k, v in flags.items())]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parts = flags["output"].with_name("found.json.parts")
    before, stages = 0, set()
    for number in range(5):
        process = subprocess.Popen(
            started, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # After one more part than before, or in its middle.
        while process.poll() is None and len(list(parts.glob("*.json"))) <= before:
            time.sleep(0.005)
        time.sleep(0.02 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if flags["output"].exists():
            break
        before = len(list(parts.glob("*.json")))
        stages.add(before)
    assert len(stages) >= 3
    assert detect(flags) == 0
    found = result_of(flags)
    assert sorted(found["results"]) == sorted(f"x{index}" for index in range(96))
    single = flags | {"features": trained / "raw", "output": tmp_path / "single.json"}
    assert detect(single) == 0
    expected = result_of(single)["results"]
    for video, detections in found["results"].items():
        assert_same(detections, expected[f"s{int(match_id(video)[1:]) % 8}"])
