"""Shards hold exactly what went in, whole or not at all, and wrong records are named."""

import dataclasses
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from segtad_jax.config.defaults import default
from segtad_jax.data import synthetic, writer
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.embedded import open_or_build
from segtad_jax.data.records import Record
from segtad_jax.data.writer import ShardWriter, tensorflow_on_cpu, write_dataset

CLASSES = ("run", "jump", "eat")  # not in sorted order, which is eat, jump, run
GOOD = Record(
    video="v0",
    features=np.arange(12, dtype=np.float32).reshape(4, 3) / 7,
    rate=1 / 3,
    duration=12.0,
    segments=np.array([[0.1, 1 / 3], [2.0, 12.0]]),
    labels=("run", "eat"),
)


def built(root, *records, name="some_data", **arguments):
    arguments = {"splits": {"training": records}} | arguments
    return write_dataset(
        root, name=name, classes=CLASSES, num_channels=3, description="For a test.", **arguments
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_record_comes_back_as_it_went_in(tmp_path, dtype):
    empty = dataclasses.replace(GOOD, video="a-0", segments=np.zeros((0, 2)), labels=())
    directory = built(tmp_path, GOOD, empty, dtype=dtype)
    assert directory == tmp_path / "some_data" / "1.0.0"
    dataset = open_dataset(directory)
    assert dataset.name == "some_data"
    assert dataset.classes == ("eat", "jump", "run")
    assert dataset.num_channels == 3
    without, recording = dataset.recordings("training")  # in order of their ids
    assert (without.video, recording.video) == ("a-0", "v0")
    assert recording.num_frames == 4
    assert recording.rate == GOOD.rate
    assert recording.duration == GOOD.duration
    np.testing.assert_array_equal(recording.segments, GOOD.segments)
    np.testing.assert_array_equal(recording.labels, [3, 1])
    assert without.segments.shape == (0, 2)
    assert without.labels.shape == (0,)
    features = dataset.features(recording)
    assert features.dtype == dtype
    np.testing.assert_array_equal(features, GOOD.features.astype(dtype))


def test_tfds_reads_the_shards_too(tmp_path):
    builder = tfds.builder_from_directory(built(tmp_path, GOOD))
    assert builder.info.description == "For a test."
    (example,) = builder.as_dataset(split="training")
    assert example["video"].numpy().decode() == "v0"
    np.testing.assert_array_equal(example["features"].numpy(), GOOD.features)
    np.testing.assert_array_equal(example["segments"].numpy(), GOOD.segments)
    np.testing.assert_array_equal(example["labels"].numpy(), [2, 0])
    assert example["rate"].numpy() == GOOD.rate


def with_feature(value):
    features = GOOD.features.copy()
    features[2, 1] = value
    return {"features": features}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ("run", "fly")}, "video v0: label 'fly' is none of the 3 classes: eat, jump"),
        ({"labels": ("run",)}, "video v0: 2 segments but 1 labels"),
        ({"segments": np.array([[3.0, 2.0], [0, 1]])}, r"video v0: segment \(3.0, 2.0\) s does"),
        ({"segments": np.array([[-0.5, 2.0], [0, 1]])}, r"segment \(-0.5, 2.0\) s .* of 12.0 s"),
        ({"segments": np.array([[0, 12.5], [0, 1]])}, r"segment \(0.0, 12.5\) s .* of 12.0 s"),
        ({"segments": np.array([[0, math.nan], [0, 1]])}, r"segment \(0.0, nan\) s"),
        ({"rate": 0.0}, "video v0: rate is 0.0, expected a positive number"),
        ({"duration": math.inf}, "video v0: duration is inf, expected a positive number"),
        ({"features": np.zeros((4, 2))}, r"video v0: features of shape \(4, 2\), .*frames, 3"),
        ({"features": np.zeros((0, 3))}, "at least one frame"),
        (with_feature(np.nan), "video v0: nan at frame 2, channel 1"),
        (with_feature(7e4), "video v0: 70000 at frame 2, channel 1 .* float16"),
    ],
)
def test_a_record_that_cannot_be_right_is_named_and_nothing_is_left(tmp_path, change, message):
    bad = dataclasses.replace(GOOD, **change)
    with pytest.raises(ValueError, match=message):
        built(tmp_path, bad, dtype=np.float16)
    assert list(tmp_path.iterdir()) == []


def test_an_action_may_end_a_rounding_error_after_its_recording(tmp_path):
    late = dataclasses.replace(GOOD, segments=np.array([[0, 12.005], [0, 1]]))
    (recording,) = open_dataset(built(tmp_path, late)).recordings("training")
    assert recording.segments[0, 1] == 12.005


