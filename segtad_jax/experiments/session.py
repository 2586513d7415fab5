"""One call of the command: what is missing, what comes in, what is written."""

import contextlib
import dataclasses
import json
import os
import resource
import time
from collections.abc import Iterator, Sequence

from etils import epath

from segtad_jax.checkpoint import run_folder as workdir_lib
from segtad_jax.config.ablations import MEASURES
from segtad_jax.evaluation.report import style
from segtad_jax.experiments import plan
from segtad_jax.experiments.figure import ablation_figure
from segtad_jax.experiments.record import RESULTS, Record, Result
from segtad_jax.experiments.tables import markdown
from segtad_jax.runtime.files import write_whole
from segtad_jax.runtime.metric_log import duration


@dataclasses.dataclass(frozen=True)
class _Time:
    seconds: float
    cpu_seconds: float


class Session:
    """The runs of some tables, and their results in a folder."""

    def __init__(
        self,
        base: plan.Base,
        numbers: Sequence[int],
        seeds: int,
        workdir: epath.PathLike,
        results: epath.PathLike,
    ) -> None:
        """Reads what is done; takes in what runs of the workdir have finished since.

        Raises:
            ValueError: a config cannot be run, or a file of results does not read.
        """
        self._base, self._numbers, self._seeds = base, numbers, seeds
        self._workdir, self._folder = epath.Path(workdir), epath.Path(results)
        self._record = Record(results)
        self._runs = plan.runs(base, plan.ablations_of(numbers), seeds)
        self._times: dict[str, _Time] = {}
        for run in self.missing():
            self._take(run)

    def missing(self) -> list[plan.Run]:
        """What is still to be run, in order."""
        return [run for run in self._runs if self._record.get(run) is None]

    def command(self, run: plan.Run) -> list[str]:
        """Arguments of Python."""
        return plan.command(self._base, run, self._workdir)

    def announcement(self, run: plan.Run) -> str:
        """`run 3 of 27: no_graph, seed 0; about 40 min left`."""
        missing = len(self.missing())
        line = f"run {self._runs.index(run) + 1} of {len(self._runs)}: {run.ablation}, "
        line += f"seed {run.seed}"
        each = self._record.mean_seconds()
        return line if each is None else f"{line}; about {duration(each * missing)} left"

    @contextlib.contextmanager
    def timing(self, run: plan.Run) -> Iterator[None]:
        """Times a run that is not begun; of one that goes on the rest would say nothing."""
        new = not (self._workdir / run.name).exists()
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        yield
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        if new:
            self._times[run.name] = _Time(time.monotonic() - start, cpu)

    def collect(self, run: plan.Run) -> bool:
        """Takes the result of a finished run and writes everything; False if there is none."""
        found = self._take(run)
        self.write()
        return found

    def _take(self, run: plan.Run) -> bool:
        folder = self._workdir / run.name
        metrics = folder / "metrics.json"
        if not metrics.exists() or not (folder / workdir_lib.FILE).exists():
            return False
        content = json.loads(metrics.read_text())
        trained = workdir_lib.read(folder).config
        same = plan.fits(run.config, trained)
        if not same or content["step"] != trained.train.steps:
            return False
        if "ceiling" not in content:
            raise ValueError(
                f"{metrics} is of an older version, without the grid's ceiling. Delete it: the run "
                "is then evaluated again."
            )
        timed = self._times.get(run.name)
        ceiling = {measure: content["ceiling"][measure] for measure in MEASURES}
        result = Result(content["map"], ceiling, content["step"])
        if timed:
            result = result._replace(
                seconds=timed.seconds, cpu_seconds=timed.cpu_seconds, cores=os.cpu_count()
            )
        self._record.add(run, result)
        return True

    def tables(self) -> str:
        """Markdown."""
        given = ",".join(self._base.arguments)
        changed = plan.without_circumstances(self._base.overrides)
        fields = "".join(f", {name} = {value}" for name, value in changed.items())
        return markdown(
            self._numbers, self._results, f"`{self._base.file}:{given}`{fields}: {self._progress()}"
        )

    def summary(self) -> str:
        """Where everything is."""
        missing = len(self.missing())
        done = f"{self._folder}: {self._progress()}"
        return done if not missing else f"{done} The same command goes on with them."

    def write(self) -> None:
        """Everything but the record, which is written as results come in."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / "tables.md", self.tables())
        commands = plan.shell_lines(self._base, self.missing(), self._workdir)
        write_whole(self._folder / "commands.txt", commands)
        style.save(ablation_figure(self._numbers, self._results), self._folder / "ablations.svg")

    def _progress(self) -> str:
        done, total = len(self._runs) - len(self.missing()), len(self._runs)
        return f"{done} of {total} runs are done ({RESULTS})."

    def _results(self, ablation: str) -> list[Result]:
        runs = (
            plan.Run(ablation, seed, plan.config_of(self._base, ablation, seed))
            for seed in range(self._seeds)
        )
        return [result for run in runs if (result := self._record.get(run)) is not None]
