"""How inference grows with the length of a window and with the grid's stride.

    python -m benchmarks.growth --config configs/activitynet.py [--frames=256,512,1000,2000,4000] \
        [--strides=4,8,20,40] [--plot=growth.svg]

Lengths have the config's stride, strides the config's length. Every size is measured in a process
of its own, one window at a time. Memory of a stage is what its compiled program needs for its
results and temporaries; that of the whole is of the process, above its base. Sizes that need more
memory than there is are named and not run.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
from absl import flags
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from ml_collections import ConfigDict

from benchmarks import command, inference, measure
from benchmarks.measure import MB, Effort, Memory, Row
from benchmarks.programs import Inference, num_proposals, start
from segtad_jax.config.check import check
from segtad_jax.evaluation.report import style
from segtad_jax.runtime import parallel

FRAMES = flags.DEFINE_list("frames", "256,512,1000,2000,4000", "T, with the config's stride.")
STRIDES = flags.DEFINE_list("strides", "4,8,20,40", "Strides, with the config's T.")
PLOT = flags.DEFINE_string("plot", None, "File for the figure: svg, png or pdf.")
SHARE = 0.8  # of the memory there is that a size may need
WHOLE = "whole"


@dataclasses.dataclass(frozen=True)
class Point:
    """The figures of one size."""

    frames: int
    stride: int
    proposals: int
    grid_seconds: float
    times: tuple[Row, ...] = ()  # of the stages and the whole
    memory: tuple[tuple[str, float], ...] = ()  # MB
    refused: float = 0.0  # MB that it needs, where that is too much

    @property
    def title(self) -> str:
        """What the size is."""
        return f"T={self.frames} stride={self.stride}"

    def rows(self) -> list[Row]:
        """For the table."""
        prefix = f"{self.title}: "
        return [
            Row(f"{prefix}grid", self.grid_seconds, "s"),
            *(dataclasses.replace(row, name=prefix + row.name) for row in self.times),
            *(Row(f"{prefix}{name} memory", value, "MB") for name, value in self.memory),
        ]


def main(config: ConfigDict, batch: int) -> command.Measured:
    """Measures."""
    if batch != 1:
        raise ValueError(f"--batch={batch}: growth is measured with one window.")
    sizes = [(int(frames), config.model.stride) for frames in FRAMES.value]
    sizes += [(config.data.num_frames, int(stride)) for stride in STRIDES.value]
    for frames, stride in sizes:
        check(_sized(config, frames, stride))
    effort = command.effort()
    points: dict[tuple[int, int], Point] = {}

    def measured() -> list[Row]:
        for size in dict.fromkeys(sizes):
            fields = _sized(config, *size).to_dict()
            points[size] = point = measure.in_fresh_process(at_size, fields, effort)
            need = f" needs {point.refused:,.0f} MB: not run" if point.refused else " measured"
            print(f"{point.title} ({point.proposals:,} proposals){need}", flush=True)
        return [row for point in points.values() for row in point.rows()]

    found = command.Measured(*measure.between_peaks(measured, effort))
    if PLOT.value:
        draw(list(points.values()), config, Path(PLOT.value))
    return found


def _sized(config: ConfigDict, frames: int, stride: int) -> ConfigDict:
    changed = config.copy_and_resolve_references()
    changed.data.num_frames, changed.model.stride = frames, stride
    return changed


def at_size(fields: dict[str, Any], effort: Effort) -> Point:
    """For `in_fresh_process`."""
    start()
    config = ConfigDict(fields)
    frames, stride = config.data.num_frames, config.model.stride
    started = time.perf_counter()
    proposals = num_proposals(config)
    point = Point(frames, stride, proposals, time.perf_counter() - started)
    program = Inference(config, jax.device_count(), jax.device_count())
    variables, inputs = program.variables, program.batch()
    lowered = program.detector.predict_step.lower(
        parallel.replicate(variables), parallel.shard_batch(inputs)
    )
    needed = _megabytes(lowered)
    if (there := _available()) and needed > SHARE * there:
        return dataclasses.replace(point, refused=needed)
    memory = Memory()
    whole = measure.timed(WHOLE, program.detect, effort)
    peaks = [(WHOLE, memory.peak_mb())]
    times = [whole]
    for name, function in inference.stage_functions(program, inputs, jax.device_count()).items():
        times.append(measure.timed(name, function, effort))
        if isinstance(function, functools.partial):
            peaks.append((name, _megabytes(function.func.lower(*function.args))))
    return dataclasses.replace(point, times=tuple(times), memory=tuple(peaks))


def _megabytes(lowered: Any) -> float:
    """Results and temporaries of a program."""
    memory = lowered.compile().memory_analysis()
    return (memory.temp_size_in_bytes + memory.output_size_in_bytes) / MB


def _available() -> float | None:
    """MB that the first device, or the host, has left; None where nothing says so."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return (statistics["bytes_limit"] - statistics["bytes_in_use"]) / MB
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024 / MB


def draw(points: list[Point], config: ConfigDict, path: Path) -> None:
    """Time and memory against length and against stride, all logarithmic."""
    by_length = [p for p in points if p.stride == config.model.stride]
    by_stride = [p for p in points if p.frames == config.data.num_frames]
    with style.axes(2, 2, size=(11.0, 7.5)) as (figure, panels):
        columns = [
            (by_length, "frames", f"T, at stride {config.model.stride}"),
            (by_stride, "stride", f"stride, at T = {config.data.num_frames}"),
        ]
        for column, (chosen, axis, label) in enumerate(columns):
            run = sorted((p for p in chosen if p.times), key=lambda p: getattr(p, axis))
            for row, unit in enumerate(("ms", "MB")):
                _lines(panels[row][column], run, axis, unit)
            refused = [p for p in chosen if p.refused]
            named = ", ".join(f"{getattr(p, axis)} needs {p.refused / 1e3:.0f} GB" for p in refused)
            panels[1][column].set_xlabel(f"{label}. {named}" if named else label)
        panels[0][0].set_title("Time of a window, ms")
        panels[1][0].set_title("Memory, MB")
        panels[0][1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        style.save(figure, path)


def _lines(panel: Axes, points: list[Point], axis: str, unit: str) -> None:
    series: dict[str, dict[int, float]] = {}
    for point in points:
        values = [(row.name, row.value) for row in point.times] if unit == "ms" else point.memory
        for name, value in values:
            series.setdefault(name, {})[getattr(point, axis)] = value
    order = list(dict.fromkeys(row.name for point in points for row in point.times))
    for name, line in series.items():
        look: Any = {"color": f"C{order.index(name)}"}  # the same in every panel
        if name == WHOLE:
            look = {"color": style.INK, "linewidth": 2.4}
        panel.plot(list(line), list(line.values()), marker="o", markersize=3.5, label=name, **look)
    if WHOLE in series:  # through the whole's largest size
        sizes = {getattr(point, axis): point.proposals for point in points}
        top = max(sizes, key=lambda size: sizes[size])
        scaled = [series[WHOLE][top] * m / sizes[top] for m in sizes.values()]
        panel.plot(list(sizes), scaled, color=style.MUTED, linestyle=":", label="as M")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xticks([getattr(point, axis) for point in points])
    panel.xaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_locator(NullLocator())


if __name__ == "__main__":
    command.run("growth", lambda _: 1, main)
