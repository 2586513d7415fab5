"""Opens the data set of a config; an embedded one, made by code here, is written first."""

import time
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from segtad_jax.data import synthetic, watch
from segtad_jax.data.dataset import Dataset, exists, find, find_all, open_dataset
from segtad_jax.data.index import ANEW, INDEX
from segtad_jax.data.preparation import FILE
from segtad_jax.data.writer import dataset_folder, write_dataset
from segtad_jax.evaluation.json_files import load_sealed


def open_or_build(config: ConfigDict) -> Dataset:
    """Opens the data set that the config's group `data` names, writing an embedded one if need be.

    Args:
        config: with `source`, 'prepared', 'watch' or 'synthetic'; `dir`, for 'prepared' what
            `dataset.find` takes, otherwise the folder that data sets are written below; and for
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
    target = dataset_folder(config.dir, arguments["name"])
    if not exists(target):
        print(f"Writing the data set to {target}, once ...", flush=True)
        started = time.monotonic()
        write_dataset(config.dir, **arguments)
        print(f"Written in {time.monotonic() - started:.0f} s.", flush=True)
    elif "files" in arguments and not (target / FILE).exists():
        print(
            f"{target} is of an older version, which did not keep how features are made: a run on "
            "it detects in features alone. Remove it, and it is written anew.",
            flush=True,
        )
    return open_dataset(target)


def stored_fingerprint(config: ConfigDict) -> str | None:
    """Returns the fingerprint of a config's data set without opening it.

    None where it is gone, not written yet, or of an older version.
    """
    if config.source == "prepared":
        folders = find_all(config.dir) if config.dir else []
    else:
        folders = [dataset_folder(config.dir, EMBEDDED[config.source](config)["name"])]
    if len(folders) != 1 or not (index := folders[0] / INDEX).exists():
        return None
    return load_sealed(index, ANEW).get("checksum")


def _watch(config: ConfigDict) -> dict[str, Any]:
    del config  # there is one such data set
    return {
        "name": "watch",
        "classes": watch.CLASSES,
        "num_channels": watch.NUM_CHANNELS,
        "splits": {split: watch.records(split) for split in ("training", "validation")},
        "description": watch.DESCRIPTION,
        "citation": watch.CITATION,
        "files": watch.files(),
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
        "splits": {split: synthetic.records(split, n, world) for split, n in sizes.items()},
        "description": synthetic.DESCRIPTION,
    }


EMBEDDED: dict[str, Callable[[ConfigDict], dict[str, Any]]] = {
    "watch": _watch,
    "synthetic": _synthetic,
}
