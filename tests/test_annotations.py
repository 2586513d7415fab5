"""Every form of annotations, real and broken: all is read or named."""

import csv
import json
import math
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtad_jax.data.defects import KINDS
from segtad_jax.evaluation.annotations import read_durations
from segtad_jax.evaluation.entries import Action, Reading
from segtad_jax.evaluation.ground_truth import predictions_in_scope, read_ground_truth
from segtad_jax.evaluation.ids import match_id, matching
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.prepare.annotations import Video, checked_actions, read_annotations


def written(folder, content, name="annotations.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def database(**videos):
    return {"database": videos}


def entry(*actions, subset="training", duration=100.0):
    annotations = [{"segment": [s, e], "label": label} for s, e, label in actions]
    return {"subset": subset, "duration": duration, "annotations": annotations}


def found(annotations):
    return [(d.kind, d.video, d.value) for d in annotations.defects]


def defects_of(annotations, video):
    return [defect for defect in annotations.defects if defect.video == video.video]


def actions_of(video):
    return [(a.start, a.end, a.label) for a in video.actions]


@pytest.fixture(scope="module")
def bmn_pair(shared_data):
    folder = shared_data / "activitynet13"
    return read_annotations([folder / "anet_anno_action.json", folder / "video_info_new.csv"])


class TestRealFiles:
    def test_hapt(self, shared_data):
        annotations = read_annotations([shared_data / "hapt" / "hapt_gt.json"])
        subsets = Counter(v.subset for v in annotations.videos.values())
        assert subsets == {"training": 42, "validation": 19}
        assert len(annotations.classes) == 12
        assert sum(len(v.actions) for v in annotations.videos.values()) == 1214
        assert annotations.defects == ()
        assert annotations.notes == ()

    def test_bmn_pair(self, bmn_pair):
        annotations = bmn_pair
        subsets = Counter(v.subset for v in annotations.videos.values())
        assert subsets == {"training": 9649, "validation": 4728, "testing": 4851}
        assert len(annotations.classes) == 200
        assert annotations.defects == ()
        video = annotations.videos["QOlSCBRmfWY"]
        assert video.video == "v_QOlSCBRmfWY"
        assert video.duration == 82.73
        assert video.covered == pytest.approx(2064 / 2067 * 82.73)
        assert actions_of(video) == [(6.195294851794072, 77.73085420904837, "Ballet")]

    def test_bmn_zero_lengths_and_ends(self, shared_data, bmn_pair):
        kinds = Counter()
        for video in bmn_pair.videos.values():
            kept, defects = checked_actions(video, video.duration)
            kinds.update(defect.kind for defect in defects)
            assert all(0 <= a.start <= a.end <= video.duration + 0.01 for a in kept)
        raw = json.loads((shared_data / "activitynet13" / "anet_anno_action.json").read_text())
        segments = [
            (*a["segment"], v["duration_second"]) for v in raw.values() for a in v["annotations"]
        ]
        assert kinds["zero_length"] == sum(s == e for s, e, _ in segments)
        assert kinds["beyond_end"] == sum(s <= d + 0.01 < e for s, e, d in segments)
        assert kinds["reversed"] == 0

    @pytest.mark.slow
    def test_bmn_json_without_its_csv_is_refused(self, shared_data):
        with pytest.raises(InputError, match=r"name its csv too.*video_info_new\.csv"):
            read_annotations([shared_data / "activitynet13" / "anet_anno_action.json"])

    def test_a_file_of_results_is_refused(self, shared_data):
        path = shared_data / "activitynet13" / "sample_detection_prediction.json"
        with pytest.raises(InputError, match="a file of results, not of annotations"):
            read_annotations([path])

    def test_thumos14_in_three_forms(self, shared_data):
        folder = shared_data / "thumos14"
        forms = {
            "json": read_annotations([folder / "thumos_gt.json"]),
            "csv": read_annotations(
                [folder / "val_Annotation.csv", folder / "test_Annotation.csv"]
            ),
            "txt": read_annotations([folder / "official_txt"]),
        }
        for form, annotations in forms.items():
            subsets = Counter(v.subset for v in annotations.videos.values() if v.actions)
            assert subsets["training"] == 200, form
            assert set(annotations.classes) >= {"CliffDiving", "Diving"}, form
            assert not {d.kind for d in annotations.defects} - {"ambiguous"}, form
        assert forms["json"].classes == forms["txt"].classes == forms["csv"].classes
        assert len(forms["txt"].classes) == 20
        lines = sum(
            len((folder / "official_txt" / f"Ambiguous_{part}.txt").read_text().splitlines())
            for part in ("val", "test")
        )
        assert len(forms["txt"].defects) == lines
        test = [v for v in forms["txt"].videos.values() if v.subset == "testing"]
        assert (
            sum(len(v.actions) for v in test) == 3311 + 47
        )  # files have CliffDiving as Diving too


class TestForms:
    def test_hacs_has_its_durations_as_text(self, tmp_path):
        path = written(tmp_path, database(x=entry((1, 2, "a"), duration="12.5")))
        assert read_annotations([path]).videos["x"].duration == 12.5

    def test_plain_csv(self, tmp_path):
        text = (
            "video,start,end,label,subset,duration\n"
            "v_a,1.5,2,run,train,9\nv_a,3,4,jump,train,\nb,,,,val,7\n"
        )
        annotations = read_annotations([written(tmp_path, text, "mine.csv")])
        a, b = annotations.videos["a"], annotations.videos["b"]
        assert (a.video, a.subset, a.duration) == ("v_a", "training", 9)
        assert actions_of(a) == [(1.5, 2, "run"), (3, 4, "jump")]
        assert (b.subset, b.duration, b.actions) == ("validation", 7, ())
        assert a.actions[1].where == f"{tmp_path / 'mine.csv'}, line 3"

    def test_without_subsets_one_in_five_validates_whatever_the_others_are(self, tmp_path):
        def validating(number):
            lines = [f"x{index},0,1,run" for index in range(number)]
            path = written(tmp_path, "\n".join(["video,start,end,label", *lines]), "mine.csv")
            annotations = read_annotations([path])
            assert annotations.notes
            assert f"of {number} videos validate" in annotations.notes[0]
            return {k for k, v in annotations.videos.items() if v.subset == "validation"}

        assert len(validating(50)) == 10
        assert validating(50) == validating(50)
        assert len(validating(2)) == 1
        assert not validating(1)

    def test_files_complete_each_other_whether_they_write_v_or_not(self, tmp_path):
        first = written(tmp_path, "video,start,end,label\nx,1,2,run\n", "actions.csv")
        second = written(tmp_path, "video,seconds,subset\nv_x,12.5,validation\n", "info.csv")
        video = read_annotations([first, second]).videos["x"]
        assert (video.video, video.subset, video.duration) == ("x", "validation", 12.5)

    def test_accents_match_however_they_are_composed(self):
        assert match_id("v_caf\u00e9") == match_id("cafe\u0301")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("d.json", {"v_a": 3.5, "b": "4"}),
            ("d.csv", "video,duration\na,3.5\nv_b,4\n"),
            ("d.json", database(a={"duration": 3.5}, v_b={"duration": "4"})),
        ],
    )
    def test_durations(self, tmp_path, name, content):
        assert read_durations(written(tmp_path, content, name)) == {"a": 3.5, "b": 4.0}


