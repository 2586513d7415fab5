"""Metrics of a run: metrics.jsonl always, TensorBoard where it is installed, and the time left."""

import contextlib
import json
import logging
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from segtad_jax.runtime.files import LineLog, on_object_store

log = logging.getLogger(__name__)

FILE = "metrics.jsonl"
SHOWN = ("loss/total", "eval/map_0.50", "eval/map_average", "timing/windows_per_second")


class NonFiniteLossError(FloatingPointError):
    """A loss is NaN or infinite."""


class MetricLog:
    """Appends one JSON object a step to WORKDIR/metrics.jsonl, and tells how much time is left."""

    def __init__(
        self,
        workdir: epath.PathLike,
        first_step: int,
        last_step: int,
        *,
        batch_size: int = 1,
        evaluations: Sequence[int] = (),
        hyperparameters: Mapping[str, Any] | None = None,
        silent: bool = False,
    ) -> None:
        """Opens the log of a run that resumes at `first_step`; later lines are dropped.

        They belong to steps that were run but not saved, and will be run again.

        Args:
            workdir: of the run.
            first_step: steps done.
            last_step: of the run.
            batch_size: windows a step, over all devices and processes.
            evaluations: the steps after which the model is evaluated, for the time left.
            hyperparameters: what TensorBoard shows from the first start.
            silent: writes nothing; all but one of several processes are.
        """
        self._silent = silent
        self._first, self._last = first_step, last_step
        self._batch_size, self._evaluations = batch_size, evaluations
        # The clock starts when the first step is compiled, and stands still in evaluations.
        self._started: float | None = None
        self._line_started = 0.0
        self._evaluation_seconds: list[float] = []  # of each since then
        self._board: Any = None
        if silent:
            return
        self._lines = LineLog(epath.Path(workdir) / FILE)
        records = _records(self._lines.read(), epath.Path(workdir) / FILE)
        if first_step and not records:
            log.warning("%s is empty: the curves begin at step %d", FILE, first_step)
        records = [record for record in records if record["step"] <= first_step]
        self._written = {_key(record) for record in records}
        self._lines.rewrite([json.dumps(record) for record in records])
        if not on_object_store(workdir):  # TensorBoard's writer knows no such paths
            self._open_board(epath.Path(workdir) / "tensorboard", hyperparameters or {})

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_board(self, folder: epath.Path, hyperparameters: Mapping[str, Any]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            return
        new = not folder.exists()
        self._board = SummaryWriter(str(folder), purge_step=self._first + 1)
        if new and hyperparameters:
            rows = [f"| {name} | {value} |" for name, value in hyperparameters.items()]
            self._board.add_text("config", "\n".join(["| field | value |", "|---|---|", *rows]))

    def write_interval(self, last: int, interval: Sequence[Mapping[str, Any]]) -> None:
        """Logs the mean metrics of the steps ending at `last`, and their speed; nothing if none.

        Call it after every step has been handed to the devices: the first call starts the clock.

        Raises:
            NonFiniteLossError: see `interval_average`.
        """
        if self._started is None:
            self._started = self._line_started = time.monotonic()
        if not interval:
            return
        average = interval_average(jax.device_get(interval), last)
        windows = len(interval) * self._batch_size
        speed = windows / (time.monotonic() - self._line_started)
        self.write(last, average | {"timing/windows_per_second": speed})
        self._line_started = time.monotonic()

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Returns a context whose time counts as that of an evaluation, not of steps."""
        before = time.monotonic()
        yield
        if self._started is not None:  # else it is one that a stopped run left to do
            seconds = time.monotonic() - before
            self._evaluation_seconds.append(seconds)
            self._started += seconds
            self._line_started += seconds

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of a step, once; those under `timing/` differ between equal runs."""
        if self._silent:
            return
        record = {"step": step, **{k: float(v) for k, v in metrics.items()}}
        if _key(record) in self._written:  # by a run that was stopped after this line
            return
        self._lines.append(json.dumps(record))
        if self._board:
            for name, value in metrics.items():
                self._board.add_scalar(name, float(value), step)
        numbers = [f"{k.partition('/')[2]} {metrics[k]:.3f}" for k in SHOWN if k in metrics]
        place = f"step {step}/{self._last}"
        if (seconds := self._seconds_left(step)) is not None:
            place += f", {duration(seconds)} left"
        log.info("%s", ", ".join([place, *numbers]))

    def _seconds_left(self, step: int) -> float | None:
        """Estimates the time of the steps and evaluations to come; None where nothing is known.

        An evaluation is taken to cost what the shortest so far did: the first compiles.
        """
        if self._started is None or step <= self._first:
            return None
        left = (time.monotonic() - self._started) / (step - self._first) * (self._last - step)
        if self._evaluation_seconds:
            planned = sum(number > self._first for number in self._evaluations)
            left += min(self._evaluation_seconds) * (planned - len(self._evaluation_seconds))
        return left

    def close(self) -> None:
        """Ends both logs."""
        if self._silent:
            return
        self._lines.join()
        if self._board:
            self._board.close()


def interval_average(
    interval: Sequence[Mapping[str, float | np.ndarray | np.generic]], last: int
) -> dict[str, float]:
    """Returns the mean of each metric over the steps ending at `last` ({} if there are none).

    Raises:
        NonFiniteLossError: names the terms, the first step and the interval.
    """
    for number, metrics in enumerate(interval, start=last - len(interval) + 1):
        bad = [name for name, value in metrics.items() if not np.isfinite(value)]
        if bad:
            raise NonFiniteLossError(
                f"{', '.join(bad)} not finite at step {number} "
                f"(steps {last - len(interval) + 1} to {last}). Look for NaN or huge values in the "
                "features, or lower optim.learning_rate; the checkpoints before this step are good."
            )
    names = interval[0] if interval else ()
    return {name: statistics.fmean(float(m[name]) for m in interval) for name in names}


def duration(seconds: float) -> str:
    """Formats a time: 45 s, 3 min 20 s, 2 h 5 min."""
    seconds = math.ceil(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _records(lines: Sequence[str], path: epath.Path) -> list[dict[str, int | float]]:
    """Reads the lines of a log; one that was cut off when the run was stopped is dropped.

    Raises:
        ValueError: another line does not read; names it.
    """
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            record["step"] + 0  # for the error where there is none
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if number < len(lines):
                raise ValueError(
                    f"{path}, line {number} does not read: {line[:80]!r}. Remove the line, or move "
                    "the file away, and run the same command again: it is read for curves alone."
                ) from error
            log.warning("%s: dropped a line that was cut off: %.80r", FILE, line)
            continue
        records.append(record)
    return records


def _key(record: Mapping[str, int | float]) -> tuple:
    """Names what a line holds; a timing's name may be of another version of this package."""
    return (record["step"], *sorted(name for name in record if not name.startswith("timing/")))
