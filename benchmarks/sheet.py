"""A sheet of this machine's speed in a few minutes, with little installed and no network.

    python -m benchmarks.sheet --output=DIR [--minutes=8] [--config=FILE] [--peer=DIR]

It needs JAX, Flax, Optax, ml_collections and jaxtyping. DIR/sheet.json and DIR/sheet.md are written
after every row, in this order: detection and training at ActivityNet's shapes (or the config's);
equality of this device and the CPU; soft-NMS; HACS' shapes; other batches; first calls; stages.
When the minutes are spent, what remains is named. `--peer` is a folder whose bench.py times the
same in PyTorch; it runs between two halves of our own repeats.
"""

import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from benchmarks import equality, measure, stages
from benchmarks.measure import Effort, Measurement, Results
from benchmarks.programs import Inference, Program, Training, sizes, start
from configs import activitynet, hacs
from segtad_jax import postprocess
from segtad_jax.config.defaults import flatten
from segtad_jax.models.grid import grid
from segtad_jax.ops.videos import over_videos
from segtad_jax.runtime import command

KINDS = {"detection": Inference, "training step": Training}
DTYPES = ("float32", "bfloat16")
FAILURES = (RuntimeError, ValueError, OSError, MemoryError)  # JAX's lack of memory is the first
SAME_SIZE = 0.25  # by how much the operations that a peer counts may differ from ours

Rows = Callable[[Effort], Iterable[Measurement]]  # the effort has the deadline


def main() -> None:
    """Writes the sheet."""
    values = flags.FLAGS
    deadline = time.monotonic() + 60 * values.minutes
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves room for the peer
    start()
    shapes = {"activitynet": activitynet.get_config(), "hacs": hacs.get_config()}
    if values.config:
        path, _, _ = values["config"].config_filename.partition(":")
        shapes = {pathlib.Path(path).stem: values.config}
    why = _no_peer(values.peer) if values.peer else ""
    peer = functools.partial(_peer, values.peer, values.peer_flags)
    left_out = {"PyTorch": why} if why else {}
    wanted = peer if values.peer and not why else None
    plan = rows(shapes, tuple(map(int, values.batches)), wanted)
    plan = ((name, measured) for name, measured in plan if re.search(values.only, name))
    config = flatten(next(iter(shapes.values())))
    results = Results("sheet", config, [], {}, measure.machine(), [], left_out)
    fill(results, plan, Effort(values.seconds, deadline=deadline), pathlib.Path(values.output))
    print(measure.table(results))


def fill(
    results: Results, plan: Iterable[tuple[str, Rows]], effort: Effort, folder: pathlib.Path
) -> None:
    """Measures the rows of a plan one after the other, and writes all that there is after each."""
    folder.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        measure.write(folder / "sheet.json", measure.to_json(results))
        measure.write(folder / "sheet.md", measure.table(results))

    _add_peaks(results)
    for name, measured in plan:
        if time.monotonic() > effort.deadline:
            results.left_out[name] = "the minutes are spent"
            continue
        try:
            for row in measured(effort):
                results.rows.append(row)
        except FAILURES as error:
            results.left_out[name] = f"{type(error).__name__}: {error}".split("\n")[0]
        print(f"{name}: {results.left_out.get(name, 'measured')}", flush=True)
        write()
    _add_peaks(results)
    write()


def _add_peaks(results: Results) -> None:
    """Adds those of the moment; the first and the last are before and after."""
    for kind in (*DTYPES, measure.HIGHEST):
        results.peaks.setdefault(kind, []).append(measure.matmul_peak(kind))
    results.bandwidth.append(measure.copy_bandwidth())


def rows(
    shapes: Mapping[str, ConfigDict], batches: Sequence[int], peer: Callable | None
) -> Iterator[tuple[str, Rows]]:
    """(name, what measures it) of every row, the first ones first.

    Args:
        shapes: configs by name.
        batches: sizes, instead of the sheet's own.
        peer: `(shape, kind, dtype, program, deadline) -> (ms, note)`.
    """
    first, *others = shapes
    config = shapes[first]
    many = dict(zip(KINDS, (batches or (1, 32, 128), batches or (32, 128)), strict=True))
    yield from _programs(first, config, many, peer)
    on_cpu = jax.default_backend() == "cpu"  # whose float32 need not be compared with itself
    for kind in ("bfloat16",) if on_cpu else equality.BOUNDS:
        yield f"equality, {kind}", lambda _, kind=kind: equality.rows(config, kind)
    for classes in (1, sizes(config)[1]):
        for batch in batches or (1, 32):
            name = f"{first}: soft-NMS, {classes} classes, batch {batch}"
            yield name, functools.partial(_soft_nms, name, config, classes, batch)
    for other in others:
        yield from _programs(other, shapes[other], many, peer)
    if not batches:
        yield from _programs(first, config, dict.fromkeys(KINDS, (4, 8, 16)), peer)
    batch = batches[0] if batches else 32
    for what in ("first call", "stages"):
        for kind in KINDS:
            name = f"{first}: {kind}, batch {batch}, float32"
            make = functools.partial(_program, config, kind, batch, "float32")
            yield f"{name}, {what}", functools.partial(_parts, name, make, what)


def _programs(
    shape: str, config: ConfigDict, many: Mapping[str, Sequence[int]], peer: Callable | None
) -> Iterator[tuple[str, Rows]]:
    for kind, batches in many.items():
        for batch in batches:
            for dtype in DTYPES:
                name = f"{shape}: {kind}, batch {batch}, {dtype}"
                make = functools.partial(_program, config, kind, batch, dtype)
                chosen = functools.partial(peer, shape, kind, dtype) if peer else None
                yield name, functools.partial(_times, name, make, dtype, chosen)


