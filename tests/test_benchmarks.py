"""Benchmarks: what they count and say, and each of them end to end on a tiny config. No times."""

import functools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import compare, flops, growth, measure, programs, stages
from benchmarks.measure import Effort, Report, Row
from configs import activitynet, tiny
from segtad_jax import train
from segtad_jax.data.dataset import open_dataset
from segtad_jax.models.segtad import SegTAD
from segtad_jax.optim import optimizer

ROOT = Path(__file__).resolve().parent.parent
MACHINE = {
    "devices": 1, "device": "cpu", "cores": 2, "processor": "P", "jax": "0.10.2"
}  # fmt: skip


def report(*rows: Row, peak=(100.0, 100.0), batch=1, config=None) -> Report:
    return Report("step", config or {"model.width": 8}, batch, peak, rows, MACHINE)


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
    found = flops.gflop(config, 400, 200, programs.num_proposals(config))
    expected = {"SSN": 1.61, "SGAlign": 4.45, "PDN": 6.3}
    assert {k: round(found[k], 2) for k in expected} == pytest.approx(expected, abs=0.02)
    assert found["heads"] + found["boundaries"] == pytest.approx(0.89, abs=0.01)
    drawn = flops.gflop(config, 400, 200, 50 * 21)
    assert sum(drawn.values()) == pytest.approx(7.8, abs=0.2)
    assert programs.num_sampled(config) == 50 * 17  # copies are computed once


@pytest.mark.parametrize("part", ["SSN", "PDN"])
def test_flops_against_xla(part):
    config = tiny.get_config()
    config.model.width = 256  # so that products are nearly all of it
    model = SegTAD(config, 3)
    state = jax.eval_shape(lambda: train.create_state(config, model, optimizer(config), 64))
    batch = {
        "features": jax.ShapeDtypeStruct((1, 64, 64), jnp.float32),
        "num_frames": jax.ShapeDtypeStruct((1,), jnp.int32),
    }
    whole = jax.eval_shape(lambda v, b: stages.run(model, v, b, {})[1], state.variables, batch)

    def by_xla(stage: str, *wanted: str) -> float:
        lowered = stages.forward(model, stage, wanted).lower(state.variables, batch, whole)
        return lowered.cost_analysis()["flops"] / 1e9

    counted = flops.gflop(config, 64, 3, programs.num_proposals(config))
    if part == "SSN":
        found = by_xla(stages.SSN, "decoded", "frame_logits") - counted["heads"]
    else:  # SGAlign's loop is in both, however XLA counts it
        found = by_xla(stages.BOTH) - by_xla(stages.ALIGN)
    assert counted[part] == pytest.approx(found, rel=0.05)


def test_a_share_of_the_peak():
    row = Row("PDN", 50.0, "ms", gflop=2.0)
    assert report(row, peak=(90.0, 100.0)).share(row) == pytest.approx(0.4)
    assert report(row, peak=None).share(row) is None
    assert report(row).share(Row("memory", 1.0, "MB")) is None


# --- parts of the network -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts():
    """A small model, a batch, and what the parts give in a whole run."""
    config = tiny.get_config("runlocal")
    program = programs.Inference(config, 2 * jax.device_count(), 2 * jax.device_count())
    model = SegTAD(program.config, len(program.dataset.classes))
    batch = jax.device_put({k: v[:2] for k, v in program.batch().items()})
    outputs, whole = jax.jit(functools.partial(stages.run, model))(program.variables, batch, {})
    return model, program.variables, batch, outputs, whole


def test_a_part_alone_gives_what_it_gives_in_the_whole(parts):
    model, variables, batch, outputs, whole = parts
    for part, module in ((stages.SSN, "SSN"), (stages.BOTH, "PDN")):
        alone = stages.forward(model, part)(variables, batch, whole)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(whole[module]), strict=True):
            assert jnp.allclose(a, b, atol=1e-5), part
    assert jnp.array_equal(whole["PDN"], outputs["proposal_logits"])


def test_a_part_alone_computes_nothing_else(parts):
    model, variables, batch, _, whole = parts
    texts = {
        part: stages.forward(model, part).lower(variables, batch, whole).as_text()
        for part in stages.PARTS
    }
    assert {part for part, text in texts.items() if "convolution" in text} == {stages.SSN}
    products = {part: text.count("dot_general") for part, text in texts.items()}
    assert products[stages.BOTH] > products[stages.ALIGN] > 0


def test_gradients_of_a_part_are_of_its_parameters_and_its_input(parts):
    model, variables, batch, _, whole = parts
    batch = batch | {"seeds": jnp.zeros((2, 8), jnp.int32)}
    whole = jax.jit(functools.partial(stages.run, model, train=True))(variables, batch, {})[1]
    own = stages.training(model, stages.SSN)(variables, batch, whole)
    assert set(own[0]) == {"ssn"}
    own, decoded = stages.training(model, stages.BOTH)(variables, batch, whole)
    assert "ssn" not in own
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(own["pdn"]))
    assert decoded.shape == whole["SSN"]["decoded"].shape
    assert jnp.any(decoded != 0)


