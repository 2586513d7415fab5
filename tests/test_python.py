"""`segtad_jax.load` from Python: lists, DataFrames, frames, what is returned, the docs' service."""

import dataclasses
import json
import pickle
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from http.server import HTTPServer
from pathlib import Path

import jax
import numpy as np
import pytest

import segtad_jax
from segtad_jax import postprocess
from segtad_jax.data.clocks import Clock
from segtad_jax.data.dataframes import MemorySource
from segtad_jax.data.feature_files import FeatureError
from segtad_jax.data.preparation import FILE, Preparation
from segtad_jax.postprocess import Detection
from segtad_jax.predict import __main__ as predict
from segtad_jax.predict.detections import Detections
from segtad_jax.predict.frame_file import FrameFile
from segtad_jax.predict.recording_files import RecordingFiles
from tests.test_predict import config
from tests.tiny_runs import random_run

RATE, NAMES = 5.0, ("x", "y", "z")
KNOTS = [[0.2, 0.3], [0.4, 0.4], [0.8, 0.6], [1.0, 0.9]]  # of confidences
PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"


class Column:
    """What a column and an index of pandas have in common."""

    def __init__(self, values, name=None):
        self.values, self.name = np.asarray(values), name


class DataFrame:
    """What `dataframes` uses of pandas' and polars' tables; polars' have no index."""

    def __init__(self, columns, index=None):
        self._columns = {name: Column(values) for name, values in columns.items()}
        self.columns = list(columns)
        if index is not None:
            self.index = index

    def __getitem__(self, name):
        return self._columns[name]

    def __len__(self):
        return len(next(iter(self._columns.values())).values)

    def to_numpy(self):
        return np.stack([column.values for column in self._columns.values()], axis=1)


PREPARATION = Preparation(
    name="mine", widths=(3,), rate=RATE, num_frames=None, resize="linear", window=64,
    dtype="float32", columns=(NAMES,),
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    made = random_run(folder / "run", config(folder / "data"), ["jump", "walk"], 3)
    (made / FILE).write_text(json.dumps(PREPARATION.to_json()))
    return made


@pytest.fixture(scope="module")
def model(run):
    return segtad_jax.load(str(run))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(90, 3))


def table(x, index=None, names=NAMES):
    return DataFrame(dict(zip(names, x.T, strict=True)), index)


def test_a_model_says_what_it_is(model):
    assert repr(model) == (
        "<segtad_jax model: step 20, 2 classes (jump, walk), 3 channels (x, y, z), at 5 Hz, "
        "no thresholds>"
    )
    many = tuple(f"c{n}" for n in range(30))
    scored = dataclasses.replace(model, classes=many, thresholds={"a": 0.25, "b": 0.5})
    assert "30 classes (c0, c1, c2, c3, c4, c5, ...)" in repr(scored)
    assert "thresholds 0.25 to 0.5" in repr(scored)


def test_what_is_public_is_for_people(model):
    fields = {field.name for field in dataclasses.fields(model)}
    public = {name for name in vars(type(model)) if not name.startswith("_")}
    assert public - fields >= {"detect", "frames", "threshold", "warm_up"}
    assert not public & {"prepare", "inputs", "detect_in", "detect_all", "require_rate"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_scor": 1}, "min_scor=1: config.eval has .*min_score"),
        ({"min_score": "a"}, "config.eval: .*'min_score'.* a "),
        ({"max_detections": 0}, r"eval\.max_detections.*0"),
    ],
)
def test_settings_that_differ_from_the_run(run, model, x, settings, message):
    with pytest.raises(ValueError, match=message):
        segtad_jax.load(str(run), **settings)
    assert segtad_jax.load(str(run), max_detections=5).detect(x) == model.detect(x)[:5]


def test_detections_are_a_list_and_json(model, x):
    found = model.detect(x)
    assert isinstance(found, list)
    assert isinstance(found, Detections)
    first = found[0]
    assert first == (first.start, first.end, first.label, first.score)
    assert first.segment == (first.start, first.end)
    rows = json.loads(json.dumps(found.to_dict()))["detections"]
    assert [Detection(*row["segment"], row["label"], row["score"]) for row in rows] == found
    assert pickle.loads(pickle.dumps(Detections(found, "2024-05-01T10:00:00"))).date  # noqa: S301
    assert (found.confidences, Detections(found, knots=[]).confidences) == (None, None)
    two = Detections([Detection(0.0, 1.0, "a", 0.9), Detection(0.0, 1.0, "a", 0.3)], "", KNOTS)
    assert two.confidences == pytest.approx([0.75, 0.35])
    assert [row["confidence"] for row in two.to_dict()["detections"]] == two.confidences
    assert "confidence" not in rows[0]
    dated = Detections([Detection(1.5, 2.0, "a", 0.5)], "2024-05-01T10:00:00+02:00").to_dict()
    assert dated["date"] == "2024-05-01T10:00:00+02:00"
    assert dated["detections"][0]["times"] == [
        "2024-05-01T10:00:01.500+02:00", "2024-05-01T10:00:02.000+02:00",
    ]  # fmt: skip


