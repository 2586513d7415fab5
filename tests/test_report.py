"""The page, its data and the figures."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from evaluation_cases import random_case, slow_tiou
from report_cases import CLASSES, EVIL_LABEL, EVIL_VIDEO, truths_and_predictions, write_page
from segtad_jax.evaluation.__main__ import main
from segtad_jax.evaluation.average_precision import detection_map, mean_precision_recall
from segtad_jax.evaluation.diagnosis import OUTCOMES
from segtad_jax.evaluation.instances import tabulate
from segtad_jax.evaluation.report import curves, figures, videos
from segtad_jax.evaluation.report.page import write_report
from segtad_jax.evaluation.scoring import evaluate

THRESHOLDS = np.linspace(0.5, 0.95, 10)


class Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("report")).read_text()


def test_ids_and_labels_are_never_markup(page) -> None:
    elements = Elements(page)
    assert len(elements.named("script")) == 2
    assert all("class" in attributes for attributes in elements.named("i"))  # only the changes
    assert all("onerror" not in attributes for _, attributes in elements.elements)
    assert all(image["src"].startswith("data:image/svg+xml") for image in elements.named("img"))
    assert EVIL_LABEL in elements.text  # as text, in the table of classes
    assert "<b>bold" not in page
    data = json.loads(page.split('<script id="data" type="application/json">')[1].split("</")[0])
    assert EVIL_VIDEO in [video["id"] for video in data["videos"]]
    assert EVIL_LABEL in data["labels"]


def test_the_page_needs_nothing_from_elsewhere(page) -> None:
    addresses = [
        attributes[key]
        for _, attributes in Elements(page).elements
        for key in ("src", "href")
        if key in attributes
    ]
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "default-src 'none'" in page


def test_the_page_has_every_part(page) -> None:
    text = " ".join(" ".join(Elements(page).text).split())
    sections = [section.get("id") for section in Elements(page).named("section")]
    assert sections == ["videos", "figures", "classes", "training", "config"]
    shown = [image["alt"] for image in Elements(page).named("img")]
    assert shown == [
        "map by tiou",
        "precision recall",
        "average recall",
        "error types",
        "sensitivity",
        "training curves",
    ]
    assert "14 videos, 52 actions, 3 classes, 480 predictions scored" in text
    assert "at step 190" in text
    assert "videos without a prediction 2 empty, video 00" in text
    assert '"width": 64' in text


def test_the_summary_has_the_numbers_and_their_changes(page) -> None:
    ground_truth, predictions, durations = truths_and_predictions(0)
    metrics = evaluate(ground_truth, predictions, durations=durations)
    others = {video: rows[::2] for video, rows in predictions.items()}
    other = evaluate(ground_truth, others, durations=durations)
    text = " ".join(" ".join(Elements(page).text).split())
    change = 100 * (metrics["map"]["average"] - other["map"]["average"])
    assert f"average mAP {100 * metrics['map']['average']:.2f} {change:+.2f}" in text
    assert f"AUC {100 * metrics['ar']['auc']:.2f}" in text


@pytest.mark.parametrize("metrics", [("map",), ("ar",), ("diagnosis",), ("map", "ar")])
def test_parts_that_are_not_there_are_left_out(tmp_path, metrics) -> None:
    ground_truth, predictions, _ = truths_and_predictions(1)
    result = evaluate(ground_truth, predictions, metrics=metrics)
    write_report(tmp_path / "x" / "page.html", ground_truth, predictions, result)
    names = [path.name for path in (tmp_path / "x").iterdir()]
    assert names == ["page.html"]  # and nothing temporary
    sections = Elements((tmp_path / "x" / "page.html").read_text()).named("section")
    assert ("classes" in [section["id"] for section in sections]) == ("map" in metrics)


def test_without_any_prediction(tmp_path) -> None:
    ground_truth, _, _ = truths_and_predictions(1)
    write_report(tmp_path / "p.html", ground_truth, {}, evaluate(ground_truth, {}))
    text = " ".join(" ".join(Elements((tmp_path / "p.html").read_text()).text).split())
    assert "videos without a prediction 14" in text


def test_thumos_protocol(tmp_path) -> None:
    """Ambiguous segments are no class of the page."""
    ground_truth = {"x": [(0.0, 10.0, "a"), (20.0, 30.0, "Ambiguous")]}
    predictions = {"x": [(0.0, 9.0, "a", 0.5)]}
    metrics = evaluate(ground_truth, predictions, protocol="thumos14")
    write_report(tmp_path / "p.html", ground_truth, predictions, metrics)
    text = (tmp_path / "p.html").read_text()
    assert text.count("Ambiguous") == 1  # that there is one
    assert "mAP @ 0.30" in text


# ---- data of the timelines


def timelines(ground_truth, predictions, **changes):
    arguments = {
        "tiou_thresholds": THRESHOLDS,
        "tiou": 0.5,
        "durations": {},
        "compare": None,
        "segmentation": {},
        **changes,
    }
    return videos.timelines(ground_truth, predictions, **arguments)


def test_timeline_by_hand() -> None:
    ground_truth = {"x": [(5.0, 15.25, "b"), (0.0, 1.0, "a")], "y": []}
    predictions = {
        "x": [(5.0, 15.0, "b", 0.25), (5.0, 15.25, "b", 0.5), (80.0, 90.0, "a", 0.125)],
        "w": [(0.0, 2.0, "a", 1.0)],
    }
    data = timelines(ground_truth, predictions, durations={"x": 100.0})
    codes = {name: OUTCOMES.index(name) for name in OUTCOMES}
    assert data["labels"] == ["a", "b"]
    assert [video["id"] for video in data["videos"]] == ["w", "x", "y"]
    other, video, empty = data["videos"]
    assert video["duration"] == 10_000
    assert video["truths"] == [0, 100, 0, 500, 1525, 1]
    assert video["detections"] == [
        *[500, 1525, 1, 5000, codes["true_positive"]],
        *[500, 1500, 1, 2500, codes["double_detection"]],
        *[8000, 9000, 0, 1250, codes["background"]],
    ]
    assert video["rest"] == 0
    assert other["ap"] is None
    assert other["duration"] == 200
    assert other["detections"] == [0, 200, 0, 10000, codes["background"]]
    assert (empty["ap"], empty["truths"], empty["detections"]) == (None, [], [])
    assert video["ap"] == 500  # the first hit at precision 1, of two truths


@pytest.mark.parametrize("seed", range(20))
def test_video_scores_are_ap_over_all_classes_of_a_video(seed) -> None:
    """With one video and one class that is mAP; with more classes, hits are pooled by score."""
    ground_truth, predictions = random_case(seed)
    for video, actions in ground_truth.items():
        rows = predictions.get(video, [])
        one = {video: [(s, e, "a") for s, e, _ in actions]}
        same = {video: [(s, e, "a", score) for s, e, _, score in rows]}
        scores = videos.video_scores(tabulate(one, same), THRESHOLDS)
        assert list(scores) == ([video] if actions else [])
        if actions:
            expected = detection_map(one, same, THRESHOLDS)["average"]
            assert scores[video] == pytest.approx(expected, abs=1e-12)


def test_only_the_best_detections_are_kept_and_the_rest_counted() -> None:
    ground_truth = {"x": [(0.0, 10.0, "a")]}
    rng = np.random.default_rng(0)
    scores = (1 + rng.permutation(250)) / 250  # the highest is 1
    predictions = {"x": [(0.0, float(n), "a", float(s)) for n, s in enumerate(scores)]}
    video = timelines(ground_truth, predictions)["videos"][0]
    kept = video["detections"][3::5]
    assert kept == sorted((round(10_000 * s) for s in scores), reverse=True)[:100]
    assert video["rest"] == 150


def test_segmentation_curves_keep_short_actions() -> None:
    """600 points of 6,000 frames: the mean of each ten, so a burst of five is still seen."""
    ground_truth = {"x": [(0.0, 10.0, "a")]}
    scores = np.zeros(6000)
    scores[3003:3008] = 1.0
    curve = {"x": videos.Segmentation(25.0, {"a": scores, "no class": scores})}
    video = timelines(ground_truth, {}, segmentation=curve)["videos"][0]
    assert list(video["curves"]) == [0]
    assert len(video["curves"][0]) == 600
    assert video["curves"][0][300] == 50
    assert video["span"] == 24_000


def test_scores_are_kept_to_a_ten_thousandth_of_the_highest() -> None:
    """Products of many scores are tiny, and logits may be below zero."""
    ground_truth = {"x": [(0.0, 10.0, "a")]}
    rows = [(0.0, 10.0, "a", score) for score in (3e-7, 1e-7, -1e-7)]
    data = timelines(ground_truth, {"x": rows})
    assert data["videos"][0]["detections"][3::5] == [10_000, 3333, -3333]
    assert data["score_unit"] == pytest.approx(3e-11)
    nothing = timelines(ground_truth, {"x": [(0.0, 10.0, "a", 0.0)]})
    assert nothing["videos"][0]["detections"][3] == 0


# ---- figures


@pytest.mark.parametrize("seed", range(20))
def test_precision_recall_against_its_definition(seed) -> None:
    """Precision at recall r is the best of any prefix of predictions with recall at least r."""
    ground_truth, predictions = random_case(seed)
    table = tabulate(ground_truth, predictions)
    recalls = np.linspace(0, 1, 11)
    if not table.classes:
        assert mean_precision_recall(table, 0.5, recalls).tolist() == [0.0] * 11
        return
    expected = []
    for label in table.classes:
        rows = [(v, *r) for v, own in predictions.items() for r in own if r[2] == label]
        rows.sort(key=lambda p: -p[4])
        count = sum(r[2] == label for own in ground_truth.values() for r in own)
        taken, points = set(), []
        for rank, row in enumerate(rows, start=1):
            near = [
                (-slow_tiou(row[1:3], t[:2]), t[0], t[1], (row[0], index))
                for index, t in enumerate(ground_truth.get(row[0], []))
                if t[2] == label
            ]
            free = [n[3] for n in sorted(near) if -n[0] >= 0.5 and n[3] not in taken]
            taken |= set(free[:1])
            points.append((len(taken) / count, len(taken) / rank))
        expected.append(
            [max((p for recall, p in points if recall >= r - 1e-9), default=0.0) for r in recalls]
        )
    got = mean_precision_recall(table, 0.5, recalls)
    np.testing.assert_allclose(got, np.mean(expected, axis=0), atol=1e-12)


@pytest.mark.slow
def test_figures_as_files_and_page_by_command(tmp_path) -> None:
    ground_truth, predictions, durations = truths_and_predictions(2)
    database = {
        video: {
            "subset": "validation",
            "duration": durations[video],
            "annotations": [{"segment": row[:2], "label": row[2]} for row in rows],
        }
        for video, rows in ground_truth.items()
    }
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    for name, step in (("p", 1), ("q", 2)):
        results = {
            video: [{"segment": r[:2], "label": r[2], "score": r[3]} for r in rows[::step]]
            for video, rows in predictions.items()
        }
        content = {"version": "", "results": results, "external_data": {}}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    flags = {
        "ground_truth": "gt.json",
        "predictions": "p.json",
        "compare": "q.json",
        "report": "page.html",
        "figures": "figures",
    }
    assert main([f"--{name}={tmp_path / value}" for name, value in flags.items()]) == 0
    found = {path.name for path in (tmp_path / "figures").iterdir()}
    names = "map_by_tiou precision_recall average_recall error_types sensitivity ap_per_class"
    assert found == {f"{name}.{form}" for name in names.split() for form in figures.FORMATS}
    for path in (tmp_path / "figures").iterdir():
        start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[path.suffix]
        assert path.read_bytes().startswith(start)
    assert "most lost first" in (tmp_path / "page.html").read_text()


def test_the_figures_draw_the_numbers() -> None:
    ground_truth, predictions, durations = truths_and_predictions(3)
    metrics = evaluate(ground_truth, predictions, durations=durations)
    drawn = figures.evaluation_figures(ground_truth, predictions, metrics)
    line = drawn["map_by_tiou"].axes[0].get_lines()[0].get_ydata()
    assert list(line) == list(metrics["map"].values())[:-1]
    curve = drawn["average_recall"].axes[0].get_lines()[0].get_ydata()
    assert list(curve) == metrics["ar"]["curve"]
    profile, impact = drawn["error_types"].axes
    first = [patches[0].get_height() for patches in profile.containers]
    assert first == pytest.approx(list(metrics["diagnosis"]["outcomes"]["by_rank"][0].values()))
    gains = [bar.get_width() for bar in impact.patches][::-1]
    assert gains == pytest.approx(list(metrics["diagnosis"]["outcomes"]["gain"].values()))
    bars = [bar.get_height() for bar in drawn["sensitivity"].axes[0].patches]
    expected = [row["map_n"] or 0.0 for row in metrics["diagnosis"]["sensitivity"]["coverage"]]
    assert bars == pytest.approx(expected)


def test_class_figure_with_many_classes_shows_both_ends() -> None:
    per_class = {f"class {n}": {"average": n / 200} for n in range(200)}
    panel = figures.class_figure(per_class).axes[0]
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert len(names) == 60
    assert (names[0], names[-1]) == ("class 0", "class 199")
    assert "30 worst and best" in panel.get_title(loc="left")
    few = figures.class_figure({label: {"average": 0.5} for label in CLASSES}).axes[0]
    assert few.get_title(loc="left") == "AP per class, mean over tIoU (%)"


# ---- training curves


def test_a_resumed_log(tmp_path) -> None:
    """The later of two lines of one step counts; a line cut off by the end of the run does not."""
    lines = [
        {"step": 10, "loss/total": 3.0, "eval/map_average": 0.1},
        {"step": 20, "loss/total": 2.0, "note": "text"},
        {"step": 20, "loss/total": 1.5},
        {"step": 15, "loss/total": 2.5, "loss/start": float("nan")},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 30, "lo')
    series = curves.read_series(path)
    assert series == {"loss/total": {10: 3.0, 15: 2.5, 20: 1.5}, "eval/map_average": {10: 0.1}}
    assert list(series["loss/total"]) == [10, 15, 20]
    figure = curves.training_figure(series)
    losses, evaluation = figure.axes
    assert list(losses.get_lines()[0].get_ydata()) == [3.0, 2.5, 1.5]
    assert losses.get_yscale() == "log"
    assert list(evaluation.get_lines()[0].get_xdata()) == [10]


def test_curves_as_a_file_again_and_again(tmp_path) -> None:
    (tmp_path / "m.jsonl").write_text('{"step": 1, "loss/total": 0}\n')
    for _ in range(2):
        curves.draw_training_curves(tmp_path / "m.jsonl", tmp_path / "curves.png")
    assert {path.name for path in tmp_path.iterdir()} == {"m.jsonl", "curves.png"}
    losses, evaluation = curves.training_figure(curves.read_series(tmp_path / "m.jsonl")).axes
    assert losses.get_yscale() == "linear"  # zero has no logarithm
    assert [text.get_text() for text in evaluation.texts] == ["nothing logged yet"]


def test_a_broken_log_is_named(tmp_path) -> None:
    (tmp_path / "m.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"m.jsonl, line 2: not JSON"):
        curves.read_series(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_text('{"loss/total": 1}\n')
    with pytest.raises(ValueError, match=r"m.jsonl, line 1: has no 'step'"):
        curves.read_series(tmp_path / "m.jsonl")
