"""Peaks of the machine, repeats, tables and files, for all benchmarks.

A time means little without the machine's speed at that moment, so all figures are taken between
two measurements of the machine's own peak, and a table says where these differ.
"""

import dataclasses
import functools
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segtad_jax.runtime.files import write_whole

CPU_SIZE, SIZE = 2048, 8192  # of the square matrices of the peak
PRODUCTS = 20
COPIED = 1 << 26  # float32 values, 268 MB: more than a cache holds
STEADY = 0.05  # how much the peaks before and after may differ
MAX_REPEATS = 1000
HIGHEST = "float32, highest precision"  # 'float32' itself is TF32 on most GPUs
COPY = "a copy"
PEAKS = ("float32", "bfloat16", HIGHEST, COPY)


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long a measurement may take."""

    seconds: float = 2.0  # at least, for a row
    repeats: int = 5  # likewise
    deadline: float = math.inf  # of time.monotonic(), by which the last call shall have ended


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One figure: the median and the quartiles of its repeats."""

    name: str
    value: float
    unit: str  # 'ms' of a batch, 's', 'MB', 'x' (more is better), '' of a difference
    low: float | None = None
    high: float | None = None
    repeats: int = 1
    gflop: float | None = None  # of a batch, counted
    peak: str = "float32"  # which of the peaks its share is of
    gb: float | None = None  # that a batch reads and writes, as the compiler counts it
    memory: float | None = None  # MB of the program: arguments, results and temporaries
    copied: float | None = None  # ms with the batch and the results copied from and to the host
    peer: float | None = None  # ms of the same in PyTorch, copies included
    note: str = ""


def machine() -> dict[str, Any]:
    """The machine and the versions that figures are of."""
    device, info = jax.devices()[0], Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "processor": next(names, platform.processor()),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


@dataclasses.dataclass
class Results:
    """The content of a benchmark's JSON file."""

    benchmark: str
    config: Mapping[str, Any]
    rows: list[Measurement] = dataclasses.field(default_factory=list)
    # By kind of PEAKS: GFLOP/s, GB/s of a copy, before and after the rows.
    peaks: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)  # name: why
    machine: Mapping[str, Any] = dataclasses.field(default_factory=machine)

    def add_peaks(self, seconds: float, kinds: Iterable[str] = ("float32",)) -> None:
        """Measures peaks, each for so long; to be called before and after the rows."""
        for kind in kinds:
            self.peaks.setdefault(kind, []).append(measure_peak(kind, seconds))

    def share(self, row: Measurement) -> float | None:
        """The part of the peak that a row's counted operations reach."""
        if row.gflop is None or row.peak not in self.peaks:
            return None
        devices = 1 if self.machine["platform"] == "cpu" else self.machine["devices"]
        return row.gflop / (row.value / 1e3) / max(self.peaks[row.peak]) / devices

    def bandwidth_share(self, row: Measurement) -> float | None:
        """The part of a copy's bandwidth that a row's reading and writing reach."""
        if row.gb is None or COPY not in self.peaks:
            return None
        return row.gb / (row.value / 1e3) / max(self.peaks[COPY])


def measure_peak(kind: str, seconds: float) -> float:
    """GB/s of COPY or GFLOP/s of a format's products: the best of 20 calls, or of some seconds."""
    if kind == COPY:
        values = jnp.zeros(COPIED, jnp.float32)
        amount, call = 2 * values.nbytes, functools.partial(jax.jit(lambda x: x + 1), values)
    else:
        size = CPU_SIZE if jax.default_backend() == "cpu" else SIZE
        dtype, precision = ("float32", "highest") if kind == HIGHEST else (kind, None)
        a, b = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
        product = jax.jit(functools.partial(jnp.matmul, precision=precision))
        amount, call = 2 * size**3, functools.partial(product, a, b)
    jax.block_until_ready(call())
    effort = Effort(0.0, PRODUCTS, time.monotonic() + seconds)
    return amount / min(sample(call, effort)) / 1e9


def sample(function: Callable[[], Any], effort: Effort) -> list[float]:
    """Seconds of a call and of others, as far as they would end before the deadline."""
    times: list[float] = []
    while len(times) < effort.repeats or (sum(times) < effort.seconds and len(times) < MAX_REPEATS):
        if times and time.monotonic() + times[-1] > effort.deadline:
            break
        started = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - started)
    return times


def timed(
    name: str, function: Callable[[], Any], effort: Effort, batches: int = 1, **more: Any
) -> Measurement:
    """Milliseconds of a batch; a call is `batches` of them, and the first one does not count."""
    jax.block_until_ready(function())
    times = sample(function, effort)
    low, median, high = np.percentile(1e3 * np.array(times) / batches, [25, 50, 75]).tolist()
    return Measurement(name, median, "ms", low, high, len(times), **more)


def write(results: Results, path: Path) -> None:
    """Writes the file that `read` reads."""
    write_whole(path, json.dumps(dataclasses.asdict(results), indent=1) + "\n")


def read(path: Path) -> Results:
    """Results that a benchmark wrote; ValueError if the file is something else."""
    try:
        content = json.loads(path.read_text())
        return Results(**content | {"rows": [Measurement(**row) for row in content["rows"]]})
    except (KeyError, TypeError, ValueError) as error:  # not UTF-8 or JSON: ValueError
        raise ValueError(
            f"{path} is no file of --json=FILE of a benchmark ({type(error).__name__}: {error})"
        ) from error


def table(results: Results) -> str:
    """A title, the peaks, a Markdown table, and what is left out."""
    host = results.machine
    on = f"{host['devices']} x {host['device']} ({host['cores']} cores, {host['processor']})"
    lines = [f"{results.benchmark}, on {on}, jax {host['jax']}, Python {host['python']}", ""]
    for kind, values in results.peaks.items():
        before, after = values[0], values[-1]
        name, unit = (COPY, "GB/s") if kind == COPY else (f"products, {kind}", "GFLOP/s")
        steady = abs(after - before) <= STEADY * max(before, after)
        note = "" if steady else ": UNSTEADY, take no figure from this"
        lines.append(f"- {name}: {before:,.0f} {unit} before, {after:,.0f} after{note}")
    columns: dict[str, Callable[[Measurement], str]] = {
        "": lambda row: row.name,
        "median": lambda row: f"{number(row.value)} {row.unit}",
        "quartiles": lambda row: f"{number(row.low)} .. {number(row.high)}" if row.low else "",
        "n": lambda row: str(row.repeats),
        "GFLOP": lambda row: number(row.gflop),
        "of the peak": lambda row: percent(results.share(row)),
        "of the bandwidth": lambda row: percent(results.bandwidth_share(row)),
        "MB": lambda row: number(row.memory),
        "with copies, ms": lambda row: number(row.copied),
        "PyTorch, ms": lambda row: number(row.peer),
        "times as fast": lambda row: number(row.peer and row.peer / (row.copied or row.value)),
        "note": lambda row: row.note,
    }
    texts = {name: [column(row) for row in results.rows] for name, column in columns.items()}
    padded = []
    for name, column in texts.items():
        if any(column):
            width = max(map(len, [name, *column]))
            padded.append([text.ljust(width) for text in (name, "-" * width, *column)])
    lines += [f"| {' | '.join(cells)} |" for cells in zip(*padded, strict=True)]
    for why in dict.fromkeys(results.left_out.values()):
        names = [name for name, reason in results.left_out.items() if reason == why]
        lines.append(f"- left out, {why}: {'; '.join(names)}")
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Three digits, or all before the point; '' for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(share: float | None) -> str:
    """'' for None."""
    return "" if share is None else f"{share:.0%}"
