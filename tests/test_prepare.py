"""`prepare`: what goes in comes out of the shards, and what does not is named."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import tensorflow_datasets as tfds

from segtad_jax.data import preparation, writer
from segtad_jax.data.annotations import read_annotations
from segtad_jax.data.dataset import INDEX, open_dataset
from segtad_jax.data.features import resize_linear
from segtad_jax.data.signals import Normalisation, window_statistics, with_context
from segtad_jax.data.simulation import simulated
from segtad_jax.evaluation.average_precision import detection_map
from segtad_jax.prepare import main
from test_features import FORMS, write

RATE = 2.0  # features a second


def features(index, frames=None, channels=4):
    random = np.random.default_rng(index)
    return random.normal(size=(frames or 20 + index, channels)).astype(np.float32)


def arrays(number=8):
    return {f"v_x{index}": features(index) for index in range(number)}


def entry(index, **fields):
    start = 1 + index / 3
    annotations = [
        {"segment": [start, start + 2], "label": "run"},
        {"segment": [start + 1, start + 5.5], "label": "jump"},
    ]
    subset = "validation" if index % 4 == 3 else "training"
    duration = (20 + index) / RATE
    return {"subset": subset, "duration": duration, "annotations": annotations} | fields


def database(number=8, **videos):
    return {"database": {f"x{index}": entry(index) for index in range(number)} | videos}


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def inputs(tmp_path):
    """Eight videos with nothing wrong."""
    return {
        "features": write(tmp_path / "features", "npy", arrays()),
        "annotations": written(tmp_path / "annotations.json", database()),
        "output": tmp_path / "data",
    }


def prepare(flags, *more):
    given = {"name": "mine", "dtype": "float32", **flags}
    return main([*(f"--{name}={value}" for name, value in given.items()), *more])


def report_of(directory):
    return json.loads((directory / "report.json").read_text())


def test_what_goes_in_comes_out(inputs, capsys):
    assert prepare(inputs, "--rate=2") == 0
    directory = inputs["output"] / "mine" / "1.0.0"
    printed = capsys.readouterr().out
    assert "8 recordings in" in printed
    assert f": {directory}\n" in printed
    assert f"--config.data.dir={inputs['output']} --workdir" in printed
    dataset = open_dataset(directory)
    assert dataset.classes == ("jump", "run")
    assert {split: len(found) for split, found in dataset.splits.items()} == {
        "training": 6,
        "validation": 2,
    }
    for index in range(8):
        split = "validation" if index % 4 == 3 else "training"
        (recording,) = [r for r in dataset.recordings(split) if r.video == f"x{index}"]
        np.testing.assert_array_equal(dataset.features(recording), features(index))
        truth = entry(index)
        segments = [action["segment"] for action in truth["annotations"]]
        np.testing.assert_allclose(recording.segments, segments, atol=1e-4)
        np.testing.assert_array_equal(recording.labels, [2, 1])
        assert recording.rate == RATE
        assert recording.duration == truth["duration"]
    assert not [p for p in inputs["output"].iterdir() if p.name.startswith(".")]


def test_the_index_is_what_a_scan_of_the_shards_finds(inputs, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_BYTES", 300)
    prepare(inputs)
    directory = inputs["output"] / "mine" / "1.0.0"
    indexed = open_dataset(directory)
    (directory / INDEX).unlink()
    scanned = open_dataset(directory)
    for split, recordings in scanned.splits.items():
        assert len({r.shard for r in recordings}) > 1
        for a, b in zip(indexed.splits[split], recordings, strict=True):
            for field in ("video", "num_frames", "rate", "duration", "shard", "offset", "size"):
                assert getattr(a, field) == getattr(b, field)
            np.testing.assert_array_equal(a.segments, b.segments)
            np.testing.assert_array_equal(a.labels, b.labels)
    builder = tfds.builder_from_directory(directory)
    examples = list(builder.as_dataset(split="training"))
    videos = [example["video"].numpy().decode() for example in examples]
    assert sorted(videos) == sorted(r.video for r in scanned.splits["training"])
    for example in examples:
        index = int(example["video"].numpy()[1:])
        np.testing.assert_array_equal(example["features"].numpy(), features(index))
    assert "4 channels, whole recordings" in builder.info.description


@pytest.mark.parametrize("layout", ["tc", "ct"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_records(tmp_path, inputs, form, layout):
    prepare(inputs)
    expected = open_dataset(inputs["output"] / "mine" / "1.0.0")
    stored = {v: a if layout == "tc" else a.T.copy() for v, a in arrays().items()}
    inputs["features"] = write(tmp_path / form, form, stored)
    assert prepare(inputs | {"name": "other"}, "--workers=3") == 0
    found = open_dataset(inputs["output"] / "other" / "1.0.0")
    for split, recordings in expected.splits.items():
        for a, b in zip(recordings, found.splits[split], strict=True):
            assert a.video == b.video
            np.testing.assert_array_equal(expected.features(a), found.features(b))
            np.testing.assert_array_equal(a.segments, b.segments)


def test_several_folders_are_put_side_by_side(tmp_path, inputs):
    flow = {video: features(index + 50, 9, 3) for index, video in enumerate(arrays())}
    inputs["features"] = f"{inputs['features']},{write(tmp_path / 'flow', 'npy', flow)}"
    with pytest.raises(SystemExit, match="2"):
        prepare(inputs, "--resize=nearest")
    assert prepare(inputs, "--layout=tc") == 0
    dataset = open_dataset(inputs["output"] / "mine" / "1.0.0")
    assert dataset.num_channels == 7
    recording = dataset.recordings("training")[0]
    np.testing.assert_allclose(
        dataset.features(recording)[:, 4:], resize_linear(features(50, 9, 3), 20), atol=1e-6
    )


@pytest.mark.parametrize("resize", ["linear", "bsn"])
def test_resized_recordings_keep_their_seconds(inputs, resize):
    assert prepare(inputs, "--num_frames=32", f"--resize={resize}") == 0
    directory = inputs["output"] / f"mine_{resize}32" / "1.0.0"
    dataset = open_dataset(directory)
    for recording in dataset.recordings("training"):
        assert recording.num_frames == 32
        assert recording.rate == pytest.approx(32 / recording.duration)
    assert report_of(directory)["resize"] == resize
    assert f"resized to 32 frames ({resize})" in (directory / "dataset_info.json").read_text()
    assert preparation.read_preparation(directory).window == 32


def test_the_window_is_recorded_or_chosen(inputs, capsys):
    prepare(inputs)
    chosen = preparation.read_preparation(inputs["output"] / "mine" / "1.0.0")
    assert chosen.window == 32  # the longest has 27 frames
    capsys.readouterr()
    prepare(inputs | {"name": "other"}, "--window=16")
    assert f"--config.data.dir={inputs['output']}/other/1.0.0 -" in capsys.readouterr().out
    asked = preparation.read_preparation(inputs["output"] / "other" / "1.0.0")
    assert asked.window == 16


def test_durations_from_a_file_from_a_rate_and_from_nowhere(tmp_path, inputs, capsys):
    bare = database()
    for video in bare["database"].values():
        del video["duration"]
    inputs["annotations"] = written(tmp_path / "bare.json", bare)
    lines = [f"x{index},{(20 + index) / RATE}" for index in range(8)]
    durations = written(tmp_path / "durations.csv", "\n".join(["video,duration", *lines]))
    assert prepare(inputs, f"--durations={durations}") == 0
    assert prepare(inputs | {"name": "rated"}, "--rate=2") == 0
    for name in ("mine", "rated"):
        recording = open_dataset(inputs["output"] / name / "1.0.0").recordings("validation")[0]
        assert (recording.duration, recording.rate) == (11.5, 2.0)
    assert prepare(inputs | {"name": "none"}) == 1
    assert "not one video could be used; the first: " in (error := capsys.readouterr().err)
    assert "no_length: neither a rate nor a duration is known" in error
    assert not (inputs["output"] / "none").exists()


class TestDefects:
    """Bad items are left out, counted and named; --strict and --check say so by their status."""

    @pytest.fixture
    def flawed(self, tmp_path, inputs):
        folder = inputs["features"]
        bad = features(90)
        bad[3, 1] = np.nan
        np.save(folder / "nan.npy", bad)
        np.save(folder / "wide.npy", features(91, channels=5))
        np.save(folder / "objects.npy", np.array([[1.0], None], object))
        np.save(folder / "empty.npy", np.zeros((0, 4)))
        np.save(folder / "large.npy", features(92) + 1e5)
        np.save(folder / "still.npy", np.ones((20, 4)))
        np.save(folder / "long.npy", features(93, frames=80))
        np.save(folder / "unasked.npy", features(94))
        np.save(folder / "blocked.npy", features(95))
        (folder / "cut.npy").write_bytes((folder / "v_x0.npy").read_bytes()[:-9])
        names = ["nan", "wide", "objects", "empty", "large", "still", "long", "cut", "gone"]
        plain = {name: entry(0, duration=10.0) for name in [*names, "blocked"]}
        wrong = entry(0)
        wrong["annotations"] += [
            {"segment": [5, 3], "label": "run"},
            {"segment": [5, 99], "label": "run"},
            {"segment": [50, 99], "label": "run"},
            {"segment": [4, 4], "label": "run"},
        ]
        content = database(**plain, x0=wrong, odd=entry(0, subset="holdout"))
        content["database"]["../x"] = entry(0)
        content["database"]["x1"]["annotations"] = []
        inputs["annotations"] = written(tmp_path / "flawed.json", content)
        blocked = written(tmp_path / "blocked.txt", "v_blocked\n")
        return inputs | {"dtype": "float16", "rate": 2, "layout": "tc", "blocked": blocked}

    def test_each_is_named(self, flawed, capsys):
        assert prepare(flawed) == 0
        directory = flawed["output"] / "mine" / "1.0.0"
        defects = report_of(directory)["defects"]
        videos = {kind: [i["video"] for i in found["items"]] for kind, found in defects.items()}
        assert videos == {
            "bad_id": ["../x"],
            "unknown_subset": ["odd"],
            "blocked": ["blocked"],
            "no_annotations": ["x1"],
            "reversed": ["x0"],
            "outside": ["x0"],
            "beyond_end": ["x0"],
            "zero_length": ["x0"],
            "missing": ["gone"],
            "unused": ["unasked"],
            "unreadable": ["cut"],
            "pickle": ["objects"],
            "empty": ["empty"],
            "wrong_width": ["wide"],
            "not_finite": ["nan"],
            "overflow": ["large"],
            "constant": ["still"],
            "length_differs": ["long"],
        }
        printed = " ".join(capsys.readouterr().out.split())
        for kind in videos:
            assert f"{kind}:" in printed
        dataset = open_dataset(directory)
        found = {r.video for recordings in dataset.splits.values() for r in recordings}
        assert found == {f"x{index}" for index in range(8)} | {"still", "long"}
        assert report_of(directory)["splits"]["training"]["left_out"] == 8
        page = (directory / "report.html").read_text()
        assert "a pickle, which runs code" in page
        assert "../x" in page

    def test_check_writes_nothing_and_says_whether_anything_is_wrong(self, flawed, inputs, capsys):
        assert prepare(flawed, "--check") == 3
        assert "Checked only: nothing is written." in capsys.readouterr().out
        good = database()
        inputs["annotations"].with_name("good.json").write_text(json.dumps(good))
        inputs["annotations"] = inputs["annotations"].with_name("good.json")
        for name in ("unasked", "blocked"):
            (inputs["features"] / f"{name}.npy").unlink()
        assert prepare(inputs, "--check", "--layout=tc") == 0
        assert not inputs["output"].exists()

    def test_strict_stops_at_the_first(self, flawed, tmp_path, inputs, capsys):
        assert prepare(flawed, "--strict") == 4
        error = capsys.readouterr().err
        assert re.match(
            r"stopped by --strict: .*flawed.json.*video '\.\./x': bad_id: \.\./x", error
        )
        inputs["annotations"] = written(tmp_path / "later.json", database(nan=entry(0)))
        assert prepare(inputs, "--strict", "--layout=tc") == 4
        error = capsys.readouterr().err
        assert re.search(r"nan\.npy: video 'nan': not_finite: .*nan at frame 3, channel 1", error)
        assert not inputs["output"].exists() or not list(inputs["output"].iterdir())

    def test_frames_for_seconds(self, inputs, tmp_path, capsys):
        content = database()
        for video in content["database"].values():
            for action in video["annotations"]:
                action["segment"] = [25 * time for time in action["segment"]]
        inputs["annotations"] = written(tmp_path / "frames.json", content)
        assert prepare(inputs, "--check") == 3
        printed = " ".join(capsys.readouterr().out.split())
        assert "of 16 annotations reach beyond the end of their video. Are their times" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"features": "nowhere"}, "no features at nowhere"),
        ({"annotations": "nowhere.json"}, "nowhere.json: there is no such file"),
        ({"durations": "nowhere.csv"}, "nowhere.csv: there is no such file"),
        ({"blocked": "nowhere.txt"}, "No such file.*nowhere.txt"),
    ],
)
def test_files_that_are_not_there(inputs, flags, message, capsys):
    assert prepare(inputs | flags) == 1
    assert re.search(f"error: .*{message}", capsys.readouterr().err)
    assert not inputs["output"].exists()


def test_ids_that_do_not_match(inputs, tmp_path, capsys):
    inputs["features"] = write(tmp_path / "f", "npy", {"other0": features(0)})
    assert prepare(inputs) == 1
    error = capsys.readouterr().err
    assert "no annotated video has features in" in error
    assert "the annotations name 'x0', 'x1', 'x2', the features 'other0'" in error


def test_features_of_which_none_can_be_read(inputs, tmp_path, capsys):
    inputs["features"] = write(tmp_path / "f", "npy", {f"x{i}": np.zeros(7) for i in range(8)})
    assert prepare(inputs, "--layout=tc") == 1
    error = capsys.readouterr().err
    assert "no video has features of frames by channels that can be read" in error


def test_annotations_of_which_none_can_be_used(inputs, tmp_path, capsys):
    empty = {"database": {"x0": entry(0, annotations=[])}}
    inputs["annotations"] = written(tmp_path / "empty.json", empty)
    assert prepare(inputs, "--layout=tc") == 1
    assert "there is no annotation that could be used" in capsys.readouterr().err


def test_a_layout_that_cannot_be_told(inputs, tmp_path, capsys):
    square = {video: features(0, frames=4) for video in arrays()}
    inputs["features"] = write(tmp_path / "square", "npy", square)
    assert prepare(inputs) == 1
    assert "say --layout=tc (frames first) or --layout=ct" in capsys.readouterr().err


def test_a_data_set_that_is_there_is_not_touched(inputs, capsys):
    assert prepare(inputs) == 0
    before = (inputs["output"] / "mine" / "1.0.0" / "report.json").stat().st_mtime_ns
    assert prepare(inputs) == 1
    assert "is there already; remove it, or give another --name" in capsys.readouterr().err
    assert (inputs["output"] / "mine" / "1.0.0" / "report.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--name=x"], "missing: --annotations, --features, --output"),
        (["--features=a", "--annotations=b", "--check"], "missing: --name"),
        (["--name=A-b", "--features=a", "--annotations=b", "--check"], "--name=A-b must be"),
        (["--recipe=hapt"], "--recipe=hapt takes --source=DIR"),
        (["--num_frames=100"], "--num_frames: 100 is not divisible by 8.*use 104"),
        (["--num_frames=32", "--window=16"], "give one of them"),
        (["--rate=0"], "0 must be above 0"),
        (["--rate=fast"], "'fast' is not a number"),
        (["--rate=nan"], "nan must be above 0"),
        (["--signals=statistics"], "--signals needs --rate=HZ"),
        (["--layout=xy"], "invalid choice"),
        (["--feature=a"], "unrecognized arguments"),
        (["--simulate=4"], "--simulate makes the features"),
    ],
)
def test_wrong_command_lines_end_with_status_2(flags, message, capsys):
    complete = ["--name=x", "--features=a", "--annotations=b", "--check"]
    if "--name" not in flags[0] and "--features" not in flags[0] and "--recipe" not in flags[0]:
        flags = [*complete, *flags]
    with pytest.raises(SystemExit) as caught:
        main(flags)
    assert caught.value.code == 2
    assert re.search(message, capsys.readouterr().err)


class TestSignals:
    def signals(self, channels=3):
        return {
            f"x{index}": np.random.default_rng(index).normal(size=(300 + 20 * index, channels))
            for index in range(8)
        }

    def test_features_are_normalised_by_the_training_recordings(self, tmp_path, inputs):
        raw = self.signals()
        inputs["features"] = write(tmp_path / "raw", "one.npz", raw)
        assert prepare(inputs, "--signals=statistics", "--rate=50") == 0
        directory = inputs["output"] / "mine" / "1.0.0"
        dataset = open_dataset(directory)
        made = {
            video: with_context(window_statistics(x.astype(np.float32).astype(float), 10))
            for video, x in raw.items()
        }
        normalise = Normalisation.fit(made[f"x{index}"] for index in (0, 1, 2, 4, 5, 6))
        for recording in dataset.recordings("training") + dataset.recordings("validation"):
            assert recording.rate == 5.0
            assert recording.num_frames == len(raw[recording.video]) // 10
            np.testing.assert_allclose(
                dataset.features(recording), normalise(made[recording.video]), atol=1e-5
            )
        stored = preparation.read_preparation(directory)
        again = stored.features([raw["x3"].astype(np.float32)])
        np.testing.assert_array_equal(again, dataset.features(dataset.recordings("validation")[0]))
        assert stored.frame_rate == 5.0
        assert stored.num_channels == 81

    def test_a_signal_shorter_than_a_frame_is_left_out(self, tmp_path, inputs):
        raw = self.signals() | {"x2": np.zeros((9, 3))}
        inputs["features"] = write(tmp_path / "raw", "npy", raw)
        assert prepare(inputs, "--signals=statistics", "--rate=50") == 0
        defects = report_of(inputs["output"] / "mine" / "1.0.0")["defects"]
        (item,) = defects["empty"]["items"]
        assert item["video"] == "x2"
        assert item["value"] == "a signal of 9 samples is shorter than a frame of 10"

    def test_without_training_recordings_there_is_nothing_to_normalise_by(
        self, tmp_path, inputs, capsys
    ):
        inputs["features"] = write(tmp_path / "raw", "one.npz", self.signals())
        only = {"database": {f"x{i}": entry(i, subset="validation") for i in range(8)}}
        inputs["annotations"] = written(tmp_path / "only.json", only)
        assert prepare(inputs, "--signals=statistics", "--rate=50") == 1
        assert "no training recording can be read" in capsys.readouterr().err

    @pytest.mark.parametrize(("rate", "samples"), [(50.0, 10), (100.0, 20), (52.0, 10), (1.0, 2)])
    def test_frames_are_as_near_to_5_hz_as_samples_allow(self, rate, samples):
        assert preparation.samples_per_frame(rate) == samples


def test_simulated_features_are_those_of_the_annotations(inputs, tmp_path):
    del inputs["features"]
    assert prepare(inputs, "--simulate=64", "--num_frames=64") == 0
    dataset = open_dataset(inputs["output"] / "mine_linear64" / "1.0.0")
    assert "Simulated features" in (dataset.directory / "dataset_info.json").read_text()
    inside, outside = [], []
    for recording in dataset.recordings("training"):
        frames = dataset.features(recording)
        assert frames.shape == (64, 64)
        mask = np.zeros(64, bool)
        for (start, end), label in zip(recording.segments, recording.labels, strict=True):
            if dataset.classes[label - 1] == "jump":
                mask[int(start * recording.rate) + 1 : int(end * recording.rate) - 1] = True
        inside.append(frames[mask].mean(axis=0))
        outside.append(frames[~mask].mean(axis=0))
    # The same direction in every video: two means of "jump" are nearer than of anything else.
    same = np.linalg.norm(inside[0] - inside[1])
    assert same < np.linalg.norm(inside[0] - outside[1])
    again = inputs | {"output": tmp_path / "again"}
    assert prepare(again, "--rate=2", "--simulate=64") == 0
    recording = open_dataset(tmp_path / "again" / "mine" / "1.0.0").recordings("validation")[0]
    assert recording.num_frames == round(recording.duration * 2)


def test_simulated_features_need_more_than_single_frames(tmp_path):
    """The nearest prototype of each frame stays under mAP@0.5 of 0.5; a mean over time does not."""
    videos = {}
    for index in range(20):
        annotations = [
            {"segment": [10 + 20 * n, 20 + 20 * n], "label": f"class{(index + 7 * n) % 20:02d}"}
            for n in range(4)
        ]
        videos[f"x{index}"] = entry(0, duration=100.0, annotations=annotations)
    annotations = read_annotations([written(tmp_path / "a.json", {"database": videos})])
    source = simulated(annotations, 400, durations={}, num_frames=200, rate=None)
    truth, found, right = {}, {}, []
    for video, entry_ in annotations.videos.items():
        frames = source.read(video)
        truth[video] = [(a.start, a.end, a.label) for a in entry_.actions]

        def classify(x):
            return x @ source.prototypes.T - (source.prototypes**2).sum(axis=1) / 2

        for start, end, label in truth[video]:
            kind = classify(frames[int(2 * start) : int(2 * end)].mean(axis=0)).argmax()
            right.append(kind == annotations.classes.index(label) + 1)
        scores = np.exp(classify(frames))
        scores /= scores.sum(axis=1, keepdims=True)
        found[video] = []
        for kind, label in enumerate(annotations.classes, start=1):
            for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
                above = np.pad(scores[:, kind] > threshold, 1).astype(int)
                for first, stop in np.flatnonzero(np.diff(above)).reshape(-1, 2):
                    score = scores[first:stop, kind].mean() * (stop - first)
                    found[video].append((first / 2, stop / 2, label, score))
    assert detection_map(truth, found, (0.5,))["average"] < 0.5
    assert np.mean(right) > 0.95


class TestHapt:
    def test_recipe(self, shared_data, tmp_path):
        flags = ["--recipe=hapt", f"--source={shared_data / 'hapt'}", f"--output={tmp_path}"]
        assert main(flags) == 0
        directory = tmp_path / "hapt" / "1.0.0"
        dataset = open_dataset(directory)
        assert {split: len(found) for split, found in dataset.splits.items()} == {
            "training": 42,
            "validation": 19,
        }
        assert (len(dataset.classes), dataset.num_channels) == (12, 162)
        truth = json.loads((shared_data / "hapt" / "hapt_gt.json").read_text())["database"]
        for recording in dataset.recordings("training") + dataset.recordings("validation"):
            annotations = truth[recording.video]["annotations"]
            expected = [a["segment"] for a in annotations]
            np.testing.assert_allclose(recording.segments, expected, atol=1e-4)
            labels = [dataset.classes[label - 1] for label in recording.labels]
            assert labels == [a["label"] for a in annotations]
            assert recording.rate == 5.0
        found = report_of(directory)
        assert found["defects"] == {}
        assert found["window"] == 320
        assert found["ceiling"]["strides"]["8"]["map"]["average"] == pytest.approx(0.793, abs=0.003)
        assert "Reyes-Ortiz" in (directory / "dataset_info.json").read_text()

    def test_ucis_txt_files_give_the_same(self, shared_data, tmp_path, capsys):
        """UCI's archive, written from the same recordings in its own form."""
        raw = tmp_path / "uci" / "RawData"
        raw.mkdir(parents=True)
        signals = np.load(shared_data / "hapt" / "hapt_50hz_f16.npz")
        truth = json.loads((shared_data / "hapt" / "hapt_gt.json").read_text())["database"]
        names = (shared_data / "hapt" / "activity_labels.txt").read_text().split()[1::2]
        videos = ["exp01_user01", "exp03_user02", "exp05_user03"]
        lines = []
        for video in videos:
            for sensor, axes in (("acc", slice(0, 3)), ("gyro", slice(3, 6))):
                np.savetxt(raw / f"{sensor}_{video}.txt", signals[video][:, axes])
            for action in truth[video]["annotations"]:
                first, last = np.round(np.array(action["segment"]) * 50).astype(int)
                number = names.index(action["label"]) + 1
                lines.append(f"{int(video[3:5])} {int(video[-2:])} {number} {first + 1} {last}")
        (raw / "labels.txt").write_text("\n".join(lines))
        assert main(["--recipe=hapt", f"--source={raw.parent}", f"--output={tmp_path}"]) == 0
        dataset = open_dataset(tmp_path / "hapt" / "1.0.0")
        recordings = dataset.recordings("training") + dataset.recordings("validation")
        assert [r.video for r in recordings] == ["exp01_user01", "exp05_user03", "exp03_user02"]
        for recording in recordings:
            expected = [a["segment"] for a in truth[recording.video]["annotations"]]
            np.testing.assert_allclose(recording.segments, expected, atol=1e-9)
            assert recording.duration == len(signals[recording.video]) / 50
        (raw / "labels.txt").write_text("1 1 13 250 1232\n")
        assert main(["--recipe=hapt", f"--source={raw}", f"--output={tmp_path / 'b'}"]) == 1
        assert "labels.txt, line 1: '1 1 13 250 1232' is not `experiment" in capsys.readouterr().err
        (raw / "labels.txt").write_text("\n".join(lines))
        (raw / "gyro_exp03_user02.txt").write_text("0.1 0.2 x")
        assert main(["--recipe=hapt", f"--source={raw}", f"--output={tmp_path / 'b'}"]) == 0
        defects = report_of(tmp_path / "b" / "hapt" / "1.0.0")["defects"]
        assert "gyro_exp03_user02.txt: " in defects["unreadable"]["items"][0]["value"]

    def test_another_folder(self, tmp_path, capsys):
        assert main(["--recipe=hapt", f"--source={tmp_path}", f"--output={tmp_path}"]) == 1
        assert "no HAPT data in" in capsys.readouterr().err


