"""SIGTERM: finish what cannot be divided, save, and exit with command.STOPPED."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from segtad_jax.runtime import parallel


class StoppedError(Exception):
    """The run was asked to stop; when this leaves `train`, its state is saved."""


class Stop:
    """A request to stop, by SIGTERM to this or, of several, any process."""

    def __init__(self) -> None:
        self._signalled = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Returns a context in which SIGTERM requests a stop instead of ending the process."""
        if not parallel.is_alone():  # JAX listens, and informs all processes
            yield
            return

        def signalled(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._signalled = True

        try:
            before = signal.signal(signal.SIGTERM, signalled)
        except ValueError:  # not in the main thread, as in a notebook's worker
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def requested(self, step: int) -> bool:
        """Returns whether to stop after this step, on which several processes agree."""
        return parallel.stop_agreed(step) or (self._signalled and parallel.is_alone())

    def check(self) -> None:
        """Raises StoppedError if a single process is asked to stop.

        Called while a model is evaluated; `train.run_steps` saves the state that was not saved yet.
        """
        if self._signalled and parallel.is_alone():
            raise StoppedError
