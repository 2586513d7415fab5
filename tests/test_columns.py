"""Columns of csv files are matched by name; times and counters are no features."""

import numpy as np
import pytest

from segtad_jax.data.feature_files import FeatureError
from segtad_jax.data.features import open_source

ROWS = 40


def numbers(video=0, channels=3):
    return np.random.default_rng(video).normal(size=(ROWS + video, channels))


def table(path, header, columns, delimiter=","):
    lines = [] if header is None else [delimiter.join(header)]
    lines += [delimiter.join(f"{value:.6g}" for value in row) for row in np.stack(columns, axis=1)]
    path.write_text("\n".join(lines) + "\n")


def frames(folder, video, **known):
    source = open_source(folder)
    form = source.form(source.places, "auto", **known)
    return form, *source.frames(video, form)[:2]


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("", np.arange),
        ("Unnamed: 0", np.arange),
        ("whatever", lambda n: 7.0 + np.arange(n)),
        ("seq", lambda n: np.round(np.arange(n) / 30, 3)),  # a rounded step
        ("Time", lambda n: np.cumsum(np.random.default_rng(n).random(n))),
        ("timestamp (ms)", lambda n: np.cumsum(np.random.default_rng(n).random(n))),
        ("time_s", lambda n: np.arange(n) % 20),  # falls, but is called so
        ("sensor time", lambda n: np.cumsum(np.random.default_rng(n).random(n))),
        ("t", lambda n: np.cumsum(np.random.default_rng(n).random(n))),
    ],
)
@pytest.mark.parametrize("where", [0, 2])
def test_times_and_counters_are_left_out(tmp_path, name, times, where):
    for video in range(3):
        columns, header = list(numbers(video).T), ["ax", "ay", "az"]
        columns.insert(where, times(ROWS + video))
        header.insert(where, name)
        table(tmp_path / f"x{video}.csv", header, columns)
    form, found, notes = frames(tmp_path, "x1")
    np.testing.assert_allclose(found, numbers(1), rtol=1e-5)
    assert form.columns == ("ax", "ay", "az")
    assert form.width == 3
    ((named, values),) = form.times.items()
    assert named == (name if name and "Unnamed" not in name else f"column {where + 1}")
    assert values.startswith(f"{times(ROWS)[0]:.6g}, ")
    assert notes == []


@pytest.mark.parametrize("name", ["t", "temperature", "frame rate", "ax"])
def test_what_only_resembles_a_time_is_a_channel(tmp_path, name):
    table(tmp_path / "x.csv", [name, "y"], numbers(0, 2).T)
    form, found, _ = frames(tmp_path, "x")
    assert form.columns == (name, "y")
    np.testing.assert_allclose(found, numbers(0, 2), rtol=1e-5)


def test_a_counter_without_a_header(tmp_path):
    for video in range(3):
        table(tmp_path / f"x{video}.csv", None, [np.arange(ROWS + video), *numbers(video).T])
    form, found, _ = frames(tmp_path, "x2")
    assert list(form.times) == ["column 1"]
    np.testing.assert_allclose(found, numbers(2), rtol=1e-5)


def test_not_all_columns_are_times(tmp_path):
    table(tmp_path / "x.csv", ["a", "b"], [np.arange(ROWS), 2.0 * np.arange(ROWS)])
    form, found, _ = frames(tmp_path, "x")
    assert found.shape == (ROWS, 2)
    assert form.times == {}


def test_columns_are_matched_by_name(tmp_path):
    for video, order in enumerate([(0, 1, 2), (0, 1, 2), (2, 0, 1)]):
        x = numbers(video)
        table(tmp_path / f"x{video}.csv", ["xyz"[k] for k in order], [x[:, k] for k in order])
    _, found, notes = frames(tmp_path, "x2")
    np.testing.assert_allclose(found, numbers(2), rtol=1e-5)
    assert notes == [("column_order", "z, x, y")]
    _, found, _ = frames(tmp_path, "x0", width=3, columns=("z", "y", "x"))  # as a model's
    np.testing.assert_allclose(found, numbers(0)[:, ::-1], rtol=1e-5)
    for names, message in (
        (("x", "y", "w"), r"x0\.csv: has no column 'w' and unknown 'z'; expected x, y, w"),
        (("x", "y"), r"unknown 'z'; expected x, y"),
    ):
        with pytest.raises(FeatureError, match=message) as caught:
            frames(tmp_path, "x0", width=3, columns=names)
        assert caught.value.kind == "wrong_columns"


@pytest.mark.parametrize(
    ("header", "columns"),
    [("of one tall person", ("column 1", "column 2", "column 3")), ("x,y,z", ("x", "y", "z"))],
)
def test_what_savetxt_writes_above_the_numbers(tmp_path, header, columns):
    for delimiter in (",", " "):
        above = header.replace(",", delimiter)
        np.savetxt(tmp_path / "x.csv", numbers(), delimiter=delimiter, header=above)
        form, found, _ = frames(tmp_path, "x")
        assert form.columns == columns
        np.testing.assert_allclose(found, numbers(), rtol=1e-5)


def test_where_either_has_no_header_the_order_is_believed(tmp_path):
    table(tmp_path / "x.csv", None, numbers().T)
    _, found, notes = frames(tmp_path, "x", width=3, columns=("ax", "ay", "az"))
    np.testing.assert_allclose(found, numbers(), rtol=1e-5)
    assert notes == []


@pytest.mark.parametrize(
    "header",
    [["0", "1", "2"], ["", "0", "1"], ["a", "a", ""], ['"a"', '"b,c"', "d"], ["time", "0", "1"]],
)
def test_headers_as_people_have_them(tmp_path, header):
    table(tmp_path / "x.csv", header, numbers().T)
    assert len(open_source(tmp_path).read("x").array) == ROWS
    columns = open_source(tmp_path).read("x").columns
    assert len(set(columns)) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r"),  # old Mac
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "   "),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace(",", " , "),
    ],
)
def test_ways_to_write_the_same_table(tmp_path, change):
    table(tmp_path / "x.csv", ["a", "b", "c"], numbers().T)
    plain = frames(tmp_path, "x")[1]
    path = tmp_path / "x.csv"
    path.write_bytes(change(path.read_text()).encode())
    form, found, _ = frames(tmp_path, "x")
    assert form.columns == ("a", "b", "c")
    np.testing.assert_array_equal(found, plain)


def test_names_may_have_blanks_where_tabs_separate_them(tmp_path):
    (tmp_path / "x.csv").write_text("acc x\tacc y\n1\t2\n3\t5\n7\t1\n")
    assert open_source(tmp_path).read("x").columns == ("acc x", "acc y")


def test_a_table_has_a_row_a_frame_without_being_asked(tmp_path):
    table(tmp_path / "x.csv", None, numbers().T)  # of one file neither axis could be told
    form, found, _ = frames(tmp_path, "x")
    assert (form.layout, found.shape) == ("tc", (ROWS, 3))
