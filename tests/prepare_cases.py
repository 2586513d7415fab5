"""Eight videos with nothing wrong, and the command that prepares them."""

import json

import numpy as np

from segtad_jax.prepare.__main__ import main
from test_features import write

RATE = 2.0  # features a second


def features(index, frames=None, channels=4):
    random = np.random.default_rng(index)
    return random.normal(size=(frames or 20 + index, channels)).astype(np.float32)


def arrays(number=8):
    return {f"v_x{index}": features(index) for index in range(number)}


def entry(index, **fields):
    start = 1 + index / 3
    annotations = [
        {"segment": [start, start + 2], "label": "run"},
        {"segment": [start + 1, start + 5.5], "label": "jump"},
    ]
    subset = "validation" if index % 4 == 3 else "training"
    duration = (20 + index) / RATE
    return {"subset": subset, "duration": duration, "annotations": annotations} | fields


def database(number=8, **videos):
    return {"database": {f"x{index}": entry(index) for index in range(number)} | videos}


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def good_inputs(folder):
    """Files of the eight videos, as flags of the command."""
    return {
        "features": write(folder / "features", "npy", arrays()),
        "annotations": written(folder / "annotations.json", database()),
        "output": folder / "data",
    }


def prepare(flags, *more):
    given = {"name": "mine", "dtype": "float32", **flags}
    return main([*(f"--{name}={value}" for name, value in given.items()), *more])


def report_of(directory):
    return json.loads((directory / "report.json").read_text())
