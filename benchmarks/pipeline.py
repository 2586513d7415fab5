"""The input pipeline's rate on its own, and how many times the training step's it is.

    python -m benchmarks.pipeline --config configs/activitynet.py [--batch=4] [--data=DIR]

Shards of random recordings in the config's shapes are written as `prepare` writes them, below
--data, where they stay, or in a temporary folder. Each repeat is a pass over all of them, with
nothing remembered from the one before; files are in the operating system's cache from then on.
"""

import collections
import dataclasses
import tempfile
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from benchmarks import command
from benchmarks.measure import Effort, Measurement, timed
from benchmarks.programs import STORED, Training, in_memory
from segtad_jax.data.dataset import Dataset, find_all, open_dataset
from segtad_jax.data.records import Record
from segtad_jax.data.writer import write_dataset

DATA = flags.DEFINE_string("data", None, "Folder for the shards; those of an earlier call are used")
VIDEOS = flags.DEFINE_integer("videos", 64, "Recordings to write.", lower_bound=1)


def make(config: ConfigDict, batch: int) -> Training:
    """The training step, if its batch divides the recordings."""
    if VIDEOS.value % batch:
        raise ValueError(f"--videos={VIDEOS.value} is not a multiple of the batch of {batch}.")
    return Training(config, batch)


def rates(program: Training, effort: Effort) -> list[Measurement]:
    """Videos per second of both, and the quotient."""
    with tempfile.TemporaryDirectory() as folder:
        stored = written(program.config, Path(DATA.value or folder))

        def read() -> None:
            batches = program.batches(VIDEOS.value // program.size, stored)
            collections.deque(batches, maxlen=0)

        pipeline = _rate("input pipeline", timed("", read, effort), VIDEOS.value)
    step = _rate("training step", timed("", program.from_host, effort), program.size)
    return [pipeline, step, Measurement("pipeline over step", pipeline.value / step.value, "x")]


def _rate(name: str, row: Measurement, videos: int) -> Measurement:
    value, low, high = (1e3 * videos / time for time in (row.value, row.high, row.low))
    return dataclasses.replace(row, name=name, value=value, low=low, high=high, unit="videos/s")


def written(config: ConfigDict, folder: Path) -> Dataset:
    """The data set of the config's shapes below a folder, made unless it is there."""
    drawn = in_memory(config, VIDEOS.value)
    sizes = config.data.num_frames, drawn.num_channels, len(drawn.classes), VIDEOS.value
    name = f"benchmark_{'_'.join(map(str, sizes))}"
    if found := find_all(folder / name):
        return open_dataset(found[0])
    records = (
        Record(
            *(r.video, drawn.features(r), r.rate, r.duration, r.segments),
            labels=tuple(drawn.classes[label - 1] for label in r.labels),
        )
        for r in drawn.recordings("training")
    )
    directory = write_dataset(
        folder,
        name=name,
        classes=drawn.classes,
        num_channels=drawn.num_channels,
        splits={"training": records},
        description="Random recordings.",
        dtype=STORED,
    )
    return open_dataset(directory)


if __name__ == "__main__":
    command.run(lambda: "pipeline", "train", make, rates)
