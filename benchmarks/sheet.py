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
from segtad_jax.runtime.files import write_whole

KINDS = {"detection": Inference, "training step": Training}
DTYPES = ("float32", "bfloat16")
FAILURES = (RuntimeError, ValueError, OSError, MemoryError)  # JAX's lack of memory is the first
SAME_SIZE = 0.25  # by how much the operations that a peer counts may differ from ours

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
        """Makes it; compiles nothing."""
        config = self.config.copy_and_resolve_references()
        config.model.dtype = self.dtype
        return KINDS[self.kind](config, self.batch)


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
    results = Results("sheet", flatten(next(iter(shapes.values()))))
    peer = functools.partial(_peer, values.peer, values.peer_flags) if values.peer else None
    plan = rows(shapes, tuple(map(int, values.batches)), peer)
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

    results.add_peaks(measure.PEAKS)
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
    results.add_peaks(measure.PEAKS)
    write()


def rows(
    shapes: Mapping[str, ConfigDict], batches: Sequence[int], peer: Peer | None
) -> Iterator[tuple[str, Rows]]:
    """(name, what measures it) of every row, the first ones first.

    Args:
        shapes: configs by name.
        batches: sizes, instead of the sheet's own.
        peer: times a case in PyTorch.
    """

    def times(shape: str, *many: Sequence[int]) -> Iterator[tuple[str, Rows]]:
        for kind, numbers in zip(KINDS, many, strict=True):
            for batch, dtype in itertools.product(numbers, DTYPES):
                case = Case(shape, shapes[shape], kind, batch, dtype)
                yield str(case), functools.partial(_times, case, peer)

    first, *others = shapes
    config = shapes[first]
    many = batches or (1, 32, 128), batches or (32, 128)
    yield from times(first, *many)
    on_cpu = jax.default_backend() == "cpu"  # whose float32 need not be compared with itself
    for kind in ("bfloat16",) if on_cpu else equality.BOUNDS:
        yield f"equality, {kind}", lambda _, kind=kind: equality.rows(config, kind)
    for classes, batch in itertools.product((1, sizes(config)[1]), batches or (1, 32)):
        name = f"{first}: soft-NMS, {classes} classes, batch {batch}"
        yield name, functools.partial(_soft_nms, name, config, classes, batch)
    for other in others:
        yield from times(other, *many)
    if not batches:
        yield from times(first, (4, 8, 16), (4, 8, 16))
    for what, kind in itertools.product(("first call", "stages"), KINDS):
        case = Case(first, config, kind, batches[0] if batches else 32)
        yield f"{case}, {what}", functools.partial(_parts, case, what)


def _times(case: Case, peer: Peer | None, effort: Effort) -> Iterator[Measurement]:
    """The row of a program, with its batch on the device and copied, and of its peer."""
    program = case.program()
    memory, traffic = program.costs()  # compiles
    (call,) = measure.sample(program.on_device, Effort(0.0, 1))
    if time.monotonic() + call > effort.deadline:
        raise TimeoutError(f"a call takes {call:.1f} s, more than is left")
    times, ms, note = measure.sample(program.on_device, effort), None, ""
    copied = [] if jax.default_backend() == "cpu" else measure.sample(program.from_host, effort)
    if peer and time.monotonic() < effort.deadline:
        ms, note = peer(case, program, effort.deadline)
    if ms is not None:
        times += measure.sample(program.on_device, effort)
        copied += measure.sample(program.from_host, effort) if copied else []
    yield dataclasses.replace(
        measure.milliseconds(str(case), times, gflop=program.gflop, peak=case.dtype, peer=ms),
        gb=traffic,
        memory=memory,
        copied=measure.milliseconds("", copied).value if copied else None,
        note=note,
    )


def _peer(
    folder: str, more: Sequence[str], case: Case, program: Program, deadline: float
) -> tuple[float | None, str]:
    """Milliseconds of the fastest of the forms tried in PyTorch, or None and why."""
    backend, what = jax.default_backend(), {"detection": "infer"}.get(case.kind, "step")
    line = [sys.executable, "-B", str(pathlib.Path(folder, "bench.py"))]
    line += [f"--device={'cuda' if backend == 'gpu' else backend}", f"--what={what}"]
    line += [f"--shape={case.shape}", f"--batch={case.batch}", f"--dtype={case.dtype}"]
    line += [f"--top={program.config.eval.max_detections}", "--seconds=1", "--repeats=3"]
    line += ["--tf32"] if backend == "gpu" and case.dtype == "float32" else []  # as JAX does
    times, note = [], ""
    for form in ("", *(["--graph"] if backend == "gpu" and what == "infer" else []), *more):
        with tempfile.TemporaryDirectory() as temporary:
            file = pathlib.Path(temporary, "peer.json")
            run = functools.partial(subprocess.run, check=True, capture_output=True, text=True)
            try:
                timeout = max(deadline - time.monotonic(), 1.0)
                run([*line, *form.split(), f"--json={file}"], timeout=timeout)
            except subprocess.TimeoutExpired:
                note = "PyTorch: no time was left"
            except subprocess.CalledProcessError as error:
                note = f"PyTorch: {(error.stderr.strip() or 'failed').splitlines()[-1]}"
            else:
                peer = json.loads(file.read_text())
                if abs(peer["gflop"] / program.gflop - 1) > SAME_SIZE:
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


def _parts(case: Case, what: str, effort: Effort) -> Iterator[Measurement]:
    """Several rows of a program, under its name."""
    program = case.program()
    for row in program.first_calls() if what == "first call" else stages.rows(program, effort):
        yield dataclasses.replace(row, name=f"{case}: {row.name.strip()}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Shapes, instead of ActivityNet's and HACS'.")
    flags.DEFINE_string("output", None, "Folder of sheet.json and sheet.md.", required=True)
    flags.DEFINE_float("minutes", 8.0, "After which no row begins.", lower_bound=0.0)
    flags.DEFINE_float("seconds", 1.0, "How long each row is measured at least.")
    flags.DEFINE_list("batches", [], "Batch sizes, instead of the sheet's own.")
    flags.register_validator(
        "batches",
        lambda given: all(part.isdigit() and int(part) for part in given),
        "names numbers of windows above 0, such as 1,32.",
    )
    flags.DEFINE_string("only", "", "A regular expression: only rows whose names it finds.")
    flags.DEFINE_string("peer", None, "Folder with bench.py, which times the same in PyTorch.")
    flags.DEFINE_multi_string(
        "peer_flags", [], "Flags of bench.py to try as well, as --compile; the fastest counts."
    )
    app.run(lambda _: command.run(main))
