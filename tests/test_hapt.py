"""HAPT in both of its forms, against its annotations."""

import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prepare_cases import report_of
from segtad_jax.augment import rotate
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.signals import window_statistics, with_context
from segtad_jax.prepare.__main__ import main

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_recipe(shared_data, tmp_path):
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


def test_rotated_channels_are_those_of_a_phone_elsewhere_at_the_waist():
    config = runpy.run_path(str(ROOT / "configs" / "hapt.py"))["get_config"]()
    signal = np.random.default_rng(0).normal(size=(300, 6))  # accelerometer, gyroscope: x is up

    def features(samples):
        return with_context(window_statistics(samples, 10))

    own = features(signal)
    assert own.shape[1] == config.data.num_channels
    found = np.asarray(
        rotate(jax.random.key(0), jnp.asarray(own), config.augment.rotate, degrees=30.0)
    )
    angle = np.deg2rad(30.0) * float(jax.random.normal(jax.random.key(0)))
    cos, sin = np.cos(angle), np.sin(angle)
    elsewhere = signal @ np.kron(np.eye(2), [[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    means = np.flatnonzero(np.arange(own.shape[1]) % 18 < 6)
    np.testing.assert_allclose(found[:, means], features(elsewhere)[:, means], atol=1e-5)
    others = np.setdiff1d(np.arange(own.shape[1]), means)
    np.testing.assert_allclose(found[:, others], own[:, others], atol=1e-5)


@pytest.mark.slow
def test_ucis_txt_files_give_the_same(shared_data, tmp_path, capsys):
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


def test_another_folder(tmp_path, capsys):
    assert main(["--recipe=hapt", f"--source={tmp_path}", f"--output={tmp_path}"]) == 1
    assert "no HAPT data in" in capsys.readouterr().err
