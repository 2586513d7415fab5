"""Scores -> detections, against loops; and the result file."""

import json
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segtad_jax import postprocess
from segtad_jax.config.defaults import default
from segtad_jax.ops.proposals import proposal_grid
from segtad_jax.runtime.files import write_json

T, D = 16, 3
GRID = proposal_grid(T, 2)


def settings(**fields: object):
    evaluation = default().eval
    evaluation.update(fields)
    return evaluation


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture
def outputs() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "frame_logits": jnp.float32(random.normal(size=(T, D + 1))),
        "proposal_logits": jnp.float32(random.normal(size=(len(GRID), 2))),
        "start_logits": jnp.float32(random.normal(size=T)),
        "end_logits": jnp.float32(random.normal(size=T)),
    }


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize(
    ("mean", "of_frames"),
    [("arithmetic", lambda p: p.mean(0)), ("geometric", lambda p: p.prod(0) ** (1 / len(p)))],
)
def test_class_scores_are_means_over_the_proposals_frames(
    outputs, renormalise: bool, mean: str, of_frames: Callable[[np.ndarray], np.ndarray]
) -> None:
    p = softmax(np.asarray(outputs["frame_logits"], np.float64))[:, 1:]
    expected = np.stack([of_frames(p[i:j]) for i, j in GRID])
    if renormalise:
        expected /= expected.sum(1, keepdims=True)
    found = postprocess.frame_class_scores(outputs["frame_logits"], GRID, renormalise, mean)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    some = {"renormalise": renormalise, "class_mean": mean, "min_score": 0.0}
    whole = jnp.zeros(2, bool)
    scores = postprocess.candidates(outputs, GRID, jnp.int32(T), whole, settings(**some)).scores
    proposals = 1 / (1 + np.exp(-np.asarray(outputs["proposal_logits"], np.float64)))
    np.testing.assert_allclose(scores, (proposals.prod(1)[:, None] * expected).T, rtol=5e-5)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_renormalising_a_certain_background_is_no_nan(mean: str) -> None:
    logits = jnp.zeros((T, D + 1)).at[:, 0].set(1e4)
    found = postprocess.frame_class_scores(logits, GRID, True, mean)
    np.testing.assert_allclose(found, 0.0 if mean == "arithmetic" else 1 / D, rtol=1e-5)


@pytest.mark.parametrize("fusion", ["product", "sqrt"])
@pytest.mark.parametrize("power", [0.0, 0.5])
def test_candidates_against_a_loop(outputs, fusion: str, power: float) -> None:
    p = softmax(np.asarray(outputs["frame_logits"], np.float64))[:, 1:]
    s, starts, ends = (
        1 / (1 + np.exp(-np.asarray(outputs[name], np.float64)))
        for name in ("proposal_logits", "start_logits", "end_logits")
    )
    num_frames, cut = 14, (True, False)
    expected = np.full((D, len(GRID)), -np.inf)
    for row, (i, j) in enumerate(GRID):
        if j > num_frames or i == 0:  # padded, or touching the edge where the recording goes on
            continue
        score = s[row].prod() * p[i:j].mean(0) * (starts[i] * ends[j - 1]) ** power
        fused = score if fusion == "product" else np.sqrt(score)
        expected[:, row] = np.where(score > 0.05, fused, -np.inf)
    found = postprocess.candidates(
        outputs,
        GRID,
        jnp.int32(num_frames),
        jnp.array(cut),
        settings(fusion=fusion, min_score=0.05, boundary_power=power),
    )
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4)
    np.testing.assert_array_equal(found.segments, GRID)


def test_the_classifier_names_the_classes_where_there_is_one(outputs) -> None:
    of = (GRID, jnp.int32(T), jnp.array([False, False]), settings(min_score=0.0))
    other = {**outputs, "frame_logits": -outputs["frame_logits"]}
    found = postprocess.candidates({**other, "class_logits": outputs["frame_logits"]}, *of)
    np.testing.assert_array_equal(found.scores, postprocess.candidates(outputs, *of).scores)
    assert (found.scores != postprocess.candidates(other, *of).scores).any()


