"""Every file of annotations that prepare takes is scored with the same videos and labels."""

import json
import unicodedata

import pytest

from prepare_cases import good_inputs, prepare
from segtad_jax.evaluation.__main__ import main
from segtad_jax.evaluation.ground_truth import predictions_in_scope, read_ground_truth
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.prepare.annotations import read_annotations

CUTTING = {"segment": [5, 20], "label": " cut "}
STIRRING = {"segment": ["1", "2.5"], "label": 7}
FORMS = {
    "activitynet.json": {
        "database": {
            "v_a": {"subset": "Val", "duration": 60, "annotations": [CUTTING, STIRRING]},
            "b": {"subset": "valid", "duration": "60", "annotations": [STIRRING]},
            "c": {"subset": "train", "annotations": [CUTTING]},
            "d": {"subset": "testing"},
        }
    },
    "bmn.json": {
        "a": {"subset": "validation", "duration_second": 60, "annotations": [CUTTING]},
        "b": {"subset": "training", "duration_second": 60, "annotations": [STIRRING]},
    },
    "plain.csv": "video,start,end,label,subset\nv_a,5,20,cut,val\nb,1,2,7,train\nc,,,,val\n",
    "thumos.csv": "video,type,type_idx,start,end\nvideo_test_0000004,Diving,23,0.2,1.1\n"
    "video_validation_0000051,Diving,23,1,2\nvideo_test_0000004,Ambiguous,-1,2,3\n",
}


def assert_same(paths, subsets):
    """Both read the same actions with the same ids, labels and subsets."""
    videos = read_annotations(paths).videos.values()
    for subset in subsets:
        truth = read_ground_truth(",".join(map(str, paths)), subset).ground_truth
        prepared = {
            video.video: [(a.start, a.end, a.label) for a in video.actions]
            for video in videos
            if video.subset == subset
        }
        scored = {v: [row for row in rows if row[2] != "Ambiguous"] for v, rows in truth.items()}
        assert any(prepared.values())
        assert scored == prepared


@pytest.mark.parametrize("name", FORMS)
def test_prepare_and_evaluation_read_the_same(tmp_path, name):
    path = tmp_path / name
    content = FORMS[name]
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert_same([path], ["training", "testing" if name == "thumos.csv" else "validation"])


@pytest.mark.parametrize("name", ["thumos_gt.json", "official_txt"])
def test_thumos14(shared_data, name):
    assert_same([shared_data / "thumos14" / name], ["training", "testing"])


@pytest.mark.slow
def test_bmn_pair(shared_data):
    folder = shared_data / "activitynet13"
    pair = [folder / "anet_anno_action.json", folder / "video_info_new.csv"]
    assert_same(pair, ["validation"])
    with pytest.raises(InputError, match=r"name its csv too.*video_info_new\.csv"):
        read_ground_truth(pair[0], "validation")


@pytest.mark.parametrize("subset", ["validation", "training", "train"])
def test_thumos14s_validation_videos_have_two_names(shared_data, subset):
    for name in ("val_Annotation.csv", "official_txt"):
        path = shared_data / "thumos14" / name
        assert len(read_ground_truth(path, subset).ground_truth) == 200


