"""Training: the loop and the step.

    python -m benchmarks.step --config configs/activitynet.py [--batch=4] [--json=FILE]

`loop` is what a run does between two lines of its log: batches from memory, steps, metrics. Where
the time of a step goes is shown by a run's `--profile`.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from benchmarks import command
from benchmarks.measure import Effort, Measurement, timed
from benchmarks.programs import Training

STEPS = 4  # that the loop makes at once


def rows(config: ConfigDict, batch: int, effort: Effort) -> Iterator[Measurement]:
    """The whole, and the step."""
    program = Training(config, batch)
    loop = "loop: everything"
    yield timed(loop, lambda: program.loop(STEPS), effort, STEPS, gflop=program.gflop)
    yield timed("step", program.from_host, effort, gflop=program.gflop)


if __name__ == "__main__":
    command.run(lambda: "step", "train", rows)
