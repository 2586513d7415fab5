"""Peaks of the machine, repeats, tables and files, for all benchmarks.

A time means little without the machine's speed at that moment, so every measurement stands between
two of the machine's own peak, and is made again where these differ.
"""

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

CPU_SIZE, SIZE = 2048, 8192  # of the square matrices of the peak
PRODUCTS = 20
PEAK_SECONDS = 2.0  # after which a slow machine's peak is the best until then
COPIED = 1 << 26  # float32 values, 268 MB: more than a cache holds
STEADY = 0.05  # how much the peaks before and after may differ
MAX_REPEATS = 1000
HIGHEST = "float32, highest precision"  # 'float32' itself is TF32 on most GPUs


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long a measurement may take."""

    seconds: float = 2.0  # that a row takes at least
    repeats: int = 5  # likewise
    tries: int = 3  # for steady peaks; then the steadiest is taken, and the table says so
    deadline: float = math.inf  # of time.monotonic(), by which the last call shall have ended


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One figure: the median and the quartiles of its repeats."""

    name: str
    value: float
    unit: str  # 'ms' of a batch, 's', 'MB', 'videos/s', 'x'; 'error' of a comparison
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


@dataclasses.dataclass(frozen=True)
class Results:
    """The content of a benchmark's JSON file."""

    benchmark: str
    config: Mapping[str, Any]
    rows: Sequence[Measurement]
    peaks: Mapping[str, Sequence[float]]  # GFLOP/s before and after; {}: no times were measured
    machine: Mapping[str, Any]
    bandwidth: Sequence[float] = ()  # GB/s of a copy before and after
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)  # name: why

    def share(self, row: Measurement) -> float | None:
        """The part of the peak that a row's counted operations reach."""
        if row.gflop is None or row.unit != "ms" or row.peak not in self.peaks:
            return None
        devices = 1 if self.machine["platform"] == "cpu" else self.machine["devices"]
        return row.gflop / (row.value / 1e3) / max(self.peaks[row.peak]) / devices

    def bandwidth_share(self, row: Measurement) -> float | None:
        """The part of a copy's bandwidth that a row's reading and writing reach."""
        if row.gb is None or not self.bandwidth:
            return None
        return row.gb / (row.value / 1e3) / max(self.bandwidth)


def matmul_peak(kind: str = "float32") -> float:
    """GFLOP/s of the best of 20 products of square matrices on the first device."""
    size = CPU_SIZE if jax.default_backend() == "cpu" else SIZE
    dtype, precision = ("float32", "highest") if kind == HIGHEST else (kind, None)
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
    product = jax.jit(functools.partial(jnp.matmul, precision=precision))
    return 2 * size**3 / _fastest(lambda: product(a, b)) / 1e9


def copy_bandwidth() -> float:
    """GB/s that the first device reads and writes in the best of 20 copies of 268 MB."""
    values = jnp.zeros(COPIED, jnp.float32)
    copied = jax.jit(lambda x: x + 1)
    return 2 * values.nbytes / _fastest(lambda: copied(values)) / 1e9


def _fastest(function: Callable[[], Any]) -> float:
    deadline = time.monotonic() + PEAK_SECONDS
    return min(sample(function, Effort(0.0, PRODUCTS, deadline=deadline)))


def between_peaks(
    measure: Callable[[], Sequence[Measurement]], effort: Effort
) -> tuple[list[Measurement], dict[str, tuple[float, float]]]:
    """The rows, and the peaks before and after them; measured again until these agree."""
    tries = []
    for _ in range(effort.tries):
        before, rows, after = matmul_peak(), list(measure()), matmul_peak()
        tries.append((abs(after - before) / max(before, after), rows, (before, after)))
        if tries[-1][0] <= STEADY:
            break
    _, rows, peaks = min(tries, key=lambda entry: entry[0])
    return rows, {"float32": peaks}


def sample(function: Callable[[], Any], effort: Effort, warm: bool = True) -> list[float]:
    """Seconds of every call; what a call returns is waited for.

    Args:
        function: to call.
        effort: how long and how often: at least once, then not where a call like the last would end
            after the deadline.
        warm: whether a first call is made that does not count.
    """
    if warm:
        jax.block_until_ready(function())
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
    """Milliseconds of a batch; a call of the function is `batches` of them."""
    return milliseconds(name, sample(function, effort), batches, **more)


def milliseconds(name: str, times: Sequence[float], batches: int = 1, **more: Any) -> Measurement:
    """Median and quartiles of seconds of calls; `more` are further fields."""
    low, median, high = np.percentile(1e3 * np.array(times) / batches, [25, 50, 75]).tolist()
    return Measurement(name, median, "ms", low, high, len(times), **more)


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
        "system": platform.system(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
    }


def write(path: Path, text: str) -> None:
    """Writes the whole file or none."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text + "\n")
    temporary.replace(path)


def to_json(results: Results) -> str:
    """The text that `read` reads."""
    return json.dumps(dataclasses.asdict(results), indent=1)


def read(path: Path) -> Results:
    """Results that a benchmark wrote.

    Raises:
        ValueError: the file is something else.
    """
    try:
        content = json.loads(path.read_text())
        return Results(**content | {"rows": [Measurement(**row) for row in content["rows"]]})
    except (UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no file of --json=FILE of a benchmark ({type(error).__name__}: {error})"
        ) from error


def table(results: Results) -> str:
    """A title, the peaks, a Markdown table, and what is left out."""
    host = results.machine
    on = f"{host['devices']} x {host['device']} ({host['cores']} cores, {host['processor']})"
    lines = [f"{results.benchmark}, on {on}, jax {host['jax']}, Python {host['python']}", ""]
    measured = {f"products, {kind}": (pair, "GFLOP/s") for kind, pair in results.peaks.items()}
    if results.bandwidth:
        measured["a copy"] = (results.bandwidth, "GB/s")
    for name, (values, unit) in measured.items():
        before, after = values[0], values[-1]
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
    cells = {name: [column(row) for row in results.rows] for name, column in columns.items()}
    cells = {name: column for name, column in cells.items() if any(column)}
    widths = {name: max(map(len, [name, *column])) for name, column in cells.items()}
    rows = [
        list(cells),
        ["-" * width for width in widths.values()],
        *zip(*cells.values(), strict=True),
    ]
    for row in rows if results.rows else []:
        padded = [text.ljust(width) for text, width in zip(row, widths.values(), strict=True)]
        lines.append(f"| {' | '.join(padded)} |")
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