def test_a_file_that_names_no_subset_is_scored_whole_and_says_so(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("video,start,end,label\na,5,20,cut\nb,5,20,stir\n")
    subset = read_ground_truth(path, "validation")
    assert list(subset.ground_truth) == ["a", "b"]
    (note,) = subset.notes
    assert "plain.csv: names no subset" in note
    assert "all 2 videos" in note


def test_ids_of_predictions_match_as_those_of_features_do(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    path = tmp_path / "plain.csv"
    path.write_text(f"video,start,end,label\n{composed},5,20,cut\nv_b,5,20,cut\n")
    rows = [(5.0, 20.0, "cut", 0.9)]
    inside, scope = predictions_in_scope(
        read_ground_truth(path, "validation"), {f"v_{decomposed}": rows, "b": rows}
    )
    assert inside == {composed: rows, "v_b": rows}
    assert scope["left_out"]["unknown_videos"] == {}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The flags of a prepared data set, and its folder."""
    inputs = good_inputs(tmp_path_factory.mktemp("prepared"))
    assert prepare(inputs, "--rate=2") == 0
    return inputs, inputs["output"] / "mine" / "1.0.0"


def test_a_prepared_data_set_is_a_ground_truth(prepared, tmp_path):
    inputs, directory = prepared
    for subset, number in (("training", 6), ("val", 2)):
        expected = read_ground_truth(inputs["annotations"], subset)
        truth = read_ground_truth(directory, subset)
        assert len(truth.ground_truth) == number
        assert truth.ground_truth.keys() == expected.ground_truth.keys()
        for video, rows in truth.ground_truth.items():
            for row, other in zip(rows, expected.ground_truth[video], strict=True):
                assert row == (pytest.approx(other[0]), pytest.approx(other[1]), other[2])
        assert truth.durations == pytest.approx(expected.durations)
    predictions = {
        video: [{"segment": row[:2], "label": row[2], "score": 1.0} for row in rows]
        for video, rows in truth.ground_truth.items()
    }
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"version": "", "external_data": {}, "results": predictions}))
    output = tmp_path / "m.json"
    flags = [f"--ground_truth={directory}", f"--predictions={path}", f"--output={output}"]
    assert main(flags) == 0
    assert json.loads(output.read_text())["map"]["average"] == 1.0
    for folder in (directory.parent, inputs["output"]):  # DATA/NAME and DATA
        again = read_ground_truth(folder, "validation")
        assert again.ground_truth == truth.ground_truth


def test_pieces_between_gaps_are_one_video(tmp_path):
    """Parts of one subset are joined; of a recording whose end validates, each with its subset."""
    rows = {
        "a#t=0,10": ("training", [1, 2]), "a#t=16.5,20": ("training", [0.5, 2]),
        "b#t=0,8": ("training", [1, 2]), "b#t=8,10": ("validation", [1, 2]),
        "c": ("validation", [3, 4]),
    }  # fmt: skip
    database = {
        video: {
            "subset": subset, "duration": 3.5, "annotations": [{"segment": times, "label": "run"}]
        }
        for video, (subset, times) in rows.items()
    }  # fmt: skip
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"database": database}))
    training, validation = (read_ground_truth(path, name) for name in ("training", "validation"))
    assert training.ground_truth == {
        "a": [(1, 2, "run"), (17, 18.5, "run")],
        "b": [(1, 2, "run")],
    }
    assert training.durations["a"] == 20.0
    assert validation.ground_truth == {"b": [(9, 10, "run")], "c": [(3, 4, "run")]}


def test_several_prepared_data_sets_are_named(prepared, tmp_path):
    _, directory = prepared
    for name in ("mine", "other", ".preparing-third"):
        folder = tmp_path / name / "1.0.0"
        folder.mkdir(parents=True)
        for file in ("recordings.json", "labels.labels.txt"):
            (folder / file).write_bytes((directory / file).read_bytes())
    with pytest.raises(InputError) as caught:
        read_ground_truth(tmp_path, "validation")
    named = [str(tmp_path / name / "1.0.0") for name in ("mine", "other")]
    assert str(caught.value).split()[-2:] == named


def test_folders_that_are_no_ground_truth(prepared, tmp_path):
    _, directory = prepared
    with pytest.raises(InputError, match=r"CLASS_val.txt .* recordings.json.* NAME/VERSION"):
        read_ground_truth(tmp_path, "validation")
    index = (directory / "recordings.json").read_text()
    (tmp_path / "recordings.json").write_text(index.replace("jump", "jumq"))
    with pytest.raises(InputError, match=r"recordings.json: .* checksum .*Prepare .* again"):
        read_ground_truth(tmp_path, "validation")
    older = {"recordings": json.loads(index)["recordings"]}
    (tmp_path / "recordings.json").write_text(json.dumps(older))
    (tmp_path / "labels.labels.txt").write_text("jump\n")  # one of two
    with pytest.raises(InputError, match=r"recordings.json: .*IndexError.* prepare .* again"):
        read_ground_truth(tmp_path, "validation")
