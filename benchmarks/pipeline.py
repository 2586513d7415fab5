"""What the input pipeline gives on its own, and how many times what a training step takes.

    python -m benchmarks.pipeline --config configs/activitynet.py [--batch=4] [--data=DIR]

Shards of synthetic recordings in the config's shapes are written as `prepare` writes them, below
--data, where they stay, or in a temporary folder. Each repeat is a pass over all of them, with
nothing remembered from the one before; files are in the operating system's cache from then on.
"""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from benchmarks import command, measure
from benchmarks.measure import Effort, Row
from benchmarks.programs import STORED, Training, world
from segtad_jax.data import pipeline, synthetic
from segtad_jax.data.dataset import Dataset, find_all, open_dataset
from segtad_jax.data.writer import write_dataset
from segtad_jax.runtime import parallel

DATA = flags.DEFINE_string("data", None, "Folder for the shards; those of an earlier call are used")
VIDEOS = flags.DEFINE_integer("videos", 64, "Recordings to write.", lower_bound=1)


def main(config: ConfigDict, batch: int) -> command.Measured:
    """Measures."""
    if VIDEOS.value % batch:
        raise ValueError(f"--videos={VIDEOS.value} is not a multiple of the batch of {batch}.")
    effort = command.effort()
    with _folder() as folder:
        data, program = written(config, folder), Training(config, batch)
        measured = functools.partial(rates, program, data, effort)
        return command.Measured(*measure.between_peaks(measured, effort))


def rates(program: Training, data: Dataset, effort: Effort) -> list[Row]:
    """Videos per second of both, and the quotient."""
    state, batch = program.new_state(), program.batch()

    def read() -> None:
        size, recordings = program.config.train.batch_size, data.recordings("training")
        for _ in pipeline.training_batches(
            data,
            recordings,
            window=program.config.data.num_frames,
            batch_size=size,
            seed=0,
            first_step=0,
            last_step=len(recordings) // size,
        ):
            pass

    def step() -> object:
        nonlocal state
        state, metrics = program.step(state, parallel.shard_batch(batch))
        return metrics

    number = len(data.recordings("training"))
    rows = [
        _rate("input pipeline", measure.timed("", read, effort), number),
        _rate("training step", measure.timed("", step, effort), program.config.train.batch_size),
    ]
    return [*rows, Row("pipeline over step", rows[0].value / rows[1].value, "x")]


def _rate(name: str, row: Row, videos: int) -> Row:
    low, high = (1e3 * videos / (t or row.value) for t in (row.high, row.low))
    return Row(name, 1e3 * videos / row.value, "videos/s", low, high, row.repeats)


def written(config: ConfigDict, folder: Path) -> Dataset:
    """The data set of the config's shapes below a folder, made unless it is there."""
    drawn = world(config)
    sizes = f"{drawn.num_frames}_{drawn.num_channels}_{drawn.num_classes}_{VIDEOS.value}"
    name = f"benchmark_{sizes}"
    if found := find_all(folder / name):
        return open_dataset(found[0])
    records = synthetic.records("training", VIDEOS.value, drawn)
    directory = write_dataset(
        folder,
        name=name,
        classes=synthetic.class_names(drawn.num_classes),
        num_channels=drawn.num_channels,
        splits={"training": records},
        description=synthetic.DESCRIPTION,
        dtype=STORED,
    )
    return open_dataset(directory)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    if DATA.value:
        yield Path(DATA.value)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    command.run("pipeline", lambda config: config.train.batch_size, main)