TABLE = "video,start,end,label\na,5,20.5,run\nb,5,20.5,jump\n"


class TestTables:
    """Tables as spreadsheets write them."""

    def read(self, folder, text, name="mine.csv"):
        annotations = read_annotations([written(folder, text, name)])
        read = {video.video: actions_of(video) for video in annotations.videos.values()}
        return read, annotations

    @pytest.mark.parametrize(
        ("text", "note"),
        [
            (TABLE, None),
            (
                TABLE.replace(",", ";").replace(".", ","),
                "mine.csv: its columns are separated by ';'",
            ),
            (TABLE.replace(",", "\t"), "mine.csv: its columns are separated by tabs"),
            (TABLE.replace("20.5", '"20,5"'), "mine.csv: decimal commas are read as points"),
            (TABLE.replace("video,start,end,label", "Video, Start ,END,Label"), None),
            (TABLE.replace(",", ", "), None),
            ("\n" + TABLE.replace("\n", "\n\n,,,\n"), None),
            (TABLE.replace("20.5", "00:00:20.5"), None),
            (TABLE.replace("5,20.5", "0:00:05,0:00:20.50"), None),
        ],
    )
    def test_dialects(self, tmp_path, text, note):
        read, annotations = self.read(tmp_path, text)
        assert read == {"a": [(5, 20.5, "run")], "b": [(5, 20.5, "jump")]}
        assert annotations.defects == ()
        assert note is None or note in annotations.notes

    def test_a_comma_that_may_divide_thousands_is_shown_with_its_line(self, tmp_path):
        _, annotations = self.read(tmp_path, TABLE.replace("20.5", '"1,200"'))
        assert [d.value for d in annotations.defects] == ["[5, 1,200] run", "[5, 1,200] jump"]
        assert annotations.defects[1].where.endswith("mine.csv, line 3")

    def test_a_line_of_more_cells_than_columns_is_left_out(self, tmp_path):
        read, annotations = self.read(tmp_path, TABLE + "c,5,0,20,5,run\n")
        assert "c" not in read
        assert found(annotations) == [("bad_action", "c", "6 cells in 4 columns")]

    def test_a_column_named_twice_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"mine\.csv: names the column 'label' twice"):
            self.read(tmp_path, "video,start,end,label,Label\na,1,2,run,jump\n")

    @pytest.mark.parametrize(
        ("encoding", "remedy"),
        [("utf-16", "iconv -f UTF-16 -t UTF-8"), ("cp1252", "iconv -f CP1252 -t UTF-8")],
    )
    def test_another_encoding_is_refused_with_the_way_out(self, tmp_path, encoding, remedy):
        path = tmp_path / "a.csv"
        path.write_bytes(TABLE.replace("jump", "Bügeln").encode(encoding))
        with pytest.raises(InputError, match=r"a\.csv: not UTF-8 text") as caught:
            read_annotations([path])
        assert remedy in str(caught.value)

    def test_charades_cell_of_actions(self, tmp_path):
        text = "id,actions,length\na,c006 0.00 3.60;c008 1.00 5.00,6.5\nb,,4.0\nc,c006 1,4\n"
        read, annotations = self.read(tmp_path, text)
        assert read == {"a": [(0, 3.6, "c006"), (1, 5, "c008")], "b": [], "c": []}
        assert annotations.videos["a"].duration == 6.5
        assert found(annotations) == [("bad_action", "c", "c006 1")]


