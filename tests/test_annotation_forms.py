"""Projects of annotation tools: read as they are, with the times equal to the millisecond."""

import datetime as dt
import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import annotation_projects as projects
from segtad_jax.data.defects import KINDS
from segtad_jax.evaluation.entries import Reading
from segtad_jax.evaluation.ground_truth import read_ground_truth
from segtad_jax.evaluation.ids import file_id
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.prepare.annotations import read_annotations


def written(folder, content, name):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def read(path, **reading):
    """{video: [(start, end, label)]} rounded to a microsecond, and the annotations."""
    annotations = read_annotations([path], Reading(**reading))
    return {
        video.video: [(round(a.start, 6), round(a.end, 6), a.label) for a in video.actions]
        for video in annotations.videos.values()
    }, annotations


def found(annotations):
    return [(d.kind, d.video, d.value) for d in annotations.defects]


def refused(path, **reading):
    with pytest.raises(InputError) as caught:
        read_annotations([path], Reading(**reading))
    return str(caught.value)


class TestElan:
    def test_a_document(self, tmp_path):
        actions, annotations = read(written(tmp_path, projects.ELAN, "walk_1.eaf"))
        assert actions == projects.ELAN_ACTIONS
        assert found(annotations) == []
        assert any("REF_ANNOTATION" in note for note in annotations.notes)

    def test_recordings_are_called_as_their_media(self, tmp_path):
        actions, annotations = read(written(tmp_path, projects.ELAN, "first.eaf"))
        assert list(actions) == ["walk_1"]
        assert any("first.eaf" in note and "'walk_1'" in note for note in annotations.notes)

    def test_a_slot_without_a_time_is_named(self, tmp_path):
        text = projects.ELAN.replace('TIME_SLOT_REF2="ts3"', 'TIME_SLOT_REF2="ts2"')
        actions, annotations = read(written(tmp_path, text, "walk_1.eaf"))
        assert actions == {"walk_1": [(5, 7.333, "Bügeln & mehr")]}
        assert found(annotations) == [("bad_time", "walk_1", "[1.25, no time] run")]
        assert "tier behaviour, annotation a1" in annotations.defects[0].where

    def test_the_offset_of_the_media(self, tmp_path):
        text = projects.ELAN.replace("MIME_TYPE", 'TIME_ORIGIN="500" MIME_TYPE')
        actions, annotations = read(written(tmp_path, text, "walk_1.eaf"))
        assert actions["walk_1"][0] == (1.75, 4.501, "run")
        assert any("0.5 s into the media" in note for note in annotations.notes)

    def test_other_units_are_refused(self, tmp_path):
        text = projects.ELAN.replace('"milliseconds"', '"PAL-frames"')
        assert "TIME_UNITS is 'PAL-frames'" in refused(written(tmp_path, text, "a.eaf"))

    def test_several_tiers_are_asked_for(self, tmp_path):
        second = '<TIER TIER_ID="speech" LINGUISTIC_TYPE_REF="default-lt"><ANNOTATION>'
        second += (
            '<ALIGNABLE_ANNOTATION ANNOTATION_ID="b1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts4">'
        )
        second += (
            "<ANNOTATION_VALUE>hello</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>"
        )
        text = projects.ELAN.replace("<LINGUISTIC_TYPE ", second + "<LINGUISTIC_TYPE ")
        path = written(tmp_path, text, "walk_1.eaf")
        message = refused(path)
        for part in (str(path), "--tier=behaviour", "--tier=all", "behaviour: 2", "'hello'"):
            assert part in message
        actions, annotations = read(path, tier="behaviour")
        assert actions == projects.ELAN_ACTIONS
        assert any("not read: speech" in note for note in annotations.notes)
        assert len(read(path, tier="all")[0]["walk_1"]) == 3
        assert len(read(path, tier="speech,behaviour")[0]["walk_1"]) == 3
        assert "has no tier 'speach'" in refused(path, tier="speach")

    def test_a_tier_of_empty_annotations_is_a_class(self, tmp_path):
        text = re.sub("<ANNOTATION_VALUE>.*?</", "<ANNOTATION_VALUE></", projects.ELAN)
        actions, annotations = read(written(tmp_path, text, "walk_1.eaf"))
        assert {label for _, _, label in actions["walk_1"]} == {"behaviour"}
        assert any("are classes: behaviour" in note for note in annotations.notes)

    @pytest.mark.parametrize("entity", ["<!DOCTYPE a [<!ENTITY x 'run'>]>", "<!doctype a>"])
    def test_declarations_are_refused(self, tmp_path, entity):
        text = projects.ELAN.replace("\n<ANN", f"\n{entity}\n<ANN", 1)
        message = refused(written(tmp_path, text, "a.eaf"))
        assert "a.eaf, line 2: has a DOCTYPE declaration" in message.replace("doctype", "DOCTYPE")

    def test_entities_that_grow_are_refused_before_they_do(self, tmp_path):
        layers = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
        bomb = f'<!DOCTYPE x [<!ENTITY e0 "ha">{layers}]><annotations>&e11;</annotations>'
        for name in ("a.eaf", "a.xml"):
            assert "DOCTYPE declaration, which is refused" in refused(written(tmp_path, bomb, name))

    def test_one_that_was_cut_off(self, tmp_path):
        message = refused(written(tmp_path, projects.ELAN[:900], "a.eaf"))
        assert re.search(r"a\.eaf: not XML \(line 1\d, column \d+", message)


