"""--mode=compile: slices by name, figures from the compiler's text, what it prints."""

import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segtad_jax.data import pipeline
from segtad_jax.data.embedded import open_or_build
from segtad_jax.runtime import parallel
from segtad_jax.tpu import topology
from segtad_jax.tpu.compile import (
    ACTIONS,
    Figures,
    advice,
    batch_shapes,
    check_slices,
    collectives,
    compile_step,
    cost_figure,
    refused_bytes,
    table,
)
from segtad_jax.tpu.topology import GIB
from tests.test_models import CHANNELS, CLASSES, small_config

ROOT = Path(__file__).resolve().parent.parent
COMPILE = [sys.executable, "-m", "segtad_jax.main", "--config=configs/tiny.py", "--mode=compile"]
SIZES = ["--config.data.num_channels=16", "--config.data.num_classes=3"]


@pytest.mark.parametrize(
    ("name", "shape", "hbm"),
    [
        ("v5e:4x4", (4, 4), 15.75),
        ("v5e:16x16", (16, 16), 15.75),
        ("v4:4x4x4", (4, 4, 4), 30.75),
        ("v5p:2x2x2", (2, 2, 2), 95.74),
        ("v6e:1x1", (1, 1), 31.25),
    ],
)
def test_slices_by_name(name: str, shape: tuple[int, ...], hbm: float) -> None:
    found = topology.parse(name)
    assert (found.name, found.shape, found.chip.hbm_gib) == (name, shape, hbm)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5e", "FAMILY:SHAPE.*v5e:4x4"),
        ("v5litepod-16", "FAMILY:SHAPE.*accelerator type"),
        ("v5e:4x", "FAMILY:SHAPE"),
        ("v5e:0x4", "FAMILY:SHAPE"),
        ("v9:2x2", "'v9'.*v4, v5e, v5p, v6e"),
        ("v5e:2x2x2", "2 dimensions.*v5e:2x2"),
        ("v4:4x4", "3 dimensions.*v4:2x2x2"),
    ],
)
def test_names_of_no_slice(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"--topology={name}.*{message}"):
        topology.parse(name)


def command(*flags: str) -> tuple[int, str]:
    result = subprocess.run(
        [*COMPILE, *flags], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    return result.returncode, result.stderr


def test_without_libtpu_it_says_what_to_install() -> None:
    status, errors = command("--topology=v5e:2x2", *SIZES)
    assert status == 1
    assert "pip install 'segtad-jax[tpu]'" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("field", "names", "message"),
    [
        ("num_channels", ["v5e:2x2"], "data.num_channels is open"),
        ("num_classes", ["v5e:2x2"], "--config.data.num_classes=200"),
        ("", [], "--topology.*v5e:4x4"),
        ("", ["v5e:2x2", "v9:2x2"], "v9"),
    ],
)
def test_wrong_use(field: str, names: list[str], message: str) -> None:
    config = small_config(data__num_channels=CHANNELS, data__num_classes=CLASSES)
    if field:
        config.data[field] = None
    with pytest.raises(ValueError, match=message):
        check_slices(config, names)


def test_channels_that_the_features_will_not_have() -> None:
    config = small_config(data__num_channels=CHANNELS, data__num_classes=CLASSES)
    config.augment.mirror = (0, CHANNELS)
    message = rf"channels 0 to {CHANNELS}.*data\.num_channels = {CHANNELS}"
    with pytest.raises(ValueError, match=message):
        check_slices(config, ["v5e:2x2"])


