"""Damaged feature files are named, or read as they were: no traceback, no hang, no big memory."""

import time
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from etils import epath
from pyarrow import parquet

from segtad_jax.data.feature_files import FeatureError, read_array
from segtad_jax.data.features import open_source
from test_features import features, write

DAMAGES = 60  # of each form
MOST_MEMORY = 20 << 20  # bytes; the files have 4 kB
MOST_SECONDS = 5.0  # for one file


def damaged(content, random):
    """A file of 4 kB with one kind of damage, and whether it is shorter or longer."""
    kind = random.integers(6)
    at = int(random.integers(len(content)))
    near = int(random.integers(min(len(content), 200)))  # headers
    changed = bytearray(content)
    if kind == 0:
        return content[:at], True
    if kind == 1:
        return content[:at] + content[at + 1 :], True
    if kind == 2:
        return content[:at] + random.bytes(3) + content[at:], True
    if kind == 3:
        at = near
    if kind == 4:
        changed[near : near + 4] = random.bytes(4)
    else:
        changed[at] ^= 1 << int(random.integers(8))
    return bytes(changed), False


@pytest.mark.parametrize(
    "form", ["npy", "npz", "csv", "tsv", "parquet", "mat", "7.3.mat", "h5", "one.npz", "pt"]
)
@pytest.mark.filterwarnings("ignore")  # numpy's, of headers that are no Python
def test_a_damaged_file_is_named_or_read_as_it_was(tmp_path, form):
    whole = features(frames=90, channels=8)
    path = write(tmp_path / "d", form, {"x": whole, "y": whole + 1})
    path = path / f"x.{form.rpartition('.')[2]}" if path.is_dir() else path
    content = path.read_bytes()
    source = open_source(path)
    form_of = source.form(source.places, "tc")
    np.testing.assert_array_equal(source.frames("x", form_of)[0], whole)
    random = np.random.default_rng(0)
    named = same = 0
    for _ in range(DAMAGES):
        changed, resized = damaged(content, random)
        path.write_bytes(changed)
        tracemalloc.start()
        started = time.monotonic()
        try:
            found = open_source(path).frames("x", form_of).array
        except FeatureError as error:
            named += str(path) in str(error)
            continue
        except KeyError:  # in a file of many x is called otherwise, so that x is missing
            named += form in ("h5", "one.npz")
            continue
        finally:
            assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
            assert time.monotonic() - started < MOST_SECONDS
            tracemalloc.stop()
        same += 1
        assert np.isfinite(found).all()
        if form.endswith("npz"):  # has checksums
            np.testing.assert_array_equal(found, whole)
        elif form in ("csv", "tsv") and resized:  # no length is written in it
            assert found.shape[1] == 8
        else:
            assert found.shape == whole.shape
    assert named + same == DAMAGES
    assert named > DAMAGES / 4


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_long_text_among_short_ones_takes_no_memory_for_each_row(tmp_path, form):
    notes = ["y" * 50_000, *(f"n{row}" for row in range(1999))]
    path = epath.Path(tmp_path / f"x.{form}")
    if form == "csv":
        rows = (f"{row / 50},{row % 7},{note}" for row, note in enumerate(notes))
        path.write_text("\n".join(["time,x,note", *rows]) + "\n")
    else:
        columns = {"time": np.arange(2000) / 50, "x": np.arange(2000) % 7, "note": notes}
        parquet.write_table(pa.table(columns), path)
    tracemalloc.start()
    try:
        found = read_array(path)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
    assert list(found.wrong) == ["note"]
    assert found.array[-1].tolist()[:2] == [39.98, 1999 % 7]
