"""What passes before the first step: imports, the grid's constants, compiling.

    python -m benchmarks.startup --config configs/activitynet.py [--batch=4] [--frames=1000,4000]

Every figure is of a new process.
"""

import functools
import subprocess
import sys
import time
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from benchmarks import command, first_calls, measure
from benchmarks.measure import Row
from benchmarks.programs import num_proposals
from segtad_jax.config.check import check

FRAMES = flags.DEFINE_list("frames", "1000,4000", "T of the grids whose constants are built.")
PROCESSES = 3  # of each figure that compiles nothing
TIMED_IMPORT = (
    "import time; t = time.perf_counter(); import segtad_jax.train; print(time.perf_counter() - t)"
)


def main(config: ConfigDict, batch: int) -> command.Measured:
    """Measures."""
    grids = []
    for frames in FRAMES.value:
        changed = config.copy_and_resolve_references()
        changed.data.num_frames = int(frames)
        check(changed)
        grids.append(changed)
    measured = functools.partial(rows, config, grids, batch)
    return command.Measured(*measure.between_peaks(measured, command.effort()))


def rows(config: ConfigDict, grids: list[ConfigDict], batch: int) -> list[Row]:
    """Imports, grids, first calls."""
    found = [_seconds("import of segtad_jax.train", [_import() for _ in range(PROCESSES)])]
    for changed in grids:
        runs = [measure.in_fresh_process(build, changed.to_dict()) for _ in range(PROCESSES)]
        times, proposals = zip(*runs, strict=True)
        name = f"grid of T={changed.data.num_frames}, {proposals[0]:,} proposals"
        found.append(_seconds(name, times))
    if "first" in command.MEASURE.value:
        found += first_calls.rows("step", config, batch)
    return found


def build(fields: dict[str, Any]) -> tuple[float, int]:
    """For `in_fresh_process`: seconds for a grid's constants, and its number of proposals."""
    config = ConfigDict(fields)
    started = time.perf_counter()
    proposals = num_proposals(config)
    return time.perf_counter() - started, proposals


def _import() -> float:
    return float(subprocess.check_output([sys.executable, "-c", TIMED_IMPORT], text=True))


def _seconds(name: str, times: Any) -> Row:
    low, median, high = np.percentile(times, [25, 50, 75]).tolist()
    return Row(name, median, "s", low, high, len(times))


if __name__ == "__main__":
    command.run("startup", lambda config: config.train.batch_size, main)
