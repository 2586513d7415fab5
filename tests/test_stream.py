"""A stream yields what a plain computation over the whole recording does, however it was cut."""

import dataclasses
import functools
import itertools
import json
import math
import warnings

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import segtad_jax
from benchmarks import stream as benchmark
from segtad_jax.data.features import FeatureError
from segtad_jax.data.preparation import Preparation, SignalTransform
from segtad_jax.data.value_range import ValueRange
from segtad_jax.evaluation.instances import temporal_iou
from segtad_jax.postprocess import Detection
from segtad_jax.predict.inputs import InputMaker
from segtad_jax.predict.stream import NOTHING, Decided, DetectionStream, WindowProgram
from tests.test_predict import config
from tests.tiny_runs import random_run

HERTZ, FRAME_HERTZ, SOURCES = 50.0, 5.0, (1, 1)  # two sources of a channel each
CHANNELS = 27 * sum(SOURCES)


@pytest.fixture(scope="module")
def featured(tmp_path_factory):
    """A model of features at 5 Hz, T = 64, of random parameters."""
    folder = tmp_path_factory.mktemp("stream")
    made = config(folder / "data")
    made.data.source = "synthetic"
    made.eval.min_score = 1e-3
    model = segtad_jax.load(str(random_run(folder / "run", made, ["a", "b"], CHANNELS)))
    known = dataclasses.replace(model.preparation, rate=FRAME_HERTZ)
    least = {"a": 0.3, "b": 0.2}
    model = dataclasses.replace(model, preparation=known, thresholds=least)
    model.stream()  # compiles for all
    return model


@pytest.fixture(scope="module")
def signalled(featured):
    """The same of raw samples at 50 Hz."""
    transform = SignalTransform.fit(HERTZ, sum(SOURCES), [samples(2000, sum(SOURCES))])
    known = Preparation("s", SOURCES, HERTZ, None, "linear", 64, "float16", signals=transform)
    return changed(featured, preparation=known)


def changed(model, **fields):
    """The model with other fields, and the programs that are compiled already."""
    other = dataclasses.replace(model, **fields)
    vars(other).update({k: v for k, v in vars(model).items() if k in ("_windows", "_detecting")})
    return other


