"""Leases: one live process at a time writes into a folder or a file.

    with lease.held(workdir / lease.FILE, "this run") as held:
        ...
        held.check()  # before something is written that matters

The file says who holds it, and is there as long as it is held. On a disk the kernel's lock goes
with it, so that a process of this machine that died, however it died, is succeeded at once. Of a
process that the lock says nothing about (on another machine, or on an object store) only the
renewals tell: one every `RENEWED_SECONDS`, by a thread. Whoever finds such a lease watches it: once
renewed, it is refused; unchanged for `EXPIRED_SECONDS`, it is taken over. No clocks are compared.
An object store has no lock at all: of two that start within the same second both may go on, until
at the next renewal the one finds the other's name in the file.
"""

import contextlib
import datetime as dt
import fcntl
import json
import logging
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from etils import epath

from segtad_jax.runtime.files import absolute, on_object_store

log = logging.getLogger(__name__)

FILE = ".lease"  # in a folder that is held
RENEWED_SECONDS = 10
EXPIRED_SECONDS = 60
LOCK_TRIES = 100  # while others give theirs back


class HeldError(ValueError):
    """Another process holds the lease; says which, on which host, and since when."""


class LostError(OSError):
    """The lease, or the folder that it was in, was taken away."""


class Lease:
    """A lease that this process holds, of `held`."""

    def __init__(self, file: epath.Path, what: str) -> None:
        """Nothing is written yet."""
        self._file, self._what = file, what
        self._owner = {
            "host": socket.gethostname(),
            "machine": _machine(),
            "process": os.getpid(),
            "since": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} UTC",
            "token": uuid.uuid4().hex,
        }
        self._lock: int | None = None  # file descriptor; None where there are no such locks
        self._ended = threading.Event()
        self._lost = ""
        self._made = not file.parent.exists()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def check(self) -> None:
        """Raises LostError if the lease was lost: nothing may be written any more."""
        if not self._ended.is_set():
            self._renew()
        if self._lost:
            raise LostError(self._lost)

    def take(self) -> None:
        """Takes the lease, or raises HeldError."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        try:
            owner = _read(self._file)
            if owner and not (self._lock is not None and owner.get("machine") == _machine()):
                self._watch(owner)
            self._file.write_text(json.dumps(self._owner))
        except BaseException:
            if self._lock is not None and not _read(self._file):
                self._file.unlink(missing_ok=True)  # there since it was locked; nobody's
            self.release()
            raise
        self._thread.start()
        _HELD.add(self)

    def release(self) -> None:
        """Gives the lease back; a folder that was made for it, and is empty, is removed."""
        _HELD.discard(self)
        self._ended.set()
        if self._thread.is_alive():  # or an object that it renews just now would be there again
            self._thread.join(RENEWED_SECONDS)
        with contextlib.suppress(OSError):
            if self._is_ours():
                self._file.unlink()
            if self._made and not on_object_store(self._file):
                pathlib.Path(self._file.parent).rmdir()  # refuses one that is not empty
        self._unlock()

    def _locked(self) -> int | None:
        """Returns the file, opened and locked by the kernel; None where there are no locks."""
        if on_object_store(self._file):
            return None
        for _ in range(LOCK_TRIES):
            lock = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), pathlib.Path(self._file).stat()):
                    return lock
            except BlockingIOError:
                os.close(lock)
                raise self._refusal(_read(self._file)) from None
            except FileNotFoundError:  # its holder has just removed it
                pass
            except OSError as error:
                log.debug("%s cannot be locked: %s", self._file, error)
                os.close(lock)
                return None
            os.close(lock)
        return None  # as where a file is never the same twice, on some network file systems

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _watch(self, owner: dict[str, Any]) -> None:
        log.warning(
            "%s: %s, which may have ended: looking for up to %d s whether it lives",
            *(self._file, _described(owner), EXPIRED_SECONDS),
        )
        seen, end = _state(self._file), time.monotonic() + EXPIRED_SECONDS
        while time.monotonic() < end:
            time.sleep(RENEWED_SECONDS / 10)
            if (state := _state(self._file)) is None:
                return  # given back
            if state != seen:
                raise self._refusal(owner)
        log.warning("%s was not renewed for %d s: taken over", self._file, EXPIRED_SECONDS)

    def _refusal(self, owner: dict[str, Any]) -> HeldError:
        return HeldError(
            f"{self._what} is in use: {_described(owner)} ({self._file}). Wait until it has ended, "
            "or stop it, and run the same command again; or write elsewhere."
        )

    def _keep(self) -> None:
        while not self._ended.wait(RENEWED_SECONDS) and not self._lost:
            self._renew()

    def _renew(self) -> None:
        try:
            if not self._is_ours():
                self._lost = self._loss()
            elif on_object_store(self._file):
                self._file.write_text(json.dumps(self._owner | {"renewed": time.time()}))
            else:
                os.utime(self._file)
        except OSError as error:  # a disk that does not answer now may answer the next time
            log.debug("%s is not renewed: %s", self._file, error)

    def _is_ours(self) -> bool:
        return _read(self._file).get("token") == self._owner["token"]

    def _loss(self) -> str:
        if not self._file.parent.exists():
            return f"{self._file.parent} was removed while {self._what} was in use"
        if owner := _read(self._file):
            return f"{self._what} was taken over: {_described(owner)} ({self._file})"
        return f"{self._file} was removed while {self._what} was in use"


@contextlib.contextmanager
def held(file: epath.PathLike, what: str) -> Iterator[Lease]:
    """Returns a context in which this process holds a lease.

    Args:
        file: of the lease, which is there meanwhile: FILE in a folder, or a hidden name beside a
            file; the folder is made where it is missing.
        what: is held, as a message names it: "the run runs/mine".

    Raises:
        HeldError: another process holds it; says which, where and since when.
        LostError: something failed in the context, and the lease was lost before.
        OSError: the file cannot be written.
    """
    lease = Lease(absolute(file), what)
    lease.take()
    try:
        yield lease
    except Exception:
        lease.check()  # a loss explains what failed
        raise
    finally:
        lease.release()


def release_all() -> None:
    """Gives back what this process holds, before an exit that passes no `with`."""
    for lease in list(_HELD):
        lease.release()


_HELD: set[Lease] = set()


def _machine() -> str:
    """Names a running kernel, since containers and clusters share names of hosts."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else socket.gethostname()


def _read(file: epath.Path) -> dict[str, Any]:
    """Returns whose a lease is; {} where there is none, or one that is just being written."""
    try:
        owner = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _state(file: epath.Path) -> tuple[str, int] | None:
    """Returns what changes with every renewal; None where there is no lease."""
    try:
        renewed = 0 if on_object_store(file) else pathlib.Path(file).stat().st_mtime_ns
        return file.read_text(), renewed
    except FileNotFoundError:
        return None


def _described(owner: dict[str, Any]) -> str:
    names = ("process", "host", "since")
    process, host, since = (ascii(owner.get(name, "unknown")).strip("'")[:80] for name in names)
    return f"held by process {process} on {host} since {since}"