def test_a_proposal_that_touches_an_inner_edge_is_dropped(outputs) -> None:
    for cut, dropped in [((True, False), GRID[:, 0] == 0), ((False, True), GRID[:, 1] == T)]:
        found = postprocess.candidates(
            outputs, GRID, jnp.int32(T), jnp.array(cut), settings(min_score=0.0)
        )
        np.testing.assert_array_equal(np.isfinite(found.scores), np.tile(~dropped, (D, 1)))


def test_candidates_are_snapped_but_keep_the_scores_of_their_grid_proposal(outputs) -> None:
    at_start, at_end = jnp.full(T, -9.0).at[5].set(9.0), jnp.full(T, -9.0).at[8].set(9.0)
    outputs |= {"start_logits": at_start, "end_logits": at_end}
    of = (outputs, GRID, jnp.int32(T), jnp.array([False, False]))
    plain = postprocess.candidates(*of, settings(min_score=0.0))
    snapped = postprocess.candidates(*of, settings(min_score=0.0, snap=2))
    np.testing.assert_array_equal(snapped.scores, plain.scores)
    moved = plain.segments + jnp.array([1.0, 1.0])
    ours = (plain.segments == jnp.array([4.0, 8.0])).all(-1)
    assert ours.sum() == 1
    np.testing.assert_array_equal(snapped.segments[ours], moved[ours])
    file = settings(class_scores="scores.json", snap=2)  # labels come later: one class, all rows
    assert [5.0, 9.0] in postprocess.candidates(*of, file).segments.tolist()


def test_snapped_boundaries_lie_in_their_frames_and_in_the_window(outputs) -> None:
    outputs["end_logits"] = jnp.full(T, -9.0).at[12].set(9.0)
    of = (outputs, GRID, jnp.int32(13), jnp.array([False, False]))
    edges = postprocess.candidates(*of, settings(snap=2)).segments
    middles = postprocess.candidates(*of, settings(snap=2, snap_offset=0.5))
    assert edges.max() == 13  # the end of the last frame
    expected = np.minimum(np.array(edges) + 0.5, 13)
    begins = np.asarray(edges)[:, 0] == 0
    assert 0 < begins.sum() < len(edges)
    expected[begins, 0] = 0  # they begin with the recording
    np.testing.assert_array_equal(middles.segments, expected)
    goes_on = (outputs, GRID, jnp.int32(13), jnp.array([True, False]))  # before this window
    moved = postprocess.candidates(*goes_on, settings(snap=2, snap_offset=0.5)).segments
    np.testing.assert_array_equal(moved, np.minimum(edges + 0.5, 13))
    scores = postprocess.candidates(*of, settings(snap=2, boundary_power=0.5)).scores
    of_middles = settings(snap=2, boundary_power=0.5, snap_offset=0.5)
    np.testing.assert_array_equal(postprocess.candidates(*of, of_middles).scores, scores)


def test_snapped_boundaries_are_averaged_over_their_scores(outputs) -> None:
    logits = jnp.full(T, -40.0).at[jnp.array([5, 6])].set(jnp.array([2.0, 0.0]))
    outputs |= {"start_logits": logits, "end_logits": jnp.full(T, -40.0).at[11].set(9.0)}
    of = (outputs, GRID, jnp.int32(T), jnp.array([False, False]))
    plain = postprocess.candidates(*of, settings(snap=2, snap_offset=0.5))
    spread = postprocess.candidates(*of, settings(snap=2, snap_mean=True, snap_offset=0.5))
    np.testing.assert_array_equal(spread.scores, plain.scores)
    ours = (plain.segments == jnp.array([5.5, 12.5])).all(-1)
    assert ours.any()
    share = 1 / (1 + np.e)  # odds of e^2 against 1, their roots
    expected = np.tile([5.5 + share, 12.5], (int(ours.sum()), 1))
    np.testing.assert_allclose(spread.segments[ours], expected, atol=1e-4)
    grid = postprocess.candidates(*of, settings(snap_mean=True))  # not without snapping
    np.testing.assert_array_equal(grid.segments, GRID)


