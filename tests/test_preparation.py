"""Raw signals: what is done to them is stored with the data set and done again."""

import re

import numpy as np
import pytest

from prepare_cases import arrays, entry, features, good_inputs, prepare, report_of, written
from segtad_jax.data import preparation
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.signals import (
    Normalisation,
    samples_per_frame,
    window_statistics,
    with_context,
)
from segtad_jax.prepare import build
from test_features import write


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Those of a command that writes no page, which takes most of the time."""
    monkeypatch.setattr(build, "write_page", lambda *page: None)
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
    assert samples_per_frame(rate) == samples


def defects_of(inputs):
    defects = report_of(inputs["output"] / "mine" / "1.0.0")["defects"]
    return {kind: [(i["video"], i["value"]) for i in d["items"]] for kind, d in defects.items()}


def test_what_training_had_is_stored(tmp_path, inputs, capsys):
    stored = arrays()
    for x in stored.values():
        x[:, 2] = 7.25
    stored["v_x0"][:, 2] = 0  # never moves within a recording
    stored["v_x3"][4, 1] = 88  # of the validation split
    stored["v_x1"][5, 1] = -9999
    stored["v_x2"][5, 1] = 1e6
    inputs["features"] = write(tmp_path / "f", "npy", stored)
    assert prepare(inputs) == 0
    made = preparation.read_preparation(inputs["output"] / "mine" / "1.0.0")
    assert made.rates == (2.0, 2.0)
    assert made.trained_rates == (2.0, 2.0)
    training = np.concatenate([stored[f"v_x{index}"] for index in (0, 4, 5, 6)])
    np.testing.assert_array_equal(made.range.low, training.min(axis=0))
    np.testing.assert_array_equal(made.range.high, training.max(axis=0))
    again = preparation.Preparation.from_json(made.to_json())
    np.testing.assert_array_equal(again.range.high, made.range.high)
    assert again.rates == made.rates
    defects = defects_of(inputs)
    ((video, value),) = defects["fill_value"]
    assert video == "x1"
    assert "v_x1.npy: -9999 at frame 5, channel 1 (1 such; the others are" in value
    ((video, value),) = defects["outlier"]
    assert (video, value[:26]) == ("x2", "1e+06 at frame 5, channel ")
    assert defects["dead_channels"] == [("2", "")]
    printed = capsys.readouterr().out
    assert "-9999 at frame 5, channel 1" in printed
    assert "dead_channels" in printed
    old = {k: v for k, v in made.to_json().items() if k not in ("range", "rates", "columns")}
    assert preparation.Preparation.from_json(old).range is None


def test_columns_of_csv_files(tmp_path, inputs):
    (tmp_path / "f").mkdir()
    names = ["time", "b", "a", "c"]
    for index in range(8):
        x = np.column_stack([np.arange(20 + index) / 2, features(index, channels=3)])
        order = [0, 1, 2, 3] if index != 5 else [3, 0, 2, 1]
        header = ["other" if index == 6 and n == "c" else n for n in (names[k] for k in order)]
        path = tmp_path / "f" / f"x{index}.csv"
        np.savetxt(path, x[:, order], "%.9g", ",", header=",".join(header), comments="")
    inputs["features"] = tmp_path / "f"
    assert prepare(inputs) == 0
    directory = inputs["output"] / "mine" / "1.0.0"
    made = preparation.read_preparation(directory)
    assert made.columns == (("b", "a", "c"),)
    assert (made.widths, len(made.range.low)) == ((3,), 3)
    defects = defects_of(inputs)
    ((column, told),) = defects["time_column"]
    assert column == "time"
    assert re.match(r"'time': 0, 0\.5, 1, \.\.\.; times in s, .*--time=time:UNIT", told)
    assert defects["column_order"] == [("x5", "c, time, a, b")]
    ((video, value),) = defects["wrong_columns"]
    assert video == "x6"
    assert "has no column 'c' and unknown 'other'; expected b, a, c" in value
    dataset = open_dataset(directory)
    for recording in dataset.recordings("training"):
        index = int(recording.video[1:])
        np.testing.assert_array_equal(dataset.features(recording), features(index, channels=3))
    assert prepare(inputs | {"name": "strict"}, "--strict") == 4
