"""Times become a rate, gaps and samples at another rate; each rule against plain arithmetic."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtad_jax.data.timeline import (
    date_after,
    even,
    guess_unit,
    in_seconds,
    measure,
    pieces,
    read_dates,
    resample,
    unit_in_name,
    usual_rate,
)

RATES = st.sampled_from([5.0, 12.5, 26.15, 50.0, 52.3, 100.0, 333.0])


def line(times, channels=2):
    """A signal that is linear in time, whose samples are known at any rate."""
    return np.stack([2.0 * times - 1, -0.5 * times], axis=1)[:, :channels]


@given(RATES, RATES, st.integers(200, 600), st.floats(0, 1e6), st.floats(0, 0.4))
def test_a_line_stays_one_at_any_rate(own, rate, number, zero, jitter):
    random = np.random.default_rng(number)
    times = zero + (np.arange(number) + jitter * random.uniform(-0.5, 0.5, number)) / own
    timeline = measure(times)
    assert timeline.rate == pytest.approx(own, rel=2e-2)
    assert timeline.gaps == ()
    ((start, (found,)),) = pieces([timeline], [line(times - times[0])], rate)
    assert start == 0
    assert len(found) / rate == pytest.approx(number / own, abs=1 / rate + 2 / own)
    at = np.arange(len(found)) / rate
    inner = (at > 1 / rate) & (at < timeline.seconds[-1] - 1 / rate)
    # Samples that lie within a tenth of a step of their places stay as they are.
    np.testing.assert_allclose(found[inner], line(at)[inner], atol=0.2 / rate + 1e-6)


@given(RATES, RATES, st.integers(30, 200), st.floats(-5, 5))
def test_a_constant_stays_one_and_nothing_leaves_the_values(own, rate, number, value):
    times = np.sort(np.random.default_rng(number).uniform(0, number / own, number))
    timeline = measure(times[np.diff(times, prepend=-1) > 1e-6])
    n = len(timeline.seconds)
    for piece in pieces([timeline], [np.full((n, 1), value)], rate):
        np.testing.assert_allclose(piece.arrays[0], value, atol=1e-9)
    noise = np.random.default_rng(number).normal(size=(n, 1))
    for piece in pieces([timeline], [noise], rate, fill=True):
        assert noise.min() - 1e-9 <= piece.arrays[0].min()
        assert piece.arrays[0].max() <= noise.max() + 1e-9


@given(st.integers(1, 400), RATES, st.floats(-0.09, 0.09))
def test_samples_in_their_places_are_not_touched(number, rate, off):
    random = np.random.default_rng(number)
    x = random.normal(size=(number + 2, 3)).astype(np.float32)
    times = (np.arange(number + 2) + off * random.choice([0, 0.9], number + 2)) / rate
    ((_, (found,)),) = pieces([measure(times)], [x], rate)
    np.testing.assert_array_equal(found, x)


def test_halving_a_rate_averages_and_so_does_not_alias():
    times = np.arange(1000) / 100
    high = np.sin(2 * np.pi * 45 * times)[:, None]  # above the new 25 Hz
    ((_, (found,)),) = pieces([measure(times)], [high], 50.0)
    assert np.abs(found).max() < 0.2
    assert np.abs(high[::2]).max() > 0.95  # which every second sample would have kept
    low = np.sin(2 * np.pi * 1 * times)[:, None]
    ((_, (found,)),) = pieces([measure(times)], [low], 50.0)
    np.testing.assert_allclose(found[1:-1], low[::2][1:-1], atol=0.01)


@given(
    st.lists(st.tuples(st.integers(40, 90), st.floats(1.5, 30)), min_size=1, max_size=4),
    st.integers(40, 90),
)
def test_gaps_are_found_where_they_are(parts, last):
    times, at, gaps = [], 0.0, []
    for rows, gap in parts:
        times.append(at + np.arange(rows) / 50)
        gaps.append((times[-1][-1], gap))
        at = times[-1][-1] + gap
    times.append(at + np.arange(last) / 50)
    timeline = measure(np.concatenate(times))
    np.testing.assert_allclose(timeline.gaps, gaps, atol=1e-9)
    assert timeline.rate == pytest.approx(50)
    x = np.arange(len(timeline.seconds), dtype=float)[:, None]
    split = pieces([timeline], [x], 50.0)
    np.testing.assert_array_equal(np.concatenate([p.arrays[0] for p in split]), x)
    assert [p.start for p in split] == pytest.approx([part[0] for part in times])
    (filled,) = pieces([timeline], [x], 50.0, fill=True)
    assert len(filled.arrays[0]) == round((timeline.seconds[-1] + 0.02) * 50)


def test_what_is_no_gap_is_bridged_and_told():
    times = np.delete(np.arange(500) / 50, np.arange(100, 120))
    timeline = measure(times)
    assert timeline.gaps == ()
    assert "holes of up to 0.42 s are bridged: 1" in timeline.unequal
    slow = measure(np.arange(100) * 2.0)  # steps of 2 s are this file's own
    assert (slow.gaps, slow.unequal, slow.rate) == ((), "", 0.5)


def test_whole_seconds_are_spread():
    real = 0.7 + np.arange(1000) / 50
    timeline = measure(np.floor(real))
    assert timeline.rate == pytest.approx(50, rel=1e-3)
    np.testing.assert_allclose(timeline.zero + timeline.seconds, real, atol=0.021)
    assert "rows with the time of the row before, spread: 9" in timeline.unequal
    kept = (real < 8) | (real > 14)
    ((start, length),) = measure(np.floor(real[kept])).gaps
    assert (start, length) == (pytest.approx(7.3, abs=0.05), pytest.approx(6, abs=0.05))


def test_a_first_second_before_a_gap_stays_where_it_is():
    timeline = measure(np.r_[0, 0, 0, 100 + np.floor(np.arange(30) / 3)])
    assert timeline.gaps == ((pytest.approx(0.67, abs=0.01), pytest.approx(99.33, abs=0.01)),)


def test_rows_out_of_place_by_little_are_put_in_order():
    times = np.arange(100) / 50
    times[[40, 41]] = times[[41, 40]]
    x = times[:, None].copy()
    ((_, (found,)),) = pieces([measure(times)], [x], 50.0)
    np.testing.assert_allclose(found[:, 0], np.arange(100) / 50)
    assert "rows that stood before an earlier one, put in order: 1" in measure(times).unequal


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.r_[np.arange(50), np.arange(50)] / 50, r"row 51: .*from 0\.98 to 0 s.*--time=none"),
        (np.r_[0.0, np.nan, 2.0], r"row 2 has no time \(nan\).*--time=none"),
        (np.arange(9.0)[::-1], r"9 rows fall from 8 to 0 s: sort the rows.*--time=none"),
        (np.zeros(9), r"9 rows are all 0: .*--time=none"),
        (np.zeros(1), r"1 rows are all 0"),
    ],
)
def test_times_that_do_not_rise(times, message):
    with pytest.raises(ValueError, match=message):
        measure(times)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("time (ms)", "ms"), ("t_s", "s"), ("Timestamp[us]", "us"), ("time µs", "us"),
        ("seconds", "s"), ("elapsed_millis", "ms"), ("epoch_ns", "ns"), ("time", ""), ("t", ""),
        ("s", ""), ("timestamps", ""), ("ms", ""), ("", ""), ("acc_x", ""),
    ],
)  # fmt: skip
def test_units_in_names(name, unit):
    assert unit_in_name(name) == unit


@given(st.sampled_from(["s", "ms", "us", "ns"]), st.sampled_from([10.0, 50.0, 100.0, 250.0]))
def test_units_are_guessed(unit, rate):
    seconds = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]
    assert guess_unit(1 / rate / seconds, None) == unit
    assert guess_unit(1 / rate / seconds, 50.0) == unit
    found, dated = in_seconds(np.array([1_714_557_600 / seconds]), "", "s")
    assert dated
    assert found[0] == pytest.approx(1_714_557_600)
    assert in_seconds(np.array([3.0]), unit, "s") == (pytest.approx([3 * seconds]), False)


@given(st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2099, 1, 1)), st.floats(0, 1e5))
def test_dates_there_and_back(date, seconds):
    for zone in (None, dt.UTC, dt.timezone(dt.timedelta(hours=-5, minutes=-30))):
        first = date.replace(tzinfo=zone)
        second = dt.datetime.fromisoformat(date_after(first.isoformat(), seconds))
        assert second.tzinfo == first.tzinfo
        assert abs((second - first).total_seconds() - seconds) <= 0.000502
        found = read_dates([first.isoformat(), second.isoformat()])
        assert found[1] - found[0] == pytest.approx((second - first).total_seconds(), abs=1e-6)


def test_dates_of_mixed_zones_and_times_of_day():
    found = read_dates(["2024-05-01T12:00:00+02:00", "2024-05-01T10:00:00.5Z"])
    assert found[1] - found[0] == 0.5
    np.testing.assert_allclose(read_dates(["10:00:00", "10:00:00.250"]), [36000, 36000.25])
    with pytest.raises(ValueError, match=r"01\.05\.2024"):
        read_dates(["01.05.2024 10:00"])


def test_times_of_day_go_on_past_midnight():
    found = read_dates(["23:59:59.500", "00:00:00", "00:00:00.500"])
    np.testing.assert_allclose(found, [86399.5, 86400, 86400.5])
    np.testing.assert_allclose(read_dates(["08:00:00", "07:59:59"]), [28800, 28799])


def test_the_usual_rate():
    assert usual_rate([50.01, 49.99, 100.0, 52.3]) == (50.0, " (others have 52.3, 100 Hz)")
    assert usual_rate([52.31]) == (52.31, "")
    assert usual_rate([100.0, 50.0])[0] == 50.0  # the lower of two
    assert usual_rate([0.5, 0.5])[0] == 0.5


def test_two_sources_have_what_both_have():
    first, second = np.arange(500) / 50, 2.0 + np.arange(1000) / 100
    (piece,) = pieces([measure(first), measure(second)], [line(first), line(second)], 50.0)
    assert piece.start == 2.0
    a, b = piece.arrays
    np.testing.assert_allclose(a, b, atol=1e-2)
    np.testing.assert_allclose(a, line(2.0 + np.arange(len(a)) / 50), atol=1e-6)
    with pytest.raises(ValueError, match="nothing in common"):
        pieces([measure(first), measure(second + 100)], [first[:, None], second[:, None]], 50.0)
    dated = measure(1.7e9 + second, date="2024-05-01")  # another clock: they begin together
    (piece,) = pieces([measure(first), dated], [line(first), line(second)], 50.0)
    assert piece.start == 0
    (piece,) = pieces([even(500, 50.0), dated], [line(first), line(second)], 50.0)
    assert [len(array) for array in piece.arrays] == [500, 500]


def test_a_piece_is_found_whatever_its_start_is_rounded_to():
    moving = 9.008 + np.arange(500) / 50
    first, second = (
        measure(np.r_[3.781 + np.arange(100) / 50, moving]),
        0.312 + np.arange(2000) / 50,
    )
    values = np.r_[np.zeros(100), moving][:, None]
    _, (start, (found, _)) = pieces([first, measure(second)], [values, second[:, None]], 50.0)
    np.testing.assert_allclose(found[:, 0], 0.312 + start + np.arange(len(found)) / 50, atol=0.011)


def test_a_source_that_is_late_by_no_sample_begins_with_the_others():
    times = np.arange(500) / 50
    for late, begins in ((0.009, 0.0), (0.011, 0.011)):
        (piece,) = pieces([measure(times), measure(late + times)], [line(times)] * 2, 50.0)
        assert piece.start == pytest.approx(begins)


@pytest.mark.parametrize(
    ("first", "step", "unit"),
    [
        (10 * 86400e9, 2e7, ""),  # nanoseconds of a phone that is on for 10 days
        (30 * 60e9, 2e7, ""),  # for half an hour
        (1200e6, 1e4, ""),  # microseconds of 20 minutes
        (1.7e9, 300.0, "s"),  # a sensor of glucose
        (1.7e12, 60e3, "ms"),
        (1.7e15, 2e4, "us"),
        (1.7e18, 3600e9, "ns"),
    ],
)
def test_numbers_are_dates_if_their_steps_are_likely(first, step, unit):
    seconds, dated = in_seconds(first + step * np.arange(100), "", "ns")
    assert dated == bool(unit)
    scale = {"": 1e-9, "s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]
    assert seconds[1] - seconds[0] == pytest.approx(step * scale, rel=1e-3)


def test_a_wrong_unit_takes_no_memory():
    times = np.arange(1000) * 20_000.0  # microseconds, taken for seconds
    message = r"1,000 rows span 1\.998e\+07 s, which are 1,000,000,000 samples at 50 Hz.*:UNIT"
    with pytest.raises(ValueError, match=message):
        pieces([measure(times)], [times[:, None]], 50.0)
    with pytest.raises(
        ValueError, match=r"1,000 rows span.*:UNIT.*a single one"
    ):  # one file of ms among others
        pieces([measure(1000 * np.arange(1000) / 52.3)], [times[:, None]], 50.0)
    late = np.r_[0.0, 1.7e9 + np.arange(1000) / 50]
    assert len(pieces([measure(late)], [late[:, None]], 50.0)) == 2
    with pytest.raises(ValueError, match="1,001 rows span"):
        pieces([measure(late)], [late[:, None]], 50.0, fill=True)


def test_resampling_beyond_the_end_keeps_the_value():
    x = np.arange(4.0)[:, None]
    found = resample(measure(np.arange(4.0)), x, 0.0, 2.0, 8)
    np.testing.assert_allclose(found[:, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3, 3])