def read(value, preparation=PREPARATION):
    files = RecordingFiles(preparation, [MemorySource.of(value, preparation.rate)])
    return files.read("recording")


def with_gap(rows):
    seconds = np.arange(rows) / RATE
    return np.where(np.arange(rows) < 60, seconds, seconds + 7)


def stamps(seconds, unit="us"):
    return (np.asarray(seconds) * 1e6).astype("timedelta64[us]").astype(f"timedelta64[{unit}]")


START = np.datetime64("2024-05-01T10:00:00")


@pytest.mark.parametrize(
    ("index", "date"),
    [
        (lambda t: Column(START + stamps(t), "when"), "2024-05-01T10:00:00.000000"),
        (lambda t: Column(START + stamps(t, "ns")), "2024-05-01T10:00:00.000000"),
        (lambda t: Column(stamps(t, "ns")), ""),
        (Column, ""),
        (lambda t: Column(1000 * t), ""),  # ms, which come nearest to the model's rate
        (lambda t: Column(t / 60, "seconds"), None),  # as the name says: another rate
    ],
)
@pytest.mark.parametrize("clocks", [(), (Clock("time", "ms"),)])
def test_the_index_gives_times_whatever_those_of_training_were(x, index, date, clocks):
    given = table(x, index(with_gap(len(x))))
    found = read(given, dataclasses.replace(PREPARATION, clocks=clocks))
    if date is None:
        assert sum(len(piece.arrays[0]) for piece in found.pieces) < 3
        return
    assert [piece.start for piece in found.pieces] == [0, pytest.approx(19)]
    np.testing.assert_allclose(
        np.concatenate([piece.arrays[0] for piece in found.pieces]), x, atol=1e-6
    )
    assert found.timeline.date == date
    assert ("gap", "gap of 7.2 s at 11.8 s: split") in found.notes


def test_columns_are_checked_by_their_names(x):
    turned = read(table(x[:, ::-1], names=NAMES[::-1]))
    np.testing.assert_array_equal(turned.pieces[0].arrays[0], x.astype(np.float32))
    assert turned.notes == [("column_order", "z, y, x")]
    with pytest.raises(FeatureError, match="no column 'z' and unknown 'w'; expected x, y, z"):
        read(table(x, names=("x", "y", "w")))
    twice = table(x)
    twice.columns = ["x", "x", "y"]
    with pytest.raises(FeatureError, match="two columns are called 'x'"):
        read(twice)
    unnamed = read(table(x, names=(0, 1, 2)))  # as a DataFrame of an array
    np.testing.assert_array_equal(unnamed.pieces[0].arrays[0], x.astype(np.float32))


def test_times_in_a_column_are_those_of_a_csv(x):
    columns = dict(zip(NAMES, x.T, strict=True))
    columns["time"] = START + stamps(with_gap(len(x)))
    timed = dataclasses.replace(PREPARATION, clocks=(Clock("time"),))
    assert len(read(DataFrame(columns), timed).pieces) == 2
    texts = columns | {"time": columns["time"].astype(str).astype(object)}
    assert len(read(DataFrame(texts, Column(np.arange(len(x)))), timed).pieces) == 2


@pytest.mark.parametrize("value", ["oops", None])
def test_a_cell_that_is_no_number_is_named(x, value):
    columns = dict(zip(NAMES, x.T.astype(object), strict=True))
    columns["y"][5] = value
    with pytest.raises(FeatureError, match=rf"column 'y'.*row 5: '{value}'|nan at frame 5, .* 1 "):
        read(DataFrame(columns))


def test_an_index_that_is_no_time_counts_nothing(x):
    rows = read(table(x, Column(np.arange(len(x)))))  # as pandas numbers rows
    assert (rows.timeline, rows.notes) == (None, [])
    named = read(table(x, Column([f"row {n}" for n in range(len(x))], "name")))
    assert (named.timeline, named.notes) == (None, [("not_read", "'name'")])