def slow_soft_nms(segments: np.ndarray, scores: np.ndarray, sigma: float) -> list:
    segments, scores, out = segments.copy(), scores.copy(), []
    while len(scores):
        best = int(np.argmax(scores))
        (start, end), score = segments[best], scores[best]
        out.append((start, end, score))
        inter = np.minimum(end, segments[:, 1]) - np.maximum(start, segments[:, 0])
        inter = np.maximum(inter, 0)
        union = (end - start) + (segments[:, 1] - segments[:, 0]) - inter
        scores = np.delete(scores * np.exp(-((inter / union) ** 2) / sigma), best)
        segments = np.delete(segments, best, axis=0)
    return out


def random_windows(number: int) -> tuple[list[postprocess.Candidates], list[int]]:
    random = np.random.default_rng(number)
    windows = []
    for _ in range(number):
        scores = random.random((D, 8)).astype(np.float32)
        scores[:, random.integers(0, 8, 2)] = -np.inf
        start = random.integers(0, 12, 8)
        segments = np.stack([start, start + random.integers(2, 9, 8)], -1).astype(np.float32)
        windows.append(postprocess.Candidates(scores, segments))
    return windows, [10 * i for i in range(number)]


def pool_of(windows, offsets):
    pool = postprocess.Pool(D)
    for window, offset in zip(windows, offsets, strict=True):
        pool.add(window, offset)
    return pool


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_windows_are_pooled_and_suppressed_once_per_class(number: int) -> None:
    windows, offsets = random_windows(number)
    pooled = pool_of(windows, offsets).candidates()
    assert pooled.scores.shape == (D, 128)  # of few lengths, whatever the number of windows
    selected = jax.device_get(postprocess.select(pooled, settings(max_detections=12)))
    found = postprocess.in_seconds(selected, ["a", "b", "c"], rate=5.0, duration=9.0)
    expected = []
    for d in range(D):
        scores = np.concatenate([w.scores[d] for w in windows]).astype(float)
        segments = [w.segments + offset for w, offset in zip(windows, offsets, strict=True)]
        present = np.isfinite(scores)
        expected += [
            (min(a / 5, 9.0), min(b / 5, 9.0), "abc"[d], s)
            for a, b, s in slow_soft_nms(np.concatenate(segments)[present], scores[present], 0.4)
        ]
    expected = sorted(expected, key=lambda x: -x[3])[:12]
    expected = [e for e in expected if e[1] > e[0]]  # nothing of it lies in the recording
    assert [d.label for d in found] == [e[2] for e in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            (ours.start, ours.end, ours.score), (theirs[0], theirs[1], theirs[3]), rtol=1e-4
        )