class TestFrames:
    """A folder of files with the class of each frame."""

    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "groundTruth"
        folder.mkdir()
        written(folder, "bg\nbg\ntake cup\ntake cup\ntake cup\nbg\n", "s1_test.txt")
        written(folder, "1\n1\n0\n", "s2.txt")
        written(tmp_path, "0 bg\n1 put\n", "mapping.txt")
        return folder

    def test_equal_neighbours_are_an_action(self, folder):
        annotations = read_annotations([folder], Reading(rate=2.0))
        first, second = annotations.videos["s1_test"], annotations.videos["s2"]
        assert actions_of(first) == [(0, 1, "bg"), (1, 2.5, "take cup"), (2.5, 3, "bg")]
        assert actions_of(second) == [(0, 1, "put"), (1, 1.5, "bg")]
        assert (first.duration, second.duration) == (3, 1.5)
        assert any("'bg'" in note and "--ignore=bg" in note for note in annotations.notes)

    def test_a_background_is_left_out_by_name(self, folder):
        annotations = read_annotations([folder], Reading(rate=2.0), ignored=["bg"])
        assert annotations.classes == ("put", "take cup")
        assert [d.kind for d in annotations.defects] == ["ignored"] * 3
        truth = read_ground_truth(
            folder, "validation", Reading(rate=2.0), ignored=["bg"]
        ).ground_truth
        assert truth == {"s1_test": [(1, 2.5, "take cup")], "s2": [(0, 1, "put")]}

    def test_they_need_a_rate(self, folder):
        with pytest.raises(InputError, match=r"groundTruth: .* --rate=15"):
            read_annotations([folder])


