"""The flags that name and describe features, shared by `prepare` and `predict`."""

import argparse
from collections.abc import Callable
from typing import Any

from segtad_jax.data.features import LAYOUTS


def add_feature_flags(parser: argparse.ArgumentParser, features: str, **more: Any) -> None:
    """Adds --features, --rate, --durations and --layout.

    Args:
        parser: of a command.
        features: help for --features, whose value is a list.
        **more: arguments for --features, such as a default.
    """
    add = parser.add_argument
    add("--features", type=comma_separated, help=features, **more)
    add("--rate", type=positive(float), metavar="HZ", help="features (or samples) a second")
    add("--durations", metavar="FILE", help="csv video,duration or json {id: seconds}")
    add("--layout", choices=list(LAYOUTS), default="auto", help="frames or channels first")


def comma_separated(text: str) -> list[str]:
    """Returns the parts of 'A,B', at least one; a type of a flag."""
    parts = [part for part in text.split(",") if part]
    if not parts:
        raise argparse.ArgumentTypeError("names nothing")
    return parts


def positive(kind: type) -> Callable[[str], Any]:
    """Returns the type of a flag: an int or float above 0."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be above 0")
        return value

    return read
