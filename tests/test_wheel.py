"""The package as others install it: elsewhere, it has its configs, prepares, trains, detects."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segtad_jax.config import files
from tests.test_config import CONFIGS, load

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def elsewhere(once, tmp_path_factory):
    """A folder with the installed wheel in `site`."""
    return shutil.copytree(once("wheel", install), tmp_path_factory.mktemp("elsewhere") / "here")


def install(folder):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", str(ROOT), "--no-deps", "-w", str(folder)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("no network to fetch hatchling from, which builds the wheel")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    place = ["--no-deps", "--target", str(folder / "site"), str(wheel)]
    subprocess.run([*pip, "install", *place], check=True, capture_output=True)


def python(folder, *arguments):
    """Stdout of a command in the folder, with the installed package."""
    environment = os.environ | {"PYTHONPATH": str(folder / "site")}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_wheel_has_every_config(elsewhere, path):
    (elsewhere / "custom.py").write_text("raise RuntimeError('a file, not the shipped config')")
    name = f"--config={path.stem}:runlocal"
    printed = python(elsewhere, "-m", "segtad_jax.main", name, "--print_config")
    assert printed == files.listing(load(path, "runlocal")) + "\n"


@pytest.mark.slow
def test_prepare_train_and_predict(elsewhere):
    random = np.random.default_rng(0)
    database = {}
    (elsewhere / "features").mkdir()
    for index in range(8):
        frames = 120 + index
        features = random.normal(size=(frames, 8)).astype(np.float32)
        features[40:80] += 2.0
        np.save(elsewhere / "features" / f"v_x{index}.npy", features)
        database[f"x{index}"] = {
            "subset": "validation" if index > 5 else "training",
            "duration": frames / 4,
            "annotations": [{"segment": [10, 20], "label": "jump"}],
        }
    (elsewhere / "truth.json").write_text(json.dumps({"database": database}))
    place = python(elsewhere, "-c", "import segtad_jax; print(segtad_jax.__file__)")
    assert place.startswith(str(elsewhere / "site"))
    given = ["--name=mine", "--features=features", "--annotations=truth.json", "--output=data"]
    printed = python(elsewhere, "-m", "segtad_jax.prepare", *given)
    assert "data/mine/1.0.0" in printed
    assert (elsewhere / "data" / "mine" / "1.0.0" / "report.html").exists()
    python(
        elsewhere,
        *("-m", "segtad_jax.main", "--config=custom", "--workdir=run"),
        *("--config.data.dir=data", "--config.model.width=16"),
        *("--config.train.steps=20", "--config.train.eval_every=0", "--config.train.save_every=20"),
    )
    metrics = json.loads((elsewhere / "run" / "metrics.json").read_text())
    assert metrics["counts"]["videos"] == 2
    flags = ["--checkpoint=run", "--features=features", "--durations=truth.json"]
    python(elsewhere, "site/bin/segtad", "predict", *flags, "--output=found.json")
    found = json.loads((elsewhere / "found.json").read_text())
    assert sorted(found["results"]) == [f"v_x{index}" for index in range(8)]
    python(
        elsewhere, "-m", "segtad_jax.export", "--checkpoint=run", "--output=out", "--platforms=cpu"
    )
    assert (elsewhere / "out" / "run.py").exists()
    assert "steps kept    20" in python(elsewhere, "-m", "segtad_jax.checkpoint", "run")
