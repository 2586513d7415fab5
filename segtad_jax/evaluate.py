"""Evaluation of a checkpoint: detect once in every recording of a split, score, write, show."""

import collections
import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from etils import epath
from ml_collections import ConfigDict

from segtad_jax.checkpoint import run_folder, thresholds
from segtad_jax.checkpoint.store import locate, restore_variables
from segtad_jax.config import fit
from segtad_jax.config.check import check
from segtad_jax.config.defaults import flatten
from segtad_jax.data import pipeline
from segtad_jax.data.dataset import Dataset, Recording
from segtad_jax.data.embedded import open_or_build, stored_fingerprint
from segtad_jax.detector import Detector
from segtad_jax.evaluation import operating_point, scoring, tables
from segtad_jax.evaluation.ceiling import Clip, grid_ceiling
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.postprocess import Detection, write_detections
from segtad_jax.runtime import metric_log, parallel, startup
from segtad_jax.runtime.files import absolute, read_json, write_sealed
from segtad_jax.runtime.metric_log import MetricLog

log = logging.getLogger(__name__)

REMEDY = "Delete it, and run the same command again: the run is then evaluated again."
SEGMENTED = 100  # recordings whose frame probabilities (Figure 3) the report draws


class EvaluatedSplit(NamedTuple):
    """Recordings of a data set, with what scoring them needs, made once."""

    dataset: Dataset
    recordings: Sequence[Recording]
    windows: Sequence[pipeline.Window]
    annotations: Mapping[str, list[tuple[float, float, str]]]  # {video: [(start, end, label)]}, s
    durations: Mapping[str, float]  # seconds


def evaluated_split(
    config: ConfigDict, dataset: Dataset, recordings: Sequence[Recording]
) -> EvaluatedSplit:
    """Cuts recordings into windows and names their actions."""
    overlap = config.eval.window_overlap
    annotations = {
        r.video: [
            (float(start), float(end), dataset.classes[label - 1])
            for (start, end), label in zip(r.segments, r.labels, strict=True)
        ]
        for r in recordings
    }
    return EvaluatedSplit(
        dataset,
        recordings,
        pipeline.inference_windows(
            recordings, config.data.num_frames, overlap, config.eval.whole_windows
        ),
        annotations,
        {r.video: r.duration for r in recordings},
    )


def open_data(config: ConfigDict) -> tuple[ConfigDict, Dataset]:
    """Returns the config, checked and without open fields, and its data set, written if need be.

    Raises:
        FileNotFoundError: there is no such data set.
        ValueError: the config cannot be run; says why.
    """
    check(config, jax.device_count(), partial=True)  # before data are written
    dataset = open_or_build(config.data)
    parallel.require_equal(
        int(dataset.fingerprint[:7], 16),
        f"{dataset.directory} is not one data set on all processes; the fingerprints begin with",
    )
    config = fit.fitted(config, dataset)
    check(config, jax.device_count())
    return config, dataset


def evaluate_checkpoint(
    config: ConfigDict, workdir: epath.PathLike, checkpoint: str | None = None
) -> dict[str, Any]:
    """Scores a checkpoint on the evaluation split; returns the content of metrics.json.

    Args:
        config: its model and data must be those of the run; `eval` may differ.
        workdir: where detections.json, report.html and metrics.json are written.
        checkpoint: RUN or RUN/STEP; by default the latest of `workdir`.

    Raises:
        FileNotFoundError: no such checkpoint; says which there are.
        ValueError: the config cannot be run, its model is not the checkpoint's, or the workdir is
            in use.
    """
    source, step = locate(checkpoint or str(workdir))
    run = flatten(run_folder.read(source).config)
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(  # what is open here, the run has settled
        {field: run[field] for field in fit.open_fields(config)}
    )
    config, dataset = open_data(config)
    run_folder.settle_classifier(config, source)
    run_folder.refuse_other(source, config, dataset, run_folder.MODEL_FIELDS)
    model = SegTAD(config, len(dataset.classes))
    like = jax.eval_shape(lambda: create_variables(config, model, dataset.num_channels))
    variables = restore_variables(source, step, like)
    log.info("%s", startup.facts(config.eval.batch_size))
    log.info("evaluating step %d of %s", step, source)
    workdir = epath.Path(workdir)
    parallel.require_shared(workdir)
    with run_folder.in_use(workdir):
        run_folder.refuse_results(workdir, config, dataset, step)
        split = evaluated_split(config, dataset, dataset.recordings(config.data.eval_split))
        detector = Detector(config, dataset.classes, segments=True)
        return write_results(config, workdir, split, detector, variables, step, run=source)


