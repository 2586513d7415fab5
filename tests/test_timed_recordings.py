"""Recordings with times of their own, from files to records, and from files to detections."""

import json
import re
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.io import savemat

import segtad_jax
from prepare_cases import report_of
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.feature_files import FeatureError
from segtad_jax.data.features import open_source, read_recording
from segtad_jax.data.preparation import FILE, read_preparation
from segtad_jax.evaluation.__main__ import main as score
from segtad_jax.predict import __main__ as predict
from segtad_jax.predict.inputs import Input, InputMaker
from segtad_jax.predict.recording_files import RecordingFiles
from segtad_jax.prepare import build
from segtad_jax.prepare.__main__ import main
from test_features import write_mat73
from test_predict import config
from tests.tiny_runs import random_run
from timed_cases import (
    COLUMNS,
    LABELS,
    RATE,
    START,
    WITH_GAP,
    by_hand,
    own_times,
    signal,
    write_labels,
    write_recordings,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The ten recordings and their labels."""
    made = tmp_path_factory.mktemp("timed")
    write_recordings(made)
    write_labels(made / "labels.csv")
    return made


@pytest.fixture(autouse=True)
def _no_page(monkeypatch):
    """Writes no page, which takes most of the time."""
    monkeypatch.setattr(build, "write_page", lambda *rest: None)
    monkeypatch.setattr(build, "look_through", lambda *rest: [])


def prepare(folder, output, *more):
    return main(
        [
            "--name=mine", f"--features={folder / 'raw'}", f"--annotations={folder / 'labels.csv'}",
            f"--channels={','.join(COLUMNS)}", f"--output={output}", "--dtype=float32",
            "--window=64", *more,
        ]
    )  # fmt: skip


def records(output):
    dataset = open_dataset(output / "mine" / "1.0.0")
    return {
        r.video: (r, dataset.features(r), [dataset.classes[label - 1] for label in r.labels])
        for recordings in dataset.splits.values()
        for r in recordings
    }


def told(output, kind):
    items = report_of(output / "mine" / "1.0.0")["defects"].get(kind, {"items": []})["items"]
    return {item["video"]: item["value"] for item in items}


@pytest.mark.parametrize("rate", [["--rate=50"], []])
def test_records_are_those_of_files_resampled_by_hand(folder, tmp_path, rate, capsys):
    assert prepare(folder, tmp_path, *rate) == 0
    found = records(tmp_path)
    assert len(found) == 13
    for video in (f"r{index}" for index in range(10)):
        pieces = by_hand(video)
        ids = [name for name in found if name == video or name.startswith(f"{video}#t=")]
        assert len(ids) == len(pieces) == (2 if video in WITH_GAP else 1)
        for name, (start, samples) in zip(sorted(ids), pieces.items(), strict=True):
            record, features, labels = found[name]
            assert record.rate == RATE
            assert abs(len(features) - len(samples)) <= 1
            inner = slice(1, min(map(len, (features, samples))) - 1)
            # Of a wave of 2 Hz and amplitude 2, the mean of two samples is 0.8 % lower.
            np.testing.assert_allclose(features[inner], samples[inner], atol=0.02)
            assert record.duration == pytest.approx(len(features) / RATE)
            truth = [
                (label, max(a - start, 0), min(b - start, record.duration))
                for label, where in LABELS.items()
                for a, b in where
                if min(b - start, record.duration) - max(a - start, 0) > 0.02
            ]
            assert labels == [label for label, *_ in truth]
            np.testing.assert_allclose(record.segments, [t[1:] for t in truth], atol=2e-3)
    assert told(tmp_path, "gap") == {
        "r2": "gap of 6.0 s at 82.99 s: split",
        "r5": "gap of 6.0 s at 82.99 s: split",
        "r7": "gap of 6.0 s at 82.98 s: split",
    }
    resampled = told(tmp_path, "resampled")
    assert sorted(resampled) == ["r1", "r2", "r4", "r5", "r7", "r8"]
    assert resampled["r4"] == "52.3 Hz by 'timestamp', resampled to 50 Hz"
    assert set(told(tmp_path, "in_gap").values()) == {"[85, 87] fall"}
    assert told(tmp_path, "cut_at_gap")["r5"] == "[80, 92] wave: 6 s of it are recorded"
    chosen = re.search(
        "without --rate all is brought to 50 Hz.*52.3, 100 Hz", capsys.readouterr().out
    )
    assert bool(chosen) == (not rate)
    times = report_of(tmp_path / "mine" / "1.0.0")["times"]
    assert times["r7"]["gaps"] == [[pytest.approx(82.98, abs=0.01), pytest.approx(6.02, abs=0.02)]]
    assert times["r7"]["rate"] == pytest.approx(52.3)
    assert report_of(tmp_path / "mine" / "1.0.0")["splits"]["training"]["found"] == 8


def test_gaps_are_filled_if_asked(folder, tmp_path):
    assert prepare(folder, tmp_path, "--rate=50", "--gaps=fill") == 0
    found = records(tmp_path)
    assert sorted(found) == [f"r{index}" for index in range(10)]
    _, features, labels = found["r2"]
    assert len(features) == 6000
    assert "fall" in labels
    straight = np.linspace(features[4160], features[4440], 281)
    np.testing.assert_allclose(features[4160:4441], straight, atol=1e-3)
    assert told(tmp_path, "gap")["r2"] == "gap of 6.0 s at 82.99 s: filled"


@pytest.mark.slow
def test_times_are_not_used_if_asked(folder, tmp_path):
    assert prepare(folder, tmp_path, "--rate=50", "--time=none") == 0
    found = records(tmp_path)
    assert len(found["r1"][1]) == len(own_times("r1"))
    assert not told(tmp_path, "resampled")
    assert read_preparation(tmp_path / "mine" / "1.0.0").clocks == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--time=clock"], "--time=clock: no file of .*raw has such a column"),
        (["--time=none", "--signals=statistics"], "--signals needs --rate=HZ, or times in every"),
        (["--channels=acc_x,gyr_x"], r"r0\.csv: has no column 'gyr_x'; expected acc_x, gyr_x"),
        (
            ["--time=acc_x"],
            r"no file has times that can be used; the first: row \d+: the time falls",
        ),
        (
            ["--channels=acc_x,gyr_x", "--signals=statistics"],
            r"no training recording can be used; the first: .*r\d\.csv: has no column 'gyr_x'",
        ),
        (["--channels=acc_x,note"], r"r0\.csv: line 2, column 5 \('note'\): 'ok' is no number"),
    ],
)
def test_what_cannot_be_done_says_why(folder, tmp_path, more, message, capsys):
    assert prepare(folder, tmp_path, *more) == 1
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def damaged(path, change):
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")


@pytest.mark.slow
def test_each_file_that_cannot_be_read_is_named(folder, tmp_path, capsys):
    shutil.copytree(folder / "raw", tmp_path / "raw")
    shutil.copy(folder / "labels.csv", tmp_path)
    damaged(tmp_path / "raw" / "r0.csv", lambda lines: lines + lines[1:])
    damaged(
        tmp_path / "raw" / "r1.csv",
        lambda lines: [lines[0], "01.05.2024 10:00:00,1,2,3,ok", *lines[2:]],
    )
    damaged(
        tmp_path / "raw" / "r3.csv",
        lambda lines: [line.partition(",")[2] for line in lines],
    )
    damaged(tmp_path / "raw" / "r9.csv", lambda lines: [*lines[:1], *lines[3000:3004]])
    assert prepare(tmp_path, tmp_path, "--rate=50", "--signals=statistics") == 0
    assert re.search(
        r"r0\.csv: row 6001: the time falls from 1714557720 to 1714557600 s: .*--time=none",
        told(tmp_path, "bad_times")["r0"].replace("1714557719.98", "1714557720"),
    )
    assert re.search(
        r"r1\.csv: line 2, column 1 \('timestamp'\): '01\.05\.2024 10:00:00' is no number: write "
        "dates as 2024-05-01T10:00:00.*--channels=A,B --time=none --rate=HZ",
        told(tmp_path, "bad_times")["r1"],
    )
    assert "r3" in told(tmp_path, "no_times")
    assert "r9" in told(tmp_path, "empty")
    assert "r3" in records(tmp_path)


def one_form(folder, form, video="r4"):
    """Writes a recording of the ten in another form of file, into a folder of its own."""
    target = folder / form
    target.mkdir()
    times = own_times(video)
    x = signal(video, times).astype(np.float32)
    path = target / f"{video}.{form.rpartition('.')[2]}"
    columns = dict(zip(COLUMNS, x.T, strict=True))
    date = np.datetime64("2024-05-01T08:00:00", "us") + (times * 1e6).round().astype(int)
    milliseconds = (1000 * times).round(3)
    if form in ("csv", "tsv"):
        between = {"csv": ";", "tsv": "\t"}[form]
        table = np.column_stack([milliseconds, x])
        header = between.join(["elapsed (ms)", *COLUMNS])
        np.savetxt(path, table, "%.9g", between, header=header, comments="")
    elif form == "date.parquet":
        parquet.write_table(pa.table({**columns, "__index_level_0__": date}), path)
    elif form == "text.parquet":
        parquet.write_table(pa.table({"t": np.datetime_as_string(date), **columns}), path)
    elif form == "mat":
        savemat(path, {"time": times, "acc": x, "hz": 52.3}, oned_as="column")
    elif form == "vectors.mat":
        savemat(path, {"t_ms": milliseconds, **columns})
    elif form == "7.3.mat":
        write_mat73(path, timestamps=times[:, None], acc=x)
    elif form == "npz":
        np.savez(path, feats=x.T, timestamps=times)
    elif form == "dates.npz":
        np.savez(path, acc=x, time=date)
    else:
        with h5py.File(path, "w") as file:
            file[f"{video}/feats"], file[f"{video}/times"] = x, times
        return path, x
    return target, x


@pytest.mark.parametrize(
    "form",
    [
        "csv", "tsv", "date.parquet", "text.parquet", "mat", "vectors.mat", "7.3.mat", "npz",
        "dates.npz", "h5",
    ],
)  # fmt: skip
def test_every_form_has_its_times(tmp_path, form):
    path, x = one_form(tmp_path, form)
    source = open_source(path)
    form_of = source.form(["r4"], "auto", width=3, clock=segtad_jax.data.clocks.ANY, rate=50.0)
    assert form_of.rates == (pytest.approx(52.3, rel=1e-3),)
    recorded = read_recording([source], [form_of], "r4", 50.0)
    ((start, (found,)),) = recorded.pieces
    assert start == 0
    assert len(found) == 6000
    np.testing.assert_allclose(found[1:-1], by_hand("r4")[0][1 : len(found) - 1], atol=0.03)
    assert bool(recorded.timeline.date) == ("date" in form or "text" in form)
    same = source.frames("r4", form_of).array
    np.testing.assert_allclose(same, x, atol=1e-6)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run of random parameters on the ten recordings, and their data set."""
    made = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "write_page", lambda *rest: None)
        patch.setattr(build, "look_through", lambda *rest: [])
        assert prepare(folder, made / "data", "--signals=statistics") == 0
    directory = made / "data" / "mine" / "1.0.0"
    random_run(made / "run", config(directory), ["fall", "turn", "wave"], 81)
    shutil.copy(directory / FILE, made / "run")
    return made


