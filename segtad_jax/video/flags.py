"""The flags that say what makes features of videos, shared by the commands that take videos."""

import argparse
from typing import TYPE_CHECKING

from segtad_jax.data.feature_flags import positive

if TYPE_CHECKING:
    from segtad_jax.video.backbones import Backbone


def add_backbone_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --backbone, --video_fps and --size."""
    add = parser.add_argument
    names = "i3d, videoprism-b, videoprism-l or package.module:function (default: %(default)s)"
    add("--backbone", default="i3d", metavar="NAME", help=f"makes features of videos: {names}")
    fps = "frames a second that it is given (default: its own, 25 of i3d)"
    add("--video_fps", type=positive(float), metavar="HZ", help=fps)
    size = "of these frames (default: its own, 224 of i3d; 112 is faster and coarser)"
    add("--size", type=positive(int), metavar="PIXELS", help=size)


def add_kept_flags(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds --weights and --save_features.

    Args:
        parser: of a command.
        default: where features are kept without --save_features, for the help.
    """
    add = parser.add_argument
    add("--weights", metavar="FILE", help="of the backbone (default: those that are installed)")
    kept = f"keep the features of videos there, and use those that are (default: {default})"
    add("--save_features", metavar="DIR", help=kept)


def create_backbone(flags: argparse.Namespace) -> "Backbone":
    """Returns the backbone that the flags name, its weights loaded; raises as `create`."""
    from segtad_jax.video.backbones import create

    return create(flags.backbone, fps=flags.video_fps, size=flags.size, weights=flags.weights)