class TestLinesThatDisagree:
    """What the lines of one video contradict each other in is named, and none of it is used."""

    HEAD = "video,start,end,label,subset,duration\n"

    def test_subsets(self, tmp_path):
        text = self.HEAD + "a,5,20,run,train,60\na,30,40,run,val,60\na,50,55,run,Training,60\n"
        path = written(tmp_path, text + "b,5,20,run,val,60\nc,5,20,run,train,60\n", "a.csv")
        annotations = read_annotations([path])
        assert sorted(annotations.videos) == ["b", "c"]
        (defect,) = annotations.defects
        assert (defect.kind, defect.video) == ("subsets_differ", "a")
        assert defect.value == "train (line 2), val (line 3), Training (line 4)"
        with pytest.raises(InputError, match=r"a\.csv, line 2: train \(line 2\), val \(line 3\)"):
            read_ground_truth(path, "validation")
        assert list(read_ground_truth(path, "validation", lenient=True).ground_truth) == ["b"]

    def test_durations(self, tmp_path):
        text = self.HEAD + "a,5,20,run,train,60\na,30,40,run,train,90\nb,5,20,run,val,60.04\n"
        path = written(tmp_path, text + "b,30,40,run,val,60\n", "a.csv")
        annotations = read_annotations([path])
        assert annotations.videos["a"].duration is None
        assert annotations.videos["b"].duration == 60.04  # the same, rounded
        assert found(annotations) == [("durations_differ", "a", "60 s (line 2), 90 s (line 3)")]
        with pytest.raises(InputError, match=r"a\.csv: video 'a' has several durations: 60 s"):
            read_durations(path)
        assert read_ground_truth(path, "training").durations == {}

    def test_lengths_of_actions_are_no_durations(self, tmp_path):
        text = self.HEAD + "a,5,12,run,,7\na,20,50,run,,30\nb,40,60,run,,20\nc,0,9,run,,9\n"
        annotations = read_annotations([written(tmp_path, text, "a.csv")])
        durations = {video.video: video.duration for video in annotations.videos.values()}
        assert durations == {"a": None, "b": None, "c": 9}
        assert found(annotations) == [
            (
                "durations_differ",
                "a",
                "7 s (line 2), 30 s (line 3): lengths of actions, end - start",
            ),
            ("bad_duration", "b", "20 s (line 4): lengths of actions, end - start"),
        ]

    def test_a_given_subset_is_not_overruled_by_the_look_of_an_id(self, tmp_path):
        rows = [("video_test_0000001", "training"), ("video_validation_0000001", "validation")]
        text = self.HEAD + "".join(f"{video},1,2,run,{subset},9\n" for video, subset in rows)
        annotations = read_annotations([written(tmp_path, text, "a.csv")])
        assert [(v.video, v.subset) for v in annotations.videos.values()] == rows
        assert annotations.notes == ()
        text = text.replace("training", "test")  # as THUMOS14 has it
        annotations = read_annotations([written(tmp_path, text, "a.csv")])
        assert [v.subset for v in annotations.videos.values()] == ["testing", "training"]
        assert any("THUMOS14" in note for note in annotations.notes)