class TestTextGrid:
    @pytest.mark.parametrize(
        "text",
        [projects.TEXTGRID, projects.TEXTGRID.replace("\n", " \r\n"), projects.TEXTGRID_SHORT],
    )
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_long_and_short(self, tmp_path, text, encoding):
        path = tmp_path / "walk_1.TextGrid"
        path.write_bytes(text.replace("jump", "Bügeln").encode(encoding))
        actions, annotations = read(path, tier="behaviour")
        assert actions == {
            "walk_1": [projects.TEXTGRID_ACTIONS[0], (4.001, 5, "Bügeln")],
        }
        assert annotations.videos["walk_1"].duration == 8.5
        assert any("not read: bell" in note for note in annotations.notes)

    def test_points_are_moments(self, tmp_path):
        path = written(tmp_path, projects.TEXTGRID, "walk_1.TextGrid")
        assert "on several tiers" in refused(path)
        actions, annotations = read(path, tier="all")
        assert actions == {"walk_1": projects.TEXTGRID_ACTIONS}
        assert found(annotations) == [("moment", "walk_1", "ring at 2.5")]
        assert annotations.defects[0].where.endswith("line 36, tier bell")
        widened, annotations = read(path, tier="all", moments=True)
        assert (2.5, 2.5, "ring") in widened["walk_1"]
        assert found(annotations) == []

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (projects.TEXTGRID[:500], r"a\.TextGrid: ends where a (number|text) is due"),
            (projects.TEXTGRID.replace("xmax = 1.25", "xmax = ?"), "line 18: a number is due, not"),
            (
                projects.TEXTGRID.replace('"jump"', '"jump'),
                "line 30: a text that begins here has no",
            ),
            ("ooBinaryFile\x08TextGrid", "'Save as text file...'"),
        ],
    )
    def test_damaged_ones(self, tmp_path, text, message):
        assert re.search(message, refused(written(tmp_path, text, "a.TextGrid")))


class TestAudacity:
    ACTIONS = ((1.25, 4.001, "run"), (6.5, 7, "a"))

    def test_a_file_and_a_folder(self, tmp_path):
        path = written(tmp_path, projects.AUDACITY, "walk_1.txt")
        written(tmp_path, "", "walk_2.txt")
        assert read(path)[0] == {"walk_1": list(self.ACTIONS)}
        actions, annotations = read(tmp_path)
        assert actions == {"walk_1": list(self.ACTIONS), "walk_2": []}
        assert found(annotations) == [("moment", "walk_1", "bell at 5.000000")]
        assert any("frequencies" in note for note in annotations.notes)

    def test_decimal_commas_of_old_versions(self, tmp_path):
        text = projects.AUDACITY.replace("1.25", "1,25")
        assert read(written(tmp_path, text, "walk_1.txt"))[0] == {"walk_1": list(self.ACTIONS)}

    def test_a_broken_line_is_named(self, tmp_path):
        path = written(tmp_path, projects.AUDACITY + "x\t8\tb\nlabel\n", "walk_1.txt")
        _, annotations = read(path)
        assert found(annotations)[1:] == [
            ("bad_time", "walk_1", "[x, 8] b"),
            ("bad_action", "walk_1", "label"),
        ]
        assert annotations.defects[2].where == f"{path}, line 6"


