"""Networks that make features of frames, behind one interface, by name or as a plug-in."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float, UInt8

BUILT_IN = {
    "i3d": "segtad_jax.video.i3d:create",
    "videoprism-b": "segtad_jax.video.videoprism:create_base",
    "videoprism-l": "segtad_jax.video.videoprism:create_large",
}
FLAGS = {"fps": "--video_fps", "size": "--size", "weights": "--weights"}

Frames = UInt8[Array | np.ndarray, "n size size 3"]  # RGB


@dataclasses.dataclass(frozen=True)
class Stream:
    """A backbone that goes through a recording once and keeps what later frames need.

    Attributes:
        create: returns the state before the first frame.
        step: (state, frames [n], time, end) -> (state, features [n / stride]); frame 0 of `frames`
            is frame `time` of the recording, which has `end` frames or more; n and `time` are
            multiples of the stride. The features are those of the frames `delay` features before.
        delay: features that a step is late.
        chunk: frames of a step, by default.
    """

    create: Callable[[], Any]
    step: Callable[[Any, Frames, int, int], tuple[Any, Float[Array, "_ channels"]]]
    delay: int
    chunk: int


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network that makes a feature of every `stride` frames.

    Attributes:
        name: as `--backbone` names it.
        fps: frames a second that it takes.
        size: height and width of the frames, in pixels.
        stride: frames a feature.
        context: frames to either side of a feature's own that it depends on.
        channels: numbers in a feature.
        apply: frames -> features [n / stride, channels]; n is a multiple of the stride. Compiled
            by its maker (`jax.jit`). Where there are several devices JAX traces it once more; on
            one it may be anything that returns an array, such as another library's network.
        weights: SHA-256 of the weights, in hex; "" where there are none.
        classes: names of the classes of `classify`.
        classify: features [F, channels] -> logits [F, classes], linear, so that the logits of a
            longer time are the mean.
        stream: an equal way that computes nothing twice, for one device.
    """

    name: str
    fps: float
    size: int
    stride: int
    context: int
    channels: int
    apply: Callable[[Frames], Float[Array, "_ channels"]]
    weights: str = ""
    classes: tuple[str, ...] = ()
    classify: Callable[[Float[Array, "F channels"]], Float[Array, "F classes"]] | None = None
    stream: Stream | None = None

    def __post_init__(self) -> None:
        for field, bound in {
            "fps": 0,
            "size": 0,
            "stride": 0,
            "context": -1,
            "channels": 0,
        }.items():
            if not bound < (value := getattr(self, field)) < float("inf"):
                raise ValueError(
                    f"--backbone={self.name}: {field} is {value}, expected more than {bound}."
                )


def create(
    name: str, *, fps: float | None = None, size: int | None = None, weights: str | None = None
) -> Backbone:
    """Makes a backbone, its weights loaded.

    Args:
        name: "i3d", "videoprism-b", "videoprism-l", or "package.module:function" of a plug-in: the
            function returns a `Backbone` and takes those of the other arguments that are given.
        fps: frames a second, where not the backbone's own.
        size: pixels, where not the backbone's own.
        weights: a file, where not the backbone's own.

    Raises:
        ValueError: no such backbone, a setting that it does not take, or a damaged file of weights.
        ModuleNotFoundError: it needs a package that is not installed; says what to type.
    """
    options = {"fps": fps, "size": size, "weights": weights}
    given = {key: value for key, value in options.items() if value is not None}
    module, colon, function = BUILT_IN.get(name, name).partition(":")
    if not colon:
        raise ValueError(
            f"--backbone={name} is unknown. There are {', '.join(BUILT_IN)}, and any function that "
            "returns a segtad_jax.video.backbones.Backbone, as --backbone=package.module:function."
        )
    try:
        maker = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"--backbone={name}: {error}. It names a function of a module that Python finds, as "
            "--backbone=package.module:function. Modules in this folder are found by "
            "python -m segtad_jax COMMAND, not by segtad COMMAND."
        ) from error
    try:
        inspect.signature(maker).bind(**given)
    except TypeError as error:
        settings = ", ".join(f"{FLAGS[key]}={value}" for key, value in given.items())
        raise ValueError(
            f"--backbone={name} does not take {settings}: {error}. Leave it out."
        ) from error
    backbone = maker(**given)
    if not isinstance(backbone, Backbone):
        raise ValueError(
            f"--backbone={name} returned {type(backbone).__name__}, not a "
            "segtad_jax.video.backbones.Backbone."
        )
    return dataclasses.replace(backbone, name=name)
