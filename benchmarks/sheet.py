"""A sheet of this machine's speed in a few minutes, with little installed and no network.

    python -m benchmarks.sheet --output=DIR [--minutes=8] [--config=FILE] [--peer=DIR]

It needs JAX, Flax, Optax, ml_collections and jaxtyping. DIR/sheet.json and DIR/sheet.md are written
after every row, in this order: detection and training at ActivityNet's shapes (or the config's);
equality of this device and the CPU; soft-NMS; HACS' shapes; other batches; first calls. When the
minutes are spent, what remains is named. `--peer` is a folder whose bench.py times the same in
PyTorch, right after ours.
"""

import dataclasses
import functools
import itertools
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
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict, config_flags

from benchmarks import equality, measure
from benchmarks.measure import Effort, Measurement, Results
from benchmarks.programs import Inference, Program, Training
from configs import activitynet, hacs
from segtad_jax import postprocess
from segtad_jax.config.defaults import flatten
from segtad_jax.models.grid import grid
from segtad_jax.ops.videos import over_videos
from segtad_jax.runtime import command, startup
from segtad_jax.runtime.files import write_whole

KINDS = {"detection": Inference, "training step": Training}
DTYPES = ("float32", "bfloat16")
FAILURES = (RuntimeError, ValueError, OSError, MemoryError)  # JAX's lack of memory is the first

Rows = Callable[[Effort], Iterable[Measurement]]  # the effort has the deadline
Peer = Callable[["Case", Program, float], tuple[float | None, str]]  # deadline -> ms, note


@dataclasses.dataclass(frozen=True)
class Case:
    """A program of the sheet."""

    shape: str
    config: ConfigDict  # of this shape
    kind: str  # of KINDS
    batch: int
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.shape}: {self.kind}, batch {self.batch}, {self.dtype}"

    def program(self) -> Program:
        """Makes it."""
        config = self.config.copy_and_resolve_references()
        config.model.dtype = self.dtype
        return KINDS[self.kind](config, self.batch)


def main() -> None:
    """Writes the sheet."""
    values = flags.FLAGS
    deadline = time.monotonic() + 60 * values.minutes
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves room for the peer
    startup.keep_freed_memory()
    startup.keep_compiled_programs()
    shapes = {"activitynet": activitynet.get_config(), "hacs": hacs.get_config()}
    if values.config:
        path, _, _ = values["config"].config_filename.partition(":")
        shapes = {pathlib.Path(path).stem: values.config}
    results = Results("sheet", flatten(next(iter(shapes.values()))))
    peer = functools.partial(_peer, values.peer, values.peer_flags) if values.peer else None
    plan = rows(shapes, values.batches, peer)
    plan = ((name, measured) for name, measured in plan if re.search(values.only, name))
    fill(results, plan, Effort(values.seconds, deadline=deadline), pathlib.Path(values.output))
    print(measure.table(results))


def fill(
    results: Results, plan: Iterable[tuple[str, Rows]], effort: Effort, folder: pathlib.Path
) -> None:
    """Measures the rows of a plan one after the other, and writes all that there is after each."""
    folder.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        measure.write(results, folder / "sheet.json")
        write_whole(folder / "sheet.md", measure.table(results) + "\n")

    results.add_peaks(effort.seconds, measure.PEAKS)
    for name, measured in plan:
        if time.monotonic() > effort.deadline:
            results.left_out[name] = "the minutes are spent"
            continue
        try:
            results.rows.extend(measured(effort))
        except FAILURES as error:
            results.left_out[name] = f"{type(error).__name__}: {error}".split("\n")[0]
        print(f"{name}: {results.left_out.get(name, 'measured')}", flush=True)
        write()
    results.add_peaks(effort.seconds, measure.PEAKS)
    write()


def rows(
    shapes: Mapping[str, ConfigDict], batches: Sequence[int], peer: Peer | None
) -> Iterator[tuple[str, Rows]]:
    """(name, what measures it) of every row, the first ones first; `batches` may be empty."""

    def times(shape: str, many: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Rows]]:
        for kind, numbers in many.items():
            for batch, dtype in itertools.product(numbers, DTYPES):
                case = Case(shape, shapes[shape], kind, batch, dtype)
                yield str(case), functools.partial(_times, case, peer)

    first, *others = shapes
    config = shapes[first]
    many = {"detection": batches or (1, 32, 128), "training step": batches or (32, 128)}
    yield from times(first, many)
    on_cpu = jax.default_backend() == "cpu"  # whose float32 need not be compared with itself
    for kind in ("bfloat16",) if on_cpu else equality.BOUNDS:
        yield f"equality, {kind}", lambda _, kind=kind: equality.rows(config, kind)
    many_classes = config.data.num_classes or config.data.synthetic_classes
    for classes, batch in itertools.product((1, many_classes), batches or (1, 32)):
        name = f"{first}: soft-NMS, {classes} classes, batch {batch}"
        yield name, functools.partial(_soft_nms, name, config, classes, batch)
    for other in others:
        yield from times(other, many)
    yield from times(first, dict.fromkeys(KINDS, () if batches else (4, 8, 16)))
    for kind in KINDS:
        case = Case(first, config, kind, batches[0] if batches else 32)
        yield f"{case}, first call", functools.partial(_first_calls, case)


