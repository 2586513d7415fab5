"""Synthetic recordings: always the same, and hard for whoever looks at single frames."""

import dataclasses

import numpy as np
import pytest

from segtad_jax.config.defaults import default
from segtad_jax.data import synthetic
from segtad_jax.evaluation.average_precision import detection_map

DATA = default().data
NAMES = synthetic.class_names(DATA.synthetic_classes)
WORLD = synthetic.World(
    num_frames=DATA.synthetic_frames,
    num_channels=DATA.synthetic_channels,
    num_classes=DATA.synthetic_classes,
    noise=DATA.synthetic_noise,
    seed=DATA.synthetic_seed,
)


def frame_classes(record):
    classes = np.zeros(len(record.features), int)
    for (start, end), label in zip(record.segments * record.rate, record.labels, strict=True):
        classes[round(start) : round(end)] = NAMES.index(label) + 1
    return classes


def runs(mask):
    return np.flatnonzero(np.diff(np.r_[0, mask.astype(int), 0])).reshape(-1, 2).tolist()


def detect(probability, rate):
    """Runs of the likeliest class, and runs above thresholds; overlapping weaker ones go."""
    found = []
    for label in range(1, probability.shape[1]):
        masks = [probability.argmax(axis=1) == label]
        masks += [probability[:, label] > threshold for threshold in np.arange(0.1, 0.96, 0.05)]
        candidates = {tuple(run) for mask in masks for run in runs(mask)}
        kept = []
        scored = [(probability[s:e, label].mean(), s, e) for s, e in sorted(candidates)]
        for score, s, e in sorted(scored, reverse=True):
            if all(min(e, f) - max(s, t) <= 0.4 * (max(e, f) - min(s, t)) for t, f in kept):
                kept.append((s, e))
                found.append((s / rate, e / rate, NAMES[label - 1], float(score)))
    return found


def prototype_map(world, num_recordings, smoothing=1):
    """mAP@0.5 of the nearest prototype by frame; `smoothing` averages over so many frames."""
    training = list(synthetic.records("training", num_recordings, world))
    validation = list(synthetic.records("validation", max(num_recordings // 4, 4), world))
    frames = np.concatenate([record.features for record in training])
    classes = np.concatenate([frame_classes(record) for record in training])
    means = np.stack([frames[classes == c].mean(axis=0) for c in range(len(NAMES) + 1)])
    variance = (frames - means[classes]).var()
    predictions = {}
    for record in validation:
        distance = ((record.features[:, None] - means) ** 2).sum(axis=-1)
        window = np.ones(smoothing) / smoothing**0.5  # keeps the noise's deviation
        logits = np.apply_along_axis(np.convolve, 0, -distance / (2 * variance), window, "same")
        probability = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability /= probability.sum(axis=1, keepdims=True)
        predictions[record.video] = detect(probability, record.rate)
    truth = {
        record.video: [(*s, label) for s, label in zip(record.segments, record.labels, strict=True)]
        for record in validation
    }
    return detection_map(truth, predictions, [0.5])["per_tiou"]["0.50"]


@pytest.mark.parametrize("seed", range(3))
def test_single_frames_do_not_solve_it_and_context_does(seed):
    world = dataclasses.replace(WORLD, seed=seed)
    assert prototype_map(world, DATA.synthetic_recordings) < 0.25
    assert prototype_map(world, DATA.synthetic_recordings, smoothing=9) > 0.7


def test_without_noise_the_nearest_prototype_is_perfect():
    """So the baseline is a fair one: what it lacks is context alone."""
    assert prototype_map(dataclasses.replace(WORLD, noise=0.01), 16) == pytest.approx(1.0)


def test_the_same_arguments_give_the_same_recordings():
    first, again = (list(synthetic.records("training", 5, WORLD)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert a.video == b.video
        assert a.labels == b.labels
        np.testing.assert_array_equal(a.features, b.features)
        np.testing.assert_array_equal(a.segments, b.segments)


def test_recordings_splits_and_seeds_differ():
    first, second = synthetic.records("training", 2, WORLD)
    (other_split,) = synthetic.records("validation", 1, WORLD)
    (other_seed,) = synthetic.records("training", 1, dataclasses.replace(WORLD, seed=1))
    for other in (second, other_split, other_seed):
        assert not np.array_equal(first.features, other.features)


def test_recordings_are_what_the_world_says():
    world = dataclasses.replace(WORLD, num_frames=300, num_channels=5, num_classes=2, noise=0.5)
    prototypes = synthetic.class_prototypes(2, 5, world.seed)
    assert prototypes.shape == (3, 5)
    for record in synthetic.records("training", 20, world):
        assert record.features.shape == (300, 5)
        assert record.duration == 300 / record.rate
        frames = record.segments * record.rate
        np.testing.assert_allclose(frames, frames.round(), atol=1e-9)
        lengths, gaps = frames[:, 1] - frames[:, 0], frames[1:, 0] - frames[:-1, 1]
        assert len(frames) >= 5
        assert lengths.min() > 7.5
        assert lengths.max() < 40.5
        assert gaps.min() > 3.5
        residual = record.features - prototypes[frame_classes(record)]
        assert residual.std() == pytest.approx(0.5, rel=0.1)
        assert set(record.labels) <= set(synthetic.class_names(2))
