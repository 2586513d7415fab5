"""Reads features and annotations and writes a data set, or checks them."""

import argparse
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from segtad_jax.data.dataset import find_all
from segtad_jax.data.defects import Defect
from segtad_jax.data.features import SAME_RATE, Source, open_source
from segtad_jax.data.pipeline import map_ahead
from segtad_jax.data.preparation import FILE, REPORT, Preparation, VideoTransform
from segtad_jax.data.resizing import with_channels
from segtad_jax.data.signals import SignalTransform
from segtad_jax.data.writer import ShardWriter, dataset_folder, require_free
from segtad_jax.evaluation.annotation_flags import reading_of
from segtad_jax.evaluation.annotations import read_durations
from segtad_jax.evaluation.ids import read_ids
from segtad_jax.evaluation.json_files import sealed
from segtad_jax.prepare.annotations import Annotations, read_annotations
from segtad_jax.prepare.intake import Intake, Outcome, open_intake
from segtad_jax.prepare.look import look_through
from segtad_jax.prepare.origins import origins
from segtad_jax.prepare.recipes import RECIPES
from segtad_jax.prepare.report import print_report, write_page
from segtad_jax.prepare.simulation import simulated
from segtad_jax.prepare.summary import Summary
from segtad_jax.runtime import lease
from segtad_jax.runtime.console import open_console
from segtad_jax.video.flags import create_backbone
from segtad_jax.video.kept import common_transform

if TYPE_CHECKING:
    from segtad_jax.video.backbones import Backbone
    from segtad_jax.video.recordings import Videos

WRITTEN, FLAWED, STOPPED = 0, 3, 4  # exit statuses


class StrictError(ValueError):
    """`--strict` met something that would be left out or changed."""


def run(flags: argparse.Namespace) -> int:
    """Does what the flags of `prepare` ask for and returns the exit status."""
    if flags.check:
        return _run(flags, None)
    target = dataset_folder(flags.output, _dataset_name(flags))
    file = epath.Path(flags.output) / f".preparing-{_dataset_name(flags)}.lease"
    with lease.held(file, f"the data set {target}") as held:
        require_free(target)
        return _run(flags, held)


