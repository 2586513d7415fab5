"""The page of new recordings: what is counted, drawn and listed, and what its limits leave out."""

import json

import numpy as np
import pytest

from report_cases import EVIL_LABEL, EVIL_VIDEO
from segtad_jax.evaluation.report import recordings
from segtad_jax.evaluation.report.signals import Trace
from segtad_jax.postprocess import Detection
from segtad_jax.predict.shown import told
from test_report import Elements

CLASSES = ["jump", "run", EVIL_LABEL]
THRESHOLDS = {"jump": 0.5, "run": 0.25}  # none for the third: it never counts


def found(number=3):
    """In each recording 4 jumps of 2 s, of which 2 count, a run of 10 s, and what never counts."""
    rows = [(10.0 * n, 10.0 * n + 2, "jump", score) for n, score in enumerate((0.9, 0.6, 0.3, 0.1))]
    rows += [(50.0, 60.0, "run", 0.3), (70.0, 71.0, EVIL_LABEL, 0.8)]
    return {f"new {index:04d}": [Detection(*row) for row in rows] for index in range(number)}


def trace(video, samples=5000):
    wave = np.sin(np.arange(samples) / 50)
    wave[2000] = 3.0  # a peak of one sample
    values = np.stack([wave, np.zeros(samples)], axis=1)
    return Trace(("x", "still"), [(0.0, 50.0, values[:2500]), (60.0, 110.0, values[2500:])])


def write(path, detections, **changes):
    arguments = {
        "classes": CLASSES, "threshold": THRESHOLDS, "trace": trace, "summary": told,
        "failures": {}, "notes": {}, "title": "new", **changes,
    }  # fmt: skip
    recordings.write_recordings(path, detections, **arguments)
    text = path.read_text()
    return Elements(text), json.loads(text.split('type="application/json">')[1].split("</")[0])


def text_of(page):
    return " ".join(" ".join(page.text).split())


def test_what_counts_is_counted(tmp_path):
    page, data = write(tmp_path / "x.html", found())
    text = text_of(page)
    assert "9 actions in 3 recordings" in text
    assert "jump 0.5 6 3 12.0 2.0 2.0 2.0" in text
    assert "run 0.25 3 3 30.0 10.0 10.0 10.0" in text
    assert f"{EVIL_LABEL} never 0 0 0.0 \N{EN DASH}" in text
    assert "new 0001 3 14.0 jump 2 (4 s), run 1 (10 s)" in text
    assert data["labels"] == sorted(CLASSES)
    assert data["thresholds"] == [THRESHOLDS.get(label) for label in sorted(CLASSES)]
    assert [video["count"] for video in data["videos"]] == [3, 3, 3]
    assert len(data["videos"][0]["detections"]) == 5 * 6  # those below can be looked at, too
    assert "note" not in text


def test_a_score_for_all_and_none_at_all(tmp_path):
    page, data = write(tmp_path / "x.html", found(1), threshold=0.7)
    assert "from score 0.7 on" in text_of(page)
    assert data["thresholds"] == [0.7] * 3
    assert data["videos"][0]["count"] == 2
    page, data = write(tmp_path / "x.html", found(1), threshold=None)
    assert "no thresholds" in text_of(page)
    assert "--threshold=X" in text_of(page)
    assert data["thresholds"] is None
    assert data["videos"][0]["count"] == 6


def test_signals_keep_their_peaks_and_gaps(tmp_path):
    _, data = write(tmp_path / "x.html", found(1))
    video = data["videos"][0]
    assert video["duration"] == 11000
    first, second = video["signal"]["pieces"]
    assert (first["start"], first["end"], second["start"]) == (0, 5000, 6000)
    assert max(first["values"][0]) == 100  # the peak
    assert 45 < max(second["values"][0]) < 55
    assert set(first["values"][1]) == {0}
    assert sum(len(piece["values"][0]) for piece in (first, second)) == 2 * recordings._BINS
    assert video["signal"]["ranges"] == ["-1 to 3", "0 to 0"]


def test_thousands_of_recordings_are_listed_and_a_hundred_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "LISTED", 150)
    asked = []
    failures = {f"bad {index:04d}": "has no frames" for index in range(400)}

    def remembered(video):
        asked.append(video)
        return trace(video)

    page, data = write(tmp_path / "x.html", found(300), trace=remembered, failures=failures)
    text = text_of(page)
    assert asked == sorted(found(300))[:100]
    assert len(data["videos"]) == 100
    assert "900 actions in 300 recordings; 400 could not be used" in text
    assert "the first 100 of 300" in text
    assert "the first 150 of 300; all are in the result file" in text
    assert "the first 150 of 400" in text
    assert len(page.named("tr")) == 4 + 151 + 151
    assert (tmp_path / "x.html").stat().st_size < 1e6


def test_what_fails_and_what_is_odd_is_named(tmp_path):
    def gone(video):
        raise FileNotFoundError(2, "No such file", f"{video}.npy")

    page, data = write(
        tmp_path / "x.html",
        found(1),
        trace=gone,
        failures={EVIL_VIDEO: "is empty"},
        notes={"new 0000": "all frames are the same", "readme.txt": "is no feature file"},
    )
    text = text_of(page)
    assert f"{EVIL_VIDEO} is empty" in text
    assert "readme.txt is no feature file" in text
    assert "all frames are the same; its signal is not drawn: [Errno 2] No such file" in text
    assert "signal" not in data["videos"][0]
    assert len(page.named("script")) == 2
    assert all("onerror" not in attributes for _, attributes in page.elements)


def test_nothing_found_and_nothing_usable(tmp_path):
    page, _ = write(tmp_path / "x.html", {"empty": []})
    assert "0 actions in 1 recording." in text_of(page)
    page, data = write(tmp_path / "x.html", {}, failures={"bad": "is empty"})
    assert data["videos"] == []
    assert "videos" not in [section.get("id") for section in page.named("section")]
    assert "bad is empty" in text_of(page)


@pytest.mark.parametrize("samples", [1, 2, 799, 800, 100_000])
def test_signals_of_any_length(tmp_path, samples):
    one = Trace(("x",), [(0.0, 9.0, np.arange(samples, dtype=float)[:, None])])
    _, data = write(tmp_path / "x.html", found(1), trace=lambda _: one)
    values = data["videos"][0]["signal"]["pieces"][0]["values"][0]
    assert len(values) == min(samples, 2 * recordings._BINS)
    assert values == sorted(values)
