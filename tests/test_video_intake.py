"""Videos where features stand: made once, kept and resumed, prepared, predicted."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from etils import epath
from rich.console import Console

import segtad_jax
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.feature_files import FeatureError
from segtad_jax.data.preparation import FILE, read_preparation
from segtad_jax.predict import __main__ as predict
from segtad_jax.prepare.__main__ import main as prepare
from segtad_jax.runtime import files, lease
from segtad_jax.video import recordings
from segtad_jax.video.backbones import create
from segtad_jax.video.decode import open_video
from segtad_jax.video.extract import features
from segtad_jax.video.recordings import open_videos, transform_of
from tests.prepare_cases import report_of
from tests.test_predict import config
from tests.tiny_runs import random_run
from tests.video_cases import MOTION, RATE, noise, write_video

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS = {"a": 6.0, "b": 7.1, "c": 8.3}
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def clips(once):
    """A folder of three videos and, in another folder, what is no video."""

    def fill(folder):
        for number, (name, seconds) in enumerate(SECONDS.items()):
            write_video(folder / "in" / f"{name}.mp4", noise(seconds, number))

    return once("clips", fill) / "in"


@pytest.fixture
def backbone():
    return create(MOTION)


def opened(clips, kept, backbone=None):
    return open_videos(clips, transform_of(backbone or create(MOTION)), kept)


def paths(videos):
    return [path for path, _ in videos.places.values()]


def made(clips, kept, backbone=None):
    videos = opened(clips, kept, backbone)
    videos.extract(paths(videos), backbone or create(MOTION), QUIET)
    return videos


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- features that are kept -----------------------------------------------------------------------


def test_features_are_those_of_one_pass(clips, backbone, tmp_path):
    videos = made(clips, tmp_path / "kept", backbone)
    for name, seconds in SECONDS.items():
        clip = open_video(clips / f"{name}.mp4", fps=backbone.fps, size=backbone.size)
        whole = np.concatenate(list(features(clip.frames(), backbone)))
        found = videos.frames(name, videos.form())
        np.testing.assert_array_equal(found.array, whole)
        assert len(whole) == -(-round(seconds * RATE) // backbone.stride)
        assert found.duration == pytest.approx(seconds)
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert names == {f"{name}.npy{more}" for name in SECONDS for more in ("", ".json")}


def test_nothing_is_made_twice(clips, backbone, tmp_path, monkeypatch):
    videos = made(clips, tmp_path, backbone)
    before = contents(tmp_path)
    monkeypatch.setattr(recordings, "open_video", None)
    videos.extract(paths(videos), backbone, QUIET)
    moved = shutil.copytree(clips, tmp_path.with_name("elsewhere"))  # with other times
    made(moved, tmp_path, backbone)
    assert contents(tmp_path) == before


def test_a_video_that_was_replaced_is_made_again(clips, backbone, tmp_path):
    mine = shutil.copytree(clips, tmp_path / "mine")
    made(mine, tmp_path / "kept", backbone)
    shutil.copy(mine / "c.mp4", mine / "a.mp4")
    stale = opened(mine, tmp_path / "kept")
    with pytest.raises(FeatureError, match=r"a\.mp4.*not made"):
        stale.frames("a", stale.form())
    videos = made(mine, tmp_path / "kept", backbone)
    assert videos.frames("a", videos.form()).duration == pytest.approx(SECONDS["c"])


def test_features_by_another_backbone_are_not_taken_nor_lost(clips, tmp_path):
    made(clips, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"a\.npy.*32 px.*48 px.*--save_features"):
        made(clips, tmp_path, create(MOTION, size=48))
    assert contents(tmp_path) == before


def test_features_of_somebody_else_are_not_overwritten(clips, tmp_path):
    np.save(tmp_path / "b.npy", np.zeros((3, 5)))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"b\.npy.*b\.npy\.json.*--save_features"):
        made(clips, tmp_path)
    assert contents(tmp_path) == before


def test_what_is_no_video_fails_alone(clips, backbone, tmp_path):
    mine = shutil.copytree(clips, tmp_path / "mine")
    (mine / "bad.mp4").write_bytes(b"nothing")
    (mine / "notes.txt").write_text("no video")
    videos = made(mine, tmp_path / "kept", backbone)
    assert set(videos.places) == {*SECONDS, "bad"}
    assert [path.name for path in videos.failures] == ["bad.mp4"]
    with pytest.raises(FeatureError, match=r"bad\.mp4"):
        videos.frames("bad", videos.form())
    assert {p.name for p in (tmp_path / "kept").iterdir() if "bad" in p.name} == set()


def test_what_is_no_file_at_all_fails_alone(clips, backbone, tmp_path, capsys):
    """A pipe, links to nothing, one of which was a video once, a folder; an empty file alone."""
    mine = shutil.copytree(clips, tmp_path / "mine")
    os.mkfifo(mine / "pipe.mp4")
    (mine / "link.mp4").symlink_to("nowhere.mp4")
    (mine / "folder.mp4").mkdir()
    videos = made(mine, tmp_path / "kept", backbone)
    wrong = {"pipe": "is no file", "link": "No such file", "folder": "is no file"}
    for name, says in wrong.items():
        with pytest.raises(FeatureError, match=rf"{name}\.mp4 .*{says}"):
            videos.frames(name, videos.form())
    assert len(videos.failures) == 3
    (mine / "a.mp4").unlink()
    (mine / "a.mp4").symlink_to("nowhere.mp4")
    assert "a.mp4" in {path.name for path in made(mine, tmp_path / "kept", backbone).failures}
    empty = tmp_path / "empty.mp4"
    empty.touch()
    videos = opened(empty, tmp_path / "kept", backbone)
    videos.extract(paths(videos), backbone, Console())  # no terminal here: it prints a line
    assert "is empty" in next(iter(videos.failures.values()))
    assert "empty.mp4: 0 s" in capsys.readouterr().out.replace("\n", "")


def test_kept_features_that_are_damaged_say_what_to_do(clips, backbone, tmp_path):
    videos = made(clips, tmp_path, backbone)
    file = tmp_path / "a.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(FeatureError, match=r"a\.npy.*Remove it: it is made again"):
        videos.frames("a", videos.form())
    file.unlink()
    videos.extract(paths(videos), backbone, QUIET)
    assert videos.frames("a", videos.form()).duration == pytest.approx(SECONDS["a"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder, r"no video.*\.mp4"),
        (lambda folder: folder / "none", "no such file or folder"),
        (lambda folder: np.save(folder / "x.npy", np.zeros(3)) or folder / "x.npy", "--features"),
    ],
)
def test_what_names_no_videos(make, says, tmp_path):
    with pytest.raises((ValueError, OSError), match=says):
        opened(make(tmp_path), tmp_path)


# --- interrupted and shared -----------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_killed_at_every_write_and_started_again(clips, backbone, tmp_path, monkeypatch):
    """Before and after every file that is written, in turn, until nothing kills any more."""
    clip = clips / "a.mp4"
    monkeypatch.setattr(recordings, "features", in_blocks)
    whole = contents_made(clip, backbone, tmp_path / "whole")
    left, write = 0, files.write_whole

    def dies(path, content):
        nonlocal left
        for act in (lambda: None, lambda: write(path, content)):
            act()
            left -= 1
            if left == 0:
                raise Killed

    monkeypatch.setattr(files, "write_whole", dies)
    for moment in range(1, 100):
        shutil.rmtree(tmp_path / "kept", ignore_errors=True)
        left = moment
        try:
            made(clip, tmp_path / "kept", backbone)
            break
        except Killed:
            assert contents_made(clip, backbone, tmp_path / "kept") == whole
    assert moment == 2 * (3 + 1) + 1  # blocks, and what made the features


def contents_made(clips, backbone, kept):
    made(clips, kept, backbone)
    return contents(kept)


def in_blocks(frames, backbone, first=0):
    return features(frames, backbone, first=first, chunk=20)


WORKER = """
import sys
from rich.console import Console
from segtad_jax.video import recordings
from segtad_jax.video.backbones import create
from segtad_jax.video.extract import features
from tests.video_cases import MOTION
def slow(frames, backbone, first=0):
    for array in features(frames, backbone, first=first, chunk=8):
        print("block", flush=True)
        sys.stdin.readline()
        yield array
