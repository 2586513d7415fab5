"""A disk that takes no more, a folder that cannot be written: a message, and nothing is harmed."""

import errno
import os
import pathlib
import resource
import subprocess

import pytest

from segtad_jax import evaluate, main, train
from tests.tiny_runs import assert_equal_runs, short

SYS_ADMIN = 21  # the capability that mount needs
STATUS = dict(
    line.split(":\t", 1)
    for line in pathlib.Path("/proc/self/status").read_text().splitlines()
    if ":\t" in line
)
CAN_MOUNT = bool(int(STATUS["CapEff"], 16) >> SYS_ADMIN & 1)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["save", "results"])
def test_a_full_disk_stops_the_run_and_harms_nothing(
    unbroken: pathlib.Path,
    data_dir: str,
    tmp_path,
    monkeypatch,
    moment: str,
) -> None:
    """No file may grow beyond some bytes: what Orbax writes in threads is refused like ours."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    if moment == "save":
        save = train.Checkpoints.save

        def filled_at_8(self: train.Checkpoints, step: int, *args) -> None:
            if step == 8:
                self.wait()  # for the one before, which had room
                fill()
            save(self, step, *args)

        monkeypatch.setattr(train.Checkpoints, "save", filled_at_8)
    else:
        write = evaluate.write_detections
        monkeypatch.setattr(evaluate, "write_detections", lambda *args: (fill(), write(*args))[1])
    try:
        with pytest.raises((ValueError, OSError)) as error:
            train.train(short(data_dir), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        monkeypatch.undo()
    assert os.strerror(errno.EFBIG) in str(error.value)
    assert "What was saved before is whole." in main._advice(error.value)
    assert not (tmp_path / "metrics.json").exists()
    left = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert left == ({"4"} if moment == "save" else {"4", "8", "12"})

    train.train(short(data_dir), tmp_path)  # there is room again
    assert_equal_runs(short(data_dir), tmp_path, unbroken)


def refuse_to_write(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be mounted: epath's files refuse as those of a read-only disk do."""
    from etils.epath import backend

    real = type(backend.os_backend).open

    def opened(self, path, mode):
        if "r" not in mode and str(path).startswith(str(folder)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(self, path, mode)

    monkeypatch.setattr(type(backend.os_backend), "open", opened)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stand-in", *(["mount"] if CAN_MOUNT else [])])
def test_a_folder_that_cannot_be_written_is_named(
    data_dir: str,
    tmp_path,
    monkeypatch,
    kind: str,
) -> None:
    config = short(data_dir, train__steps=8)
    folder = tmp_path / "disk"
    folder.mkdir()
    if kind == "mount":
        subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    try:
        train.train(short(data_dir, train__steps=4), folder / "other")
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        if kind == "mount":
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
            match = r"Read-only file system: '.*disk/run'"
        else:
            refuse_to_write(folder, monkeypatch)
            match = r"Read-only file system: '.*disk/run/\.lease'"
        with pytest.raises(OSError, match=match) as error:
            train.train(config, folder / "run")
        assert "What was saved before is whole." in main._advice(error.value)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    finally:
        if kind == "mount":
            subprocess.run(["umount", folder], check=True)


def test_other_errors_are_not_the_disks() -> None:
    assert main._advice(ValueError("no such field")) == ""
