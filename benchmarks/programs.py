"""The programs that are measured, those of training and prediction, with recordings in memory."""

import functools
import itertools
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

from benchmarks import flops
from benchmarks.measure import Measurement
from segtad_jax.config.check import check
from segtad_jax.data import embedded, pipeline
from segtad_jax.data.dataset import Dataset, Recording
from segtad_jax.detector import Detector
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.optim import optimizer
from segtad_jax.runtime import parallel, startup
from segtad_jax.step import TrainState, create_state, parallel_step

STORED = np.dtype(np.float16)  # as `prepare` stores features
DRAWN = 32  # recordings that differ; more of them repeat these


def start() -> None:
    """Prepares the process as the commands do before they use JAX."""
    startup.keep_freed_memory()
    startup.keep_compiled_programs()


def sizes(config: ConfigDict) -> tuple[int, int]:
    """C and D: of the config, or of the synthetic recordings where it leaves them open."""
    data = config.data
    channels = data.num_channels or data.synthetic_channels
    return channels, data.num_classes or data.synthetic_classes


def synthetic(config: ConfigDict, number: int) -> dict[str, Any]:
    """What `write_dataset` takes, for synthetic recordings of one window in the config's shapes."""
    data = config.data.copy_and_resolve_references()
    data.synthetic_recordings, data.synthetic_frames = number, data.num_frames
    data.synthetic_channels, data.synthetic_classes = sizes(config)
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

    Training and Inference add `step`, `counted` (GFLOP of a video, by part of the network),
    `state`, `inputs` (the first batch, on the host) and `call(batch on the devices)`.
    """

    def __init__(self, config: ConfigDict, group: str, batch: int, number: int) -> None:
        """Compiles nothing; `number` is that of recordings.

        Raises:
            ValueError: the config cannot be run on these devices.
        """
        self.config = config.copy_and_resolve_references()
        self.config[group].batch_size = self.size = batch
        check(self.config, jax.device_count())
        self.dataset = in_memory(self.config, number)
        self.recordings = self.dataset.recordings("training")

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
        """MB and GB of a device, as the compiler states them; compiles what later calls run.

        MB: arguments, results and temporaries. GB: read and written, bodies of loops once.
        """
        compiled = self.step.lower(self.state, self.placed).compile()
        memory, counts = compiled.memory_analysis(), compiled.cost_analysis()
        total = memory.argument_size_in_bytes + memory.output_size_in_bytes
        total += memory.temp_size_in_bytes - memory.alias_size_in_bytes
        return total / 1e6, counts["bytes accessed"] / 1e9

    def first_calls(self) -> list[Measurement]:
        """Seconds of a first call without compiled programs, and of one that finds them on disk."""
        kept, rows = jax.config.jax_compilation_cache_dir, []
        jax.block_until_ready((self.state, self.placed))
        with tempfile.TemporaryDirectory() as folder:
            jax.config.update("jax_compilation_cache_dir", folder)
            for name in ("first call, cold", "first call, from the cache"):
                jax.clear_caches()
                compilation_cache.reset_cache()  # else it stays in the folder of the first use
                started = time.perf_counter()
                jax.block_until_ready(self.from_host())
                rows.append(Measurement(name, time.perf_counter() - started, "s"))
        jax.config.update("jax_compilation_cache_dir", kept)
        compilation_cache.reset_cache()
        return rows


class Training(Program):
    """The step that training runs, with its own loss, optimiser and batches."""

    def __init__(self, config: ConfigDict, batch: int) -> None:
        """See Program."""
        super().__init__(config, "train", batch, batch)
        self.model = SegTAD(self.config, len(self.dataset.classes), axis_name=parallel.AXIS)
        self.optimizer = optimizer(self.config)
        self.step = parallel_step(self.config, self.model, self.optimizer)
        counted = flops.gflop(self.config, *sizes(self.config), num_sampled(self.config))
        counted["SSN"] += counted.pop("heads") + counted.pop("boundaries")
        self.counted = {name: (1 + flops.BACKWARD) * count for name, count in counted.items()}

    @functools.cached_property
    def state(self) -> TrainState:
        """Of the next step, on all devices."""
        arguments = self.config, self.model, self.optimizer, self.dataset.num_channels
        return parallel.replicate(create_state(*arguments))

    def batches(self, number: int, dataset: Dataset) -> Iterator[dict[str, np.ndarray]]:
        """Those of the first steps."""
        steps = {"seed": 0, "first_step": 0, "last_step": number, "batch_size": self.size}
        recordings, window = dataset.recordings("training"), self.config.data.num_frames
        return pipeline.training_batches(dataset, recordings, window=window, **steps)

    @functools.cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """The batch of the first step."""
        return next(self.batches(1, self.dataset))

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
    """Detection in recordings, from their features to their detections."""

    def __init__(
        self, config: ConfigDict, batch: int, number: int | None = None, video_scores: bool = True
    ) -> None:
        """See Program; proposals get labels from scores of their videos, or from the frames."""
        config = config.copy_and_resolve_references()
        config.eval.class_scores = "random" if video_scores else ""
        super().__init__(config, "eval", batch, number or batch)
        classes = self.dataset.classes
        self.detector = Detector(self.config, classes)
        if video_scores:  # in place of a file of them
            scores = dict(zip(classes, np.random.default_rng(0).random(len(classes)), strict=True))
            self.detector.video_scores = lambda _: {r.video: scores for r in self.recordings}
        self.step = self.detector.predict_step
        self.counted = flops.gflop(self.config, *sizes(self.config), num_proposals(self.config))
        self.counted["SSN"] += 0.0 if video_scores else self.counted["heads"]
        del self.counted["heads"], self.counted["boundaries"]

    @functools.cached_property
    def state(self) -> dict[str, Any]:
        """Parameters and statistics as they are before training, on all devices."""
        model = SegTAD(self.config, len(self.dataset.classes))
        return parallel.replicate(create_variables(self.config, model, self.dataset.num_channels))

    def detect(self) -> Any:
        """All recordings: batches, the devices' part, copies to the host, pooling, soft-NMS."""
        return self.detector.detect(self.state, self.dataset, self.recordings)

    @functools.cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """A batch as the detector hands it to its step."""
        features = [self.dataset.features(r) for r in self.recordings[: self.size]]
        return {
            "features": np.stack(features),
            "num_frames": np.full(self.size, self.config.data.num_frames, np.int32),
            "window": np.arange(self.size, dtype=np.int32),
            "cut": np.zeros((self.size, 2), bool),
        }

    def call(self, batch: Any) -> Any:
        """What soft-NMS selects, and the windows that it is of."""
        return self.step(self.state, batch)[:2]

    def from_host(self) -> Any:
        """The same with its batch and its outputs copied."""
        return jax.device_get(super().from_host())


def num_proposals(config: ConfigDict) -> int:
    """M."""
    return len(grid(config).segments)


def num_sampled(config: ConfigDict) -> int:
    """Rows that training scores in a video."""
    return config.sampling.seeds * grid(config).members.shape[1]