def _program(config: ConfigDict, kind: str, batch: int, dtype: str) -> Program:
    config = config.copy_and_resolve_references()
    config.model.dtype = dtype
    return KINDS[kind](config, batch)


def _times(
    name: str, make: Callable[[], Program], dtype: str, peer: Callable | None, effort: Effort
) -> Iterator[Measurement]:
    """The row of a program, with its batch on the device and copied, and of its peer."""
    program = make()
    memory, traffic = program.costs()  # compiles
    started = time.monotonic()
    jax.block_until_ready(program.on_device())
    call = time.monotonic() - started
    if time.monotonic() + call > effort.deadline:
        raise TimeoutError(f"a call takes {call:.1f} s, more than is left")
    sample = functools.partial(measure.sample, effort=effort, warm=False)
    times, ms, note = sample(program.on_device), None, ""
    copied = [] if jax.default_backend() == "cpu" else sample(program.from_host)
    if peer and time.monotonic() < effort.deadline:
        ms, note = peer(program, effort.deadline)
        times += sample(program.on_device)
        copied += sample(program.from_host) if copied else []
    yield dataclasses.replace(
        measure.milliseconds(name, times, gflop=program.gflop, peak=dtype, note=note, peer=ms),
        gb=traffic,
        memory=memory,
        copied=measure.milliseconds("", copied).value if copied else None,
    )


def _no_peer(folder: str) -> str:
    """Why nothing in PyTorch can be timed; '' if it can."""
    if jax.default_backend() not in ("cpu", "gpu"):
        return "bench.py knows CPUs and GPUs alone"
    if not pathlib.Path(folder, "bench.py").exists():
        return f"there is no bench.py in {folder}"
    return "" if importlib.util.find_spec("torch") else "this Python has no torch"


def _peer(
    folder: str,
    more: Sequence[str],
    shape: str,
    kind: str,
    dtype: str,
    program: Program,
    deadline: float,
) -> tuple[float | None, str]:
    """Milliseconds of the fastest of the forms tried in PyTorch, or None and why."""
    gpu, what = jax.default_backend() == "gpu", {"detection": "infer"}.get(kind, "step")
    line = [sys.executable, "-B", "bench.py", f"--device={'cuda' if gpu else 'cpu'}"]
    line += [f"--what={what}", f"--shape={shape}", f"--batch={program.size}"]
    line += [f"--dtype={dtype}", f"--top={program.config.eval.max_detections}"]
    line += ["--seconds=1", "--repeats=3"]
    line += ["--tf32"] if gpu and dtype == "float32" else []  # as JAX has it there
    times, note = [], ""
    for flag in ("", *(["--graph"] if gpu and what == "infer" else []), *more):
        with tempfile.TemporaryDirectory() as temporary:
            file = pathlib.Path(temporary, "peer.json")
            done = [*line, *flag.split(), f"--json={file}"]
            run = functools.partial(subprocess.run, cwd=folder, capture_output=True, text=True)
            try:
                run(done, check=True, timeout=max(deadline - time.monotonic(), 1.0))
                found = json.loads(file.read_text())
            except subprocess.TimeoutExpired:
                note = "PyTorch: no time was left"
            except subprocess.CalledProcessError as error:
                note = f"PyTorch: {(error.stderr.strip() or 'failed').splitlines()[-1]}"
            else:
                if abs(found["gflop"] / program.gflop - 1) > SAME_SIZE:
                    return None, f"PyTorch: other shapes, {found['gflop']:.3g} GFLOP"
                times.append(found["ms"])
    return (min(times), "") if times else (None, note)


def _soft_nms(
    name: str, config: ConfigDict, classes: int, batch: int, effort: Effort
) -> Iterator[Measurement]:
    segments = jnp.asarray(grid(config).segments, jnp.float32)
    scores = jax.random.uniform(jax.random.key(0), (batch, classes, len(segments)))

    def select(scores: jax.Array) -> postprocess.Selected:
        return postprocess.select(postprocess.Candidates(scores, segments), config.eval)

    run = jax.jit(functools.partial(over_videos, select))
    yield measure.timed(name, lambda: run(scores), effort)


def _parts(
    name: str, make: Callable[[], Program], what: str, effort: Effort
) -> Iterator[Measurement]:
    """Several rows of a program, under its name."""
    program = make()
    for row in program.first_calls() if what == "first call" else stages.rows(program, effort):
        yield dataclasses.replace(row, name=f"{name}: {row.name.strip()}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Shapes, instead of ActivityNet's and HACS'.")
    flags.DEFINE_string("output", None, "Folder of sheet.json and sheet.md.", required=True)
    flags.DEFINE_float("minutes", 8.0, "After which no row begins.", lower_bound=0.0)
    flags.DEFINE_float("seconds", 1.0, "How long each row is measured at least.")
    flags.DEFINE_list("batches", [], "Batch sizes, instead of the sheet's own.")
    flags.DEFINE_string("only", "", "A regular expression: only rows whose names it finds.")
    flags.DEFINE_string("peer", None, "Folder with bench.py, which times the same in PyTorch.")
    flags.DEFINE_multi_string(
        "peer_flags", [], "Flags of bench.py to try as well, as --compile; the fastest counts."
    )
    app.run(lambda _: command.run(main))
