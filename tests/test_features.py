"""Feature files in every form and layout give the same array, and broken ones say what is wrong."""

import contextlib
import os
import pickle
import re
import sys
import tracemalloc
import types
import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyarrow import parquet
from scipy.io import savemat

from segtad_jax.data import feature_files
from segtad_jax.data.feature_files import FeatureError
from segtad_jax.data.features import (
    as_frames,
    cast,
    infer_layout,
    open_source,
)
from segtad_jax.data.resizing import (
    corner_shift,
    resize_bsn,
    resize_half_pixel,
    resize_linear,
    with_channels,
)

FORMS = [
    "npy", "npz", "csv", "tsv", "mat", "7.3.mat", "pt", "pth", "h5", "hdf5", "one.npz",
]  # fmt: skip


def features(video=0, frames=7, channels=3):
    random = np.random.default_rng(video)
    return random.normal(size=(frames, channels)).astype(np.float32)


def write(folder, form, arrays):
    """Writes {id: array} in a form, and returns what to name as features."""
    folder.mkdir(exist_ok=True)
    if form in ("h5", "hdf5"):
        with h5py.File(folder / f"all.{form}", "w") as file:
            for video, array in arrays.items():
                file[video] = array
        return folder / f"all.{form}"
    if form == "one.npz":
        np.savez(folder / "all.npz", **arrays)
        return folder / "all.npz"
    for video, array in arrays.items():
        WRITERS[form](folder / f"{video}.{form.rpartition('.')[2]}", array)
    return folder


def write_table(path, array):
    frames, channels = array.shape  # a header names channels, so only columns have one
    between = "," if path.suffix == ".csv" else "\t"
    header = [f"f{index}" for index in range(channels)] if frames > channels else []
    np.savetxt(path, array, "%.9g", between, header=between.join(header), comments="")


def write_parquet(path, array):
    columns = {f"f{index}": column for index, column in enumerate(array.T)}
    parquet.write_table(pa.table(columns), path)


def write_torch(path, array):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.save(torch.from_numpy(np.ascontiguousarray(array)), path)