def test_a_video_that_occurs_twice_is_named(tmp_path):
    with pytest.raises(ValueError, match="video v0 occurs twice, in training and in training"):
        built(tmp_path, GOOD, GOOD)
    splits = {"training": [GOOD], "validation": [GOOD]}
    with pytest.raises(ValueError, match="video v0 occurs twice, in training and in validation"):
        built(tmp_path, splits=splits)


def test_a_split_without_recordings_is_named(tmp_path):
    splits = {"training": [GOOD], "validation": []}
    with pytest.raises(ValueError, match="split validation of some_data has no recordings"):
        built(tmp_path, splits=splits)


def test_a_class_named_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="classes named twice: run"):
        write_dataset(
            tmp_path,
            name="x",
            classes=["run", "eat", "run"],
            num_channels=3,
            splits={"training": [GOOD]},
            description="",
        )


@pytest.mark.parametrize(
    "name",
    ["cut\nfish", "a\rb", "a\x85b", "a\u2028b", "a\x1b[31mb", " run", "run\t", "", "a\ud800"],
)
def test_a_class_that_is_no_line_is_refused(tmp_path, name):
    """Those after it would be shifted by one when they are read."""
    with pytest.raises(ValueError, match=r"labels\.labels\.txt.*Rename it") as caught:
        write_dataset(
            tmp_path,
            name="x",
            classes=["a", name],
            num_channels=3,
            splits={"training": [GOOD]},
            description="",
        )
    assert f"class {name!r} " in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_is_read_before_it_takes_its_place(tmp_path, monkeypatch):
    """As of a disk that lost the end of a shard."""

    def cut(folder):
        (shard,) = folder.glob("*.tfrecord-*")
        shard.write_bytes(shard.read_bytes()[:-1])
        return open_dataset(folder)

    monkeypatch.setattr(writer, "open_dataset", cut)
    with pytest.raises(ValueError, match=r"some_data-training\.tfrecord-00000: has \d+ bytes, but"):
        built(tmp_path, GOOD)
    assert not (tmp_path / "some_data").exists()


def test_all_files_are_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def note(handle):
        path = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append(path.name)
        assert not (tmp_path / "some_data").exists()
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    directory = built(tmp_path, GOOD)
    assert {path.name for path in directory.iterdir()} < set(synced)


