"""What all benchmarks share: the machine's peak, repeats, memory, fresh processes, tables, files.

A time means little without the machine's speed at that moment, so every measurement stands between
two of the machine's own matmul peak, and is made again where these differ.
"""

import concurrent.futures
import dataclasses
import importlib.metadata
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SIZE = 2048  # of the square matrices of the peak
PRODUCTS = 20
STEADY = 0.05  # how much the peaks before and after may differ
MAX_REPEATS = 1000
MB = 1e6


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long a measurement may take."""

    seconds: float = 2.0  # that a row takes at least
    repeats: int = 5  # likewise
    tries: int = 3  # for steady peaks; then the steadiest is taken, and the table says so


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure: the median and the quartiles of its repeats."""

    name: str
    value: float
    unit: str  # 'ms' of a batch, 's', 'MB', 'videos/s', 'x'
    low: float | None = None
    high: float | None = None
    repeats: int = 1
    gflop: float | None = None  # of a batch, counted


@dataclasses.dataclass(frozen=True)
class Report:
    """What a benchmark leaves in its JSON file."""

    benchmark: str
    config: Mapping[str, Any]
    batch: int
    peak: tuple[float, float] | None  # GFLOP/s before and after; None: no times were measured
    rows: tuple[Row, ...]
    machine: Mapping[str, Any]

    @property
    def best_peak(self) -> float:
        """GFLOP/s; NaN without times."""
        return max(self.peak) if self.peak else float("nan")

    def share(self, row: Row) -> float | None:
        """Of the peak, that the counted operations of a row reach."""
        if row.gflop is None or self.peak is None or row.unit != "ms":
            return None
        return row.gflop / (row.value / 1e3) / self.best_peak


def matmul_peak() -> float:
    """GFLOP/s of the best of 20 products of 2048 x 2048 float32 matrices on the first device."""
    a, b = jax.random.normal(jax.random.key(0), (2, SIZE, SIZE))
    product = jax.jit(jnp.matmul)
    times = sample(lambda: product(a, b), Effort(0.0, PRODUCTS))
    return 2 * SIZE**3 / min(times) / 1e9


def between_peaks(
    measure: Callable[[], Sequence[Row]], effort: Effort
) -> tuple[list[Row], tuple[float, float]]:
    """The rows, and the peaks before and after them; measured again until these agree."""
    found: list[tuple[float, list[Row], tuple[float, float]]] = []
    for _ in range(effort.tries):
        before = matmul_peak()
        rows = list(measure())
        after = matmul_peak()
        found.append((abs(after - before) / max(before, after), rows, (before, after)))
        if found[-1][0] <= STEADY:
            break
    _, rows, peaks = min(found, key=lambda entry: entry[0])
    return rows, peaks


def sample(function: Callable[[], Any], effort: Effort) -> list[float]:
    """Seconds of every call, after one that is not counted.

    What a call returns is waited for.
    """
    jax.block_until_ready(function())
    times: list[float] = []
    while len(times) < effort.repeats or (sum(times) < effort.seconds and len(times) < MAX_REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - started)
    return times


def timed(
    name: str,
    function: Callable[[], Any],
    effort: Effort,
    gflop: float | None = None,
    batches: int = 1,
) -> Row:
    """Milliseconds of a batch; a call of the function is `batches` of them."""
    times = 1e3 * np.array(sample(function, effort)) / batches
    low, median, high = np.percentile(times, [25, 50, 75]).tolist()
    return Row(name, median, "ms", low, high, len(times), gflop)


class Memory:
    """The largest memory of this process above what it has when this is made.

    On Linux the kernel's own peak is set back first. Elsewhere a peak before this one hides it.
    """

    def __init__(self) -> None:
        self._clear = Path("/proc/self/clear_refs")
        if self._clear.exists():
            self._clear.write_text("5")  # the peak, VmHWM, becomes the present size
        self._base = _peak_bytes()

    def peak_mb(self) -> float:
        """Of the host, above the base."""
        return (_peak_bytes() - self._base) / MB

    @staticmethod
    def device_mb() -> float | None:
        """Peak of the first device, where it keeps count (not a CPU)."""
        statistics = jax.local_devices()[0].memory_stats() or {}
        return statistics["peak_bytes_in_use"] / MB if "peak_bytes_in_use" in statistics else None


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a module's function in a new interpreter, whose memory is its own.

    Raises:
        BrokenProcessPool: the process was killed, as by a lack of memory.
    """
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def machine() -> dict[str, Any]:
    """What the figures are of."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def write(path: Path, report: Report) -> None:
    """The whole file or none."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(dataclasses.asdict(report), indent=1) + "\n")
    temporary.replace(path)


def read(path: Path) -> Report:
    """A report that `write` wrote.

    Raises:
        ValueError: the file is something else.
    """
    try:
        content = json.loads(path.read_text())
        rows = tuple(Row(**row) for row in content.pop("rows"))
        peak = content.pop("peak")
        return Report(**content, rows=rows, peak=tuple(peak) if peak else None)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no file of --json=FILE of a benchmark ({type(error).__name__}: {error})"
        ) from error


def table(report: Report) -> str:
    """For people."""
    host = report.machine
    title = (
        f"{report.benchmark}, batch {report.batch}, on {host['devices']} x {host['device']} "
        f"({host['cores']} cores, {host['processor']}), jax {host['jax']}"
    )
    lines = [title]
    if report.peak:
        before, after = report.peak
        steady = abs(after - before) <= STEADY * max(before, after)
        note = "" if steady else ": UNSTEADY, take no figure from this"
        lines += [f"matmul peak {before:,.0f} GFLOP/s before, {after:,.0f} after{note}"]
    heading = (
        f"{'':34} {'median':>11} {'':8} {'a video':>9} {'quartiles':>17} {'n':>4} "
        f"{'GFLOP':>8} {'of peak':>7}"
    )
    return "\n".join([*lines, heading, *(_line(report, row) for row in report.rows)])


def _line(report: Report, row: Row) -> str:
    spread = "" if row.low is None else f"{number(row.low)} .. {number(row.high)}"
    share, gflop = report.share(row), row.gflop
    cells = [
        f"{row.name:34} {number(row.value):>11} {row.unit:8}",
        f"{number(row.value / report.batch) if row.unit == 'ms' else '':>9}",
        f"{spread:>17} {row.repeats:>4}",
        f"{'' if gflop is None else number(gflop):>8}",
        f"{'' if share is None else f'{share:.0%}':>7}",
    ]
    return " ".join(cells).rstrip()


def number(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
