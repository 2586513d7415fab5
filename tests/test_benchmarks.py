"""Benchmarks: what they count and say, and each of them end to end on a tiny config. No times."""

import dataclasses
import functools
import json
import math
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import compare, equality, flops, inference, measure, programs, recipes, sheet
from benchmarks.measure import Effort, Measurement, Results
from configs import activitynet, tiny
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD, create_variables

ROOT = Path(__file__).resolve().parent.parent
MACHINE = {
    "platform": "cpu", "devices": 1, "device": "cpu", "cores": 2, "processor": "P",
    "jax": "0.10.2", "python": "3.11.7",
}  # fmt: skip


def results(
    *rows: Measurement, peak=(100.0, 100.0), benchmark="step, batch 1", config=None, **more
):
    peaks = {"float32": peak} if peak else {}
    return Results(
        benchmark, config or {"model.width": 8}, list(rows), peaks, machine=MACHINE, **more
    )


# --- counting -------------------------------------------------------------------------------------


def test_flops_by_hand():
    config = tiny.get_config()  # T = 64, stride 4
    config.model.width, config.model.num_bins = 2, 4
    found = flops.gflop(config, num_channels=3, num_classes=5, rows=7)
    encoder = 2 * (32 * 9 * 2 + 16 * 6 * 2 + 8 * 6 * 2)
    graph = 3 * 8 * 8 * 2 + 2 * 8 * 4 * 2 + 2 * 8 * 4 * 2
    atrous = 4 * 2 * 8 * 6 * 2
    pooled, fused = 2 * 2 * 2, 2 * 8 * 12 * 2
    highway, decoder = 2 * 16 * 2 * 2, 2 * 64 * 12 * 2
    assert found["SSN"] * 1e9 == pytest.approx(
        encoder + graph + atrous + pooled + fused + highway + decoder
    )
    assert found["heads"] * 1e9 == pytest.approx(2 * 64 * 2 * 6)
    assert found["boundaries"] * 1e9 == pytest.approx(2 * (2 * 64 * 6 * 2 + 2 * 64 * 2))
    assert found["SGAlign"] * 1e9 == pytest.approx(2 * 7 * 4 * 2 * 2)
    many = flops.gflop(config, num_channels=3, num_classes=5, rows=700)
    assert many["SGAlign"] * 1e9 == pytest.approx(2 * 64 * 2 * 5 * 2 + 2 * 700 * 5 * 2)
    assert found["PDN"] * 1e9 == pytest.approx(3 * (2 * 7 * 4 * 2 + 4 * 7 * 4 * 2) + 2 * 7 * 2 * 2)


def test_flops_are_those_of_the_design():
    config = activitynet.get_config()
    found = flops.gflop(config, 400, 200, len(grid(config).segments))
    expected = {"SSN": 1.61, "SGAlign": 4.45, "PDN": 6.3}
    assert {k: round(found[k], 2) for k in expected} == pytest.approx(expected, abs=0.02)
    assert found["heads"] + found["boundaries"] == pytest.approx(0.89, abs=0.01)
    drawn = flops.gflop(config, 400, 200, 50 * 21)
    assert sum(drawn.values()) == pytest.approx(7.8, abs=0.2)
    assert grid(config).members.shape[1] == 17  # copies are computed once


def network_flops(layers: int, *wanted: str) -> float:
    """GFLOP of the outputs named, as XLA counts them."""
    config = tiny.get_config()
    config.model.width, config.model.proposal_layers = 256, layers  # products are nearly all of it
    model = SegTAD(config, 3)
    variables = jax.eval_shape(lambda: create_variables(config, model, 64))
    batch = jax.ShapeDtypeStruct((1, 64, 64), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)

    def chosen(variables, features, num_frames):
        return {name: model.apply(variables, features, num_frames)[name] for name in wanted}

    return jax.jit(chosen).lower(variables, *batch).cost_analysis()["flops"] / 1e9