def test_batches_have_the_shapes_of_the_pipeline(tmp_path: Path) -> None:
    config = small_config(data__source="synthetic", data__dir=str(tmp_path))
    dataset = open_or_build(config.data)
    recordings = dataset.recordings("training")
    config.data.num_channels = dataset.num_channels
    settings = {"length": config.data.num_frames, "batch_size": 8}
    batch = next(
        pipeline.training_batches(
            dataset, recordings, **settings, seed=0, first_step=0, last_step=1
        )
    )
    actions = batch["labels"].shape[1]
    shapes = batch_shapes(config, 4, 2)
    assert set(shapes) == set(batch)
    for name, part in parallel.shard_batch(batch).items():
        wanted = [
            ACTIONS if n == actions and axis == 2 and name != "features" else n
            for axis, n in enumerate(part.shape)
        ]
        assert (list(shapes[name].shape), shapes[name].dtype) == (wanted, part.dtype), name


HLO = """
%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}
ENTRY %main {
  %all-reduce.1 = (f32[128,256]{1,0:T(8,128)S(1)}, f32[], /*index=2*/bf16[3]{0}) all-reduce(%a)
  %get-tuple-element.1 = f32[128,256]{1,0} get-tuple-element(%all-reduce.1), index=0
  %psum.2 = f32[256]{0:T(256)} all-reduce(%get-tuple-element.1), channel_id=1
  %all-reduce-start = f32[10]{0} all-reduce-start(%d), to_apply=%add
  %all-reduce-done = f32[10]{0} all-reduce-done(%all-reduce-start)
  %all-gather-start = (s32[2]{0}, s32[8]{0}) all-gather-start(%e), dimensions={0}
  %all-gather-done = s32[8]{0} all-gather-done(%all-gather-start)
  ROOT %permuted = pred[5]{0} collective-permute(%f), source_target_pairs={{0,1}}
}
"""


def test_collectives_of_hlo() -> None:
    assert collectives(HLO) == {
        "all-gather": (1, 8 * 4),
        "all-reduce": (3, (128 * 256 + 1) * 4 + 3 * 2 + 256 * 4 + 10 * 4),
        "collective-permute": (1, 5),
    }
    assert collectives("ENTRY %main { ROOT %x = f32[2]{0} add(%a, %b) }") == {}


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (
            "memory required for HLO temporaries (29.50G) exceeds available HBM (15.75G).",
            29.5 * GIB,
        ),
        ("Ran out of memory in memory space hbm. Used 512.5M of 15.75G hbm.", 512.5 * 2**20),
    ],
)
def test_what_a_refused_program_needed(message: str, size: float) -> None:
    assert refused_bytes(f"RESOURCE_EXHAUSTED: {message}") == size
    assert math.isnan(refused_bytes("RESOURCE_EXHAUSTED: no details"))


def test_a_figure_that_the_compiler_does_not_know() -> None:
    assert cost_figure({"flops": 3.0}, "flops") == 3.0
    assert math.isnan(cost_figure({"optimal_seconds": -57.9}, "optimal_seconds"))
    assert math.isnan(cost_figure({}, "flops"))


