"""The package as others install it: built, put elsewhere, it prepares, trains and detects there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder with the installed wheel in `site`, and one config file as a user would have it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", str(ROOT), "--no-deps", "-w", str(folder)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("no network to fetch hatchling from, which builds the wheel")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    install = [*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    shutil.copy(ROOT / "configs" / "custom.py", folder / "mine.py")
    return folder


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
    environment = os.environ | {"PYTHONPATH": str(elsewhere / "site")}

    def python(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
        ).stdout

    place = python("-c", "import segtad_jax; print(segtad_jax.__file__)")
    assert place.startswith(str(elsewhere / "site"))
    given = ["--name=mine", "--features=features", "--annotations=truth.json", "--output=data"]
    printed = python("-m", "segtad_jax.prepare", *given)
    assert "data/mine/1.0.0" in printed
    assert (elsewhere / "data" / "mine" / "1.0.0" / "report.html").exists()
    python(
        *("-m", "segtad_jax.main", "--config=mine.py", "--workdir=run"),
        *("--config.data.dir=data", "--config.model.width=16"),
        *("--config.train.steps=20", "--config.train.eval_every=0", "--config.train.save_every=20"),
    )
    metrics = json.loads((elsewhere / "run" / "metrics.json").read_text())
    assert metrics["counts"]["videos"] == 2
    flags = ["--checkpoint=run", "--features=features", "--durations=truth.json"]
    python("-m", "segtad_jax.predict", *flags, "--output=found.json")
    found = json.loads((elsewhere / "found.json").read_text())
    assert sorted(found["results"]) == [f"v_x{index}" for index in range(8)]
    python("-m", "segtad_jax.export", "--checkpoint=run", "--output=out", "--platforms=cpu")
    assert (elsewhere / "out" / "run.py").exists()
    assert "steps kept    20" in python("-m", "segtad_jax.checkpoint", "run")
