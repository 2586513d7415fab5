"""Times of samples: units, own rate, gaps; samples brought to one rate, a piece between gaps.

Upsampling interpolates linearly. Downsampling takes the mean of the linear interpolant over each
sample's bin, a filter against aliasing that also works for unequal steps, rings at no gap, delays
nothing, and leaves constants and slopes as they are.
"""

import dataclasses
import datetime as dt
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from segtad_jax.evaluation.entries import UNITS

NAMES = {"time", "times", "timestamp", "timestamps", "datetime"}  # so called, less its unit
UNIT_NAMES = {
    "s": "s|secs?|seconds?",
    "ms": "ms|msecs?|millis|milliseconds?",
    "us": "us|[µμ]s|usecs?|micros|microseconds?",
    "ns": "ns|nsecs?|nanos|nanoseconds?",
}
EPOCH = (631152000.0, 4102444800.0)  # seconds since 1970 in 1990 and 2100: between them lie dates
# Dates have no longer steps in these units: numbers with such count in a finer one, since a start.
LONGEST_STEPS = {"s": 600.0, "ms": 600.0, "us": 2.5, "ns": np.inf}
SLOWEST = 0.4  # Hz; a guessed unit gives no slower rate if another one does not
# A gap is longer than both; linear interpolation bridges less.
GAP_SECONDS, GAP_STEPS = 1.0, 5
HALF_DAY = 43200.0  # seconds
HOLE = 1.5  # usual steps; longer ones say nothing about the rate
REGULAR = 0.1  # of a step: samples so near to their places stay as they are; more jitter is told
ONE_RATE, WHOLE = 1e-2, 1e-3  # of a rate: how near two files', and a whole number, are the same
MOST_SAMPLES = 300  # of a row; times that ask for more are in another unit, 1000 off
AT_ONCE = 0.5  # of a sample; a piece that begins earlier begins with the recording
BINS = 1.5  # own rate / new rate from which bins are averaged; little can fold below it


