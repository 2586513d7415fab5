"""What prepare says to do next, and where nothing can be done."""

import shlex

import numpy as np
import pytest

from prepare_cases import arrays, good_inputs, prepare, report_of, written
from segtad_jax.data.defects import Defect
from segtad_jax.data.records import Record
from segtad_jax.evaluation.entries import Action
from segtad_jax.prepare import build
from segtad_jax.prepare.annotations import Annotations, Video
from segtad_jax.prepare.intake import Outcome
from segtad_jax.prepare.summary import Summary

ACTION = (1.0, 3.0)
MOMENT = (2.0, 2.0)


def summary_of(splits, raw=None):
    """A summary of one recording of 10 s a split, its segments as kept and, if given, as read."""
    videos, outcomes = {}, []
    for split, segments in splits.items():
        actions = tuple(Action(*s, "run", f"a.csv, line {split}") for s in raw or segments)
        videos[split] = Video(split, split, 10.0, None, actions)
        record = Record(
            split, np.zeros((20, 1), np.float32), 2.0, 10.0,
            np.array(segments, float).reshape(-1, 2), ("run",) * len(segments),
        )  # fmt: skip
        outcomes.append(Outcome(videos[split], (record,), ()))
    lost = Defect("outside", "training", "[20, 30] run, duration 10", "a.csv, line 2")
    summary = Summary(Annotations(videos, (), ()), [lost])
    for outcome in outcomes:
        summary.add(outcome)
    return summary


@pytest.mark.parametrize(
    ("splits", "flags"),
    [
        ({"training": [ACTION], "validation": [ACTION]}, ""),
        ({"training": [ACTION], "testing": [ACTION]}, " --config.data.eval_split=testing"),
        ({"training": [ACTION], "testing": []}, " --config.data.eval_split=training"),
        ({"training": [ACTION], "validation": []}, " --config.data.eval_split=training"),
    ],
)
def test_the_command_names_a_split_that_can_be_scored(splits, flags):
    assert summary_of(splits).training_flags() == flags


@pytest.mark.parametrize(
    ("splits", "remedy"),
    [
        ({"validation": [ACTION]}, "`subset`"),
        ({"training": [], "validation": [ACTION]}, "`subset`"),
    ],
)
def test_no_command_is_printed_where_nothing_can_be_learned(splits, remedy):
    with pytest.raises(ValueError, match=remedy):
        summary_of(splits).training_flags()


def test_annotations_that_are_all_lost_are_refused():
    assert summary_of({"training": [ACTION]}).why_useless() is None
    assert summary_of({"testing": []}).why_useless() is None
    assert summary_of({"training": [MOMENT, ACTION]}).why_useless() is None
    moments = summary_of({"training": [MOMENT], "validation": [ACTION]}).why_useless()
    for part in ("[2, 2] run", "line training", "--widen="):
        assert part in moments
    lost = summary_of({"training": []}, raw=[ACTION]).why_useless()
    assert "a.csv, line 2: video 'training': outside: [20, 30] run" in lost
    beyond = summary_of({"training": [(0, 10)]}, raw=[(0.0, 2866667.0)]).why_useless()
    assert all(part in beyond for part in ("'training'", "[0, 2866667]", "10 s", "line training"))


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "write_page", lambda *page: None)
    return good_inputs(tmp_path) | {"rate": 2}


def test_what_is_printed(tmp_path, inputs, capsys):
    """Of two videos, endings and all: the command, the blocked id that is nowhere, the values."""
    lines = ["x0.mp4,1,5,run", "x1,1,5,run", "x1,2,x,jump", "x1,2,2,walk", "x2,1,5,run"]
    inputs["annotations"] = written(
        tmp_path / "a.csv",
        "\n".join(["video,start,end,label,subset", *(f"{r},train" for r in lines)]),
    )
    inputs["blocked"] = written(tmp_path / "blocked", "x2\nx 33\n")
    inputs["output"] = tmp_path / "my data"
    assert prepare(inputs) == 0
    printed = capsys.readouterr().out
    defects = report_of(inputs["output"] / "mine" / "1.0.0")["defects"]
    assert [item["video"] for item in defects["blocked"]["items"]] == ["x2"]
    assert "  x1: [2, x] jump (a.csv, line 4)" in printed
    assert "note: annotated ids matched without the ending of a file: 'x0.mp4' as 'x0'" in printed
    assert "note: blocked ids that no annotation names: 'x 33'" in printed
    assert "all of it is in report.json" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("Train: ")]
    command = shlex.split(line.removeprefix("Train: "))
    assert f"--config.data.dir={inputs['output']}" in command
    assert "--config.data.eval_split=training" in command


def test_nothing_is_written_where_every_time_is_in_another_unit(tmp_path, inputs, capsys):
    lines = [f"{video.removeprefix('v_')},1000000,5000000,run" for video in arrays()]
    inputs["annotations"] = written(
        tmp_path / "a.csv", "\n".join(["video,start,end,label", *lines])
    )
    assert prepare(inputs) == 1
    error = capsys.readouterr().err
    assert all(part in error for part in ("[1000000, 5000000]", "a.csv, line", "seconds"))
    assert not list(inputs["output"].glob("*"))
    assert prepare(inputs, "--check") == 3
    printed = capsys.readouterr().out
    assert "report.json" not in printed
    assert "nor would it be without --check: every annotation ends after its video" in printed
