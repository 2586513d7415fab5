"""`--mode=compile`: does a config fit a TPU slice? Before the money is spent, without a TPU.

Compiles the step that training runs and the step that inference runs for every chip of a slice,
and reads the compiler's own figures. Nothing runs, so none of them is a measurement; what the
compiler does not know is n/a.
"""

import collections
import dataclasses
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.table import Table

from segtad_jax.config.check import check, check_data
from segtad_jax.detector import Detector
from segtad_jax.models.segtad import SegTAD
from segtad_jax.optim import optimizer
from segtad_jax.runtime import command, parallel
from segtad_jax.runtime.console import open_console
from segtad_jax.step import create_state, parallel_step
from segtad_jax.tpu import topology
from segtad_jax.tpu.topology import GIB, Slice

log = logging.getLogger(__name__)

Shapes = dict[str, jax.ShapeDtypeStruct]

ACTIONS = 32  # N of a batch, which data would give: 18 is the most of a video of ActivityNet-1.3
UNKNOWN = float("nan")
BATCH_FIELDS = {"train": "train.batch_size", "predict": "eval.batch_size"}  # of each step
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": GIB, "T": GIB << 10}
KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
COLLECTIVE = re.compile(rf"^\s*(?:ROOT )?\S+ = (.+?) ({KINDS})(-start)?\(", re.MULTILINE)
ARRAY = re.compile(r"\b(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Figures:
    """The compiler's figures of one step, per chip; NaN where it gives none."""

    fits: bool
    hbm: float = UNKNOWN  # bytes: arguments, results, temporaries and code
    flops: float = UNKNOWN
    accessed: float = UNKNOWN  # bytes
    seconds: float = UNKNOWN  # its own estimate
    collectives: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    loops: int = 0  # whose bodies count once in all figures but `hbm`
    compiled_in: float = UNKNOWN  # seconds, on this machine


def check_slices(config: ConfigDict, names: Sequence[str]) -> int:
    """Compiles both steps for slices such as `v5e:4x4` and prints what they need, with advice.

    Returns:
        Exit status: 0, or 1 where something does not fit.

    Raises:
        ValueError: the config cannot be run on a slice, or leaves open what data would tell; there
            is no such slice, or no libtpu.
    """
    for field in ("num_channels", "num_classes"):
        if config.data[field] is None:
            raise ValueError(
                f"data.{field} is open, but --mode=compile reads no data: give it, "
                f"as --config.data.{field}=200."
            )
    check(config)
    channels = config.data.num_channels
    check_data(config, channels, config.data.num_classes, f"data.num_channels = {channels}")
    if not names:
        raise ValueError("--mode=compile needs --topology, such as v5e:4x4; it may be repeated.")
    slices = [topology.parse(name) for name in names]
    jax.config.update("jax_platforms", "cpu")  # of arrays; compiling is for the slice's devices
    slice_devices = [topology.devices(wanted) for wanted in slices]
    for devices in slice_devices:
        check(config, len(devices))
    return max(_check_slice(config, *pair) for pair in zip(slices, slice_devices, strict=True))


def _check_slice(config: ConfigDict, wanted: Slice, devices: Sequence[jax.Device]) -> int:
    log.info("%s: compiling both steps for %d chips", wanted.name, len(devices))
    chips, channels, classes = len(devices), config.data.num_channels, config.data.num_classes
    batches = {"train": config.train.batch_size, "predict": config.eval.batch_size}
    model, optim = SegTAD(config, classes, axis_name=parallel.AXIS), optimizer(config)
    state: Any = jax.eval_shape(lambda: create_state(config, model, optim, channels))
    detector = Detector(config, [str(label) for label in range(classes)], devices=devices)
    figures = {
        "train": compile_step(
            parallel_step(config, model, optim, devices),
            state,
            batch_shapes(config, chips, batches["train"] // chips),
        ),
        "predict": compile_step(
            detector.whole_step,
            state.variables,
            window_shapes(config, chips, batches["predict"] // chips),
        ),
    }
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    console = open_console(width=100, highlight=False)
    console.print(f"{wanted.name}: {chips} chips, {parameters:,} parameters, figures per chip")
    console.print(table(wanted, {step: n // chips for step, n in batches.items()}, figures))
    for line in advice(wanted, batches, figures):
        console.print(line, soft_wrap=True)
    fits = all(step.fits for step in figures.values())
    return command.DONE if fits else command.FAILED


def batch_shapes(config: ConfigDict, num_devices: int, batch: int) -> Shapes:
    """Returns the shapes of a training batch, divided among devices; `batch` is of one device."""

    def array(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((num_devices, batch, *shape), dtype)

    # As prepare stores them by default; embedded data sets are float32.
    stored = jnp.float16 if config.data.source == "prepared" else jnp.float32
    return {
        "features": array(stored, config.data.num_frames, config.data.num_channels),
        "segments": array(jnp.float32, ACTIONS, 2),
        "labels": array(jnp.int32, ACTIONS),
        "valid": array(jnp.bool_, ACTIONS),
        "num_frames": array(jnp.int32),
        "position": array(jnp.int32),
    }


def window_shapes(config: ConfigDict, num_devices: int, batch: int) -> Shapes:
    """Returns the shapes of what `Detector` hands to its step."""
    shapes = batch_shapes(config, num_devices, batch)
    return {k: shapes[k] for k in ("features", "num_frames")} | {
        "window": shapes["num_frames"],
        "cut": jax.ShapeDtypeStruct((num_devices, batch, 2), jnp.bool_),
    }


def compile_step(step: Any, state: Any, batch: Mapping[str, Any]) -> Figures:
    """Compiles `step(state, batch)`, a step of `parallel`, for these shapes."""
    started = time.monotonic()
    try:
        compiled = step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Figures(False, hbm=refused_bytes(str(error)), compiled_in=time.monotonic() - started)
    memory, cost, hlo = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    return Figures(
        True,
        hbm=float(
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
            + memory.generated_code_size_in_bytes
        ),
        flops=cost_figure(cost, "flops"),
        accessed=cost_figure(cost, "bytes accessed"),
        seconds=cost_figure(cost, "optimal_seconds"),
        collectives=collectives(hlo),
        loops=len(re.findall(r" while\(", hlo)),
        compiled_in=time.monotonic() - started,
    )


def cost_figure(cost: dict[str, float], key: str) -> float:
    """Returns a figure of cost_analysis; NaN where the compiler does not know it."""
    value = cost.get(key, UNKNOWN)  # negative, too, where it is unknown
    return value if value > 0 else UNKNOWN


def refused_bytes(message: str) -> float:
    """Reads from the compiler's message the bytes that a refused program needs; NaN if none."""
    match = re.search(r"(?:Used |\()([\d.]+)([KMGT])\)? (?:of|exceeds)", message)
    return float(match[1]) * UNITS[match[2]] if match else UNKNOWN


def collectives(hlo: str) -> dict[str, tuple[int, int]]:
    """Counts each kind of collective in compiled HLO: (number, bytes of their results)."""
    counts: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[str] = collections.Counter()
    for result, kind, start in COLLECTIVE.findall(hlo):
        arrays = [
            (int(bits) if bits else 8) // 8 * int(np.prod([int(n) for n in shape.split(",") if n]))
            for bits, shape in ARRAY.findall(result)
        ]
        if start and kind != "all-reduce":  # its result is (operands, results, ...)
            arrays = arrays[len(arrays) // 2 :]
        counts[kind] += 1
        sizes[kind] += sum(arrays)
    return {kind: (counts[kind], sizes[kind]) for kind in sorted(counts)}


def table(wanted: Slice, batches: dict[str, int], figures: dict[str, Figures]) -> Table:
    """Makes a table of one chip's figures, a column a step; `batches` are windows per chip."""
    rows = Table("", box=None, pad_edge=False)
    for step in figures:
        rows.add_column(f"{step} step", justify="right", min_width=30)
    columns = [_column(wanted.chip, batches[step], f) for step, f in figures.items()]
    for name in columns[0]:
        rows.add_row(name, *(column[name] for column in columns))
    return rows


def _column(chip: topology.Chip, windows: int, figures: Figures) -> dict[str, str]:
    used = figures.collectives
    if_it_fits = {
        "flops": number(figures.flops / 1e9, "GFLOP"),
        "bytes accessed": size(figures.accessed),
        "collectives": ", ".join(f"{n} {kind}" for kind, (n, _) in used.items()) or "none",
        "bytes of collectives": size(float(sum(n for _, n in used.values()))),
        "loops, counted once": f"{figures.loops}",
        "compiler's estimate": number(figures.seconds * 1e3, "ms"),
        "flops / peak": number(figures.flops / chip.tflops / 1e9, "ms"),
        "bytes / bandwidth": number(figures.accessed / chip.hbm_gb_per_second / 1e6, "ms"),
    }
    return {
        "windows per chip": f"{windows:,}",
        "HBM needed": size(figures.hbm) + ("" if figures.fits else ": too much"),
        "HBM there is": size(chip.hbm_gib * GIB),
        "compiling took": number(figures.compiled_in, "s"),
        **(if_it_fits if figures.fits else dict.fromkeys(if_it_fits, "n/a")),
    }


def advice(wanted: Slice, batches: dict[str, int], figures: dict[str, Figures]) -> list[str]:
    """Returns advice for each step that does not fit; `batches` are windows of all chips."""
    return [
        f"{wanted.name}: the {step} step does not fit: set {BATCH_FIELDS[step]} below "
        f"{batches[step]}, take chips with more memory, or set model.dtype = 'bfloat16', a smaller "
        "model.width or, for training, train.rematerialise = True."
        for step in figures
        if not figures[step].fits
    ]


def size(value: float) -> str:
    """Formats bytes as GiB or MiB."""
    return number(value / GIB, "GiB") if value >= GIB / 10 else number(value / (1 << 20), "MiB")


def number(value: float, unit: str) -> str:
    """Formats a number with four digits at most and a unit, or n/a."""
    if np.isnan(value):
        return "n/a"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.4g} {unit}"
