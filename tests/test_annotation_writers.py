"""Detections in the forms of annotation tools, read again: equal to the millisecond."""

import itertools
import json

import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from segtad_jax.evaluation.annotation_writers import FORMS, written_files
from segtad_jax.evaluation.entries import Reading
from segtad_jax.evaluation.forms.layers import Writing, layers
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.predict.forms import write_forms
from segtad_jax.prepare.annotations import read_annotations

FPS = 25.0
RESULTS = {
    "walk 1": [
        (1.2504, 4.0013, "run", 0.91),
        (3.0, 5.5, "run", 0.4),  # overlaps with one of its class
        (4.0013, 7.3331, 'say "hi" & <go>', 0.33),
        (3661.5, 3662.25, "Bügeln", 0.1234567),
    ],
    "v_b.2": [(0.0, 2.0, "run", 0.5)],
    "empty": [],
}
KEEP_SCORES = {"csv", "boris", "via", "label-studio", "cvat", "vtt"}


def write(folder, form, results, writing):
    for name, text in written_files(form, "found", results, writing).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    ending, for_each, _ = FORMS[form]
    return folder / f"found.{form}" if for_each else folder / f"found{ending}"


def rounded(results, places=3):
    return {
        video: sorted((round(a, places), round(b, places), label) for a, b, label, *_ in rows)
        for video, rows in results.items()
    }


def read(path, **reading):
    annotations = read_annotations([path], Reading(**reading))
    assert annotations.defects == ()
    return {
        video.video: [(a.start, a.end, a.label) for a in video.actions]
        for video in annotations.videos.values()
    }


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("cvat", "label-studio")])
def test_round_trips(tmp_path, form):
    path = write(tmp_path, form, RESULTS, Writing())
    assert rounded(read(path)) == rounded(RESULTS)


@pytest.mark.parametrize("form", ["cvat", "label-studio"])
def test_round_trips_in_frames(tmp_path, form):
    path = write(tmp_path, form, RESULTS, Writing(label_fps=FPS))
    frames = {
        video: [(round(a * FPS) / FPS, round(b * FPS) / FPS, label) for a, b, label, _ in rows]
        for video, rows in RESULTS.items()
    }
    assert rounded(read(path, label_fps=FPS), 9) == rounded(frames, 9)


def test_time_series_of_label_studio_are_in_seconds(tmp_path):
    path = write(tmp_path, "label-studio", RESULTS, Writing())
    assert rounded(read(path)) == rounded(RESULTS)
    assert json.loads(path.read_text())[0]["data"] == {"ts": "walk 1.csv"}


@pytest.mark.parametrize("form", sorted(KEEP_SCORES))
def test_scores_are_kept_where_the_form_has_a_place(form):
    files = written_files(form, "found", RESULTS, Writing(label_fps=FPS))
    text = "".join(files.values())
    for score in ("0.91", "0.4", "0.33", "0.123457" if form != "label-studio" else "0.1234567"):
        assert score in text


def test_confidences_are_a_column_of_a_csv_that_is_read_all_the_same(tmp_path):
    path = write(tmp_path, "csv", RESULTS, Writing(confidence=[[0.0, 0.5], [1.0, 0.7]]))
    lines = path.read_text().splitlines()
    assert lines[0] == "video,start,end,label,score,confidence"
    for line in lines[1:]:
        *_, score, confidence = line.split(",")
        assert confidence == (f"{0.5 + 0.2 * float(score):.3f}" if score else "")
    assert rounded(read(path)) == rounded(RESULTS)


@pytest.mark.parametrize("form", ["elan", "boris", "via", "label-studio", "cvat"])
def test_media_are_where_the_pattern_says(form):
    writing = Writing(label_fps=FPS, media_pattern="../videos/{id}.mkv")
    text = "".join(written_files(form, "found", RESULTS, writing).values())
    assert "../videos/walk 1.mkv" in text
    assert "../videos/v_b.2.mkv" in text


def test_what_a_person_corrected_is_read(tmp_path):
    path = write(tmp_path, "elan", RESULTS, Writing())
    file = path / "walk 1.eaf"
    text = file.read_text(encoding="utf-8").replace('"1250"', '"900"').replace("Bügeln", "jump")
    file.write_text(text, encoding="utf-8")
    assert read(path)["walk 1"][0] == (0.9, 4.001, "run")
    assert (3661.5, 3662.25, "jump") in read(path)["walk 1"]


@pytest.mark.parametrize("form", [form for form, (_, for_each, _) in FORMS.items() if for_each])
def test_an_id_that_is_no_name_of_a_file_is_refused(form):
    for video in ("../x", "a/b", "", "C:\\x", "x\n"):
        with pytest.raises(InputError, match=f"--format={form}.*--format=csv") as caught:
            written_files(form, "found", {video: []}, Writing(label_fps=FPS))
        assert repr(video) in str(caught.value)


def test_frames_need_their_rate():
    with pytest.raises(InputError, match="--label_fps=25"):
        written_files("cvat", "found", RESULTS, Writing())


def test_files_that_a_person_may_have_changed_are_left_alone(tmp_path):
    output = epath.Path(tmp_path / "found.json")
    written = write_forms(output, ["csv", "elan"], RESULTS, Writing())
    assert [path.name for path in written] == ["found.csv", "found.elan"]
    file = tmp_path / "found.elan" / "walk 1.eaf"
    whole = file.read_bytes()
    assert write_forms(output, ["csv", "elan"], RESULTS, Writing()) == written
    file.write_bytes(whole + b"<!-- mine -->")
    (tmp_path / "found.csv").unlink()
    with pytest.raises(ValueError, match=r"walk 1\.eaf is there.*Move it away"):
        write_forms(output, ["csv", "elan"], RESULTS, Writing())
    assert not (tmp_path / "found.csv").exists()
    assert file.read_bytes().endswith(b"mine -->")


labels = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=12)
times = st.integers(0, 10**7)


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(st.tuples(times, st.integers(1, 10**5), labels), max_size=8, unique=True),
    form=st.sampled_from([form for form in FORMS if form not in ("cvat", "label-studio")]),
)
def test_any_detections_return(tmp_path_factory, rows, form):
    """Whatever overlaps, and whatever classes are called, as long as they are names."""
    results = {
        "a": [
            (start / 1000, (start + length) / 1000, label.strip(), 0.5)
            for start, length, label in rows
            if label.strip()
        ]
    }
    path = write(tmp_path_factory.mktemp(form), form, results, Writing())
    annotations = read_annotations([path])
    assert {d.kind for d in annotations.defects} <= {"label_changed"}
    back = [(a.start, a.end) for a in annotations.videos["a"].actions]
    assert [(round(a, 3), round(b, 3)) for a, b in sorted(back)] == sorted(
        (a, b) for a, b, *_ in results["a"]
    )


@given(st.lists(st.tuples(times, st.integers(1, 100))))
def test_layers_do_not_overlap_and_are_as_few_as_can_be(pairs):
    rows = [(float(start), float(start + length), "x", 1.0) for start, length in pairs]
    found = layers(rows)
    assert sorted(row for layer in found for row in layer) == sorted(rows)
    for layer in found:
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(layer))
    most = max((sum(s <= at < e for s, e, *_ in rows) for at, *_ in rows), default=0)
    assert len(found) == most


def test_where_detections_end_is_not_taken_for_the_end_of_the_recording(tmp_path):
    path = write(tmp_path, "textgrid", {"walk": [(1.0, 73.0, "run", 0.5)]}, Writing())
    videos = read_annotations([path]).videos
    assert videos["walk"].actions[0].end == 73.0
    assert videos["walk"].duration is None
