"""A run: its folder, a training that starts, goes on or is finished, and what it leaves behind.

WORKDIR/config.json       the config and the classes; another config is refused
WORKDIR/checkpoints/STEP  the latest ones
WORKDIR/metrics.jsonl     a line for each logged step
WORKDIR/detections.json   of the evaluation split, official form
WORKDIR/metrics.json      mAP and what was scored
WORKDIR/curves.png        training curves
"""

import functools
import json
import logging
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from segtad_jax import config as config_lib
from segtad_jax import parallel
from segtad_jax.checkpoint import Checkpoints, abstract, locate
from segtad_jax.data.builder import open_or_build
from segtad_jax.data.dataset import Dataset
from segtad_jax.detections import write_detections, write_json
from segtad_jax.detector import Detector, evaluate
from segtad_jax.metric_logger import FILE as METRICS_LOG
from segtad_jax.metric_logger import MetricLogger
from segtad_jax.models.segtad import SegTAD
from segtad_jax.optim import optimizer
from segtad_jax.report.curves import draw_training_curves
from segtad_jax.train import (
    TrainState,
    boundary_bias,
    create_state,
    run_steps,
    split_holdout,
    train_step,
)

log = logging.getLogger(__name__)

# What a checkpoint must have in common with a config that evaluates it.
MODEL_FIELDS = ("model", "data.num_frames", "classes", "channels")
# Where the data lie and how much is kept may change between two starts of one run.
FREE_FIELDS = ("data.dir", "train.keep", "eval.batch_size")