@pytest.mark.slow
def test_flops_against_xla():
    config = tiny.get_config()
    config.model.width = 256
    proposals = len(grid(config).segments)
    counted = flops.gflop(config, 64, 3, proposals)
    assert counted["SSN"] + counted["heads"] == pytest.approx(
        network_flops(3, "frame_logits"), rel=0.05
    )
    config.model.proposal_layers = 1  # SGAlign's loop is in both, however XLA counts it
    two_layers = counted["PDN"] - flops.gflop(config, 64, 3, proposals)["PDN"]
    found = network_flops(3, "proposal_logits") - network_flops(1, "proposal_logits")
    assert two_layers == pytest.approx(found, rel=0.05)


def test_a_share_of_the_peak():
    row = Measurement("PDN", 50.0, "ms", gflop=2.0, gb=1.0)
    assert results(row, peak=(90.0, 100.0)).share(row) == pytest.approx(0.4)
    assert results(row, peak=None).share(row) is None
    assert results(row).share(Measurement("memory", 1.0, "MB")) is None
    assert results(row).share(Measurement("x", 50.0, "ms", gflop=2.0, peak="bfloat16")) is None
    copied = Results("sheet", {}, [row], {measure.COPY: [40.0, 30.0]}, machine=MACHINE)
    assert copied.bandwidth_share(row) == pytest.approx(0.5)
    assert results(row).bandwidth_share(row) is None
    four = MACHINE | {"platform": "gpu", "devices": 4}  # the peak is of one device
    several = Results("step", {}, [row], {"float32": [100.0]}, machine=four)
    assert several.share(row) == pytest.approx(0.1)


# --- parts of the network -------------------------------------------------------------------------


def small_config():
    config = tiny.get_config("runlocal")
    config.update_from_flattened_dict({"model.width": 4, "model.proposal_layers": 1})
    return config


@pytest.mark.slow
def test_parts_grow_to_the_whole_network():
    program = programs.Inference(small_config(), 2 * jax.device_count())
    calls = [inference.network(program, part, 2) for part in inference.PARTS]
    texts = [call.func.lower(*call.args).as_text() for call in calls]
    products = [text.count("dot_general") + text.count("convolution") for text in texts]
    assert 0 < products[0] < products[1] < products[2]
    model = SegTAD(program.config, len(program.dataset.classes))
    outputs = jax.jit(model.apply)(*calls[-1].args)
    assert jnp.allclose(calls[-1]()[-1], outputs["proposal_logits"], atol=1e-5)


# --- measuring ------------------------------------------------------------------------------------


def test_a_row_is_the_median_and_quartiles_of_a_batch(monkeypatch):
    ticks = iter([0.0, 1.0, 0.0, 3.0, 0.0, 2.0])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(ticks))
    calls = []
    row = measure.timed("x", lambda: calls.append(0), Effort(0.0, 3), batches=2, gflop=1.5)
    assert row == Measurement("x", 1000.0, "ms", 750.0, 1250.0, 3, 1.5)
    assert len(calls) == 4  # the first is not counted


def test_no_call_begins_that_would_end_after_the_deadline(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measure.time, "monotonic", lambda: now[0])

    def call():
        now[0] += 3.0

    assert measure.sample(call, Effort(100.0, deadline=10.0)) == [3.0] * 3
    assert measure.sample(call, Effort(100.0, deadline=10.0)) == [3.0]  # one at least


def test_a_table_says_what_is_unsteady():
    row = Measurement("SSN", 12.345, "ms", 12.0, 1300.0, 7, 1.6)
    text = measure.table(results(row, Measurement("peak memory", 321.0, "MB")))
    assert "step, batch 1, on 1 x cpu (2 cores, P), jax 0.10.2" in text
    assert "float32: 100 GFLOP/s before, 100 after\n" in text
    assert re.search(r"SSN +\| 12\.3 ms \| 12 \.\. 1,300 \| 7 \| 1\.6 +\| 130% +\|", text)
    assert re.search(r"peak memory \| 321 MB +\| +\| 1 \| +\| +\|", text)
    unsteady = measure.table(results(row, peak=(100.0, 90.0)))
    assert "90 after: UNSTEADY, take no figure from this" in unsteady