def test_figures_are_of_the_program() -> None:
    """On the devices there are: a gradient step whose sizes can be counted by hand."""

    def step(weights: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
        gradient = jax.grad(lambda w: jnp.sum((batch["x"] @ w) ** 2))(weights)
        return weights - jax.lax.pmean(gradient, parallel.AXIS)

    def figures(rows: int) -> Figures:
        batch = {"x": jax.ShapeDtypeStruct((4, rows, 128), jnp.float32)}
        weights = jax.ShapeDtypeStruct((128, 64), jnp.float32)
        return compile_step(parallel.replicate_step(step), weights, batch)

    one, two = figures(256), figures(512)
    assert one.fits
    assert one.collectives == {"all-reduce": (1, 128 * 64 * 4)}
    assert one.hbm >= (256 * 128 + 128 * 64) * 4
    assert two.hbm - one.hbm >= 256 * 128 * 4
    assert one.flops >= 2 * 2 * 256 * 128 * 64
    assert 1.8 < two.flops / one.flops < 2.2


def figures_that(fits: bool) -> Figures:
    if not fits:
        return Figures(False, hbm=29.5 * 2**30, compiled_in=2.0)
    return Figures(
        True,
        hbm=0.5 * 2**30,
        flops=197e9,
        accessed=819e6,
        collectives={"all-reduce": (9, 21 * 2**20)},
        loops=2,
        compiled_in=40.0,
    )


def test_table() -> None:
    batches = {"train": 4, "predict": 1}
    figures = {"train": figures_that(True), "predict": figures_that(False)}
    printed = table(topology.parse("v5e:2x4"), batches, figures)
    names, *columns = ([*column.cells] for column in printed.columns)
    assert [column.header for column in printed.columns[1:]] == ["train step", "predict step"]
    assert {name: list(cells) for name, *cells in zip(names, *columns, strict=True)} == {
        "windows per chip": ["4", "1"],
        "HBM needed": ["0.5 GiB", "29.5 GiB: too much"],
        "HBM there is": ["15.75 GiB", "15.75 GiB"],
        "flops": ["197 GFLOP", "n/a"],
        "bytes accessed": ["0.7628 GiB", "n/a"],
        "collectives": ["9 all-reduce", "n/a"],
        "bytes of collectives": ["21 MiB", "n/a"],
        "loops, counted once": ["2", "n/a"],
        "compiler's estimate": ["n/a", "n/a"],
        "flops / peak": ["1 ms", "n/a"],
        "bytes / bandwidth": ["1 ms", "n/a"],
        "compiling took": ["40 s", "2 s"],
    }


def test_advice() -> None:
    wanted, batches = topology.parse("v5e:2x4"), {"train": 512, "predict": 8}
    small, large = figures_that(True), figures_that(False)
    assert advice(wanted, batches, {"train": small, "predict": small}) == []
    train, predict = advice(wanted, batches, {"train": large, "predict": large})
    assert "train.batch_size below 512," in train
    assert "eval.batch_size below 8," in predict
    for name in ("v5e:2x4", "model.dtype", "model.width", "train.rematerialise"):
        assert name in train
    assert advice(wanted, batches, {"train": small, "predict": large}) == [predict]


@pytest.fixture
def libtpu_python() -> str:
    python = os.environ.get("SEGTAD_LIBTPU_PYTHON")
    if not python:
        pytest.skip("SEGTAD_LIBTPU_PYTHON names no Python with the extra `tpu`")
    return python


@pytest.mark.slow
def test_a_real_compile(libtpu_python: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("JAX_PLATFORMS", "XLA_FLAGS")}

    def compiled(*flags: str) -> tuple[int, str, dict[str, list[str]]]:
        result = subprocess.run(
            [libtpu_python, *COMPILE[1:], *SIZES, *flags],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        rows = {line[:20].strip(): line[20:].split() for line in result.stdout.splitlines()}
        return result.returncode, result.stdout + result.stderr, rows

    status, output, rows = compiled("--topology=v5e:2x2")
    assert status == 0, output
    assert "v5e:2x2: 4 chips, 57,704 parameters" in output
    assert rows["windows per chip"] == ["4", "2"]
    assert rows["HBM there is"] == ["15.75", "GiB", "15.75", "GiB"]
    assert "all-reduce" in rows["collectives"]
    assert rows["collectives"][-1] == "none"  # of the predict step: each chip keeps what it found
    assert float(rows["flops"][0]) > 0
    # Gradients, at least, are summed over the chips.
    assert float(rows["bytes of collectives"][0]) * 2**20 > 57_704 * np.dtype(np.float32).itemsize

    status, output, twice = compiled("--topology=v5e:2x2", "--config.train.batch_size=32")
    assert status == 0, output
    for name in ("HBM needed", "flops", "bytes accessed"):
        assert twice[name][1] == rows[name][1], "units"
        assert float(twice[name][0]) > 1.05 * float(rows[name][0]), name
        assert twice[name][2:] == rows[name][2:], "the predict step's are the same"

    status, output, _ = compiled("--topology=v5e:3x5")
    assert status == 1
    assert "error: --topology=v5e:3x5: INVALID_ARGUMENT" in output
