"""The exported model runs without the package and finds what the package does."""

import dataclasses
import json
import pathlib
import re
import runpy
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from etils import epath

from segtad_jax.checkpoint import thresholds
from segtad_jax.checkpoint.store import restore_variables
from segtad_jax.data.preparation import FILE, Preparation
from segtad_jax.data.signals import SignalTransform
from segtad_jax.evaluation.json_files import sealed
from segtad_jax.export import __main__ as export
from segtad_jax.export import build
from segtad_jax.postprocess import Detection
from segtad_jax.predict.inputs import InputMaker
from segtad_jax.predict.trained import load
from tests.object_store import bucket_in
from tests.test_config import load as load_config
from tests.tiny_runs import TINY, random_run

CHANNELS, CLASSES = 6, ["jump", "run"]
THRESHOLDS = {"jump": 0.15, "run": 0.045}  # amid the scores of both
KNOTS = [[0.05, 0.1], [0.2, 0.9]]  # of confidences
# All that the exported model may need: jax, what jax itself needs, and flatbuffers.
ALLOWED = ["jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy", "flatbuffers"]


def make_run(folder: pathlib.Path, **fields: object) -> pathlib.Path:
    """A run whose detections are many."""
    config = load_config(TINY)
    config.update_from_flattened_dict(
        {"model.width": 8, "eval.max_detections": 20, "eval.min_score": 0.0} | fields
    )
    run = random_run(folder, config, CLASSES, CHANNELS)
    thresholds.write(epath.Path(run), 20, config, THRESHOLDS, ["x"], KNOTS)
    return run