class TestBoris:
    def test_a_project(self, tmp_path):
        path = written(tmp_path, projects.boris_project(), "rats.boris")
        actions, annotations = read(path)
        assert actions == projects.BORIS_ACTIONS
        assert [video.duration for video in annotations.videos.values()] == [None, 120, 60]
        assert found(annotations) == [
            ("moment", "rat_a", "sniff at 12.4"),
            ("bad_action", "obs1", "rear starts at 155 and does not stop"),
        ]
        notes = " ".join(annotations.notes)
        for part in (
            "not told apart: left, right",
            "modifiers",
            "offset of 10 s",
            "several players",
        ):
            assert part in notes

    def test_aggregated_events(self, tmp_path):
        for text, name in (
            (projects.BORIS_AGGREGATED, "events.csv"),
            (projects.BORIS_AGGREGATED.replace(",", "\t"), "events.tsv"),
        ):
            actions, annotations = read(written(tmp_path, text, name))
            assert actions == {"rat_a": [(5.355, 9.626, "rear")], "rat_b": [(10, 20.5, "rest")]}
            assert found(annotations) == [("moment", "rat_a", "sniff at 12.4")]
            assert annotations.videos["rat_b"].duration == 60

    def test_tabular_events_of_an_older_version(self, tmp_path):
        actions, annotations = read(written(tmp_path, projects.BORIS_OLD_TABULAR, "obs1.csv"))
        assert actions == {"rat_a": [(3.3, 7.75, "rear"), (4.1, 9.5, "rear")]}
        assert found(annotations) == [("moment", "rat_a", "sniff at 8.0")]
        assert annotations.defects[0].where.endswith("obs1.csv, line 12")
        assert annotations.videos["rat_a"].duration == 359.96

    def test_a_start_without_a_stop(self, tmp_path):
        text = projects.BORIS_OLD_TABULAR.replace(
            "9.500,rat_a.mp4,359.960,25.0,two", "9.5,,,,three"
        )
        _, annotations = read(written(tmp_path, text, "obs1.csv"))
        assert ("bad_action", "rat_a", "rear starts at 4.100 and does not stop") in found(
            annotations
        )
        assert ("bad_action", "obs 1", "rear: STOP 9.5") in found(annotations)

    def test_films_one_after_another_need_their_lengths(self, tmp_path):
        project = projects.boris_project()
        del project["observations"]["obs1"]["media_info"]["length"]["films/rat_a.mp4"]
        message = refused(written(tmp_path, project, "a.boris"))
        assert "observation obs1: has 2 files" in message
        text = projects.BORIS_AGGREGATED.replace("120.000;60.000", "180.000")
        message = refused(written(tmp_path, text, "a.csv"))
        assert "a.csv, line 2" in message
        assert "export the project itself (.boris)" in message

    def test_a_code_that_is_a_number_is_a_name(self, tmp_path):
        project = projects.boris_project()
        for behaviour in project["behaviors_conf"].values():
            behaviour["code"] = 3 if behaviour["code"] == "rest" else behaviour["code"]
        for observation in project["observations"].values():
            for event in observation["events"]:
                event[2] = event[2].replace("rest", "3")
        actions, _ = read(written(tmp_path, project, "a.boris"))
        assert actions == {
            video: [(*moments, label.replace("rest", "3")) for *moments, label in rows]
            for video, rows in projects.BORIS_ACTIONS.items()
        }

    def test_an_unknown_behaviour_is_named(self, tmp_path):
        project = projects.boris_project()
        project["observations"]["live 2"]["events"][0][2] = "dig"
        _, annotations = read(written(tmp_path, project, "a.boris"))
        assert ("bad_action", "live 2", "dig is not in the project's ethogram") in found(
            annotations
        )


