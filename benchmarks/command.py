"""The command line that the benchmarks of a config share."""

from collections.abc import Callable, Iterable
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict

from benchmarks import measure
from benchmarks.measure import Effort, Measurement, Results
from segtad_jax.config import flag
from segtad_jax.config.defaults import flatten
from segtad_jax.runtime import command, startup

BATCH = flags.DEFINE_integer("batch", None, "Windows at once, over all devices.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "File for the figures, which benchmarks.compare reads.")
SECONDS = flags.DEFINE_float("seconds", 2.0, "How long each row is measured at least.")

Rows = Callable[[ConfigDict, int, Effort], Iterable[Measurement]]  # the batch is over all devices


def run(name: Callable[[], str], group: str, rows: Rows) -> None:
    """Measures rows as the flags say; `group` of the config has the default batch, "" for 1."""

    def act() -> None:
        logging.set_verbosity(logging.WARNING)
        startup.keep_freed_memory()
        startup.keep_compiled_programs()
        config = flag.CONFIG.value
        batch = BATCH.value or (config[group].batch_size if group else 1)
        results = Results(f"{name()}, batch {batch}", flatten(config))
        results.add_peaks(SECONDS.value)
        results.rows += rows(config, batch, Effort(SECONDS.value))
        results.add_peaks(SECONDS.value)
        print(measure.table(results), flush=True)
        if JSON.value:
            measure.write(results, Path(JSON.value))

    flag.run(lambda: command.run(act))
