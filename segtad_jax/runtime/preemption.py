"""SIGTERM, Ctrl-C, SIGHUP: finish what cannot be divided, save, and exit with command.STOPPED."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from segtad_jax.runtime import command, lease, parallel

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PATIENCE_SECONDS = 10  # for the main thread, which may be in XLA's compiler for minutes


class StoppedError(Exception):
    """The run was asked to stop; when this leaves `train`, its state is saved."""


class Stop:
    """A request to stop, by a signal to this or, of several, any process.

    Python's handlers run in the main thread, and not while that one compiles. So a thread looks
    after the signals as well, and ends the process where the main thread does not react: at once
    before the first step, when there is nothing to save, and later after saving what `unattended`
    names.
    """

    def __init__(self, *, exits: bool = False) -> None:
        """Listens to nothing yet; `exits`: this is a command, whose process may be ended."""
        self._signalled = False
        self._interrupts = 0
        self._patience = 0
        self._lock = threading.Lock()  # held while the thread saves
        self._save: Callable[[], None] | None = (lambda: None) if exits else None
        self._exits = exits
        self._of_jax: int | None = None  # JAX's own handler of SIGTERM

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Returns a context in which the signals request a stop instead of ending the process."""
        ours = self._exits or parallel.is_alone()  # otherwise JAX listens, and informs all
        if not ours or threading.current_thread() is not threading.main_thread():
            yield
            return
        heard, told = os.pipe()
        os.set_blocking(told, False)
        before = {n: signal.getsignal(n) for n in SIGNALS}
        before = {n: handler for n, handler in before.items() if handler != signal.SIG_IGN}  # nohup
        for number in before:
            signal.signal(number, self._handle)
        wakeup = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(told)  # ends the thread

    def joined(self) -> None:
        """Listens again after JAX's processes have joined: JAX listens to SIGTERM since then."""
        if signal.getsignal(signal.SIGTERM) == self._handle:
            get = ctypes.pythonapi.PyOS_getsig
            get.restype = ctypes.c_void_p
            self._of_jax = get(signal.SIGTERM)
            signal.signal(signal.SIGTERM, self._handle)

    def attend(self) -> None:
        """Says that from now on there is something to save, and that the main thread does it."""
        with self._lock:
            self._save, self._patience = None, PATIENCE_SECONDS
        if self._of_jax and not parallel.is_alone():  # JAX informs all processes
            ctypes.pythonapi.PyOS_setsig(signal.SIGTERM, ctypes.c_void_p(self._of_jax))
            self._of_jax = None

    @contextlib.contextmanager
    def unattended(self, save: Callable[[], None]) -> Iterator[None]:
        """Returns a context in which the main thread may not answer, and `save` saves all."""
        with self._lock:
            self._save = save if self._exits and parallel.is_alone() else None
        try:
            yield
        finally:
            with self._lock:  # not while it is saved
                self._save = None

    def requested(self, step: int) -> bool:
        """Returns whether to stop after this step, on which several processes agree."""
        return parallel.stop_agreed(step) or (self._signalled and parallel.is_alone())

    def check(self) -> None:
        """Raises StoppedError if a single process is asked to stop.

        Called while a model is evaluated; `train.run_steps` saves the state that was not saved yet.
        """
        if self._signalled and parallel.is_alone():
            raise StoppedError

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signalled = True
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1 and not self._exits:
            raise KeyboardInterrupt
        if number != signal.SIGTERM and not self._save and not parallel.is_alone():
            signal.raise_signal(signal.SIGTERM)  # to which JAX listens

    def _listen(self, heard: int) -> None:
        interrupts = 0
        while number := os.read(heard, 1):
            if number[0] not in SIGNALS:
                continue
            self._signalled = True
            interrupts += number[0] == signal.SIGINT
            if self._exits and interrupts > 1:
                _leave(command.INTERRUPTED, "stopped at once; what was saved before is whole")
            threading.Thread(target=self._end, args=(number[0],), daemon=True).start()
        os.close(heard)

    def _end(self, number: int) -> None:
        idle = self._patience == 0  # nothing was begun that is saved on Ctrl-C, too
        time.sleep(self._patience)
        with self._lock:
            if self._save:
                self._save()
                interrupted = idle and number == signal.SIGINT
                status = command.INTERRUPTED if interrupted else command.STOPPED
                _leave(status, "stopped; nothing is lost; run the same command to go on")


def _leave(status: int, message: str) -> None:
    """Ends the process, whatever its other threads do."""
    print(message, file=sys.stderr, flush=True)
    lease.release_all()
    os._exit(status)
