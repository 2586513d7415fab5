"""What is wrong with features and annotations is named, by --strict and --check too."""

import re

import numpy as np
import pytest

from prepare_cases import (
    arrays,
    database,
    entry,
    features,
    good_inputs,
    prepare,
    report_of,
    written,
)
from segtad_jax.data.dataset import open_dataset
from test_features import write


@pytest.fixture
def inputs(tmp_path):
    return good_inputs(tmp_path)


class TestDefects:
    """Bad items are left out, counted and named; --strict and --check say so by their status."""

    @pytest.fixture
    def flawed(self, tmp_path, inputs):
        folder = inputs["features"]
        bad = features(90)
        bad[3, 1] = np.nan
        np.save(folder / "nan.npy", bad)
        np.save(folder / "wide.npy", features(91, channels=5))
        np.save(folder / "objects.npy", np.array([[1.0], None], object))
        np.save(folder / "empty.npy", np.zeros((0, 4)))
        np.save(folder / "large.npy", features(92) + 1e5)
        np.save(folder / "still.npy", np.ones((20, 4)))
        np.save(folder / "long.npy", features(93, frames=80))
        np.save(folder / "unasked.npy", features(94))
        np.save(folder / "blocked.npy", features(95))
        (folder / "cut.npy").write_bytes((folder / "v_x0.npy").read_bytes()[:-9])
        names = ["nan", "wide", "objects", "empty", "large", "still", "long", "cut", "gone"]
        plain = {name: entry(0, duration=10.0) for name in [*names, "blocked"]}
        wrong = entry(0)
        wrong["annotations"] += [
            {"segment": [5, 3], "label": "run"},
            {"segment": [5, 99], "label": "run"},
            {"segment": [50, 99], "label": "run"},
            {"segment": [4, 4], "label": "run"},
        ]
        content = database(**plain, x0=wrong, odd=entry(0, subset="holdout"))
        content["database"]["../x"] = entry(0)
        content["database"]["x1"]["annotations"] = []
        inputs["annotations"] = written(tmp_path / "flawed.json", content)
        blocked = written(tmp_path / "blocked.txt", "v_blocked\n")
        return inputs | {"dtype": "float16", "rate": 2, "layout": "tc", "blocked": blocked}

    def test_each_is_named(self, flawed, capsys):
        assert prepare(flawed) == 0
        directory = flawed["output"] / "mine" / "1.0.0"
        defects = report_of(directory)["defects"]
        videos = {kind: [i["video"] for i in found["items"]] for kind, found in defects.items()}
        assert videos == {
            "bad_id": ["../x"],
            "unknown_subset": ["odd"],
            "blocked": ["blocked"],
            "no_annotations": ["x1"],
            "reversed": ["x0"],
            "outside": ["x0"],
            "beyond_end": ["x0"],
            "zero_length": ["x0"],
            "missing": ["gone"],
            "unused": ["unasked"],
            "unreadable": ["cut"],
            "pickle": ["objects"],
            "empty": ["empty"],
            "wrong_width": ["wide"],
            "not_finite": ["nan"],
            "overflow": ["large"],
            "constant": ["still"],
            "length_differs": ["long"],
        }
        printed = " ".join(capsys.readouterr().out.split())
        for kind in videos:
            assert f"{kind}:" in printed
        dataset = open_dataset(directory)
        found = {r.video for recordings in dataset.splits.values() for r in recordings}
        assert found == {f"x{index}" for index in range(8)} | {"still", "long"}
        assert report_of(directory)["splits"]["training"]["left_out"] == 8
        page = (directory / "report.html").read_text()
        assert "a pickle, which runs code" in page
        assert "../x" in page

    def test_check_writes_nothing_and_says_whether_anything_is_wrong(self, flawed, inputs, capsys):
        assert prepare(flawed, "--check") == 3
        assert "Checked only: nothing is written." in capsys.readouterr().out
        inputs["annotations"] = written(inputs["annotations"].with_name("good.json"), database())
        for name in ("unasked", "blocked"):
            (inputs["features"] / f"{name}.npy").unlink()
        assert prepare(inputs, "--check", "--layout=tc") == 0
        assert not inputs["output"].exists()

    def test_strict_stops_at_the_first(self, flawed, tmp_path, inputs, capsys):
        assert prepare(flawed, "--strict") == 4
        error = capsys.readouterr().err
        assert re.match(
            r"stopped by --strict: .*flawed.json.*video '\.\./x': bad_id: \.\./x", error
        )
        inputs["annotations"] = written(tmp_path / "later.json", database(nan=entry(0)))
        assert prepare(inputs, "--strict", "--layout=tc") == 4
        error = capsys.readouterr().err
        assert re.search(r"nan\.npy: video 'nan': not_finite: .*nan at frame 3, channel 1", error)
        assert not inputs["output"].exists() or not list(inputs["output"].iterdir())

    def test_frames_for_seconds(self, inputs, tmp_path, capsys):
        content = database()
        for video in content["database"].values():
            for action in video["annotations"]:
                action["segment"] = [25 * time for time in action["segment"]]
        inputs["annotations"] = written(tmp_path / "frames.json", content)
        assert prepare(inputs, "--check") == 3
        printed = " ".join(capsys.readouterr().out.split())
        assert "of 16 annotations reach beyond the end of their video" in printed
        assert "Are their times frames" in printed
        assert "--unit=ms (or us, frames) says otherwise, --clock" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"features": "nowhere"}, "no features at nowhere"),
        ({"annotations": "nowhere.json"}, "nowhere.json: there is no such file"),
        ({"durations": "nowhere.csv"}, "nowhere.csv: there is no such file"),
        ({"blocked": "nowhere.txt"}, "nowhere.txt: there is no such file"),
    ],
)
def test_files_that_are_not_there(inputs, flags, message, capsys):
    assert prepare(inputs | flags) == 1
    assert re.search(f"error: .*{message}", capsys.readouterr().err)
    assert not inputs["output"].exists()


def test_ids_that_do_not_match(inputs, tmp_path, capsys):
    inputs["features"] = write(tmp_path / "f", "npy", {"other0": features(0)})
    assert prepare(inputs) == 1
    error = capsys.readouterr().err
    assert "no annotated video has features in" in error
    assert "the annotations name 'x0', 'x1', 'x2', the features 'other0'" in error


def test_features_of_which_none_can_be_read(inputs, tmp_path, capsys):
    inputs["features"] = write(tmp_path / "f", "npy", {f"x{i}": np.zeros(7) for i in range(8)})
    assert prepare(inputs, "--layout=tc") == 1
    error = capsys.readouterr().err
    assert "no video has features of frames by channels that can be read" in error


def test_annotations_of_which_none_can_be_used(inputs, tmp_path, capsys):
    empty = {"database": {"x0": entry(0, annotations=[])}}
    inputs["annotations"] = written(tmp_path / "empty.json", empty)
    assert prepare(inputs, "--layout=tc") == 1
    assert "there is no annotation that could be used" in capsys.readouterr().err


def test_a_layout_that_cannot_be_told(inputs, tmp_path, capsys):
    square = {video: features(0, frames=4) for video in arrays()}
    inputs["features"] = write(tmp_path / "square", "npy", square)
    assert prepare(inputs) == 1
    assert "say --layout=tc (frames first) or --layout=ct" in capsys.readouterr().err
