"""DataFrames, as pandas and polars have them, read as files are. Neither library is imported.

The index of pandas gives the times, if it has any: dates, lengths of time, or numbers in a unit
that is found as that of a column. One that counts rows does not.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import numpy as np
from etils import epath

from segtad_jax.data.clocks import Clock, counts_rows
from segtad_jax.data.feature_files import (
    FeatureError,
    Stored,
    as_times,
    column_names,
    is_number,
)
from segtad_jax.data.features import Source
from segtad_jax.data.timeline import read_dates

INDEX = "index"  # as one without a name is called


@runtime_checkable
class DataFrame(Protocol):
    """A table with names of columns, as pandas and polars have it."""

    columns: Any

    def to_numpy(self) -> Any:
        """Returns all values; arrays have no such method."""
        ...

    def __getitem__(self, name: Any) -> Any:
        """Returns a column."""
        ...

    def __len__(self) -> int:
        """Returns the number of rows."""
        ...


@dataclasses.dataclass(frozen=True)
class MemorySource(Source):
    """A source of features with one recording, which is in memory."""

    stored: Stored = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls, value: Any, rate: float | None) -> "MemorySource":
        """Returns the source of a DataFrame, or of an array without names and times.

        Args:
            value: whose rows are frames.
            rate: of the features in Hz, if known.

        Raises:
            FeatureError: two columns have one name.
        """
        place = epath.Path("features"), None
        stored = _read(value, rate) if isinstance(value, DataFrame) else Stored(np.asarray(value))
        return cls(place[0], {"recording": place}, {"recording": "recording"}, (), stored=stored)

    @property
    def clock(self) -> Clock | None:
        """Clock of the index, whatever the files of training had."""
        return self.stored.times and Clock(self.stored.times[0])

    def read(self, video: str) -> Stored:  # noqa: ARG002 - there is one
        """Returns what was given."""
        return self.stored


def _read(table: DataFrame, rate: float | None) -> Stored:
    names = [str(name) if isinstance(name, str) else "" for name in table.columns]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise FeatureError("wrong_columns", f"features: two columns are called {twice!r}")
    columns = column_names(names)
    array = np.full((len(table), len(columns)), np.nan)
    dates, wrong = dict[str, str](), dict[str, str]()
    for number, (key, name) in enumerate(zip(table.columns, columns, strict=True)):
        try:
            array[:, number] = _numbers(table[key], name, dates)
        except (TypeError, ValueError) as error:
            wrong[name] = f"column {name!r} has neither numbers nor ISO 8601 times: {error}"
    times, beside = None, tuple[str, ...]()
    if (index := getattr(table, "index", None)) is not None:
        name = index.name if isinstance(getattr(index, "name", None), str) else INDEX
        try:
            seconds = _numbers(index, name, dates)
            if name in dates or not counts_rows(name, seconds, rate):
                times = name, seconds
        except (TypeError, ValueError):  # names of rows
            beside = (name,)
    return Stored(array, columns, beside, times, dates, wrong)


def _numbers(values: Any, name: str, dates: dict[str, str]) -> np.ndarray:
    """Returns a column or an index as numbers, times as seconds, whose first `dates` notes."""
    array = np.asarray(getattr(values, "values", values))
    if array.dtype.kind != "O":
        return as_times(array, name, dates)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        cells = [str(cell) for cell in array]
    try:
        seconds = read_dates(cells)
    except ValueError as error:
        row = next(row for row, cell in enumerate(cells) if not is_number(cell))
        raise ValueError(f"row {row}: {cells[row][:40]!r}") from error
    dates[name] = cells[0]
    return seconds