class TestLabels:
    """Names of classes stay one line of plain text, and those that look alike are named."""

    @pytest.mark.parametrize(
        "label",
        ["cut\nfish", "cut\r\nfish", "cut\x85fish", "cut\u2028 fish", "cut \u202efish\u200b"],
    )
    def test_line_breaks_are_blanks_with_a_word(self, tmp_path, label):
        content = database(x=entry((1, 2, label), (3, 4, "wash")), y=entry((1, 2, "fry")))
        annotations = read_annotations([written(tmp_path, content)])
        assert len(annotations.classes) == 3
        assert "".join(annotations.classes[0].split()) == "cutfish"
        assert annotations.classes[0].isprintable()
        (defect,) = annotations.defects
        assert (defect.kind, defect.video, defect.treatment) == ("label_changed", "x", "changed")
        assert defect.where.endswith("annotations.json, video x, annotation 0")

    def test_a_lone_surrogate_names_the_file(self, tmp_path):
        content = database(x=entry((1, 2, "a\ud800"), (3, 4, "wash")))
        annotations = read_annotations([written(tmp_path, content)])
        assert annotations.classes == ("wash",)
        assert found(annotations) == [("bad_action", "x", "label a\\ud800")]
        assert annotations.defects[0].where.startswith(str(tmp_path))

    def test_unicode_forms_are_one_class_and_look_alikes_are_named(self, tmp_path):
        labels = ["Bügeln", "Bu\u0308geln", "Take cup", "take  cup", "Take\u200dcup"]
        content = database(x=entry(*((i, i + 1, label) for i, label in enumerate(labels))))
        annotations = read_annotations([written(tmp_path, content)])
        assert annotations.classes == ("Bügeln", "Take cup", "Take\u200dcup", "take  cup")
        form, alike = annotations.notes
        assert "'Bu\\u0308geln'" in form
        assert "'Bügeln'" in form
        assert all(repr(label) in alike for label in labels[2:])

    def test_predictions_match_in_either_form(self, tmp_path):
        path = written(tmp_path, database(x=entry((1, 2, "Bügeln"), subset="val")))
        rows = [(1.0, 2.0, "Bu\u0308geln", 0.5)]
        inside, scope = predictions_in_scope(read_ground_truth(path, "val"), {"x.mp4": rows})
        assert inside == {"x": [(1.0, 2.0, "Bügeln", 0.5)]}
        assert any("'x.mp4' as 'x'" in note for note in scope["notes"])


def test_ids_match_without_an_ending_where_that_leaves_no_choice():
    there = ["a", "b.wav", "c.mp4.npy", "d.npy", "d.csv", "e"]
    wanted = ["a", "b", "c", "d", "e.MP4", "e.avi", "f.mp4"]
    assert matching(wanted, there) == {"a": "a", "b": "b.wav", "c": "c.mp4.npy"}
    assert matching(["e.MP4", "clip_1.5_2.5.wav"], ["e", "clip_1.5_2.5"]) == {
        "e.MP4": "e",
        "clip_1.5_2.5.wav": "clip_1.5_2.5",
    }


