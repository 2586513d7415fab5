"""Runs that are stopped: by SIGTERM, by kill -9, by a damaged checkpoint."""

import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import pytest

from segtad_jax import evaluate, train
from segtad_jax.checkpoint.store import Checkpoints
from segtad_jax.runtime import lease, preemption
from segtad_jax.runtime.command import STOPPED
from segtad_jax.runtime.files import read_json, write_sealed
from tests.tiny_runs import ROOT, TINY, assert_equal_runs, logged, opened, saved, short

STEPS = 60
SETTINGS = {"train.steps": STEPS, "train.save_every": 20, "train.eval_every": 20}

# Moments at which runs are killed: one in the midst of each of these, and as many as are wanted
# spread over a run's life (`SEGTAD_KILLS=20` for the table of docs/running.md).
UNIFORM = int(os.environ.get("SEGTAD_KILLS", "0"))
AIMED = ("training", "compile", "save", "evaluation", "results")
KINDS = ("SIGKILL", "SIGTERM")
MOMENTS = [(n + 0.5) / UNIFORM for n in range(UNIFORM)] + list(AIMED)

# On SIGUSR1 a thread of the process writes in which functions the main thread is: unlike a handler
# of the signal it needs not wait for the main thread, and unlike faulthandler it holds the lock
# under which stacks change.
WATCHED = """
import runpy, signal, sys, threading, traceback

def watch(main):
    while True:
        signal.sigwait({signal.SIGUSR1})
        stack = traceback.walk_stack(sys._current_frames()[main])
        names = [f"in {frame.f_code.co_name}" for frame, _ in stack]
        print(*names, "whole", sep="\\n", file=sys.stderr, flush=True)

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # in all threads: the watch takes it
threading.Thread(target=watch, args=(threading.get_ident(),), daemon=True).start()
print("watched", file=sys.stderr, flush=True)
runpy.run_module("segtad_jax.main", run_name="__main__", alter_sys=True)
"""
DOING = {  # by the functions that are being called; the first that is found
    "compile": r"in backend_compile|in compile_or_get_cached",
    "results": r"in (write_detections|draw_training_curves|write_report|write_json)",
    "evaluation": r"in (detect|evaluate|judge)",
    "training": r"in run_steps",
    "restoring": r"in restore_latest",
    "start": "",
}


def command(folder: pathlib.Path, data_dir: str) -> list[str]:
    fields = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    flags = [f"--config={TINY}", *fields, f"--workdir={folder}", f"--config.data.dir={data_dir}"]
    return [sys.executable, "-c", WATCHED, *flags]