class TestVia:
    @pytest.mark.parametrize("form", ["json", "csv"])
    def test_a_project_and_its_export(self, tmp_path, form):
        content = projects.via_project() if form == "json" else projects.via_csv()
        path = written(tmp_path, content, f"via.{form}")
        actions, annotations = read(path)
        assert actions == projects.VIA_ACTIONS
        assert found(annotations) == [("moment", "walk_2", "bell at 2.5")]
        notes = " ".join(annotations.notes)
        assert "of free text are not read: comment" in notes
        assert "regions" in notes

    def test_two_attributes_with_choices_are_asked_for(self, tmp_path):
        project = projects.via_project()
        project["metadata"]["1_a"]["av"]["3"] = "ball"
        path = written(tmp_path, project, "via.json")
        assert "--tier=TEMPORAL-SEGMENTS" in refused(path)
        assert read(path, tier="TEMPORAL-SEGMENTS")[0] == projects.VIA_ACTIONS

    def test_damaged_ones(self, tmp_path):
        project = projects.via_project()
        project["metadata"]["1_a"]["vid"] = "9"
        assert "metadata 1_a: vid '9' is no view" in refused(written(tmp_path, project, "v.json"))
        text = projects.via_csv().replace('"[1.25', '"[1.25,,')
        message = refused(written(tmp_path, text, "v.csv"))
        assert "v.csv, line 5: [1.25,,, 4.001] is not json" in message


class TestLabelStudio:
    TASK = projects.label_studio_task(
        "/data/upload/1/1a2b3c4d-walk_1.mp4",
        projects.timeline(26, 50, "run", "jump"),
        {"type": "choices", "value": {"choices": ["good"]}, "from_name": "q", "to_name": "video"},
    )

    def test_frames_of_videos_count_from_one(self, tmp_path):
        actions, annotations = read(written(tmp_path, [self.TASK], "ls.json"), label_fps=25.0)
        assert actions == {"walk_1": [(1, 2, "run"), (1, 2, "jump")]}
        assert any("not choices" in note for note in annotations.notes)

    def test_they_need_their_rate(self, tmp_path):
        message = refused(written(tmp_path, [self.TASK], "ls.json"))
        for part in ("ls.json, task 7", "--label_fps=25", "24 a second"):
            assert part in message

    def test_time_series(self, tmp_path):
        regions = [
            projects.series(1250, 4001, "run"),
            projects.series(5000, 5000, "b", instant=True),
        ]
        path = written(
            tmp_path, [projects.label_studio_task("s3://x/wrist_1.csv", *regions)], "a.json"
        )
        actions, annotations = read(path, unit="ms")
        assert actions == {"wrist_1": [(1.25, 4.001, "run")]}
        assert found(annotations) == [("moment", "wrist_1", "b at 5000")]

    def test_dates_need_the_start_of_the_recording(self, tmp_path):
        region = projects.series("2023-01-10T10:15:00.000Z", "2023-01-10T10:15:02.500Z", "run")
        path = written(tmp_path, [projects.label_studio_task("wrist_1.csv", region)], "a.json")
        assert "nothing says when wrist_1 began" in refused(path)
        began = dt.datetime(2023, 1, 10, 10, 14, 50, tzinfo=dt.UTC)
        assert read(path, origins={"wrist_1": began}.get)[0] == {"wrist_1": [(10, 12.5, "run")]}

    def test_json_min(self, tmp_path):
        value = {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["run"]}
        task = {"id": 1, "video": "/data/local-files/?d=films%2Fwalk_1.mp4", "videoLabels": [value]}
        path = written(tmp_path, [task], "min.json")
        assert read(path, label_fps=25.0)[0] == {"walk_1": [(1, 2, "run")]}

    def test_audio(self, tmp_path):
        value = {"start": 1.25, "end": 4.001, "channel": 0, "labels": ["speech"]}
        region = {"type": "labels", "value": value, "original_length": 9.5}
        path = written(tmp_path, [projects.label_studio_task("call.wav", region)], "a.json")
        assert read(path)[0] == {"call": [(1.25, 4.001, "speech")]}

    def test_several_annotations_and_none(self, tmp_path):
        task = json.loads(json.dumps(self.TASK))
        cancelled = {"was_cancelled": True, "result": [projects.timeline(1, 5, "bad")]}
        truth = {"ground_truth": True, "result": [projects.timeline(1, 25, "true")]}
        task["annotations"] = [cancelled, *task["annotations"], truth]
        open_task = {"id": 8, "data": {"video": "walk_2.mp4"}, "annotations": []}
        actions, annotations = read(written(tmp_path, [task, open_task], "a.json"), label_fps=25.0)
        assert actions == {"walk_1": [(0, 1, "true")]}
        assert found(annotations) == [("not_annotated", "walk_2", "a task without an annotation")]
        assert any("several annotations" in note for note in annotations.notes)