def _run(flags: argparse.Namespace, held: lease.Lease | None) -> int:
    console = open_console()
    started = time.monotonic()
    try:
        durations = read_durations(flags.durations) if flags.durations else {}
        videos, backbone = _open_videos(flags) if flags.videos else (None, None)
        annotations, sources = _inputs(flags, durations, videos)
        transform = videos.transform if videos else _made_by(flags, sources)
        intake = open_intake(
            annotations,
            sources,
            layout="tc" if transform else flags.layout,
            durations=durations,
            blocked=read_ids(flags.blocked) if flags.blocked else [],
            widen=flags.widen,
            rate=transform.rate if transform else flags.rate,
            clock=flags.time,
            fill=flags.gaps == "fill",
            channels=flags.channels,
            time=flags.split.time,
        )
        if flags.strict:
            _stop_at(intake.defects)
        if videos is not None and backbone is not None:
            places = intake.sources[0].places
            videos.extract([places[key][0] for key in intake.keys], backbone, console)
        summary = Summary(intake.annotations, intake.defects)
        preparation = _preparation(flags, intake, transform, console)
        if held is None:
            _collect(flags, _read(flags, intake, preparation, console), summary)
            preparation = summary.complete(preparation)
            print_report(summary.report(preparation), console)
            useless = summary.why_useless()
            console.print(
                "Checked only: nothing is written"
                + (f", nor would it be without --check: {useless}." if useless else "."),
                markup=False,
                soft_wrap=True,
            )
            return FLAWED if summary.flawed or useless else WRITTEN
        target = _write(flags, intake, preparation, summary, console, held)
    except StrictError as error:
        print(f"stopped by --strict: {error}", file=sys.stderr)
        return STOPPED
    console.print(
        f"{len(summary.all_records):,} recordings in {time.monotonic() - started:.1f} s: {target}\n"
        f"The report with pictures: {target / 'report.html'}\n{_what_next(flags, target, summary)}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    return WRITTEN


def _what_next(flags: argparse.Namespace, target: epath.Path, summary: Summary) -> str:
    """Returns the command that trains on the data set, or why none can."""
    data = flags.output if find_all(flags.output) == [target] else target
    try:
        split = summary.training_flags()
    except ValueError as error:
        return f"It cannot be trained on: {error}."
    lacking = "There is no annotated validation recording; a column or field `subset` names some.\n"
    return (
        f"{lacking if split else ''}Train: python -m segtad_jax.main --config=custom "
        f"--config.data.dir={shlex.quote(str(data))}{split} --workdir RUN"
    )


def _open_videos(flags: argparse.Namespace) -> tuple["Videos", "Backbone"]:
    from segtad_jax.runtime import startup  # JAX; not where features are there
    from segtad_jax.video.recordings import open_videos, transform_of

    startup.keep_compiled_programs()
    backbone = create_backbone(flags)
    kept = flags.save_features or epath.Path(flags.output) / "features"
    return open_videos(flags.videos, transform_of(backbone), kept), backbone


def _made_by(flags: argparse.Namespace, sources: Sequence[Source]) -> VideoTransform | None:
    """Returns what made the features of videos that are given as files, where they say so.

    Raises:
        ValueError: they were made in several ways, or at another rate than the flags say.
    """
    if len(flags.features) != 1 or flags.signals or flags.channels:
        return None
    transform = common_transform(path for path, _ in sources[0].places.values())
    if transform and flags.rate and abs(flags.rate / transform.rate - 1) > SAME_RATE:
        raise ValueError(
            f"--rate={flags.rate:g}, but the files beside those in {sources[0].path} say that they "
            f"are {transform.rate:g} a second, by {transform}: leave --rate out"
        )
    return transform


def _inputs(
    flags: argparse.Namespace, durations: Mapping[str, float], videos: "Videos | None"
) -> tuple[Annotations, list[Source]]:
    if flags.recipe:
        annotations, source = RECIPES[flags.recipe].open_recordings(flags.source)
        return annotations, [source]
    sources: list[Source] = [open_source(path) for path in flags.features]
    sources = [videos] if videos else sources
    began = origins(sources, flags.layout, flags.time, flags.rate, flags.channels)
    reading = dataclasses.replace(reading_of(flags), moments=flags.widen > 0, origins=began)
    annotations = read_annotations(
        flags.annotations, reading, ignored=flags.ignore, division=flags.split
    )
    if flags.simulate:
        source = simulated(
            annotations,
            flags.simulate,
            durations=durations,
            num_frames=flags.num_frames,
            rate=flags.rate,
        )
        return annotations, [source]
    return annotations, sources


def _dataset_name(flags: argparse.Namespace) -> str:
    # Each resizer gives another result.
    return flags.name + (f"_{flags.resize}{flags.num_frames}" if flags.num_frames else "")


def _preparation(
    flags: argparse.Namespace, intake: Intake, transform: VideoTransform | None, console: Console
) -> Preparation:
    signals = None
    if flags.signals:
        if intake.rate is None:
            raise ValueError("--signals needs --rate=HZ, or times in every file, for their rate")
        number = sum(intake.annotations.videos[key].subset == "training" for key in intake.keys)
        training = _progress(intake.training_arrays(), number, console, "statistics")
        signals = SignalTransform.fit(intake.rate, sum(intake.widths), map(with_channels, training))
    return Preparation(
        name=_dataset_name(flags),
        widths=intake.widths,
        rate=intake.rate,
        num_frames=flags.num_frames,
        resize=flags.resize,
        window=flags.num_frames or flags.window or 0,
        dtype=flags.dtype,
        signals=signals,
        video=transform,
        columns=tuple(form.columns for form in intake.forms),
        chosen=bool(flags.channels),
        clocks=tuple(form.clock for form in intake.forms if form.clock is not None),
        gaps=flags.gaps,
    )


def _write(
    flags: argparse.Namespace,
    intake: Intake,
    preparation: Preparation,
    summary: Summary,
    console: Console,
    held: lease.Lease,
) -> epath.Path:
    """Reads and writes one video after the other, and puts the data set in its place."""
    classes = intake.annotations.classes
    if not classes:
        raise ValueError(
            f"there is no annotation that could be used, so no class{summary.first_lost()}"
        )
    with ShardWriter(
        flags.output,
        preparation.name,
        classes,
        preparation.num_channels,
        np.dtype(preparation.dtype),
        _description(flags, preparation),
        citation=RECIPES[flags.recipe].CITATION if flags.recipe else "",
    ) as writer:
        if flags.beam is None:
            outcomes = _read(flags, intake, preparation, console, writer)
        else:
            from segtad_jax.prepare import beam

            outcomes = beam.run(intake, preparation, writer, flags.beam)
        _collect(flags, outcomes, summary)
        if not summary.all_records:
            raise ValueError(f"not one video could be used{summary.first_lost()}")
        if useless := summary.why_useless():
            raise ValueError(f"nothing is written: {useless}")
        preparation = summary.complete(preparation)
        report = summary.report(preparation)
        print_report(report, console, REPORT)
        (writer.folder / FILE).write_text(json.dumps(sealed(preparation.to_json())) + "\n")
        (writer.folder / REPORT).write_text(json.dumps(sealed(report), indent=1) + "\n")
        looks = look_through(intake, preparation, summary.all_records)
        write_page(writer.folder / "report.html", report, looks)
        held.check()
        return writer.finish()


def _read(
    flags: argparse.Namespace,
    intake: Intake,
    preparation: Preparation,
    console: Console,
    writer: ShardWriter | None = None,
) -> Iterator[Outcome]:
    """Yields every video as it was read and, where there is a writer, written."""

    def read(key: str) -> list[tuple[Outcome, list[bytes]]]:
        return [
            (outcome, [writer.serialise(record) for record in outcome.records] if writer else [])
            for outcome in intake.outcomes(key, preparation)
        ]

    results = map_ahead(read, intake.keys, flags.workers, 2 * flags.workers)
    for outcomes in _progress(results, len(intake.keys), console, "videos"):
        for outcome, payloads in outcomes:
            for record, payload in zip(outcome.records, payloads, strict=False):
                assert writer is not None  # else there are no payloads
                writer.write(outcome.video.subset, record, payload)
            yield outcome


def _progress(
    results: Iterator[Any], total: int, console: Console, description: str
) -> Iterator[Any]:
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(results, total=total, description=description)


def _collect(flags: argparse.Namespace, outcomes: Iterable[Outcome], summary: Summary) -> None:
    for outcome in outcomes:
        summary.add(outcome)
        if flags.strict:
            _stop_at(outcome.defects)


def _stop_at(defects: Sequence[Defect]) -> None:
    for defect in defects:
        if defect.is_flaw:
            count = sum(other.kind == defect.kind for other in defects)
            more = f" (and {count - 1} more of this kind)" if count > 1 else ""
            raise StrictError(defect.line + more)


def _description(flags: argparse.Namespace, preparation: Preparation) -> str:
    kind = "Simulated features" if flags.simulate else "Features"
    kind = "Windowed statistics of signals" if flags.signals else kind
    kind = f"Features of videos by {preparation.video}" if preparation.video else kind
    length = "whole recordings"
    if flags.num_frames:
        length = f"resized to {flags.num_frames} frames ({flags.resize})"
    return f"{kind}, {preparation.num_channels} channels, {length}; made by segtad_jax.prepare."