def judge(
    config: ConfigDict,
    workdir: epath.Path,
    split: EvaluatedSplit,
    detector: Detector,
    variables: dict[str, Any],
    step: int,
) -> dict[str, float]:
    """Detects in a split that may be chosen on, and stores the thresholds that suit it.

    Returns mAP as a fraction, {"0.50": x, ..., "average": x}.
    """
    detections, _, notes = detector.detect(
        variables, split.dataset, split.recordings, split.windows
    )
    _warn(notes)
    if parallel.is_main():
        _choose(config, workdir, split, detections, step)
    return _scores(split, detections, metrics=("map",))["map"]


def write_results(
    config: ConfigDict,
    workdir: epath.Path,
    split: EvaluatedSplit,
    detector: Detector,
    variables: dict[str, Any],
    step: int,
    logger: MetricLog | None = None,
    run: epath.Path | None = None,
) -> dict[str, Any]:
    """Detects in a split, scores it, writes and shows the results; returns metrics.json's content.

    The workdir gets detections.json, curves.png, report.html and, last, metrics.json; the logger
    the mAP. `step` is that of the variables, `run` where it is from, if not of the workdir; the
    workdir's own step without thresholds gets those that suit the split.
    """
    with logger.evaluating() if logger else contextlib.nullcontext():
        detections, probabilities, notes = detector.detect(
            *(variables, split.dataset, split.recordings, split.windows), segmented=SEGMENTED
        )
    _warn(notes)
    metrics = _scores(split, detections) | {"ceiling": _ceiling(config, split), "step": step}
    if metrics["map"]["0.50"] < scoring.DOUBTFUL and len(split.annotations) > 1:
        metrics["chance"] = scoring.chance(split.annotations, detections)
    if not parallel.is_main():
        return metrics
    write_detections(workdir / "detections.json", detections)
    run = workdir if run is None else run
    chosen = thresholds.read(run, step, config)
    if chosen is None and absolute(run) == absolute(workdir):
        chosen = _choose(config, workdir, split, detections, step)
    if chosen is not None and chosen.precision not in (None, config.eval.least_precision):
        log.warning(
            "the thresholds of step %d were chosen with eval.least_precision=%g, and stay: delete "
            "%s/thresholds-%d.json to choose them with %g",
            *(step, chosen.precision, run, step, config.eval.least_precision),
        )
    metrics["operating_point"] = operating_point.assess(
        *(split.annotations, detections, chosen), **_how(config, split)
    )
    if logger:
        logger.write(step, brief(metrics["map"]))
    _write_report(config, workdir, split, detections, probabilities, metrics)
    write_sealed(workdir / "metrics.json", metrics)  # last: it says that the run is finished
    show(workdir, metrics)
    return metrics


def _warn(notes: Mapping[str, str]) -> None:
    for video, note in notes.items():
        log.warning("%s: %s", video, note)


def brief(mean_ap: Mapping[str, float]) -> dict[str, float]:
    """Returns what the log keeps of a mAP per tIoU."""
    return {f"eval/map_{tiou}": mean_ap[tiou] for tiou in ("0.50", "0.75", "0.95", "average")}


def finished(workdir: epath.Path, config: ConfigDict) -> dict[str, Any] | None:
    """Shows and returns the results if `workdir` holds all of this run, else returns None."""
    path = workdir / "metrics.json"  # written last
    if not path.exists() or not (workdir / run_folder.FILE).exists():
        return None
    metrics = read_json(path, REMEDY)
    if metrics.get("step") != config.train.steps or run_folder.other_fields(workdir, config):
        return None
    trained, there = run_folder.recorded_data(workdir), stored_fingerprint(config.data)
    if trained and there and there != trained.get("fingerprint"):
        return None  # `run_folder.claim` says so
    scored = isinstance(metrics.get("counts"), dict) and "missing_videos" in metrics
    tables = [metrics.get("map"), metrics.get("ceiling", {})]
    if not scored or not all(isinstance(x, dict) and _all_numbers(x.values()) for x in tables):
        raise ValueError(f"{path} has no scores. {REMEDY}")
    log.info("%s is finished: %d steps are trained and evaluated.", workdir, metrics["step"])
    show(workdir, metrics)
    return metrics