class TestDefects:
    """One test for each thing that can be wrong with a file that can be read."""

    def test_actions(self, tmp_path):
        actions = [
            {"segment": [1, 2], "label": "good"},
            {"segment": ["x", 2], "label": "a"},
            {"segment": [1, math.nan], "label": "a"},
            {"segment": [1, 1e999], "label": "a"},
            {"segment": [True, 2], "label": "a"},
            {"segment": [1], "label": "a"},
            {"segment": [1, 2]},
            {"segment": [1, 2], "label": " "},
            {"label": "a"},
            "nothing",
        ]
        video = {"subset": "val", "duration": 9, "annotations": actions}
        annotations = read_annotations([written(tmp_path, database(x=video))])
        assert actions_of(annotations.videos["x"]) == [(1, 2, "good")]
        kinds = ["bad_time"] * 4 + ["bad_action"] * 5
        assert [kind for kind, _, _ in found(annotations)] == kinds
        assert annotations.defects[0].value == "[x, 2] a"
        assert annotations.defects[0].where.endswith("video x, annotation 1")

    def test_videos(self, tmp_path):
        content = database(
            good=entry(),
            list=[1],
            odd=entry(subset="holdout"),
            v_good=entry(),
            late=entry(duration="soon"),
            none=entry(duration=-3),
        )
        content["database"]["late"]["annotations"] = 7
        annotations = read_annotations([written(tmp_path, content)])
        assert sorted(annotations.videos) == ["good", "late", "none"]
        assert annotations.videos["late"].duration is None
        assert found(annotations) == [
            ("bad_video", "list", "[1]"),
            ("repeated_video", "v_good", "v_good and good"),
            ("bad_duration", "late", "soon"),
            ("bad_video", "late", "7"),
            ("bad_duration", "none", "-3"),
            ("unknown_subset", "odd", "holdout"),
        ]

    def test_a_key_that_occurs_twice(self, tmp_path):
        one = json.dumps(entry((1, 2, "first")))
        two = json.dumps(entry((3, 4, "second")))
        path = written(tmp_path, f'{{"database": {{"x": {one}, "x": {two}}}}}')
        annotations = read_annotations([path])
        assert actions_of(annotations.videos["x"]) == [(1, 2, "first")]
        assert found(annotations) == [
            ("repeated_video", "x", "the key 'x' twice in one object"),
        ]

    @pytest.mark.parametrize(
        "video",
        [
            "",
            "v_",
            "..",
            "../../x",
            "a/b",
            "a\\b",
            "a\x00b",
            "a\nb",
            "x" * 300,
            "é" * 150,
            "\ud800",
        ],
    )
    def test_ids_that_are_no_file_names(self, tmp_path, video):
        path = written(tmp_path, {"database": {"good": entry(), video: entry((1, 2, "a"))}})
        annotations = read_annotations([path])
        assert list(annotations.videos) == ["good"]
        assert [d.kind for d in annotations.defects] == ["bad_id"]

    @pytest.mark.parametrize("video", ["видео 1", "動画", "a.b-c d", "x" * 255, "v_v_x", "-rf"])
    def test_unusual_ids_are_kept(self, tmp_path, video):
        annotations = read_annotations([written(tmp_path, {"database": {video: entry()}})])
        assert [v.video for v in annotations.videos.values()] == [video]

    def test_txt(self, tmp_path):
        written(tmp_path, "video_test_0000001 1.0 2.0\n\nvideo_test_0000001 1.0\n", "Run_test.txt")
        annotations = read_annotations([tmp_path])
        assert found(annotations) == [
            ("bad_action", "video_test_0000001", "video_test_0000001 1.0")
        ]
        assert annotations.videos["video_test_0000001"].subset == "testing"


CHECKED = [  # start, end, what becomes of it in a video of 10 s, kinds of defects
    (1, 2, (1, 2), []),
    (0, 10.005, (0, 10.005), []),
    (2, 1, None, ["reversed"]),
    (-1, 2, (0, 2), ["negative"]),
    (8, 12, (8, 10), ["beyond_end"]),
    (-1, 12, (0, 10), ["negative", "beyond_end"]),
    (11, 12, None, ["outside"]),
    (-2, -1, None, ["outside"]),
    (-2, 0, None, ["outside"]),
    (3, 3, (3, 3), ["zero_length"]),
]


@pytest.mark.parametrize(("start", "end", "becomes", "kinds"), CHECKED)
def test_actions_against_the_duration(start, end, becomes, kinds):
    video = Video("x", "training", 10.0, None, (Action(float(start), float(end), "a", "here"),))
    kept, defects = checked_actions(video, 10.0)
    assert [(a.start, a.end) for a in kept] == ([becomes] if becomes else [])
    assert [d.kind for d in defects] == kinds
    assert all(d.where == "here" and "duration 10" in d.value for d in defects)


@given(st.floats(0, 10), st.floats(0.01, 30))
def test_a_moment_is_widened_around_itself_within_its_video(moment, widen):
    rows = (Action(moment, moment, "goal", "here"), Action(1.0, 2.0, "run", "here"))
    kept, defects = checked_actions(Video("x", "training", 10.0, None, rows), 10.0, widen)
    (goal, run) = kept
    assert (goal.start, goal.end) == (max(moment - widen / 2, 0), min(moment + widen / 2, 10))
    assert (run.start, run.end) == (1, 2)
    assert [defect.kind for defect in defects] == ["widened"]
    assert f"[{goal.start:.10g}, {goal.end:.10g}]" in defects[0].value


def test_duplicates_and_second_labels():
    rows = [(1.0, 2.0, "Diving"), (1.0, 2.0, "CliffDiving"), (1.0, 2.0, "Diving")]
    video = Video("x", "training", 10.0, None, tuple(Action(*row, "here") for row in rows))
    kept, defects = checked_actions(video, 10.0)
    assert [a.label for a in kept] == ["Diving", "CliffDiving"]
    assert [d.kind for d in defects] == ["two_labels", "duplicate"]


