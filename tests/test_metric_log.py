"""metrics.jsonl: whole lines, once each, also after a stop."""

import json
import pathlib
from collections.abc import Iterator

import pytest

from segtad_jax.runtime import metric_log
from segtad_jax.runtime.metric_log import (
    MetricLog,
    NonFiniteLossError,
    duration,
    interval_average,
)


def lines(folder: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_log_drops_what_was_not_saved(tmp_path: pathlib.Path) -> None:
    logger = MetricLog(tmp_path, 0, 30)
    for step in (10, 20, 30):
        logger.write(step, {"loss/total": 1 / step})
    logger.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "loss/to')  # killed while writing
    logger = MetricLog(tmp_path, 20, 30)
    assert [line["step"] for line in lines(tmp_path)] == [10, 20]
    logger.write(30, {"loss/total": 7.0})
    assert lines(tmp_path)[-1] == {"step": 30, "loss/total": 7.0}
    logger.close()


def test_a_damaged_line_is_named_and_one_that_was_cut_off_is_dropped(tmp_path, caplog) -> None:
    path = tmp_path / "metrics.jsonl"
    for damaged in (b"{", b"3", b'{"x": 1}', b'{"step": "a"}', b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(b'{"step": 1}\n' + damaged + b'\n{"step": 3}\n')
        with pytest.raises(ValueError, match=rf"{path}, line 2 does not read.*Remove the line"):
            MetricLog(tmp_path, 3, 9)
        path.write_bytes(b'{"step": 1}\n' + damaged)
        with MetricLog(tmp_path, 3, 9):
            assert path.read_text() == '{"step": 1}\n'
        assert "dropped a line that was cut off" in caplog.text
        caplog.clear()
    path.write_text("")
    with MetricLog(tmp_path, 3, 9):
        assert "metrics.jsonl is empty: the curves begin at step 3" in caplog.text


def test_a_line_is_written_once(tmp_path: pathlib.Path) -> None:
    first = MetricLog(tmp_path, 0, 10)
    first.write(10, {"loss/total": 1.0})
    first.write(10, {"eval/map_0.50": 0.5})
    first.close()
    again = MetricLog(tmp_path, 10, 10)
    again.write(10, {"eval/map_0.50": 0.5})
    again.close()
    assert lines(tmp_path) == [
        {"step": 10, "loss/total": 1.0},
        {"step": 10, "eval/map_0.50": 0.5},
    ]


def test_tensorboard_gets_the_same_numbers(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("tensorboardX")
    logger = MetricLog(tmp_path, 0, 10)
    logger.write(10, {"loss/total": 1.0})
    logger.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss/total" in events.read_bytes()


def test_tensorboard_shows_the_hyperparameters_once(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("tensorboardX")
    for first in (0, 10):
        MetricLog(tmp_path, first, 20, hyperparameters={"model.width": 77}).close()
        for file in (tmp_path / "tensorboard").glob("events.*"):  # named by the second
            file.rename(file.with_name(f"{first}"))
    events = [file.read_bytes() for file in (tmp_path / "tensorboard").iterdir()]
    assert sum(content.count(b"| model.width | 77 |") for content in events) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59.0, "59 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 5 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that stands still until a test moves it."""
    now = [100.0]
    monkeypatch.setattr(metric_log.time, "monotonic", lambda: now[0])
    return now


def test_time_left_counts_neither_compiling_nor_what_it_does_not_know(
    tmp_path, caplog, clock: list[float]
) -> None:
    caplog.set_level("INFO", "segtad_jax")
    with MetricLog(tmp_path, 0, 100, batch_size=8, evaluations=[40, 80, 100]) as logger:
        logger.write(0, {"eval/map_average": 0.5})  # nothing is known of the speed
        assert caplog.messages.pop() == "step 0/100, map_average 0.500"
        clock[0] += 90  # the first step compiles, and is handed to the devices
        logger.write_interval(0, [])
        clock[0] += 20
        logger.write_interval(10, [{"loss/total": float(step)} for step in range(1, 11)])
        assert caplog.messages.pop() == (
            "step 10/100, 3 min 0 s left, total 5.500, windows_per_second 4.000"
        )
        clock[0] += 60
        logger.write_interval(40, [{"loss/total": 1.0}] * 30)
        assert "step 40/100, 2 min 0 s left" in caplog.messages.pop()
        with logger.evaluating():  # and compiles
            clock[0] += 50
        logger.write(40, {"eval/map_average": 0.5})
        assert "step 40/100, 3 min 40 s left" in caplog.messages.pop()  # 120 s, and 2 times 50 s
        clock[0] += 80
        logger.write_interval(80, [{"loss/total": 1.0}] * 40)
        assert "step 80/100, 2 min 20 s left" in caplog.messages[-1]
        assert "windows_per_second 4.000" in caplog.messages.pop()
        with logger.evaluating():  # compiled now
            clock[0] += 10
        logger.write(80, {"eval/map_average": 0.5})
        assert "step 80/100, 50 s left" in caplog.messages.pop()  # 40 s, and once 10 s
        clock[0] += 40
        with logger.evaluating():
            clock[0] += 10
        logger.write(100, {"eval/map_average": 0.5})
        assert "step 100/100, 0 s left" in caplog.messages.pop()


def test_a_resumed_run_counts_its_own_steps_and_evaluations(
    tmp_path, caplog, clock: list[float]
) -> None:
    caplog.set_level("INFO", "segtad_jax")
    with MetricLog(tmp_path, 40, 100, batch_size=8, evaluations=[40, 80, 100]) as logger:
        with logger.evaluating():  # that of step 40, which the stopped run had left to do
            clock[0] += 50
        logger.write_interval(40, [])
        clock[0] += 20
        logger.write_interval(50, [{"loss/total": 1.0}] * 10)
        assert "step 50/100, 1 min 40 s left" in caplog.messages.pop()


def test_a_line_with_a_speed_of_another_name_is_the_same_line(tmp_path: pathlib.Path) -> None:
    """Logs of older versions have `timing/videos_per_second`."""
    line = {"step": 10, "loss/total": 1.0, "timing/videos_per_second": 9.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    with MetricLog(tmp_path, 10, 20) as logger:
        logger.write(10, {"loss/total": 1.0, "timing/windows_per_second": 8.0})
    (again,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(again) == line


def test_not_finite_is_named_with_term_and_step() -> None:
    good = {"loss/start": 1.0, "loss/end": 2.0}
    bad = {"loss/start": float("nan"), "loss/end": float("inf")}
    assert interval_average([], 20) == {}
    assert interval_average([good, good], 20) == good
    with pytest.raises(NonFiniteLossError) as error:
        interval_average([good, bad, bad], 20)
    for part in ("loss/start, loss/end", "step 19", "18 to 20", "optim.learning_rate"):
        assert part in str(error.value)
