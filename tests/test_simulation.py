"""Simulated features: those of the annotations, and not solved frame by frame."""

import numpy as np

from prepare_cases import entry, good_inputs, prepare, written
from segtad_jax.data.dataset import open_dataset
from segtad_jax.evaluation.average_precision import detection_map
from segtad_jax.prepare.annotations import read_annotations
from segtad_jax.prepare.simulation import simulated


def test_simulated_features_are_those_of_the_annotations(tmp_path):
    inputs = good_inputs(tmp_path)
    del inputs["features"]
    assert prepare(inputs, "--simulate=64", "--num_frames=64") == 0
    dataset = open_dataset(inputs["output"] / "mine_half_pixel64" / "1.0.0")
    assert "Simulated features" in (dataset.directory / "dataset_info.json").read_text()
    inside, outside = [], []
    for recording in dataset.recordings("training"):
        frames = dataset.features(recording)
        assert frames.shape == (64, 64)
        mask = np.zeros(64, bool)
        for (start, end), label in zip(recording.segments, recording.labels, strict=True):
            if dataset.classes[label - 1] == "jump":
                mask[int(start * recording.rate) + 1 : int(end * recording.rate) - 1] = True
        inside.append(frames[mask].mean(axis=0))
        outside.append(frames[~mask].mean(axis=0))
    # The same direction in every video: two means of "jump" are nearer than of anything else.
    same = np.linalg.norm(inside[0] - inside[1])
    assert same < np.linalg.norm(inside[0] - outside[1])
    again = inputs | {"output": tmp_path / "again"}
    assert prepare(again, "--rate=2", "--simulate=64") == 0
    recording = open_dataset(tmp_path / "again" / "mine" / "1.0.0").recordings("validation")[0]
    assert recording.num_frames == round(recording.duration * 2)


def test_simulated_features_need_more_than_single_frames(tmp_path):
    """The nearest prototype of each frame stays under mAP@0.5 of 0.5; a mean over time does not."""
    videos = {}
    for index in range(20):
        annotations = [
            {"segment": [10 + 20 * n, 20 + 20 * n], "label": f"class{(index + 7 * n) % 20:02d}"}
            for n in range(4)
        ]
        videos[f"x{index}"] = entry(0, duration=100.0, annotations=annotations)
    annotations = read_annotations([written(tmp_path / "a.json", {"database": videos})])
    source = simulated(annotations, 400, durations={}, num_frames=200, rate=None)
    truth, found, right = {}, {}, []
    for video, entry_ in annotations.videos.items():
        frames = source.read(video).array
        truth[video] = [(a.start, a.end, a.label) for a in entry_.actions]

        def classify(x):
            return x @ source.prototypes.T - (source.prototypes**2).sum(axis=1) / 2

        for start, end, label in truth[video]:
            kind = classify(frames[int(2 * start) : int(2 * end)].mean(axis=0)).argmax()
            right.append(kind == annotations.classes.index(label) + 1)
        scores = np.exp(classify(frames))
        scores /= scores.sum(axis=1, keepdims=True)
        found[video] = []
        for kind, label in enumerate(annotations.classes, start=1):
            for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
                above = np.pad(scores[:, kind] > threshold, 1).astype(int)
                for first, stop in np.flatnonzero(np.diff(above)).reshape(-1, 2):
                    score = scores[first:stop, kind].mean() * (stop - first)
                    found[video].append((first / 2, stop / 2, label, score))
    assert detection_map(truth, found, (0.5,))["average"] < 0.5
    assert np.mean(right) > 0.95