def test_pooling_keeps_what_exists_in_its_order() -> None:
    """To the bit what soft-NMS selects among all candidates, also those that do not exist."""
    windows, offsets = random_windows(40)
    windows[7].scores[:] = windows[8].scores  # ties
    chosen = settings(max_detections=200)
    scores = np.concatenate([w.scores for w in windows], axis=1)
    moved = [w.segments + np.float32(o) for w, o in zip(windows, offsets, strict=True)]
    everything = postprocess.Candidates(scores, np.concatenate(moved))
    expected = jax.jit(lambda x: postprocess.select(x, chosen))(everything)
    found = jax.jit(lambda x: postprocess.select(x, chosen))(pool_of(windows, offsets).candidates())
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_pool_stays_small_and_is_exact_down_to_what_it_leaves_out(monkeypatch) -> None:
    windows, offsets = random_windows(400)
    chosen = settings(max_detections=750)
    expected = postprocess.select(pool_of(windows, offsets).candidates(), chosen)
    monkeypatch.setattr(postprocess, "POOLED", D * 256)
    pool = postprocess.Pool(D)
    for window, offset in zip(windows, offsets, strict=True):
        pool.add(window, offset)
        assert sum(len(part.scores) for part in pool._parts) <= 2 * D * 256
    kept = pool.candidates()
    assert kept.scores.shape == (D, 256)
    assert 0 < pool.left_out < 1
    found = postprocess.select(kept, chosen)
    same = int(np.sum(np.asarray(expected.scores) > pool.left_out))
    assert 100 < same < 750
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:same], b[:same]), found, expected)
    note = postprocess.told_left_out(pool.left_out, found)
    assert f"exact down to a score of {pool.left_out:.3g} " in note
    assert "cut it into shorter recordings" in note
    exact = postprocess.select(kept, settings(max_detections=same))
    assert postprocess.told_left_out(pool.left_out, exact) == ""


@pytest.mark.parametrize(("fusion", "top"), [("product", 1), ("product", 2), ("sqrt", 2)])
def test_labels_of_a_video_come_from_a_file(outputs, fusion: str, top: int) -> None:
    chosen = settings(class_scores="file.json", fusion=fusion, top_classes=top)
    found = postprocess.candidates(outputs, GRID, jnp.int32(T), jnp.zeros(2, bool), chosen)
    s = 1 / (1 + np.exp(-np.asarray(outputs["proposal_logits"], np.float64)))
    np.testing.assert_allclose(found.scores, s.prod(1)[None], rtol=1e-5)

    proposals = [postprocess.Detection(0.0, 4.0, "", 0.5), postprocess.Detection(2.0, 3.0, "", 0.4)]
    scores = {"run": 0.2, "jump": 0.7, "throw": 0.1}
    labelled = postprocess.with_video_classes(proposals, scores, chosen)
    expected = [(0.0, "jump", 0.35), (2.0, "jump", 0.28), (0.0, "run", 0.1), (2.0, "run", 0.08)]
    expected = [e for e in expected if top == 2 or e[1] == "jump"]
    power = 0.5 if fusion == "sqrt" else 1.0
    assert [(d.start, d.label) for d in labelled] == [e[:2] for e in expected]
    np.testing.assert_allclose([d.score for d in labelled], [e[2] ** power for e in expected])


def test_nothing_above_the_threshold_is_no_detection() -> None:
    candidates = postprocess.Candidates(jnp.full((D, 4), -jnp.inf), jnp.zeros((4, 2)))
    selected = jax.device_get(postprocess.select(candidates, settings()))
    none = postprocess.in_seconds(selected, ["a", "b", "c"], rate=5.0, duration=9.0)
    assert none == []


def test_the_result_file_has_the_official_form(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "detections.json"
    postprocess.write_detections(
        path, {"v1": [postprocess.Detection(0.5, 2.0, "Überkopf <b>", 0.25)], "v2": []}
    )
    assert json.loads(path.read_text()) == {
        "version": "VERSION 1.3",
        "results": {
            "v1": [{"score": 0.25, "segment": [0.5, 2.0], "label": "Überkopf <b>"}],
            "v2": [],
        },
        "external_data": {},
    }
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert [p.name for p in tmp_path.iterdir()] == ["detections.json"]
    assert "v1" in json.loads(path.read_text())["results"]  # the file of before is whole


def test_jit_equals_no_jit(outputs) -> None:
    def run(logits: jax.Array) -> jax.Array:
        return postprocess.frame_class_scores(logits, GRID, True)

    np.testing.assert_allclose(
        jax.jit(run)(outputs["frame_logits"]), run(outputs["frame_logits"]), rtol=1e-5
    )