def show(workdir: epath.Path, metrics: dict[str, Any]) -> None:
    """Prints mAP per tIoU, the grid's best possible mAP, what was scored, and what to do next."""
    counts = ", ".join(f"{count} {name}" for name, count in metrics["counts"].items())
    names = (f"{name.replace('average', 'mean'):>6}" for name in metrics["map"])
    print(f"step {metrics['step']}: scored {counts}")
    print("tIoU", *names)
    print("mAP ", *_digits(metrics["map"]))
    if (ties := metrics.get("ties", {})).get("predictions"):  # not in those of older versions
        worst, best = (ties[order]["average"] for order in ("misses_first", "hits_first"))
        print(f"{ties['predictions']} tied; mean {worst:.3f} if misses lead, {best:.3f} if hits do")
    if "ceiling" in metrics:  # not in those of older versions
        print("grid", *_digits(metrics["ceiling"]), " perfect scores, boundaries not moved")
    if "operating_point" in metrics:  # not in those of older versions
        print(tables.operating_point(metrics["operating_point"]))
    if metrics["map"]["0.50"] <= 2 * metrics.get("chance", -1):
        print(
            f"The model has learnt nothing that tells recordings apart: mAP@0.5 is "
            f"{metrics['map']['0.50']:.3f}, and {metrics['chance']:.3f} with the detections of "
            "another recording. Look at the data set's report.html (are the labels where the "
            f"signal changes?) and at {workdir / 'curves.png'}: losses that still fall want more "
            "--config.train.steps, losses that do not a larger --config.optim.learning_rate."
        )
    if metrics["missing_videos"]:
        print(f"without any detection: {', '.join(metrics['missing_videos'])}")
    print(f"To look at: {workdir / 'report.html'}")
    if (workdir / run_folder.FILE).exists():  # not where another run's checkpoint was evaluated
        print(
            f"To detect in new recordings: python -m segtad_jax.predict --checkpoint={workdir} "
            "--features=FOLDER --output=detections.json --report=detections.html"
        )


def _all_numbers(values: Iterable[object]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _digits(values: Mapping[str, float]) -> Iterator[str]:
    return (f"{value:6.3f}" for value in values.values())


def _scores(
    split: EvaluatedSplit,
    detections: dict[str, list[Detection]],
    metrics: Sequence[str] = scoring.METRICS,
) -> dict[str, Any]:
    return scoring.evaluate(
        split.annotations, detections, metrics=metrics, durations=split.durations
    )


def _choose(
    config: ConfigDict,
    workdir: epath.Path,
    split: EvaluatedSplit,
    detections: dict[str, list[Detection]],
    step: int,
) -> operating_point.Chosen:
    """Chooses thresholds on a split, and stores them as those of the workdir's step."""
    chosen = operating_point.choose(split.annotations, detections, **_how(config, split))
    knots = operating_point.fit_confidence(
        split.annotations, detections, classes=split.dataset.classes
    )
    return thresholds.write(workdir, step, config, chosen, split.annotations, knots)


def _how(config: ConfigDict, split: EvaluatedSplit) -> dict[str, Any]:
    """Returns how thresholds are chosen on a split."""
    return {"precision": config.eval.least_precision, "classes": split.dataset.classes}


def _ceiling(config: ConfigDict, split: EvaluatedSplit) -> dict[str, float]:
    """Returns the best mAP that unmoved proposals of the grid allow: {"0.50": x, ...}."""
    offsets: dict[int, list[int]] = collections.defaultdict(list)
    for window in split.windows:
        offsets[window.recording].append(window.offset)
    clips = {
        r.video: Clip(r.num_frames, r.rate, r.duration, offsets[number], split.annotations[r.video])
        for number, r in enumerate(split.recordings)
    }
    thresholds = scoring.PROTOCOLS["activitynet"]
    model = config.model
    ceiling = grid_ceiling(clips, config.data.num_frames, model.stride, thresholds, model.pyramid)
    return ceiling["map"]


def _write_report(
    config: ConfigDict,
    workdir: epath.Path,
    split: EvaluatedSplit,
    detections: dict[str, list[Detection]],
    probabilities: Mapping[str, Any],
    metrics: dict[str, Any],
) -> None:
    """Writes curves.png, where there is a log of training, and report.html."""
    # Matplotlib and Jinja take a second to import, and only this needs them.
    from segtad_jax.evaluation.report.curves import draw_training_curves
    from segtad_jax.evaluation.report.page import TrainingRun, write_report
    from segtad_jax.evaluation.report.videos import Segmentation

    classes = split.dataset.classes
    history = workdir / metric_log.FILE
    if history.exists():
        draw_training_curves(history, workdir / "curves.png")
    segmentation = {
        r.video: Segmentation(
            r.rate,
            {classes[d - 1]: probabilities[r.video][:, d] for d in set(r.labels.tolist())},
        )
        for r in split.recordings[:SEGMENTED]
    }
    write_report(
        workdir / "report.html",
        split.annotations,
        detections,
        metrics,
        durations=split.durations,
        run=TrainingRun(history if history.exists() else None, flatten(config), segmentation),
        title=f"{split.dataset.name}, step {metrics['step']}",
    )
