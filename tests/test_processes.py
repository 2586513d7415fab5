"""Several processes on one machine, each with virtual devices: the numbers of one."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import pytest

from segtad_jax import evaluate, train
from tests.tiny_runs import ROOT, TINY, logged, tiny

FIELDS = {
    "train.steps": 20,
    # Sums in another order differ by rounding, which Adam makes larger with every step.
    "optim.learning_rate": 1e-4,
    "train.eval_every": 10,
    "train.save_every": 10,
    "data.synthetic_recordings": 52,  # and 13 to validate
}


def start(
    folder: pathlib.Path, data_dir: str, processes: int, devices: int, *flags: str
) -> list[subprocess.Popen]:
    """Starts a run of `processes` processes with `devices` devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    others = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
    environment = os.environ | {
        "XLA_FLAGS": f"{others} --xla_force_host_platform_device_count={devices}"
    }
    command = [
        *(sys.executable, "-m", "segtad_jax.main", f"--config={TINY}", f"--workdir={folder}"),
        *(f"--config.{name}={value}" for name, value in FIELDS.items()),
        f"--config.data.dir={data_dir}",
        *flags,
    ]
    if processes > 1:
        command += ["--distributed", f"--coordinator=127.0.0.1:{port}"]
        command += [f"--num_processes={processes}"]
    return [
        subprocess.Popen(
            [*command, *([f"--process_id={i}"] if processes > 1 else [])],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(processes)
    ]


def finish(running: list[subprocess.Popen], timeout: float = 400) -> list[tuple[int, str]]:
    outputs = [process.communicate(timeout=timeout)[0] for process in running]
    return [(p.returncode, output) for p, output in zip(running, outputs, strict=True)]


@pytest.fixture(scope="module")
def alone(once: Callable, data_dir: str) -> pathlib.Path:
    """A run of one process on one device."""

    def run(folder: pathlib.Path) -> None:
        ((status, output),) = finish(start(folder, data_dir, 1, 1))
        assert status == 0, output

    return once("alone", run)


def detections(folder: pathlib.Path) -> dict:
    return json.loads((folder / "detections.json").read_text())["results"]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_four_devices_change_neither_losses_nor_detections(
    alone: pathlib.Path, data_dir: str, tmp_path: pathlib.Path, processes: int
) -> None:
    again = tmp_path / "again"  # the parameters of the other: 13 videos divide by nothing
    if processes == 1:  # this one
        assert jax.device_count() == 4
        config = tiny(data_dir, **FIELDS)
        train.train(config, tmp_path)
        evaluate.evaluate_checkpoint(config, again, str(alone))
    else:
        flags = "--mode=evaluate", f"--checkpoint={alone}"
        for folder, more in ((tmp_path, ()), (again, flags)):
            for status, output in finish(start(folder, data_dir, processes, 2, *more)):
                assert status == 0, output
    ours, theirs = logged(tmp_path), logged(alone)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for a, b in zip(ours, theirs, strict=True):
        for name in a:
            if name.startswith("loss/"):
                assert a[name] == pytest.approx(b[name], rel=1e-5), (name, a["step"])

    found, expected = detections(again), detections(alone)
    assert list(found) == list(expected)
    assert len(found) == 13
    for video, detected in expected.items():
        assert [d["label"] for d in found[video]] == [d["label"] for d in detected]
        for key in ("score", "segment"):
            np.testing.assert_allclose(
                np.array([d[key] for d in found[video]]),
                np.array([d[key] for d in detected]),
                rtol=1e-4,
                atol=1e-6,
            )


def wait_for(path: pathlib.Path, running: list[subprocess.Popen], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline or any(p.poll() is not None for p in running):
            for process in running:
                process.kill()
            pytest.fail(f"{path} did not appear: {finish(running)}")
        time.sleep(0.5)


@pytest.mark.slow
def test_a_lost_process_ends_the_others_and_the_run_goes_on(
    data_dir: str, tmp_path: pathlib.Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    endless = ("--config.train.steps=100000", "--config.train.eval_every=0")
    running = start(tmp_path, data_dir, 2, 1, *endless)
    wait_for(checkpoints / "10", running)
    running[1].kill()
    lost = time.monotonic()
    status, output = finish(running, timeout=60)[0]
    assert time.monotonic() - lost < 60
    assert status in {76, -6}, output  # -6: JAX's own watch was faster

    # As the documented statuses say, the same command goes on; SIGTERM to one stops all.
    reached = max(int(p.name) for p in checkpoints.glob("[0-9]*") if p.name.isdigit())
    running = start(tmp_path, data_dir, 2, 1, *endless)
    wait_for(checkpoints / str(reached + 10), running)
    running[0].terminate()
    (status, output), (other_status, _) = finish(running, timeout=60)
    assert (status, other_status) == (75, 75), output
    assert f"resuming after step {reached}" in output


@pytest.mark.slow
def test_a_workdir_that_not_all_see_is_refused(data_dir: str, tmp_path: pathlib.Path) -> None:
    running = start(tmp_path / "a", data_dir, 2, 1)
    # The second process is told another folder, as if it were on another machine's disk.
    command = [a.replace(str(tmp_path / "a"), str(tmp_path / "b")) for a in running[1].args]
    running[1].kill()
    running[1].communicate()
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    running[1] = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for status, output in finish(running):
        assert status == 1, output
        assert "is not one folder: processes [1] of 2" in output
