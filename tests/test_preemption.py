"""Signals are answered while the main thread is in C, as in XLA's compiler."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest

from segtad_jax.runtime.command import INTERRUPTED, STOPPED

BUSY = """
import contextlib, hashlib, pathlib, sys
from segtad_jax.runtime import lease, preemption

folder, phase = pathlib.Path(sys.argv[1]), sys.argv[2]
preemption.PATIENCE_SECONDS = 0.5
stop = preemption.Stop(exits=True)
with stop.listening(), lease.held(folder / lease.FILE, "the run"):
    if phase != "start":
        stop.attend()
    saves = stop.unattended((folder / "saved").touch)
    with saves if phase == "evaluation" else contextlib.nullcontext():
        print("busy", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**28 if phase != "step" else 2**20)
    stop.check()
"""


@pytest.mark.parametrize(
    ("phase", "signals", "status"),
    [
        ("start", "SIGTERM", STOPPED),
        ("start", "SIGINT", INTERRUPTED),
        ("evaluation", "SIGTERM", STOPPED),
        ("compile", "SIGINT SIGINT", INTERRUPTED),
        ("step", "SIGTERM", 1),  # StoppedError leaves, as what is left to the main thread does
    ],
)
def test_a_signal_is_answered_while_the_main_thread_is_in_c(
    tmp_path: pathlib.Path, phase: str, signals: str, status: int
) -> None:
    command = [sys.executable, "-c", BUSY, str(tmp_path), phase]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "busy\n"
    for name in signals.split():
        process.send_signal(getattr(signal, name))
        time.sleep(0.2)  # two of a kind that are pending are one
    assert process.wait(timeout=20) == status
    stderr = process.stderr.read()
    assert ("StoppedError" if status == 1 else "stopped") in stderr
    assert (tmp_path / "saved").exists() == (phase == "evaluation")
    assert not (tmp_path / ".lease").exists()
