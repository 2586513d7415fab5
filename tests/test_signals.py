"""Windowed statistics and context against loops."""

import itertools
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtad_jax.data.signals import (
    CONTEXT_OFFSETS,
    GrowingStatistics,
    Normalisation,
    window_statistics,
    with_context,
)


def slow_statistics(signal, samples):
    rows = []
    for first in range(0, len(signal) - samples + 1, samples):
        channels = [list(map(float, signal[first : first + samples, c])) for c in range(2)]
        means = [sum(x) / samples for x in channels]
        deviations = [
            (sum((v - m) ** 2 for v in x) / samples) ** 0.5
            for x, m in zip(channels, means, strict=True)
        ]
        differences = [
            sum(abs(b - a) for a, b in itertools.pairwise(x)) / (samples - 1) for x in channels
        ]
        rows.append(means + deviations + differences)
    return np.array(rows)


@given(st.integers(2, 12), st.integers(0, 30), st.integers(0, 99))
def test_statistics_against_a_loop(samples, more, seed):
    signal = np.random.default_rng(seed).normal(3.0, 2.0, (samples + more, 2))
    found = window_statistics(signal, samples)
    np.testing.assert_allclose(found, slow_statistics(signal, samples), rtol=1e-12, atol=1e-12)


@given(st.integers(1, 30))
def test_context_against_a_loop(length):
    frames = np.random.default_rng(length).normal(size=(length, 3))
    found = with_context(frames)
    for t in range(length):
        row = [frames[min(max(t + o, 0), length - 1)] for o in (-10, -5, -3, -1, 0, 1, 3, 5, 10)]
        np.testing.assert_array_equal(found[t], np.concatenate(row))


@given(st.integers(0, 400), st.integers(2, 9), st.integers(1, 3), st.lists(st.integers(0, 400)))
def test_frames_of_a_growing_signal_are_those_of_the_whole(length, samples, channels, cuts):
    """Bit for bit, and each as soon as the frames around it are there."""
    signal = np.random.default_rng(length).normal(size=(length, channels))
    growing = GrowingStatistics(samples, channels)
    parts = np.split(signal, sorted(min(cut, length) for cut in cuts))
    made = []
    for number, part in enumerate(parts, start=1):
        made.append(growing.add(part))
        known = sum(map(len, parts[:number])) // samples
        assert sum(map(len, made)) == max(known - max(CONTEXT_OFFSETS), 0)
    made.append(growing.add(signal[:0], last=True))
    if length >= samples:
        expected = with_context(window_statistics(signal, samples))
        np.testing.assert_array_equal(np.concatenate(made), expected)
    assert sum(map(len, made)) == length // samples


def test_context_of_the_frame_itself_is_the_frame():
    frames = np.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(with_context(frames, offsets=(0,)), frames)
    assert with_context(frames).shape == (4, 3 * len(CONTEXT_OFFSETS))


def test_normalised_training_frames_have_mean_0_and_deviation_1():
    random = np.random.default_rng(0)
    long, short = random.normal(5.0, 3.0, (400, 2)), random.normal(-5.0, 1.0, (100, 2))
    normalise = Normalisation.fit([long, short])
    together = np.concatenate([normalise(long), normalise(short)])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(together.std(axis=0), 1, atol=1e-6)
    other = np.full((1, 2), 7.0)
    np.testing.assert_allclose(
        normalise(other), (other - normalise.mean) / normalise.std, rtol=1e-6
    )


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any),
    st.sampled_from([0.0, 1.0, 1e6]),
    st.integers(0, 99),
)
def test_moments_are_those_of_everything_at_once(lengths, offset, seed):
    random = np.random.default_rng(seed)
    recordings = [offset + random.normal(size=(1, 3)) + random.random((n, 3)) for n in lengths]
    found = Normalisation.fit(recordings)
    frames = np.concatenate(recordings)
    np.testing.assert_allclose(found.mean, frames.mean(axis=0), rtol=1e-12, atol=1e-12)
    expected = frames.std(axis=0) if len(frames) > 1 else np.ones(3)
    np.testing.assert_allclose(found.std, expected, rtol=1e-9)


def test_recordings_are_not_kept():
    made = []

    def recordings():
        for index in range(5):
            recording = np.full((50, 2), float(index))
            made.append(weakref.ref(recording))
            yield recording
            del recording
            assert sum(kept() is not None for kept in made) <= 1  # the one just taken in

    Normalisation.fit(recordings())


def test_without_a_recording_there_is_nothing_to_normalise_by():
    with pytest.raises(ValueError, match="no training recording can be read"):
        Normalisation.fit([])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 / 3])
def test_a_constant_channel_becomes_zero(constant):
    features = np.stack([np.full(1000, constant), np.arange(1000.0)], axis=1)
    normalised = Normalisation.fit(np.split(features, 4))(features)
    np.testing.assert_allclose(normalised[:, 0], 0, atol=1e-6)
    assert normalised[:, 1].std() == pytest.approx(1)


def test_signals_that_make_no_frame_are_refused():
    with pytest.raises(ValueError, match="signal of 9 samples is shorter than one window of 10"):
        window_statistics(np.zeros((9, 6)), 10)
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        window_statistics(np.zeros((9, 6)), 1)
