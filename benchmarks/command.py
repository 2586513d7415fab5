"""The command line that the benchmarks of a config share, and what they do with their figures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags, logging
from ml_collections import ConfigDict

from benchmarks import measure, programs
from benchmarks.measure import Effort, Report, Row
from segtad_jax.config import defaults as config_lib
from segtad_jax.config import flag
from segtad_jax.config.flag import CONFIG
from segtad_jax.runtime import command


class Measured(NamedTuple):
    """What a benchmark found."""

    rows: Sequence[Row]
    peak: tuple[float, float] | None  # GFLOP/s before and after, if times were measured
    variant: str = ""  # of the benchmark, where flags choose one


BATCH = flags.DEFINE_integer("batch", None, "Windows at once, over all devices.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "File for the figures, which benchmarks.compare reads.")
MEASURE = flags.DEFINE_list("measure", "times,first", "times, first (compiling, memory) or both.")
SECONDS = flags.DEFINE_float("seconds", 2.0, "How long each row is measured at least.")
REPEATS = flags.DEFINE_integer("repeats", 5, "How often each row is measured at least.")
TRIES = flags.DEFINE_integer("tries", 3, "How often all is measured until the peak is steady.")
flags.register_validator(
    "measure", lambda given: given and set(given) <= {"times", "first"}, "is times, first or both."
)


def effort() -> Effort:
    """Of the flags."""
    return Effort(SECONDS.value, REPEATS.value, TRIES.value)


def run(name: str, default_batch: Callable[[ConfigDict], int], benchmark: Callable) -> None:
    """Runs `benchmark(config, batch) -> Measured`, prints its table and writes its file."""

    def act() -> None:
        logging.set_verbosity(logging.WARNING)
        programs.start()
        config = CONFIG.value
        batch = BATCH.value or default_batch(config)
        found = benchmark(config, batch)
        flat = config_lib.flatten(config)
        title = f"{name} {found.variant}".strip()
        machine = measure.machine()
        report = Report(title, flat, batch, found.peak, tuple(found.rows), machine)
        print(measure.table(report), flush=True)
        if JSON.value:
            measure.write(Path(JSON.value), report)

    flag.run(lambda: command.run(act))
