"""The grid's ceiling against every proposal there is, and against known figures of real data."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtad_jax.evaluation.average_precision import detection_map
from segtad_jax.evaluation.ceiling import Clip, grid_ceiling
from segtad_jax.evaluation.instances import temporal_iou

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)


def all_proposals(clip, window, stride, pyramid=0):
    """Every proposal that is a detection, in seconds: (start, end)."""
    found = set()
    for offset in clip.offsets:
        for start in range(0, window, stride):
            for end in range(start + stride, window + 1, stride):
                cell = stride
                while pyramid and end - start > 2 * pyramid * cell:
                    cell *= 2
                if start % cell or end % cell:
                    continue
                inside = end <= clip.num_frames - offset
                first, last = offset > 0, offset + window < clip.num_frames
                if inside and not (first and start == 0) and not (last and end == window):
                    found.add((offset + start, offset + end))
    return np.clip(np.array(sorted(found)).reshape(-1, 2) / clip.rate, 0, clip.duration)


clips = st.builds(
    lambda frames, offsets, rate, actions: Clip(
        frames,
        rate,
        frames / rate,
        sorted({0, *(o for o in offsets if o < frames)}),
        [(s * frames / rate, min(s + n, 1.0) * frames / rate, label) for s, n, label in actions],
    ),
    st.integers(1, 40),
    st.lists(st.integers(0, 30), max_size=3),
    st.sampled_from([1.0, 2.5, 7.0]),
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 0.7), st.sampled_from("ab")), min_size=1, max_size=5
    ),
)


@given(clips, st.sampled_from([8, 12, 16]), st.integers(1, 5), st.sampled_from([0, 0, 1, 2]))
def test_recall_against_every_proposal(clip, window, stride, pyramid):
    found = grid_ceiling({"x": clip}, window, stride, THRESHOLDS, pyramid)
    proposals = all_proposals(clip, window, stride, pyramid)
    for threshold in THRESHOLDS:
        best = [
            temporal_iou(np.array(start), np.array(end), *proposals.T).max(initial=0)
            for start, end, _ in clip.actions
        ]
        # Not at the threshold itself, where a rounding error decides.
        low = np.mean([value >= threshold + 1e-9 for value in best])
        high = np.mean([value >= threshold - 1e-9 for value in best])
        assert low - 1e-12 <= found["recall"][f"{threshold:.2f}"] <= high + 1e-12
    assert found["map"]["average"] <= 1
    assert found["actions"] == len(clip.actions)


def test_map_is_what_the_evaluator_gives_to_the_best_proposals():
    clip = Clip(32, 1.0, 32.0, [0], [(0.0, 9.0, "a"), (16.0, 20.0, "a"), (3.0, 30.5, "b")])
    found = grid_ceiling({"x": clip}, 32, 8, THRESHOLDS)
    best = [(0, 8, "a", 0.9), (16, 24, "a", 0.5), (0, 32, "b", 0.9)]
    expected = detection_map({"x": clip.actions}, {"x": best}, THRESHOLDS)
    assert found["map"] == pytest.approx(expected["per_tiou"] | {"average": expected["average"]})


def test_two_actions_of_a_class_cannot_share_a_proposal():
    same = Clip(16, 1.0, 16.0, [0], [(0.0, 4.0, "a"), (4.0, 8.0, "a")])
    found = grid_ceiling({"x": same}, 16, 8, (0.5,))
    assert found["recall"]["0.50"] == 1.0
    assert found["map"]["0.50"] == 0.5
    other = same._replace(actions=[(0.0, 4.0, "a"), (4.0, 8.0, "b")])
    assert grid_ceiling({"x": other}, 16, 8, (0.5,))["map"]["0.50"] == 1.0


def test_without_actions_or_room_there_is_nothing():
    nothing = grid_ceiling({"x": Clip(16, 1.0, 16.0, [0], [])}, 16, 8, (0.5,))
    assert nothing == {
        "recall": {"0.50": 0.0, "average": 0.0},
        "map": {"0.50": 0.0, "average": 0.0},
        "actions": 0,
    }
    short = Clip(7, 1.0, 7.0, [0], [(0.0, 7.0, "a")])
    assert grid_ceiling({"x": short}, 16, 8, (0.5,))["recall"]["0.50"] == 0.0


@pytest.mark.parametrize(
    ("stride", "expected"), [(8, (0.935, 0.793)), (4, (0.995, 0.912)), (2, (1.0, 0.972))]
)
def test_hapt(shared_data, stride, expected):
    """Figures of an independent program: mAP at tIoU 0.7 and average of perfect scores."""
    database = json.loads((shared_data / "hapt" / "hapt_gt.json").read_text())["database"]
    clips = {}
    for video, entry in database.items():
        if entry["subset"] == "validation":
            frames = int(entry["duration"] * 5)
            offsets = list(range(0, max(frames - 320, 0) + 160, 160))
            actions = [(*a["segment"], a["label"]) for a in entry["annotations"]]
            clips[video] = Clip(frames, 5.0, entry["duration"], offsets, actions)
    found = grid_ceiling(clips, 320, stride, np.arange(50, 100, 5) / 100)["map"]
    assert (found["0.70"], found["average"]) == pytest.approx(expected, abs=0.003)
