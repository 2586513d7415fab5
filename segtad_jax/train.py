"""A training run, from top to bottom: open, start, loop, evaluate, save.

WORKDIR/config.json       the config and the classes; another config is refused
WORKDIR/checkpoints/STEP  the latest ones
WORKDIR/thresholds-STEP.json  from which score detections count, of each evaluated step
WORKDIR/metrics.jsonl     a line for each logged step
WORKDIR/detections.json   of the evaluation split, in the official form
WORKDIR/metrics.json      mAP and what was scored
WORKDIR/curves.png        training curves
WORKDIR/report.html       all of it to look at
WORKDIR/profile/          a trace of some steps, where one was asked for
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict
from optax import GradientTransformation

from segtad_jax import optim
from segtad_jax.checkpoint import run_folder
from segtad_jax.checkpoint.store import Checkpoints, Saved, kept_steps
from segtad_jax.checkpoint.transfer import start_from
from segtad_jax.config.check import check_data, require_dividing
from segtad_jax.config.defaults import flatten
from segtad_jax.config.literal import remarks
from segtad_jax.data import pipeline
from segtad_jax.data.dataset import HOLDOUT, Dataset, Recording, split_holdout
from segtad_jax.data.signals import Normalisation
from segtad_jax.detector import Detector, NotFiniteError
from segtad_jax.evaluate import (
    brief,
    evaluated_split,
    finished,
    judge,
    open_data,
    write_results,
)
from segtad_jax.models.segtad import SegTAD
from segtad_jax.runtime import parallel, profiling, startup
from segtad_jax.runtime.lease import Lease
from segtad_jax.runtime.metric_log import MetricLog, interval_average
from segtad_jax.runtime.preemption import Stop, StoppedError
from segtad_jax.step import (
    DeviceBatch,
    Metrics,
    TrainState,
    boundary_bias,
    create_state,
    parallel_step,
)

log = logging.getLogger(__name__)

# Saved with a checkpoint: the metrics since the last line of the log, and whether the evaluation of
# its step is still to be done.
MOST_NORMALISED = 500  # recordings that mean and deviation of the features are taken from
NO_PROGRESS: dict[str, Any] = {"interval": [], "owed": False}


def train(
    config: ConfigDict,
    workdir: epath.PathLike,
    checkpoint: str | None = None,
    profile: str | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Trains, or resumes, the run in `workdir` and evaluates its last step.

    Args:
        config: of the run.
        workdir: folder of the run; one that has checkpoints resumes from the last.
        checkpoint: RUN or RUN/STEP of another run, with whose parameters and BatchNorm statistics a
            new run starts, as far as they fit.
        profile: START:STEPS, which steps to trace (`runtime.profiling`).
        stop: listens already; by default the signals are listened to from here.

    Returns:
        The content of metrics.json.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: the config cannot be run, nothing of the checkpoint fits, or the folder holds a
            run of another config or of another start, or is in use.
        LostError: the folder was removed, or another process took it over.
        StoppedError: the process was told to stop, and has saved its state.
    """
    workdir = epath.Path(workdir)
    parallel.require_shared(workdir)
    run_folder.starting_point(workdir, checkpoint)  # for its errors
    if metrics := finished(workdir, config):
        return metrics
    with contextlib.ExitStack() as opened:
        if stop is None:
            stop = Stop()
            opened.enter_context(stop.listening())
        lease = opened.enter_context(run_folder.in_use(workdir))
        return _train(config, workdir, checkpoint, profile, stop, lease)


