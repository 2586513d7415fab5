"""One live process holds a lease; one that died is succeeded."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from segtad_jax.runtime import lease
from tests.object_store import bucket_in

HOLDER = """
import sys, time
from segtad_jax.runtime import lease
with lease.held(sys.argv[1], "the run"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: pathlib.Path):
    """Another process, which holds tmp_path/run/.lease."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run" / lease.FILE)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is a second."""
    monkeypatch.setattr(lease, "RENEWED_SECONDS", 0.1)
    monkeypatch.setattr(lease, "EXPIRED_SECONDS", 1)


def test_a_second_process_is_refused_by_name(holder, tmp_path) -> None:
    file = tmp_path / "run" / lease.FILE
    owner = json.loads(file.read_text())
    with pytest.raises(lease.HeldError) as error, lease.held(file, "the run"):
        pass
    for name in ("the run", str(holder.pid), owner["host"], owner["since"], str(file)):
        assert name in str(error.value)
    assert json.loads(file.read_text()) == owner


def test_who_is_interrupted_while_he_looks_leaves_the_lease(monkeypatch, tmp_path) -> None:
    """Of another machine, whose lock this file system does not know."""
    file = tmp_path / lease.FILE
    owner = json.dumps({"host": "there", "machine": "another", "process": 7, "token": "its"})
    file.write_text(owner)

    def interrupted(file: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lease, "_state", interrupted)
    with pytest.raises(KeyboardInterrupt), lease.held(file, "the run"):
        pass
    assert file.read_text() == owner


def test_a_dead_process_of_this_machine_is_succeeded_at_once(holder, tmp_path) -> None:
    file = tmp_path / "run" / lease.FILE
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert file.exists()
    before = time.monotonic()
    with lease.held(file, "the run"):
        assert json.loads(file.read_text())["process"] == os.getpid()
    assert time.monotonic() - before < 1
    assert not file.exists()


def elsewhere(file: pathlib.Path) -> None:
    """A lease of a process on another machine."""
    file.parent.mkdir(exist_ok=True)
    owner = {"host": "far", "machine": "x", "process": 7, "since": "long ago", "token": "t"}
    file.write_text(json.dumps(owner))


def test_one_of_another_machine_that_is_not_renewed_is_succeeded(tmp_path, hurried) -> None:
    elsewhere(tmp_path / lease.FILE)
    before = time.monotonic()
    with lease.held(tmp_path / lease.FILE, "the run") as ours:
        assert time.monotonic() - before >= lease.EXPIRED_SECONDS
        ours.check()


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_one_of_another_machine_that_is_renewed_is_refused(
    tmp_path, hurried, monkeypatch, where
) -> None:
    bucket_in(tmp_path, monkeypatch)
    place = f"{tmp_path}/run/.lease" if where == "disk" else "gs://bucket/run/.lease"
    monkeypatch.setattr(lease, "_machine", iter(map(str, range(9))).__next__)
    monkeypatch.setattr(lease.fcntl, "flock", lambda *_: None)  # as if of another machine
    with lease.held(place, "the run"):
        before = time.monotonic()
        with pytest.raises(lease.HeldError), lease.held(place, "the run"):
            pass
        assert time.monotonic() - before < lease.EXPIRED_SECONDS


@pytest.mark.parametrize("loss", ["removed", "taken"])
def test_a_lost_lease_is_told(tmp_path, hurried, loss) -> None:
    file = tmp_path / "run" / lease.FILE
    with lease.held(file, "the run") as ours:
        ours.check()
        if loss == "removed":
            file.unlink()
            file.parent.rmdir()
        else:
            elsewhere(file)
        with pytest.raises(lease.LostError, match="removed" if loss == "removed" else "7 on far"):
            ours.check()
        time.sleep(3 * lease.RENEWED_SECONDS)
    assert file.exists() == (loss == "taken")  # it is not ours to remove


def test_no_folder_is_left_that_was_made_for_a_lease_alone(tmp_path) -> None:
    with lease.held(tmp_path / "run" / lease.FILE, "the run"):
        pass
    assert not (tmp_path / "run").exists()
    with lease.held(tmp_path / "run" / lease.FILE, "the run"):
        (tmp_path / "run" / "config.json").touch()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.json"]


def test_damaged_leases_and_those_half_written_are_no_obstacle(tmp_path, hurried) -> None:
    for content in ("", "{", "[]", "null", '{"process": {}, "host": "\\u001b[31m"}'):
        (tmp_path / lease.FILE).write_text(content)
        with lease.held(tmp_path / lease.FILE, "the run"):
            pass


def test_a_lease_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch) -> None:
    file = tmp_path / "run" / lease.FILE

    def full(self, text: str) -> None:
        raise OSError(28, os.strerror(28), str(self))

    monkeypatch.setattr(type(lease.absolute(file)), "write_text", full)
    with pytest.raises(OSError, match=r"No space left.*\.lease"), lease.held(file, "the run"):
        pass
    assert not file.parent.exists()


def test_a_loss_explains_what_failed(tmp_path) -> None:
    def write(removes: bool) -> None:
        with lease.held(tmp_path / "run" / lease.FILE, "the run"):
            if removes:
                shutil.rmtree(tmp_path / "run")
            (tmp_path / "run" / "folder" / "metrics.json").write_text("")

    with pytest.raises(lease.LostError, match=f"{tmp_path}/run was removed while the run was in"):
        write(removes=True)
    with pytest.raises(FileNotFoundError, match=r"metrics\.json"):
        write(removes=False)
