"""The input pipeline's rate on its own, and how many times the training step's it is.

    python -m benchmarks.pipeline --config configs/activitynet.py [--batch=4]

Shards of synthetic recordings in the config's shapes are written as `prepare` writes them, into a
temporary folder. Each repeat is a pass over all of them, with nothing remembered from the one
before; files are in the operating system's cache from then on.
"""

import collections
import dataclasses
import tempfile

from absl import flags
from ml_collections import ConfigDict

from benchmarks import command
from benchmarks.measure import Effort, Measurement, timed
from benchmarks.programs import STORED, Training, synthetic
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.writer import write_dataset

VIDEOS = flags.DEFINE_integer("videos", 64, "Recordings to write.", lower_bound=1)


def make(config: ConfigDict, batch: int) -> Training:
    """The training step, if its batch divides the recordings."""
    if VIDEOS.value % batch:
        raise ValueError(f"--videos={VIDEOS.value} is not a multiple of the batch of {batch}.")
    return Training(config, batch)


def rows(program: Training, effort: Effort) -> list[Measurement]:
    """Videos per second of both, and the quotient."""
    with tempfile.TemporaryDirectory() as folder:
        content = synthetic(program.config, VIDEOS.value)
        stored = open_dataset(write_dataset(folder, **content, dtype=STORED))

        def read() -> None:
            batches = program.batches(VIDEOS.value // program.size, stored)
            collections.deque(batches, maxlen=0)

        pipeline = _rate("input pipeline", timed("", read, effort), VIDEOS.value)
    step = _rate("training step", timed("", program.from_host, effort), program.size)
    return [pipeline, step, Measurement("pipeline over step", pipeline.value / step.value, "x")]


def _rate(name: str, row: Measurement, videos: int) -> Measurement:
    value, low, high = (1e3 * videos / time for time in (row.value, row.high, row.low))
    return dataclasses.replace(row, name=name, value=value, low=low, high=high, unit="videos/s")


if __name__ == "__main__":
    command.run(lambda: "pipeline", "train", make, rows)
