"""The command: results, messages, exit statuses, limits; and that it needs NumPy alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segtad_jax.evaluation.__main__ import main
from segtad_jax.evaluation.ground_truth import predictions_in_scope, read_ground_truth
from segtad_jax.evaluation.ids import read_ids
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.evaluation.operating_point import Chosen, assess, to_json
from segtad_jax.evaluation.results import read_predictions
from segtad_jax.evaluation.scoring import evaluate
from segtad_jax.evaluation.tables import operating_point

ROOT = Path(__file__).resolve().parent.parent

TRUTH = {
    "version": "1",
    "database": {
        "a": {
            "subset": "validation",
            "duration": 100.0,
            "annotations": [{"segment": [0, 10], "label": "run"}],
        },
        "b": {
            "subset": "validation",
            "duration": "100.0",
            "annotations": [
                {"segment": ["20", "30.5"], "label": "jump"},
                {"segment": [40, 40], "label": "run"},
            ],
        },
        "c": {"subset": "validation", "duration": 100.0, "annotations": []},
        "t": {
            "subset": "training",
            "duration": 100.0,
            "annotations": [{"segment": [0, 10], "label": "swim"}],
        },
    },
}


def row(start=0.0, end=10.0, label="run", score=0.5):
    return {"segment": [start, end], "label": label, "score": score}


def results(**videos):
    return {"version": "VERSION 1.3", "results": videos, "external_data": {}}


@pytest.fixture
def run(tmp_path, capsys):
    """Writes both files, runs the command: exit status, metrics or None, stdout, stderr."""

    def run(predictions, *flags, truth=TRUTH):
        for name, content in (("gt.json", truth), ("p.json", predictions)):
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / name).write_text(text)
        output = tmp_path / "out" / "metrics.json"
        output.unlink(missing_ok=True)
        status = main(
            [
                f"--ground_truth={tmp_path / 'gt.json'}",
                f"--predictions={tmp_path / 'p.json'}",
                f"--output={output}",
                *flags,
            ]
        )
        captured = capsys.readouterr()
        metrics = json.loads(output.read_text()) if output.exists() else None
        return status, metrics, captured.out, captured.err

    return run


def test_what_was_scored_is_always_said(run) -> None:
    predictions = results(a=[row()], b=[row(label="swim"), row(60, 70)], t=[row()])
    status, metrics, out, err = run(predictions)
    assert (status, err) == (0, "")
    assert metrics["counts"] == {"videos": 3, "actions": 3, "classes": 2, "predictions": 3}
    assert metrics["missing_videos"] == ["c"]
    assert metrics["outside_subset"] == {"videos": 1, "predictions": 1}
    assert metrics["left_out"]["labels_without_truth"] == {"swim": 1}
    assert metrics["zero_length"]["actions"] == 1
    assert metrics["zero_length"]["videos"] == ["b"]
    assert "3 videos, 3 actions, 2 classes, 3 predictions" in out
    assert "videos without a prediction: 1 (c)" in out
    assert "counted as false positives: 1 in 1 videos, as officially" in out
    assert "predict --features=DATA --subset=validation detects in that part alone" in out
    assert "left out, labels without truth: 1 (swim)" in out
    assert "actions of zero length: 1 in b: counted as actions; no prediction can match" in out


def test_the_numbers_are_those_of_the_functions(run) -> None:
    _, metrics, out, _ = run(results(a=[row()], b=[row(20, 28, "jump", 0.9), row(60, 70)]))
    ground_truth = {
        "a": [(0.0, 10.0, "run")],
        "b": [(20.0, 30.5, "jump"), (40.0, 40.0, "run")],
        "c": [],
    }
    predictions = {
        "a": [(0.0, 10.0, "run", 0.5)],
        "b": [(20, 28, "jump", 0.9), (60, 70, "run", 0.5)],
    }
    durations = dict.fromkeys("abc", 100.0)
    expected = json.loads(json.dumps(evaluate(ground_truth, predictions, durations=durations)))
    assert {key: metrics[key] for key in expected} == expected
    assert metrics["map"]["0.50"] == pytest.approx((1 + 0.5) / 2)
    assert metrics["map"]["0.80"] == pytest.approx((0 + 0.5) / 2)
    assert f"{100 * metrics['map']['average']:.2f}" in out
    assert len(metrics["diagnosis"]["sensitivity"]["coverage"]) == 5


def test_right_and_wrong_at_a_threshold(run, tmp_path) -> None:
    predictions = results(
        a=[row(), row(50, 60, score=0.2)], b=[row(20, 30.5, "run", 0.4), row(60, 70, "jump", 0.1)]
    )
    _, metrics, out, _ = run(predictions, "--threshold=0.2")
    point = metrics["operating_point"]
    assert [point[name] for name in ("right", "false", "missed")] == [1, 2, 2]
    assert point["precision"] == pytest.approx(1 / 3)
    assert point["confusion"] == [
        ["jump", "run", 1],
        ["run", "run", 1],
        ["run", None, 1],
        [None, "run", 1],
    ]
    assert "measured at a given threshold" in out
    assert f"F1 {100 * point['f1']:.2f} % (best possible {100 * point['best_f1']:.2f} %)" in out
    matrix = out[out.index("action, found as") :].splitlines()[:4]
    assert [line.split()[-3:] for line in matrix[1:]] == [
        [".", "1", "."],
        [".", "1", "1"],
        [".", "1", "."],
    ]
    chosen = to_json(Chosen({"run": 0.3, "jump": 0.9}, ["t"], {}))
    (tmp_path / "thresholds-8.json").write_text(json.dumps(chosen))
    _, metrics, out, _ = run(predictions, f"--threshold={tmp_path / 'thresholds-8.json'}")
    assert metrics["operating_point"]["false"] == 1
    assert metrics["operating_point"]["thresholds"] == {"run": 0.3, "jump": 0.9}
    assert "on other recordings" in out
    _, metrics, out, _ = run(predictions, "--threshold=auto")
    assert "by cross-fitting" in out
    status, _, _, err = run(predictions, "--threshold=high")
    assert status == 1
    assert "--threshold=high is neither auto, a score, nor a file that is there" in err
    status, _, _, err = run(predictions, "--threshold=0.2", "--metrics=ar")
    assert status == 1
    assert "--threshold needs labels" in err


def test_many_classes_are_a_list_of_what_is_confused_most() -> None:
    labels = [f"class {index:02d}" for index in range(14)]
    truth = {"x": [(10.0 * i, 10.0 * i + 5, label) for i, label in enumerate(labels)]}
    rows = {"x": [(s, e, "class 03", 0.5) for s, e, _ in truth["x"][:3]]}
    text = operating_point(assess(truth, rows, 0.1))
    assert "most confused: class 00 as class 03 1, class 01 as class 03 1" in text
    assert "found as" not in text


def test_flags(run, tmp_path) -> None:
    predictions = results(a=[row()], b=[row(20, 30.5, "jump")])
    _, metrics, _, _ = run(predictions, "--metrics=map", "--tiou=0.3:0.1:0.7")
    assert list(metrics["map"]) == ["0.30", "0.40", "0.50", "0.60", "0.70", "average"]
    assert not {"ar", "diagnosis"} & set(metrics)
    _, metrics, _, _ = run(predictions, "--metrics=ar", "--tiou=0.5,0.75")
    assert list(metrics["ar"]["per_tiou"]) == ["0.50", "0.75"]
    assert "map" not in metrics
    _, metrics, _, _ = run(results(t=[row(label="swim")]), "--subset=training")
    assert metrics["map"]["average"] == 1.0
    (tmp_path / "blocked.txt").write_text("b\nelsewhere\n")
    _, metrics, out, _ = run(predictions, f"--blocked={tmp_path / 'blocked.txt'}")
    assert metrics["counts"] == {"videos": 2, "actions": 1, "classes": 1, "predictions": 1}
    assert metrics["left_out"]["blocked_videos"] == ["b"]
    assert "left out, blocked videos: 1 (b)" in out


def test_blocked_videos_of_another_subset_are_no_false_positives(run, tmp_path) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text("t")
    _, metrics, _, _ = run(results(a=[row()], t=[row()]), f"--blocked={path}")
    assert metrics["outside_subset"]["predictions"] == 0
    status, _, _, err = run(results(t=[row()]), f"--blocked={path}")
    assert status == 1
    assert "no prediction is left to score: all are blocked" in err


def test_blocked_ids_match_with_or_without_v_and_those_that_match_nothing_are_named(
    run, tmp_path
) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text("v_b\nnowhere\n")
    _, metrics, _, _ = run(results(a=[row()]), f"--blocked={path}")
    assert metrics["counts"]["videos"] == 2
    (note,) = metrics["notes"]
    assert "blocked ids that are not in" in note
    assert note.endswith(": 'nowhere'")


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b'["a", "b"]', ["a", "b"]),
        (b"a\nv_b\n\n", ["a", "v_b"]),
        (b"cow 2\n  cow 3 \n", ["cow 2", "cow 3"]),
        (b"\xef\xbb\xbfcow3\r\ncow4\r\n", ["cow3", "cow4"]),
        (b"", []),
    ],
)
def test_lists_of_ids(tmp_path, content, ids) -> None:
    path = tmp_path / "blocked"
    path.write_bytes(content)
    assert read_ids(path) == ids


@pytest.mark.parametrize("content", ['{"a": 1}', "[1]"])
def test_json_that_is_no_list_of_ids(tmp_path, content) -> None:
    path = tmp_path / "blocked.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"blocked.json: .* json list .* one id a line"):
        read_ids(path)


@pytest.mark.parametrize(
    "flag",
    ["--tiou=0.5:0:0.9", "--tiou=x", "--tiou=1.5", "--metrics=f1", "--protocol=x", "--what"],
)
def test_wrong_command_lines(run, flag) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(results(), flag)
    assert exit_.value.code == 2


def test_proposals_without_labels(run) -> None:
    proposals = [{"segment": [start, start + 10], "score": 1} for start in (0, 20)]
    predictions = results(a=proposals[:1], b=proposals[1:])
    status, metrics, _, _ = run(predictions, "--metrics=ar")
    assert status == 0
    assert metrics["ar"]["per_tiou"]["0.50"] == pytest.approx(2 / 3)
    status, _, _, err = run(predictions)
    assert status == 1
    assert "video 'a', detection 0: has no 'label'; proposals without labels" in err


def test_a_form_for_people_is_no_result_file(tmp_path):
    path = tmp_path / "found.csv"
    path.write_text("video,start,end,label,score\na,1,2,run,0.5\n")
    with pytest.raises(ValueError, match=r"found\.csv: not JSON.*Give the json .*--output"):
        read_predictions(path)
    with pytest.raises(ValueError, match=r"none\.csv: there is no such file$"):
        read_predictions(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ("{'results': {}}", r"p.json: not JSON (line 1, column 2"),
        ('{"version": "1", "results": {}', r"p.json: not JSON (line 1"),
        ([1], r"p.json: must be an object with 'results'"),
        ({"detections": {}}, r"p.json: has no 'results'; its keys are 'detections'"),
        ({"results": {}, "external_data": {}}, r"p.json: has no 'version', which the official"),
        ({"results": {}}, r"p.json: has no 'version' and no 'external_data'"),
        ({"results": [], "version": "", "external_data": ""}, r"'results' must be an object"),
        (results(a={}), r"p.json: video 'a': must be a list of detections"),
        (results(a=[row(), row(9, 3)]), r"video 'a', detection 1: segment [9, 3] ends before it"),
        (results(a=[row(float("nan"))]), r"video 'a', detection 0: segment: nan is not a finite"),
        (results(a=[row("1")]), r"video 'a', detection 0: segment: '1' is text; write a number"),
        (results(a=[row(score="0.9")]), r"video 'a', detection 0: score: '0.9' is text; write a"),
        (results(a=[row(score=None)]), r"score: None is not a finite number"),
        (results(a=[row(score=float("inf"))]), r"score: inf is not a finite number"),
        (results(a=[row(score=True)]), r"score: True is not a finite number"),
        (results(a=[{"segment": [1], "score": 1, "label": "run"}]), r"segment [1] must be [start"),
        (results(a=[{"start": 1, "label": "run"}]), r"has no 'segment'; its keys are ['label', 's"),
        (results(a=[[0, 1, "run"]]), r"detection 0: [0, 1, 'run'] must be an object"),
        (results(a=[row(label=7)]), r"label 7 must be the name of the class, not its id"),
        (results(a=[row(label="7")]), r"gt.json: '7'; write names of classes, not their ids"),
        (results(a=[row(label="hop")]), r"1 of 1 labels are not in"),
        (results(z=[row()]), r"1 of 1 videos are not in"),
        (results(a=[row()], v_a=[row()]), r"one video under two ids, one of them 'v_a'"),
        (
            results(a=[row(0, 250), row(25, 3000)], b=[row(50, 60)]),
            "2 of 3 predictions end after their video: are the times in frames? They must be sec",
        ),
        (
            '{"version": "", "external_data": {}, "results": {"a": [], "a": []}}',
            r"p.json: the key 'a' occurs twice in one object",
        ),
        (
            '{"version": "", "external_data": {}, "results": {"a": [{"score": 1, "score": 2}]}}',
            r"p.json: the key 'score' occurs twice",
        ),
    ],
)
def test_bad_predictions(run, predictions, message) -> None:
    status, metrics, out, err = run(predictions)
    assert (status, metrics, out) == (1, None, "")
    assert err.startswith("error: ")
    assert message in err


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("nothing", r"gt.json: not JSON (line 1"),
        ({"results": {}}, r"gt.json: this is a file of results"),
        ({"data": {}}, r"gt.json: expected ActivityNet's form, an object with 'database'"),
        ({"database": []}, r"gt.json: expected ActivityNet's form, an object with 'database'"),
        ({"database": {"a": 7}}, r"gt.json, video a: 7 must be an object with 'subset'"),
        ({"database": {"a": {}}}, r"'validation' has no annotated action"),
        (
            {"database": {"a": {"subset": "val"}, "b": {}, "c": {}}},
            r"gt.json, video b: has no 'subset', nor have 1 others. Mend it, or score with --len",
        ),
        (
            {"database": {"a": TRUTH["database"]["a"], "t": {"subset": "train"}, "v_t": {}}},
            r"gt.json, video v_t: v_t and t must occur once; remove one",
        ),
        (
            {"database": {"a": {"subset": "val"}, "v_a": {"subset": "val"}}},
            r"gt.json, video v_a: v_a and a must occur once; remove one",
        ),
        (
            '{"database": {"a": {"subset": "val", "subset": "val"}}}',
            r"gt.json: the key 'subset' twice in one object must occur once; remove one",
        ),
        (
            {"database": {"a": {"subset": "x"}}},
            r"no video of the subset 'validation'; it has: x (1)",
        ),
        ({"database": {"a": {"subset": "validation"}}}, r"'validation' has no annotated action"),
    ],
)
def test_bad_ground_truth(run, truth, message) -> None:
    status, _, _, err = run(results(a=[row()]), truth=truth)
    assert status == 1
    assert message in err
    if "remove one" in message or "must be an object" in message:
        assert message in run(results(a=[row()]), "--lenient", truth=truth)[3]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("segment", [], r"{'segment': [], 'label': 'run'} must have 'segment': [start, end]"),
        ("segment", [9, 3], r"segment [9, 3] must end after it starts"),
        ("segment", [0, "NaN"], r"[0, NaN] run must have two finite numbers of seconds"),
        ("segment", [0, "x"], r"[0, x] run must have two finite numbers of seconds"),
        ("label", None, r"label None must have 'segment': [start, end] and 'label': the name"),
        ("label", True, r"label True must have 'segment': [start, end] and 'label': the name"),
    ],
)
def test_bad_actions(run, field, value, message) -> None:
    truth = json.loads(json.dumps(TRUTH))
    truth["database"]["a"]["annotations"][0][field] = value
    predictions = results(b=[row(20, 30, "jump")])
    status, _, _, err = run(predictions, truth=truth)
    assert status == 1
    assert f"gt.json, video a, annotation 0: {message}" in err
    assert "--lenient" in err
    status, metrics, _, _ = run(predictions, "--lenient", truth=truth)
    assert (status, metrics["counts"]["actions"]) == (0, 2)
    assert any(message in note for note in metrics["notes"])
    truth["database"]["a"]["subset"] = "training"
    assert run(predictions, truth=truth)[0] == 0  # what is not scored may be broken


def test_missing_files(run, tmp_path, capsys) -> None:
    assert main(["--ground_truth=nowhere.json", "--predictions=nowhere.json"]) == 1
    assert "nowhere.json: there is no such file" in capsys.readouterr().err
    (tmp_path / "latin.json").write_bytes(b'{"results": "\xe9"}')
    with pytest.raises(InputError, match=r"latin.json: not UTF-8 text"):
        read_predictions(tmp_path / "latin.json")
    with pytest.raises(InputError, match=r"is a folder, not a file"):
        read_predictions(tmp_path)


def test_lenient_leaves_out_and_says_so(run) -> None:
    predictions = {
        "results": {
            "a": [row(), row(9, 3), row(score="1"), row(label="hop")],
            "z": [row()],
        }
    }
    truth = json.loads(json.dumps(TRUTH))
    truth["database"]["b"]["annotations"][0]["segment"] = [9, 3]
    status, metrics, out, _ = run(predictions, "--lenient", truth=truth)
    assert status == 0
    assert metrics["counts"] == {"videos": 3, "actions": 2, "classes": 1, "predictions": 1}
    assert metrics["left_out"]["unknown_videos"] == {"z": 1}
    assert metrics["left_out"]["unknown_labels"] == {"hop": 1}
    for line in (
        "gt.json, video b, annotation 0: segment [9, 3] must end after it starts; left out",
        "has no 'version' and no 'external_data'",
        "2 broken predictions left out",
        "left out, unknown videos: 1 (z)",
        "left out, unknown labels: 1 (hop)",
    ):
        assert line in out


def test_lenient_does_not_score_nothing_as_zero(run) -> None:
    status, _, _, err = run(results(z=[row()]), "--lenient")
    assert status == 1
    assert "no prediction is left to score: 1 of 1 videos are not in" in err


def test_lenient_warns_of_frames(run) -> None:
    status, _, out, _ = run(results(a=[row(0, 3000)]), "--lenient")
    assert status == 0
    assert "are the times in frames?" in out


@pytest.mark.parametrize("duration", [0, -1, "nan", None])
def test_a_duration_that_is_none_is_not_believed(run, duration) -> None:
    truth = json.loads(json.dumps(TRUTH))
    for video in truth["database"].values():
        video["duration"] = duration
    status, metrics, _, _ = run(results(a=[row()]), truth=truth)
    assert status == 0
    assert "coverage" not in metrics["diagnosis"]["sensitivity"]


@pytest.mark.slow
def test_activitynet_truth_by_command(run, shared_data) -> None:
    """Three segments of zero length keep two classes below 1, and are named."""
    path = shared_data / "activitynet13" / "sample_detection_prediction.json"
    database = {
        video: {
            "subset": "validation",
            "annotations": [{"segment": r["segment"], "label": r["label"]} for r in rows],
        }
        for video, rows in json.loads(path.read_text())["results"].items()
    }
    _, metrics, out, _ = run(path.read_text(), truth={"database": database})
    assert metrics["counts"]["videos"] == 4926
    assert metrics["zero_length"]["actions"] == 3
    assert metrics["missing_videos"] == []
    below = [label for label, values in metrics["per_class"].items() if values["average"] < 1]
    assert 1 <= len(below) <= 3
    assert "4,926 videos, 7,654 actions, 200 classes, 7,654 predictions" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "subset", "protocol", "videos", "actions"),
    [
        ("thumos_gt.json", "test", "activitynet", 210, 3311),
        ("test_Annotation.csv", "test", "activitynet", 213, 3358),
        ("val_Annotation.csv", "validation", "thumos14", 200, 3007),
        ("official_txt", "test", "thumos14", 213, 3358),
    ],
)
def test_thumos_forms(shared_data, tmp_path, file, subset, protocol, videos, actions) -> None:
    path = shared_data / "thumos14" / file
    annotations = read_ground_truth(path, subset)
    truth = annotations.ground_truth
    rows = {
        video: [
            {"segment": [start, end], "label": label, "score": 1.0}
            for start, end, label in own
            if label != "Ambiguous"
        ]
        for video, own in truth.items()
    }
    (tmp_path / "p.json").write_text(json.dumps(results(**rows)))
    output = tmp_path / "m.json"
    flags = [f"--ground_truth={path}", f"--predictions={tmp_path / 'p.json'}", f"--output={output}"]
    assert main([*flags, f"--subset={subset}", f"--protocol={protocol}"]) == 0
    metrics = json.loads(output.read_text())
    assert metrics["counts"]["videos"] == videos
    assert metrics["counts"]["actions"] == actions
    assert metrics["counts"]["classes"] == 20
    assert metrics["map"]["average"] > 0.999
    assert ("0.30" in metrics["map"]) == (protocol == "thumos14")
    assert metrics["ambiguous"] == sum(r[2] == "Ambiguous" for own in truth.values() for r in own)
    assert "Ambiguous" not in metrics["per_class"]


def test_wrong_csv_and_txt(tmp_path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("video-name,t-init,t-end,label-idx\nx,0,1,3\n")
    with pytest.raises(
        InputError, match=r"must name .* video,start,end,label .*is: video-name,t-init,t-end,lab"
    ):
        read_ground_truth(path, "test")
    path.write_text("video,type,start,end\nvideo_test_0000001,Diving,0,x\n")
    with pytest.raises(InputError, match=r"x.csv, line 2: \[0, x\] Diving must have two finite"):
        read_ground_truth(path, "test")
    (tmp_path / "Diving_test.txt").write_text("video_test_0000001 0.0\n")
    with pytest.raises(InputError, match=r"Diving_test.txt, line 1: video_test_0000001 0.0 must"):
        read_ground_truth(tmp_path, "test")


def test_scope_leaves_the_input_as_it_is(tmp_path) -> None:
    (tmp_path / "gt.json").write_text(json.dumps(TRUTH))
    annotations = read_ground_truth(tmp_path / "gt.json", "validation")
    predictions = {"a": [(0.0, 1.0, "run", 0.5), (0.0, 1.0, "swim", 0.5)]}
    kept, _ = predictions_in_scope(annotations, predictions)
    assert kept == {"a": [(0.0, 1.0, "run", 0.5)]}
    assert len(predictions["a"]) == 2


@pytest.mark.slow
def test_numpy_alone_is_enough(tmp_path) -> None:
    """A new environment with NumPy and this package without its dependencies scores a file."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"numpy=={np.__version__}"], check=True)
    subprocess.run([*pip, "--no-deps", ROOT], check=True)
    (tmp_path / "gt.json").write_text(json.dumps(TRUTH))
    (tmp_path / "p.json").write_text(json.dumps(results(a=[row()])))
    command = [python, "-m", "segtad_jax.evaluation", "--ground_truth=gt.json"]
    command += ["--predictions=p.json", "--output=metrics.json"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    assert json.loads((tmp_path / "metrics.json").read_text())["map"]["average"] == 0.25
    report = subprocess.run(
        [*command, "--report=page.html"],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert report.returncode == 1
    assert "--report and --figures need" in report.stderr
    assert "install segtad_jax with its dependencies" in report.stderr


MEASURE = """
import pathlib, re, sys
from segtad_jax.evaluation.results import read_predictions
predictions, _ = read_predictions(sys.argv[1])
print(sum(map(len, predictions.values())))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
print(int(peak[1]) / 2**20)  # getrusage would count what the test's own process had
"""


@pytest.mark.slow
def test_memory_is_at_most_six_times_a_file(tmp_path) -> None:
    """A quarter of a gigabyte within 1.5 GB of memory; both grow alike."""
    path = tmp_path / "large.json"
    numbers = np.random.default_rng(0).random((1000, 3)).tolist()
    rows = json.dumps([row(a * 100, 100 + b * 100, "run", score) for a, b, score in numbers])
    videos = 2**28 // len(rows)
    with path.open("w") as file:
        file.write('{"version": "", "external_data": {}, "results": {')
        file.writelines(f'{", " if video else ""}"v{video}": {rows}' for video in range(videos))
        file.write("}}")
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, path],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    count, gigabytes = measured.stdout.split()
    assert int(count) == 1000 * videos
    assert float(gigabytes) < 1.5


def test_annotations_of_other_tools(tmp_path, capsys):
    """The same flags as prepare's say how they are read."""
    predictions = tmp_path / "p.json"
    rows = [{"segment": [1.25, 4.0], "label": "run", "score": 0.5}]
    predictions.write_text(json.dumps(results(a=rows)))
    truth = tmp_path / "labels.csv"
    truth.write_text("file,begin,stop,activity\nfilms/a.mp4,30,96,run\n")
    arguments = [f"--ground_truth={truth}", f"--predictions={predictions}"]
    assert main(arguments) == 1
    columns = '--columns="video=file,start=begin,end=stop,label=activity"'
    assert columns in capsys.readouterr().err
    read = [columns.replace('"', ""), "--unit=frames", "--label_fps=24"]
    output = tmp_path / "metrics.json"
    assert main([*arguments, *read, f"--output={output}"]) == 0
    assert json.loads(output.read_text())["map"]["average"] == 1.0
    assert "films/a.mp4 is 'a'" in capsys.readouterr().out
