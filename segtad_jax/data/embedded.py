"""Recordings -> TFRecord shards, written once, whole or not at all."""

import contextlib
import functools
import io
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from ml_collections import ConfigDict
from numpy.typing import DTypeLike

from segtad_jax.data import synthetic, watch
from segtad_jax.data.dataset import Dataset, exists, find, open_dataset, write_index
from segtad_jax.data.records import Record, encode, feature_spec
from segtad_jax.data.tensorflow_on_cpu import tensorflow_on_cpu

VERSION = "1.0.0"

Splits = Mapping[str, Callable[[], Iterable[Record]]]  # "training", "validation", maybe "testing"


class Recordings(tfds.core.GeneratorBasedBuilder):
    """A TFDS builder for any source of records; TFDS' own tools read what it writes."""

    VERSION = tfds.core.Version(VERSION)
    # Where TFDS looks for checksums of downloads, of which there are none; to find it, it imports
    # importlib_resources, which it does not declare.
    code_path = None

    def __init__(
        self,
        *,
        name: str,
        classes: Sequence[str],
        num_channels: int,
        splits: Splits,
        description: str,
        citation: str = "",
        dtype: DTypeLike = np.float32,
        **kwargs: Any,
    ) -> None:
        """Makes a builder, which writes on `download_and_prepare`.

        Args:
          name: of the data set, letters, digits and underscores.
          classes: names in any order; label d is the d-th in sorted order, from 1.
          num_channels: C.
          splits: each a function that gives its records, called once.
          description: what it is and how it was made.
          citation: whom to cite.
          dtype: of the stored features, float32 or float16.
          **kwargs: of the base class, such as data_dir.

        Raises:
          ValueError: a class is named twice.
        """
        if repeated := sorted({c for c in classes if list(classes).count(c) > 1}):
            raise ValueError(f"classes named twice: {', '.join(repeated)}")
        self.name = name
        self._classes = sorted(classes)
        self._num_channels = num_channels
        self._splits = splits
        self._texts = {"description": description, "citation": citation}
        self._dtype = np.dtype(dtype)
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        spec = feature_spec(self._classes, self._num_channels, self._dtype)
        return tfds.core.DatasetInfo(builder=self, features=spec, **self._texts)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        seen: dict[str, str] = {}
        return {
            split: self._generate_examples(split, records, seen)
            for split, records in self._splits.items()
        }

    def _generate_examples(
        self, split: str, records: Callable[[], Iterable[Record]], seen: dict[str, str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in records():
            if record.video in seen:
                raise ValueError(
                    f"video {record.video} occurs twice, in {seen[record.video]} and in {split}"
                )
            seen[record.video] = split
            yield (
                record.video,
                encode(record, self._classes, self._num_channels, self._dtype),
            )
        if split not in seen.values():
            raise ValueError(f"split {split} of {self.name} has no recordings")


def build(root: epath.PathLike, **arguments: Any) -> epath.Path:
    """Writes a data set to root/NAME/VERSION unless it is there.

    It is written under another name and renamed when whole, so that an interruption leaves no half
    of it, and of several processes at once one wins and the others take its.

    Args:
      root: folder of data sets.
      **arguments: of `Recordings`.

    Returns:
      The data set's folder.

    Raises:
      ValueError: a record that cannot be right, with the video and the value.
    """
    root = epath.Path(root)
    target = _target(root, arguments["name"])
    if exists(target):
        return target
    workshop = root / f".building-{uuid.uuid4().hex}"
    try:
        builder = Recordings(**arguments, data_dir=workshop)
        tfds.disable_progress_bar()
        tensorflow_on_cpu()  # which TFDS writes with
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS would name the temporary folder
            builder.download_and_prepare(file_format="tfrecord")
        write_index(builder.data_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            builder.data_path.rename(target)
        except OSError:
            if not exists(target):  # otherwise another process was faster, with the same
                raise
    finally:
        workshop.rmtree(missing_ok=True)
    return target


def open_or_build(config: ConfigDict) -> Dataset:
    """The data set that the config's group `data` names; an embedded source is built if need be.

    Args:
      config: with `source`, 'prepared', 'watch' or 'synthetic'; `dir`, for 'prepared' what
        `dataset.find` takes, otherwise the folder that data sets are built under; and for
        'synthetic' the fields `synthetic_...`.

    Raises:
      FileNotFoundError: no prepared data set there; says how to make one.
      ValueError: no folder is named, or one that holds several data sets.
    """
    if not config.dir:
        raise ValueError("data.dir is empty; set it, e.g. --config.data.dir=data")
    if config.source == "prepared":
        return open_dataset(find(config.dir, "--config.data.dir"))
    arguments = EMBEDDED[config.source](config)
    target = _target(config.dir, arguments["name"])
    if not exists(target):
        print(f"Writing the data set to {target}, once ...", flush=True)
        started = time.monotonic()
        build(config.dir, **arguments)
        print(f"Written in {time.monotonic() - started:.0f} s.", flush=True)
    return open_dataset(target)


def _watch(config: ConfigDict) -> dict[str, Any]:
    del config  # there is one such data set
    return {
        "name": "watch",
        "classes": watch.CLASSES,
        "num_channels": watch.NUM_CHANNELS,
        "splits": {
            split: functools.partial(watch.records, split) for split in ("training", "validation")
        },
        "description": watch.DESCRIPTION,
        "citation": watch.CITATION,
    }


def _synthetic(config: ConfigDict) -> dict[str, Any]:
    signature = {
        "r": config.synthetic_recordings,
        "f": config.synthetic_frames,
        "c": config.synthetic_channels,
        "k": config.synthetic_classes,
        "n": str(config.synthetic_noise).replace(".", "p").replace("-", "m"),
        "s": config.synthetic_seed,
    }
    world = synthetic.World(
        num_frames=config.synthetic_frames,
        num_channels=config.synthetic_channels,
        num_classes=config.synthetic_classes,
        noise=config.synthetic_noise,
        seed=config.synthetic_seed,
    )
    training = config.synthetic_recordings
    sizes = {"training": training, "validation": max(training // 4, 4)}
    return {
        # All parameters are in the name: no two configs share a folder.
        "name": "_".join(["synthetic", *(f"{key}{value}" for key, value in signature.items())]),
        "classes": synthetic.class_names(config.synthetic_classes),
        "num_channels": config.synthetic_channels,
        "splits": {
            split: functools.partial(synthetic.records, split, size, world)
            for split, size in sizes.items()
        },
        "description": synthetic.DESCRIPTION,
    }


EMBEDDED: dict[str, Callable[[ConfigDict], dict[str, Any]]] = {
    "watch": _watch,
    "synthetic": _synthetic,
}


def _target(root: epath.PathLike, name: str) -> epath.Path:
    return epath.Path(root) / name / VERSION
