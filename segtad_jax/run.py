"""A run: training that starts, goes on or is finished, its evaluation, and what it leaves behind.

WORKDIR/config.json       the config and the classes; another config is refused
WORKDIR/checkpoints/STEP  the latest ones
WORKDIR/metrics.jsonl     a line for each logged step
WORKDIR/detections.json   of the evaluation split, in the official form
WORKDIR/metrics.json      mAP and what was scored
WORKDIR/curves.png        training curves
WORKDIR/profile/          a trace of some steps, where one was asked for
"""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from segtad_jax.checkpoint import run_folder
from segtad_jax.checkpoint.store import (
    Checkpoints,
    Saved,
    kept_steps,
    locate,
    restore_variables,
)
from segtad_jax.checkpoint.transfer import start_from
from segtad_jax.config import defaults as config_lib
from segtad_jax.config import fit
from segtad_jax.config.check import check, check_channels
from segtad_jax.data.dataset import Dataset
from segtad_jax.data.embedded import open_or_build
from segtad_jax.detector import Detector, annotations, ceiling, evaluate
from segtad_jax.evaluation.report.curves import draw_training_curves
from segtad_jax.evaluation.report.page import Run, write_report
from segtad_jax.evaluation.report.videos import Segmentation
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.optim import optimizer
from segtad_jax.postprocess import write_detections, write_json
from segtad_jax.runtime import parallel, profiling, startup
from segtad_jax.runtime.metric_log import FILE as METRICS_LOG
from segtad_jax.runtime.metric_log import MetricLogger
from segtad_jax.runtime.preemption import Stop, StoppedError
from segtad_jax.train import (
    TrainState,
    boundary_bias,
    create_state,
    parallel_step,
    run_steps,
    split_holdout,
)

log = logging.getLogger(__name__)

NEW: dict[str, Any] = {"interval": [], "owed": False}  # progress where nothing is left over
SEGMENTED = 100  # recordings whose segmentation (Figure 3) the report draws


def train(
    config: ConfigDict,
    folder: epath.PathLike,
    checkpoint: str | None = None,
    profile: str | None = None,
) -> dict[str, Any]:
    """Trains, or goes on with, the run in `folder`, and evaluates its last step.

    Args:
        config: of the run.
        folder: of the run; one that has checkpoints goes on from the last.
        checkpoint: RUN or RUN/STEP of another run, whose parameters and BatchNorm statistics a new
            one starts with, as far as they fit.
        profile: START:STEPS, which steps to trace (`profiling`).

    Returns:
        The content of metrics.json.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: the config cannot be run, nothing of the checkpoint fits, or the folder holds a
            run of another config or of another start.
    """
    folder = epath.Path(folder)
    parallel.require_shared(folder)
    start = run_folder.starting_point(folder, checkpoint)
    if finished := _finished(folder, config):
        return finished
    config, dataset = _prepared(config)
    if finished := _finished(folder, config):  # fields that were open are known now
        return finished
    last = config.train.steps
    span = profiling.parse(profile, last) if profile else None
    run_folder.expect(config, dataset)
    check_channels(config, dataset.num_channels, str(dataset.directory))
    recordings, held = split_holdout(
        dataset.recordings(config.data.train_split), config.data.holdout
    )
    evaluated = dataset.recordings(config.data.eval_split)
    judged = held or evaluated
    stop = Stop()
    detector = Detector(config, dataset.classes, stop.check)
    detector.video_scores([*judged, *evaluated])  # what is wrong with the file is told at once
    bias = boundary_bias(config, recordings)
    model = SegTAD(config, len(dataset.classes), bias, axis_name=parallel.AXIS)
    transform = optimizer(config)
    state = create_state(config, model, transform, dataset.num_channels)
    if start and not kept_steps(folder):
        variables = start_from(start, state.variables, dataset.classes)
        state = dataclasses.replace(state, **variables)
    run_folder.claim(folder, config, dataset, start)

    with (
        stop.listening(),
        contextlib.ExitStack() as closing,
        Checkpoints(folder, config.train.keep, keep_best=bool(held)) as checkpoints,
    ):
        saved = checkpoints.restore_latest(state) or Saved(0, state, NEW)
        log.info("%s", startup.facts(config.train.batch_size))
        log.info(
            "%s: %s step %d of %d; %d recordings, %d classes, %s parameters",
            folder,
            "resuming after" if saved.step else "starting at",
            saved.step,
            last,
            len(recordings),
            len(dataset.classes),
            f"{sum(x.size for x in jax.tree.leaves(state.params)):,}",
        )

        def judge(variables: dict[str, Any]) -> dict[str, float]:
            found = detector.detect(variables, dataset, judged)
            return evaluate(found, judged, dataset.classes, metrics=("map",))["map"]

        logger = closing.enter_context(
            MetricLogger(
                *(folder, saved.step, last),
                hyperparameters=config_lib.flatten(config),
                silent=not parallel.is_main(),
            )
        )
        milestones = Milestones(config, logger, checkpoints, judge, bool(held), stop)
        state = parallel.replicate(saved.state)
        step = parallel_step(config, model, transform)
        if span:
            step = closing.enter_context(profiling.traced(step, span, saved.step, folder))
        if saved.progress["owed"]:
            milestones.pay(saved.step, state)
        state = run_steps(
            state,
            saved.progress["interval"],
            config=config,
            step=step,
            dataset=dataset,
            recordings=recordings,
            write=logger.write,
            pauses=milestones.due,
            pause=milestones.reach,
        )
        checkpoints.wait()  # no results without the step that they are of
        return _conclude(
            config, folder, dataset, detector, state.variables, last, None if held else logger
        )


