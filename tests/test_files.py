"""Files appear whole or not at all, on disks and on object stores; logs grow on both."""

import errno
import json
import os
import pathlib

import pytest
from etils import epath

from segtad_jax import train
from segtad_jax.evaluation.report.curves import read_series
from segtad_jax.predict.output import Output, Prediction
from segtad_jax.runtime import files
from segtad_jax.runtime.metric_log import MetricLog
from tests.object_store import bucket_in
from tests.tiny_runs import logged, short


@pytest.fixture
def bucket(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    return bucket_in(tmp_path, monkeypatch)


def test_objects_are_told_from_files() -> None:
    assert files.on_object_store("gs://bucket/run")
    assert files.on_object_store(epath.Path("gs://bucket/run") / "metrics.json")
    assert not files.on_object_store("runs/gs:/x")
    assert files.absolute("gs://bucket/run") == epath.Path("gs://bucket/run")
    assert files.absolute("run") == epath.Path(pathlib.Path.cwd() / "run")


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch) -> None:
    path = tmp_path / "metrics.json"
    files.write_whole(path, "before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*metrics\.json'"):
        files.write_whole(path, "after")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"metrics.json": "before"}


def test_the_stand_in_refuses_what_an_object_store_cannot(bucket) -> None:
    path = epath.Path("gs://bucket/a")
    path.write_text("x")
    with pytest.raises(AssertionError, match="no mode a"), path.open("a"):
        pass
    with pytest.raises(NotImplementedError, match="cannot rename"):
        path.replace("gs://bucket/b")


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_a_log_grows_by_lines(where: str, bucket, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "MOST_PARTS", 3)
    path = epath.Path("gs://bucket/log" if where == "bucket" else tmp_path / "log")
    log = files.LineLog(path)
    assert log.read() == []
    log.rewrite(["0"])
    for number in range(1, 8):
        log.append(str(number))
        # As another process sees it.
        assert files.LineLog(path).read() == [str(n) for n in range(number + 1)]
        parts = list((bucket / "log.parts").glob("*"))
        assert len(parts) == (number % 3 if where == "bucket" else 0)
    log.join()
    assert path.read_text() == "".join(f"{n}\n" for n in range(8))
    assert not (bucket / "log.parts").exists()


def test_a_resumed_log_on_an_object_store_drops_what_was_not_saved(bucket) -> None:
    logger = MetricLog("gs://bucket/run", 0, 30)
    for step in (10, 20, 30):
        logger.write(step, {"loss/total": 1 / step})
    # Killed here: nothing is joined.
    assert (bucket / "run" / "metrics.jsonl").read_text() == ""
    assert list(read_series("gs://bucket/run/metrics.jsonl")["loss/total"]) == [10, 20, 30]
    with MetricLog("gs://bucket/run", 20, 30) as logger:
        logger.write(30, {"loss/total": 7.0})
    assert [line["step"] for line in logged(bucket / "run")] == [10, 20, 30]
    assert logged(bucket / "run")[-1]["loss/total"] == 7
    assert {p.name for p in (bucket / "run").iterdir()} == {"metrics.jsonl"}


def test_predictions_on_an_object_store(bucket) -> None:
    wanted = dict.fromkeys("abc", "first")
    output = Output(epath.Path("gs://bucket/found.json"), {"step": 3}, wanted, print)
    with output.held(0):
        output.add({"a": Prediction("first", []), "b": Prediction("first", "is empty")})
        output.add({"c": Prediction("first", [])})
        assert set(output.done()) == {"a", "b", "c"}
        output.finish(output.done(), {})
    assert {p.name for p in bucket.iterdir()} == {"found.json"}
    assert set(json.loads((bucket / "found.json").read_text())["results"]) == {"a", "c"}


@pytest.mark.slow
def test_a_run_on_an_object_store_is_one_on_a_disk(
    bucket: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the checkpoints, whose arrays Orbax writes past epath: those are on the disk here."""
    opened = train.Checkpoints
    monkeypatch.setattr(
        train, "Checkpoints", lambda folder, *args, **kw: opened(tmp_path / "own", *args, **kw)
    )
    config = short(str(tmp_path / "data"), train__steps=8)
    train.train(config, "gs://bucket/run", profile="3:2")
    monkeypatch.undo()
    train.train(config, tmp_path / "disk")
    assert logged(bucket / "run") == logged(tmp_path / "disk")
    names = {p.name for p in (bucket / "run").iterdir()}
    expected = {p.name for p in (tmp_path / "disk").iterdir()}
    assert names == expected - {"checkpoints", "tensorboard"} | {"profile"}
    for name in ("config.json", "detections.json", "metrics.json"):
        assert (bucket / "run" / name).read_bytes() == (tmp_path / "disk" / name).read_bytes()
