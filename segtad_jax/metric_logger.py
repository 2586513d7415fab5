"""Numbers of a run: metrics.jsonl always, TensorBoard where it is installed, the time left."""

import json
import logging
import math
import time
from collections.abc import Mapping

from etils import epath

log = logging.getLogger(__name__)

FILE = "metrics.jsonl"


class MetricLogger:
    """Appends one JSON object a step to WORKDIR/metrics.jsonl, and tells how long is left."""

    def __init__(self, workdir: epath.PathLike, first_step: int, last_step: int) -> None:
        """Opens the log of a run that goes on at `first_step`; later lines are dropped.

        They belong to steps that were run but not saved, and will be run again.
        """
        self._path = epath.Path(workdir) / FILE
        self._first, self._last = first_step, last_step
        self._start = time.monotonic()
        self._busy_elsewhere = 0.0
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        kept = [line for line in lines if _step(line) <= first_step]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(line + "\n" for line in kept))
        temporary.rename(self._path)
        try:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(epath.Path(workdir) / "tensorboard"))
        except ImportError:
            self._board = None

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the numbers of a step; those under `timing/` may differ between equal runs."""
        record = {"step": step, **{k: float(v) for k, v in metrics.items()}}
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self._board:
            for name, value in metrics.items():
                self._board.add_scalar(name, float(value), step)

    def progress(self, step: int) -> str:
        """`step 120/500, 3 min left`, by the speed since the start."""
        done, left = step - self._first, self._last - step
        if not done:
            return f"step {step}/{self._last}"
        seconds = (time.monotonic() - self._start) / done * left
        return f"step {step}/{self._last}, {duration(seconds)} left"

    def close(self) -> None:
        """Ends the TensorBoard log."""
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


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):  # cut off when the run was stopped
        log.warning("metrics.jsonl: dropped an unreadable line: %.80s", line)
        return math.inf