def samples(number, channels, seed=0):
    """Noise whose level changes every few seconds."""
    random = np.random.default_rng(seed)
    level = np.repeat(random.normal(size=(number // 20 + 1, channels)), 20, axis=0)[:number]
    return (level + 0.3 * random.normal(size=(number, channels))).astype(np.float32)


def pushed(stream, x, cuts=()):
    """All detections of a recording that comes in parts between these cuts."""
    edges = [0, *sorted(cuts), len(x)]
    found = []
    for start, stop in itertools.pairwise(edges):
        found += stream.push(x[start:stop])
    return found + stream.finish()


def offline(model, x, delay, every):
    """The same by a plain loop over all windows of all features."""
    sources = np.split(x, np.cumsum(model.preparation.widths)[:-1], axis=1)
    maker = InputMaker(model.preparation, model.config)
    features = maker.prepare("x", sources, None, None).features
    rate, length, settings = FRAME_HERTZ, model.config.data.num_frames, model.config.eval
    step = round(every * rate)
    context = round(delay * rate) - step - (10 if model.preparation.signals else 0)
    stops = [*range(step, len(features) + 1, step)]
    ends = [stop - context for stop in stops] + [len(features)]
    decided, result, before = [], [], 0
    for stop, end in zip([*stops, len(features)], ends, strict=True):
        first = max(stop - length, 0)
        scores, segments = model._windows.candidates(features[first:stop], goes_back=first > 0)
        scores = scores.astype(float)
        for label, row in np.argwhere(scores > -np.inf):
            segment = segments[row].astype(float) + first
            start, end_at = np.split(segment, 2)
            if others := [other for other in decided if other[2] == label]:
                starts, stops, _, taken = np.array(others).T
                decay = np.exp(-(temporal_iou(starts, stops, start, end_at) ** 2) / settings.sigma)
                scores[label, row] -= max((1 - decay) * np.minimum(taken, scores[label, row]))
            if segment[1] <= before:
                scores[label, row] = -np.inf
        found = model._windows.select(scores, segments)
        new = [
            (*(segment + first), label, score)
            for segment, label, score in zip(*found, strict=True)
            if segment[1] + first <= end and score > settings.min_score
        ]
        decided += sorted(new, key=lambda row: row[1])
        before = max(before, end)
    for start, end, label, score in decided:
        result.append(Detection(start / rate, end / rate, model.classes[label], score))
    return result


@pytest.mark.parametrize("kind", ["featured", "signalled"])
@pytest.mark.parametrize(("delay", "every"), [(4.0, 1.0), (6.0, 0.6)])
def test_a_stream_is_the_offline_computation_bit_for_bit(request, kind, delay, every):
    model = request.getfixturevalue(kind)
    x = samples(93 if kind == "featured" else 937, sum(model.preparation.widths))
    expected = offline(model, x, delay, every)
    assert len({d.label for d in expected}) == 2
    assert len(expected) > 30
    found = pushed(model.stream(delay=delay, every=every, threshold=0), x, range(7, len(x), 50))
    assert found == expected


@pytest.mark.parametrize("kind", ["featured", "signalled"])
def test_the_parts_never_matter(request, kind):
    model = request.getfixturevalue(kind)
    number = 93 if kind == "featured" else 937
    x = samples(number, sum(model.preparation.widths), seed=1)
    expected = pushed(model.stream(threshold=0), x)
    assert expected

    @hypothesis.settings(max_examples=15)
    @hypothesis.given(st.lists(st.integers(0, number), max_size=60))
    def check(cuts):
        assert pushed(model.stream(threshold=0), x, cuts) == expected

    check()
    stream = model.stream(threshold=0)  # the channels of one sample
    assert [d for row in x for d in stream.push(row)] + stream.finish() == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["featured", "signalled"])
@pytest.mark.parametrize("more", [0.0, 1.4])
def test_detections_come_within_the_delay_in_order_of_their_ends(request, kind, more):
    model = request.getfixturevalue(kind)
    rate = FRAME_HERTZ if kind == "featured" else HERTZ
    x = samples(round(30 * rate), sum(model.preparation.widths))
    least = model.stream().least_delay
    assert least == pytest.approx(1.2 if kind == "featured" else 3.2)
    stream = model.stream(threshold=0, delay=least + more)
    assert stream.delay == pytest.approx(least + more)
    ends, waits = [], []
    for number, sample in enumerate(x, start=1):
        for detection in stream.push(sample):
            ends.append(detection.end)
            waits.append(number / rate - detection.end)
    assert len(ends) > 20
    assert max(waits) <= stream.delay
    assert max(waits) > stream.delay - 0.3  # so it is not stated larger than it is
    assert min(waits) >= stream.delay - stream.every - 1e-9
    assert ends == sorted(ends)
    rest = stream.finish()
    assert all(d.end > len(x) / rate - stream.delay for d in rest)


def test_a_threshold_only_leaves_out(featured):
    x = samples(200, CHANNELS)
    everything = pushed(featured.stream(threshold=0), x)
    least = featured.thresholds
    chosen = [d for d in everything if d.score >= least[d.label]]
    assert 0 < len(chosen) < len(everything)
    assert pushed(featured.stream(), x) == chosen
    assert pushed(featured.stream(threshold=0.25), x) == [d for d in everything if d.score >= 0.25]
    without = changed(featured, thresholds=None)
    with pytest.raises(ValueError, match=r"has no thresholds.* Give a number instead of auto"):
        without.stream()
    assert without.stream(threshold=0.5).push(x) is not None


@pytest.mark.parametrize("kind", ["featured", "signalled"])
def test_memory_stays_constant(request, kind):
    model = request.getfixturevalue(kind)
    stream = model.stream(threshold=0)
    x = samples(round(20 * (FRAME_HERTZ if kind == "featured" else HERTZ)) + 3, stream_width(model))
    held = []
    for _ in range(6):
        stream.push(x)
        arrays = [stream._newest]
        if kind == "signalled":
            arrays += [stream._statistics._near, stream._statistics._rest]
        held.append(sum(map(len, arrays)))
        windows = model.config.data.num_frames / 5 + 1
        assert len(stream._decided.labels) <= windows * model.config.eval.max_detections
        assert stream._decided.segments[:, 1].min() > stream._known - 64 - 5
    assert max(held[2:]) <= 64 + 21 + 10


def stream_width(model):
    return sum(model.preparation.widths)


@pytest.mark.parametrize("kind", ["featured", "signalled"])
def test_a_recording_shorter_than_every_is_what_detect_finds(request, kind):
    model = request.getfixturevalue(kind)
    rate = FRAME_HERTZ if kind == "featured" else HERTZ
    x = samples(int(5.9 * rate), stream_width(model))
    found = pushed(model.stream(every=6.0, threshold=0), x)
    sources = np.split(x, np.cumsum(model.preparation.widths)[:-1], axis=1)
    expected = [d for d in model.detect(sources, rate=rate) if d.score > 1e-3]
    expected.sort(key=lambda d: d.end)
    assert len(found) == len(expected) > 0
    by_time = [sorted(rows, key=lambda d: (d.end, d.start, d.label)) for rows in (found, expected)]
    for ours, theirs in zip(*by_time, strict=True):
        assert ours.label == theirs.label
        assert ours._replace(label=0) == pytest.approx(theirs._replace(label=0), rel=1e-4)


def test_an_empty_recording_has_nothing(featured, signalled):
    with pytest.warns(UserWarning, match="after 0 samples"):
        assert featured.stream().finish() == []
    stream = signalled.stream()
    assert stream.push(np.zeros((0, 2))) == []
    assert stream.push(np.zeros((9, 2))) == []  # less than a frame
    with pytest.warns(UserWarning, match="after 9 samples, which fill no frame"):
        assert stream.finish() == []


class Script(WindowProgram):
    """Windows of 40 frames whose candidates are given by hand, {frame at which one ends: rows}."""

    def __init__(self, model, rows):
        self.config, self.classes, self.num_frames = model.config, ("a", "b"), 40
        self._rows, self._stop = rows, 0

    def warm_up(self, channels):
        pass

    def candidates(self, frames, *, goes_back):
        self._stop += 5
        rows = self._rows.get(self._stop, [])
        scores = np.full((2, len(rows)), -np.inf)
        for row, (_, _, label, score) in enumerate(rows):
            scores[label, row] = score
        return scores, np.array([r[:2] for r in rows], np.float32).reshape(-1, 2)

    def select(self, scores, segments):
        """The best of each class, without any decay."""
        if not scores.size or np.isneginf(scores).all():
            return NOTHING
        label, row = np.unravel_index(scores.argmax(), scores.shape)
        return Decided(segments[[row]].astype(float), np.array([label]), scores[[label], [row]])


def test_what_was_yielded_is_taken_off_what_follows(featured):
    """A window ends every 5 frames, ends of actions are decided about 2 frames later."""
    first = {15: [(0, 12, 0, 0.8)], 20: [(0, 14, 0, 0.9)], 25: [(0, 21, 1, 0.9)]}
    script = Script(featured, first)
    stream = DetectionStream(script, featured.preparation, FRAME_HERTZ, 0.0, 1.4, 1.0)
    found = stream.push(np.zeros((30, CHANNELS)))
    decay = math.exp(-((12 / 14) ** 2) / featured.config.eval.sigma)
    # Together they have what soft-NMS would give: 0.9 + 0.8 * decay.
    assert [d.score for d in found] == pytest.approx([0.8, 0.9 + 0.8 * decay - 0.8, 0.9])
    assert [d.end for d in found] == pytest.approx([12 / 5, 14 / 5, 21 / 5])


def test_what_has_not_ended_holds_back_what_might_be_its_part(featured):
    growing = {15: [(0, 12, 0, 0.5), (0, 15, 0, 0.6)], 20: [(0, 18, 0, 0.7)]}
    stream = DetectionStream(
        Script(featured, growing), featured.preparation, FRAME_HERTZ, 0.0, 1.4, 1.0
    )
    assert [d.end * 5 for d in stream.push(np.zeros((25, CHANNELS)))] == pytest.approx([18])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((4, 3)), r"after the first 100.*\(4, 3\), expected \(any, 2\)"),
        (np.zeros(3), r"\(1, 3\), expected \(any, 2\)"),
        (np.zeros((1, 4, 2)), r"\(1, 4, 2\), expected \(any, 2\)"),
        ([[0.0, 1.0], [2.0, np.nan]], "first 100.*nan at frame 1, channel 1"),
        ([[0.0, np.inf]], "inf at frame 0, channel 1"),
        ([["1", "2"]], "hold <U1, expected numbers"),
        ([[1.0, 2.0], [3.0]], "samples by channels expected"),
        ([[0.0, 1e6]], r"1e\+06 at frame 0, channel 1, which was -5 to 5 in training"),
    ],
)
def test_wrong_samples_are_refused_and_the_stream_goes_on(signalled, wrong, message):
    wide = ValueRange(np.full(2, -5.0), np.full(2, 5.0))
    known = dataclasses.replace(signalled.preparation, range=wide)
    model = changed(signalled, preparation=known)
    x = samples(600, 2)
    stream = model.stream(threshold=0)
    found = stream.push(x[:100])
    with pytest.raises(FeatureError, match=message):
        stream.push(wrong)
    assert found + stream.push(x[100:]) + stream.finish() == pushed(model.stream(threshold=0), x)


