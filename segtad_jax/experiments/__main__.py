"""The paper's Tables 3 to 8 on any config, with seeds: python -m segtad_jax.experiments ...

    python -m segtad_jax.experiments --table=all --config=configs/watch.py --seeds=3 --workdir=RUNS

Runs what is not done, one `python -m segtad_jax.main` after the other, and writes, after each,

    RESULTS/results.csv    a line for each run; what is in it is not run again
    RESULTS/configs.json   the fields of every config in it
    RESULTS/tables.md      the paper's tables
    RESULTS/ablations.svg  the same as a figure
    RESULTS/commands.txt   a line for each run that is missing, for a cluster

RESULTS is the workdir unless `--results` names another folder. Exit status: 0 all is done, 1 wrong
use or a run that failed, 75 stopped (SIGTERM): the same command resumes.
"""

import sys

from absl import flags
from ml_collections import config_flags

from segtad_jax.config import flag
from segtad_jax.config.flag import CONFIG
from segtad_jax.runtime import command

_TABLE = flags.DEFINE_string("table", "all", "3, 4, 5, 6, 7, 8, several with commas, or all.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "How many, from 0.", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs' folders.", required=True)
_RESULTS = flags.DEFINE_string("results", None, "Folder of the results; by default the workdir.")
_RUN = flags.DEFINE_bool("run", True, "Off: only write tables and commands.")


def main() -> int:
    """Runs what is missing and returns the exit status."""
    return command.run(_act)


def _act() -> int:
    from segtad_jax.experiments import paper, plan
    from segtad_jax.experiments.session import Session

    given = flags.FLAGS[CONFIG.name]
    path = config_flags.get_config_filename(given)
    base = plan.base(path, config_flags.get_override_values(given), CONFIG.value)
    numbers = paper.table_numbers(_TABLE.value)
    results = _RESULTS.value or _WORKDIR.value
    session = Session(base, numbers, _SEEDS.value, _WORKDIR.value, results)
    failed, stopped = session.run_missing() if _RUN.value else ([], False)
    session.write()
    print(session.tables())
    print(session.summary())
    if failed:
        print(f"error: failed, see above: {', '.join(failed)}", file=sys.stderr)
        return command.FAILED
    return command.STOPPED if stopped else command.DONE


if __name__ == "__main__":
    flag.run(main)
