"""The composed smartwatch recordings: exactly the fixed ones, from exactly the expected file."""

import hashlib
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segtad_jax.data import watch
from segtad_jax.data.embedded import open_or_build
from segtad_jax.data.preparation import FILE, read_preparation
from segtad_jax.data.signals import window_statistics, with_context
from segtad_jax.predict.recording_files import RecordingFiles
from tests.test_config import load

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def records():
    if importlib.util.find_spec("seglearn") is None:
        pytest.skip("seglearn is not installed (extra 'demo')")
    return {split: list(watch.records(split)) for split in ("training", "validation")}


def test_the_composition_is_the_fixed_one(records, shared_data):
    expected = json.loads((shared_data / "watch" / "watch_gt.json").read_text())["database"]
    found = {
        record.video: {
            "subset": split,
            "duration": round(record.duration, 2),
            "annotations": [
                {"segment": [round(t, 2) for t in segment], "label": label}
                for segment, label in zip(record.segments.tolist(), record.labels, strict=True)
            ],
        }
        for split, members in records.items()
        for record in members
    }
    assert found == expected


def test_the_figures_of_the_composition(records):
    everything = records["training"] + records["validation"]
    assert {split: len(members) for split, members in records.items()} == {
        "training": 56,
        "validation": 24,
    }
    assert sum(len(record.labels) for record in everything) == 745
    assert {label for record in everything for label in record.labels} == set(watch.CLASSES)
    assert all(record.rate == 5.0 for record in everything)


def test_features_are_normalised_by_training_alone(records):
    training, validation = (
        np.concatenate([record.features for record in records[split]]) for split in records
    )
    assert training.shape[1] == watch.NUM_CHANNELS
    np.testing.assert_allclose(training.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(training.std(axis=0), 1, atol=1e-4)
    assert np.abs(validation.mean(axis=0)).max() > 0.05


def test_a_frame_every_tenth_sample(records):
    for record in records["validation"]:
        assert len(record.features) == int(record.duration * 50 + 1e-6) // 10


def test_the_raw_samples_that_lie_beside_make_the_features_of_their_record(records, tmp_path):
    for name, text in watch.files():
        (tmp_path / name).write_text(text)
    preparation = read_preparation(tmp_path)
    files = RecordingFiles(preparation, [str(tmp_path / "s08_0_0.csv")])
    recorded = files.read("s08_0_0")
    assert recorded.is_whole
    (record,) = (r for r in records["validation"] if r.video == "s08_0_0")
    made = preparation.features(recorded.pieces[0].arrays)  # files are read as float32
    np.testing.assert_allclose(made, record.features, atol=1e-5)
    assert preparation.range.compare(recorded.pieces[0].arrays) is None
    assert preparation.frame_rate == record.rate
    assert (preparation.num_channels, preparation.rate) == (watch.NUM_CHANNELS, 50.0)
    assert len(recorded.pieces[0].arrays[0]) == round(50 * record.duration)


def test_the_data_set_keeps_how_its_features_are_made(records, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watch, "records", lambda split: iter(records[split][:2]))
    config = load(ROOT / "configs" / "watch.py")
    config.data.dir = str(tmp_path)
    dataset = open_or_build(config.data)
    assert read_preparation(dataset.directory).to_json()["signals"]["sample_rate"] == 50.0
    assert (dataset.directory / "s08_0_0.csv").exists()
    open_or_build(config.data)
    assert "older version" not in capsys.readouterr().out
    (dataset.directory / FILE).unlink()
    again = open_or_build(config.data)
    assert again.fingerprint == dataset.fingerprint
    assert re.search(r"older version.*Remove it", capsys.readouterr().out)


def test_mirrored_channels_are_those_of_the_mirrored_arm():
    signal = np.random.default_rng(0).normal(size=(300, len(watch.AXES)))
    # A mirror across x turns acceleration (a vector) and turning (an axial one) round like this.
    other = signal * np.array([-1, 1, 1, 1, -1, -1])
    own, expected = (with_context(window_statistics(s, 10)) for s in (signal, other))
    assert own.shape[1] == watch.NUM_CHANNELS
    mirror = runpy.run_path(str(ROOT / "configs" / "watch.py"))["get_config"]().augment.mirror
    own[:, mirror] *= -1
    np.testing.assert_allclose(own, expected, atol=1e-12)


def test_without_seglearn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'segtad-jax\[demo\]'.*--no-deps"):
        next(watch.records("training"))


def test_without_seglearn_the_command_line_says_so_in_one_line(tmp_path):
    code = (
        "import runpy, sys; sys.modules['seglearn'] = None; "  # as if it were not installed
        "runpy.run_module('segtad_jax.main', run_name='__main__', alter_sys=True)"
    )
    flags = ["--config=configs/watch.py", f"--workdir={tmp_path / 'run'}"]
    run = subprocess.run(
        [sys.executable, "-c", code, *flags, f"--config.data.dir={tmp_path / 'data'}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: the watch data set is made from signals in the package seglearn")
    assert "pip install 'segtad-jax[demo]'" in line
    assert run.stdout.endswith("once ...\n")
    assert not list((tmp_path / "data").glob("*"))


def test_another_file_is_named_and_never_unpickled(tmp_path):
    ran = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return (ran.touch, ())

    path = tmp_path / "watch_dataset.npy"
    np.save(path, np.array(Malicious(), object), allow_pickle=True)
    content = path.read_bytes()
    expected = (
        f"{path} has {len(content)} bytes and SHA-256 {hashlib.sha256(content).hexdigest()}; "
        "expected 18118091 bytes and eb122f23"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        watch.load_trials(path)
    assert not ran.exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'gone.npy'} has 0 bytes")):
        watch.load_trials(tmp_path / "gone.npy")