def test_a_data_frame_and_lists_from_python(model, x):
    expected = model.detect(x.astype(np.float32))
    assert (
        model.detect(x.tolist()) == model.detect(table(x)) == model.detect([table(x)]) == expected
    )
    seconds = with_gap(len(x))
    with pytest.warns(UserWarning, match=r"gap of 7\.2 s"):
        dated = model.detect(table(x, Column(START + stamps(seconds))))
    assert dated.date == "2024-05-01T10:00:00.000000"
    assert dated.to_dict()["detections"][0]["times"]
    assert any(found.start >= 19 for found in dated)
    with pytest.raises(FeatureError, match="no column 'x'"):
        model.detect(table(x, names=("a", "b", "c")))


def test_times_that_a_model_cannot_use_are_refused_if_they_are_named(tmp_path, x):
    np.save(tmp_path / "a.npy", x)
    without = dataclasses.replace(PREPARATION, rate=None)
    assert RecordingFiles(without, [str(tmp_path)], clock=None)
    with pytest.raises(ValueError, match=r"--time .*no rate.*leave it out.*--rate or --durations"):
        RecordingFiles(without, [str(tmp_path)], clock=Clock("when", "ms"))


def test_probabilities_of_frames(model, x):
    long = np.concatenate([x, x])
    frames = model.frames(long, threshold=0.0)
    for ours, alone in zip(frames.detections, model.detect(long), strict=True):
        assert ours.label == alone.label
        assert [*ours.segment, ours.score] == pytest.approx([*alone.segment, alone.score], rel=1e-4)
    assert frames.classes == ("background", "jump", "walk")
    assert frames.probabilities.shape == (len(long), 3)
    np.testing.assert_allclose(frames.probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(frames.times, (np.arange(len(long)) + 0.5) / RATE)
    with pytest.warns(UserWarning, match="gap"):
        pieces = model.frames(table(x, Column(with_gap(len(x)))))
    np.testing.assert_allclose(pieces.times, with_gap(len(x)) + 0.5 / RATE)
    alone = model.frames(x[:60])
    np.testing.assert_allclose(pieces.probabilities[:60], alone.probabilities, atol=1e-5)


def test_seconds_are_those_of_the_rate_that_is_given(model, x):
    """One a little off training's, as clocks of sensors are: the network sees the same frames."""
    trained, given = model.detect(x), model.detect(x, rate=1.01 * RATE)
    assert [d.score for d in given] == [d.score for d in trained]
    ends = np.array([d.segment for d in trained])
    np.testing.assert_allclose(ends / 1.01, [d.segment for d in given], rtol=1e-6)
    stream = [
        [*s.push(x), *s.finish()]
        for s in (model.stream(threshold=0), model.stream(threshold=0, rate=1.01 * RATE))
    ]
    assert len(stream[0]) > 5
    ends = np.array([d.segment for d in stream[0]])
    np.testing.assert_allclose(ends / 1.01, [d.segment for d in stream[1]], rtol=1e-6)


def test_after_warming_up_nothing_is_compiled(run, x, caplog):
    model = segtad_jax.load(str(run))
    model.config.eval.min_score = 0.22  # so that some candidates exist, of zeros others
    model.warm_up(windows=4)
    with caplog.at_level("WARNING", logger="jax"), jax.log_compiles():
        for rows in (64, 90, 150, 2500):  # 1, 2, 4 and many windows
            caplog.clear()
            assert model.detect(np.resize(x, (rows, 3)))
            compiled = [r for r in caplog.records if "Compiling" in r.getMessage()]
            assert bool(compiled) == (rows == 2500)


def test_a_pool_that_was_cut_is_told(run, model, tmp_path, monkeypatch):
    """From Python as a warning, by the command as a note on the recording."""
    monkeypatch.setattr(postprocess, "POOLED", 1)
    monkeypatch.setattr(postprocess, "LANES", 16)
    message = r"exact down to a score of 0\.\d+ .*cut it into shorter recordings"
    long = np.random.default_rng(0).normal(size=(300, 3))
    with pytest.warns(UserWarning, match=message):
        model.detect(long)
    folder = tmp_path / "raw"
    folder.mkdir()
    np.save(folder / "long.npy", long)
    np.save(folder / "short.npy", long[:60])
    assert detected(run, folder) == 0
    notes = json.loads((tmp_path / "f.json").read_text())["external_data"]["notes"]
    assert list(notes) == ["long"]
    assert re.search(message, notes["long"])


def detected(run, folder, *flags):
    base = [f"--checkpoint={run}", f"--features={folder}", f"--output={folder.parent / 'f.json'}"]
    return predict.main([*base, *flags])


def test_the_command_writes_the_frames_of_all_recordings(run, model, x, tmp_path, capsys):
    folder = tmp_path / "raw"
    folder.mkdir()
    header = ",".join(NAMES)
    for name, rows in (("a", 90), ("b", 40)):
        np.savetxt(folder / f"{name}.csv", x[:rows], "%.6f", ",", header=header, comments="")
    (folder / "broken.csv").write_text(header + "\n1,2\n")
    path = tmp_path / "new" / "frames.npz"
    assert detected(run, folder) == 3  # kept, but without frames
    assert detected(run, folder, f"--frames={path}") == 3
    assert f"Probabilities of every frame: {path}" in capsys.readouterr().out
    with np.load(path) as arrays:
        assert sorted(arrays) == [
            "a/probabilities", "a/times", "b/probabilities", "b/times", "classes", "identity",
        ]  # fmt: skip
        assert arrays["classes"].tolist() == ["background", "jump", "walk"]
        for name in "ab":
            expected = model.frames(folder / f"{name}.csv")
            np.testing.assert_allclose(
                arrays[f"{name}/probabilities"], expected.probabilities, atol=1e-5
            )
            np.testing.assert_array_equal(arrays[f"{name}/times"], expected.times)
    first = path.read_bytes()
    (folder / "broken.csv").unlink()
    (folder / "b.csv").unlink()
    assert detected(run, folder, f"--frames={path}") == 0
    assert path.read_bytes() != first
    with np.load(path) as arrays:
        assert "b/times" not in arrays
    time = path.stat().st_mtime_ns
    assert detected(run, folder, f"--frames={path}") == 0  # is finished
    assert path.stat().st_mtime_ns == time


def test_frames_are_written_whole_or_not_at_all(tmp_path):
    sources = {"a": "1", "b": "2"}
    path = tmp_path / "f.npz"
    (tmp_path / f".f.npz.{'0' * 32}").write_bytes(b"of a killed process")
    frames = FrameFile(path, {"step": 1}, sources)
    with pytest.raises(ValueError, match="Object arrays"), frames.writing(["x"]) as add:
        add("a", np.ones((3, 2)), np.array([[1]], object))  # as whatever fails meanwhile
    assert not [*tmp_path.iterdir()]
    with frames.writing(["x"]) as add:
        add("a", np.ones((3, 2)), np.arange(3.0))
    assert FrameFile(path, {"step": 1}, sources).done
    assert not FrameFile(path, {"step": 2}, sources).done
    with pytest.raises(ValueError, match=r"'\.\./x'.*rename it"):
        FrameFile(path, {}, {"../x": "1"})
    for content in (b"PK", b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"f\.npz: is there.*move it away"):
            FrameFile(path, {}, sources)
    np.savez(path, feats=np.ones(3))
    with pytest.raises(ValueError, match="no file of frames"):
        FrameFile(path, {}, sources)


@pytest.mark.parametrize("flags", [["--frames=f.csv"], ["--frames=f.npz", "--num_processes=2"]])
def test_frames_that_cannot_be_written_are_refused_at_once(flags, capsys):
    with pytest.raises(SystemExit) as status:
        predict.main(["--checkpoint=r", "--features=f", "--output=o.json", *flags])
    assert status.value.code == 2
    assert flags[0].partition("=")[0] in capsys.readouterr().err


def test_the_service_of_the_page(run, model, x, monkeypatch):
    code = re.search(r"```python\n(import json\n.*?)```", PAGE.read_text(), re.DOTALL)[1]
    assert len(code.splitlines()) <= 36
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = code.replace("runs/mine", str(run)).replace("8000", str(port))
    monkeypatch.setattr(
        HTTPServer, "serve_forever", lambda server: [server.handle_request() for _ in range(4)]
    )
    monkeypatch.setattr(type(model), "warm_up", lambda self: None)  # has its own test
    thread = threading.Thread(target=exec, args=(code, {}), daemon=True)
    thread.start()

    def asked(content):
        request = urllib.request.Request(f"http://127.0.0.1:{port}", json.dumps(content).encode())
        for _ in range(300):
            try:
                with urllib.request.urlopen(request) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)
            except urllib.error.URLError:  # it does not listen yet
                time.sleep(0.1)
        raise AssertionError("the service never listened")

    status, answer = asked({"samples": x.tolist(), "threshold": 0})
    assert (status, answer) == (200, model.detect(x).to_dict())
    status, answer = asked({"samples": x.tolist()})
    assert (status, "has no thresholds" in answer["error"]) == (400, True)
    status, answer = asked({"samples": "/etc/passwd", "threshold": 0})
    assert (status, "could not convert" in answer["error"]) == (400, True)
    status, answer = asked({"samples": x[:, :2].tolist(), "threshold": 0})
    assert (status, "2 channels, expected 3" in answer["error"]) == (400, True)
    thread.join(30)
    assert not thread.is_alive()
