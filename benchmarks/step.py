"""Training: the loop, the step, its stages, its first calls.

    python -m benchmarks.step --config configs/activitynet.py [--batch=4] [--json=FILE]

`loop` is what a run does between two lines of its log: batches from memory, steps, metrics. The
stages of the network are forward and backward.
"""

from benchmarks import command, stages
from benchmarks.measure import Effort, Measurement, timed
from benchmarks.programs import Training

STEPS = 4  # that the loop makes at once


def rows(program: Training, effort: Effort) -> list[Measurement]:
    """The whole, its stages and its first calls."""
    return [
        timed("loop: everything", lambda: program.loop(STEPS), effort, STEPS, gflop=program.gflop),
        timed("step", program.from_host, effort, gflop=program.gflop),
        *stages.rows(program, effort),
        *program.first_calls(),
    ]


if __name__ == "__main__":
    command.run(lambda: "step", "train", Training, rows)
