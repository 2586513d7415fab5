"""Keeps results: results.csv, a line for each trial, and configs.json, the configs that were run.

Both are all that the next start needs: folders of runs may be gone. A line is found by the fields
of its config, so that a field that this package gets later, off by default, leaves it valid.
"""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from segtad_jax.config.stored import read_fields
from segtad_jax.experiments import plan
from segtad_jax.experiments.paper import MEASURES
from segtad_jax.runtime.files import write_whole

RESULTS, CONFIGS = "results.csv", "configs.json"
TIOUS = tuple(f"{tiou / 100:.2f}" for tiou in range(50, 100, 5))
_TRIAL = ("ablation", "seed", "config")
_TAKEN = ("steps", "seconds", "cpu_seconds", "cores")
_COLUMNS = (*_TRIAL, *_TAKEN, *TIOUS, "average", *(f"ceiling_{m}" for m in MEASURES))


class Result(NamedTuple):
    """Scores of one trial, in fractions, and what it took."""

    map: dict[str, float]  # TIOUS and 'average'
    ceiling: dict[str, float]  # MEASURES, the best that the grid of proposals allows
    steps: int
    seconds: float | None = None  # from start to end; None: not in one go, or not here
    cpu_seconds: float | None = None  # of all its threads
    cores: int | None = None  # of the machine


class ResultFiles:
    """Results by config and seed, in two files of a folder."""

    def __init__(self, folder: epath.PathLike) -> None:
        """Reads the results so far.

        Raises:
            ValueError: a file is not what this module wrote.
        """
        self._folder = epath.Path(folder)
        self._configs: dict[str, dict[str, Any]] = _read_configs(self._folder / CONFIGS)
        # A field that was unknown then has its default; one that is gone keeps its value.
        keys = {
            name: plan.key(plan.without_circumstances(read_fields(fields)))
            for name, fields in self._configs.items()
        }
        self._lines = _read_lines(self._folder / RESULTS)
        self._by_trial: dict[tuple[str, int], Result] = {}
        for number, line in enumerate(self._lines, start=2):
            where = f"{self._folder / RESULTS}, line {number}"
            if line["config"] not in keys:
                raise ValueError(
                    f"{where}: config {line['config']} is not in {CONFIGS} beside it, so that "
                    "nobody knows what was run. Restore that file, or delete the line."
                )
            try:
                self._by_trial[keys[line["config"]], int(line["seed"])] = _result(line)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where}: {error}") from error

    def get(self, trial: plan.Trial) -> Result | None:
        """Returns the result of a trial with this config and seed; None if there is none."""
        return self._by_trial.get((plan.key(plan.method(trial.config)), trial.seed))

    def add(self, trial: plan.Trial, result: Result) -> None:
        """Writes a result; the files are whole at any time."""
        fields = plan.method(trial.config)
        name = plan.key(fields)
        line = dict(zip(_TRIAL, (trial.ablation, str(trial.seed), name), strict=True))
        taken = {column: getattr(result, column) for column in _TAKEN}
        line |= {column: "" if n is None else f"{n:.0f}" for column, n in taken.items()}
        line |= {measure: f"{value:.5f}" for measure, value in result.map.items()}
        line |= {f"ceiling_{m}": f"{value:.5f}" for m, value in result.ceiling.items()}
        self._lines.append(line)
        self._configs[name] = fields
        self._by_trial[name, trial.seed] = result
        self._folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(self._configs, indent=1, sort_keys=True)
        write_whole(self._folder / CONFIGS, content + "\n")  # first: lines refer to it
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._lines)
        write_whole(self._folder / RESULTS, text.getvalue())

    def mean_seconds(self) -> float | None:
        """Returns the mean time of the trials that were timed; None if there are none."""
        timed = [result.seconds for result in self._by_trial.values() if result.seconds]
        return sum(timed) / len(timed) if timed else None


def _read_configs(path: epath.Path) -> dict[str, dict[str, Any]]:
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: {error}. Restore it, or give another --results.") from error


def _read_lines(path: epath.Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    reader = csv.DictReader(io.StringIO(path.read_text()))
    if tuple(reader.fieldnames or ()) != _COLUMNS:
        raise ValueError(
            f"{path} does not have the columns {', '.join(_COLUMNS)}. Restore it, or give another "
            "--results."
        )
    return list(reader)


def _result(line: Mapping[str, str]) -> Result:
    return Result(
        {measure: float(line[measure]) for measure in (*TIOUS, "average")},
        {measure: float(line[f"ceiling_{measure}"]) for measure in MEASURES},
        int(line["steps"]),
        float(line["seconds"]) if line["seconds"] else None,
        float(line["cpu_seconds"]) if line["cpu_seconds"] else None,
        int(line["cores"]) if line["cores"] else None,
    )
