"""The command line of `prepare`: its flags, and which of them go together."""

import argparse
import dataclasses
import re
from collections.abc import Sequence

from segtad_jax.config.defaults import ENCODER_STRIDE
from segtad_jax.data.feature_flags import (
    add_feature_flags,
    comma_separated,
    flags_of_files,
    positive,
)
from segtad_jax.data.resizing import RESIZERS
from segtad_jax.evaluation.annotation_flags import add_annotation_flags
from segtad_jax.prepare.recipes import RECIPES
from segtad_jax.prepare.split import Division
from segtad_jax.runtime import command
from segtad_jax.video.flags import add_backbone_flags, add_kept_flags

# Flags that say where features are, and how they are to be read.
OF_FEATURES = ("features", "recipe", "simulate", "signals", "channels")
OF_VIDEOS = ("video_fps", "size", "weights", "save_features")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the flags; exits with status 2 and a message where they do not go together."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    for wrong, message in _conflicts(flags):
        if wrong:
            parser.error(message)
    flags.split = dataclasses.replace(flags.split, group=flags.group)
    if flags.recipe:
        recipe = RECIPES[flags.recipe]
        flags.name = flags.name or flags.recipe
        flags.signals, flags.rate = "statistics", recipe.SAMPLE_RATE
        flags.window = flags.window or recipe.WINDOW
    if flags.simulate:
        flags.layout = "tc"
        if flags.num_frames:
            flags.rate = None  # as many frames as asked for, whatever the duration
    return flags


def _conflicts(flags: argparse.Namespace) -> list[tuple[object, str]]:
    needed = ["features", "annotations", "name"]
    needed = [] if flags.recipe else needed[1:] if flags.simulate or flags.videos else needed
    needed += [] if flags.check and (flags.save_features or not flags.videos) else ["output"]
    taken = [f"--{name}" for name in OF_FEATURES if getattr(flags, name)] + flags_of_files(flags)
    idle = [name for name in OF_VIDEOS if getattr(flags, name)] if not flags.videos else []
    missing = ", ".join(f"--{name}" for name in sorted(needed) if not getattr(flags, name))
    return [
        (
            flags.recipe and (flags.features or flags.annotations or not flags.source),
            f"--recipe={flags.recipe} takes --source=DIR, no features or annotations",
        ),
        (
            flags.recipe and (flags.ignore or flags.group or flags.split != Division()),
            f"--recipe={flags.recipe} has its own classes and split: no --ignore, --split, --group",
        ),
        (
            flags.split.by_group and not flags.group,
            r"--split=group needs --group=REGEX, as --group='^(s\d+)_'",
        ),
        (
            flags.split.time and flags.group,
            "--split=time:SHARE has everybody on both sides: give no --group",
        ),
        (
            flags.split.time and flags.num_frames,
            "--num_frames resizes whole recordings, --split=time cuts them: give one of them",
        ),
        (missing, f"missing: {missing}"),
        (
            flags.name and not re.fullmatch(r"[a-z][a-z0-9_]*", flags.name),
            f"--name={flags.name} must begin with a letter; it has lower-case ones, digits and _",
        ),
        (
            flags.simulate and (flags.features or flags.signals),
            "--simulate makes the features: give no --features or --signals",
        ),
        (
            flags.videos and taken,
            f"--videos makes the features: give no {', '.join(taken)}",
        ),
        (idle, f"give --videos, or no {', '.join(f'--{name}' for name in idle)}, which is of them"),
        (
            flags.num_frames and flags.window,
            "--num_frames resizes whole recordings, --window cuts them: give one of them",
        ),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(
        prog="python -m segtad_jax.prepare",
        description="Turn videos, features or raw signals, with annotations, into a TFRecord data "
        "set.",
        epilog="Exit status: 0 written, 1 refused, 2 wrong command line, 3 --check found something "
        "that would be left out or changed, 4 --strict stopped at such a thing. See docs/data.md.",
    )
    add = parser.add_argument
    add("--name", default="", help="of the data set: lower-case letters, digits and _")
    add_feature_flags(parser, "folder or file; several: A,B", default=[])
    add("--videos", metavar="DIR", help="a video, or a folder of them, to make features of")
    add_backbone_flags(parser)
    add_kept_flags(parser, "OUTPUT/features")
    forms = "json, csv, files of annotation tools, or a folder of them; several: A,B"
    add("--annotations", type=comma_separated, default=[], help=forms)
    add_annotation_flags(parser)
    background = "classes that are none: background"
    add("--ignore", "--ignored", type=comma_separated, default=[], metavar="A,B", help=background)
    moments = "make actions of so many seconds of moments, whose start is their end"
    add("--widen", type=positive(float), default=0.0, metavar="SECONDS", help=moments)
    split = "who validates: files of ids or of video,subset; a --group; the end of each recording"
    add("--split", type=_division, default=Division(), metavar="A,B|group|time:0.8", help=split)
    group = r"its first parentheses find a person in an id, who is to stand on one side: '^(s\d+)_'"
    add("--group", type=_pattern, metavar="REGEX", help=group)
    add("--output", help="folder of data sets: OUTPUT/NAME/VERSION is written")
    channels = "columns that are the features, in this order: acc_x,acc_y"
    add("--channels", type=comma_separated, default=[], metavar="A,B", help=channels)
    gaps = "in the times: split recordings there, or fill (default: %(default)s)"
    add("--gaps", choices=["split", "fill"], default="split", help=gaps)
    add("--num_frames", type=_frames, metavar="T", help="resize every recording to T frames")
    how = "how (default: half_pixel, in place; linear keeps the corners, as ActivityNet's are made)"
    add("--resize", choices=list(RESIZERS), default="half_pixel", help=how)
    window = "keep recordings whole, look at T frames"
    add("--window", type=positive(int), metavar="T", help=window)
    add("--dtype", choices=["float16", "float32"], default="float16", help="of what is stored")
    add("--signals", choices=["statistics"], help="the arrays are raw signals: make features")
    add("--recipe", choices=list(RECIPES), help="a known data set in --source")
    add("--source", metavar="DIR", help="of the recipe")
    simulated = "draw features of C channels for the annotations, to try everything out"
    add("--simulate", type=positive(int), metavar="C", help=simulated)
    add("--blocked", metavar="FILE", help="ids of videos to leave out")
    add("--workers", type=positive(int), default=2, metavar="N", help="threads (default: 2)")
    beam = "run as a Beam pipeline with these options: '--runner=DirectRunner'"
    add("--beam", type=str.split, metavar="OPTIONS", help=beam)
    add("--check", action="store_true", help="read everything, write nothing")
    add("--strict", action="store_true", help="stop at the first thing that is wrong")
    return parser


def _division(text: str) -> Division:
    if text == "group":
        return Division(by_group=True)
    if not text.startswith("time:"):
        return Division(tuple(comma_separated(text)))
    try:
        share = float(text.removeprefix("time:"))
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(
            f"{text}: expected the share of a recording that trains, as in time:0.8"
        )
    return Division(time=share)


def _pattern(text: str) -> re.Pattern:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error
    if not pattern.groups:
        raise argparse.ArgumentTypeError(
            f"{text!r} has no parentheses to enclose the person, as in {f'({text})'!r}"
        )
    return pattern


def _frames(text: str) -> int:
    frames = positive(int)(text)
    if frames % ENCODER_STRIDE:
        above = (frames // ENCODER_STRIDE + 1) * ENCODER_STRIDE
        raise argparse.ArgumentTypeError(
            f"{text} is not divisible by {ENCODER_STRIDE}, the encoder's stride; use {above}"
        )
    return frames