def test_what_float16_cannot_hold_is_refused_and_the_stream_goes_on(featured):
    half = dataclasses.replace(featured.preparation, dtype="float16")
    x = samples(100, CHANNELS)
    stream = changed(featured, preparation=half).stream(threshold=0)
    found = stream.push(x[:50])
    with pytest.raises(FeatureError, match=r"after the first 50: 70000 at frame 0.*float16"):
        stream.push(np.full((1, CHANNELS), 70000.0))
    assert found + stream.push(x[50:]) + stream.finish() == pushed(featured.stream(threshold=0), x)


def test_values_far_from_trainings_are_told_once(signalled):
    wide = ValueRange(np.full(2, -5.0), np.full(2, 5.0))
    known = dataclasses.replace(signalled.preparation, range=wide)
    stream = changed(signalled, preparation=known).stream()
    with pytest.warns(UserWarning, match="99 at frame 1, channel 0.* unit and normalisation"):
        stream.push([[0, 0], [99, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.push([[99, 0]])


def test_a_stream_that_is_over_says_so(featured):
    stream = featured.stream()
    stream.finish()
    for call in (stream.finish, lambda: stream.push(np.zeros((1, CHANNELS)))):
        with pytest.raises(ValueError, match=r"the stream is over, .*: begin another"):
            call()


def test_what_the_network_makes_nan_of_ends_the_stream(featured):
    stream = featured.stream(threshold=0)
    huge = 1e30 * np.abs(samples(60, CHANNELS))
    with pytest.raises(FeatureError, match=r"NaN or infinity.* largest feature.* \d\.\d+e\+30"):
        stream.push(huge)
    with pytest.raises(ValueError, match="the stream is over"):
        stream.push(np.zeros((1, CHANNELS)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 25}, "the rate is 25 Hz.* trained at 5 Hz"),
        ({"rate": 0}, "rate=0 must be a number above 0"),
        ({"delay": -1}, "delay=-1 must be a number above 0"),
        ({"every": float("nan")}, "every=nan must be a number above 0"),
        ({"delay": 1.1}, r"delay=1.1 must be 1.2 to 6.4 s, with a window every 1 s"),
        ({"delay": 6.7}, r"delay=6.7 must be 1.2 to 6.4 s, with a window every 1 s"),
        ({"every": 6.4}, "every=6.4 is too long for the window: at most 6.2 s"),
        ({"threshold": {"c": 0.5}}, "threshold has 'c'.* a, b"),
    ],
)
def test_what_cannot_be(featured, given, message):
    with pytest.raises(ValueError, match=message):
        featured.stream(**given)


@pytest.mark.parametrize("given", [{"delay": 1.2}, {"delay": 6.4}, {"every": 6.2}, {"every": 0.01}])
def test_what_the_messages_advise_works(featured, given):
    stream = featured.stream(**given)
    assert stream.least_delay <= stream.delay
    assert stream.every >= 1 / FRAME_HERTZ


def test_models_of_whole_recordings_are_refused(featured):
    resized = dataclasses.replace(featured.preparation, num_frames=64)
    with pytest.raises(ValueError, match=r"resized to 64 frames.*without --num_frames"):
        changed(featured, preparation=resized).stream(rate=5)
    made = featured.config.copy_and_resolve_references()
    made.eval.class_scores = "scores.json"
    with pytest.raises(ValueError, match=r"eval\.class_scores.* class_scores=''"):
        dataclasses.replace(featured, config=made).stream()


def test_a_rate_that_nobody_knows_is_asked_for(featured):
    unknown = dataclasses.replace(featured.preparation, rate=None)
    model = changed(featured, preparation=unknown)
    with pytest.raises(ValueError, match="rate="):
        model.stream()
    assert model.stream(rate=2).every == 1.0
    x = samples(93, CHANNELS)
    assert pushed(model.stream(rate=5), x) == pushed(featured.stream(), x)


@pytest.mark.slow
def test_the_benchmark(signalled, tmp_path, monkeypatch, capsys):
    known = dataclasses.replace(signalled.preparation, name="mine", widths=(2,))
    model = changed(signalled, preparation=known, thresholds={"a": 0.02, "b": 1.0})
    np.savez(tmp_path / "x.npz", x=samples(600, 2), y=samples(700, 2, seed=1))
    action = {"segment": [2.0, 6.0], "label": "a"}
    video = {"subset": model.config.data.eval_split, "annotations": [action]}
    videos = {name: video | {"duration": seconds} for name, seconds in (("x", 12), ("y", 14))}
    (tmp_path / "truth.json").write_text(json.dumps({"database": videos}))
    monkeypatch.setattr(segtad_jax, "load", lambda run: model)
    command = [f"--output={tmp_path}", "--delays=5", f"run,{tmp_path}/x.npz,{tmp_path}/truth.json"]
    benchmark.main(command)
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == ["x: 12 s", "y: 14 s"]
    delays = [line.split(" | ")[1] for line in shown if line.startswith("| mine, 2 recordings")]
    assert delays == ["3.2", "3.4 (default)", "5", "offline"]
    assert shown[-1].startswith("Seconds of one core for a second of recording: ")
    assert "<svg" in (tmp_path / "delay.svg").read_text()
    result = json.loads((tmp_path / "run.json").read_text())
    assert result["seconds"] == 26
    assert result["offline"]["kept"] == result["offline"]["confirmed"] == 1  # with itself
    kept = [figures["kept"] for _, figures in result["delays"]]
    assert all(0 <= share <= 1 for share in kept)

    monkeypatch.setattr(benchmark, "measure", None)  # what is there is not measured again
    result["offline"]["kept"] = None  # nothing reaches the thresholds
    (tmp_path / "run.json").write_text(json.dumps(result))
    benchmark.main(command)
    assert [" | - | " in line for line in capsys.readouterr().out.splitlines()[2:6]] == [
        *(False, False, False, True)
    ]


def test_streams_of_a_benchmark_share_what_they_look_at(monkeypatch):
    looked = []
    look = lambda self, frames, **_: looked.append(frames)  # noqa: E731
    monkeypatch.setattr(WindowProgram, "candidates", look)
    program = object.__new__(benchmark.SharedWindows)
    program._once = functools.lru_cache(64)(program._look)
    for frames, goes_back in (([[1.0]], False), ([[1.0]], False), ([[1.0]], True), ([[2.0]], True)):
        program.candidates(np.array(frames, np.float32), goes_back=goes_back)
    assert len(looked) == 3
