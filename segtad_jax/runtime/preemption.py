"""SIGTERM: finish what cannot be divided, save, and exit with command.STOPPED."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from segtad_jax.runtime import parallel


class StoppedError(Exception):
    """The run was told to stop, and has saved its state."""


class Stop:
    """Whether the run was told to stop."""

    def __init__(self) -> None:
        self._told = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within, SIGTERM asks to stop instead of ending the process."""
        if not parallel.is_alone():  # JAX listens, and tells all processes
            yield
            return

        def tell(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._told = True

        try:
            before = signal.signal(signal.SIGTERM, tell)
        except ValueError:  # not in the main thread, as in a notebook's worker
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def requested(self, step: int) -> bool:
        """After a training step: several processes agree on the step at which all stop."""
        return parallel.stop_agreed(step) or (self._told and parallel.is_alone())

    def check(self) -> None:
        """Raises StoppedError, where the state is saved and nothing is lost by leaving at once."""
        if self._told and parallel.is_alone():
            raise StoppedError
