"""Fill values and values far from training's are told from measurements, heavy tails are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtad_jax.data.feature_files import FeatureError
from segtad_jax.data.features import as_frames
from segtad_jax.data.value_range import ValueRange, outlier, require_no_fill


def normal(frames=90, channels=8, seed=0):
    return np.random.default_rng(seed).normal(size=(frames, channels)).astype(np.float32)


@pytest.mark.parametrize("value", [-9999, -999, 9999, -32768, 1e20, -1e30, 9.96921e36, 3.4e38])
@pytest.mark.parametrize("count", [1, 7, 80, 90])
def test_fill_values_are_named(value, count):
    x = normal()
    x[-count:, 3] = value
    with pytest.raises(FeatureError) as e:
        require_no_fill(x, "here")
    assert e.value.kind == "fill_value"
    assert f"here: {value:g} at frame {90 - count}, channel 3 ({count} such; " in str(e.value)


def test_what_9999_is_in_float16_is_a_fill_value_there_alone():
    x = normal()
    x[5, 2] = 9999
    with pytest.raises(FeatureError, match="10000 at frame 5, channel 2"):
        as_frames(x.astype(np.float16), "tc", "here")
    x[5, 2] = 10000  # a sensor's end
    assert as_frames(x, "tc", "here")[5, 2] == 10000


def test_two_kinds_of_fill_values_at_once():
    x = normal()
    x[5, 2], x[7, 2] = -999, -9999
    with pytest.raises(FeatureError, match=r"-999 at frame 5, channel 2 \(2 such"):
        require_no_fill(x, "here")


@pytest.mark.parametrize(
    ("value", "count", "named"),
    [(1e6, 1, True), (12345.0, 2, True), (12345.0, 1, False), (500.0, 5, False)],
)
def test_other_values_are_outliers_if_absurd_or_repeated(value, count, named):
    x = normal()
    x[10 : 10 + count, 1] = value
    require_no_fill(x, "here")
    text = outlier(x)
    assert bool(text) == named
    if named:
        assert text.startswith(f"{value:g} at frame 10, channel 1 ({count} such; the others are -")


@given(st.integers(0, 1000))
def test_heavy_tails_are_believed(seed):
    random = np.random.default_rng(seed)
    shape = (400, 4)
    for x in (
        100 * random.standard_t(2, shape),
        np.exp(3 * random.normal(size=shape)),
        (random.random(shape) < 0.01) * random.choice([1.0, 1000.0, 5000.0], shape),
        (random.random(shape) < 0.3).astype(float),
        np.clip(9000 * random.normal(size=shape), -32768, 32767).round(),  # saturates
        np.full(shape, 7.25),
        1.7e12 + 20 * np.arange(1600).reshape(shape),
        -9999 + 3000 * random.normal(size=shape).round(3),  # a fill value among its likes
    ):
        require_no_fill(x.astype(np.float32), "here")
        assert outlier(x.astype(np.float32)) is None


def test_far_from_training():
    trained = ValueRange.union([ValueRange.of([normal(seed=n)]) for n in range(4)])
    assert trained.compare([normal(seed=9)]) is None
    assert trained.compare([3 * normal(seed=9)]) is None
    assert ValueRange.from_json(trained.to_json()).compare([normal(seed=9)]) is None
    x = normal(seed=9)
    x[40, 3] = -100
    text = trained.compare([x])
    assert text.startswith("-100 at frame 40, channel 3, which was -")
    assert f"{trained.low[3]:g} to {trained.high[3]:g} in training" in text
    x[40, 3] = 1e5
    with pytest.raises(FeatureError, match="100000 at frame 40, channel 3, which was") as caught:
        trained.compare([x])
    assert caught.value.kind == "far_value"


def test_a_channel_that_hardly_moved_refuses_nothing():
    """As of a rare filter after a ReLU, in few recordings."""
    trained = ValueRange(np.zeros(4, np.float32), np.array([1, 1, 1, 3e-4], np.float32))
    x = np.full((5, 4), 0.5, np.float32)
    assert trained.compare([x]).startswith("0.5 at frame 0, channel 3, which was 0 to 0.0003")
    x[2, 3] = 500
    with pytest.raises(FeatureError, match="500 at frame 2, channel 3"):
        trained.compare([x])


def test_channels_of_several_sources_and_channels_that_never_moved():
    trained = ValueRange.of([normal(channels=2), np.full((9, 2), 7.25, np.float32)])
    new = [normal(channels=2, seed=1), np.full((5, 2), 7.25, np.float32)]
    assert trained.compare(new) is None
    new[1][3, 1] = 7.5  # measured by how far the others move
    assert trained.compare(new) is None
    new[1][3, 1] = 70
    assert trained.compare(new).startswith("70 at frame 3, channel 1 of source 2, which was 7.25")