@pytest.mark.parametrize(
    ("name", "value", "gone"),
    [("MODULES", ("SSN", "PDN", "Refiner"), "Refiner"), ("LAYER", ("PDN", "_x"), "PDN._x")],
)
def test_a_part_that_is_gone_is_named(parts, monkeypatch, name, value, gone):
    model, variables, batch, _, _ = parts
    monkeypatch.setattr(stages, name, value)
    with pytest.raises(RuntimeError, match=f"no longer calls {gone}: mend benchmarks/stages"):
        jax.eval_shape(functools.partial(stages.run, model, layers=False), variables, batch, {})


# --- measuring ------------------------------------------------------------------------------------


def test_a_row_is_the_median_and_quartiles_of_a_batch(monkeypatch):
    ticks = iter([0.0, 1.0, 0.0, 3.0, 0.0, 2.0])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(ticks))
    calls = []
    row = measure.timed("x", lambda: calls.append(0), Effort(0.0, 3), gflop=1.5, batches=2)
    assert row == Row("x", 1000.0, "ms", 750.0, 1250.0, 3, 1.5)
    assert len(calls) == 4  # the first is not counted


@pytest.mark.parametrize(
    ("peaks", "kept"),
    [
        ([100.0, 97.0], (100.0, 97.0)),
        ([100.0, 50.0, 100.0, 102.0], (100.0, 102.0)),
        ([100.0, 50.0, 100.0, 80.0, 100.0, 60.0], (100.0, 80.0)),
    ],
)
def test_it_is_measured_again_until_the_peak_is_steady(monkeypatch, peaks, kept):
    left = list(peaks)
    monkeypatch.setattr(measure, "matmul_peak", lambda: left.pop(0))
    rows, found = measure.between_peaks(lambda: [Row("x", len(left), "ms")], Effort(tries=3))
    assert not left
    assert found == kept
    assert rows[0].value == len(peaks) - peaks.index(kept[1])  # those between these two


def test_memory_is_that_of_a_fresh_process():
    small, large = (measure.in_fresh_process(peak_of, size) for size in (1, 200))
    assert small < 100
    assert 190 < large < 300


def peak_of(megabytes: int) -> float:
    memory = measure.Memory()
    bytearray(megabytes * 1_000_000)  # gone again at once
    return memory.peak_mb()


def test_a_table_says_what_is_unsteady():
    row = Row("SSN", 12.345, "ms", 12.0, 1300.0, 7, 1.6)
    steady = measure.table(report(row, Row("peak memory", 321.0, "MB"), batch=4))
    assert "step, batch 4, on 1 x cpu (2 cores, P), jax 0.10.2" in steady
    assert "matmul peak 100 GFLOP/s before, 100 after\n" in steady
    assert re.search(r"SSN +12\.3 ms +3\.09 +12 \.\. 1,300 +7 +1\.6 +130%", steady)
    assert re.search(r"peak memory +321 MB +1$", steady)
    unsteady = measure.table(report(row, peak=(100.0, 90.0)))
    assert "90 after: UNSTEADY, take no figure from this" in unsteady


# --- comparing ------------------------------------------------------------------------------------