def train(config: ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
    """Trains, or goes on with, the run in `workdir`, and evaluates its last step.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: the config cannot be run, or the folder holds a run of another one.
    """
    config_lib.check(config, jax.local_device_count())
    workdir = epath.Path(workdir)
    dataset = open_or_build(config.data)
    claim(workdir, config, dataset)
    recordings, held = split_holdout(
        dataset.recordings(config.data.train_split), config.data.holdout
    )
    judged = held or dataset.recordings(config.data.eval_split)
    detector = Detector(config, dataset.classes)
    model = functools.partial(
        SegTAD, config, len(dataset.classes), boundary_bias(config, recordings)
    )
    transform = optimizer(config)
    state = create_state(config, model(), transform, dataset.num_channels)
    last = config.train.steps

    with Checkpoints(workdir, config.train.keep, keep_best=bool(held)) as checkpoints:
        first = checkpoints.latest_step() or 0
        if first:
            state = checkpoints.restore(first, abstract(state))
        if first == last and (finished := _finished(workdir, last)):
            log.info("%s is finished: %d steps are trained and evaluated.", workdir, last)
            show(finished)
            return finished
        log.info(
            "%s %s: %d recordings, %d classes, %d parameters, %d device(s), steps %d to %d",
            "resuming" if first else "training",
            workdir,
            len(recordings),
            len(dataset.classes),
            sum(x.size for x in jax.tree.leaves(state.params)),
            jax.local_device_count(),
            first + 1,
            last,
        )
        logger = MetricLogger(workdir, first, last)

        def write(step: int, metrics: dict[str, float]) -> None:
            logger.write(step, metrics)
            log.info(
                "%s, loss %.3f, %.1f videos/s",
                logger.progress(step),
                metrics["loss/total"],
                metrics["timing/videos_per_second"],
            )

        def due(step: int, every: int) -> bool:
            return every > 0 and step % every == 0

        def pauses(step: int) -> bool:
            train = config.train
            return due(step, train.eval_every) or due(step, train.save_every) or step == last

        def pause(step: int, state: TrainState) -> None:
            score = None
            if due(step, config.train.eval_every) and (held or step < last):
                metrics = evaluate(
                    detector.detect(state.variables, dataset, judged), judged, dataset.classes
                )
                score = metrics["map"]["average"]
                found = {f"eval/map_{k}": metrics["map"][k] for k in ("0.50", "0.75", "average")}
                logger.write(step, found)
                log.info(
                    "%s, mAP@0.5 %.3f, average %.3f",
                    logger.progress(step),
                    metrics["map"]["0.50"],
                    score,
                )
            if due(step, config.train.save_every) or step == last:
                checkpoints.save(step, state, score)

        step = functools.partial(
            train_step,
            config=config,
            model=model(axis_name=parallel.AXIS),
            optimizer=transform,
            axis_name=parallel.AXIS,
        )
        state = run_steps(
            parallel.replicate(state),
            config=config,
            step=parallel.data_parallel(step, replicated_output=True),
            dataset=dataset,
            recordings=recordings,
            write=write,
            pauses=pauses,
            pause=pause,
        )
        logger.close()
    return _conclude(config, workdir, dataset, detector, state.variables, last)


def evaluate_checkpoint(
    config: ConfigDict, workdir: epath.PathLike, checkpoint: str | None = None
) -> dict[str, Any]:
    """Scores the evaluation split with a checkpoint, by default the latest of `workdir`.

    Args:
        config: its model and data must be those of the run; `eval` may differ.
        workdir: where detections.json and metrics.json are written.
        checkpoint: RUN or RUN/STEP.

    Returns:
        The content of metrics.json.
    """
    config_lib.check(config, jax.local_device_count())
    source, step = locate(checkpoint or str(workdir))
    dataset = open_or_build(config.data)
    refuse_other(source, config, dataset, groups=MODEL_FIELDS)
    model, transform = SegTAD(config, len(dataset.classes)), optimizer(config)
    target = jax.eval_shape(lambda: create_state(config, model, transform, dataset.num_channels))
    with Checkpoints(source, config.train.keep) as checkpoints:
        state = checkpoints.restore(step, target)
    log.info("evaluating step %d of %s", step, source)
    detector = Detector(config, dataset.classes)
    workdir = epath.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    return _conclude(config, workdir, dataset, detector, state.variables, step)


def _conclude(
    config: ConfigDict,
    workdir: epath.Path,
    dataset: Dataset,
    detector: Detector,
    variables: dict[str, Any],
    step: int,
) -> dict[str, Any]:
    """Detects in the evaluation split, scores it, and writes and shows the results."""
    recordings = dataset.recordings(config.data.eval_split)
    found = detector.detect(variables, dataset, recordings)
    metrics = evaluate(found, recordings, dataset.classes) | {"step": step}
    write_detections(workdir / "detections.json", found)
    if (workdir / METRICS_LOG).exists():
        draw_training_curves(workdir / METRICS_LOG, workdir / "curves.png")
    write_json(workdir / "metrics.json", metrics)  # last: it says that the run is finished
    show(metrics)
    return metrics


def claim(workdir: epath.Path, config: ConfigDict, dataset: Dataset) -> None:
    """Makes the folder a run of this config, or checks that it is one.

    Raises:
        ValueError: it is a run of another config; names every field that differs.
    """
    if (workdir / "config.json").exists():
        refuse_other(workdir, config, dataset)
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", _identity(config, dataset))


def refuse_other(
    workdir: epath.Path, config: ConfigDict, dataset: Dataset, groups: Sequence[str] = ("",)
) -> None:
    """Raises ValueError if the run in `workdir` differs in a field of these groups."""
    try:
        theirs = json.loads((workdir / "config.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{workdir} is not a run: config.json: {error}") from error
    found = [
        line
        for line in config_lib.differences(_identity(config, dataset), theirs)
        if line.startswith(tuple(groups)) and not line.startswith(FREE_FIELDS)
    ]
    if found:
        lines = "\n  ".join(found)
        raise ValueError(
            f"{workdir} belongs to a run of another config:\n  {lines}\n"
            "Use another --workdir, or the config of that run."
        )


def _identity(config: ConfigDict, dataset: Dataset) -> dict[str, Any]:
    return config_lib.flatten(config) | {
        "classes": list(dataset.classes),
        "channels": dataset.num_channels,
    }


def _finished(workdir: epath.Path, step: int) -> dict[str, Any] | None:
    path = workdir / "metrics.json"
    metrics = json.loads(path.read_text()) if path.exists() else {}
    return metrics if metrics.get("step") == step else None


def show(metrics: dict[str, Any]) -> None:
    """Prints mAP per tIoU and what was scored."""
    counts = ", ".join(f"{count} {name}" for name, count in metrics["counts"].items())
    names = (f"{name.replace('average', 'mean'):>6}" for name in metrics["map"])
    values = (f"{value:6.3f}" for value in metrics["map"].values())
    print(f"step {metrics['step']}: scored {counts}")
    print("tIoU", *names, sep=" ")
    print("mAP ", *values, sep=" ")
    if metrics["missing_videos"]:
        print(f"without any detection: {', '.join(metrics['missing_videos'])}")