# --- the sheet ------------------------------------------------------------------------------------


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Fills a sheet at a clock that rows move; returns its file."""
    now = [0.0]
    monkeypatch.setattr(sheet.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(measure, "measure_peak", lambda kind, seconds: 10.0)

    def row(name, seconds, error=None):
        def make(effort):
            now[0] += seconds
            if error:
                raise error
            yield Measurement(name, seconds, "ms")

        return name, make

    def fill(*rows):
        result = Results("sheet", {}, machine=MACHINE)
        sheet.fill(result, [row(*r) for r in rows], Effort(deadline=10.0), tmp_path / "out")
        text = (tmp_path / "out" / "sheet.md").read_text()
        return measure.read(tmp_path / "out" / "sheet.json"), text

    return fill


def test_the_sheet_names_what_the_time_leaves_out(written):
    found, text = written(("a", 6.0), ("b", 6.0), ("c", 1.0), ("d", 1.0))
    assert [row.name for row in found.rows] == ["a", "b"]
    assert found.left_out == {"c": "the minutes are spent", "d": "the minutes are spent"}
    assert text.endswith("- left out, the minutes are spent: c; d\n")


def test_the_sheet_goes_on_after_a_row_that_fails(written):
    lack = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore")
    found, text = written(("a", 1.0, lack), ("b", 1.0, ValueError("batch 1")), ("c", 1.0))
    assert [row.name for row in found.rows] == ["c"]
    assert "Out of memory" in found.left_out["a"]
    assert "more" not in found.left_out["a"]
    assert "batch 1" in found.left_out["b"]
    assert found.peaks == {kind: [10.0, 10.0] for kind in measure.PEAKS}
    assert "- a copy: 10 GB/s before, 10 after" in text


def test_the_rows_of_the_sheet_are_in_order():
    shapes = {"activitynet": activitynet.get_config(), "hacs": activitynet.get_config()}
    names = [name for name, _ in sheet.rows(shapes, (), None)]
    assert names[0] == "activitynet: detection, batch 1, float32"
    assert names[1] == "activitynet: detection, batch 1, bfloat16"
    groups = list(dict.fromkeys(re.sub(r", batch.*|, bfloat16$", "", name) for name in names))
    assert groups == [
        "activitynet: detection", "activitynet: training step", "equality",
        "activitynet: soft-NMS, 1 classes", "activitynet: soft-NMS, 200 classes",
        "hacs: detection", "hacs: training step",
    ]  # fmt: skip
    batches = [int(re.search(r"batch (\d+)", name)[1]) for name in names if "batch" in name]
    assert batches[:10:2] == [1, 32, 128, 32, 128]
    assert set(batches[-14:-2]) == {4, 8, 16}
    assert [name.rsplit(", ", 1)[1] for name in names[-2:]] == ["first call"] * 2


PEER = """
import json, sys
flags = dict(flag[2:].split("=") for flag in sys.argv[1:] if "=" in flag)
assert flags["what"] == "infer" and flags["shape"] == "hacs" and flags["top"] == "200"
if "--broken" in sys.argv:
    sys.exit("no such flag: --broken")
ms = 5.0 if "--fast" in sys.argv else 8.0
with open(flags["json"], "a") as file:
    file.write(json.dumps({"ms": ms, "gflop": 0.5 * int(flags["batch"])}))