@dataclasses.dataclass(frozen=True)
class Milestones:
    """What happens between steps: evaluation, then a checkpoint, which says that both are done."""

    config: ConfigDict
    logger: MetricLogger
    checkpoints: Checkpoints
    judge: Callable[[dict[str, Any]], dict[str, float]]  # variables -> mAP per tIoU
    judge_last: bool  # on a hold-out; else the final evaluation does the same
    stop: Stop

    def due(self, step: int) -> bool:
        """Whether there is anything to do after a step."""
        return self._evaluates(step) or self._saves(step) or self.stop.requested(step)

    def reach(self, step: int, state: TrainState, interval: list[dict[str, float]]) -> None:
        """Evaluates and saves, as due.

        Raises:
            StoppedError: the run was told to stop. The state is saved; if an evaluation was due, it
                is owed.
        """
        score, owed = None, False
        stopped = self.stop.requested(step)
        if self._evaluates(step):
            try:
                self.stop.check()
                score = self._evaluate(step, state)
            except StoppedError:
                stopped = owed = True
        if self._saves(step) or stopped:
            self.checkpoints.save(step, state, {"interval": interval, "owed": owed}, score)
        if stopped:
            raise StoppedError

    def pay(self, step: int, state: TrainState) -> None:
        """Does the evaluation that was due when the run was told to stop."""
        score = self._evaluate(step, state)
        if self.judge_last:  # the best by a hold-out is kept by its score
            self.checkpoints.replace(step, state, NEW, score)

    def _evaluate(self, step: int, state: TrainState) -> float:
        found = self.judge(state.variables)
        self.logger.write(step, _brief(found))
        return found["average"]

    def _evaluates(self, step: int) -> bool:
        every, last = self.config.train.eval_every, step == self.config.train.steps
        return self.judge_last if last else every > 0 and step % every == 0

    def _saves(self, step: int) -> bool:
        train = self.config.train
        return step == train.steps or (train.save_every > 0 and step % train.save_every == 0)


def evaluate_checkpoint(
    config: ConfigDict, folder: epath.PathLike, checkpoint: str | None = None
) -> dict[str, Any]:
    """Scores the evaluation split with a checkpoint.

    Args:
        config: its model and data must be those of the run; `eval` may differ.
        folder: where detections.json and metrics.json are written.
        checkpoint: RUN or RUN/STEP; by default the latest of `folder`.

    Returns:
        The content of metrics.json.

    Raises:
        FileNotFoundError: no such checkpoint; says which there are.
        ValueError: the config cannot be run, or its model is not the checkpoint's.
    """
    source, step = locate(checkpoint or str(folder))
    config, dataset = _prepared(config)
    run_folder.refuse_other(source, config, dataset, run_folder.MODEL_FIELDS)
    model = SegTAD(config, len(dataset.classes))
    like = jax.eval_shape(lambda: create_variables(config, model, dataset.num_channels))
    variables = restore_variables(source, step, like)
    log.info("%s", startup.facts(config.eval.batch_size))
    log.info("evaluating step %d of %s", step, source)
    folder = epath.Path(folder)
    parallel.require_shared(folder)
    run_folder.refuse_results(folder, config, dataset, step)
    folder.mkdir(parents=True, exist_ok=True)
    detector = Detector(config, dataset.classes)
    return _conclude(config, folder, dataset, detector, variables, step)


