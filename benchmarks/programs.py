"""The programs that are measured, those of training and prediction, with recordings in memory."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from benchmarks import flops
from segtad_jax.config.check import check
from segtad_jax.data import embedded, pipeline
from segtad_jax.data.dataset import Dataset, Recording
from segtad_jax.detector import Detector
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.optim import optimizer
from segtad_jax.runtime import parallel
from segtad_jax.step import create_state, parallel_step
from segtad_jax.tpu.compile import compile_step

STORED = np.dtype(np.float16)  # as `prepare` stores features
DRAWN = 32  # recordings that differ; more of them repeat these


def synthetic(config: ConfigDict, number: int) -> dict[str, Any]:
    """What `write_dataset` takes, for synthetic recordings of one window in the config's shapes."""
    data = config.data.copy_and_resolve_references()
    data.synthetic_recordings, data.synthetic_frames = number, data.num_frames
    data.synthetic_channels = data.num_channels or data.synthetic_channels
    data.synthetic_classes = data.num_classes or data.synthetic_classes
    return embedded.EMBEDDED["synthetic"](data)


def in_memory(config: ConfigDict, number: int) -> Dataset:
    """A data set of `number` of these recordings, without shards."""
    content = synthetic(config, min(number, DRAWN))
    classes, drawn = content["classes"], list(content["splits"]["training"])
    features = [record.features.astype(STORED) for record in drawn]
    recordings = tuple(
        Recording(
            *(f"video_{index:04d}", len(record.features), record.rate, record.duration),
            *(record.segments, np.array([1 + classes.index(label) for label in record.labels])),
            *("", index % len(drawn), 0),  # where its features are
        )
        for index, record in zip(range(number), itertools.cycle(drawn), strict=False)
    )
    splits = {"training": recordings}
    return Dataset(
        *(epath.Path(), "in memory", classes, content["num_channels"], STORED, splits),
        read=lambda recording: features[recording.offset],
    )


class Program:
    """A step `(state, batch) -> outputs` of all devices, with its state and its first batch.

    Training and Inference add `step`, `state`, `counted` (GFLOP of a video, by part of the
    network), `inputs` (the first batch, on the host) and `call(batch on the devices)`.
    """

    def __init__(self, config: ConfigDict, group: str, batch: int, number: int) -> None:
        self.config = config.copy_and_resolve_references()
        self.config[group].batch_size = self.size = batch
        check(self.config, jax.device_count())
        self.dataset = in_memory(self.config, number)
        self.recordings = self.dataset.recordings("training")

    def count(self, rows: int) -> dict[str, float]:
        """GFLOP of a video's forward pass with so many proposals."""
        data = self.dataset
        return flops.gflop(self.config, data.num_channels, len(data.classes), rows)

    @property
    def gflop(self) -> float:
        """Of a batch, counted."""
        return self.size * sum(self.counted.values())

    @functools.cached_property
    def placed(self) -> Any:
        """The first batch, on the devices."""
        return parallel.shard_batch(self.inputs)

    def on_device(self) -> Any:
        """The outputs of a batch that is on the devices, left there."""
        return self.call(self.placed)

    def from_host(self) -> Any:
        """The outputs of a batch that is copied to the devices, as their user takes them."""
        return self.call(parallel.shard_batch(self.inputs))

    def costs(self) -> tuple[float, float]:
        """MB that a device needs and GB that it moves, as the compiler says; compiles the step."""
        figures = compile_step(self.step, self.state, self.placed)
        return figures.hbm / 1e6, figures.accessed / 1e9


class Training(Program):
    """The step that training runs, with its own loss, optimiser and batches."""

    def __init__(self, config: ConfigDict, batch: int) -> None:
        super().__init__(config, "train", batch, batch)
        model = SegTAD(self.config, len(self.dataset.classes), axis_name=parallel.AXIS)
        parts = self.config, model, optimizer(self.config)
        self.step = parallel_step(*parts)
        self.state = parallel.replicate(create_state(*parts, self.dataset.num_channels))
        self.inputs = next(self.batches(1, self.dataset))
        sampled = self.config.sampling.seeds * grid(self.config).members.shape[1]
        counted = self.count(sampled)
        self.counted = {name: (1 + flops.BACKWARD) * count for name, count in counted.items()}

    def batches(self, number: int, dataset: Dataset) -> Iterator[dict[str, np.ndarray]]:
        """Those of the first steps."""
        steps = {"seed": 0, "first_step": 0, "last_step": number, "batch_size": self.size}
        recordings, window = dataset.recordings("training"), self.config.data.num_frames
        return pipeline.training_batches(dataset, recordings, length=window, **steps)

    def call(self, batch: Any) -> Any:
        """The metrics of one more step."""
        self.state, metrics = self.step(self.state, batch)
        return metrics

    def loop(self, steps: int) -> Any:
        """Metrics of steps as a run makes them: those of a step are fetched during the next."""
        before = {}
        for batch in map(parallel.shard_batch, self.batches(steps, self.dataset)):
            metrics = self.call(batch)
            jax.device_get(before)
            before = metrics
        return metrics


class Inference(Program):
    """Detection in recordings, whose scores label them, or else the frames' classes."""

    def __init__(
        self, config: ConfigDict, batch: int, number: int | None = None, video_scores: bool = True
    ) -> None:
        config = config.copy_and_resolve_references()
        config.eval.class_scores = "random" if video_scores else ""
        super().__init__(config, "eval", batch, number or batch)
        classes, channels = self.dataset.classes, self.dataset.num_channels
        self.detector = Detector(self.config, classes)
        if video_scores:  # in place of a file of them
            scores = dict(zip(classes, np.random.default_rng(0).random(len(classes)), strict=True))
            self.detector.video_scores = lambda _: {r.video: scores for r in self.recordings}
        self.step = self.detector.whole_step
        model = SegTAD(self.config, len(classes))
        self.state = parallel.replicate(create_variables(self.config, model, channels))
        self.inputs = {  # as the detector hands them to its step
            "features": np.stack([self.dataset.features(r) for r in self.recordings[:batch]]),
            "num_frames": np.full(batch, self.config.data.num_frames, np.int32),
            "window": np.arange(batch, dtype=np.int32),
            "cut": np.zeros((batch, 2), bool),
        }
        self.counted = self.count(len(grid(self.config).segments))
        self.counted["SSN"] += 0.0 if video_scores else self.counted["heads"]
        del self.counted["heads"], self.counted["boundaries"]

    def detect(self) -> Any:
        """All recordings: batches, the devices' part, copies to the host, pooling, soft-NMS."""
        return self.detector.detect(self.state, self.dataset, self.recordings)

    def call(self, batch: Any) -> Any:
        """What soft-NMS selects, and the windows that it is of."""
        return self.step(self.state, batch)[:2]

    def from_host(self) -> Any:
        """The same with its batch and its outputs copied."""
        return jax.device_get(super().from_host())