def files_of(directory):
    """What a data set is made of; a page's pictures and times are not compared."""
    names = [p.name for p in directory.iterdir() if p.name != "report.html"]
    return {name: (directory / name).read_bytes() for name in names}


def test_the_number_of_workers_changes_nothing(inputs, tmp_path):
    for workers in (1, 3):
        prepare(inputs | {"output": tmp_path / str(workers)}, f"--workers={workers}")
    first, second = (files_of(tmp_path / str(n) / "mine" / "1.0.0") for n in (1, 3))
    assert first == second


@pytest.mark.slow
def test_kill_at_ten_moments(inputs, tmp_path):
    """After kill -9 there is no data set or a whole one, and the next run makes it right."""
    many = {f"x{index}": features(index, 2000 + index, 64) for index in range(60)}
    inputs["features"] = write(tmp_path / "many", "npy", many)
    videos = {video: entry(0, duration=1000.0) for video in many}
    for index in range(0, 60, 4):
        videos[f"x{index}"]["subset"] = "validation"
    inputs["annotations"] = written(tmp_path / "many.json", {"database": videos})
    assert prepare(inputs | {"output": tmp_path / "whole"}) == 0
    expected = files_of(tmp_path / "whole" / "mine" / "1.0.0")
    code = "import sys; from segtad_jax.prepare import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--name=mine", "--dtype=float32"]
    command += [f"--{name}={value}" for name, value in inputs.items()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    stages = Counter()
    folder, target = inputs["output"] / ".preparing-mine", inputs["output"] / "mine"
    # From the folder's first appearance to the end, and a little after.
    for delay in (0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.5, 3.0):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not folder.exists() and process.poll() is None and not target.exists():
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if target.exists():
            stages["whole"] += 1
            assert files_of(target / "1.0.0") == expected
            (target / "1.0.0").rename(tmp_path / f"done{delay}")
            target.rmdir()
        else:
            stages["nothing"] += 1
    assert stages["nothing"] >= 3
    assert prepare(inputs) == 0
    assert files_of(target / "1.0.0") == expected
    assert not folder.exists()