def _times(case: Case, peer: Peer | None, effort: Effort) -> Iterator[Measurement]:
    """The row of a program, with its batch on the device and copied, and of its peer."""
    program, on_cpu = case.program(), jax.default_backend() == "cpu"
    memory, traffic = program.costs()  # compiles
    row = measure.timed(str(case), program.on_device, effort, gflop=program.gflop, peak=case.dtype)
    copied = None if on_cpu else measure.timed("", program.from_host, effort).value
    ms, note = peer(case, program, effort.deadline) if peer else (None, "")
    yield dataclasses.replace(row, gb=traffic, memory=memory, copied=copied, peer=ms, note=note)


def _peer(
    folder: str, more: Sequence[str], case: Case, program: Program, deadline: float
) -> tuple[float | None, str]:
    """Milliseconds of the fastest of the forms tried in PyTorch, or None and why."""
    backend, what = jax.default_backend(), {"detection": "infer"}.get(case.kind, "step")
    line = [sys.executable, "-B", str(pathlib.Path(folder, "bench.py"))]
    line += [f"--device={'cuda' if backend == 'gpu' else backend}", f"--what={what}"]
    line += [f"--shape={case.shape}", f"--batch={case.batch}", f"--dtype={case.dtype}"]
    line += [f"--top={program.config.eval.max_detections}", "--seconds=1", "--repeats=3"]
    line += ["--tf32"] * (backend == "gpu" and case.dtype == "float32")  # as JAX does
    times, note = [], ""
    for form in ("", *["--graph"] * (backend == "gpu" and what == "infer"), *more):
        with tempfile.TemporaryDirectory() as temporary:
            file = pathlib.Path(temporary, "peer.json")
            run = functools.partial(subprocess.run, check=True, capture_output=True, text=True)
            try:
                left = max(deadline - time.monotonic(), 1.0)
                run([*line, *form.split(), f"--json={file}"], timeout=left)
            except subprocess.TimeoutExpired:
                note = "PyTorch: no time was left"
            except subprocess.CalledProcessError as error:
                note = f"PyTorch: {(error.stderr.strip() or 'failed').splitlines()[-1]}"
            else:
                peer = json.loads(file.read_text())
                if abs(peer["gflop"] / program.gflop - 1) > 0.25:  # counted a little differently
                    return None, f"PyTorch: other shapes, {peer['gflop']:.3g} GFLOP"
                times.append(peer["ms"])
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


def _first_calls(case: Case, _: Effort) -> Iterator[Measurement]:
    """Seconds of a first call without compiled programs, and of one that finds them on disk."""
    program, kept = case.program(), jax.config.jax_compilation_cache_dir
    jax.block_until_ready((program.state, program.placed))
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        for name in ("first call, cold", "first call, from the cache"):
            jax.clear_caches()
            compilation_cache.reset_cache()  # else it stays in the folder of the first use
            started = time.perf_counter()
            jax.block_until_ready(program.from_host())
            yield Measurement(f"{case}: {name}", time.perf_counter() - started, "s")
    jax.config.update("jax_compilation_cache_dir", kept)
    compilation_cache.reset_cache()


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Shapes, instead of ActivityNet's and HACS'.")
    flags.DEFINE_string("output", None, "Folder of sheet.json and sheet.md.", required=True)
    flags.DEFINE_float("minutes", 8.0, "After which no row begins.", lower_bound=0.0)
    flags.DEFINE_float("seconds", 1.0, "How long each row is measured at least.")
    flags.DEFINE_multi_integer("batches", [], "Sizes, instead of the sheet's own.", lower_bound=1)
    flags.DEFINE_string("only", "", "A regular expression: only rows whose names it finds.")
    flags.DEFINE_string("peer", None, "Folder with bench.py, which times the same in PyTorch.")
    flags.DEFINE_multi_string(
        "peer_flags", [], "Flags of bench.py to try as well, as --compile; the fastest counts."
    )
    app.run(lambda _: command.run(main))
