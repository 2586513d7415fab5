"""The pictures of the data page: the chosen recordings, thinned without losing peaks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prepare_cases import features, good_inputs, prepare, written
from report_cases import EVIL_LABEL
from segtad_jax.evaluation.entries import Action
from segtad_jax.prepare.annotations import Video
from segtad_jax.prepare.look import choose_recordings, look_at, look_figure, thin, traces_of
from segtad_jax.prepare.report import ceiling_figure, time_rows


@given(st.integers(1, 300), st.integers(1, 3), st.integers(1, 40), st.integers(0, 99))
def test_peaks_stay_and_nothing_is_invented(length, channels, bins, seed):
    signal = np.random.default_rng(seed).standard_normal((length, channels), np.float32)
    seconds = np.arange(length) / 7
    at, thinned = thin(seconds, signal, bins)
    assert len(at) == len(thinned) <= max(2 * bins, 1)
    assert (np.diff(at) >= 0).all()
    assert set(at) <= set(seconds)
    for channel in range(channels):
        assert set(thinned[:, channel]) <= set(signal[:, channel])
        assert thinned[:, channel].min() == signal[:, channel].min()
        assert thinned[:, channel].max() == signal[:, channel].max()


def test_a_peak_is_drawn_where_it_is():
    signal = np.zeros((10_000, 1), np.float32)
    signal[6_543] = 5
    at, thinned = thin(np.arange(10_000.0), signal, 100)
    assert at[thinned[:, 0].argmax()] == pytest.approx(6_543, abs=100)


def video(name, *actions):
    rows = tuple(Action(float(start), float(end), label, "a.csv") for start, end, label in actions)
    return Video(name, "training", None, None, rows)


def test_each_class_is_drawn_in_a_recording_with_many_of_it():
    one = video("one", (0, 1, "run"), (2, 3, "run"), (4, 5, "run"), (5, 6, "sit"))
    two = video("two", (0, 1, "run"), (1, 2, "run"), (2, 3, "sit"))
    seconds = {"one": 10.0, "two": 10.0}
    chosen = choose_recordings([one, two], seconds)
    assert {label: found.video for label, found in chosen.items()} == {"run": "one", "sit": "two"}
    assert list(choose_recordings([one, two], seconds, most=1)) == ["run"]


def test_what_leaves_the_signal_is_drawn_before_all_else():
    fine = video("fine", *[(n, n + 0.5, "run") for n in range(9)])
    late = video("late", (3, 14, "run"))
    later = video("later", (3, 18, "run"))
    chosen = choose_recordings([fine, late, later], dict.fromkeys(("fine", "late", "later"), 10.0))
    assert chosen["run"] is later


def look_of(label="sit", end=10.0):
    pieces = [(np.arange(0, 4, 0.02), np.ones((200, 2))), (np.arange(6, end, 0.02),) * 2]
    pieces[1] = pieces[1][0], np.stack(pieces[1], axis=1)
    recording = video("x", (1, 3, "run"), (7, 15, "run"), (8, 9, label))
    return look_at(label, recording, pieces, ("a$", "b"), end, 50.0)


def data_report():
    """The report of a data set whose recordings have times and defects, as report.json."""
    item = {"video": "x" * 200, "value": "y" * 300, "where": "z" * 300}
    gap = {"treatment": "changed", "meaning": "a gap", "count": 1, "items": [item]}
    times = {"column": "t", "rate": 50.0, "gaps": [[1.0, 2.0]] * 9, "unequal": "", "date": ""}
    return {
        "name": "mine", "channels": 2, "window": 16, "dtype": "float16", "resize": None,
        "splits": {}, "defects": {"gap": gap}, "notes": ["n" * 300], "classes": {},
        "times": {"x" * 200: times}, "lengths": {"seconds_histogram": {"counts": []}},
        "ceiling": {"strides": {}},
    }  # fmt: skip


@pytest.mark.parametrize("strides", [1, 6])
def test_the_legend_of_the_ceiling_hides_no_curve(strides):
    curve = {f"{t:.2f}": 1 - t for t in np.arange(0.5, 1, 0.05)} | {"average": 0.3}
    reached = {"recall": curve, "map": curve, "divides": True}
    figure = ceiling_figure(
        {"split": "training", "strides": {str(2**n): reached for n in range(strides)}}
    )
    figure.draw_without_rendering()
    for panel in figure.axes:
        legend = panel.get_legend().get_window_extent()
        assert legend.y1 < panel.xaxis.get_tightbbox().y0 < panel.get_window_extent().y0
        assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= legend.y0


def test_the_figure_has_the_labels_where_they_are_and_shows_where_there_is_no_signal():
    look = look_of()
    assert look.to_json() == {
        "label": "sit", "video": "x", "subset": "training", "seconds": 10.0, "actions": 1, "of": 3,
        "beyond": 1, "rate": 50.0, "gaps": 1, "drawn": "a$, b",
    }  # fmt: skip
    whole, near = look_figure(look).axes
    assert whole.get_xlim() == (0, 15)
    assert near.get_xlim() == (7, 10)
    spans = [collection.get_paths() for collection in whole.collections]
    bars = sorted({(p.vertices[:, 0].min(), p.vertices[:, 0].max()) for s in spans for p in s})
    assert bars == [(1, 3), (7, 15), (8, 9)]
    assert "no signal" in {text.get_text() for text in whole.texts}
    shaded = sorted(p.get_x() for p in whole.patches)
    np.testing.assert_allclose(shaded, [3.98, 10.0])  # the gap, and what is beyond the end
    lines = {float(line.get_xdata()[0]) for line in whole.lines}
    assert lines == {0.0, 6.0, 10.0}


def test_a_label_wholly_beyond_the_signal_can_be_drawn():
    recording = video("x", (20, 30, "run"))
    look = look_at("run", recording, [(np.arange(5.0), np.ones((5, 1)))], ("a",), 5.0, 1.0)
    assert not look.near
    assert look_figure(look).axes[1].get_xlim() == (10, 30)


def test_channels_of_signals_and_norms_of_features():
    array = features(3, channels=5)
    drawn, names = traces_of([array], ("a", "b", "c", "d", "e"), signal=True)
    np.testing.assert_array_equal(drawn, array[:, :3])
    assert names == ("a", "b", "c")
    large = np.full((2, 4), 3e30, np.float32)
    assert traces_of([large], (), signal=False)[0][0, 0] == pytest.approx(6e30)
    drawn, names = traces_of([array], (), signal=False)
    np.testing.assert_allclose(drawn[:, 0], np.sqrt((array**2).sum(axis=1)), rtol=1e-6)
    assert "5" in names[0]


def test_rates_and_gaps_of_each_recording_in_words():
    found = {"column": "t", "date": "", "rate": 49.9987, "unequal": "", "gaps": []}
    gap = found | {"gaps": [[82.98, 6.02]], "unequal": "steps vary by 12%"}
    rows = time_rows({"a": found, "b": gap, "c": found | {"unequal": "odd"}})
    assert [row["video"] for row in rows] == ["b", "c", "a"]
    assert (rows[0]["gaps"], rows[0]["rate"]) == ("6.0 s at 82.98 s", "50")


def test_the_page_draws_every_class(tmp_path):
    inputs = good_inputs(tmp_path)
    lines = [f"x{n},1,4,{label}" for n in range(8) for label in ("run", "jump")]
    lines += [f'x2,9,30,"{EVIL_LABEL.replace(chr(34), chr(34) * 2)}"']
    inputs["annotations"] = written(
        tmp_path / "a.csv", "\n".join(["video,start,end,label", *lines])
    )
    assert prepare(inputs, "--rate=2") == 0
    page = (inputs["output"] / "mine" / "1.0.0" / "report.html").read_text()
    assert page.count('<figure class="look">') == 3
    assert "1 end after the signal" in page
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold" in page
