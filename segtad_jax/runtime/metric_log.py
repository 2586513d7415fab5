"""Numbers of a run: metrics.jsonl always, TensorBoard where it is installed, the time left."""

import json
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from etils import epath

from segtad_jax.runtime.files import LineLog, on_object_store

log = logging.getLogger(__name__)

FILE = "metrics.jsonl"


class MetricLogger:
    """Adds one JSON object a step to WORKDIR/metrics.jsonl, and tells how long is left."""

    def __init__(
        self,
        workdir: epath.PathLike,
        first_step: int,
        last_step: int,
        *,
        hyperparameters: Mapping[str, Any] | None = None,
        silent: bool = False,
    ) -> None:
        """Opens the log of a run that goes on at `first_step`; later lines are dropped.

        They belong to steps that were run but not saved, and will be run again. TensorBoard shows
        the `hyperparameters` from the first start. Of several processes all but one are `silent`.
        """
        self._silent = silent
        self._board: Any = None
        if silent:
            return
        self._log = LineLog(epath.Path(workdir) / FILE)
        self._first, self._last = first_step, last_step
        self._start = time.monotonic()
        kept = [r for r in map(_parse, self._log.read()) if r["step"] <= first_step]
        self._written = {_key(record) for record in kept}
        self._log.rewrite([json.dumps(record) for record in kept])
        if not on_object_store(workdir):  # TensorBoard's writer knows no such paths
            self._open_board(epath.Path(workdir) / "tensorboard", hyperparameters or {})

    def __enter__(self) -> "MetricLogger":
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

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the numbers of a step, once; those under `timing/` differ between equal runs."""
        if self._silent:
            return
        record = {"step": step, **{k: float(v) for k, v in metrics.items()}}
        if _key(record) in self._written:  # by a run that was stopped after this line
            return
        self._log.append(json.dumps(record))
        if self._board:
            for name, value in metrics.items():
                self._board.add_scalar(name, float(value), step)
        self._tell(step, metrics)

    def _tell(self, step: int, metrics: Mapping[str, float]) -> None:
        """`step 120/500, 3 min left, total 0.375`, by the speed since the start."""
        told = ["loss/total", "eval/map_0.50", "eval/map_average", "timing/videos_per_second"]
        numbers = [f"{k.partition('/')[2]} {metrics[k]:.3f}" for k in told if k in metrics]
        place = f"step {step}/{self._last}"
        if step > self._first:
            each = (time.monotonic() - self._start) / (step - self._first)
            place += f", {duration(each * (self._last - step))} left"
        log.info("%s", ", ".join([place, *numbers]))

    def close(self) -> None:
        """Ends both logs."""
        if self._silent:
            return
        self._log.join()
        if self._board:
            self._board.close()


def duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 5 min."""
    seconds = math.ceil(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _parse(line: str) -> dict[str, int | float]:
    try:
        return json.loads(line)
    except json.JSONDecodeError:  # cut off when the run was stopped
        log.warning("%s: dropped a line that was cut off: %.80s", FILE, line)
        return {"step": math.inf}


def _key(record: Mapping[str, int | float]) -> tuple:
    return (record["step"], *sorted(record))