def _train(
    config: ConfigDict,
    workdir: epath.Path,
    checkpoint: str | None,
    profile: str | None,
    stop: Stop,
    lease: Lease | None,
) -> dict[str, Any]:
    start = run_folder.starting_point(workdir, checkpoint)
    if (workdir / run_folder.FILE).exists():  # its batch cannot be changed any more
        require_dividing(run_folder.read(workdir).config.train.batch_size, jax.device_count())
    config, dataset = open_data(config)
    run_folder.settle_classifier(config, workdir)
    if metrics := finished(workdir, config):  # fields that were open are known now
        return metrics
    last = config.train.steps
    span = profiling.parse(profile, last) if profile else None
    check_data(config, dataset.num_channels, len(dataset.classes), str(dataset.directory))
    recordings, held = split_holdout(
        dataset.recordings(config.data.train_split), config.data.holdout
    )
    on_holdout = config.data.eval_split == HOLDOUT
    final = evaluated_split(
        config, dataset, held if on_holdout else dataset.recordings(config.data.eval_split)
    )
    # What the loop evaluates: the hold-out, which may be chosen on, if there is one.
    judged = evaluated_split(config, dataset, held) if held else final
    detector = Detector(config, dataset.classes, stop.check, segments=True)
    detector.video_scores([*judged.recordings, *final.recordings])  # names a bad file at once
    bias = boundary_bias(config, recordings)
    model = SegTAD(config, len(dataset.classes), bias, axis_name=parallel.AXIS)
    optimizer = optim.optimizer(config)
    evaluations = evaluation_steps(config, bool(held))

    with contextlib.ExitStack() as closing:
        checkpoints, saved = closing.enter_context(
            started(config, workdir, dataset, recordings, model, optimizer, start)
        )
        log.info("%s", startup.facts(config.train.batch_size))
        for remark in remarks(config):
            log.info("%s", remark)
        log.info(
            "%s: %s step %d of %d; %d recordings, %d classes, %s parameters",
            workdir,
            "resuming after" if saved.step else "starting at",
            saved.step,
            last,
            len(recordings),
            len(dataset.classes),
            f"{sum(x.size for x in jax.tree.leaves(saved.state.params)):,}",
        )
        logger = closing.enter_context(
            MetricLog(
                workdir,
                saved.step,
                last,
                batch_size=config.train.batch_size,
                evaluations=[*evaluations, last],
                hyperparameters=flatten(config),
                silent=not parallel.is_main(),
            )
        )

        def evaluate(number: int, state: TrainState) -> float:
            """Scores a state, adds its mAP to the log and returns the average over tIoU."""
            try:
                with logger.evaluating():
                    mean_ap = judge(config, workdir, judged, detector, state.variables, number)
            except NotFiniteError as error:  # what is trained shall not be lost by it
                log.warning("step %d is not evaluated: %s", number, error)
                return 0.0
            logger.write(number, brief(mean_ap))
            return mean_ap["average"]

        state = parallel.replicate(saved.state)
        step = parallel_step(config, model, optimizer)
        if span:
            step = closing.enter_context(profiling.traced(step, span, saved.step, workdir))
        if saved.progress["owed"]:  # the run was stopped before it evaluated its last step
            score = evaluate(saved.step, state)
            if held:  # the best by the hold-out is kept by the score saved with it
                stop.attend()
                checkpoints.replace(saved.step, state, NO_PROGRESS, score)
        batches = pipeline.training_batches(
            dataset,
            recordings,
            length=config.data.num_frames,
            batch_size=config.train.batch_size,
            seed=config.seed,
            even=config.train.even_windows,
            first_step=saved.step,
            last_step=last,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        state = run_steps(
            state,
            saved.step,
            saved.progress["interval"],
            batches,
            config=config,
            step=step,
            evaluations=evaluations,
            evaluate=evaluate,
            logger=logger,
            checkpoints=checkpoints,
            stop=stop,
            lease=lease,
        )
        checkpoints.wait()  # no results without the step that they are of
        with stop.unattended(lambda: None):
            return write_results(
                *(config, workdir, final, detector, state.variables, last),
                logger=None if held else logger,
            )


@contextlib.contextmanager
def started(
    config: ConfigDict,
    workdir: epath.Path,
    dataset: Dataset,
    recordings: Sequence[Recording],
    model: SegTAD,
    optimizer: GradientTransformation,
    start: str | None,
) -> Iterator[tuple[Checkpoints, Saved]]:
    """Opens the run's checkpoints and yields them with the state that the run starts from.

    Args:
        config: without open fields, checked.
        workdir: of the run; becomes this run's unless an error is raised before.
        dataset: of the run.
        recordings: to train on.
        model: with the device axis.
        optimizer: of the config.
        start: RUN/STEP of another run, or None.
    """
    # From scratch: parameters of the config's seed.
    normalisation = None
    if config.model.normalise:
        every = -(-len(recordings) // MOST_NORMALISED)
        normalisation = Normalisation.fit(dataset.features(r) for r in recordings[::every])
    state = create_state(config, model, optimizer, dataset.num_channels, normalisation)
    # From another run (--checkpoint): what fits of its variables; Adam and the step start anew.
    # A run that has saved a step of its own needs it no more, and it may be gone.
    if start and not kept_steps(workdir):
        variables = start_from(start, state.variables, dataset.classes)
        state = dataclasses.replace(state, **variables)
    # What is wrong with any of this leaves the folder free for another run.
    run_folder.claim(workdir, config, dataset, start)
    keep_best = bool(config.data.holdout)
    with Checkpoints(workdir, config.train.keep, keep_best=keep_best) as checkpoints:
        # From its own last checkpoint that reads: everything, with the metrics not yet logged.
        yield checkpoints, checkpoints.restore_latest(state) or Saved(0, state, NO_PROGRESS)


def run_steps(
    state: TrainState,
    first_step: int,
    interval: Sequence[Mapping[str, float]],
    batches: Iterable[pipeline.Batch],
    *,
    config: ConfigDict,
    step: Callable[[TrainState, DeviceBatch], tuple[TrainState, Metrics]],
    evaluations: Sequence[int],
    evaluate: Callable[[int, TrainState], float],
    logger: MetricLog,
    checkpoints: Checkpoints,
    stop: Stop,
    lease: Lease | None,
) -> TrainState:
    """Runs the steps after `first_step` to `train.steps`; returns the last state.

    The batch of a step is a function of (seed, step) alone, so that resuming is arithmetic. The
    host waits for the devices only to evaluate and to save: otherwise metrics are fetched while the
    next step runs.

    Args:
        state: after `first_step` steps, on all devices.
        first_step: how many steps are done.
        interval: metrics of the last of these, which are not logged yet.
        batches: of the steps to come.
        config: as checked.
        step: of `parallel_step`.
        evaluations: of `evaluation_steps`.
        evaluate: scores a state and returns what the best checkpoint is chosen by.
        logger: gets the metrics.
        checkpoints: get the state.
        stop: asked after every step.
        lease: on the run's folder; of process 0.

    Raises:
        LostError: the folder was removed, or another process took it over.
        NonFiniteLossError: names the terms, the first step and the interval.
        StoppedError: the process was told to stop; the state is saved.
    """
    settings, last = config.train, config.train.steps

    def save_unevaluated(number: int, state: TrainState, current: list[Any]) -> None:
        checkpoints.save(number, state, {"interval": current, "owed": True})
        checkpoints.wait()

    current: list[Any] = list(interval)  # metrics since the last logged step
    complete: list[Any] = []  # of an interval that is to be logged
    for number, batch in enumerate(batches, start=first_step + 1):
        sharded = parallel.shard_batch(batch)
        with parallel.no_transfers():
            state, metrics = step(state, sharded)  # compiles the first time
        stop.attend()

        logger.write_interval(number - 1, complete)  # while the devices work on this step
        current.append(metrics)
        logs = number % settings.log_every == 0 or number == last
        complete, current = (current, []) if logs else ([], current)

        evaluates = number in evaluations
        saves = number == last or (settings.save_every > 0 and number % settings.save_every == 0)
        stops = stop.requested(number)
        if not (evaluates or saves or stops):
            continue

        if lease:
            lease.check()
        # All metrics up to here are logged, or saved, and finite.
        logger.write_interval(number, complete)
        complete = []
        current = [{k: float(v) for k, v in m.items()} for m in jax.device_get(current)]
        interval_average(current, number)  # for its error

        score = None
        if evaluates:
            try:
                stop.check()
                with stop.unattended(functools.partial(save_unevaluated, number, state, current)):
                    score, evaluates = evaluate(number, state), False
            except StoppedError:  # told to stop meanwhile: the resumed run will evaluate
                stops = True
        if saves or stops:
            checkpoints.save(number, state, {"interval": current, "owed": evaluates}, score)
        if stops:
            raise StoppedError
    return state


def evaluation_steps(config: ConfigDict, holdout: bool) -> list[int]:
    """Returns the steps after which the loop evaluates.

    The last is among them only with a hold-out; otherwise the results at the end are the same.
    """
    every, last = config.train.eval_every, config.train.steps
    steps = list(range(every, last, every)) if every > 0 else []
    return [*steps, last] if holdout else steps