"""


def test_the_peer_is_run_as_a_program_and_the_fastest_counts(tmp_path):
    (tmp_path / "bench.py").write_text(PEER)
    settings = types.SimpleNamespace(max_detections=200)
    program = types.SimpleNamespace(gflop=2.1, config=types.SimpleNamespace(eval=settings))
    case = sheet.Case("hacs", None, "detection", 4)
    time_peer = functools.partial(sheet._peer, str(tmp_path))
    late = measure.time.monotonic() + 60
    assert time_peer([], case, program, late) == (8.0, "")
    assert time_peer(["--fast", "--broken"], case, program, late) == (5.0, "")
    program.gflop = 4.0
    ms, note = time_peer([], case, program, late)
    assert ms is None
    assert "2 GFLOP" in note
    ms, note = time_peer([], dataclasses.replace(case, kind="training step"), program, late)
    assert ms is None
    assert "AssertionError" in note


def test_a_row_without_a_peer_says_why(tmp_path):
    time_peer = functools.partial(sheet._peer, str(tmp_path), [])
    config = types.SimpleNamespace(eval=types.SimpleNamespace(max_detections=200))
    program = types.SimpleNamespace(gflop=1.0, config=config)
    case, late = sheet.Case("hacs", None, "detection", 4), measure.time.monotonic() + 60
    ms, note = time_peer(case, program, late)
    assert ms is None
    assert str(tmp_path / "bench.py") in note
    (tmp_path / "bench.py").write_text("import sys\nsys.modules['torch'] = None\nimport torch")
    ms, note = time_peer(case, program, late)
    assert ms is None
    assert "torch" in note
    row = Measurement("a", 4.0, "ms", peer=10.0)
    assert re.search(r"\| 10 +\| 2\.5 +\|", measure.table(results(row)))
    copied = Measurement("a", 4.0, "ms", copied=5.0, peer=10.0)  # a peer's copies are counted
    assert re.search(r"\| 5 +\| 10 +\| 2 +\|", measure.table(results(copied)))


@pytest.mark.slow
def test_equality_of_two_precisions():
    rows = equality.rows(small_config(), "bfloat16")
    assert [row.name for row in rows] == [f"equality, bfloat16: {n}" for n in equality.NAMES]
    assert all(row.note.startswith("within") for row in rows), rows
    losses, gradients, scores, choices = (row.value for row in rows)
    assert 0 < losses < 0.03
    assert gradients > 0
    assert scores > 0
    assert choices == 0  # on one device


# --- comparing ------------------------------------------------------------------------------------


def run_compare(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    return ended.value.code, *capsys.readouterr()


@pytest.fixture
def compared(tmp_path, monkeypatch, capsys):
    """Exit status, output and errors of the command for two reports."""

    def run(old: Results, new: Results, *flags: str) -> tuple[int, str, str]:
        paths = [tmp_path / "old.json", tmp_path / "new.json"]
        for path, found in zip(paths, (old, new), strict=True):
            measure.write(found, path)
        return run_compare(monkeypatch, capsys, *map(str, paths), *flags)

    return run


def command(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XLA_FLAGS": ""} | environment,
    )


def test_compare_judges_by_the_machines_own_peak(compared):
    old = results(
        Measurement("step", 100.0, "ms"),
        Measurement("  SSN", 50.0, "ms"),
        Measurement("peak memory", 300.0, "MB"),
    )
    new = results(
        Measurement("step", 190.0, "ms"),  # a machine of half the speed: better
        Measurement("  SSN", 120.0, "ms"),
        Measurement("peak memory", 315.0, "MB"),
        peak=(50.0, 50.0),
    )
    status, text, _ = compared(old, new)
    assert status == 1
    assert re.search(r"^step +100 -> +190 ms +0\.95 x$", text, re.MULTILINE)
    assert re.search(r"^SSN +50 -> +120 ms +1\.20 x WORSE$", text, re.MULTILINE)
    assert re.search(r"^peak memory +300 -> +315 MB +1\.05 x$", text, re.MULTILINE)
    assert text.endswith("worse: SSN\n")
    assert compared(old, new, "--tolerance=0.25")[0] == 0
    status, text, _ = compared(new, old)
    assert status == 0
    assert text.endswith("nothing got worse\n")


def test_compare_knows_what_is_better_when_higher_and_what_is_missing():
    old = results(
        Measurement("quotient", 100.0, "x"),
        Measurement("multiple", 5.0, "x"),
        Measurement("NMS", 1, "ms"),
    )
    new = results(Measurement("quotient", 80.0, "x"), Measurement("multiple", 9.0, "x"))
    lines, worse = compare.compare(old, new, 0.1)
    assert worse == ["quotient", "NMS"]
    assert "1.25 x WORSE" in lines[1]
    assert lines[2].endswith("0.56 x better")
    assert lines[3] == f"{'NMS':34} is missing in the new file WORSE"


def test_compare_refuses_what_is_not_alike(compared):
    row = Measurement("step", 1.0, "ms")
    status, _, told = compared(
        results(row), results(row, benchmark="step, batch 2", config={"model.width": 9})
    )
    assert status == 2
    assert told == (
        "error: these are not of the same thing: "
        "benchmark was step, batch 1 and is step, batch 2; model.width was 8 and is 9\n"
    )


def test_compare_refuses_other_files(tmp_path, monkeypatch, capsys):
    path = tmp_path / "old.json"
    path.write_text('{"rows": 3}')
    status, _, told = run_compare(monkeypatch, capsys, str(path), str(path))
    assert status == 2
    assert told.startswith(f"error: {path} is no file of --json=FILE of a benchmark (TypeError")
    status, _, told = run_compare(monkeypatch, capsys, str(tmp_path / "none.json"), str(path))
    assert status == 2
    assert "none.json" in told


# --- end to end -----------------------------------------------------------------------------------

SMALL = (
    "--config=configs/tiny.py:runlocal",
    "--config.model.width=4",
    "--config.model.proposal_layers=1",
    "--seconds=0",
)
PARTS = {"SSN", "SSN, SGAlign", "SSN, SGAlign, PDN"}
FIRST = {"first call, cold", "first call, from the cache"}
ABSENT = (
    "tensorflow", "tensorflow_datasets", "orbax", "h5py", "matplotlib", "jinja2", "safetensors",
    "apache_beam", "seglearn",
)  # fmt: skip


@pytest.fixture(scope="module")
def little_installed(tmp_path_factory):
    """An environment without what only data sets, checkpoints and reports need."""
    folder = tmp_path_factory.mktemp("absent")
    code = f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n"
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder)}


def run_benchmark(name: str, path: Path, *flags: str, **environment: str):
    done = command(name, *SMALL, "--batch=2", f"--json={path}", *flags, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = measure.read(path)
    assert json.loads(path.read_text())["config"]["model.width"] == 4
    for row in found.rows:
        assert math.isfinite(row.value), row
        assert row.value > 0, row
        assert row.name in done.stdout
    return {row.name.strip(): row for row in found.rows}, done.stdout


@pytest.mark.slow
def test_inference(tmp_path, little_installed):
    arguments = "inference", tmp_path / "a.json", "--video_scores"
    rows, text = run_benchmark(*arguments, **little_installed)
    assert set(rows) == {"detect: everything", "device step, copied to the host"} | PARTS
    assert text.startswith("inference with video-level scores, batch 2, on 1 x cpu")
    assert rows["detect: everything"].gflop == pytest.approx(rows["SSN, SGAlign, PDN"].gflop)


@pytest.mark.slow
def test_training_step(tmp_path, little_installed):
    rows, _ = run_benchmark("step", tmp_path / "a.json", **little_installed)
    assert set(rows) == {"loop: everything", "step"}


@pytest.mark.slow
def test_pipeline(tmp_path):
    rows, _ = run_benchmark("pipeline", tmp_path / "a.json", "--videos=4")
    quotient = rows["training step"].value / rows["input pipeline"].value
    assert rows["batches a step"].value == pytest.approx(quotient)
    again = command("pipeline", *SMALL, "--batch=2", "--videos=3")
    assert again.stderr == "error: --videos=3 is not a multiple of the batch of 2.\n"


@pytest.mark.slow
def test_sheet(tmp_path, little_installed):
    flags = (f"--output={tmp_path / 'out'}", "--batches=2", "--only=detection|soft-NMS")
    flags += ("--minutes=2", f"--peer={tmp_path}")
    done = command("sheet", *SMALL, *flags, **little_installed)
    assert done.returncode == 0, done.stderr[-3000:]
    found = measure.read(tmp_path / "out" / "sheet.json")
    rows = {row.name: row for row in found.rows}
    one = "tiny: detection, batch 2, float32"
    assert set(rows) == {
        one, "tiny: detection, batch 2, bfloat16", "tiny: soft-NMS, 1 classes, batch 2",
        "tiny: soft-NMS, 3 classes, batch 2", *(f"{one}: {call}" for call in FIRST),
    }  # fmt: skip
    assert all(row.value > 0 for row in found.rows)
    cold, cached = (rows[f"{one}: {call}"].value for call in sorted(FIRST))
    assert cached < cold
    assert rows[one].gflop > 0
    assert rows[one].memory > 0
    assert rows[one].gb > 0
    assert found.bandwidth_share(rows[one]) > 0
    assert rows["tiny: detection, batch 2, bfloat16"].peak == "bfloat16"
    assert set(found.peaks) == set(measure.PEAKS)
    assert not found.left_out
    assert "bench.py" in rows[one].note  # none is there
    assert measure.table(found) + "\n" == (tmp_path / "out" / "sheet.md").read_text()


@pytest.mark.slow
def test_the_row_of_a_training_step():
    batch = 2 * jax.device_count()
    plan = dict(sheet.rows({"tiny": small_config()}, (batch,), None))
    (row,) = plan[f"tiny: training step, batch {batch}, float32"](Effort(0.0, 1))
    assert min(row.value, row.gflop, row.gb, row.memory) > 0


def test_wrong_use_is_told_in_a_line():
    found = command("step", "--config=configs/tiny.py", "--config.model.widht=3")
    assert found.returncode == 1
    assert found.stderr.startswith("error: ")


# --- recipes --------------------------------------------------------------------------------------


def test_a_recipe_is_trained_untouched_and_tabled(tmp_path, monkeypatch, capsys):
    commands = []

    def train(command, **_):
        commands.append(command[1:])
        words = dict(word.split("=", 1) for word in command if "=" in word)
        workdir, seed = Path(words["--workdir"]), int(words["--config.seed"])
        workdir.mkdir(parents=True)
        fields = {"data.num_frames": 256, "model.stride": 2, "model.pyramid": 8}
        fields["train.steps"] = 800 if seed else 200
        (workdir / "config.json").write_text(json.dumps(fields))
        scores = {"0.50": 0.8 + 0.1 * seed, "0.70": 0.7, "average": 0.6}
        (workdir / "metrics.json").write_text(json.dumps({"map": scores}))

    monkeypatch.setattr(recipes.subprocess, "run", train)
    data = ROOT / "tests" / "old_runs" / "data"
    recipes.main([f"--output={tmp_path}", "--seeds=0,1", str(data), "--config.train.log_every=5"])
    assert commands[1] == [
        *("-m", "segtad_jax.main", "--config=custom", f"--workdir={tmp_path / 'old' / '1'}"),
        *(f"--config.data.dir={data / 'old' / '1.0.0'}", "--config.seed=1"),
        "--config.train.log_every=5",
    ]
    row = capsys.readouterr().out.splitlines()[-1]
    expected = "| old | 0.850 (0.800 to 0.900) | 0.700 (0.700 to 0.700) | 0.600 (0.600 to 0.600) |"
    assert row == f"{expected} 256 | 2 | 8 | 200, 800 |"
