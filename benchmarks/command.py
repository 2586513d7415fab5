"""The command line that the benchmarks of a config share, and the files of their figures."""

import functools
from collections.abc import Callable
from pathlib import Path

from absl import flags, logging

from benchmarks import measure, programs
from benchmarks.measure import Effort, Results
from segtad_jax.config import flag
from segtad_jax.config.defaults import flatten
from segtad_jax.runtime import command

BATCH = flags.DEFINE_integer("batch", None, "Windows at once, over all devices.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "File for the figures, which benchmarks.compare reads.")
MEASURE = flags.DEFINE_list("measure", "times,first", "times, first (first calls) or both.")
SECONDS = flags.DEFINE_float("seconds", 2.0, "How long each row is measured at least.")
REPEATS = flags.DEFINE_integer("repeats", 5, "How often each row is measured at least.")
TRIES = flags.DEFINE_integer("tries", 3, "How often all is measured until the peak is steady.")
flags.register_validator(
    "measure", lambda given: given and set(given) <= {"times", "first"}, "is times, first or both."
)


def run(name: Callable[[], str], group: str, make: Callable, times: Callable) -> None:
    """Measures a program as the flags say, prints a table and writes the file of --json.

    Args:
        name: gives the benchmark's name; flags are parsed then.
        group: of the config, whose `batch_size` is the default batch; "" for 1.
        make: `(config, batch) -> Program`.
        times: `(program, effort) -> rows`.
    """

    def act() -> None:
        logging.set_verbosity(logging.WARNING)
        programs.start()
        config, rows, peaks = flag.CONFIG.value, [], {}
        batch = BATCH.value or (config[group].batch_size if group else 1)
        effort = Effort(SECONDS.value, REPEATS.value, TRIES.value)
        program = make(config, batch)
        if "times" in MEASURE.value:
            rows, peaks = measure.between_peaks(functools.partial(times, program, effort), effort)
        if "first" in MEASURE.value:
            rows += program.first_calls()
        title = f"{name()}, batch {batch}"
        results = Results(title, flatten(config), rows, peaks, measure.machine())
        print(measure.table(results), flush=True)
        if JSON.value:
            measure.write(Path(JSON.value), measure.to_json(results))

    flag.run(lambda: command.run(act))
