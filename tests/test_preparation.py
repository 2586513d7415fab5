"""Raw signals: what is done to them is stored with the data set and done again."""

import numpy as np
import pytest

from prepare_cases import entry, good_inputs, prepare, report_of, written
from segtad_jax.data import preparation
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.signals import Normalisation, window_statistics, with_context
from segtad_jax.prepare import build
from test_features import write


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Those of a command that writes no page, which takes most of the time."""
    monkeypatch.setattr(build, "write_page", lambda path, report: None)
    return good_inputs(tmp_path)


def signals(channels=3):
    return {
        f"x{index}": np.random.default_rng(index).normal(size=(300 + 20 * index, channels))
        for index in range(8)
    }


def test_features_are_normalised_by_the_training_recordings(tmp_path, inputs):
    raw = signals()
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


def test_a_signal_shorter_than_a_frame_is_left_out(tmp_path, inputs):
    raw = signals() | {"x2": np.zeros((9, 3))}
    inputs["features"] = write(tmp_path / "raw", "npy", raw)
    assert prepare(inputs, "--signals=statistics", "--rate=50") == 0
    defects = report_of(inputs["output"] / "mine" / "1.0.0")["defects"]
    (item,) = defects["empty"]["items"]
    assert item["video"] == "x2"
    assert item["value"] == "a signal of 9 samples is shorter than a frame of 10"


def test_without_training_recordings_there_is_nothing_to_normalise_by(tmp_path, inputs, capsys):
    inputs["features"] = write(tmp_path / "raw", "one.npz", signals())
    only = {"database": {f"x{i}": entry(i, subset="validation") for i in range(8)}}
    inputs["annotations"] = written(tmp_path / "only.json", only)
    assert prepare(inputs, "--signals=statistics", "--rate=50") == 1
    assert "no training recording can be read" in capsys.readouterr().err


@pytest.mark.parametrize(("rate", "samples"), [(50.0, 10), (100.0, 20), (52.0, 10), (1.0, 2)])
def test_frames_are_as_near_to_5_hz_as_samples_allow(rate, samples):
    assert preparation.samples_per_frame(rate) == samples