class TestCvat:
    def test_tracks_and_tags(self, tmp_path):
        actions, annotations = read(written(tmp_path, projects.CVAT, "a.xml"), label_fps=25.0)
        assert actions == projects.CVAT_ACTIONS
        assert any("CVAT's shapes" in note for note in annotations.notes)

    def test_it_needs_the_rate(self, tmp_path):
        message = refused(written(tmp_path, projects.CVAT, "a.xml"))
        assert "CVAT's times are frames" in message
        assert "--label_fps=25" in message

    def test_tags_of_images_with_every_fifth_frame(self, tmp_path):
        images = "".join(
            f'<image id="{n}" name="f"><tag label="run"/></image>' for n in (5, 10, 25)
        )
        text = re.sub("<track.*</track>|<tag.*/>", "", projects.CVAT, flags=re.DOTALL)
        text = text.replace("<frame_filter>", "<frame_filter>step=5").replace(
            "</ann", images + "</ann"
        )
        actions, _ = read(written(tmp_path, text, "a.xml"), label_fps=25.0)
        assert actions == {"walk_1": [(0.2, 0.6, "run"), (1, 1.2, "run")]}

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('frame="26"', 'frame="x"', "track 0: frame='x' is no number of a frame"),
            ('id="0" label', 'id="0" task_id="9" label', "track 0: task_id '9' is no task"),
            ("<annotations>", "<notes>", "not XML"),
        ],
    )
    def test_damaged_ones(self, tmp_path, old, new, message):
        path = written(tmp_path, projects.CVAT.replace(old, new), "a.xml")
        assert message in refused(path, label_fps=25.0)

    def test_another_xml(self, tmp_path):
        assert "a.xml: XML of html" in refused(written(tmp_path, "<html/>", "a.xml"))


class TestSubtitles:
    @pytest.mark.parametrize(
        ("text", "name", "label"),
        [(projects.VTT, "walk_1.vtt", "run & jump"), (projects.SRT, "walk_1.srt", "run")],
    )
    def test_cues(self, tmp_path, text, name, label):
        actions, annotations = read(written(tmp_path, text, name))
        assert actions == {"walk_1": [(1.25, 4.001, label), (3605, 3607.333, "walk")]}
        assert found(annotations) == []


TABLE = "file,begin,stop,activity\nrec1.csv,00:00:01.250,0:00:04.001,run\nrec2.csv,1:02.5,63,jump\n"
COLUMNS = {"video": "file", "start": "begin", "end": "stop", "label": "activity"}