def run_compare(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    return ended.value.code, *capsys.readouterr()


@pytest.fixture
def compared(tmp_path, monkeypatch, capsys):
    """Exit status, output and errors of the command for two reports."""

    def run(old: Report, new: Report, *flags: str) -> tuple[int, str, str]:
        paths = [tmp_path / "old.json", tmp_path / "new.json"]
        for path, found in zip(paths, (old, new), strict=True):
            measure.write(path, found)
        return run_compare(monkeypatch, capsys, *map(str, paths), *flags)

    return run


def command(name: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XLA_FLAGS": ""},
    )


def test_compare_judges_by_the_machines_own_peak(compared):
    old = report(
        Row("step", 100.0, "ms"), Row("  SSN", 50.0, "ms"), Row("peak memory", 300.0, "MB")
    )
    new = report(
        Row("step", 190.0, "ms"),  # a machine of half the speed: better
        Row("  SSN", 120.0, "ms"),
        Row("peak memory", 315.0, "MB"),
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
    old = report(Row("decoded", 100.0, "videos/s"), Row("multiple", 5.0, "x"), Row("NMS", 1, "ms"))
    new = report(Row("decoded", 80.0, "videos/s"), Row("multiple", 9.0, "x"))
    lines, worse = compare.compare(old, new, 0.1)
    assert worse == ["decoded", "NMS"]
    assert "1.25 x WORSE" in lines[1]
    assert lines[2].endswith("0.56 x better")
    assert lines[3] == f"{'NMS':34} is missing in the new file"


def test_compare_refuses_what_is_not_alike(compared):
    row = Row("step", 1.0, "ms")
    status, _, told = compared(report(row), report(row, batch=2, config={"model.width": 9}))
    assert status == 2
    assert told == (
        "error: these are not of the same thing: batch was 1 and is 2; model.width was 8 and is 9\n"
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
    "--batch=2",
    "--seconds=0",
    "--repeats=1",
    "--tries=1",
)
FIRST = {
    "parameters made, cold",
    "parameters made, from the cache",
    "first call, cold",
    "first call, from the cache",
    "peak memory above the base",
    "of it, the program's temporaries",
}


def run_benchmark(name: str, path: Path, *flags: str) -> tuple[dict[str, Row], str]:
    done = command(name, *SMALL, f"--json={path}", *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    found = measure.read(path)
    assert json.loads(path.read_text())["config"]["model.width"] == 4
    for row in found.rows:
        assert math.isfinite(row.value), row
        assert row.value > 0, row
        assert row.name in done.stdout
    return {row.name.strip(): row for row in found.rows}, done.stdout


def test_inference(tmp_path):
    rows, text = run_benchmark(
        "inference", tmp_path / "a.json", "--measure=times", "--video_scores"
    )
    stage_names = list(stages.PARTS)
    assert set(rows) == {
        "detect: everything", "device step, copied to the host", "input", *stage_names,
        "scores", "NMS",
    }  # fmt: skip
    assert text.startswith("inference with video-level scores, batch 2, on 1 x cpu")
    total = rows["SSN"].gflop + rows["SGAlign and PDN"].gflop
    assert rows["detect: everything"].gflop == pytest.approx(total)
    plain, _ = run_benchmark("inference", tmp_path / "b.json", "--measure=times")
    assert plain["SSN"].gflop > rows["SSN"].gflop  # the frames' classes


@pytest.mark.slow
def test_training_step(tmp_path):
    rows, _ = run_benchmark("step", tmp_path / "a.json")
    times = {
        "loop: everything", "step", "input", "targets", "sampling", *stages.PARTS,
        "optimiser",
    }  # fmt: skip
    assert set(rows) == times | FIRST
    assert rows["peak memory above the base"].value < 2000


@pytest.mark.slow
def test_first_calls_of_inference(tmp_path):
    rows, text = run_benchmark("inference", tmp_path / "a.json", "--measure=first")
    assert set(rows) == FIRST
    assert "matmul peak" not in text


def test_pipeline(tmp_path):
    flags = ("--videos=4", f"--data={tmp_path / 'data'}")
    rows, _ = run_benchmark("pipeline", tmp_path / "a.json", *flags)
    quotient = rows["input pipeline"].value / rows["training step"].value
    assert rows["pipeline over step"].value == pytest.approx(quotient)
    shards = list((tmp_path / "data").rglob("*.tfrecord*"))
    again = command("pipeline", *SMALL, "--videos=3")
    assert again.stderr == "error: --videos=3 is not a multiple of the batch of 2.\n"
    assert shards == list((tmp_path / "data").rglob("*.tfrecord*"))
    assert len(open_dataset(shards[0].parent).recordings("training")) == 4


def test_startup(tmp_path):
    rows, _ = run_benchmark("startup", tmp_path / "a.json", "--measure=times", "--frames=64")
    assert set(rows) == {"import of segtad_jax.train", "grid of T=64, 136 proposals"}
    found = command("startup", *SMALL, "--frames=100")
    assert found.stderr.startswith("error: data.num_frames = 100 is not divisible by 8")


@pytest.mark.slow
def test_growth(tmp_path):
    path = tmp_path / "a.json"
    flags = ("--batch=1", "--frames=64,128", "--strides=4", f"--plot={tmp_path / 'a.svg'}")
    rows, text = run_benchmark("growth", path, *flags)
    for frames in (64, 128):
        for stage in ("grid", "whole", "whole memory", "SGAlign", "SGAlign memory", "NMS"):
            assert f"T={frames} stride=4: {stage}" in rows
    assert "T=128 stride=4 (528 proposals) measured" in text
    assert (tmp_path / "a.svg").read_text().count("<path") > 10


def test_growth_names_what_needs_too_much(monkeypatch):
    monkeypatch.setattr(growth, "_available", lambda: 1e-3)
    point = growth.at_size(tiny.get_config("runlocal").to_dict(), Effort(0.0, 1))
    assert point.refused > 1e-3
    assert not point.times
    assert [row.name for row in point.rows()] == ["T=64 stride=4: grid"]


def test_wrong_use_is_told_in_a_line():
    found = command("step", "--config=configs/tiny.py", "--config.model.widht=3")
    assert found.returncode == 1
    assert found.stderr.startswith("error: ")
    found = command("step", "--config=configs/tiny.py", "--config.model.num_bins=6")
    assert found.returncode == 1
    assert re.fullmatch(r"error: model\.num_bins = 6 is not a multiple of 4.*\n", found.stderr)
    found = command("step", "--config=configs/tiny.py", "--measure=speed")
    assert "--measure=['speed']: is times, first or both." in found.stderr
