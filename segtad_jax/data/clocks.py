"""Finds which column of a file has its times, and in which unit."""

import datetime as dt
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from segtad_jax.data.columns import PLACES, column, is_called_times, words
from segtad_jax.data.feature_files import Stored
from segtad_jax.data.timeline import (
    Timeline,
    guess_unit,
    in_seconds,
    measure,
    unit_in_name,
)


class Clock(NamedTuple):
    """How a source's times are read."""

    column: str = ""  # its name; files without it have the one that is found
    unit: str = ""  # as --time gives it
    guessed: str = ""  # unit of numbers that are no dates, and whose name has none


ANY = Clock()
UNITS = "UNIT being s, ms, us or ns"


def fit_clock(
    samples: Sequence[Stored], clock: Clock, left_out: Collection[str], rate: float | None
) -> tuple[Clock, dict[str, str]]:
    """Returns how the times of files are read, by the first few, and {column: what to tell of it}.

    Args:
        samples: the first few files.
        clock: what is known.
        left_out: columns that are no features.
        rate: of the features in Hz, if known.
    """
    found = [(s, name) for s in samples if (name := _find(s, clock, left_out, rate)) is not None]
    if not found:
        so_called = {n for s in samples for n in _candidates(s, left_out) if is_called_times(n)}
        counter = f"counts rows, which are no times; --time={{}}:UNIT says otherwise, {UNITS}"
        return clock, {name: counter.format(name) for name in so_called}
    usual = clock.column or Counter(name for _, name in found).most_common(1)[0][0]
    right = [(s, name) for s, name in found if name not in s.wrong]
    steps = []
    for one, called in right:
        values = _values(one, called)
        plain = called not in one.dates and not (clock.unit or unit_in_name(called))
        if plain and not in_seconds(values, "", "s")[1] and len(values) > 1:
            steps.append(np.median(np.abs(np.diff(values))))
    step = float(np.median(steps)) if steps else 0.0
    guessed = clock.guessed or (guess_unit(step, rate) if step > 0 else "s")
    told: dict[str, dict[str, None]] = {}  # the ways of each column, for files may differ
    for one, called in right:
        told.setdefault(called, {})[_told(one, called, clock.unit, guessed, step)] = None
    return Clock(usual, clock.unit, guessed), {
        n: "; in other files ".join(ways) for n, ways in told.items()
    }


def _told(stored: Stored, name: str, given: str, guessed: str, step: float) -> str:
    """Returns how the times of a file are read, and how that is known."""
    if name in stored.dates:
        return "times in ISO 8601"
    if unit := given or unit_in_name(name):
        return f"times in {unit}, as {'--time' if given else 'its name'} says"
    if in_seconds(_values(stored, name), "", "s")[1]:
        return "times since 1970"
    return f"times in {guessed}, for steps of {step:g}; --time={name}:UNIT says otherwise, {UNITS}"


def read_timeline(
    stored: Stored, clock: Clock, left_out: Collection[str], rate: float | None
) -> Timeline | None:
    """Returns the timeline of a file; None if it has no times.

    Raises:
        ValueError: its times do not rise, or are no numbers.
    """
    name = _find(stored, clock, left_out, rate)
    if name is None:
        return None
    values = _values(stored, name)
    if reason := stored.wrong.get(name):
        raise ValueError(reason)
    if name in stored.dates:
        seconds, date = values, stored.dates[name]
        date = date if _is_day(date) else ""
    else:
        unit = clock.unit or unit_in_name(name)
        seconds, dated = in_seconds(values, unit, clock.guessed or "s")
        at = dt.datetime.fromtimestamp(seconds[0], dt.UTC) if dated else None
        date = at.isoformat() if at else ""
    return measure(seconds, name, date)


def _is_day(text: str) -> bool:
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _values(stored: Stored, name: str) -> np.ndarray:
    if stored.times is not None and stored.times[0] == name:
        return stored.times[1]
    return column(stored, name)


def _find(table: Stored, clock: Clock, left_out: Collection[str], rate: float | None) -> str | None:
    """Returns the column, or array, of a file's times.

    Where it has none of the clock's name, it is one of those that are no features: dates come
    first, then what is called times. What counts rows is no time, see `counts_rows`.
    """
    if clock.column in table.columns or (table.times and table.times[0] == clock.column):
        return clock.column
    names = _candidates(table, left_out)
    dated = [name for name in names if name in table.dates]
    called = [name for name in names if is_called_times(name)]
    others = [name for name in names if PLACES.isdisjoint(words(name))]
    ordered = (*dated, *called, *others)
    return next((n for n in ordered if not counts_rows(n, _values(table, n), rate)), None)


def _candidates(table: Stored, left_out: Collection[str]) -> list[str]:
    if table.times is not None:
        return [table.times[0]]
    return [name for name in table.columns if name in left_out]


def counts_rows(name: str, values: np.ndarray, rate: float | None) -> bool:
    """Returns whether numbers are those of rows.

    They rise by 1, and neither their name has a unit, nor are they called times where the rate is
    1 Hz or unknown.
    """
    seconds = is_called_times(name) and (unit_in_name(name) or rate in (None, 1))
    return not seconds and bool((np.diff(values) == 1).all())
