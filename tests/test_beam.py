"""The Beam pipeline writes what the plain command writes.

Beam wants older libraries, so it has an environment of its own: SEGTAD_BEAM_PYTHON names the Python
of one with `segtad-jax[beam]` or its dependencies.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from segtad_jax.data.dataset import open_dataset
from segtad_jax.prepare.__main__ import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def beam_python():
    python = os.environ.get("SEGTAD_BEAM_PYTHON")
    if not python:
        pytest.skip("SEGTAD_BEAM_PYTHON names no Python with Apache Beam")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_direct_runner(beam_python, tmp_path, workers):
    database = {}
    (tmp_path / "features").mkdir()
    for index in range(12):
        random = np.random.default_rng(index)
        features = random.normal(size=(30 + index, 5)).astype(np.float32)
        if index == 4:
            features[3, 2] = np.nan
        np.save(tmp_path / "features" / f"x{index}.npy", features)
        database[f"x{index}"] = {
            "subset": "validation" if index % 3 == 0 else "training",
            "duration": (30 + index) / 2,
            "annotations": [{"segment": [1 + index / 7, 9], "label": "ab"[index % 2]}],
        }
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    flags = ["--name=mine", f"--features={tmp_path / 'features'}"]
    flags += [f"--annotations={tmp_path / 'truth.json'}"]
    assert main([*flags, f"--output={tmp_path / 'plain'}"]) == 0
    options = f"--runner=DirectRunner --direct_num_workers={workers}"
    command = [beam_python, "-m", "segtad_jax.prepare", *flags, f"--output={tmp_path / 'beam'}"]
    command.append(f"--beam={options} --direct_running_mode=multi_threading")
    subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    plain, beam = (tmp_path / name / "mine" / "1.0.0" for name in ("plain", "beam"))
    a, b = open_dataset(plain), open_dataset(beam)
    assert (a.name, a.classes, a.num_channels) == (b.name, b.classes, b.num_channels)
    assert a.splits.keys() == b.splits.keys()
    for split, recordings in a.splits.items():
        assert len(recordings) == len(b.splits[split]) > 0
        for one, other in zip(recordings, b.splits[split], strict=True):
            for field in ("video", "num_frames", "rate", "duration"):
                assert getattr(one, field) == getattr(other, field)
            np.testing.assert_array_equal(one.segments, other.segments)
            np.testing.assert_array_equal(one.labels, other.labels)
            np.testing.assert_array_equal(a.features(one), b.features(other))
    reports = [json.loads((d / "report.json").read_text()) for d in (plain, beam)]
    assert reports[0] == reports[1]
    assert reports[0]["defects"]["not_finite"]["items"][0]["video"] == "x4"
    assert not [path for path in beam.iterdir() if path.name.startswith(".")]