@dataclasses.dataclass(frozen=True, eq=False)
class Timeline:
    """Times of a file's rows."""

    seconds: Float[np.ndarray, " n"]  # since the first row; they rise in every row
    order: Int[np.ndarray, " n"]  # the rows by their times
    zero: float | None  # the first row's time in seconds of the file's clock; None: there is none
    column: str  # in which they stood
    date: str  # ISO 8601, of the first row; '' where times are no dates
    rate: float  # own, in Hz
    gaps: tuple[tuple[float, float], ...]  # start and length, seconds
    unequal: str  # what else is odd about the steps; '' if nothing

    @property
    def spans(self) -> list[tuple[float, float]]:
        """First and last time of the rows between gaps."""
        starts = [self.seconds[0], *(start + length for start, length in self.gaps)]
        ends = [*(start for start, _ in self.gaps), self.seconds[-1]]
        return [(float(start), float(end)) for start, end in zip(starts, ends, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Returns what was measured, in JSON's types."""
        gaps = [[round(x, 4) for x in gap] for gap in self.gaps]
        fields = {name: getattr(self, name) for name in ("column", "date", "rate", "unequal")}
        return fields | {"gaps": gaps}


class Piece(NamedTuple):
    """Samples of all sources at one rate, without a gap."""

    start: float  # seconds since the recording's start
    arrays: list[Float[np.ndarray, "_ _"]]


def read_dates(cells: Sequence[str]) -> Float[np.ndarray, " n"]:
    """Returns seconds of ISO 8601 dates (since 1970; UTC where no zone is given) or times of day.

    Times of day go on past midnight: one that falls by more than half a day is of the next.

    Raises:
        ValueError: one is neither.
    """
    try:
        dates = map(dt.datetime.fromisoformat, cells)
        return np.array([_utc(date).timestamp() for date in dates])
    except ValueError:
        times = [dt.time.fromisoformat(cell) for cell in cells]
    day = [t.hour * 3600 + t.minute * 60 + t.second + t.microsecond / 1e6 for t in times]
    seconds = np.array(day, np.float64)
    return seconds + 2 * HALF_DAY * np.cumsum(np.diff(seconds, prepend=seconds[:1]) < -HALF_DAY)


def _utc(date: dt.datetime) -> dt.datetime:
    return date if date.tzinfo else date.replace(tzinfo=dt.UTC)


def date_after(date: str, seconds: float) -> str:
    """Returns the ISO 8601 date so many seconds after another, to a millisecond, in its zone."""
    moment = dt.datetime.fromisoformat(date) + dt.timedelta(seconds=seconds)
    return (moment + dt.timedelta(microseconds=500)).isoformat(timespec="milliseconds")


def unit_in_name(name: str) -> str:
    """Returns the unit that ends a column's name, such as 'time (ms)' or 't_s'; '' without one."""
    words = re.findall("[^\\W\\d_]+", name.casefold())
    found = (unit for unit, names in UNIT_NAMES.items() if re.fullmatch(names, words[-1]))
    return next(found, "") if words and (len(words) > 1 or len(words[0]) > 2) else ""


def guess_unit(step: float, rate: float | None) -> str:
    """Returns the unit in which a step of so much gives a likely rate: the nearest to `rate`."""
    hertz = {unit: number / step for unit, number in UNITS.items()}
    if rate is not None:
        return min(hertz, key=lambda unit: abs(np.log(hertz[unit] / rate)))
    return next((unit for unit, hz in hertz.items() if hz >= SLOWEST), "ns")


def in_seconds(
    values: Float[np.ndarray, " n"], unit: str, guessed: str
) -> tuple[Float[np.ndarray, " n"], bool]:
    """Returns plain numbers as seconds, and whether they are dates.

    Args:
        values: finite.
        unit: that is given or stands in the name, or ''.
        guessed: for numbers that are no dates in any unit.
    """
    low, high = EPOCH
    step = float(np.median(np.abs(np.diff(values)))) if len(values) > 1 else 0.0
    for known, number in UNITS.items():
        likely = unit == known or (not unit and step / number <= LONGEST_STEPS[known])
        if likely and low <= values[0] / number < high:
            return values / number, True
    return values / UNITS[unit or guessed], False


def measure(times: Float[np.ndarray, " n"], column: str = "", date: str = "") -> Timeline:
    """Returns the timeline of rows at these seconds of a file's clock; `date` is the first row's.

    Rows whose time is out of place by a few steps are put in order. Rows that share a time, as
    where times have whole seconds, are spread until the next.

    Raises:
        ValueError: they do not rise; names the row, counted from 1, and what to do.
    """
    remedy = "or give --time=none to go by --rate alone"
    if not np.isfinite(times).all():
        row = int(np.flatnonzero(~np.isfinite(times))[0])
        raise ValueError(f"row {row + 1} has no time ({times[row]}): remove the row, {remedy}")
    steps = np.diff(times)
    if not (steps > 0).any():
        text = f"are all {times[0]:.10g}: there is no rate; write others"
        if steps.any():
            text = f"fall from {times[0]:.10g} to {times[-1]:.10g} s: sort the rows by their times"
        raise ValueError(f"the times of {len(times)} rows {text}, {remedy}")
    usual = float(np.median(steps[steps > 0]))
    row = int(steps.argmin())
    if steps[row] < -GAP_STEPS * usual:
        raise ValueError(
            f"row {row + 2}: the time falls from {times[row]:.10g} to {times[row + 1]:.10g} s: "
            f"sort the rows, or cut the file there, {remedy}"
        )
    order = np.argsort(times, kind="stable")
    seconds = _spread(times[order])
    zero = float(seconds[0])
    seconds = seconds - zero
    after = np.diff(seconds)
    usual = float(np.median(after))
    regular = after[after <= HOLE * usual]
    step = float(regular.mean())
    gaps = np.flatnonzero(after > max(GAP_SECONDS, GAP_STEPS * usual))
    holes = after[(after > HOLE * usual) & (after <= max(GAP_SECONDS, GAP_STEPS * usual))]
    jitter = float(regular.std()) / step
    falls, same = np.count_nonzero(steps < 0), np.count_nonzero(np.diff(times[order]) == 0)
    unequal = [
        f"steps vary by {jitter:.0%}" if jitter > REGULAR else "",
        f"holes of up to {holes.max():.3g} s are bridged: {len(holes)}" if len(holes) else "",
        f"rows that stood before an earlier one, put in order: {falls}" if falls else "",
        f"rows with the time of the row before, spread: {same}" if same else "",
    ]
    return Timeline(
        seconds=seconds,
        order=order,
        zero=zero,
        column=column,
        date=date_after(date, zero - times[0]) if date and zero != times[0] else date,
        rate=1 / step,
        gaps=tuple((float(seconds[i]), float(after[i])) for i in gaps),
        unequal="; ".join(filter(None, unequal)),
    )


def usual_rate(rates: Sequence[float]) -> tuple[float, str]:
    """Returns the rate in Hz of most files, and text that names the others.

    Clocks within 1 % of each other have one rate, which is a whole number if one is very near.
    """
    near = [[other for other in rates if abs(other / rate - 1) < ONE_RATE] for rate in rates]
    usual = float(np.median(max(near, key=lambda group: (len(group), -group[0]))))
    whole = round(usual)
    usual = float(whole) if whole and abs(usual / whole - 1) < WHOLE else float(f"{usual:.6g}")
    others = {f"{rate:.4g}" for rate in rates if abs(rate / usual - 1) >= ONE_RATE}
    return usual, f" (others have {', '.join(sorted(others, key=float))} Hz)" if others else ""


def _spread(times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Spreads rows of equal time evenly until the next one, no wider than is usual."""
    first = np.flatnonzero(np.diff(times, prepend=-np.inf) > 0)
    counts = np.diff(first, append=len(times))
    if len(first) == len(times):
        return times
    starts = times[first]
    steps = np.diff(starts) / counts[:-1]
    usual = float(np.median(steps))
    steps = np.minimum(np.append(steps, usual), usual)
    if counts[0] > 1:  # the first second is rarely whole
        ticks = np.diff(starts)
        starts[0] += max(min(ticks[0], float(np.median(ticks))) - counts[0] * steps[0], 0.0)
    within = np.arange(len(times)) - np.repeat(first, counts)
    return np.repeat(starts, counts) + within * np.repeat(steps, counts)


def even(rows: int, rate: float) -> Timeline:
    """Returns the timeline of rows without times, at a rate in Hz."""
    return Timeline(np.arange(rows) / rate, np.arange(rows), None, "", "", rate, (), "")


def pieces(
    timelines: Sequence[Timeline],
    arrays: Sequence[Float[np.ndarray, "_ _"]],
    rate: float,
    *,
    fill: bool = False,
) -> list[Piece]:
    """Returns the samples at a rate, as one piece or, at gaps, several.

    Args:
        timelines: of each source. Where all have clocks of one kind, what they have in common
            counts; otherwise they begin together.
        arrays: of each source, rows by channels.
        rate: Hz.
        fill: whether gaps are bridged by linear interpolation.

    Raises:
        ValueError: the sources have no time in common, or far more than their rows can say.
    """
    zeros = [0.0 if t.zero is None else t.zero for t in timelines]
    if len({(t.zero is None, bool(t.date)) for t in timelines}) > 1:
        zeros = [0.0] * len(timelines)
    shifts = [zero - min(zeros) for zero in zeros]
    common = [(-np.inf, np.inf)]
    for timeline, shift in zip(timelines, shifts, strict=True):
        spans = [(0.0, float(timeline.seconds[-1]))] if fill else timeline.spans
        common = [
            (max(a, c + shift), min(b, d + shift))
            for a, b in common
            for c, d in spans
            if max(a, c + shift) <= min(b, d + shift)
        ]
    if not common:
        raise ValueError("the times of the sources have nothing in common")
    found = []
    step = min(1 / timeline.rate for timeline in timelines)
    for start, end in common:
        number = max(round((end - start + step) * rate), 1)
        rows = max(len(timeline.seconds) for timeline in timelines)
        if number > MOST_SAMPLES * rows:
            raise ValueError(
                f"{rows:,} rows span {end - start:.4g} s, which are {number:,} samples at {rate:g} "
                "Hz: is that the unit? --time=COLUMN:UNIT (s, ms, us or ns) gives another, to all "
                "files: write a single one in that of the others"
            )
        sampled = [
            resample(t, array, start - shift, rate, number, fill=fill)
            for t, array, shift in zip(timelines, arrays, shifts, strict=True)
        ]
        found.append(Piece(start if start * rate >= AT_ONCE else 0.0, sampled))
    return found


def resample(
    timeline: Timeline,
    array: Float[np.ndarray, "n C"],
    start: float,
    rate: float,
    number: int,
    *,
    fill: bool = False,
) -> Float[np.ndarray, "m C"]:
    """Returns `number` samples from `start` on, at `rate`, of the rows of one piece.

    Samples that lie where they should stay as they are. Beyond the ends the value stays.
    """
    rows, low, high = timeline.order, 0, len(timeline.order)
    if not fill:
        firsts = np.array([first for first, _ in timeline.spans])
        # The start may lie before its piece by a rounding; the next piece is steps away.
        rounded = start + REGULAR / timeline.rate
        number_of_piece = max(int(np.searchsorted(firsts, rounded, "right")) - 1, 0)
        first, last = timeline.spans[number_of_piece]
        low = int(np.searchsorted(timeline.seconds, first))
        high = int(np.searchsorted(timeline.seconds, last)) + 1
    seconds, array = timeline.seconds[low:high], array[rows[low:high]]
    at = start + np.arange(number) / rate
    if len(seconds) == number and np.abs(seconds - at).max() <= REGULAR / rate:
        return array
    values = array.astype(np.float64)
    if timeline.rate < BINS * rate:
        return _linear(seconds, values, at).astype(array.dtype)
    edges = np.clip(start + (np.arange(number + 1) - 0.5) / rate, seconds[0], seconds[-1])
    width = np.diff(edges)[:, None]
    total = np.diff(_integral(seconds, values, edges), axis=0)
    means = np.divide(total, width, out=_linear(seconds, values, at), where=width > 0)
    return means.astype(array.dtype)


def _linear(
    seconds: Float[np.ndarray, " n"], values: Float[np.ndarray, "n C"], at: np.ndarray
) -> Float[np.ndarray, "m C"]:
    """Interpolates linearly; beyond the ends the value stays."""
    if len(seconds) == 1:
        return np.repeat(values, len(at), axis=0)
    below = np.clip(np.searchsorted(seconds, at, "right") - 1, 0, len(seconds) - 2)
    weight = (at - seconds[below]) / (seconds[below + 1] - seconds[below])
    weight = np.clip(weight, 0, 1)[:, None]
    return values[below] * (1 - weight) + values[below + 1] * weight


def _integral(
    seconds: Float[np.ndarray, " n"], values: Float[np.ndarray, "n C"], at: np.ndarray
) -> Float[np.ndarray, "m C"]:
    """Integrates the linear interpolant from the first row to these times between the ends."""
    areas = np.diff(seconds)[:, None] * (values[1:] + values[:-1]) / 2
    until = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(areas, axis=0)])
    below = np.clip(np.searchsorted(seconds, at, "right") - 1, 0, len(seconds) - 1)
    there = _linear(seconds, values, at)
    return until[below] + (at - seconds[below])[:, None] * (values[below] + there) / 2