recordings.features = slow
backbone = create(MOTION)
videos = recordings.open_videos(sys.argv[1], recordings.transform_of(backbone), sys.argv[2])
videos.extract([path for path, _ in videos.places.values()], backbone, Console(quiet=True))
"""


def worker(clips, kept):
    """A process that stops at each block until a line is written to it."""
    command = [sys.executable, "-c", WORKER, str(clips), str(kept)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


@pytest.mark.slow
def test_kill_9_at_ten_moments(clips, backbone, tmp_path, monkeypatch):
    """However soon one is killed, there are more blocks than moments."""
    whole = contents_made(clips, backbone, tmp_path / "whole")
    for moment in range(10):
        process = worker(clips, tmp_path / "kept")
        for _ in range(1 + moment % 2):  # a step forwards each, or two
            assert process.stdout.readline() == "block\n"
            process.stdin.write("\n")
            process.stdin.flush()
        time.sleep(0.003 * moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert contents_made(clips, backbone, tmp_path / "kept") == whole


def test_two_processes_share_the_work(clips, backbone, tmp_path, monkeypatch):
    """While another is at a video, the others are made; then it is waited for."""
    monkeypatch.setattr(recordings, "POLLED_SECONDS", 0.01)
    videos = opened(clips, tmp_path)
    first, _, last = paths(videos)
    with lease.held(tmp_path / ".a.lease", "the video a"):
        waiting = threading.Thread(
            target=videos.extract, args=(paths(videos), backbone, QUIET), daemon=True
        )
        waiting.start()
        while videos.details(last) is None:
            assert waiting.is_alive()
            time.sleep(0.01)
        assert not videos.file(first).exists()
        assert waiting.is_alive()
    waiting.join(60)
    assert videos.frames("a", videos.form()).duration == pytest.approx(SECONDS["a"])


# --- prepare and predict --------------------------------------------------------------------------


def annotated(folder, **videos):
    """Annotations of the three clips."""
    action = {"segment": [1.0, 3.0], "label": "go"}
    database = {
        name: {"subset": "validation" if name == "c" else "training", "annotations": [action]}
        for name in SECONDS
    }
    file = folder / f"{'-'.join(['truth', *videos])}.json"
    file.write_text(json.dumps({"database": database | videos}))
    return file


def run_prepare(clips, folder, *more, **flags):
    given = {
        "name": "mine", "videos": clips, "annotations": annotated(folder), "backbone": MOTION,
        "output": folder / "data", "dtype": "float32",
    } | flags  # fmt: skip
    return prepare([*(f"--{name}={value}" for name, value in given.items()), *more])


@pytest.fixture(scope="module")
def trained(once, clips):
    """The three clips, prepared, and a run of random parameters on them."""

    def fill(folder):
        folder.mkdir(exist_ok=True)
        assert run_prepare(clips, folder) == 0
        data = folder / "data" / "mine" / "1.0.0"
        run = random_run(folder / "run", config(data), ["go"], 5)
        shutil.copy(data / FILE, run)

    return once("trained-on-videos", fill)


def test_prepare_stores_what_made_the_features(clips, backbone, trained):
    data = trained / "data" / "mine" / "1.0.0"
    preparation = read_preparation(data)
    assert preparation.video == transform_of(backbone)
    assert preparation.rate == 5.0
    dataset = open_dataset(data)
    (recording,) = dataset.recordings("validation")
    videos = opened(clips, trained / "data" / "features")
    whole = videos.frames("c", videos.form()).array
    np.testing.assert_array_equal(dataset.features(recording), whole)
    assert (recording.duration, recording.rate) == (pytest.approx(SECONDS["c"]), 5.0)


def test_features_that_are_kept_say_what_made_them(clips, backbone, tmp_path, capsys):
    """The videos may be gone; a run on such features takes new videos all the same."""
    kept = tmp_path / "kept"
    made(clips, kept, backbone)

    def run(*more):
        flags = [f"--features={kept}", f"--annotations={annotated(tmp_path)}", "--name=mine"]
        return prepare([*flags, f"--output={tmp_path / 'data'}", *more])

    assert run("--rate=7", "--check") == 1
    assert re.search(rf"--rate=7.*{kept}.* 5 a second.*leave --rate out", capsys.readouterr().err)
    assert run() == 0
    preparation = read_preparation(tmp_path / "data" / "mine" / "1.0.0")
    assert (preparation.video, preparation.rate) == (transform_of(backbone), 5.0)
    stated = kept / "b.npy.json"
    content = json.loads(stated.read_text())
    del content["checksum"]
    content["transform"]["size"] = 48
    stated.write_text(json.dumps(content))
    assert run("--check") == 1
    assert re.search(r"b\.npy.*48 px.*a\.npy.*32 px.*--save_features", capsys.readouterr().err)
    content["transform"]["fps"] = "ten"
    stated.write_text(json.dumps(content))
    assert run("--check") == 1
    assert "b.npy.json: does not say what made b.npy" in capsys.readouterr().err
    stated.write_text('{"camera": 3}')  # of another program
    assert run("--check", "--rate=5") == 0  # as any features
    stated.unlink()
    assert run("--check", "--rate=5") == 0


def test_videos_that_prepare_leaves_out_are_named(clips, tmp_path):
    mine = shutil.copytree(clips, tmp_path / "mine")
    (mine / "bad.mp4").write_bytes(b"nothing")
    shutil.copy(mine / "a.mp4", mine / "more.mp4")
    (mine / "again").mkdir()
    shutil.copy(mine / "a.mp4", mine / "again" / "b.mkv")
    one = {"subset": "training", "annotations": []}
    file = annotated(tmp_path, bad=one, none=one)
    assert run_prepare(mine, tmp_path, annotations=file) == 0
    defects = report_of(tmp_path / "data" / "mine" / "1.0.0")["defects"]
    examples = {kind: str(found["items"]) for kind, found in defects.items()}
    assert "bad.mp4" in examples["unreadable"]
    assert "none" in examples["missing"]
    assert f"{mine / 'b.mp4'} beside {mine / 'again' / 'b.mkv'}, which is used" in str(
        defects["two_files"]["items"]
    )
    assert "more.mp4" in examples["unused"]
    assert not (tmp_path / "data" / "features" / "more.npy").exists()  # for nobody needs it


def test_flags_of_videos_need_videos(tmp_path, capsys):
    flags = ["--name=x", "--features=x", "--annotations=y", f"--output={tmp_path}", "--size=112"]
    with pytest.raises(SystemExit):
        prepare(flags)
    assert "give --videos, or no --size" in capsys.readouterr().err


def test_annotations_are_read_before_hours_of_videos(clips, tmp_path, capsys):
    (tmp_path / "broken.json").write_text("{")
    assert run_prepare(clips, tmp_path, annotations=tmp_path / "broken.json") == 1
    assert "broken.json" in capsys.readouterr().err
    assert not (tmp_path / "data" / "features").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("--features=x", "give no --features"),
        ("--rate=25", "give no --rate"),
        ("--signals=statistics", "give no --signals"),
        ("--size=0", "above 0"),
        ("--backbone=nothing", "videoprism-b"),
        ("--backbone=tests.video_cases:nothing", "package.module:function"),
    ],
)
def test_wrong_flags_of_prepare(clips, tmp_path, more, says, capsys):
    try:
        status = run_prepare(clips, tmp_path, more)
    except SystemExit as error:
        status = error.code
    assert status in (1, 2)
    assert says in capsys.readouterr().err


def run_predict(trained, folder, *more):
    flags = [f"--checkpoint={trained / 'run'}", f"--output={folder / 'found.json'}"]
    flags += [f"--backbone={MOTION}", *more] if "--features" not in str(more) else more
    status = predict.main(flags)
    file = folder / "found.json"
    return status, json.loads(file.read_text()) if file.exists() else None


@pytest.mark.slow
def test_predict_and_detect_video_find_the_same(clips, trained, tmp_path):
    mine = shutil.copytree(clips, tmp_path / "mine")
    (mine / "bad.mp4").write_bytes(b"nothing")
    page = tmp_path / "page.html"
    status, found = run_predict(trained, tmp_path, f"--videos={mine}", f"--report={page}")
    assert status == 3
    assert set(found["results"]) == set(SECONDS)
    assert "bad.mp4" in found["external_data"]["failures"]["bad"]
    model = segtad_jax.load(str(trained / "run"))
    for name, seconds in SECONDS.items():
        single = model.detect_video(clips / f"{name}.mp4", backbone=MOTION)
        rows = found["results"][name]
        assert [d.label for d in single] == [row["label"] for row in rows]
        np.testing.assert_allclose(
            [(d.start, d.end) for d in single], [row["segment"] for row in rows], atol=1e-3
        )
        assert max(d.end for d in single) <= seconds
    assert (tmp_path / "found.features" / "a.npy").exists()
    text = page.read_text()
    shown = json.loads(text.split('type="application/json">')[1].split("</")[0])["videos"]
    assert [video["media"]["address"] for video in shown] == [f"./mine/{n}.mp4" for n in SECONDS]
    for video, seconds in zip(shown, SECONDS.values(), strict=True):
        assert video["duration"] >= round(100 * seconds)
        assert len(video["media"]["stills"]) == int(seconds)
        assert "signal" not in video
    assert "A click goes to that moment" in text


def test_features_that_are_kept_give_the_same(clips, trained, tmp_path):
    kept = trained / "data" / "features"
    _, ofvideos = run_predict(trained, tmp_path, f"--videos={clips}", f"--save_features={kept}")
    _, offiles = run_predict(trained, tmp_path, f"--features={kept}")
    assert set(ofvideos["results"]) == set(offiles["results"]) == set(SECONDS)
    first, second = (found["results"]["a"][0]["score"] for found in (ofvideos, offiles))
    assert first == pytest.approx(second, rel=1e-5)


def test_another_backbone_than_trainings_is_refused(clips, trained, tmp_path, monkeypatch, capsys):
    model = segtad_jax.load(str(trained / "run"))
    content = json.loads((trained / "run" / FILE).read_text())
    run = shutil.copytree(trained / "run", tmp_path / "other")
    content["video"]["weights"] = "0123456789"
    content.pop("checksum")
    (run / FILE).write_text(json.dumps(content))
    other = segtad_jax.load(str(run))
    with pytest.raises(ValueError, match=r"weights 01234567.*--weights=FILE"):
        other.detect_video(clips / "a.mp4", backbone=MOTION)
    assert model.detect_video(clips / "a.mp4", backbone=MOTION)
    status, _ = run_predict(tmp_path, tmp_path, f"--checkpoint={run}", f"--videos={clips}")
    assert status == 1
    assert "weights 01234567" in capsys.readouterr().err


def test_a_run_alone_imports_no_code(clips, trained):
    model = segtad_jax.load(str(trained / "run"))
    with pytest.raises(ValueError, match=rf"--backbone={MOTION}.*trust"):
        model.detect_video(clips / "a.mp4")
    with pytest.raises(ValueError, match=rf"--backbone={MOTION}.*trust"):
        model.detect_video(clips / "a.mp4", backbone="tests.video_cases:noise")


def test_a_model_of_features_takes_no_videos(clips, trained, tmp_path, capsys):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    (run / FILE).unlink()
    status, _ = run_predict(tmp_path, tmp_path, f"--videos={clips}")
    assert status == 1
    assert "prepare --videos" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--features=x", "--videos=y"],
        ["--videos=y", "--rate=2"],
        ["--features=x", "--save_features=y"],
    ],
)
def test_wrong_flags_of_predict(trained, tmp_path, more, capsys):
    with pytest.raises(SystemExit) as error:
        run_predict(trained, tmp_path, *more)
    assert error.value.code == 2
    assert "--videos" in capsys.readouterr().err


def test_kept_elsewhere_by_epath(clips, backbone, tmp_path):
    videos = open_videos(str(clips / "a.mp4"), transform_of(backbone), epath.Path(tmp_path / "k"))
    videos.extract(paths(videos), backbone, QUIET)
    assert list(videos.places) == ["a"]
    assert videos.frames("a", videos.form()).array.shape[1] == 5


@pytest.mark.parametrize("flag", ["--rate=5", "--time=none", "--layout=tc", "--durations=d.csv"])
def test_what_videos_know_of_themselves_is_not_given(flag, capsys):
    with pytest.raises(SystemExit) as caught:
        predict.main(["--checkpoint=run", "--videos=a", "--output=found.json", flag])
    assert caught.value.code == 2
    assert f"give no {flag.partition('=')[0]}" in capsys.readouterr().err
