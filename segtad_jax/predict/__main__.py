"""Detect actions in new recordings: python -m segtad_jax.predict --checkpoint=RUN ...

Results are kept in OUTPUT.parts/ while it runs, so that after an interruption the same command goes
on; once it is done, the same command does what has changed since. Several processes share the work
if each has its --process_id. Every video is in the result, or named among the failures in its
`external_data`.

Exit status: 0 done; 1 refused; 2 wrong command line; 3 done, but some videos failed; 4 this
process's share is done, that of another is not.
"""

import argparse
import math
import sys
from collections.abc import Sequence

from segtad_jax.data.feature_flags import add_feature_flags, comma_separated, flags_of_files
from segtad_jax.evaluation.annotation_flags import add_label_fps
from segtad_jax.evaluation.annotation_writers import FORMS
from segtad_jax.runtime import command
from segtad_jax.video.flags import add_kept_flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    if not 0 <= flags.process_id < flags.num_processes:
        parser.error(f"--process_id={flags.process_id} is not in 0..{flags.num_processes - 1}")
    if bool(flags.features) == bool(flags.videos):
        parser.error("give either --features or --videos")
    taken = flags_of_files(flags) + ["--durations"] * bool(flags.durations)
    if flags.videos and taken:
        parser.error(f"--videos know their times: give no {', '.join(taken)}")
    if flags.features and (flags.backbone or flags.weights or flags.save_features):
        parser.error("--backbone, --weights and --save_features are of --videos, not of --features")
    if flags.batch is not None and flags.batch < 1:
        parser.error(f"--batch={flags.batch} is no number of windows: from 1 on")
    if flags.format and not flags.output.endswith(".json"):
        stem = flags.output.removesuffix(FORMS[flags.format[0]].ending)
        parser.error(
            f"--output={flags.output} names the json of all detections, beside which the forms are "
            f"written: --output={stem}.json"
        )
    if "cvat" in flags.format and flags.label_fps is None:
        parser.error("--format=cvat counts in frames of the videos: --label_fps=25")
    if flags.frames and not flags.frames.endswith(".npz"):
        parser.error(f"--frames={flags.frames} is an npz file: --frames={flags.frames}.npz")
    if flags.frames and flags.num_processes > 1:
        parser.error(
            "--frames is written by one process: give each its own --features and --output, or "
            "leave out --num_processes"
        )
    return command.run(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> int:
    from segtad_jax.predict import work  # JAX; not before the flags are right, nor for --help

    return work.run(flags)


def _threshold(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        if math.isfinite(score := float(text)) and score >= 0:
            return score
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"{text!r} is neither auto nor a score: give a number from 0, as 0.3"
    )


def _forms(text: str) -> list[str]:
    names = [name for name in comma_separated(text) if name != "json"]  # which is there always
    if unknown := [name for name in names if name not in FORMS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of json, {', '.join(FORMS)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(
        prog="python -m segtad_jax.predict",
        description="Detect actions in videos, features, raw signals or a prepared data set.",
        epilog="Exit status: 0 done, 1 refused, 2 wrong command line, 3 done but some videos "
        "failed, 4 this share is done, that of another process is not. See docs/data.md.",
    )
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="RUN[/STEP]", help="a run of segtad_jax.main")
    what = "folder or file, several: A,B; or a prepared data set: DATA or DATA/NAME/VERSION"
    add_feature_flags(parser, what)
    videos = "a video, or a folder of them, where the model was trained on videos"
    add("--videos", metavar="DIR", help=videos)
    plug_in = "that the model was trained with, where it is a function, which is to be trusted"
    add("--backbone", metavar="MODULE:FUNCTION", help=plug_in)
    add_kept_flags(parser, "beside --output")
    add("--output", required=True, metavar="FILE", help="json of detections, official form")
    add("--subset", default="testing", help="of a prepared data set (default: %(default)s)")
    add(
        "--threshold",
        type=_threshold,
        metavar="auto|X",
        help="least score of what is shown: auto, the run's own of each class (default, where it "
        "has them), or a number, 0 for everything; --output always has everything",
    )
    forms = f"write the actions above the threshold beside --output, too: {', '.join(FORMS)}"
    add("--format", type=_forms, default=[], metavar="A,B", help=forms)
    add_label_fps(parser, "frames a second of the videos, for the formats that count in frames")
    media = "where an annotation tool finds recording {id} (default: {id}.mp4)"
    add("--media", default="", metavar="videos/{id}.mp4", help=media)
    add(
        "--report",
        metavar="FILE",
        help="one HTML page: what was found when, how often and how long, and what failed",
    )
    frames = "npz of the probabilities of every frame's classes, in the same pass"
    add("--frames", metavar="FILE.npz", help=frames)
    add("--class_scores", metavar="FILE", help="video-level scores of another classifier")
    batch = "windows at once: more for an accelerator with room (default: the run's own)"
    add("--batch", type=int, metavar="N", help=batch)
    add("--num_processes", type=int, default=1, metavar="N", help="that share the work")
    add("--process_id", type=int, default=0, metavar="I", help="which this one is, from 0")
    return parser


if __name__ == "__main__":
    sys.exit(main())