class TestForeignTables:
    def test_the_refusal_has_the_flag_that_reads_it(self, tmp_path):
        path = written(tmp_path, TABLE, "labels.csv")
        message = refused(path)
        assert '--columns="video=file,start=begin,end=stop,label=activity"' in message
        actions, annotations = read(path, columns=COLUMNS)
        assert actions == {"rec1.csv": [(1.25, 4.001, "run")], "rec2.csv": [(62.5, 63, "jump")]}
        (note,) = [note for note in annotations.notes if "--clock" in note]
        assert "such as 00:00:01.250" in note
        assert "labels.csv, line 2" in note

    def test_semicolons_and_decimal_commas(self, tmp_path):
        text = "Datei;von;bis;Klasse\na;1,25;4,001;gehen\n"
        columns = {"video": "Datei", "start": "von", "end": "bis", "label": "Klasse"}
        assert read(written(tmp_path, text, "a.csv"), columns=columns)[0] == {
            "a": [(1.25, 4.001, "gehen")]
        }

    def test_a_start_and_a_length(self, tmp_path):
        path = written(tmp_path, "video,onset,duration,label\na,1,2,run\n", "a.csv")
        message = refused(path, columns={"start": "onset"})
        assert "has a column 'onset' and none called 'end'; its columns are video, onset" in message
        assert "--columns=end=COLUMN" in message
        assert "start + length" in message

    def test_finish_is_an_end(self, tmp_path):
        path = written(tmp_path, "media,began,finish,activity\na,1,2,run\n", "a.csv")
        assert '"video=media,start=began,end=finish,label=activity"' in refused(path)

    @pytest.mark.parametrize(
        ("unit", "fps", "row"),
        [("ms", None, "1250,4000"), ("us", None, "1250000,4000000"), ("frames", 24.0, "30,96")],
    )
    def test_units(self, tmp_path, unit, fps, row):
        path = written(tmp_path, f"video,start,end,label\na,{row},run\n", "a.csv")
        assert read(path, unit=unit, label_fps=fps)[0] == {"a": [(1.25, 4, "run")]}
        database = {"a": {"annotations": [{"segment": json.loads(f"[{row}]"), "label": "run"}]}}
        path = written(tmp_path, {"database": database}, "a.json")
        assert read(path, unit=unit, label_fps=fps)[0] == {"a": [(1.25, 4, "run")]}

    def test_frames_need_their_rate(self, tmp_path):
        path = written(tmp_path, "video,start,end,label\na,1,2,run\n", "a.csv")
        message = refused(path, unit="frames")
        assert "a.csv, line 2: --unit=frames" in message
        assert "--label_fps=25" in message

    @pytest.mark.parametrize(
        ("column", "unit"),
        [("start_ms", "ms"), ("Start (ms)", "ms"), ("start_frame", "frames"), ("start_us", "us")],
    )
    def test_a_column_that_names_another_unit(self, tmp_path, column, unit):
        path = written(tmp_path, f"video,{column},end,label\na,1,2,run\n", "a.csv")
        message = refused(path, columns={"start": column})
        assert f"the column {column!r} seems to hold no seconds: say --unit={unit}" in message
        assert read(path, columns={"start": column}, unit="s")[0] == {"a": [(1, 2, "run")]}

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (
                {"start": "begin"},
                r"no column 'begin', as --columns=start=begin.*are video, start, end",
            ),
            ({"start": "Twice"}, r"2 columns 'Twice'"),
        ],
    )
    def test_a_column_that_is_not_there(self, tmp_path, columns, message):
        path = written(tmp_path, "video,start,end,label,twice,TWICE\na,1,2,run,,\n", "a.csv")
        assert re.search(message, refused(path, columns=columns))

    def test_a_foreign_column_comes_before_one_of_the_usual_name(self, tmp_path):
        path = written(tmp_path, "video,start,end,label,activity\na,1,2,7,run\n", "a.csv")
        assert read(path, columns={"label": "activity"})[0] == {"a": [(1, 2, "run")]}

    def test_paths_are_called_by_their_files(self, tmp_path):
        text = "video,start,end,label\nday1/a.mp4,1,2,run\nday1\\b.mp4,1,2,run\nc.mp4,1,2,run\n"
        actions, annotations = read(written(tmp_path, text, "a.csv"))
        assert sorted(actions) == ["a", "b", "c.mp4"]
        assert any("day1/a.mp4 is 'a'" in note for note in annotations.notes)

    def test_two_files_of_one_name_are_refused(self, tmp_path):
        text = "video,start,end,label\nday1/a.mp4,1,2,run\nday2/a.mp4,1,2,run\n"
        message = refused(written(tmp_path, text, "a.csv"))
        assert "a.csv, line 3: day2/a.mp4 and day1/a.mp4 would be one recording, 'a'" in message

    def test_a_table_a_recording(self, tmp_path):
        for name in ("rec1", "rec2"):
            written(tmp_path, "start,end,label\n1,2,run\n", f"{name}.csv")
        actions, annotations = read(tmp_path)
        assert actions == {"rec1": [(1, 2, "run")], "rec2": [(1, 2, "run")]}
        (note,) = [note for note in annotations.notes if "called as the file" in note]
        assert "'rec1'" in note
        assert "--columns=video=COLUMN" in note
        path = written(tmp_path, "clip,start,end,label\na,1,2,run\n", "labels.csv")
        assert '--columns="video=clip"' in refused(path)

    def test_epic_kitchens(self, tmp_path):
        path = written(tmp_path, projects.EPIC, "EPIC_100_train.csv")
        actions, annotations = read(path)
        assert actions == {"P01_01": [(0.14, 3.37, "open"), (3604.37, 3606.175, "turn-on")]}
        assert any("EPIC-KITCHENS" in n and "--columns=label=NAME" in n for n in annotations.notes)
        assert read(path, columns={"label": "noun"})[0]["P01_01"][0] == (0.14, 3.37, "door")


