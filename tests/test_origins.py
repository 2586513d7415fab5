"""Annotations in times of the day, and recordings whose files have dates."""

import datetime as dt

import pytest

from segtad_jax.data.clocks import ANY
from segtad_jax.data.features import open_source
from segtad_jax.evaluation.entries import Reading
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.prepare.annotations import read_annotations
from segtad_jax.prepare.origins import origins


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "signals"
    folder.mkdir()
    for name, began in (("a", dt.datetime(2024, 5, 1, 23, 59, 50)), ("b", None)):
        rows = ["time,x,y"]
        for index in range(40):
            seconds = index / 2
            time = (began + dt.timedelta(seconds=seconds)).isoformat() if began else seconds
            rows.append(f"{time},{index % 7},{index % 5}")
        (folder / f"{name}.csv").write_text("\n".join(rows))
    return [open_source(folder)]


def test_dates_in_files_say_when_recordings_began(sources):
    began = origins(sources, "auto", ANY, None)
    assert began("a") == began("v_a") == began("a.csv") == dt.datetime(2024, 5, 1, 23, 59, 50)
    assert began("b") is None
    assert began("c") is None
    assert origins(sources, "auto", None, 2.0)("a") is None  # --time=none


@pytest.mark.parametrize(
    "row", ["a,23:59:52.5,00:00:04,run", "a,2024-05-01T23:59:52.5,2024-05-02 00:00:04,run"]
)
def test_times_of_the_day_are_since_then(tmp_path, sources, row):
    path = tmp_path / "labels.csv"
    path.write_text(f"video,start,end,label\n{row}\n")
    reading = Reading(clock=True, origins=origins(sources, "auto", ANY, None))
    (action,) = read_annotations([path], reading).videos["a"].actions
    assert (action.start, action.end) == (2.5, 14)
    path.write_text("video,start,end,label\nb,23:59:52,00:00:04,run\n")
    with pytest.raises(InputError, match=r"line 2: 23:59:52 .* nothing says when b began"):
        read_annotations([path], reading)
