"""`prepare`: what goes in comes out of the shards, whole or not at all."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import tensorflow_datasets as tfds

from prepare_cases import (
    RATE,
    arrays,
    database,
    entry,
    features,
    good_inputs,
    prepare,
    report_of,
    written,
)
from segtad_jax.data import preparation, writer
from segtad_jax.data.dataset import INDEX, open_dataset
from segtad_jax.data.resizing import resize_linear
from segtad_jax.prepare import build
from test_features import FORMS, write


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Those of a command that writes no page, which takes most of the time."""
    monkeypatch.setattr(build, "write_page", lambda *page: None)
    return good_inputs(tmp_path)


def test_what_goes_in_comes_out(tmp_path, capsys):
    inputs = good_inputs(tmp_path)
    assert prepare(inputs, "--rate=2") == 0
    directory = inputs["output"] / "mine" / "1.0.0"
    printed = capsys.readouterr().out
    assert "8 recordings in" in printed
    assert f": {directory}\n" in printed
    assert f"--config.data.dir={inputs['output']} --workdir" in printed
    assert (directory / "report.html").stat().st_size > 1000
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


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    inputs = good_inputs(tmp_path_factory.mktemp("expected"))
    prepare(inputs)
    return open_dataset(inputs["output"] / "mine" / "1.0.0")


@pytest.mark.parametrize("layout", ["tc", "ct"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_records(tmp_path, inputs, expected, form, layout):
    stored = {v: a if layout == "tc" else a.T.copy() for v, a in arrays().items()}
    inputs["features"] = write(tmp_path / form, form, stored)
    assert prepare(inputs, "--workers=3") == 0
    dataset = open_dataset(inputs["output"] / "mine" / "1.0.0")
    for split, recordings in expected.splits.items():
        for a, b in zip(recordings, dataset.splits[split], strict=True):
            assert a.video == b.video
            np.testing.assert_array_equal(expected.features(a), dataset.features(b))
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


@pytest.mark.parametrize("resize", ["half_pixel", "linear", "bsn"])
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


def test_a_data_set_that_is_there_is_not_touched(inputs, capsys):
    assert prepare(inputs) == 0
    before = (inputs["output"] / "mine" / "1.0.0" / "report.json").stat().st_mtime_ns
    assert prepare(inputs) == 1
    assert "is there already; remove it, or give another --name" in capsys.readouterr().err
    assert (inputs["output"] / "mine" / "1.0.0" / "report.json").stat().st_mtime_ns == before


def test_of_two_at_once_the_second_is_told_who_is_at_work(inputs, capsys, monkeypatch):
    refused = []

    def meanwhile(*page):
        refused.append(prepare(inputs))

    monkeypatch.setattr(build, "write_page", meanwhile)
    assert prepare(inputs) == 0
    assert refused == [1]
    error = capsys.readouterr().err
    assert f"process {os.getpid()} on {platform.node()} since 20" in error
    assert str(inputs["output"] / "mine" / "1.0.0") in error
    dataset = open_dataset(inputs["output"] / "mine" / "1.0.0")
    for recording in dataset.recordings("training"):
        np.testing.assert_array_equal(
            dataset.features(recording), features(int(recording.video[1:]))
        )
    assert [path.name for path in inputs["output"].iterdir()] == ["mine"]


def test_a_lease_that_was_lost_writes_nothing(inputs, capsys, monkeypatch):
    lease = inputs["output"] / ".preparing-mine.lease"
    monkeypatch.setattr(build, "write_page", lambda *page: lease.unlink())
    assert prepare(inputs) == 1
    assert str(lease) in capsys.readouterr().err
    assert not (inputs["output"] / "mine").exists()


def files_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.slow
def test_the_same_command_writes_the_same_bytes(tmp_path):
    """With any number of workers."""
    inputs = good_inputs(tmp_path)
    for workers in (1, 3):
        prepare(inputs | {"output": tmp_path / str(workers)}, f"--workers={workers}")
    first, second = (files_of(tmp_path / str(n) / "mine" / "1.0.0") for n in (1, 3))
    assert {"report.html", "report.json", INDEX} < first.keys()
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
    code = "import sys; from segtad_jax.prepare.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--name=mine", "--dtype=float32"]
    command += [f"--{name}={value}" for name, value in inputs.items()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    stages = Counter()
    target = inputs["output"] / "mine"

    def at_work(process="*"):
        return any(inputs["output"].glob(f".preparing-mine-*-{process}-*"))

    # From the folder's first appearance to the end, and a little after.
    for delay in (0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.5, 3.0):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not at_work(process.pid) and process.poll() is None and not target.exists():
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
    assert not at_work()