BEGAN = {"origin": "began"}


class TestTimesOfTheDay:
    HEAD = "video,start,end,label,began\n"

    @pytest.mark.parametrize(
        ("row", "segment"),
        [
            ("a,14:30:05.25,14:31,run,14:30", (5.25, 60)),
            ("a,23:59:59,00:00:03,run,23:59:50", (9, 13)),  # past midnight
            ("a,14:30:05,14:31,run,14:30:05.5", (-0.5, 54.5)),  # in whole seconds
            ("a,14:30,14:31,run,14:30:59", (-59, 1)),  # in whole minutes
            ("a,14:30:05,14:30:06,run,2024-05-01T14:30:00", (5, 6)),
            ("a,2024-05-01T14:30:05,2024-05-01 14:30:06.5,run,2024-05-01T14:30:00", (5, 6.5)),
            ("a,2024-05-01T14:30:05Z,2024-05-01T16:30:06+02:00,run,2024-05-01T14:30:00Z", (5, 6)),
        ],
    )
    def test_since_the_start_of_the_recording(self, tmp_path, row, segment):
        path = written(tmp_path, self.HEAD + row + "\n", "a.csv")
        assert read(path, clock=True, columns=BEGAN)[0] == {"a": [(*segment, "run")]}

    def test_starts_that_are_known_otherwise(self, tmp_path):
        path = written(tmp_path, self.HEAD + "v_a,14:30:05,14:30:06,run,\n", "a.csv")
        origins = {"v_a": dt.datetime(2024, 5, 1, 14, 30)}
        assert read(path, clock=True, origins=origins.get)[0] == {"v_a": [(5, 6, "run")]}

    @pytest.mark.parametrize(
        ("row", "columns", "says"),
        [
            ("a,14:30:05,14:30:06,run,14:30", {}, "nothing says when a began"),
            ("a,14:30:05,14:30:06,run,noon", BEGAN, "noon does not say when a began"),
            ("a,2024-05-01T14:30:05,2,run,", {}, "nothing says when a began"),
        ],
    )
    def test_without_a_start_they_are_refused(self, tmp_path, row, columns, says):
        message = refused(written(tmp_path, self.HEAD + row, "a.csv"), clock=True, columns=columns)
        for part in ("a.csv, line 2", says, "14:30:05", "--columns=origin=COLUMN"):
            assert part in message

    def test_a_zone_on_one_side_alone_is_named(self, tmp_path):
        row = "a,2024-05-01T14:30:05Z,2024-05-01T14:30:06Z,run,2024-05-01T14:30:00"
        _, annotations = read(written(tmp_path, self.HEAD + row, "a.csv"), columns=BEGAN)
        assert [d.kind for d in annotations.defects] == ["bad_time"]
        assert "zone" in KINDS["bad_time"].meaning


def test_a_setting_that_says_nothing_about_a_form_is_told(tmp_path):
    path = written(tmp_path, projects.ELAN, "walk_1.eaf")
    actions, annotations = read(path, unit="ms", columns=COLUMNS)
    assert actions == projects.ELAN_ACTIONS
    note = "walk_1.eaf: read as elan, about which --columns, --unit cannot say anything"
    assert note in annotations.notes


