"""metrics.jsonl: whole lines, once each, also after a stop."""

import json
import pathlib

import pytest

from segtad_jax.runtime.metric_log import MetricLogger, duration


def lines(folder: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_log_drops_what_was_not_saved(tmp_path: pathlib.Path) -> None:
    logger = MetricLogger(tmp_path, 0, 30)
    for step in (10, 20, 30):
        logger.write(step, {"loss/total": 1 / step})
    logger.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "loss/to')  # killed while writing
    logger = MetricLogger(tmp_path, 20, 30)
    assert [line["step"] for line in lines(tmp_path)] == [10, 20]
    logger.write(30, {"loss/total": 7.0})
    assert lines(tmp_path)[-1] == {"step": 30, "loss/total": 7.0}
    logger.close()


def test_a_line_is_written_once(tmp_path: pathlib.Path) -> None:
    first = MetricLogger(tmp_path, 0, 10)
    first.write(10, {"loss/total": 1.0})
    first.write(10, {"eval/map_0.50": 0.5})
    first.close()
    again = MetricLogger(tmp_path, 10, 10)
    again.write(10, {"eval/map_0.50": 0.5})
    again.close()
    assert lines(tmp_path) == [
        {"step": 10, "loss/total": 1.0},
        {"step": 10, "eval/map_0.50": 0.5},
    ]


def test_tensorboard_gets_the_same_numbers(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("tensorboardX")
    logger = MetricLogger(tmp_path, 0, 10)
    logger.write(10, {"loss/total": 1.0})
    logger.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss/total" in events.read_bytes()


def test_tensorboard_shows_the_hyperparameters_once(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("tensorboardX")
    for first in (0, 10):
        MetricLogger(tmp_path, first, 20, hyperparameters={"model.width": 77}).close()
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


def test_progress_tells_step_time_left_and_numbers(tmp_path, caplog) -> None:
    caplog.set_level("INFO", "segtad_jax")
    logger = MetricLogger(tmp_path, 0, 10)
    logger.write(5, {"loss/total": 1.25, "loss/start": 1.0})
    assert caplog.messages == ["step 5/10, 1 s left, total 1.250"]
    logger.close()
