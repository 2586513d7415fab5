"""Score result files: python -m segtad_jax.evaluation --ground_truth=... --predictions=...

Exit status: 0 scored, 1 a file is refused (the reason is on stderr), 2 wrong command line.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segtad_jax.evaluation.annotation_flags import add_annotation_flags, reading_of
from segtad_jax.evaluation.average_precision import threshold_keys
from segtad_jax.evaluation.ground_truth import Subset, predictions_in_scope, read_ground_truth
from segtad_jax.evaluation.ids import read_ids
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.evaluation.operating_point import assess, read_chosen
from segtad_jax.evaluation.results import read_predictions
from segtad_jax.evaluation.scoring import METRICS, PROTOCOLS, evaluate
from segtad_jax.evaluation.tables import summary
from segtad_jax.runtime import command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    flags = _parser().parse_args(arguments)
    return command.run(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> None:
    blocked = read_ids(flags.blocked) if flags.blocked else []
    subset = read_ground_truth(
        flags.ground_truth,
        flags.subset,
        reading_of(flags),
        blocked=blocked,
        lenient=flags.lenient,
        ignored=[label for label in flags.ignore.split(",") if label],
    )
    predictions, result = _score(flags, subset, flags.predictions)
    print(summary(result))
    if flags.output:
        _write_json(flags.output, result)
    if flags.report or flags.figures:
        _write_report(flags, subset, predictions, result)


def _score(
    flags: argparse.Namespace, subset: Subset, path: Path
) -> tuple[dict[str, list[tuple]], dict]:
    labelled = flags.metrics != ["ar"]
    predictions, notes = read_predictions(path, labelled=labelled, lenient=flags.lenient)
    predictions, scope = predictions_in_scope(subset, predictions, lenient=flags.lenient)
    scored = evaluate(
        subset.ground_truth,
        predictions,
        tiou_thresholds=flags.tiou,
        metrics=flags.metrics,
        protocol=flags.protocol,
        durations=subset.durations,
    )
    if flags.threshold is not None:
        if not labelled:
            raise InputError("--threshold needs labels: leave it out with --metrics=ar")
        scored["operating_point"] = assess(
            subset.ground_truth, predictions, _read_threshold(flags.threshold)
        )
    scope["notes"] = [*subset.notes, *notes, *scope["notes"]]
    files = {"ground_truth": subset.path, "predictions": str(path)}
    return predictions, {**files, "subset": subset.name, **scored, **scope}


def _read_threshold(text: str) -> Any:
    """Returns a score for all classes, the thresholds in a file, or None: to be chosen."""
    if text == "auto":
        return None
    try:
        score = float(text)
    except ValueError:
        if Path(text).exists():
            return read_chosen(text)
        score = np.nan
    if not np.isfinite(score):
        raise InputError(f"--threshold={text} is neither auto, a score, nor a file that is there")
    return score


def _write_report(
    flags: argparse.Namespace, subset: Subset, predictions: dict[str, list[tuple]], result: dict
) -> None:
    try:  # here, so that scoring needs NumPy alone
        from segtad_jax.evaluation.report import figures, page
    except ImportError as error:
        raise InputError(
            f"--report and --figures need {error.name}: install segtad_jax with its dependencies"
        ) from error
    other = page.Comparison(*_score(flags, subset, flags.compare)) if flags.compare else None
    scored = subset.ground_truth, predictions, result
    if flags.report:
        page.write_report(flags.report, *scored, durations=subset.durations, compare=other)
    if flags.figures:
        compare = other.metrics if other else None
        figures.write_figures(flags.figures, *scored, compare=compare)


def _write_json(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    temporary.replace(path)


def _thresholds(text: str) -> np.ndarray:
    """Reads `start:step:stop`, both included, or a list with commas."""
    try:
        if ":" in text:
            start, step, stop = (float(part) for part in text.split(":"))
            steps = round((stop - start) / step)
            if not 0 < steps < 100 or abs(start + step * steps - stop) > 1e-6:
                raise ValueError
            thresholds = np.linspace(start, stop, steps + 1)
        else:
            thresholds = np.array([float(part) for part in text.split(",")])
        threshold_keys(thresholds)
    except (ValueError, ArithmeticError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be START:STEP:STOP, as 0.5:0.05:0.95, or a list, as 0.3,0.5, of "
            "numbers above 0 and up to 1 that differ in two decimals"
        ) from error
    return thresholds


def _metrics(text: str) -> list[str]:
    names = text.split(",")
    if set(names) - set(METRICS):
        raise argparse.ArgumentTypeError(f"{text!r} must be some of {','.join(METRICS)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(
        prog="python -m segtad_jax.evaluation",
        description="Score temporal action detections: mAP, AR@AN and the DETAD diagnosis.",
        epilog="Exit status: 0 scored, 1 a file is refused, 2 wrong command line.",
    )
    add = parser.add_argument
    add(
        "--ground_truth",
        required=True,
        metavar="A[,B]",
        help="annotations, or a prepared data set",
    )
    add("--predictions", type=Path, required=True, help="JSON with version, results, external_data")
    add("--subset", default="validation", help="what is scored (default: %(default)s)")
    add("--tiou", type=_thresholds, metavar="START:STEP:STOP", help="default: the protocol's")
    add("--metrics", type=_metrics, default=list(METRICS), help="some of map,ar,diagnosis")
    add("--protocol", choices=list(PROTOCOLS), default="activitynet")
    add(
        "--threshold",
        metavar="auto|X|FILE",
        help="precision, recall, F1 and confusion of predictions above: a score; a run's "
        "thresholds-STEP.json; auto: the best F1, by cross-fitting",
    )
    add("--blocked", type=Path, metavar="FILE", help="ids of videos to leave out")
    background = "classes that are none, such as a background"
    add("--ignore", "--ignored", default="", metavar="A,B", help=background)
    add("--rate", type=float, metavar="HZ", help="of txt files with a class a frame")
    add_annotation_flags(parser)
    add("--lenient", action="store_true", help="leave out what is unknown or broken, and say so")
    add("--output", type=Path, metavar="FILE", help="write metrics.json")
    add("--report", type=Path, metavar="FILE", help="write one HTML page")
    add("--figures", type=Path, metavar="DIR", help="write figures as png, svg and pdf")
    add("--compare", type=Path, metavar="FILE", help="a second result file, for the report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