def _conclude(
    config: ConfigDict,
    folder: epath.Path,
    dataset: Dataset,
    detector: Detector,
    variables: dict[str, Any],
    step: int,
    logger: MetricLogger | None = None,
) -> dict[str, Any]:
    """Detects in the evaluation split, scores it, writes and shows the results."""
    recordings = dataset.recordings(config.data.eval_split)
    drawn = recordings[:SEGMENTED]
    found = detector.detect(variables, dataset, recordings)
    curves = detector.frame_probabilities(variables, dataset, drawn)
    metrics = evaluate(found, recordings, dataset.classes) | {
        "ceiling": ceiling(config, recordings, dataset.classes),
        "step": step,
    }
    if not parallel.is_main():
        return metrics
    write_detections(folder / "detections.json", found)
    if logger:
        logger.write(step, _brief(metrics["map"]))
    metrics_log = folder / METRICS_LOG if (folder / METRICS_LOG).exists() else None
    if metrics_log:
        draw_training_curves(metrics_log, folder / "curves.png")
    segmentation = {
        r.video: Segmentation(
            r.rate, {dataset.classes[d - 1]: curves[r.video][:, d] for d in set(r.labels.tolist())}
        )
        for r in drawn
    }
    write_report(
        folder / "report.html",
        annotations(recordings, dataset.classes),
        found,
        metrics,
        durations={r.video: r.duration for r in recordings},
        run=Run(metrics_log, config_lib.flatten(config), segmentation),
        title=f"{dataset.name}, step {step}",
    )
    write_json(folder / "metrics.json", metrics)  # last: it says that the run is finished
    show(metrics)
    return metrics


def _brief(found: Mapping[str, float]) -> dict[str, float]:
    return {f"eval/map_{tiou}": found[tiou] for tiou in ("0.50", "0.75", "0.95", "average")}


def _prepared(config: ConfigDict) -> tuple[ConfigDict, Dataset]:
    """The data set, and the config without open fields, checked."""
    if not fit.open_fields(config):  # what is wrong with the config is told before data are written
        check(config, jax.device_count())
        return config, open_or_build(config.data)
    dataset = open_or_build(config.data)
    config = fit.fitted(config, dataset)
    check(config, jax.device_count())
    return config, dataset


def _finished(folder: epath.Path, config: ConfigDict) -> dict[str, Any] | None:
    """The results, shown, if the folder holds all of this run: metrics.json is written last."""
    path = folder / "metrics.json"
    if not path.exists() or not (folder / run_folder.FILE).exists():
        return None
    metrics = json.loads(path.read_text())
    if metrics.get("step") != config.train.steps or run_folder.other_fields(folder, config):
        return None
    log.info("%s is finished: %d steps are trained and evaluated.", folder, metrics["step"])
    show(metrics)
    return metrics


def show(metrics: dict[str, Any]) -> None:
    """Prints mAP per tIoU, what the grid of proposals allows, and what was scored."""
    counts = ", ".join(f"{count} {name}" for name, count in metrics["counts"].items())
    names = (f"{name.replace('average', 'mean'):>6}" for name in metrics["map"])
    print(f"step {metrics['step']}: scored {counts}")
    print("tIoU", *names)
    print("mAP ", *_values(metrics["map"]))
    if "ceiling" in metrics:  # not in those of older versions
        print("grid", *_values(metrics["ceiling"]), " perfect scores, boundaries not moved")
    if metrics["missing_videos"]:
        print(f"without any detection: {', '.join(metrics['missing_videos'])}")


def _values(values: Mapping[str, float]) -> Iterator[str]:
    return (f"{value:6.3f}" for value in values.values())
