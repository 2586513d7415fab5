"""Windows of a recording, put back in their place: against one window at a time."""

import pathlib

import jax
import numpy as np
import pytest

from segtad_jax import evaluate, postprocess
from segtad_jax.data.embedded import open_or_build
from segtad_jax.detector import Detector
from segtad_jax.evaluation import scoring
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.runtime import parallel
from tests.tiny_runs import tiny

T, STEP = 64, 32


@pytest.mark.slow
# Several windows are pooled; a single one, padded here, is finished on the device.
@pytest.mark.parametrize("F", [150, 60])
def test_every_window_counts_where_it_is(tmp_path: pathlib.Path, F: int) -> None:
    config = tiny(str(tmp_path), data__synthetic_frames=F, data__synthetic_recordings=8)
    dataset = open_or_build(config.data)
    recordings = dataset.recordings("validation")[:3]
    model = SegTAD(config, len(dataset.classes))
    init = jax.jit(model.init)
    variables = init(jax.random.key(0), np.zeros((1, T, 16), np.float32), np.array([T]))
    detector = Detector(config, dataset.classes, segments=True)
    found, curves, notes = detector.detect(variables, dataset, recordings, segmented=2)
    assert list(curves) == [recording.video for recording in recordings[:2]]
    assert notes == {}

    segments = grid(config).segments
    apply = jax.jit(model.apply)
    for recording in recordings:
        features = dataset.features(recording)
        pool, offsets = postprocess.Pool(len(dataset.classes)), range(0, F - T + STEP, STEP)
        sums, counts = np.zeros((F, len(dataset.classes) + 1)), np.zeros((F, 1))
        for offset in offsets:
            cut = features[offset : offset + T]
            padded = np.zeros((1, T, 16), np.float32)
            padded[0, : len(cut)] = cut
            out = jax.device_get(apply(variables, padded, np.array([len(cut)])))
            frames = np.exp(out["frame_logits"][0])
            frames /= frames.sum(axis=1, keepdims=True)
            sums[offset : offset + T] += frames[: len(cut)]
            counts[offset : offset + T] += 1
            proposal = (1 / (1 + np.exp(-out["proposal_logits"][0]))).prod(axis=1)
            window = np.full((len(dataset.classes), len(segments)), -np.inf, np.float32)
            for row, (start, end) in enumerate(segments):
                cut_before = start == 0 and offset > 0
                cut_after = end == T and offset + T < F
                if end <= len(cut) and not cut_before and not cut_after:
                    window[:, row] = proposal[row] * frames[start:end, 1:].mean(axis=0)
            window = np.where(window > config.eval.min_score, window, -np.inf)
            pool.add(postprocess.Candidates(window, segments.astype(np.float32)), offset)
        expected = postprocess.in_seconds(
            jax.device_get(postprocess.select(pool.candidates(), config.eval)),
            dataset.classes,
            recording.rate,
            recording.duration,
        )
        ours = found[recording.video]
        assert len(ours) == len(expected) > 20
        assert max(d.end for d in ours) > 0.8 * F / recording.rate  # windows after the first
        np.testing.assert_allclose([d.score for d in ours], [d.score for d in expected], rtol=1e-3)
        close = {(d.label, round(d.start, 3), round(d.end, 3)) for d in expected}
        same = [(d.label, round(d.start, 3), round(d.end, 3)) in close for d in ours]
        assert np.mean(same) > 0.9  # near ties may be taken in another order
        if recording.video in curves:
            np.testing.assert_allclose(curves[recording.video], sums / counts, atol=1e-4)


def test_the_next_batch_is_on_its_way_before_the_results_of_one_are_fetched(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(str(tmp_path), data__synthetic_frames=60, data__synthetic_recordings=40)
    dataset = open_or_build(config.data)
    detector = Detector(config, dataset.classes, segments=True)
    events, step, fetch = [], detector.whole_step, parallel.local_part
    variables = create_variables(config, SegTAD(config, len(dataset.classes)), 16)
    monkeypatch.setattr(
        detector, "whole_step", lambda *given: events.append("step") or step(*given)
    )
    monkeypatch.setattr(
        parallel, "local_part", lambda outputs: events.append("fetch") or fetch(outputs)
    )
    recordings = dataset.recordings("training")
    detector.detect(variables, dataset, recordings)
    number = -(-len(recordings) // config.eval.batch_size)
    assert number > 2
    assert events == ["step", *["step", "fetch"] * (number - 1), "fetch"]


def test_ceiling_is_the_map_of_the_best_proposals(tmp_path: pathlib.Path) -> None:
    config = tiny(str(tmp_path), data__synthetic_frames=150, data__synthetic_recordings=8)
    dataset = open_or_build(config.data)
    recordings = dataset.recordings("validation")
    split = evaluate.evaluated_split(config, dataset, recordings)
    truth, segments = split.annotations, grid(config).segments
    found: dict[str, list[tuple[float, float, str, float]]] = {}
    for r in recordings:
        everything = []
        for offset in range(0, 150 - T + STEP, STEP):  # 0, 32, 64, 96
            start, end = segments[:, 0], segments[:, 1]
            inside = (end <= 150 - offset) & ((start > 0) | (offset == 0))
            inside &= (end < T) | (offset + T >= 150)
            everything.append((segments[inside] + offset) / r.rate)
        proposals = np.concatenate(everything)
        for action_start, action_end, label in truth[r.video]:
            shared = np.minimum(proposals[:, 1], action_end)
            shared = np.maximum(shared - np.maximum(proposals[:, 0], action_start), 0)
            lengths = proposals[:, 1] - proposals[:, 0] + action_end - action_start
            tiou = shared / (lengths - shared)
            start, end = proposals[np.argmax(tiou)]
            best = (float(start), float(end), label, float(tiou.max()))  # the best come first
            found.setdefault(r.video, []).append(best)
    expected = scoring.evaluate(truth, found, metrics=("map",))["map"]
    assert evaluate._ceiling(config, split) == pytest.approx(expected)
    assert 0.5 < expected["average"] < 1
