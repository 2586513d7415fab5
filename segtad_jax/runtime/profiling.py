"""`--profile=START:STEPS`: what the devices and the host do in some steps, traced by JAX."""

import contextlib
import logging
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from etils import epath

log = logging.getLogger(__name__)

FOLDER = "profile"


class Span(NamedTuple):
    """The steps that are traced."""

    first: int  # counted from 1
    steps: int

    @property
    def last(self) -> int:
        """Included."""
        return self.first + self.steps - 1


def parse(text: str, last_step: int) -> Span:
    """Reads START:STEPS.

    Raises:
        ValueError: not of this form, or not all of these steps are in a run of `last_step` steps.
    """
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
    if not match:
        raise ValueError(
            f"--profile={text} is not START:STEPS: the first step that is traced, from 1, and how "
            "many, such as 20:5."
        )
    span = Span(int(match[1]), int(match[2]))
    if span.last > last_step:
        raise ValueError(
            f"--profile={text} ends with step {span.last}, but the run has train.steps = "
            f"{last_step}."
        )
    return span


@contextlib.contextmanager
def traced(
    step: Callable[..., Any], span: Span, steps_done: int, folder: epath.Path
) -> Iterator[Callable[..., Any]]:
    """Yields a training step that traces its calls of a span into the run's folder.

    A trace that is left before its end, as when the run is told to stop, is kept as far as it came.
    """
    if span.first <= steps_done:
        log.warning("step %d is done already: nothing is traced", span.first)
        yield step
        return
    number = steps_done
    local = ""  # where a trace goes that is under way: the profiler writes to local files only

    def finish() -> None:
        nonlocal local
        jax.profiler.stop_trace()
        _move(pathlib.Path(local), folder / FOLDER)
        local = ""
        log.info(
            "steps %d to %d are traced in %s. To see them: open its .trace.json.gz on "
            "https://ui.perfetto.dev, or `pip install xprof` and `xprof --logdir %s`.",
            *(span.first, number, folder / FOLDER, folder / FOLDER),
        )

    def call(state: Any, batch: Any) -> Any:
        nonlocal number, local
        number += 1
        if number == span.first:
            local = tempfile.mkdtemp(prefix="segtad_jax-profile-")
            jax.profiler.start_trace(local)
        result = step(state, batch)
        if number == span.last:
            jax.block_until_ready(result)
            finish()
        return result

    try:
        yield call
    finally:
        if local:
            finish()


def _move(local: pathlib.Path, target: epath.Path) -> None:
    for file in local.rglob("*"):
        if file.is_file():
            copy = target / file.relative_to(local)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    shutil.rmtree(local)
