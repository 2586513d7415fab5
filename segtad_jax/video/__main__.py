"""Detect actions in videos without training: `python -m segtad_jax.video VIDEOS --output=FILE`.

What is found are the classes that the backbone was trained on, 400 of Kinetics. Features of the
videos are kept, so that after an interruption the same command goes on.

Exit status: 0 done; 1 refused; 2 wrong command line; 3 done, but some videos failed.
"""

import argparse
import sys
from collections.abc import Sequence

from segtad_jax.runtime import command
from segtad_jax.video.flags import add_backbone_flags, add_kept_flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    if not (flags.output or flags.save_features):
        parser.error("give --output=found.json, --save_features=DIR for features alone, or both")
    if flags.report and not flags.output:
        parser.error("--report shows what is detected: give --output=found.json, too")
    return command.run(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> int:
    from segtad_jax.video import work  # JAX; not before the flags are right, nor for --help

    return work.run(flags)


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(
        prog="python -m segtad_jax.video",
        description="Detect the actions that a video backbone knows, without any training; or keep "
        "its features, to train on.",
        epilog="Exit status: 0 done, 1 refused, 2 wrong command line, 3 done but some videos "
        "failed. Nothing leaves this machine. See docs/video.md.",
    )
    add = parser.add_argument
    add("videos", metavar="FILE|FOLDER", help="a video, or a folder of them")
    add("--output", metavar="FILE", help="json of detections, official form")
    add("--report", metavar="FILE", help="one HTML page: each video beside what was found in it")
    add_backbone_flags(parser)
    add_kept_flags(parser, "OUTPUT.features")
    return parser


if __name__ == "__main__":
    sys.exit(main())
