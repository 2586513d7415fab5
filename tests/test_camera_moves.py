"""A camera over photographs: its annotations are exact, and a model learns from its videos."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import camera_moves
from benchmarks.camera_moves import MOVES, choreography
from segtad_jax import train
from segtad_jax.prepare.__main__ import main as prepare
from segtad_jax.video.decode import open_video
from tests.test_predict import config
from tests.video_cases import MOTION


@pytest.mark.parametrize("seed", range(5))
def test_moves_are_where_they_are_annotated(seed):
    views, actions = choreography(np.random.default_rng(seed), 60.0)
    rate = camera_moves.RATE
    assert len(views) == 60 * rate
    assert len(actions) > 4
    resting = np.ones(len(views), bool)
    for start, end, move in actions:
        assert start >= 0
        assert 2 <= round(end - start, 6) <= 5
        assert end <= 60
        first, last = round(start * rate), round(end * rate)
        assert resting[first:last].all()  # nor do two overlap
        resting[first:last] = False
        moved = np.abs(views[last - 1] - views[first])
        if move == "shake":
            assert np.ptp(views[first:last, :2]) > 0.005
            assert (moved[2:] == 0).all()
        else:  # one thing changes, which the hand's sway does not hide
            assert moved.argmax() == MOVES.index(move)
            assert np.sort(moved)[-2] < 0.005 < moved.max() / 10
    steps = np.abs(np.diff(views, axis=0)).max(axis=1)
    within = resting[1:] & resting[:-1]
    assert (steps[within] > 0.005).sum() < 10  # the cuts
    assert (steps[within] < 0.001).mean() > 0.98


def write_moves(folder, monkeypatch, photographs, **how):
    """Small ones: ten pictures a second."""
    monkeypatch.setattr(camera_moves, "RATE", 10)
    monkeypatch.setattr(camera_moves, "SIZE", (96, 72))
    (folder / "photographs").mkdir()
    for name, pixels in photographs.items():
        Image.fromarray(pixels).save(folder / "photographs" / f"{name}.png")
    flags = {"output": folder / "moves", "photographs": folder / "photographs", **how}
    camera_moves.main([f"--{name}={value}" for name, value in flags.items()])
    return folder / "moves"


def test_what_is_written(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    pictures = {name: random.integers(0, 255, (300, 320, 3), np.uint8) for name in "abc"}
    folder = write_moves(tmp_path, monkeypatch, pictures, seconds=12, each=2)
    database = json.loads((folder / "annotations.json").read_text())["database"]
    assert set(database) == {f"{name}_{take}" for name in "abc" for take in range(2)}
    assert {k for k, v in database.items() if v["subset"] == "validation"} == {"c_0", "c_1"}
    clip = open_video(folder / "a_0.mp4", fps=10.0, size=32)
    assert sum(1 for _ in clip.frames()) == 120


def test_too_few_photographs_are_refused(tmp_path, monkeypatch):
    pictures = {"a": np.zeros((300, 300, 3), np.uint8), "small": np.zeros((99, 300, 3), np.uint8)}
    with pytest.raises(SystemExit, match=r"--photographs"):
        write_moves(tmp_path, monkeypatch, pictures)


@pytest.mark.slow
def test_a_model_learns_from_videos(tmp_path, monkeypatch):
    """From mp4 files to a score, by how each picture differs from the one before."""
    load = pytest.importorskip("sklearn.datasets").load_sample_image
    china, flower = load("china.jpg"), load("flower.jpg")
    pictures = {"a": china[:, :320], "b": china[:, 320:], "c": flower}
    folder = write_moves(tmp_path, monkeypatch, pictures, seconds=120, each=3)
    flags = {
        "name": "moves", "videos": folder, "annotations": folder / "annotations.json",
        "backbone": MOTION, "output": tmp_path / "data", "window": 128, "dtype": "float32",
    }  # fmt: skip
    assert prepare([f"--{name}={value}" for name, value in flags.items()]) == 0
    settings = config(tmp_path / "data" / "moves" / "1.0.0")
    settings.data.num_frames = 128
    settings.train.steps = 200
    settings.train.save_every = 100
    train.train(settings, tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert scores["map"]["0.50"] > 0.4  # .61 of 200 steps; guessing the classes alone gives a fifth
