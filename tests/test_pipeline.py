"""Batches against loops: a function of the step alone, however many processes read them."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtad_jax.data import pipeline
from segtad_jax.data.dataset import Dataset, Recording, open_dataset
from segtad_jax.data.records import Record
from segtad_jax.data.writer import write_dataset

LENGTHS = (30, 64, 65, 200, 7)
RATE = 4.0


def record(index):
    random = np.random.default_rng(index)
    frames = LENGTHS[index]
    duration = frames / RATE + 0.2  # less than a frame over
    actions = 2 * index
    bounds = np.sort(random.uniform(0, duration, (actions, 2)), axis=1)
    bounds[:1] = duration - 0.15, duration - 0.05  # after the last frame: in no window
    return Record(
        video=f"v{index}",
        features=random.normal(size=(frames, 3)).astype(np.float32),
        rate=RATE,
        duration=duration,
        segments=bounds,
        labels=tuple(random.choice(["a", "b"], actions).tolist()),
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = write_dataset(
        tmp_path_factory.mktemp("data"),
        name="small",
        classes=("a", "b"),
        num_channels=3,
        splits={"training": map(record, range(len(LENGTHS)))},
        description="For a test.",
    )
    return open_dataset(directory)


@pytest.fixture(scope="module")
def recordings(dataset):
    return dataset.recordings("training")


def training(dataset, recordings, first=0, last=6, window=64, batch_size=8, seed=3, **processes):
    return pipeline.training_batches(
        dataset,
        recordings,
        length=window,
        batch_size=batch_size,
        seed=seed,
        first_step=first,
        last_step=last,
        **processes,
    )


def slow_window(index, start, window):
    """Features of a window of recording `index`, from its original record."""
    original = record(index)
    features = np.zeros((window, 3), np.float32)
    frames = min(window, LENGTHS[index] - start)
    for t in range(frames):
        features[t] = original.features[start + t]
    return {"features": features, "num_frames": np.int32(frames)}


def slow_actions(index, start, window, num_actions):
    """The actions of a window, of which half a frame is in it or all that is recorded."""
    original, segments, labels = record(index), [], []
    frames, end = min(window, LENGTHS[index] - start), LENGTHS[index] - start
    for (begin, stop), label in zip(original.segments, original.labels, strict=True):
        first, last = begin * RATE - start, stop * RATE - start
        inside = min(last, frames) - max(first, 0.0)
        if inside >= 0.5 or (inside > 0 and inside == min(last, end) - first):
            segments.append((first / window, last / window))
            labels.append({"a": 1, "b": 2}[label])
    missing = num_actions - len(labels)
    return {
        "segments": np.array(segments + [(0, 0)] * missing, np.float32).reshape(-1, 2),
        "labels": np.array(labels + [0] * missing, np.int32),
        "valid": np.array([True] * len(labels) + [False] * missing),
    }


def assert_row(batch, row, expected):
    for key, value in expected.items():
        assert batch[key].dtype == value.dtype
        np.testing.assert_allclose(batch[key][row], value, rtol=1e-6, atol=1e-7, err_msg=key)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_batch_has_the_features_dtype(dataset, recordings, dtype):
    other = dataclasses.replace(dataset, dtype=np.dtype(dtype))
    assert other.features(recordings[0]).dtype == dtype
    assert pipeline._blank(other, 2, 64)["features"].dtype == dtype


@pytest.mark.parametrize("window", [64, 200])
def test_training_batches_against_a_loop(dataset, recordings, window):
    lengths = np.array(LENGTHS)
    cut_somewhere = False
    for step, batch in enumerate(training(dataset, recordings, window=window)):
        chosen, starts = pipeline.draw_windows(3, step, 8, lengths, window)
        for row in range(8):
            index, start = int(chosen[row]), int(starts[row])
            assert_row(batch, row, slow_window(index, start, window))
            assert_row(batch, row, slow_actions(index, start, window, batch["labels"].shape[1]))
        np.testing.assert_array_equal(batch["position"], np.arange(8, dtype=np.int32))
        assert batch["position"].dtype == np.int32
        cut_somewhere |= bool((batch["segments"] < 0).any() and (batch["segments"] > 1).any())
    assert step == 5
    assert cut_somewhere == (window == 64)


@given(
    st.integers(0, 9),
    st.integers(0, 50),
    st.integers(1, 12),
    st.lists(st.integers(1, 90), min_size=1, max_size=6),
    st.sampled_from([8, 40, 100]),
)
def test_windows_lie_in_their_recordings_and_depend_on_nothing_else(
    seed, step, batch_size, lengths, window
):
    lengths = np.array(lengths)
    chosen, starts = pipeline.draw_windows(seed, step, batch_size, lengths, window)
    assert chosen.shape == starts.shape == (batch_size,)
    assert ((chosen >= 0) & (chosen < len(lengths))).all()
    assert ((starts >= 0) & (starts <= np.maximum(lengths[chosen] - window, 0))).all()
    again = pipeline.draw_windows(seed, step, batch_size, lengths, window)
    np.testing.assert_array_equal(again, (chosen, starts))


@pytest.mark.parametrize("lengths", [[5] * 50, [5, 40, 60]], ids=["short", "long"])
def test_another_seed_draws_other_windows(lengths):
    def drawn(seed: int) -> np.ndarray:
        windows = [pipeline.draw_windows(seed, step, 16, np.array(lengths), 8) for step in (0, 5)]
        return np.array(windows)

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    assert not np.array_equal(drawn(0), drawn(1))


@pytest.mark.parametrize("batch_size", [1, 3, 5, 12])
def test_short_recordings_come_once_in_every_epoch(batch_size):
    lengths = np.array([5, 8, 3, 8, 1])
    steps = range(15)
    drawn = [pipeline.draw_windows(7, step, batch_size, lengths, 8)[0] for step in steps]
    order = np.concatenate(drawn)
    epochs = order[: len(order) // 5 * 5].reshape(-1, 5)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(5), (len(epochs), 1)))
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1


def test_long_recordings_come_in_proportion_to_length_at_all_frames():
    lengths, window = np.array([20, 40, 100]), 40
    draws = [pipeline.draw_windows(0, step, 100, lengths, window) for step in range(300)]
    chosen, starts = (np.concatenate(x) for x in zip(*draws, strict=True))
    share = np.bincount(chosen) / len(chosen)
    # max(F, T) - T/2: 20, 20, 80
    np.testing.assert_allclose(share, [1 / 6, 1 / 6, 4 / 6], atol=0.01)
    assert (starts[chosen < 2] == 0).all()
    assert not np.array_equal(pipeline.draw_windows(1, 0, 100, lengths, window), draws[0])
    counts = np.bincount(starts[chosen == 2], minlength=61)
    assert len(counts) == 61
    expected = counts.sum() / 61
    np.testing.assert_allclose(counts, expected, rtol=0.35)


def test_even_windows_show_the_ends_of_recordings_as_often():
    lengths, window = np.array([30, 200]), 40
    draws = [pipeline.draw_windows(0, step, 100, lengths, window, even=True) for step in range(300)]
    chosen, starts = (np.concatenate(x) for x in zip(*draws, strict=True))
    np.testing.assert_allclose(np.bincount(chosen) / len(chosen), lengths / 230, atol=0.01)
    assert (starts[chosen == 0] == 0).all()
    starts = starts[chosen == 1]
    assert (starts.min(), starts.max()) == (0, 160)
    seen = np.zeros(200)
    for start in starts:
        seen[start : start + window] += 1
    seen /= seen.mean()
    # Uniform starts alone show frame 0 once for 40 times that the middle is seen.
    assert seen.min() > 0.45
    assert seen.max() < 1.65


@pytest.mark.parametrize("window", [64, 200])
@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_together_read_the_batch_of_one(dataset, recordings, window, process_count):
    whole = training(dataset, recordings, window=window)
    parts = [
        training(
            dataset,
            recordings,
            window=window,
            process_index=index,
            process_count=process_count,
        )
        for index in range(process_count)
    ]
    for batch, *slices in zip(whole, *parts, strict=True):
        assert_same(batch, {k: np.concatenate([s[k] for s in slices]) for k in batch})


def test_a_process_reads_only_its_own_records(dataset, recordings, monkeypatch):
    read = []
    features = Dataset.features
    monkeypatch.setattr(
        Dataset, "features", lambda self, r: read.append(r.video) or features(self, r)
    )
    lengths = np.array(LENGTHS)
    list(training(dataset, recordings, last=1, batch_size=4, process_index=1, process_count=2))
    chosen, _ = pipeline.draw_windows(3, 0, 4, lengths, 64)
    assert set(read) == {recordings[i].video for i in chosen[2:]}


def test_a_resumed_run_gets_what_an_unbroken_one_would(dataset, recordings):
    unbroken = list(training(dataset, recordings, last=9))
    resumed = list(training(dataset, recordings, first=5, last=9))
    for batch, expected in zip(resumed, unbroken[5:], strict=True):
        assert_same(batch, expected)
    assert not np.array_equal(unbroken[0]["features"], unbroken[1]["features"])


def recording_of(num_frames, segments=()):
    return Recording(
        video="v",
        num_frames=num_frames,
        rate=1.0,
        duration=float(num_frames),
        segments=np.array(segments, float).reshape(-1, 2),
        labels=np.ones(len(segments), np.int32),
        shard="",
        offset=0,
        size=0,
    )


@pytest.mark.parametrize(
    ("segment", "inside"),
    [
        ((5, 10.02), False),  # two hundredths of a frame reach into the window of frames 10 to 19
        ((5, 10.6), True),
        ((19.98, 25), False),
        ((19.4, 25), True),
        ((12.3, 12.32), True),  # all of it
        ((5, 10), False),
        ((15, 15), False),
        ((20, 25), False),
    ],
)
def test_the_hundredth_of_an_action_is_not_in_a_window(segment, inside):
    found, labels = pipeline.actions_inside(recording_of(40, [segment]), 10, 10)
    assert (len(found), len(labels)) == (inside, inside)
    if inside:
        np.testing.assert_allclose(found[0], np.array(segment) - 10)


def test_the_end_of_a_recording_cuts_no_action():
    for segment, counts in (((19.8, 20.3), True), ((20.1, 20.3), False)):
        found, _ = pipeline.actions_inside(recording_of(20, [segment]), 10, 10)
        assert len(found) == counts


@given(
    st.integers(1, 60),
    st.integers(1, 30),
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 20)), max_size=8),
)
def test_no_window_has_more_actions_than_are_made_room_for(frames, length, actions):
    recording = recording_of(frames, [(start, start + more) for start, more in actions])
    starts = range(max(frames - length, 0) + 1)
    counts = [len(pipeline.actions_inside(recording, start, length)[1]) for start in starts]
    assert max(counts) <= pipeline.most_actions(recording, length) <= len(actions)


def test_room_is_made_for_the_actions_of_a_window_not_of_a_recording():
    segments = [(10 * index, 10 * index + 5) for index in range(1000)]  # at most four in 32 frames
    assert pipeline.most_actions(recording_of(10_000, segments), 32) == 4
    assert pipeline.most_actions(recording_of(10_000, segments), 20_000) == 1000
    meet = recording_of(40, [(5, 10.6), (19.4, 25)])  # in the window of frames 10 to 19 alone
    assert pipeline.most_actions(meet, 10) == 2


@given(
    st.lists(st.integers(1, 300), max_size=5), st.integers(1, 80), st.floats(0, 1, exclude_max=True)
)
def test_inference_windows_cover_every_frame(lengths, window, overlap):
    windows = pipeline.inference_windows([recording_of(n) for n in lengths], window, overlap)
    for index, length in enumerate(lengths):
        own = [w for w in windows if w.recording == index]
        assert own[0].offset == 0
        assert own[-1].offset + own[-1].num_frames == length
        step = max(round(window * (1 - overlap)), 1)
        for a, b in itertools.pairwise(own):
            assert b.offset - a.offset == step
            assert a.num_frames == window
            assert a.offset + window < length  # otherwise the next one would be superfluous
        covered = {t for w in own for t in range(w.offset, w.offset + w.num_frames)}
        assert covered == set(range(length))


@given(
    st.lists(st.integers(1, 300), max_size=5), st.integers(1, 80), st.floats(0, 1, exclude_max=True)
)
def test_whole_windows_cover_every_frame_and_end_with_their_recording(lengths, window, overlap):
    recordings = [recording_of(n) for n in lengths]
    windows = pipeline.inference_windows(recordings, window, overlap, whole=True)
    step = pipeline.inference_step(window, overlap)
    for index, length in enumerate(lengths):
        own = [w for w in windows if w.recording == index]
        assert all(w.num_frames == min(window, length) for w in own)
        assert own[0].offset == 0
        assert own[-1].offset == max(length - window, 0)
        for a, b in itertools.pairwise(own):
            assert 0 < b.offset - a.offset <= step
        assert len(own) == len(
            [
                w
                for w in pipeline.inference_windows(recordings, window, overlap)
                if w.recording == index
            ]
        )


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_inference_batches_hold_every_window_once(dataset, recordings, process_count):
    windows = pipeline.inference_windows(recordings, 64, 0.5)
    assert len(windows) == 1 + 1 + 2 + 6 + 1
    counts, seen, readers = [], [], {}
    for process in range(process_count):
        batches = list(
            pipeline.inference_batches(
                dataset,
                recordings,
                windows,
                length=64,
                batch_size=4,
                process_index=process,
                process_count=process_count,
            )
        )
        counts.append(len(batches))
        for batch in batches:
            assert len(batch["window"]) == 4 // process_count
            assert batch["window"].dtype == np.int32
            assert not batch["num_frames"][batch["window"] < 0].any()
            for row, number in enumerate(batch["window"].tolist()):
                if number >= 0:
                    window = windows[number]
                    assert_row(batch, row, slow_window(window.recording, window.offset, 64))
                    assert batch["num_frames"][row] == window.num_frames
                    seen.append(number)
                    readers.setdefault(window.recording, set()).add(process)
                else:
                    assert not batch["features"][row].any()
                    assert not batch["num_frames"][row].any()
    assert sorted(seen) == list(range(len(windows)))
    assert readers == {number: {number % process_count} for number in range(len(recordings))}
    assert counts == {1: [3], 2: [4] * 2, 4: [6] * 4}[process_count]  # one reads 11, 7, 6


def test_recordings_without_any_action_make_batches_of_no_actions(dataset, recordings):
    (batch,) = training(dataset, recordings[:1], last=1, batch_size=2)
    assert batch["segments"].shape == (2, 0, 2)
    assert batch["labels"].shape == batch["valid"].shape == (2, 0)


@pytest.mark.parametrize(("memory", "reads"), [(1 << 30, 5), (0, 40)])
def test_small_data_sets_are_read_once(dataset, recordings, monkeypatch, memory, reads):
    read = []
    features = Dataset.features
    monkeypatch.setattr(
        Dataset, "features", lambda self, r: read.append(r.video) or features(self, r)
    )
    monkeypatch.setattr(pipeline, "CACHE_BYTES", memory)
    monkeypatch.setattr(pipeline, "NEARBY_RECORDINGS", 0)
    monkeypatch.setattr(pipeline, "READERS", 1)
    list(training(dataset, recordings, window=200, last=5))
    assert len(read) == reads


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_threads_end_with_the_iterator(dataset, recordings):
    batches = training(dataset, recordings, last=1000)
    next(batches)
    assert reader_threads()
    batches.close()
    assert not reader_threads()
    list(training(dataset, recordings, last=3))
    assert not reader_threads()


def test_an_error_of_a_reader_reaches_the_consumer(dataset, recordings):
    broken = [*recordings[:4], dataclasses.replace(recordings[4], offset=1)]
    batches = training(dataset, broken, window=200, last=50)
    with pytest.raises(ValueError, match="no whole record at byte 1"):
        list(batches)
    assert not reader_threads()


def test_wrong_use_is_answered_at_once_with_numbers(dataset, recordings):
    with pytest.raises(ValueError, match="batch of 8 windows does not divide among 3 processes"):
        training(dataset, recordings, process_count=3)
    with pytest.raises(ValueError, match="batch of 5 windows does not divide among 2 processes"):
        pipeline.inference_batches(
            dataset, recordings, [], length=64, batch_size=5, process_count=2
        )
    with pytest.raises(ValueError, match="no recordings to train on"):
        training(dataset, [])
    with pytest.raises(ValueError, match=r"windows overlap by 1.0 .*\[0, 1\)"):
        pipeline.inference_windows(recordings, 64, 1.0)
