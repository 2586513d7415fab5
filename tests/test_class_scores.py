"""Every form of class scores, and what is said of a wrong one."""

import json

import numpy as np
import pytest
from etils import epath

from segtad_jax.data.class_scores import read_class_scores
from segtad_jax.evaluation.json_files import InputError

CLASSES = ["dive", "run", "swim"]


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "scores.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.mark.parametrize("key", ["class", "classes"])
def test_names_decide_not_positions(write, key) -> None:
    path = write({"results": {"x": [0.7, 0.2, 0.1, 0.0]}, key: ["swim", "other", "dive", "run"]})
    assert read_class_scores(path, ["x"], CLASSES) == {"x": {"swim": 0.7, "dive": 0.1, "run": 0.0}}


def test_the_prefix_of_ids_is_looked_through(write) -> None:
    path = write({"results": {"x": [1, 0, 0], "v_y": [0, 1, 0]}, "class": CLASSES})
    scores = read_class_scores(path, ["v_x", "y"], CLASSES)
    assert scores["v_x"]["dive"] == 1
    assert scores["y"]["run"] == 1


def test_nested_lists_are_logits(write) -> None:
    path = write({"results": {"x": [[0.0, 1000.0, 1000.0]]}, "class": CLASSES})
    scores = read_class_scores(path, ["x"], CLASSES)["x"]
    assert scores == {"dive": 0.0, "run": 0.5, "swim": 0.5}


def test_without_names_there_must_be_a_score_for_each_class(write) -> None:
    path = write({"results": {"x": [0.1, 0.2, 0.7]}})
    assert read_class_scores(path, ["x"], CLASSES)["x"] == {"dive": 0.1, "run": 0.2, "swim": 0.7}
    path = write({"results": {"x": [0.1, 0.2]}})
    with pytest.raises(InputError, match=r"video 'x': 2 scores and no names .* 3 classes"):
        read_class_scores(path, ["x"], CLASSES)


def test_classification_results(write) -> None:
    rows = [{"score": 1.0, "label": "run"}, {"score": 0.5, "label": "other"}]
    path = write({"results": {"x": rows}})
    assert read_class_scores(path, ["x"], CLASSES) == {"x": {"run": 1.0}}


def test_untrimmednet(tmp_path) -> None:
    array = np.zeros((1574, 101), np.float32)
    array[3, 22] = 0.75  # video 4, class 23 of UCF101
    np.save(tmp_path / "uNet_test.npy", array)
    videos = ["video_test_0000004", "video_test_0001574"]
    scores = read_class_scores(tmp_path / "uNet_test.npy", videos, ["CricketBowling", "Diving"])
    assert scores == {
        "video_test_0000004": {"CricketBowling": 0.75, "Diving": 0.0},
        "video_test_0001574": {"CricketBowling": 0.0, "Diving": 0.0},
    }


def test_the_columns_are_those_of_the_thumos_annotations(shared_data, tmp_path) -> None:
    """type_idx of the csv is the class's number in UCF101."""
    lines = (shared_data / "thumos14" / "test_Annotation.csv").read_text().splitlines()[1:]
    numbers = {row.split(",")[1]: int(row.split(",")[2]) for row in lines}
    del numbers["Ambiguous"]
    np.save(tmp_path / "x.npy", np.arange(1, 102, dtype=float)[None])
    scores = read_class_scores(tmp_path / "x.npy", ["video_test_0000001"], sorted(numbers))
    assert scores["video_test_0000001"] == numbers


def test_a_path_that_opens_itself(write) -> None:
    path = epath.Path(write({"results": {"x": [1, 0, 0]}, "class": CLASSES}))
    assert read_class_scores(path, ["x"], CLASSES)["x"]["dive"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"results": {"a": [1, 0, 0]}, "class": CLASSES}, r"no class scores of 2 videos: x, y"),
        ({"class": CLASSES}, r"has no 'results'"),
        ({"results": []}, r"'results' must be an object"),
        ({"results": {"x": [1, 0]}, "class": CLASSES}, r"video 'x': 2 scores for 3 names"),
        ({"results": {"x": [1, 0]}, "class": ["dive", "run"]}, r"has no class 'swim'"),
        ({"results": {"x": [1, -1, 0]}, "class": CLASSES}, r"'x', class 'run': score -1 must be"),
        ({"results": {"x": [1, "0", 0]}, "class": CLASSES}, r"'x', class 'run': score '0' must"),
        ({"results": {"x": [{"label": "hop", "score": 1}]}}, r"'x': has no score of any class"),
        ({"results": {"x": []}, "class": CLASSES}, r"video 'x': must be a list of scores"),
    ],
)
def test_wrong_files(write, content, message) -> None:
    with pytest.raises(InputError, match=message):
        read_class_scores(write(content), ["x", "y"], CLASSES)


@pytest.mark.parametrize(
    ("array", "video", "label", "message"),
    [
        (np.zeros((2, 20)), "video_test_0000001", "Diving", r"shape \(2, 20\) must be"),
        (np.zeros((2, 101)), "video_test_0000003", "Diving", r"scores of video_test_0000003: 2"),
        (np.zeros((2, 101)), "video_test_0000001", "run", r"THUMOS14, which has no class 'run'"),
        (np.array([[None]]), "video_test_0000001", "Diving", r"not an npy file of numbers"),
    ],
)
def test_wrong_arrays(tmp_path, array, video, label, message) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        read_class_scores(tmp_path / "x.npy", [video], [label])