def recordings() -> list[np.ndarray]:
    """Of one window, of a part of one, and of four with a short last one."""
    random = np.random.default_rng(1)
    return [random.normal(size=(n, CHANNELS)).astype(np.float32) for n in (64, 41, 150)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def artifact(run: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("artifacts") / "tiny"
    assert export.main([f"--checkpoint={run}", f"--output={folder}"]) == 0
    return folder


def read(artifact: pathlib.Path) -> jax.export.Exported:
    return jax.export.deserialize(bytearray((artifact / build.FUNCTION).read_bytes()))


def without_the_package(folder: pathlib.Path, artifact: pathlib.Path, code: str) -> str:
    """Runs code where nothing can be imported but the standard library and ALLOWED."""
    site = pathlib.Path(jax.__file__).parent.parent
    for name in ALLOWED:
        for path in [site / name, site / f"{name}.libs"]:  # compiled parts of some wheels
            if path.exists():
                (folder / path.name).symlink_to(path)
    start = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(artifact)!r}]\n"
    command = [sys.executable, "-I", "-S", "-c", start + code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same(found: list[dict], expected: list[Detection]) -> None:
    assert len(found) == len(expected) == 20
    assert [d["label"] for d in found] == [d.label for d in expected]
    np.testing.assert_allclose([d["score"] for d in found], [d.score for d in expected], rtol=1e-4)
    segments = [d["segment"] for d in found]
    np.testing.assert_allclose(segments, [(d.start, d.end) for d in expected], atol=1e-4)


@pytest.mark.slow
def test_it_runs_without_the_package_and_finds_the_same(run, artifact, tmp_path):
    for number, features in enumerate(recordings()):
        np.save(tmp_path / f"{number}.npy", features)
    code = """
import json, pathlib, numpy as np
for name in ("segtad_jax", "flax", "orbax", "tensorflow", "etils"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} can be imported here")
import run
function, model = run.load()
files = sorted(pathlib.Path().glob("?.npy"))
print(json.dumps([run.detect(function, model, [np.load(f)], 5.0) for f in files]))
"""
    (libraries := tmp_path / "libraries").mkdir()
    code = code.replace("pathlib.Path()", f"pathlib.Path({str(tmp_path)!r})")
    results = json.loads(without_the_package(libraries, artifact, code))
    model = load(str(run))
    for features, found in zip(recordings(), results, strict=True):
        assert_same(found, model.detect(features, rate=5.0))


RATES = (None, 50, 50.4)  # Hz, of three signals


@pytest.mark.slow
def test_raw_samples_of_a_model_of_signals(tmp_path):
    """From what was recorded to seconds, where there is no package to make features of it."""
    random = np.random.default_rng(2)
    signals = [random.normal(size=(n, 2)).astype(np.float32) for n in (700, 333, 1509)]
    transform = SignalTransform.fit(50.0, 2, [3 * signal + 1 for signal in signals])
    config = load_config(TINY)
    fields = {"model.width": 8, "model.normalise": True, "eval.max_detections": 20}
    config.update_from_flattened_dict(fields | {"eval.min_score": 0.0, "eval.whole_windows": True})
    run = random_run(tmp_path / "run", config, CLASSES, 54)
    prepared = Preparation("x", (2,), 50.0, None, "linear", 64, "float32", transform)
    (run / FILE).write_text(json.dumps(sealed(prepared.to_json())))
    thresholds.write(epath.Path(run), 20, config, THRESHOLDS, ["x"], KNOTS)
    folder = tmp_path / "signals"
    assert export.main([f"--checkpoint={run}", f"--output={folder}", "--platforms=cpu"]) == 0
    assert "raw samples, [frames, 2] (50 Hz in training)" in (folder / "README.md").read_text()

    (libraries := tmp_path / "libraries").mkdir()
    np.savez(tmp_path / "recorded.npz", *signals)
    code = f"""
import json, numpy as np, run
function, model = run.load()
signals = np.load({str(tmp_path / "recorded.npz")!r}).values()
print(json.dumps([run.detect(function, model, [s], r) for s, r in zip(signals, {RATES})]))
for wrong in (np.zeros((100, 2)), np.full((100, 2), "1")):
    try:
        run.detect(function, model, [wrong], rate=5.0)
    except ValueError as error:
        print(error)
"""
    found, refused, text = without_the_package(libraries, folder, code).splitlines()
    assert refused == "the rate is 5 Hz, and training's was 50 to 50 Hz"
    assert text == "expected numbers, but got <U1"
    model = load(str(run))
    for signal, rate, rows in zip(signals, RATES, json.loads(found), strict=True):
        assert_same(rows, model.detect(signal, rate=rate))
        assert rows[0]["segment"][1] <= len(signal) / (rate or 50)


def test_the_example_is_a_command(artifact, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(artifact)
    np.save("x.npy", recordings()[0])
    np.save("wide.npy", np.zeros((64, 7), np.float32))

    def command(*flags: str) -> None:
        monkeypatch.setattr(sys, "argv", ["run.py", *flags])
        runpy.run_path(str(artifact / "run.py"), run_name="__main__")

    command("x.npy", "--rate=5")
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 20
    assert set(found[0]) == {"label", "segment", "score"}
    command("x.npy", "--rate=5", "--threshold=auto")
    above = [row for row in found if row["score"] >= THRESHOLDS[row["label"]]]
    assert json.loads(capsys.readouterr().out) == above
    assert 0 < len(above) < 20
    assert {row["label"] for row in above} == {*CLASSES}
    command("x.npy", "--rate=5", "--threshold=0.2")
    assert json.loads(capsys.readouterr().out) == [row for row in found if row["score"] >= 0.2]
    for wrong in ("high", "nan", "-1"):
        with pytest.raises(SystemExit):
            command("x.npy", "--rate=5", f"--threshold={wrong}")
        assert f"--threshold: invalid score value: '{wrong}'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"rate.*--rate=HZ"):
        command("x.npy")
    with pytest.raises(SystemExit, match=r"\[frames, 6\].*model.json.*\[64, 7\]"):
        command("wide.npy", "--rate=5")
    np.savez("x.npz", recordings()[0])
    with pytest.raises(SystemExit, match=r"several arrays.*\.npy"):
        command("x.npz", "--rate=5")
    with pytest.raises(SystemExit, match="rate is -5 Hz"):
        command("x.npy", "--rate=-5")
    with pytest.raises(SystemExit, match="No such file"):
        command("none.npy", "--rate=5")


@pytest.fixture
def module(artifact, monkeypatch):
    """What run.py defines."""
    monkeypatch.syspath_prepend(artifact)
    return runpy.run_path(str(artifact / "run.py"))


def test_what_is_no_number_is_an_error_and_never_no_action(artifact, module):
    function, model = module["load"](artifact)
    features = recordings()[0].copy()
    features[5, 2] = np.nan
    with pytest.raises(ValueError, match=r"frame 5, channel 2 is nan"):
        module["detect"](function, model, [features], 5.0)
    features[5, 2] = 1e30  # of which the network makes infinity
    with pytest.raises(ValueError, match="training never had"):
        module["detect"](function, model, [features], 5.0)


def test_whole_windows_end_with_their_recording(artifact, module):
    model = json.loads((artifact / "model.json").read_text())
    model["windows"]["whole"] = True
    features = np.zeros((150, CHANNELS), np.float32)
    _, num_frames, offset = module["windows"](features, model)
    assert (offset.tolist(), num_frames.tolist()) == ([[0, 32, 64, 86]], [[64] * 4])


@pytest.mark.parametrize("resize", ["linear", None])
def test_features_of_several_sources_are_those_of_detect(run, artifact, module, resize):
    """Side by side, of one length, and as many frames as in training."""
    frames = resize and 64
    preparation = Preparation("x", (4, 2), None, frames, resize or "linear", 64, "float32")
    preparation = dataclasses.replace(preparation, rates=(5.0, 5.0))
    model = load(str(run))
    model.preparation = preparation
    described = build.describe(model, read(artifact))
    assert described["rate"] == (None if resize else 5.0)
    sources = [recordings()[1][:, :4], recordings()[0][:, 4:]]
    features, rate, seconds = module["prepare"](sources, described, 5.0)
    made = InputMaker(preparation, model.config).prepare("x", sources, 5.0, None)
    np.testing.assert_array_equal(features, made.features)
    assert (rate, seconds) == (made.recording.rate, made.recording.duration)
    with pytest.raises(ValueError, match=r"\[frames, 4\], \[frames, 2\].*\[64, 6\]"):
        module["prepare"](recordings()[:1], described, 5.0)


@pytest.mark.parametrize(
    ("rate", "rates", "expected"),
    [(5.0, None, 5.0), (None, (5.0, 5.02), 5.01), (None, (5.0, 6.0), None), (None, None, None)],
)
def test_the_rate_that_may_be_left_out(run, artifact, rate, rates, expected):
    model = load(str(run))
    model.preparation = dataclasses.replace(model.preparation, rate=rate, rates=rates)
    assert build.describe(model, read(artifact))["rate"] == expected


def test_a_bucket_cannot_rename(run, artifact, tmp_path, monkeypatch):
    """model.json, which tells of the others, comes last; of what was not finished nothing stays."""
    bucket, exported = bucket_in(tmp_path, monkeypatch), read(artifact)
    monkeypatch.setattr(build, "lower", lambda *_: exported)
    build.write(str(run), "gs://bucket/model", ["cpu"])
    written = sorted((bucket / "model").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    assert len(written) == 7
    assert written[-1].name == "model.json"
    with pytest.raises(ValueError, match=r"gs://bucket/model .*--output"):
        build.write(str(run), "gs://bucket/model", ["cpu"])

    write_bytes = type(epath.Path("gs://bucket")).write_bytes

    def lost(path: epath.Path, content: bytes) -> int:
        if path.name == "run.py":
            raise OSError("the bucket is out of reach")
        return write_bytes(path, content)

    monkeypatch.setattr(type(epath.Path("gs://bucket")), "write_bytes", lost)
    with pytest.raises(OSError, match="out of reach"):
        build.write(str(run), "gs://bucket/other", ["cpu"])
    assert [p.name for p in bucket.iterdir()] == ["model"]


def test_on_a_cpu_windows_come_one_after_the_other(run):
    """The proposals' products are those of one window; elsewhere of however many there are."""
    model = load(str(run))
    batched = {
        name: len(re.findall(r"dot_general.*tensor<\?", build.lower(model, [name]).mlir_module()))
        for name in ("cpu", "tpu")
    }
    assert batched["cpu"] < batched["tpu"]


def test_several_recordings_at_once_and_windows_that_fill_up(artifact):
    exported = read(artifact)
    features = np.stack([r[:41] for r in recordings()[:2]])
    features = np.pad(features, ((0, 0), (0, 23), (0, 0)))[:, None]  # [2, 1, 64, C]
    frames, offset = np.full((2, 1), 41, np.int32), np.zeros((2, 1), np.int32)
    alone = exported.call(features, frames, offset)
    filled = [np.concatenate([x, np.zeros_like(x)], axis=1) for x in (features, frames, offset)]
    for one, two in zip(alone, exported.call(*filled), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_it_says_what_it_is(run, artifact):
    exported = read(artifact)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    found = json.loads((artifact / "model.json").read_text())
    assert found["function"]["platforms"] == ["cpu", "cuda", "tpu"]
    assert found["function"]["inputs"] == [
        {"name": "features", "shape": ["r", "w", 64, CHANNELS], "dtype": "float32"},
        {"name": "num_frames", "shape": ["r", "w"], "dtype": "int32"},
        {"name": "offset", "shape": ["r", "w"], "dtype": "int32"},
    ]
    assert found["function"]["outputs"][1]["shape"] == ["r", 20, 2]
    assert found["labels"] == found["classes"] == CLASSES
    assert found["thresholds"] == THRESHOLDS
    assert found["windows"] == {"frames": 64, "step": 32, "whole": False}
    assert found["rate"] is None
    assert found["config"]["model.width"] == 8
    assert (found["step"], found["channels"]) == (20, CHANNELS)
    readme = (artifact / "README.md").read_text()
    assert "$" not in readme
    assert "lowered for cpu, cuda, tpu" in readme
    assert "of any action" not in readme
    assert sorted(p.name for p in artifact.parent.iterdir()) == ["tiny"]  # nothing temporary


def test_safetensors_hold_what_the_checkpoint_holds(run, artifact):
    path = artifact / "model.safetensors"
    found = safetensors.numpy.load_file(path)
    leaves = jax.tree.leaves_with_path(restore_variables(epath.Path(run), 20))
    expected = {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["classes"]) == CLASSES
    assert (metadata["step"], metadata["channels"], metadata["num_frames"]) == ("20", "6", "64")
    assert json.loads(metadata["config"])["model.width"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {
            "model.aggregate": "max",
            "eval.fusion": "sqrt",
            "eval.snap": 2,
            "eval.snap_mean": True,
            "eval.snap_offset": 0.5,
            "model.decoder_stride": 4,
        },
        {"model.dtype": "bfloat16", "eval.boundary_power": 0.5, "model.interpolation": "linear"},
    ],
)
def test_every_form_lowers_for_all_platforms(tmp_path, fields):
    """Also where an operation has a form for each platform."""
    model = load(str(make_run(tmp_path / "run", **fields)))
    exported = build.lower(model, export.PLATFORMS)
    assert exported.platforms == export.PLATFORMS
    features = np.random.default_rng(3).normal(size=(64, CHANNELS)).astype(np.float32)
    zero, frames = np.zeros((1, 1), np.int32), np.full((1, 1), 64, np.int32)
    scores, segments, labels = exported.call(features[None, None], frames, zero)
    expected = model.detect(features, rate=1.0)
    np.testing.assert_allclose(scores[0], [d.score for d in expected], rtol=0.05)
    if fields.get("model.dtype") != "bfloat16":  # whose rounding may exchange neighbours
        np.testing.assert_allclose(segments[0], [(d.start, d.end) for d in expected], atol=1e-4)
        assert [CLASSES[label] for label in labels[0]] == [d.label for d in expected]


def test_scores_of_another_classifier_leave_the_classes_open(tmp_path):
    run = make_run(tmp_path / "run", **{"eval.class_scores": "scores.json"})
    export.main([f"--checkpoint={run}", f"--output={tmp_path / 'out'}", "--platforms=cpu"])
    found = json.loads((tmp_path / "out" / "model.json").read_text())
    assert (found["labels"], found["classes"]) == (["action"], CLASSES)
    assert found["function"]["platforms"] == ["cpu"]
    assert "of any action, all with the label 0" in (tmp_path / "out" / "README.md").read_text()


def test_wrong_use_is_told_and_leaves_nothing(run, tmp_path, capsys, monkeypatch):
    def refused(*flags: str) -> str:
        status = export.main([f"--checkpoint={run}", *flags])
        assert status == 1
        return capsys.readouterr().err

    with pytest.raises(SystemExit) as stopped:
        export.main([f"--checkpoint={run}", "--output=x", "--platforms=cpu,gpu"])
    assert stopped.value.code == 2
    assert "--platforms: 'gpu'" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    assert "full is there already; remove it" in refused(f"--output={tmp_path / 'full'}")
    status = export.main([f"--checkpoint={run}/7", f"--output={tmp_path / 'new'}"])
    assert status == 1
    assert re.search(" 7.* 20", capsys.readouterr().err)

    empty = tmp_path / "empty"
    empty.mkdir()
    write_bytes = type(epath.Path(empty)).write_bytes

    def full_disk(path: epath.Path, content: bytes) -> int:
        if path.name == build.PARAMETERS:
            raise OSError("No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(type(epath.Path(empty)), "write_bytes", full_disk)
    assert "No space left" in refused(f"--output={empty}", "--platforms=cpu")
    assert not list(empty.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "full"]
