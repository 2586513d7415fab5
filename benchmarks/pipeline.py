"""The input pipeline's time for a batch, and how many of them a training step lasts.

    python -m benchmarks.pipeline --config configs/activitynet.py [--batch=4]

Shards of synthetic recordings in the config's shapes are written as `prepare` writes them. Each
repeat is a pass over all of them, from the operating system's cache of files.
"""

import collections
import tempfile

from absl import flags
from ml_collections import ConfigDict

from benchmarks import command
from benchmarks.measure import Effort, Measurement, timed
from benchmarks.programs import STORED, Training, synthetic
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.writer import write_dataset

VIDEOS = flags.DEFINE_integer("videos", 64, "Recordings to write.", lower_bound=1)


def rows(config: ConfigDict, batch: int, effort: Effort) -> list[Measurement]:
    """The time of both, and the quotient."""
    if VIDEOS.value % batch:
        raise ValueError(f"--videos={VIDEOS.value} is not a multiple of the batch of {batch}.")
    program = Training(config, batch)
    with tempfile.TemporaryDirectory() as folder:
        content = synthetic(program.config, VIDEOS.value)
        stored = open_dataset(write_dataset(folder, **content, dtype=STORED))

        batches = VIDEOS.value // batch

        def read() -> None:
            collections.deque(program.batches(batches, stored), maxlen=0)

        pipeline = timed("input pipeline", read, effort, batches)
    step = timed("training step", program.from_host, effort)
    return [pipeline, step, Measurement("batches a step", step.value / pipeline.value, "x")]


if __name__ == "__main__":
    command.run(lambda: "pipeline", "train", rows)