def write_mat73(path, **arrays):
    """Writes what MATLAB's save -v7.3 does: HDF5 behind a header, columns first."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            item = file.create_dataset(name, data=array.T)
            kind = {"f4": "single", "f8": "double"}[array.dtype.str[1:]]
            item.attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(126) + b"\x02IM")


WRITERS = {
    "npy": np.save,
    "npz": lambda path, array: np.savez(path, feats=array, other=np.zeros(3)),
    "csv": write_table,
    "tsv": write_table,
    "parquet": write_parquet,
    "mat": lambda path, array: savemat(path, {"feats": array, "hz": 50.0}, do_compression=True),
    "7.3.mat": lambda path, array: write_mat73(path, feats=array, hz=np.ones((1, 1))),
    "pt": write_torch,
    "pth": write_torch,
}


@pytest.mark.parametrize("layout", ["tc", "ct"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_and_layout_gives_the_same(tmp_path, form, layout):
    arrays = {f"v_x{index}": features(index, frames=5 + index) for index in range(4)}
    stored = {video: a if layout == "tc" else a.T for video, a in arrays.items()}
    source = open_source(write(tmp_path / form, form, stored))
    assert sorted(source.places) == ["x0", "x1", "x2", "x3"]
    assert source.defects == ()
    raw = {video: source.read(video).array for video in source.places}
    assert infer_layout([array.shape for array in raw.values()], "auto") == layout
    for video, array in arrays.items():
        found = as_frames(raw[video.removeprefix("v_")], layout, "here")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, array)


def test_folders_within_folders_and_other_files(tmp_path):
    write(tmp_path / "val", "npy", {"a": features(0)})
    write(tmp_path / "test", "csv", {"b.c": features(1)})
    (tmp_path / "README.txt").write_text("not features")
    np.save(tmp_path / "c", features())
    (tmp_path / "c.npy").rename(tmp_path / "C.NPY")
    source = open_source(tmp_path)
    assert sorted(source.places) == ["C", "a", "b.c"]
    np.testing.assert_array_equal(source.read("C").array, features())


def test_a_second_file_of_a_video_is_named(tmp_path):
    write(tmp_path, "npy", {"v_a": features(0), "a": features(1)})
    source = open_source(tmp_path)
    (defect,) = source.defects
    assert (defect.kind, defect.video) == ("two_files", "v_a")
    assert defect.value == f"{tmp_path / 'v_a.npy'} beside {tmp_path / 'a.npy'}, which is used"
    np.testing.assert_array_equal(source.read("a").array, features(1))


def test_groups_of_one_array_as_in_activitynets_own_file(tmp_path):
    with h5py.File(tmp_path / "c3d.hdf5", "w") as file:
        file["v_x/c3d_features"] = features()
        file["v_y/feats"] = features(1)
        file["v_y/times"] = np.arange(7)
        file["v_z/a"] = features()
        file["v_z/b"] = features()
    source = open_source(tmp_path / "c3d.hdf5")
    np.testing.assert_array_equal(source.read("x").array, features())
    np.testing.assert_array_equal(source.read("y").array, features(1))
    with pytest.raises(FeatureError, match=r"v_z: holds 2 arrays \('a', 'b'\); expected one, or"):
        source.read("z")


class Payload:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["x.pkl", "x.pickle", "x.npy", "x.npz", "x.pt"])
def test_nothing_is_unpickled(tmp_path, name):
    ran, path = tmp_path / "ran", tmp_path / name
    if name == "x.npz":
        np.savez(path, np.array([Payload(ran)], object))
    elif name == "x.npy":
        np.save(path, np.array([Payload(ran)], object))
    elif name == "x.pt":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        torch.save(Payload(ran), path)
    else:
        path.write_bytes(pickle.dumps(Payload(ran)))
    message = r"x\..*: a pickle, which runs code.*np\.save\('new\.npy'"
    with pytest.raises(FeatureError, match=message) as caught:
        open_source(tmp_path).read("x")
    assert caught.value.kind == "pickle"
    assert not ran.exists()


def test_a_pickle_that_is_called_npy(tmp_path):
    (tmp_path / "x.npy").write_bytes(pickle.dumps([1.0]))
    with pytest.raises(FeatureError, match="a pickle"):
        open_source(tmp_path).read("x")


@pytest.mark.parametrize("form", ["npy", "npz", "csv", "h5", "one.npz", "pt"])
def test_files_that_are_cut_short(tmp_path, form):
    path = write(tmp_path / "d", form, {"x": features(frames=400)})
    path = path / f"x.{form}" if path.is_dir() else path
    content = path.read_bytes()
    whole = as_frames(open_source(path).read("x").array, "tc", "here")
    for part in (0.0, 0.2, 0.9):
        path.write_bytes(content[: int(part * len(content))])
        if form == "csv":  # has no length to check, unless the cut is within a line
            with contextlib.suppress(FeatureError):
                assert len(open_source(path).read("x").array) < len(whole)
        else:
            with pytest.raises(FeatureError, match=re.escape(str(path))) as caught:
                open_source(path).read("x")
            assert caught.value.kind == "unreadable"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", b"", "x.npy: an empty file"),
        ("x.npy", b"hello", "x.npy: not an npy file"),
        ("x.csv", b"f0,f1\n1,2\n3\n", "x.csv: .*columns"),
        ("x.csv", b"f0,f1\n1,2\n1,a\n", r"x.csv: line 3, column 2 \('f1'\): 'a' is no number"),
        ("x.csv", b"1,2\n3,\n", r"x.csv: line 2, column 2: '' is no number"),
        ("x.csv", b"a;b\n1,5;2\n", r"line 2, column 1 \('a'\): '1,5' is .* with a point"),
        ("x.csv", b"\xff\xfea", "x.csv: .*utf-8.*save it as UTF-8"),
        ("x.csv", "é".encode("cp1252"), "x.csv: .*utf-8.*save it as UTF-8"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FeatureError, match=message) as caught:
        open_source(tmp_path).read_numbers("x")
    assert caught.value.kind == "unreadable"


def test_a_header_that_asks_for_more_memory_than_there_is(tmp_path):
    np.save(tmp_path / "x.npy", features())
    content = (tmp_path / "x.npy").read_bytes()
    larger = content.replace(b"(7, 3), }             ", b"(9999999999999, 3), } ")
    assert len(larger) == len(content)
    assert larger != content
    (tmp_path / "x.npy").write_bytes(larger)
    with pytest.raises(FeatureError, match=r"x\.npy: "):
        open_source(tmp_path).read("x")


def rezipped(path, change, **options):
    """Writes the one array of an npz anew, as something that np.savez does not write."""
    with zipfile.ZipFile(path) as archive:
        content = archive.read("feats.npy")
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("feats.npy", change(content))


def encrypted(path):
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (encrypted, "encrypted"),
        (lambda path: rezipped(path, bytes, compression=zipfile.ZIP_LZMA), "savez_compressed"),
        (
            lambda path: rezipped(
                path, lambda c: c[:128] + bytes(1 << 22), compression=zipfile.ZIP_DEFLATED
            ),
            "claim to unpack to 4,194,432",
        ),
        (lambda path: rezipped(path, lambda c: c[:-4]), r"damaged: shape \(7, 3\).* 84 .* 80"),
    ],
)
def test_npz_files_that_are_refused(tmp_path, change, message, monkeypatch):
    monkeypatch.setattr(feature_files, "MOST_UNPACKED", 1 << 20)
    write(tmp_path, "npz", {"x": features()})
    path = tmp_path / "x.npz"
    change(path)
    tracemalloc.start()
    with pytest.raises(FeatureError, match=rf"x\.npz: .*{message}"):
        open_source(tmp_path).read("x")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_an_h5_reads_no_other_file(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(features().tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = features()
    layout = h5py.VirtualLayout((7, 3), np.float32)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (7, 3))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["fine"] = features()
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        file["soft"] = h5py.SoftLink("/link")
        file["inner/link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        file.create_dataset("storage", (7, 3), np.float32, external=[(str(secret), 0, 84)])
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("unwritten", (1 << 40, 3), np.float32, chunks=(1 << 10, 3))
        file.create_dataset("partly", (4000, 3), np.float32, chunks=(1000, 3))[:1000] = 1
        file.create_dataset("packed", data=features(), chunks=(4, 2), compression="gzip")
    source = open_source(tmp_path / "all.h5")
    for video in ("fine", "packed"):
        np.testing.assert_array_equal(source.read(video).array, features())
    for video, message in {
        "link": "'link' is a link", "soft": "'soft' is a link", "inner": "'link' is a link",
        "storage": "in other files", "virtual": "in other files",
        "unwritten": r"damaged: 0 of 1,073,741,824 parts", "partly": "1 of 4 parts",
    }.items():  # fmt: skip
        with pytest.raises(FeatureError, match=rf"all\.h5, {video}: .*{message}") as caught:
            source.read(video)
        assert caught.value.kind == "unreadable"


def test_files_among_the_features_that_are_none(tmp_path):
    write(tmp_path, "npy", {"x": features()})
    write(tmp_path, "csv", {"y": features(frames=9)})
    (tmp_path / "._x.npy").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
    (tmp_path / "labels.csv").write_text("video,start,end,label\nx,1,2,walk\n")
    (tmp_path / "marks.csv").write_text("t-start;t-end;what\n1;2;walk\n")
    (tmp_path / "Annotations.csv").write_text("x,1,2,walk\n")
    (tmp_path / "scores.csv").write_text("action,start,end\n0.1,0.2,0.3\n")  # of frames, as BSN's
    for name in ("film.mp4", "b.MP4", "notes.docx", "x.npy.json", ".gitignore"):
        (tmp_path / name).write_text("")
    (tmp_path / "within").mkdir()
    (tmp_path / "within" / "circle").symlink_to(tmp_path)
    (tmp_path / "itself.npy").symlink_to(tmp_path / "itself.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    os.mkfifo(tmp_path / "pipe.csv")
    source = open_source(tmp_path)
    skipped = {d.video for d in source.defects if d.kind == "not_features"}
    annotations = {"labels.csv", "marks.csv", "Annotations.csv"}
    assert skipped == annotations | {"._x.npy", "b.MP4", "notes.docx"}
    assert [d.value for d in source.defects if d.video == "b.MP4"] == ["skipped, as 1 more .mp4"]
    assert sorted(source.places) == ["itself", "pipe", "scores", "x", "y"]
    for video, message in {"pipe": r"pipe\.\w+: not a regular file", "itself": "itself"}.items():
        with pytest.raises(FeatureError, match=message) as caught:
            source.read(video)
        assert caught.value.kind == "unreadable"
    with pytest.raises(FeatureError, match="not a regular file"):
        open_source(tmp_path / "pipe.npy").read("pipe")


def test_an_old_pytorch_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__="2.5.1+cu121"))
    (tmp_path / "x.pt").write_bytes(b"any")
    with pytest.raises(FeatureError, match=r"PyTorch 2\.5\.1.* may run code.*torch>=2\.6"):
        open_source(tmp_path).read("x")


def test_without_pytorch_its_files_say_how_to_convert_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "x.pt").write_bytes(b"any")
    with pytest.raises(FeatureError, match=r"x\.pt: needs PyTorch.*pip install torch, or convert"):
        open_source(tmp_path).read("x")


def test_a_file_that_pytorch_cannot_read(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    (tmp_path / "x.pt").write_bytes(b"hello")
    with pytest.raises(FeatureError, match=r"x\.pt: ") as caught:
        open_source(tmp_path).read("x")
    assert caught.value.kind == "unreadable"
    torch.save({"feats": torch.ones(2, 3, dtype=torch.bfloat16)}, tmp_path / "x.pt")
    np.testing.assert_array_equal(open_source(tmp_path).read("x").array, np.ones((2, 3)))
    torch.save({"names": ["a"]}, tmp_path / "x.pt")
    with pytest.raises(FeatureError, match="holds list, expected a tensor"):
        open_source(tmp_path).read("x")


def test_sources_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no features at .*nowhere: there is no such file"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(FeatureError, match=r"has no file \.csv, \.mat, \.npy"):
        open_source(tmp_path)
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(FeatureError, match=r"x\.txt: not a feature file; expected a folder"):
        open_source(tmp_path / "x.txt")
    (tmp_path / "x.h5").write_text("no")
    with pytest.raises(FeatureError, match=r"x\.h5: "):
        open_source(tmp_path / "x.h5")
    h5py.File(tmp_path / "x.h5", "w").close()
    with pytest.raises(FeatureError, match=r"x\.h5: has no array in it"):
        open_source(tmp_path / "x.h5")


class TestLayout:
    def test_the_axis_on_which_the_videos_agree_is_the_channels(self):
        assert infer_layout([(5, 3), (7, 3), (9, 3)], "auto") == "tc"
        assert infer_layout([(3, 5), (3, 7), (3, 9)], "auto") == "ct"
        assert infer_layout([(5, 3), (7, 3), (9, 3), (5, 4)], "auto") == "tc"

    def test_a_known_number_of_channels_decides(self):
        assert infer_layout([(100, 400)], "auto", channels=400) == "tc"
        assert infer_layout([(400, 100)], "auto", channels=400) == "ct"
        assert infer_layout([(1, 400, 100)], "auto", channels=400) == "ct"

    @pytest.mark.parametrize(
        ("shapes", "channels", "shown"),
        [
            ([(100, 400), (100, 400)], None, r"\(100, 400\), \(100, 400\): say --layout=tc"),
            ([(5, 3)], None, r"\(5, 3\): say"),
            ([(3, 3), (3, 3)], 3, r"\(3 channels are expected\): say"),
            ([(5, 4)], 3, r"\(3 channels are expected\)"),
            ([(5,), (7,)], None, r"\(5,\), \(7,\)"),
        ],
    )
    def test_otherwise_it_has_to_be_said(self, shapes, channels, shown):
        with pytest.raises(FeatureError, match=f"cannot tell which axis is time.*{shown}"):
            infer_layout(shapes, "auto", channels)

    def test_what_is_said_is_believed(self):
        assert infer_layout([(5, 3)], "ct") == "ct"


class TestFrames:
    @pytest.mark.parametrize("shape", [(1, 7, 3), (7, 3, 1), (1, 7, 3, 1, 1)])
    def test_axes_of_length_one_around_are_dropped(self, shape):
        assert as_frames(features().reshape(shape), "tc", "x").shape == (7, 3)

    def test_one_frame_is_enough(self):
        assert as_frames(np.ones((1, 3)), "tc", "x").shape == (1, 3)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint16])
    def test_numbers_of_any_type(self, dtype):
        array = np.arange(6).reshape(2, 3).astype(dtype)
        found = as_frames(array, "tc", "x")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, array)

    @pytest.mark.parametrize(
        ("array", "kind", "message"),
        [
            (np.array([["a"]]), "bad_type", "x: holds <U1, expected numbers"),
            (np.ones((2, 2), bool), "bad_type", "holds bool"),
            (np.ones((2, 2), complex), "bad_type", "holds complex128"),
            (np.ones(5), "bad_shape", r"has shape \(5,\), expected frames by channels"),
            (np.ones((2, 2, 2)), "bad_shape", r"has shape \(2, 2, 2\)"),
            (np.array(1.0), "bad_shape", r"has shape \(\)"),
            (np.ones((0, 3)), "empty", r"has shape \(0, 3\): nothing in it"),
            (np.array([[1, 2], [3, np.nan]]), "not_finite", r"nan at frame 1, channel 1 \(1 such"),
            (np.array([[np.inf, -np.inf]]), "not_finite", r"inf at frame 0, channel 0 \(2 such"),
            (np.array([[1e300]]), "overflow", r"1e\+300 at frame 0, channel 0 is too large for"),
        ],
    )
    def test_what_is_refused(self, array, kind, message):
        with pytest.raises(FeatureError, match=message) as caught:
            as_frames(array, "tc", "x")
        assert caught.value.kind == kind

    def test_half_precision_ends_at_65504(self):
        frames = np.array([[1.0, -65504.0]], np.float32)
        assert cast(frames, np.dtype(np.float16), "x").dtype == np.float16
        frames[0, 1] = -7e4
        message = r"x: -70000 at frame 0, channel 1 is too large for float16; use --dtype=float32"
        with pytest.raises(FeatureError, match=message):
            cast(frames, np.dtype(np.float16), "x")

    @given(
        hnp.arrays(
            st.sampled_from([np.float16, np.float32, np.float64, np.int8, bool, complex]),
            hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        ),
        st.sampled_from(["tc", "ct"]),
    )
    def test_anything_is_finite_frames_or_refused(self, array, layout):
        with contextlib.suppress(FeatureError):
            found = as_frames(array, layout, "the place")
            assert found.ndim == 2
            assert found.size == array.size > 0
            assert np.isfinite(found).all()


def slow_linear(x, length):
    rows = []
    for t in range(length):
        position = t * (len(x) - 1) / max(length - 1, 1)
        low = min(int(position), len(x) - 1)
        high = min(low + 1, len(x) - 1)
        rows.append(x[low] + (position - low) * (x[high] - x[low]))
    return np.array(rows)


def slow_bsn(x, length):
    """BSN's poolData, with frames as the unit of time and bins cut to the first and last centre."""
    rows = []
    for t in range(length):
        first = min(max(t * len(x) / length, 0.5), len(x) - 0.5)
        last = min(max((t + 1) * len(x) / length, 0.5), len(x) - 0.5)
        samples = [first, (first + last) / 2, last]
        centres = np.arange(len(x)) + 0.5
        rows.append(
            [np.mean([np.interp(s, centres, x[:, c]) for s in samples]) for c in range(x.shape[1])]
        )
    return np.array(rows)


