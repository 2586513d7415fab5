"""`--mode=compile`: does a config fit a TPU slice? Before the money is spent, without a TPU.

Compiles the step that training runs and the step that inference runs for every device of a slice,
and reads the compiler's own figures off them. Nothing runs: they are the compiler's, not
measurements, and what it does not say is n/a.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from segtad_jax.config.check import check, check_channels
from segtad_jax.detector import Detector
from segtad_jax.models.segtad import SegTAD
from segtad_jax.optim import optimizer
from segtad_jax.runtime import parallel
from segtad_jax.tpu import topology
from segtad_jax.tpu.program_figures import Figures, Shapes, compile_step
from segtad_jax.tpu.topology import GIB, Slice
from segtad_jax.train import TrainState, create_state, parallel_step

log = logging.getLogger(__name__)

ACTIONS = 32  # N of a batch, which data would give: 18 is the most of a video of ActivityNet-1.3
LARGEST = 512  # windows per chip, beyond which no one looks for a larger batch
COMPILES = 8  # at most, in the search for the largest batch
PRECISION = 8  # the search ends when less than 1/8 is open
# Rows that say something of a step that does not fit, too.
ALWAYS = ("windows per chip", "HBM needed", "HBM there is", "compiling took")


def check_slices(config: ConfigDict, names: Sequence[str]) -> int:
    """Compiles both steps for every slice, prints what they need, and advice where it is too much.

    Args:
        config: with `data.num_channels` and `data.num_classes`, since no data are read.
        names: of slices, such as `v5e:4x4`.

    Returns:
        Exit status: 0, or 1 where something does not fit.

    Raises:
        ValueError: the config cannot be run on a slice, there is no such slice, or no libtpu.
    """
    for field in ("num_channels", "num_classes"):
        if not config.data[field] > 0:
            raise ValueError(
                f"data.{field} is {config.data[field]}, but --mode=compile reads no data: give it, "
                f"as --config.data.{field}=200."
            )
    check(config)
    channels = config.data.num_channels
    check_channels(config, channels, f"data.num_channels = {channels}")
    if not names:
        raise ValueError("--mode=compile needs --topology, such as v5e:4x4; it may be repeated.")
    slices = [topology.parse(name) for name in names]
    jax.config.update("jax_platforms", "cpu")  # of arrays; compiling is for the slice's devices
    found = [topology.devices(wanted) for wanted in slices]
    for devices in found:
        check(config, len(devices))
    return max(_check_slice(config, *pair) for pair in zip(slices, found, strict=True))


def _check_slice(config: ConfigDict, wanted: Slice, devices: Sequence[jax.Device]) -> int:
    state = abstract_state(config)
    train = functools.partial(train_figures, config, devices, state)
    batches = {
        "train": config.train.batch_size // len(devices),
        "predict": config.eval.batch_size // len(devices),
    }
    log.info("%s: compiling both steps for %d chips", wanted.name, len(devices))
    figures = {
        "train": train(batches["train"]),
        "predict": predict_figures(config, devices, state, batches["predict"]),
    }

    print(report(wanted, len(devices), parameters(state), batches, figures), flush=True)

    def fits(batch: int) -> bool:
        log.info("%s: looking for the largest batch: %d windows per chip", wanted.name, batch)
        return train(batch).fits

    guess = extrapolate(figures["train"], batches["train"], state, wanted.chip.hbm_gib * GIB)
    low, high = largest_batch(fits, batches["train"], figures["train"].fits, guess)
    total = low * len(devices)
    more = f"{high:,} do not" if high else "more were not tried"
    print(f"largest train batch: {low:,} windows per chip fit, {total:,} in all; {more}")
    for line in advice(wanted, batches, figures, low, len(devices)):
        print(line)
    return int(not all(step.fits for step in figures.values()))


def abstract_state(config: ConfigDict) -> TrainState:
    """Shapes of the training state; nothing is computed."""
    model = SegTAD(config, config.data.num_classes)
    create = functools.partial(
        create_state, config, model, optimizer(config), config.data.num_channels
    )
    return jax.eval_shape(create)


def batch_shapes(config: ConfigDict, num_devices: int, batch: int) -> Shapes:
    """Shapes of a training batch of `data.pipeline`, divided among devices; `batch` is of one."""

    def array(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((num_devices, batch, *shape), dtype)

    # As prepare stores them, unless told otherwise; embedded data sets are float32.
    stored = jnp.float16 if config.data.source == "prepared" else jnp.float32
    return {
        "features": array(stored, config.data.num_frames, config.data.num_channels),
        "segments": array(jnp.float32, ACTIONS, 2),
        "labels": array(jnp.int32, ACTIONS),
        "valid": array(jnp.bool_, ACTIONS),
        "num_frames": array(jnp.int32),
        "mask": array(jnp.bool_),
        "position": array(jnp.int32),
    }


def window_shapes(config: ConfigDict, num_devices: int, batch: int) -> Shapes:
    """Shapes of what `Detector` hands to its step."""
    shapes = batch_shapes(config, num_devices, batch)
    return {k: shapes[k] for k in ("features", "num_frames")} | {
        "window": shapes["num_frames"],
        "cut": jax.ShapeDtypeStruct((num_devices, batch, 2), jnp.bool_),
    }


def train_figures(
    config: ConfigDict, devices: Sequence[jax.Device], state: TrainState, batch: int
) -> Figures:
    """Of the training step, for `batch` windows on each device."""
    model = SegTAD(config, config.data.num_classes, axis_name=parallel.AXIS)
    step = parallel_step(config, model, optimizer(config), devices)
    return compile_step(step, state, batch_shapes(config, len(devices), batch))


def predict_figures(
    config: ConfigDict, devices: Sequence[jax.Device], state: TrainState, batch: int
) -> Figures:
    """Of the inference step, for `batch` windows on each device."""
    classes = [str(label) for label in range(config.data.num_classes)]
    step = Detector(config, classes, devices=devices).predict_step
    return compile_step(step, state.variables, window_shapes(config, len(devices), batch))


def parameters(state: TrainState) -> int:
    """How many numbers are learnt."""
    return sum(x.size for x in jax.tree.leaves(state.params))


def extrapolate(figures: Figures, batch: int, state: TrainState, limit: float) -> int:
    """The batch that would fill the memory if all but state and code grew with the batch."""
    fixed = figures.code + sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    grows = (figures.hbm - fixed) / batch
    return max(int((limit - fixed) / grows), 1) if grows > 0 else 2 * batch


def largest_batch(
    fits: Callable[[int], bool], batch: int, fitted: bool, guess: int
) -> tuple[int, int | None]:
    """The largest batch that is known to fit and the smallest that is known not to, or None.

    Args:
        fits: compiles; called `COMPILES` times at most, for `LARGEST` windows at most.
        batch: one whose answer is known.
        fitted: that answer.
        guess: where to look first.
    """
    low, high = (batch, None) if fitted else (0, batch)
    probe, stride = guess, max(low // PRECISION, 1)
    for _ in range(COMPILES):
        if high is None:
            probe = min(max(probe, low + stride), LARGEST)
            if probe <= low:
                break
        else:
            if high - low <= max(low // PRECISION, 1):
                break
            probe = probe if low < probe < high else (low + high) // 2
        stride = max(2 * stride, probe // PRECISION)
        low, high = (probe, high) if fits(probe) else (low, probe)
    return low, high


def report(
    wanted: Slice,
    num_devices: int,
    num_parameters: int,
    batches: dict[str, int],
    figures: dict[str, Figures],
) -> str:
    """The table of a slice, a column for each step; figures are of one chip."""
    chip = wanted.chip
    rows: dict[str, Callable[[str, Figures], str]] = {
        "windows per chip": lambda step, _: f"{batches[step]:,}",
        "HBM needed": lambda _, f: size(f.hbm) + ("" if f.fits else ": too much"),
        "HBM there is": lambda *_: size(chip.hbm_gib * GIB),
        "flops": lambda _, f: number(f.flops / 1e9, "GFLOP"),
        "bytes accessed": lambda _, f: size(f.accessed),
        "collectives": lambda _, f: counted(f),
        "bytes of collectives": lambda _, f: size(f.collective_bytes),
        "loops, counted once": lambda _, f: f"{f.loops}",
        "compiler's estimate": lambda _, f: number(f.seconds * 1e3, "ms"),
        "flops / peak": lambda _, f: number(f.flops / chip.tflops / 1e9, "ms"),
        "bytes / bandwidth": lambda _, f: number(f.accessed / chip.hbm_gb_per_second / 1e6, "ms"),
        "compiling took": lambda _, f: number(f.compiled_in, "s"),
    }
    lines = [f"{wanted.name}: {num_devices} chips, {num_parameters:,} parameters, figures per chip"]
    lines += [f"{'':20} {'train step':>30} {'predict step':>30}"]
    lines += [
        f"{name:20} "
        + " ".join(
            f"{cell(step, f) if f.fits or name in ALWAYS else 'n/a':>30}"
            for step, f in figures.items()
        )
        for name, cell in rows.items()
    ]
    return "\n".join(lines)


def advice(
    wanted: Slice,
    batches: dict[str, int],
    figures: dict[str, Figures],
    largest: int,
    num_devices: int,
) -> list[str]:
    """What to do where a step does not fit."""
    lines = []
    for step, field in {"train": "train.batch_size", "predict": "eval.batch_size"}.items():
        if figures[step].fits:
            continue
        fitting = largest if step == "train" else batches[step] // 2
        smaller = f"set {field} to {fitting * num_devices} or less, " if fitting else ""
        lines.append(
            f"{wanted.name}: the {step} step does not fit: {smaller}take chips with more memory, "
            "or set model.dtype = 'bfloat16', a smaller model.width or, for training, "
            "train.rematerialise = True."
        )
    return lines


def counted(figures: Figures) -> str:
    """How many collectives of each kind."""
    return ", ".join(f"{n} {kind}" for kind, (n, _) in figures.collectives.items()) or "none"


def size(value: float) -> str:
    """Bytes."""
    return number(value / GIB, "GiB") if value >= GIB / 10 else number(value / (1 << 20), "MiB")


def number(value: float, unit: str) -> str:
    """Four digits at most and a unit, or n/a."""
    if np.isnan(value):
        return "n/a"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.4g} {unit}"
