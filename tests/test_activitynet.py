"""ActivityNet's real annotations with simulated features, at full shape: the machinery, no more."""

import csv
import json

import numpy as np
import pytest

from segtad_jax import evaluate, train
from segtad_jax.prepare.__main__ import main as prepare
from segtad_jax.prepare.annotations import read_annotations
from tests.test_config import ROOT_CONFIGS, load


@pytest.mark.slow
def test_from_annotations_to_top_2_fusion_at_full_shape(shared_data, tmp_path) -> None:
    folder = shared_data / "activitynet13"
    files = [folder / "anet_anno_action.json", folder / "video_info_new.csv"]
    with files[1].open() as file:
        ids = [row["video"] for row in csv.DictReader(file)]
    (tmp_path / "blocked.txt").write_text("\n".join(set(ids) - set(ids[::800])))
    flags = {"name": "activitynet", "simulate": 400, "num_frames": 1000, "output": tmp_path}
    flags |= {"annotations": ",".join(map(str, files)), "blocked": tmp_path / "blocked.txt"}
    flags["resize"] = "linear"
    assert prepare([f"--{name}={value}" for name, value in flags.items()]) == 0

    annotations = read_annotations(files)
    random = np.random.default_rng(0)
    videos = {
        video.video: video for video in annotations.videos.values() if video.video in ids[::800]
    }
    scores = {name: random.dirichlet(np.ones(200)).tolist() for name in videos}
    content = {"results": scores, "class": list(annotations.classes)}
    (tmp_path / "scores.json").write_text(json.dumps(content))

    config = load(ROOT_CONFIGS / "activitynet.py")
    assert (config.data.num_frames, config.data.num_channels, config.data.num_classes) == (
        *(1000, 400),
        len(annotations.classes),
    )
    config.data.dir = str(tmp_path / "activitynet_linear1000")
    config.train.batch_size, config.eval.batch_size = 4, 4  # the tests have 4 devices
    config.train.steps, config.train.log_every = 2, 1
    config.train.eval_every, config.train.save_every = 0, 2
    config.eval.class_scores = str(tmp_path / "scores.json")
    config.eval.sigma, config.eval.max_detections = 0.85, 100
    found = {}
    for top in (1, 2):
        config.eval.top_classes = top
        if top == 1:
            metrics = train.train(config, tmp_path / "top1")
        else:
            metrics = evaluate.evaluate_checkpoint(
                config, tmp_path / "top2", str(tmp_path / "top1")
            )
        assert metrics["step"] == 2
        assert metrics["ceiling"]["0.50"] > 0.9
        path = tmp_path / f"top{top}" / "detections.json"
        found[top] = json.loads(path.read_text())["results"]
        assert metrics["counts"]["videos"] == len(found[top]) == 3
    for name, once in found[1].items():
        order = np.argsort(-np.array(scores[name]))
        best = [annotations.classes[number] for number in order[:2]]
        assert {d["label"] for d in once} == {best[0]}
        assert {d["label"] for d in found[2][name]} == set(best)
        assert len(once) == 100
        assert len(found[2][name]) == 200  # each proposal under both
        assert [d for d in found[2][name] if d["label"] == best[0]] == once
        assert max(d["segment"][1] for d in once) <= videos[name].duration
