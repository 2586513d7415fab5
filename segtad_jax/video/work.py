"""Detects in all videos that the command names, by the backbone's own classifier."""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from etils import epath

from segtad_jax import __version__
from segtad_jax.data.defects import KINDS
from segtad_jax.data.features import FeatureError
from segtad_jax.postprocess import Detection, official_file, official_results, told
from segtad_jax.runtime import files, startup
from segtad_jax.runtime.command import DONE
from segtad_jax.runtime.console import open_console
from segtad_jax.video.backbones import Backbone
from segtad_jax.video.classify import CAUTION, detect
from segtad_jax.video.flags import create_backbone
from segtad_jax.video.recordings import Videos, open_videos, transform_of

SOME_FAILED = 3  # exit status, besides those of runtime.command
BEST = 3  # detections of a video in the terminal
COUNTED = 0.1  # least score that the page opens with


def run(flags: argparse.Namespace) -> int:
    """Does what the flags ask for and returns the exit status."""
    startup.keep_compiled_programs()
    console = open_console()
    tell = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)
    if flags.output:
        _require_ours(epath.Path(flags.output))
    backbone = _create_backbone(flags)
    kept = flags.save_features or f"{flags.output.removesuffix('.json')}.features"
    videos = open_videos(flags.videos, transform_of(backbone), kept)
    found: dict[str, list[Detection]] = {}
    failures: dict[str, str] = {}
    notes = {d.video: f"{KINDS[d.kind].meaning}: {d.value}" for d in videos.defects}
    for video, note in notes.items():
        tell(f"note: {video}: {note}")
    durations: dict[str, float] = {}
    if not flags.output:  # all at once, which several processes share
        videos.extract([path for path, _ in videos.places.values()], backbone, console)
    for key, (path, _) in videos.places.items():
        video = videos.names[key]
        if flags.output:
            videos.extract([path], backbone, console)
        try:
            frames = videos.frames(key, videos.form())
        except FeatureError as error:
            failures[video] = str(error)
            tell(f"failed: {video}: {error}")
            continue
        details = videos.details(path) or {}
        durations[video] = details["duration"]
        if details["notes"]:
            tell(f"note: {video}: {'; '.join(details['notes'])}")
            notes[video] = "; ".join(filter(None, [notes.get(video), *details["notes"]]))
        if flags.output:
            found[video] = _detect(backbone, frames.array, durations[video])
            tell(_line(video, found[video]))
    if flags.output:
        _write(flags, backbone, videos, found, failures, notes, durations, tell)
    else:
        tell(f"features of {len(durations):,} videos: {kept}")
    return SOME_FAILED if failures else DONE


def _create_backbone(flags: argparse.Namespace) -> Backbone:
    """Returns the backbone of the flags; raises ValueError if it cannot do what they ask for."""
    backbone = create_backbone(flags)
    if flags.output and backbone.classify is None:
        raise ValueError(
            f"--backbone={flags.backbone} has no classes of its own: give --backbone=i3d, or keep "
            "its features alone, by --save_features=DIR without --output, and train on them"
        )
    return backbone


def _detect(backbone: Backbone, features: np.ndarray, duration: float) -> list[Detection]:
    assert backbone.classify is not None
    logits = np.asarray(backbone.classify(jnp.asarray(features)), np.float32)
    return detect(logits, backbone.classes, backbone.fps / backbone.stride, duration)


def _line(video: str, detections: list[Detection]) -> str:
    """Returns the best detections on one line."""
    best = [f"{d.label} {d.start:.1f} to {d.end:.1f} s ({d.score:.2f})" for d in detections[:BEST]]
    return f"{video}: {', '.join(best) or 'nothing found'}"


def _write(
    flags: argparse.Namespace,
    backbone: Backbone,
    videos: Videos,
    found: dict[str, list[Detection]],
    failures: dict[str, str],
    notes: dict[str, str],
    durations: dict[str, float],
    tell: Callable[[str], None],
) -> None:
    caution = CAUTION.format(backbone=backbone.name)
    content = official_file(
        official_results(found),
        made_by={"segtad_jax": __version__, "video": dataclasses.asdict(videos.transform)},
        meaning=caution,
        failures=failures,
        notes=notes,
    )
    epath.Path(flags.output).parent.mkdir(parents=True, exist_ok=True)
    files.write_json(flags.output, content)
    tell(f"{len(found):,} videos: {flags.output}")
    tell(caution)
    if not flags.report:
        return
    from segtad_jax.evaluation.report.recordings import write_recordings  # Jinja; not always
    from segtad_jax.video.stills import media_of

    paths = {videos.names[key]: path for key, (path, _) in videos.places.items()}
    write_recordings(
        flags.report,
        found,
        classes=sorted({d.label for detections in found.values() for d in detections}),
        threshold=COUNTED,
        summary=told,
        failures=failures,
        notes=notes,
        title=f"Found by {backbone.name}",
        durations=durations,
        media=lambda video: media_of(flags.report, paths[video], durations[video], len(found)),
        caution=caution,
    )
    tell(f"To look at: {flags.report}")


def _require_ours(path: epath.Path) -> None:
    """Raises ValueError if a file is there that this command did not write."""
    if not path.exists():
        return
    try:
        ours = "video" in json.loads(path.read_bytes())["external_data"]["made_by"]
    except (ValueError, KeyError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise ValueError(f"{path} is there, and is none of this command's: give another --output")
