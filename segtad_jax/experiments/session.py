"""One call of the command: runs what is missing, takes in results, writes tables."""

import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from etils import epath

from segtad_jax.checkpoint import run_folder
from segtad_jax.evaluation.report import style
from segtad_jax.experiments import paper, plan
from segtad_jax.experiments.figure import ablation_figure
from segtad_jax.experiments.results import RESULTS, Result, ResultFiles
from segtad_jax.experiments.tables import markdown
from segtad_jax.runtime.command import STOPPED
from segtad_jax.runtime.files import read_json, write_whole
from segtad_jax.runtime.metric_log import duration


class Session:
    """The trials of some tables, and their results in a folder."""

    def __init__(
        self,
        base: plan.Base,
        numbers: Sequence[int],
        seeds: int,
        workdir: epath.PathLike,
        results: epath.PathLike,
    ) -> None:
        """Reads the results so far; adds those of runs of the workdir that have finished since.

        Raises:
            ValueError: a config cannot be run, or a file of results does not read.
        """
        self._base, self._numbers, self._seeds = base, numbers, seeds
        self._workdir, self._folder = epath.Path(workdir), epath.Path(results)
        self._results = ResultFiles(results)
        self._trials = plan.trials(base, paper.ablations(numbers), seeds)
        for trial in self.missing():
            self._collect(trial)

    def missing(self) -> list[plan.Trial]:
        """Returns the trials without a result, in the order in which they run."""
        return [trial for trial in self._trials if self._results.get(trial) is None]

    def run_missing(self) -> tuple[list[str], bool]:
        """Runs one trial after the other; returns those that failed, and whether it was stopped.

        SIGTERM is handed on to the trial that runs, and ends the loop.
        """
        child: subprocess.Popen | None = None
        stopped = False

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal stopped
            del frame
            stopped = True
            if child is not None:
                child.send_signal(number)

        before = signal.signal(signal.SIGTERM, stop)
        failed: list[str] = []
        try:
            for trial in self.missing():
                if stopped:
                    break
                print(self.announcement(trial), flush=True)
                # Of a run that resumes the rest would tell nothing about its time.
                new = not (self._workdir / trial.name).exists()
                start, cpu = time.monotonic(), _cpu_of_children()
                command = plan.command(self._base, trial, self._workdir)
                child = subprocess.Popen([sys.executable, *command])
                if stopped:  # between the question and the start
                    child.terminate()
                status = child.wait()
                child = None
                seconds = (time.monotonic() - start, _cpu_of_children() - cpu) if new else None
                done = self._collect(trial, seconds)
                self.write()
                stopped = stopped or (status == STOPPED and not done)
                if not done and not stopped:
                    failed.append(trial.name)
        except KeyboardInterrupt:  # the trial's process has it, too
            stopped = True
            if child is not None:
                child.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
        return failed, stopped

    def announcement(self, trial: plan.Trial) -> str:
        """Returns a line such as `run 3 of 27: no_graph, seed 0; about 40 min left`."""
        number, total = self._trials.index(trial) + 1, len(self._trials)
        line = f"run {number} of {total}: {trial.ablation}, seed {trial.seed}"
        each = self._results.mean_seconds()
        if each is None:
            return line
        return f"{line}; about {duration(each * len(self.missing()))} left"

    def _collect(self, trial: plan.Trial, seconds: tuple[float, float] | None = None) -> bool:
        """Adds the result of a trial with the seconds and CPU seconds it took; False if none."""
        folder = self._workdir / trial.name
        metrics = folder / "metrics.json"
        if not metrics.exists() or not (folder / run_folder.FILE).exists():
            return False
        content = read_json(metrics, "Delete it: the run is then evaluated again.")
        trained = run_folder.read(folder).config
        same = plan.fits(trial.config, trained)
        if not same or content["step"] != trained.train.steps:
            return False
        if "ceiling" not in content:
            raise ValueError(
                f"{metrics} is of an older version, without the grid's ceiling. Delete it: the run "
                "is then evaluated again."
            )
        ceiling = {measure: content["ceiling"][measure] for measure in paper.MEASURES}
        measured = (*seconds, os.cpu_count()) if seconds else ()
        self._results.add(trial, Result(content["map"], ceiling, content["step"], *measured))
        return True

    def tables(self) -> str:
        """Returns the tables as Markdown."""
        arguments = ",".join(self._base.arguments)
        changed = plan.without_circumstances(self._base.overrides)
        fields = "".join(f", {name} = {value}" for name, value in changed.items())
        subject = f"`{self._base.file}:{arguments}`{fields}: {self._progress()}"
        return markdown(self._numbers, self._results_of, subject)

    def summary(self) -> str:
        """Returns a line that says where the results are and how many trials are missing."""
        line = f"{self._folder}: {self._progress()}"
        return f"{line} The same command goes on with them." if self.missing() else line

    def write(self) -> None:
        """Writes tables, figure and commands."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / "tables.md", self.tables())
        commands = (plan.command(self._base, t, self._workdir) for t in self.missing())
        lines = "".join(shlex.join(["python", *command]) + "\n" for command in commands)
        write_whole(self._folder / "commands.txt", lines)
        style.save(ablation_figure(self._numbers, self._results_of), self._folder / "ablations.svg")

    def _progress(self) -> str:
        total = len(self._trials)
        return f"{total - len(self.missing())} of {total} runs are done ({RESULTS})."

    def _results_of(self, ablation: str) -> list[Result]:
        trials = (plan.trial(self._base, ablation, seed) for seed in range(self._seeds))
        return [result for trial in trials if (result := self._results.get(trial)) is not None]


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
