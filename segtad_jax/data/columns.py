"""Columns of tables: which are no features but times, and in which order the others stand."""

import collections
import re
from collections.abc import Collection, Sequence

import numpy as np

from segtad_jax.data.feature_files import FeatureError, Stored
from segtad_jax.data.timeline import NAMES

RISING = {
    "t", "ts", "time", "timestamp", "datetime", "date", "epoch", "elapsed", "index", "idx", "frame",
    "frames", "sample", "row", "second", "seconds",
}  # with such a word in its name, if it never falls  # fmt: skip
PLACES = {"index", "idx", "frame", "frames", "sample", "row"}  # of which, these are no times
LEAST = 8  # rows in which a counter is told from features
MANY = 32  # rows that all rise, in which times without a name are
ROUNDING = 0.05  # of a counter's step


def time_columns(tables: Sequence[Stored]) -> dict[str, str]:
    """Returns the columns of times and counters, with their first values as text.

    A column is one if it is called so or holds dates; if it has a word for a time or a place in its
    name and never falls; if it rises by the same step in every row of every table; or if it has no
    name and rises in every row.
    """
    names = collections.Counter(name for table in tables for name in table.columns)
    found = {}
    for name in names:
        having = [table for table in tables if name in table.columns]
        values = [column(table, name) for table in having]
        steps, least = list(map(np.diff, values)), max(map(len, values))
        called = is_called_times(name) or any(name in table.dates for table in having)
        rises = all((step >= 0).all() for step in steps) and not RISING.isdisjoint(words(name))
        unnamed = not named([name]) and least >= MANY and all((step > 0).all() for step in steps)
        if called or rises or unnamed or (least >= LEAST and all(map(_counts, values))):
            date = having[0].dates.get(name)
            found[name] = date or ", ".join(f"{value:.15g}" for value in values[0][:3])
            found[name] += ", ..."
    return found if len(found) < len(names) else {}


def is_called_times(name: str) -> bool:
    """Returns whether a column is called time, timestamp or the like, whatever its unit."""
    return " ".join(words(name)) in NAMES


def words(name: str) -> list[str]:
    """Returns the words of a column's name, less its unit."""
    return re.findall("[a-z]+", re.sub(r"[(\[].*|_[mun]?s$", "", name.casefold()))


def column(table: Stored, name: str) -> np.ndarray:
    """Returns the values of a column."""
    return table.array[:, table.columns.index(name)]


def _counts(values: np.ndarray) -> bool:
    """Returns whether values rise by one step; too few contradict nothing."""
    steps = np.diff(values)
    if len(steps) < 2:
        return True
    step = steps.mean()
    return bool(step > 0 and (np.abs(steps - step) <= ROUNDING * step).all())


def usual_columns(tables: Sequence[Stored], left_out: Collection[str]) -> tuple[str, ...]:
    """Returns the names of the features in the order in which most tables have them."""
    counts = collections.Counter(table.columns for table in tables)
    usual = counts.most_common(1)[0][0] if counts else ()
    return tuple(name for name in usual if name not in left_out)


def in_order(
    table: Stored, columns: Sequence[str], left_out: Collection[str], where: str, chosen: bool
) -> tuple[np.ndarray, bool]:
    """Returns the columns of these names, and whether they stood in another order.

    Where either has no names, as without a header line, the order is believed; not so if the
    columns were `chosen`: then others may be there.

    Raises:
        FeatureError: kind 'wrong_columns', if the names are not the same.
    """
    there = [name for name in table.columns if name not in left_out]
    if not chosen and not (named(there) and named(columns)):
        return table.array[:, [table.columns.index(name) for name in there]], False
    missing = [name for name in columns if name not in there]
    others = [name for name in there if name not in columns and not chosen]
    if missing or others:
        parts = [
            f"{text} {', '.join(map(repr, names[:5]))}{' ...' if len(names) > 5 else ''}"
            for text, names in (("no column", missing), ("unknown", others))
            if names
        ]
        expected = ", ".join(columns[:10]) + (", ..." if len(columns) > 10 else "")
        text = f"{where}: has {' and '.join(parts)}; expected {expected}"
        raise FeatureError("wrong_columns", text)
    order = [table.columns.index(name) for name in columns]
    return table.array[:, order], not chosen and there != list(columns)


def named(columns: Sequence[str]) -> bool:
    """Returns whether a header named any of the columns."""
    return any(not re.fullmatch(r"column \d+", name) for name in columns)