def detected(run, features, output, *more):
    flags = {"checkpoint": run / "run", "features": features, "output": output}
    status = predict.main([*(f"--{name}={value}" for name, value in flags.items()), *more])
    return status, json.loads(output.read_text())


@pytest.mark.slow
def test_detections_are_in_the_recordings_own_time(folder, run, tmp_path, capsys):
    status, found = detected(run, folder / "raw", tmp_path / "found.json")
    assert status == 0
    assert sorted(found["results"]) == [f"r{index}" for index in range(10)]
    rows = found["results"]["r5"]
    assert any(row["segment"][0] < 83 for row in rows)
    assert any(row["segment"][0] > 89 for row in rows)
    assert not any(83.1 < time < 88.9 for row in rows for time in row["segment"])
    assert [row["score"] for row in rows] == sorted((r["score"] for r in rows), reverse=True)
    for row in rows:
        for date, seconds in zip(row["times"], row["segment"], strict=True):
            assert date.endswith("+02:00")
            passed = (np.datetime64(date[:-6]) - np.datetime64(START.replace(tzinfo=None))) / 1
            assert passed.item().total_seconds() == pytest.approx(seconds, abs=1e-3)
    notes = found["external_data"]["notes"]
    assert "gap of 6.0 s at 82.99 s: split" in notes["r5"]
    assert "52.3 Hz by 'timestamp', resampled to 50 Hz" in notes["r1"]
    model = segtad_jax.load(str(run / "run"))
    with pytest.warns(UserWarning, match="gap of 6.0 s"):
        same = model.detect(folder / "raw" / "r5.csv")
    assert [(d.start, d.end) for d in same] == [tuple(row["segment"]) for row in rows]
    # The prepared data set gives the same, and both are scored against the labels' own times.
    status, prepared = detected(
        run, run / "data", tmp_path / "prepared.json", "--subset=validation"
    )
    assert status == 0
    assert sorted(prepared["results"]) == ["r2", "r4"]
    for video, rows in prepared["results"].items():
        ours = found["results"][video]
        assert [row["segment"] for row in rows] == [row["segment"] for row in ours]
    for truth in (folder / "labels.csv", run / "data" / "mine" / "1.0.0"):
        arguments = [f"--ground_truth={truth}", f"--predictions={tmp_path / 'prepared.json'}"]
        assert score([*arguments, "--subset=validation"]) == 0
        assert "2 videos" in capsys.readouterr().out
    for wrong, message in (
        ([folder / "raw"], "has 10 recordings, expected one"),
        ([folder / "raw" / "r0.csv"] * 2, "2 sources of features, the model takes 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.detect(wrong)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        model.detect("nowhere.csv")


def test_what_the_last_source_to_begin_has_is_where_it_was(tmp_path):
    for source, zero in (("raw", 100.0), ("more", 103.0)):
        (tmp_path / source).mkdir()
        times = zero + np.arange(1000) / 50
        on = (times >= 110) & (times < 112)
        rows = [f"{t:.2f},{x + 0.1 * np.sin(t):.4f}" for t, x in zip(times, on, strict=True)]
        for video in "ab":
            path = tmp_path / source / f"{video}.csv"
            path.write_text("\n".join([f"time,{source}", *rows]) + "\n")
    labels = ["video,start,end,label,subset", "a,10,12,on,training", "b,10,12,on,validation"]
    (tmp_path / "labels.csv").write_text("\n".join(labels) + "\n")
    flags = [
        "--name=mine", f"--features={tmp_path / 'raw'},{tmp_path / 'more'}", "--dtype=float32",
        f"--annotations={tmp_path / 'labels.csv'}", f"--output={tmp_path / 'out'}",
    ]  # fmt: skip
    assert main(flags) == 0
    record, features, _ = records(tmp_path / "out")["a#t=3,20"]
    at = np.flatnonzero(features[:, 1] > 0.5)
    assert record.segments[0] == pytest.approx([at[0] / RATE, (at[-1] + 1) / RATE], abs=1e-6)

    preparation = read_preparation(tmp_path / "out" / "mine" / "1.0.0")
    files = RecordingFiles(preparation, [str(tmp_path / "raw"), str(tmp_path / "more")])
    maker = SimpleNamespace(
        preparation=preparation,
        prepare=lambda ident, *rest: Input(SimpleNamespace(video=ident), np.zeros((1, 2)), ()),
    )
    (made,), _, _ = InputMaker.read(maker, files, "a", None, None)
    assert made.recording.video == "a#t=3,20"


def test_files_without_times_are_taken_at_the_models_rate(folder, run, tmp_path):
    (tmp_path / "raw").mkdir()
    samples = by_hand("r4")[0]
    np.save(tmp_path / "raw" / "r4.npy", samples)
    names = ",".join(reversed(COLUMNS))
    np.savetxt(
        tmp_path / "raw" / "r5.csv", samples[:, ::-1], "%.6f", ",", header=names, comments=""
    )
    status, found = detected(run, tmp_path / "raw", tmp_path / "found.json")
    assert (status, found["external_data"]["failures"]) == (
        3, {"r4": f"{tmp_path / 'raw' / 'r4.npy'}: has no column 'acc_x', 'acc_y', 'acc_z'; "
            "expected acc_x, acc_y, acc_z"},
    )  # fmt: skip
    assert "times" not in found["results"]["r5"][0]
    with pytest.raises(FeatureError, match="no column"):
        segtad_jax.load(str(run / "run")).detect(tmp_path / "raw" / "r4.npy")