def test_an_interrupted_build_leaves_nothing_and_the_next_one_works(tmp_path):
    def interrupted():
        yield dataclasses.replace(GOOD, video="v1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built(tmp_path, splits={"training": [GOOD], "validation": interrupted()})
    assert list(tmp_path.iterdir()) == []
    assert len(open_dataset(built(tmp_path, GOOD)).recordings("training")) == 1


def test_the_slower_of_two_builders_takes_the_data_set_of_the_faster(tmp_path):
    faster = dataclasses.replace(GOOD, video="faster")

    def overtaken():
        built(tmp_path, faster)
        yield GOOD

    directory = built(tmp_path, splits={"training": overtaken()})
    (recording,) = open_dataset(directory).recordings("training")
    assert recording.video == "faster"
    np.testing.assert_array_equal(open_dataset(directory).features(recording), GOOD.features)
    assert [path.name for path in tmp_path.iterdir()] == ["some_data"]


def test_of_two_writers_at_once_the_second_to_end_is_refused(tmp_path):
    arguments = ("some_data", CLASSES, 3, np.dtype(np.float32), "")
    with ShardWriter(tmp_path, *arguments) as one, ShardWriter(tmp_path, *arguments) as other:
        for writer_, video in ((one, "a"), (other, "b")):
            writer_.write("training", dataclasses.replace(GOOD, video=video))
        directory = one.finish()
        with pytest.raises(FileExistsError, match=rf"{directory} .*--name or --output"):
            other.finish()
    assert [r.video for r in open_dataset(directory).recordings("training")] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["some_data"]


def test_what_is_there_is_not_built_again(tmp_path):
    def never():
        yield pytest.fail("read again")

    directory = built(tmp_path, GOOD)
    assert built(tmp_path, splits={"training": never()}) == directory


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    left = [
        tmp_path / f".preparing-{name}-{platform.node()}-{process}-0"
        for name, process in (("some_data", dead.pid), ("some_data", os.getpid()), ("a", dead.pid))
    ]
    for folder in left:
        folder.mkdir()
    built(tmp_path, GOOD)
    assert [folder.exists() for folder in left] == [False, True, True]


def test_what_another_machine_left_is_named_when_it_is_old(tmp_path, caplog):
    left = tmp_path / ".preparing-some_data-its-host-7-0"
    left.mkdir()
    built(tmp_path, GOOD)
    assert not caplog.messages
    os.utime(left, (0, 0))
    built(tmp_path, GOOD, name="other")
    assert not caplog.messages
    shutil.rmtree(tmp_path / "some_data")
    built(tmp_path, GOOD)
    (message,) = caplog.messages
    assert re.search(rf"{left}: process 7 on its-host .*\d+ hours.*remove the folder", message)
    assert left.exists()


class TestTensorflow:
    def test_sees_no_accelerator(self, monkeypatch):
        tf = tensorflow_on_cpu()
        hidden = []
        monkeypatch.setattr(tf.config, "set_visible_devices", lambda *args: hidden.append(args))
        assert tensorflow_on_cpu() is tf
        assert hidden == [([], "GPU"), ([], "TPU")]

    def test_a_program_that_used_it_before_goes_on(self, monkeypatch):
        tf = tensorflow_on_cpu()

        def too_late(*args):
            raise RuntimeError("Visible devices cannot be modified after being initialized")

        monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
        assert tensorflow_on_cpu() is tf

    def test_accelerators_are_hidden_before_it_writes(self, tmp_path, monkeypatch):
        class HiddenFirstError(Exception):
            pass

        def first():
            raise HiddenFirstError

        monkeypatch.setattr(writer, "tensorflow_on_cpu", first)
        with pytest.raises(HiddenFirstError):
            built(tmp_path, GOOD)


def synthetic_data(root, **fields):
    data = default().data
    data.source, data.dir = "synthetic", str(root)
    data.synthetic_recordings, data.synthetic_frames = 5, 40
    data.update(fields)
    return data


def test_an_embedded_source_is_built_once_and_says_so(tmp_path, capsys):
    dataset = open_or_build(synthetic_data(tmp_path))
    said = capsys.readouterr().out
    assert re.fullmatch(rf"Writing .* {dataset.directory}, once \.\.\.\nWritten in \d+ s\.\n", said)
    again = open_or_build(synthetic_data(tmp_path))
    assert capsys.readouterr().out == ""
    assert again.directory == dataset.directory
    assert dataset.classes == ("class_00", "class_01", "class_02")
    sizes = {split: len(recordings) for split, recordings in dataset.splits.items()}
    assert sizes == {"training": 5, "validation": 4}
    world = synthetic.World(num_frames=40, num_channels=16, num_classes=3, noise=1.0, seed=0)
    for recording, record in zip(
        dataset.recordings("validation"), synthetic.records("validation", 4, world), strict=True
    ):
        assert recording.video == record.video
        np.testing.assert_array_equal(dataset.features(recording), record.features)


def test_a_data_set_that_an_earlier_version_wrote_opens(tmp_path):
    name = "synthetic_r2_f24_c3_k3_n1p0_s0"
    shutil.copytree(Path(__file__).parent / "old_runs" / "embedded" / name, tmp_path / name)
    sizes = {"recordings": 2, "frames": 24, "channels": 3}
    config = synthetic_data(tmp_path, **{f"synthetic_{key}": n for key, n in sizes.items()})
    dataset = open_or_build(config)
    assert dataset.name == name
    world = synthetic.World(num_frames=24, num_channels=3, num_classes=3, noise=1.0, seed=0)
    for split, size in {"training": 2, "validation": 4}.items():
        recordings = dataset.recordings(split)
        for recording, record in zip(
            recordings, synthetic.records(split, size, world), strict=True
        ):
            assert recording.video == record.video
            assert tuple(dataset.classes[d - 1] for d in recording.labels) == record.labels
            np.testing.assert_array_equal(recording.segments, record.segments)
            np.testing.assert_array_equal(dataset.features(recording), record.features)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_no_two_synthetic_configs_share_a_folder(tmp_path):
    changes = [
        {},
        {"synthetic_recordings": 6},
        {"synthetic_frames": 41},
        {"synthetic_channels": 4},
        {"synthetic_classes": 2},
        {"synthetic_noise": 0.25},
        {"synthetic_noise": 1 + 1e-9},
        {"synthetic_noise": 1e-9},
        {"synthetic_seed": 1},
    ]
    names = [open_or_build(synthetic_data(tmp_path, **change)).name for change in changes]
    assert len(set(names)) == len(changes)


def test_missing_prepared_data_says_how_to_prepare_them(tmp_path):
    data = default().data
    data.dir = str(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"nothing.*segtad_jax\.prepare.*data\.dir=DATA"):
        open_or_build(data)
    data.dir = ""
    with pytest.raises(ValueError, match=r"data\.dir is empty"):
        open_or_build(data)


def test_prepared_data_are_opened(tmp_path):
    data = default().data
    directory = built(tmp_path, GOOD)
    for data.dir in (str(directory), str(tmp_path)):
        assert open_or_build(data).directory == directory
    built(tmp_path, GOOD, name="other")
    message = rf"holds 2 data sets[^-]*--config\.data\.dir={tmp_path}/other/1\.0\.0\n"
    with pytest.raises(ValueError, match=message):
        open_or_build(data)