class Watched:
    """A run whose doing can be looked at, and which can be killed in the midst of it."""

    def __init__(self, folder: pathlib.Path, data_dir: str, **environment: str) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command(folder, data_dir), cwd=ROOT, stderr=log, env=os.environ | environment
            )

    def doing(self) -> str:
        """What the run is doing now."""
        before = self.log.read_text()
        if "watched" not in before or self.process.poll() is not None:
            return "start" if self.process.poll() is None else "nothing: it has ended"
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 5
        while not re.search("^whole$", stack := self.log.read_text()[len(before) :], re.MULTILINE):
            if time.monotonic() > deadline:
                return "start"
            time.sleep(0.002)
        found = next(name for name, pattern in DOING.items() if re.search(pattern, stack))
        return f"save, beside {found}" if self.saves() else found

    def cpu_seconds(self) -> float:
        """What it and its threads have used."""
        fields = (
            pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def saves(self) -> bool:
        """Whether a checkpoint is being written."""
        return any(self.folder.glob("checkpoints/*-tmp"))

    def saved(self) -> bool:
        """Whether there is a checkpoint."""
        return any(path.name.isdigit() for path in self.folder.glob("checkpoints/*"))

    def hold_in_a_save(self) -> str:
        """Stops it in the midst of a save, which takes less time than a look at the stacks."""
        while self.process.poll() is None:
            if self.saves():
                self.process.send_signal(signal.SIGSTOP)
                time.sleep(0.05)
                if self.saves():
                    return "save"
                self.process.send_signal(signal.SIGCONT)
            time.sleep(0.001)
        return "nothing: it has ended"

    def kill(self, moment: float | str, seconds: float, kind: str) -> str:
        """Kills it at a part of its life, or while it does something; returns what it was doing.

        Its life is counted in seconds of CPU, of which a busy machine does not change the number.
        """
        if isinstance(moment, float):
            while self.process.poll() is None and self.cpu_seconds() < moment * seconds:
                time.sleep(0.01)
            doing = self.doing()
        elif moment == "save":
            doing = self.hold_in_a_save()
        else:
            while moment == "training" and self.process.poll() is None and not self.saved():
                time.sleep(0.01)  # there is something to go on from, and not only the start
            while not (doing := self.doing()).startswith((moment, "nothing")):
                time.sleep(0.01)
        self.process.send_signal(getattr(signal, kind))
        self.process.send_signal(signal.SIGCONT)
        return doing


@pytest.fixture(scope="module")
def command_run(
    once: Callable, data_dir: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pathlib.Path, float]:
    """An unbroken run from the command line, and a run's seconds of CPU where they are needed."""

    def run(folder: pathlib.Path) -> None:
        subprocess.run(command(folder, data_dir), cwd=ROOT, check=True)

    folder = once("command-run", run)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if UNIFORM:
        run(tmp_path_factory.mktemp("again"))  # compiles nothing
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return folder, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def state_hash(folder: pathlib.Path, data_dir: str) -> str:
    """Of parameters, optimiser and BatchNorm statistics after the last step."""
    leaves = jax.tree.leaves(saved(short(data_dir), folder, STEPS))  # its model is the same
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(MOMENTS)))
def test_a_killed_run_ends_as_an_unbroken_one(
    command_run: tuple[pathlib.Path, float], data_dir: str, tmp_path: pathlib.Path, number: int
) -> None:
    whole, seconds = command_run
    moment, kind = MOMENTS[number], KINDS[number % 2]
    # What is kept is not compiled.
    fresh = {"JAX_ENABLE_COMPILATION_CACHE": "false"} if moment == "compile" else {}
    broken = Watched(tmp_path / "run", data_dir, **fresh)
    doing = broken.kill(moment, seconds, kind)
    status = broken.process.wait(timeout=120)
    log = broken.log.read_text()
    assert status in {0, STOPPED, -signal.SIGKILL, -signal.SIGTERM}, log
    if isinstance(moment, str):
        assert doing.startswith(moment), log
    folders = (tmp_path / "run").glob("checkpoints/*")
    checkpoints = sorted(int(path.name) for path in folders if path.name.isdigit())
    subprocess.run(command(tmp_path / "run", data_dir), cwd=ROOT, check=True)
    same = state_hash(tmp_path / "run", data_dir)
    when = (
        f"{moment * seconds:.1f} of {seconds:.1f} s of CPU"
        if isinstance(moment, float)
        else "aimed"
    )
    print(f"| {when} | {kind} | {doing} | {status} | {checkpoints or '-'} | {same[:12]} |")
    assert same == state_hash(whole, data_dir)
    assert logged(tmp_path / "run") == logged(whole)
    for name in ("detections.json", "metrics.json"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "kind"),
    [
        ("step 5", signal.SIGINT),
        ("evaluation at 8", signal.SIGHUP),
        ("end", signal.SIGTERM),
    ],
)
def test_a_signal_saves_and_goes_on_with_the_same_numbers(
    unbroken: pathlib.Path,
    data_dir: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    kind: signal.Signals,
) -> None:
    """In the middle of an interval of the log, of an evaluation, and of the last one."""
    term = iter(range(100))

    def terminate_at(number: int) -> None:
        if next(term) == number:
            os.kill(os.getpid(), kind)

    if moment == "step 5":  # after four batches of training and two of the evaluation at 4
        shard_batch = train.parallel.shard_batch
        monkeypatch.setattr(
            train.parallel, "shard_batch", lambda batch: (terminate_at(6), shard_batch(batch))[1]
        )
    else:  # one evaluation is at 4, one at 8, the last at 12
        detect = train.Detector.detect
        at = {"evaluation at 8": 1, "end": 2}[moment]
        monkeypatch.setattr(
            train.Detector,
            "detect",
            lambda *args, **settings: (terminate_at(at), detect(*args, **settings))[1],
        )
    broken = tmp_path / "broken"
    with pytest.raises(preemption.StoppedError):
        train.train(short(data_dir), broken)
    monkeypatch.undo()
    last = max(int(p.name) for p in (broken / "checkpoints").iterdir() if p.name.isdigit())
    assert last == {"step 5": 5, "evaluation at 8": 8, "end": 12}[moment]
    assert not (broken / "metrics.json").exists()
    train.train(short(data_dir), broken)
    assert_equal_runs(short(data_dir), broken, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_checkpoint_that_does_not_read_is_named_and_the_one_before_it_used(
    unbroken: pathlib.Path,
    data_dir: str,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    folder = shutil.copytree(unbroken, tmp_path / "run")
    (folder / "metrics.json").unlink()
    (folder / "checkpoints" / "unreadable-12").mkdir()  # it is not the first time
    checkpoint = folder / "checkpoints" / "12"
    files = [p for p in checkpoint.rglob("*") if p.is_file()]
    if damage == "missing":
        for file in files:
            if "ocdbt" in str(file) or file.parent.name == "d":
                file.unlink()
    else:
        for file in files:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    train.train(short(data_dir), folder)
    assert f"checkpoint {checkpoint} does not read" in caplog.text
    assert list((folder / "checkpoints" / "unreadable-12-2").iterdir())
    assert_equal_runs(short(data_dir), folder, unbroken)


def test_a_workdir_in_use_is_refused_and_nothing_in_it_changes(
    unbroken: pathlib.Path, data_dir: str, tmp_path: pathlib.Path
) -> None:
    folder = shutil.copytree(unbroken, tmp_path / "run")
    (folder / "metrics.json").unlink()
    with lease.held(folder / lease.FILE, "the run"):
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        mine = rf"{folder} is in use: held by process {os.getpid()} on {socket.gethostname()} since"
        with pytest.raises(lease.HeldError, match=mine):
            train.train(short(data_dir), folder)
        with pytest.raises(lease.HeldError, match=mine):
            evaluate.evaluate_checkpoint(short(data_dir), folder)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_workdir_that_is_removed_is_told_and_not_made_again(
    data_dir: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    step = train.parallel_step

    def removed_at_3(*args):
        call, numbers = step(*args), iter(range(1, 100))
        return lambda *args: (next(numbers) == 3 and shutil.rmtree(folder), call(*args))[1]

    monkeypatch.setattr(train, "parallel_step", removed_at_3)
    with pytest.raises(lease.LostError, match=rf"{folder} was removed while"):
        train.train(short(data_dir), folder)
    assert not folder.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"step": 12}', '{"step": 12, "map": 3}'])
def test_damaged_results_of_a_finished_run_are_named_with_what_to_do(
    unbroken: pathlib.Path, data_dir: str, tmp_path: pathlib.Path, content: str
) -> None:
    shutil.copy(unbroken / "config.json", tmp_path)
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=rf"{tmp_path}/metrics\.json .*\. Delete it"):
        train.train(short(data_dir), tmp_path)


def test_a_flipped_bit_in_the_results_is_named(
    unbroken: pathlib.Path, data_dir: str, tmp_path: pathlib.Path
) -> None:
    shutil.copy(unbroken / "config.json", tmp_path)
    whole = (unbroken / "metrics.json").read_bytes()
    expected = read_json(unbroken / "metrics.json", "")
    for number in np.random.default_rng(0).integers(8 * len(whole), size=60):
        damaged = bytearray(whole)
        damaged[number // 8] ^= 1 << number % 8
        (tmp_path / "metrics.json").write_bytes(damaged)
        try:
            found = read_json(tmp_path / "metrics.json", "Delete it.")
        except ValueError as error:
            assert f"{tmp_path}/metrics.json does not read" in str(error)  # noqa: PT017
        else:
            assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_goes_on_with_its_own_data_alone(
    unbroken: pathlib.Path, data_dir: str, tmp_path: pathlib.Path, ended: bool
) -> None:
    """Nor does one that has ended show its results for those of other data."""
    folder = shutil.copytree(unbroken, tmp_path / "run")
    content = read_json(folder / "config.json", "")
    assert content["dataset"]["fingerprint"] == opened(data_dir).fingerprint
    content["dataset"] = {"name": "others", "fingerprint": "0" * 64}
    write_sealed(folder / "config.json", content)
    if not ended:
        (folder / "metrics.json").unlink()
    message = rf"'others'.*000000.*{opened(data_dir).directory}.*--config\.data\.dir.*--workdir"
    with pytest.raises(ValueError, match=message):
        train.train(short(data_dir), folder)
    assert (folder / "metrics.json").exists() == ended


def test_no_checkpoint_that_reads_is_an_error(
    unbroken: pathlib.Path, data_dir: str, tmp_path: pathlib.Path
) -> None:
    folder = shutil.copytree(unbroken, tmp_path / "run")
    for file in (folder / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    (folder / "metrics.json").unlink()  # a finished run reads no checkpoint
    with pytest.raises(ValueError, match=r"none of the checkpoints \[12, 8, 4\] .* reads"):
        train.train(short(data_dir), folder)


def test_another_tree_is_no_checkpoint_of_this_model(unbroken: pathlib.Path, data_dir: str) -> None:
    other = saved(short(data_dir), unbroken, 4)
    wrong = other.replace(params=jax.tree.map(lambda x: np.zeros((3, *x.shape)), other.params))
    with (
        Checkpoints(unbroken, 10) as checkpoints,
        pytest.raises(
            ValueError,
            match=r"params.*is float64\[.*in the checkpoint, but float64\[3, .* in this model",
        ),
    ):
        checkpoints.restore(4, wrong)


def test_progress_is_plain_json(unbroken: pathlib.Path) -> None:
    (file,) = (unbroken / "checkpoints" / "4" / "progress").glob("metadata")
    assert json.loads(file.read_text()) == {"interval": [], "owed": False}
