"""The programs that are measured, those of training and prediction, and what they are given."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from segtad_jax.config.check import check
from segtad_jax.data import pipeline, synthetic
from segtad_jax.data.dataset import Dataset, Recording
from segtad_jax.detector import Detector
from segtad_jax.models.segtad import SegTAD, create_variables, grid
from segtad_jax.optim import optimizer
from segtad_jax.runtime import parallel, startup
from segtad_jax.step import TrainState, create_state, parallel_step

STORED = np.float16  # as `prepare` stores features


def start() -> None:
    """What the commands do before they use JAX."""
    startup.keep_freed_memory()
    startup.keep_compiled_programs()


def sizes(config: ConfigDict) -> tuple[int, int]:
    """C and D: of the config, or of the synthetic recordings where it leaves them open."""
    data = config.data
    return (
        data.num_channels or data.synthetic_channels,
        data.num_classes or data.synthetic_classes,
    )


def world(config: ConfigDict) -> synthetic.World:
    """Synthetic recordings of one window each, in the config's shapes."""
    channels, classes = sizes(config)
    return synthetic.World(config.data.num_frames, channels, classes, noise=1.0, seed=0)


def in_memory(config: ConfigDict, number: int) -> Dataset:
    """A data set of `number` synthetic training recordings."""
    drawn, split = world(config), "training"
    names = synthetic.class_names(drawn.num_classes)
    records = list(synthetic.records(split, number, drawn))
    recordings = tuple(
        Recording(
            video=record.video,
            num_frames=len(record.features),
            rate=record.rate,
            duration=record.duration,
            segments=record.segments,
            labels=np.array([names.index(label) + 1 for label in record.labels], int),
            shard="",
            offset=0,
            size=0,
        )
        for record in records
    )
    stored = {record.video: record.features.astype(STORED) for record in records}
    return Dataset(
        directory=epath.Path(),
        name="in memory",
        classes=names,
        num_channels=drawn.num_channels,
        dtype=np.dtype(STORED),
        splits={split: recordings},
        read=lambda recording: stored[recording.video],
    )


class Training:
    """The step that training runs, with its own loss, optimiser and batches."""

    def __init__(self, config: ConfigDict, batch: int) -> None:
        """Compiles only what makes the parameters.

        Raises:
            ValueError: the config cannot be run on these devices.
        """
        self.config = config.copy_and_resolve_references()
        self.config.train.batch_size = batch
        check(self.config, jax.device_count())
        self.dataset = in_memory(self.config, batch)
        self.recordings = self.dataset.recordings("training")
        self.model = SegTAD(self.config, len(self.dataset.classes), axis_name=parallel.AXIS)
        self.optimizer = optimizer(self.config)
        self.step = parallel_step(self.config, self.model, self.optimizer)

    def new_state(self) -> TrainState:
        """Of the first step, on all devices."""
        state = create_state(self.config, self.model, self.optimizer, self.dataset.num_channels)
        return parallel.replicate(state)

    def batches(self, first_step: int, last_step: int) -> Iterator[pipeline.Batch]:
        """Returns the batches of some steps."""
        return pipeline.training_batches(
            self.dataset,
            self.recordings,
            window=self.config.data.num_frames,
            batch_size=self.config.train.batch_size,
            seed=0,
            first_step=first_step,
            last_step=last_step,
        )

    def batch(self) -> pipeline.Batch:
        """Returns the batch of the first step."""
        return next(self.batches(0, 1))

    def loop(self, state: TrainState, steps: int) -> TrainState:
        """Makes some steps as a run does, batches and metrics included."""
        first, before = int(state.step), {}
        for batch in self.batches(first, first + steps):
            state, metrics = self.step(state, parallel.shard_batch(batch))
            jax.device_get(before)
            before = metrics
        return state


class Inference:
    """What detects in recordings, from their features to their detections."""

    def __init__(self, config: ConfigDict, batch: int, number: int) -> None:
        """Compiles only what makes the parameters.

        Args:
            config: with `eval.class_scores` if proposals shall get their labels from a file.
            batch: windows at once.
            number: of recordings, of one window each.

        Raises:
            ValueError: the config cannot be run on these devices.
        """
        self.config = config.copy_and_resolve_references()
        self.config.eval.batch_size = batch
        check(self.config, jax.device_count())
        self.dataset = in_memory(self.config, number)
        self.recordings = self.dataset.recordings("training")
        self.detector = Detector(self.config, self.dataset.classes)

    @functools.cached_property
    def variables(self) -> dict[str, Any]:
        """Parameters and statistics as they are before training."""
        model = SegTAD(self.config, len(self.dataset.classes))
        return create_variables(self.config, model, self.dataset.num_channels)

    def detect(self) -> Any:
        """All recordings: batches, the devices' part, copies to the host, pooling, soft-NMS."""
        return self.detector.detect(self.variables, self.dataset, self.recordings)

    def batch(self) -> dict[str, np.ndarray]:
        """What the detector hands to its step, of the first windows."""
        windows = pipeline.inference_windows(self.recordings, self.config.data.num_frames, 0.0)
        batch = next(
            pipeline.inference_batches(
                self.dataset,
                self.recordings,
                windows,
                window=self.config.data.num_frames,
                batch_size=self.config.eval.batch_size,
            )
        )
        inputs = {key: batch[key] for key in ("features", "num_frames", "window")}
        return inputs | {"cut": np.zeros((len(batch["window"]), 2), bool)}


def num_proposals(config: ConfigDict) -> int:
    """M."""
    return len(grid(config).segments)


def num_sampled(config: ConfigDict) -> int:
    """Rows that training scores in a video."""
    return config.sampling.seeds * grid(config).members.shape[1]
