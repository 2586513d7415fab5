"""The command line that the benchmarks of a config share."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from absl import flags, logging

from benchmarks import measure, programs
from benchmarks.measure import Effort, Measurement, Results
from segtad_jax.config import flag
from segtad_jax.config.defaults import flatten
from segtad_jax.runtime import command

BATCH = flags.DEFINE_integer("batch", None, "Windows at once, over all devices.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "File for the figures, which benchmarks.compare reads.")
SECONDS = flags.DEFINE_float("seconds", 2.0, "How long each row is measured at least.")


def run(
    name: Callable[[], str],
    group: str,
    make: Callable,
    rows: Callable[[Any, Effort], Iterable[Measurement]],
) -> None:
    """Measures a program as the flags say, prints a table and writes the file of --json.

    Args:
        name: gives the benchmark's name; flags are parsed then.
        group: of the config, whose `batch_size` is the default batch; "" for 1.
        make: `(config, batch) -> Program`.
        rows: `(program, effort) -> rows`.
    """

    def act() -> None:
        logging.set_verbosity(logging.WARNING)
        programs.start()
        config = flag.CONFIG.value
        batch = BATCH.value or (config[group].batch_size if group else 1)
        program = make(config, batch)
        results = Results(f"{name()}, batch {batch}", flatten(config))
        results.add_peaks()
        results.rows += rows(program, Effort(SECONDS.value))
        results.add_peaks()
        print(measure.table(results), flush=True)
        if JSON.value:
            measure.write(results, Path(JSON.value))

    flag.run(lambda: command.run(act))