def slow_half_pixel(x, length):
    centres = np.arange(len(x)) + 0.5
    at = (np.arange(length) + 0.5) * len(x) / length
    return np.stack([np.interp(at, centres, channel) for channel in x.T], axis=1)


@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (resize_linear, slow_linear),
        (resize_half_pixel, slow_half_pixel),
        (resize_bsn, slow_bsn),
    ],
)
@given(st.integers(1, 12), st.integers(1, 12))
def test_resizers_against_loops(fast, slow, frames, length):
    x = features(frames, frames=frames)
    found = fast(x, length)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow(x.astype(np.float64), length), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("resize", "corners"), [(resize_linear, True), (resize_half_pixel, False)])
def test_resizers_are_pytorchs(resize, corners):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = features(frames=37)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x.T[None]), size=100, mode="linear", align_corners=corners
    )
    np.testing.assert_allclose(resize(x, 100), expected[0].numpy().T, atol=1e-5)


def test_corners_shift_the_ends_and_half_pixels_nothing():
    ramp = (np.arange(53, dtype=np.float32) + 0.5)[:, None] / 53  # its place in the video
    place = (np.arange(1000) + 0.5) / 1000
    off = (resize_linear(ramp, 1000)[:, 0] - place) * 1000
    assert corner_shift(53, 1000) == pytest.approx(off.max(), abs=0.01)
    assert off.max() == pytest.approx(8.93, abs=0.01)
    inner = slice(10, -10)  # beyond the first and last centre there is nothing to go by
    half = resize_half_pixel(ramp, 1000)[:, 0]
    np.testing.assert_allclose(half[inner], place[inner], atol=1e-5)


def test_several_sources_are_as_long_as_the_longest():
    rgb, flow = features(0, frames=9, channels=2), features(1, frames=4, channels=3)
    both = with_channels([rgb, flow])
    assert both.shape == (9, 5)
    np.testing.assert_array_equal(both[:, :2], rgb)
    np.testing.assert_array_equal(both[:, 2:], resize_linear(flow, 9))


@pytest.mark.parametrize("ending", ["csv", "npy"])
def test_empty_files_say_nothing_about_the_axes_of_the_others(tmp_path, ending):
    for index, frames in enumerate((0, 0, 61, 62)):
        path = tmp_path / f"x{index}.{ending}"
        if ending == "npy":
            np.save(path, np.ones((frames, 3 if frames else 0)))
        else:
            np.savetxt(path, np.ones((frames, 3)), delimiter=",", header="a,b,c", comments="")
        if not frames and ending == "csv":
            path.write_text("")
    source = open_source(str(tmp_path))
    form = source.form(source.places, "auto")
    assert (form.layout, form.width) == ("tc", 3)
    with pytest.raises(FeatureError, match=rf"x0\.{ending}"):
        source.frames("x0", form)
