"""Who trains and who validates: by people, by lists, or by a checksum; nobody on both sides."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prepare_cases import features, good_inputs, prepare, report_of, written
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.timeline import Piece
from segtad_jax.evaluation.entries import NOTE, Entry
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.prepare import build
from segtad_jax.prepare.split import (
    Division,
    cut_pieces,
    draw_groups,
    group_videos,
    groups_on_both_sides,
    read_lists,
)

PERSON = re.compile(r"^(s\d+)_")
SUBSETS = st.sampled_from(["training", "validation", "testing"])
names = st.text("abcé0_", min_size=1, max_size=4)


def entries_of(subsets):
    """Entries as a reader of annotations makes them, from {id: subset or None}."""
    return {
        video: Entry(video, "a.csv", {subset: "a.csv"} if subset else {}, subset=subset)
        for video, subset in subsets.items()
    }


def divided(division, subsets):
    """The subset of each video that is left, its notes, and (kind, video) of what is left out."""
    notes, left_out = [], []

    def report(kind, video, value, where):
        if kind == NOTE:
            notes.append(value)
        else:
            left_out.append((kind, video))

    entries = division.apply(entries_of(subsets), report)
    return {key: entry.subset for key, entry in entries.items()}, "\n".join(notes), left_out


def test_a_file_without_subsets_beside_one_that_has_them_trains():
    notes, subsets = [], {"x": "validation", "y": "training", "z": None}
    entries = entries_of(subsets) | {
        name: Entry(name, f"found.elan/{name}.eaf") for name in ("new 1", "new 2")
    }
    made = Division().apply(entries, lambda *said: notes.append(said), ["a.csv", "found.elan"])
    expected = subsets | {"new 1": "training", "new 2": "training"}  # z is left out by its name
    assert {key: entry.subset for key, entry in made.items()} == expected
    ((kind, _, line, _),) = notes
    assert kind == NOTE
    assert line.startswith("found.elan names no subset")
    assert "2 videos train" in line


@given(st.lists(names))
def test_a_fifth_of_the_groups_validates_in_whatever_order_they_come(groups):
    chosen = draw_groups(groups)
    assert chosen == draw_groups(reversed(groups))
    assert chosen <= set(groups)
    number = len(set(groups))
    assert len(chosen) == (0 if number < 2 else max(number // 5, 1))


def test_the_draw_does_not_follow_how_ids_are_spelled():
    plain = [f"s{n:02}" for n in range(40)]
    for spelled in ("{}.mp4", "v_{}", "{}.csv"):
        drawn = draw_groups(map(spelled.format, plain))
        assert drawn == {spelled.format(name) for name in draw_groups(plain)}


@given(st.dictionaries(st.integers(0, 30), st.integers(1, 3), min_size=2))
def test_nobody_stands_on_both_sides(people):
    subsets = {f"s{p}_{n}": None for p, number in people.items() for n in range(number)}
    found, note, _ = divided(Division(group=PERSON), subsets)
    assert found.keys() == subsets.keys()
    assert set(found.values()) == {"training", "validation"}
    sides = {(PERSON.search(video)[1], subset) for video, subset in found.items()}
    assert len(sides) == len(people)
    assert "groups validate" in note
    assert "both sides" not in note


@given(st.dictionaries(names, st.tuples(SUBSETS, names)))
def test_groups_on_both_sides_by_their_definition(videos):
    subsets = {key: subset for key, (subset, _) in videos.items()}
    groups = {key: group for key, (_, group) in videos.items()}
    both = groups_on_both_sides(subsets, groups)
    for group in set(groups.values()):
        its = {subsets[key] for key in subsets if groups[key] == group}
        assert (group in both) == ("training" in its and its != {"training"})
        if group in both:
            assert {k for keys in both[group].values() for k in keys} == {
                key for key in groups if groups[key] == group
            }


SPLIT = {"s1_a": "training", "s1_b": "validation", "s2_a": "training", "s3_a": "testing"}


def test_people_on_both_sides_of_a_given_split_are_told():
    found, note, _ = divided(Division(group=PERSON), SPLIT)
    assert found == SPLIT
    for part in ("1 of 3 groups", "'s1'", "training 's1_a'", "validation 's1_b'", "--split=group"):
        assert part in note


def test_groups_overrule_a_given_split_on_demand_but_for_testing():
    found, note, _ = divided(Division(group=PERSON, by_group=True), SPLIT)
    assert found["s1_a"] == found["s1_b"] != found["s2_a"]
    assert found["s3_a"] == "testing"
    assert "1 of 2 groups validate" in note


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        (r"^(s\d+)_", ["1 of 3 ids: 'other'", "parentheses"]),
        (r"^(s2)?", ["'other', 's1_a'", "parentheses"]),
        (r"(.*)", []),
    ],
)
def test_ids_without_a_person_are_named(pattern, parts):
    videos = {key: key for key in ("s1_a", "s2_a", "other")}
    if not parts:
        assert group_videos(videos, re.compile(pattern)) == videos
        return
    with pytest.raises(InputError) as error:
        group_videos(videos, re.compile(pattern))
    assert all(part in str(error.value) for part in [pattern.replace("\\", "\\\\"), *parts])


def test_one_group_alone_cannot_validate():
    with pytest.raises(InputError, match=r"one group alone, 's', in 2 videos"):
        divided(Division(group=re.compile("^(s)")), {"s1": None, "s2": None})


LISTS = {  # file: content, what the three videos of `a`, `b` and `v_c` become
    "s.csv": ("video,subset\na,train\nb,val\nc,test\n", "training validation testing"),
    "s.tsv": ("video\tsubset\na\ttrain\nb\tval\nc\ttest\n", "training validation testing"),
    "by_id.json": ({"a": "train", "v_b": "val", "c": "test"}, "training validation testing"),
    "by_subset.json": ({"train": ["a"], "val": ["b"]}, "training validation None"),
    "anet.json": (
        {"database": {"a": {"subset": "training"}, "b": {"subset": "validation"}}},
        "training validation None",
    ),
    "chosen.json": (["b"], "training validation training"),
    "ids.txt": ("b\n\nc\n", "training validation validation"),
    "train.txt": ("a\nb.mp4\n", "training training validation"),
    "test.split1.bundle": ("c.txt\n", "training training testing"),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists(tmp_path, name):
    content, subsets = LISTS[name]
    path = written(tmp_path / name, content)
    expected = dict(zip(("a", "b", "c"), subsets.split(), strict=True))
    found, note, left_out = divided(Division((str(path),)), dict.fromkeys("abc"))
    assert found == {key: subset for key, subset in expected.items() if subset != "None"}
    assert left_out == [("unlisted", key) for key in expected if key not in found]
    assert str(path) in note


def test_two_lists_leave_out_whom_neither_names(tmp_path):
    paths = [str(written(tmp_path / f"{name}.txt", name[0])) for name in ("a_train", "b_val")]
    found, _, left_out = divided(Division(tuple(paths)), {"a": "testing", "b": None, "c": None})
    assert found == {"a": "training", "b": "validation"}
    assert left_out == [("unlisted", "c")]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("s.csv", "video,subset\na,train\nb,holdout\n", ["'holdout'", "'b'", "validation"]),
        ("s.csv", "video,subset\na,train\na,val\n", ["'a'", "train (line 2)", "line 3"]),
        ("s.csv", "video,part\na,train\n", ["video,part", "subset"]),
        ("s.json", {"train": ["a"], "val": ["v_a"]}, ["'v_a'", "validation", "training", "once"]),
        ("s.json", {}, ["no video"]),
        ("s.json", {"a": 3}, ["s.json", "database"]),
        ("s.txt", "", ["no video"]),
        ("s.txt", "x9\nx8\n", ["'x8', 'x9'", "'a', 'b'"]),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, name, content, parts):
    path = str(written(tmp_path / name, content))
    with pytest.raises(InputError) as error:
        divided(Division((path,)), {"a": None, "b": None})
    assert all(part in str(error.value) for part in [path, *parts])


def test_ids_that_no_annotation_names_are_told(tmp_path):
    path = written(tmp_path / "val.txt", "a\nq7\n")
    _, note, _ = divided(Division((str(path),)), {"a": None, "b": None})
    assert "'q7'" in note
    assert "1 training, 1 validation" in note


@given(st.dictionaries(st.text("abc1", min_size=1, max_size=3), SUBSETS, min_size=1))
def test_every_form_of_a_list_says_the_same(tmp_path_factory, subsets):
    folder = tmp_path_factory.mktemp("lists")
    table = "".join(f"{video},{subset}\n" for video, subset in subsets.items())
    by_subset = {s: [v for v in subsets if subsets[v] == s] for s in set(subsets.values())}
    paths = [
        written(folder / "a.csv", f"video,subset\n{table}"),
        written(folder / "b.json", subsets),
        written(folder / "c.json", json.dumps(by_subset)),
    ]
    assert [read_lists([str(path)]) for path in paths] == [(subsets, None)] * 3


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "write_page", lambda *page: None)
    return good_inputs(tmp_path)


def test_choices_on_the_command_line(inputs, tmp_path, capsys):
    """A class left out and a moment widened are asked for, so that --strict goes on."""
    lines = [f"x{n},{n + 1},{n + 1},goal\nx{n},1,3,run\nx{n},3,9,rest" for n in range(8)]
    inputs["annotations"] = written(
        tmp_path / "a.csv", "\n".join(["video,start,end,label", *lines])
    )
    flags = ["--rate=2", "--ignore=rest,nap", "--widen=3", "--strict", "--group=^x(.)"]
    assert prepare(inputs, *flags) == 0
    report = report_of(inputs["output"] / "mine" / "1.0.0")
    assert list(report["classes"]) == ["goal", "run"]
    assert report["defects"]["ignored"]["count"] == 8
    widened = report["defects"]["widened"]["items"]
    assert widened[0]["value"] == "[1, 1] goal, duration 10: [0, 2.5]"
    assert report["lengths"]["seconds"]["100"] == 3
    assert "1 of 8 groups validate" in capsys.readouterr().out
    (note,) = [note for note in report["notes"] if "'nap'" in note]
    assert "'goal'" in note


RATE = 10.0


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=4),
    st.integers(1, 3),
    st.floats(-5, 40, allow_nan=False),
    st.integers(1, 3),
)
def test_cut_pieces_hold_each_sample_once_at_its_time(lengths, sources, at, ratio):
    """Of sources that differ in their rates by a ratio, and pieces with gaps between them."""
    pieces, start = [], 0.0
    for length in lengths:
        arrays = [start + np.arange(length * ratio)[:, None] / (RATE * ratio)] * (sources - 1)
        pieces.append(Piece(start, [*arrays, start + np.arange(length)[:, None] / RATE]))
        start += length / RATE + 2
    rate = RATE * (ratio if sources > 1 else 1)
    before, after = cut_pieces(pieces, at, rate)
    for source in range(sources):
        parts = [piece.arrays[source] for piece in (*before, *after)]
        whole = [piece.arrays[source] for piece in pieces]
        rest = len(np.concatenate(whole)) - len(np.concatenate(parts))
        assert 0 <= rest <= ratio  # of a source with fewer samples there may be none left
        assert all((part < at + 1.01 / RATE).all() for p in before for part in [p.arrays[source]])
        assert all((part > at - 1.01 / RATE).all() for p in after for part in [p.arrays[source]])
    for piece in (*before, *after):
        assert piece.start == pytest.approx(piece.arrays[0][0, 0], abs=0.51 / RATE)


def timed(inputs, tmp_path, *flags, lines=()):
    """The parts of x0 and x1 of eight recordings of 10 s and more at 2 Hz, cut at 0.7."""
    rows = [f"x{n},1,4,run\nx{n},{6 + n / 2},{9 + n / 2},run" for n in range(8)]
    inputs["annotations"] = written(
        tmp_path / "a.csv", "\n".join(["video,start,end,label", *rows, *lines])
    )
    assert prepare(inputs, "--split=time:0.7", "--strict", *flags) == 0
    directory = inputs["output"] / "mine" / "1.0.0"
    return open_dataset(directory), report_of(directory)


def test_the_end_of_each_recording_validates(inputs, tmp_path):
    dataset, report = timed(
        inputs, tmp_path, "--rate=2", lines=["x0,7.5,9.5,run", "x1,9,10,jump", "x0,2,3,jump"]
    )
    parts = {split: [r.video for r in rows] for split, rows in dataset.splits.items()}
    whole = ["x2", "x3", "x4", "x5"]
    assert parts["training"] == ["x0#t=0,7", "x1#t=0,7.5", *whole, "x6#t=0,9", "x7#t=0,9.5"]
    ends = ["x0#t=7,10", "x1#t=7.5,10.5", "x6#t=9,13", "x7#t=9.5,13.5"]
    assert parts["validation"] == ends
    first, last = dataset.splits["training"][0], dataset.splits["validation"][0]
    np.testing.assert_array_equal(dataset.features(first), features(0)[:14])
    np.testing.assert_array_equal(dataset.features(last), features(0)[14:])
    assert (first.duration, last.duration) == (7.0, 3.0)
    np.testing.assert_allclose(first.segments, [[1, 4], [6, 7], [2, 3]])
    np.testing.assert_allclose(last.segments, [[0, 2], [0.5, 2.5]])
    (across,) = [i for i in report["defects"]["cut_in_two"]["items"] if i["video"] == "x0"]
    assert across["value"] == "[6, 9] run, cut at 7 s"
    assert "a.csv, line 3" in across["where"]
    assert [item["video"] for item in report["defects"]["not_cut"]["items"]] == whole
    rows = report["splits"]
    assert (rows["training"]["found"], rows["validation"]["found"]) == (8, 4)
    assert rows["training"]["left_out"] == rows["validation"]["left_out"] == 0
    assert any("#t=START,END" in note for note in report["notes"])


def test_recordings_of_a_known_duration_alone_are_cut_too(inputs, tmp_path):
    table = "\n".join(["video,duration", *(f"x{n},{5 + n / 2}" for n in range(8))])
    durations = written(tmp_path / "durations.csv", table)
    lines = [f"x{n},4,{5 + n / 2},run" for n in range(8)]
    inputs["annotations"] = written(
        tmp_path / "b.csv", "\n".join(["video,start,end,label", *lines, "x0,1,2,run"])
    )
    assert prepare(inputs, "--split=time:0.7", f"--durations={durations}") == 0
    dataset = open_dataset(inputs["output"] / "mine" / "1.0.0")
    (end,) = dataset.splits["validation"]
    assert end.video == "x0#t=3.5,5"  # 20 frames in 5 s
    assert (end.rate, end.num_frames) == (4.0, 6)
    np.testing.assert_allclose(end.segments, [[0.5, 1.5]])
