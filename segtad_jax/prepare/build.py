"""Reads features and annotations and writes a data set, or checks them."""

import argparse
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from segtad_jax.data.dataset import find_all
from segtad_jax.data.defects import CHANGED, LEFT_OUT, Defect
from segtad_jax.data.features import Source, open_source, with_channels
from segtad_jax.data.pipeline import inference_step, map_ahead
from segtad_jax.data.preparation import FILE, Preparation, SignalTransform
from segtad_jax.data.writer import ShardWriter
from segtad_jax.evaluation.annotations import read_durations, read_ids
from segtad_jax.evaluation.ceiling import Clip, grid_ceiling
from segtad_jax.prepare.annotations import Annotations, read_annotations
from segtad_jax.prepare.intake import (
    Intake,
    Outcome,
    open_intake,
    training_arrays,
    usual_widths,
)
from segtad_jax.prepare.recipes import hapt
from segtad_jax.prepare.report import print_report, write_page
from segtad_jax.prepare.simulation import simulated
from segtad_jax.prepare.summary import Row, Summary

WRITTEN, FLAWED, STOPPED = 0, 3, 4  # exit statuses
STRIDES = (2, 4, 8, 16)  # frames, of the grid of proposals, whose ceilings are told
THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
OVERLAP = 0.5  # of windows in inference


class StrictError(ValueError):
    """`--strict` met something that would be left out or changed."""


def run(flags: argparse.Namespace) -> int:
    """Does what the flags of `prepare` ask for and returns the exit status."""
    try:
        return _run(flags)
    except StrictError as error:
        print(f"stopped by --strict: {error}", file=sys.stderr)
        return STOPPED


def _run(flags: argparse.Namespace) -> int:
    console = Console()
    started = time.monotonic()
    durations = read_durations(flags.durations) if flags.durations else {}
    annotations, sources = _inputs(flags, durations)
    intake = open_intake(
        annotations,
        sources,
        layout=flags.layout,
        durations=durations,
        blocked=read_ids(flags.blocked) if flags.blocked else [],
    )
    if flags.strict:
        _stop_at(intake.defects)
    summary = Summary(annotations, intake.defects)
    preparation = _preparation(flags, intake, console)
    if flags.check:
        return _check(flags, intake, preparation, summary, console)
    target = _write(flags, intake, preparation, summary, console)
    named = flags.output if find_all(flags.output) == [target] else target
    console.print(
        f"{len(summary.rows):,} recordings in {time.monotonic() - started:.1f} s: {target}\n"
        f"The report with pictures: {target / 'report.html'}\n"
        f"Train: python -m segtad_jax.main --config configs/custom.py --config.data.dir={named} "
        "--workdir RUN",
        soft_wrap=True,
        highlight=False,
    )
    return WRITTEN


def _inputs(
    flags: argparse.Namespace, durations: Mapping[str, float]
) -> tuple[Annotations, list[Source]]:
    if flags.recipe:
        annotations, source = hapt.open_hapt(flags.source)
        return annotations, [source]
    annotations = read_annotations(flags.annotations)
    if flags.simulate:
        source = simulated(
            annotations,
            flags.simulate,
            durations=durations,
            num_frames=flags.num_frames,
            rate=flags.rate,
        )
        return annotations, [source]
    return annotations, [open_source(path) for path in flags.features]


def _preparation(flags: argparse.Namespace, intake: Intake, console: Console) -> Preparation:
    widths = usual_widths(intake)
    signals = None
    if flags.signals:
        number = sum(intake.annotations.videos[key].subset == "training" for key in intake.keys)
        training = _progress(training_arrays(intake, widths), number, console, "statistics")
        signals = SignalTransform.fit(flags.rate, sum(widths), map(with_channels, training))
    resized = f"_{flags.resize}{flags.num_frames}" if flags.num_frames else ""
    return Preparation(
        name=flags.name + resized,  # three resizers give three results
        widths=widths,
        rate=flags.rate,
        num_frames=flags.num_frames,
        resize=flags.resize,
        window=flags.num_frames or flags.window or 0,
        dtype=flags.dtype,
        signals=signals,
    )


def _check(
    flags: argparse.Namespace,
    intake: Intake,
    preparation: Preparation,
    summary: Summary,
    console: Console,
) -> int:
    read = functools.partial(intake.outcome, preparation=preparation)
    results = map_ahead(read, intake.keys, flags.workers, 2 * flags.workers)
    for outcome in _progress(results, len(intake.keys), console):
        _take(flags, summary, outcome)
    preparation = _with_window(preparation, summary)
    print_report(_report(preparation, summary), console)
    console.print("Checked only: nothing is written.")
    return FLAWED if summary.flawed else WRITTEN


