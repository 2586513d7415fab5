"""Which column of a table has its times, in which unit, and what is told of that."""

import numpy as np
import pytest

from segtad_jax.data.clocks import ANY, Clock
from segtad_jax.data.features import open_source

ROWS = 60
STEADY = np.arange(ROWS) / 50
UNEVEN = np.cumsum(np.random.default_rng(0).uniform(0.015, 0.025, ROWS))
DATES = [f"2024-05-01T10:00:{second:06.3f}" for second in STEADY]


def form_and_timeline(folder, header, first, rate=50.0, clock=ANY, video="x"):
    """The form of a folder with this table, whose other columns are noise, and its times."""
    noise = np.random.default_rng(1).normal(size=(ROWS, 2))
    lines = [",".join([*header, "ax", "ay"])] if header else []
    for value, row in zip(np.stack(first, axis=1), noise, strict=True):
        lines.append(",".join([*map(str, value), *map(str, row)]))
    (folder / f"{video}.csv").write_text("\n".join(lines) + "\n")
    source = open_source(folder)
    form = source.form(source.places, "auto", clock=clock, rate=rate)
    return form, source.frames(video, form, rate).timeline


@pytest.mark.parametrize(
    ("header", "times", "rate", "column", "told"),
    [
        (["time"], STEADY, 50.0, "time", "times in s, for steps of 0.02; --time=time:UNIT says"),
        (["time"], 20 * np.arange(ROWS), 50.0, "time", "times in ms, for steps of 20"),
        (["time"], 20000 * np.arange(ROWS), None, "time", "times in us"),
        (["t_us"], 20000 * np.arange(ROWS), 100.0, "t_us", "times in us, as its name says"),
        (["epoch"], 1714557600000 + 20 * np.arange(ROWS), 50.0, "epoch", "times since 1970"),
        (["when"], DATES, 50.0, "when", "times in ISO 8601"),
        (["seq"], STEADY, 50.0, "seq", "times in s"),  # rises by the same step
        ([], UNEVEN, 50.0, "column 1", "times in s"),  # rises in every row
        ([], 1714557600000 + np.round(1000 * UNEVEN), 50.0, "column 1", "times since 1970"),
        (["time (s)"], np.arange(ROWS), 50.0, "time (s)", "times in s, as its name says"),
        (["time"], np.arange(ROWS), None, "time", "times in s"),
    ],
)
def test_times_are_found_and_their_unit_is_told(tmp_path, header, times, rate, column, told):
    form, timeline = form_and_timeline(tmp_path, header, [times], rate)
    assert timeline.column == column
    assert told in form.times[column]
    own = 1.0 if times[1] == 1 else 50.0
    assert timeline.rate == pytest.approx(own, rel=0.05)
    assert form.rates == (timeline.rate,)
    assert len(form.columns) == 2


@pytest.mark.parametrize(
    ("header", "times"),
    [(["frame"], np.arange(ROWS)), (["frame"], 4 * np.arange(ROWS)), ([""], np.arange(ROWS))],
)
def test_counters_are_no_times(tmp_path, header, times):
    form, timeline = form_and_timeline(tmp_path, header, [times])
    assert timeline is None
    assert (form.rates, len(form.columns)) == ((None,), 2)


def test_a_counter_that_is_called_time_says_how_to_use_it(tmp_path):
    form, timeline = form_and_timeline(tmp_path, ["time"], [np.arange(ROWS)])
    assert timeline is None
    assert "counts rows, which are no times; --time=time:UNIT says otherwise" in form.times["time"]
    _, timeline = form_and_timeline(
        tmp_path, ["time"], [np.arange(ROWS)], clock=Clock("time", "ms")
    )
    assert timeline.rate == pytest.approx(1000)


def test_of_several_the_dates_then_what_is_called_so(tmp_path):
    header, columns = ["idx", "elapsed", "time"], [np.arange(ROWS), UNEVEN, STEADY]
    form, timeline = form_and_timeline(tmp_path, header, columns)
    assert timeline.column == "time"
    assert sorted(form.times) == ["elapsed", "idx", "time"]
    _, timeline = form_and_timeline(tmp_path, [*header, "when"], [*columns, DATES])
    assert timeline.column == "when"
    assert timeline.date == DATES[0]
    form, timeline = form_and_timeline(tmp_path, header, columns, clock=Clock("elapsed"))
    assert timeline.column == "elapsed"
    assert form.clock == Clock("elapsed", "", "s")


def test_each_way_in_which_files_have_their_times_is_told(tmp_path):
    form_and_timeline(tmp_path, ["time"], [DATES], video="a")
    form_and_timeline(tmp_path, ["time"], [STEADY], video="b")
    form, _ = form_and_timeline(tmp_path, ["t_ms"], [1000 * STEADY], video="c")
    assert "times in ISO 8601; in other files times in s, for steps of 0.02" in form.times["time"]
    assert "times in ms, as its name says" in form.times["t_ms"]


def test_files_may_call_their_times_otherwise(tmp_path):
    for number in range(25):  # more than are looked at first
        form_and_timeline(tmp_path, ["time"], [STEADY], video=f"x{number:02d}")
    form, timeline = form_and_timeline(tmp_path, ["timestamp (ms)"], [20 * UNEVEN], video="y")
    assert form.clock.column == "time"
    assert timeline.column == "timestamp (ms)"
    assert form.columns == ("ax", "ay")