numbers = st.floats(-20, 40) | st.floats() | st.integers(-5, 50) | st.text(max_size=4)
spelled = numbers | numbers.map(str) | st.none() | st.booleans() | st.lists(st.integers())
names = st.text(max_size=6) | st.sampled_from(["../../x", "a/b", "v_x", "x", "y" * 300])
labels = st.sampled_from(["a", "b"]) | spelled
annotation = st.fixed_dictionaries(
    {}, optional={"segment": st.lists(spelled, max_size=3), "label": labels}
)
videos = st.fixed_dictionaries(
    {},
    optional={
        "subset": st.sampled_from(["training", "val", "other"]) | spelled,
        "duration": spelled,
        "annotations": st.lists(annotation | spelled, max_size=4) | spelled,
    },
)


@given(st.dictionaries(names, videos | spelled, max_size=4))
def test_whatever_the_file_holds_is_kept_or_named(tmp_path_factory, content):
    path = written(tmp_path_factory.mktemp("any"), {"database": content})
    try:
        annotations = read_annotations([path])
    except InputError:
        return  # no video at all; its messages are tested below
    assert {d.kind for d in annotations.defects} <= set(KINDS)
    for name in content:
        assert match_id(name) in annotations.videos or any(
            d.video == name for d in annotations.defects
        )
    for video in annotations.videos.values():
        listed = content[video.video].get("annotations")
        named = [d.kind in ("bad_action", "bad_time") for d in defects_of(annotations, video)]
        assert len(video.actions) + sum(named) == (len(listed) if isinstance(listed, list) else 0)
    for video in annotations.videos.values():
        inside, defects = checked_actions(video, 10.0)
        left_out = sum(d.treatment == "left out" for d in defects)
        assert len(inside) + left_out == len(video.actions)
        assert all(0 <= a.start <= a.end <= 10.01 for a in inside)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", r"not JSON \(line 1, column 2"),
        ("a.json", "[" * 100_000, "not JSON of this kind"),
        ("a.json", "[1]", r"expected an object with 'database', found \[1\]"),
        ("a.json", {"data": {}}, "the keys are 'data'"),
        ("a.json", {"database": []}, "expected ActivityNet's form"),
        ("a.json", {"database": {}}, "there is no video in it"),
        ("a.json", {"database": {"x": {"subset": "all"}}}, "no video has a subset.* but all"),
        (
            "a.csv",
            "name,begin\n",
            "must name the columns video,start,end,label.*It is: name,begin",
        ),
        ("a.csv", "", "It is: empty"),
        (
            "a.csv",
            f'video,start,end,label\n"{"x" * 200_000}",1,2,a\n',
            "line 2: not csv: field larger",
        ),
        ("a.doc", "", r"are a \.json or \.csv file, a file of an annotation tool"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    path = written(tmp_path, content, name)
    with pytest.raises(InputError, match=f"{re.escape(str(path))}.*{message}"):
        read_annotations([path])


def test_other_ways_in_which_nothing_is_there(tmp_path):
    with pytest.raises(InputError, match=r"a\.json: there is no such file"):
        read_annotations([tmp_path / "a.json"])
    with pytest.raises(InputError, match="and there is no such file"):
        read_annotations([tmp_path / "folder"])
    with pytest.raises(InputError, match=r"has no txt file, as CLASS_val\.txt"):
        read_annotations([tmp_path])
    (tmp_path / "b.json").write_bytes(b'{"\xff')
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 2\)"):
        read_annotations([tmp_path / "b.json"])
    with pytest.raises(InputError, match="has no durations; expected a csv"):
        read_durations(written(tmp_path, "video,subset\nx,val\n", "d.csv"))
    with pytest.raises(InputError, match="video 'x': duration 0 is no positive number"):
        read_durations(written(tmp_path, {"x": 0}, "d.json"))


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "excel.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["video", "start", "end", "label"], ["x", 1, 2, "run"]])
    assert actions_of(read_annotations([path]).videos["x"]) == [(1, 2, "run")]