def _write(
    flags: argparse.Namespace,
    intake: Intake,
    preparation: Preparation,
    summary: Summary,
    console: Console,
) -> epath.Path:
    """Reads and writes one video after the other, and puts the data set in its place."""
    classes = intake.annotations.classes
    if not classes:
        raise ValueError("there is no annotation that could be used, so there are no classes")
    with ShardWriter(
        flags.output,
        preparation.name,
        classes,
        preparation.num_channels,
        np.dtype(preparation.dtype),
        _description(flags, preparation),
        citation=hapt.CITATION if flags.recipe == "hapt" else "",
    ) as writer:

        def read(key: str) -> tuple[Outcome, bytes]:
            outcome = intake.outcome(key, preparation)
            return outcome, b"" if outcome.record is None else writer.serialise(outcome.record)

        if flags.beam is not None:
            from segtad_jax.prepare import beam

            for outcome in beam.run(intake, preparation, writer, flags.beam):
                _take(flags, summary, outcome)
        else:
            results = map_ahead(read, intake.keys, flags.workers, 2 * flags.workers)
            for outcome, payload in _progress(results, len(intake.keys), console):
                _take(flags, summary, outcome)
                if outcome.record is not None:
                    writer.write(outcome.video.subset, outcome.record, payload)
        if not summary.rows:
            first = next(d for d in summary.defects if d.treatment == LEFT_OUT)
            raise ValueError(f"not one video could be used; the first: {_told(first)}")
        preparation = _with_window(preparation, summary)
        report = _report(preparation, summary)
        print_report(report, console)
        (writer.folder / FILE).write_text(json.dumps(preparation.to_json()) + "\n")
        (writer.folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        write_page(writer.folder / "report.html", report)
        return writer.finish()


def _progress(
    results: Iterator[Any], total: int, console: Console, description: str = "videos"
) -> Iterator[Any]:
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(results, total=total, description=description)


def _take(flags: argparse.Namespace, summary: Summary, outcome: Outcome) -> None:
    summary.add(outcome)
    if flags.strict:
        _stop_at(outcome.defects)


def _stop_at(defects: Sequence[Defect]) -> None:
    for defect in defects:
        if defect.treatment in (LEFT_OUT, CHANGED):
            same = [d for d in defects if d.kind == defect.kind]
            more = f" (and {len(same) - 1} more of this kind)" if len(same) > 1 else ""
            raise StrictError(_told(defect) + more)


def _told(defect: Defect) -> str:
    return f"{defect.where}: video {defect.video!r}: {defect.kind}: {defect.value}"


def _with_window(preparation: Preparation, summary: Summary) -> Preparation:
    window = preparation.window or summary.natural_window()
    return dataclasses.replace(preparation, window=window)


def _report(preparation: Preparation, summary: Summary) -> dict[str, Any]:
    split, rows = summary.judged()
    window = preparation.window
    clips = {row.video: _clip(row, window) for row in rows}
    strides = {
        str(stride): grid_ceiling(clips, window, stride, THRESHOLDS)
        | {"divides": window % stride == 0}
        for stride in STRIDES
        if stride <= window
    }
    return {
        "name": preparation.name,
        "channels": preparation.num_channels,
        "window": window,
        "dtype": preparation.dtype,
        "resize": preparation.num_frames and preparation.resize,
        **summary.content(),
        "ceiling": {"split": split, "window": window, "strides": strides},
    }


def _clip(row: Row, window: int) -> Clip:
    step = inference_step(window, OVERLAP)
    offsets = range(0, max(row.num_frames - window, 0) + step, step)
    actions = [
        (start, end, label)
        for (start, end), label in zip(row.segments.tolist(), row.labels, strict=True)
    ]
    return Clip(row.num_frames, row.rate, row.duration, offsets, actions)


def _description(flags: argparse.Namespace, preparation: Preparation) -> str:
    what = "Windowed statistics of signals" if flags.signals else "Features"
    what = "Simulated features" if flags.simulate else what
    length = (
        f"resized to {flags.num_frames} frames ({flags.resize})"
        if flags.num_frames
        else "whole recordings"
    )
    return f"{what}, {preparation.num_channels} channels, {length}; made by segtad_jax.prepare."