class TestFolders:
    def test_two_files_of_one_recording_are_told(self, tmp_path):
        written(tmp_path, projects.ELAN, "walk_1.eaf")
        assert not any("several files" in note for note in read(tmp_path)[1].notes)
        written(tmp_path, projects.ELAN, "walk_2.eaf")  # a copy whose medium was not changed
        notes = read(tmp_path)[1].notes
        assert any("walk_1.eaf and walk_2.eaf are of 'walk_1'" in note for note in notes)

    def test_a_file_a_recording(self, tmp_path):
        for number in (1, 2):
            text = projects.ELAN.replace("walk_1", f"walk_{number}")
            written(tmp_path, text, f"walk_{number}.eaf")
        written(tmp_path, "<x/>", "walk_1.pfsx")  # ELAN's settings
        written(tmp_path, "a note of mine", "read me.txt")
        actions, annotations = read(tmp_path)
        assert sorted(actions) == ["walk_1", "walk_2"]
        assert any("of it .eaf files are read, not its 1 .txt" in n for n in annotations.notes)

    def test_several_forms_are_refused(self, tmp_path):
        written(tmp_path, projects.ELAN, "walk_1.eaf")
        written(tmp_path, projects.VTT, "walk_1.vtt")
        assert "several forms (1 .eaf, 1 .vtt)" in refused(tmp_path)

    def test_tables(self, tmp_path):
        for name in "ab":
            written(tmp_path, f"video,start,end,label\n{name},1,2,run\n", f"{name}.csv")
        assert read(tmp_path)[0] == {"a": [(1, 2, "run")], "b": [(1, 2, "run")]}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("videos/rat_a.mp4", "rat_a"),
        ("C:\\films\\rat a.MP4", "rat a"),
        ("file:///C:/films/rat%20a.mp4", "rat a"),
        ("./a.b.mkv", "a.b"),
        ("a%20b.mp4", "a%20b"),
        (".mp4", ".mp4"),
    ],
)
def test_ids_of_files(file, name):
    assert file_id(file) == name


def test_the_evaluation_reads_the_same(tmp_path):
    path = written(tmp_path, projects.boris_project(), "rats.boris")
    truth = read_ground_truth(path, "validation", lenient=True)
    assert truth.ground_truth == projects.BORIS_ACTIONS
    assert any("moment" in note or "without a length" in note for note in truth.notes)


CONTENTS = {
    "a.eaf": projects.ELAN,
    "a.TextGrid": projects.TEXTGRID,
    "b.TextGrid": projects.TEXTGRID_SHORT,
    "a.txt": projects.AUDACITY,
    "a.boris": json.dumps(projects.boris_project()),
    "aggregated.csv": projects.BORIS_AGGREGATED,
    "tabular.csv": projects.BORIS_OLD_TABULAR,
    "via.json": json.dumps(projects.via_project()),
    "via.csv": projects.via_csv(),
    "ls.json": json.dumps(
        [TestLabelStudio.TASK, projects.label_studio_task("b.csv", projects.series(1, 2, "x"))]
    ),
    "a.xml": projects.CVAT,
    "epic.csv": projects.EPIC,
    "a.vtt": projects.VTT,
    "a.srt": projects.SRT,
}


def check_harmless(path):
    """All is read or named, whatever the file holds."""
    annotations = message = None
    try:
        annotations = read_annotations([path], Reading(label_fps=25.0, tier="all"))
    except InputError as error:
        message = str(error)
    if annotations is None:
        assert str(path) in message
        return
    assert {defect.kind for defect in annotations.defects} <= set(KINDS)
    for label in annotations.classes:
        assert label == " ".join(label.splitlines()) == label.encode().decode()


@pytest.mark.parametrize("name", CONTENTS)
def test_cut_off_and_damaged_files(tmp_path, name):
    rng = random.Random(name)
    content = CONTENTS[name].encode()
    path = tmp_path / name
    for _ in range(30):
        data, at = bytearray(content), rng.randrange(len(content))
        kind = rng.choice(["cut", "flip", "delete", "insert", "swap"])
        if kind == "cut":
            del data[at:]
        elif kind == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "delete":
            del data[at : at + rng.randint(1, 30)]
        elif kind == "insert":
            data[at:at] = rng.choice(
                [b'"', b"\n", b"<", b"{", b"\xff", b"1e999", b"\x00", b"]", b"\t"]
            )
        else:
            other = rng.randrange(len(content))
            data[at : at + 20], data[other : other + 20] = (
                data[other : other + 20],
                data[at : at + 20],
            )
        path.write_bytes(data)
        check_harmless(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_json_of_other_values(tmp_path_factory, data):
    """A project in which any one value is another is read, or what is wrong is named."""
    name = data.draw(
        st.sampled_from([name for name in CONTENTS if name.endswith((".json", ".boris"))])
    )
    content = json.loads(CONTENTS[name])
    places = []

    def walk(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(content)
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(values)
    path = tmp_path_factory.mktemp("json") / name
    path.write_text(json.dumps(content))
    check_harmless(path)
