"""The flags that name and describe features, shared by `prepare` and `predict`."""

import argparse
from collections.abc import Callable
from typing import Any

from segtad_jax.data.clocks import Clock
from segtad_jax.data.features import LAYOUTS
from segtad_jax.evaluation.entries import UNITS


def add_feature_flags(parser: argparse.ArgumentParser, features: str, **more: Any) -> None:
    """Adds --features, --rate, --time, --durations and --layout.

    Args:
        parser: of a command.
        features: help for --features, whose value is a list.
        **more: arguments for --features, such as a default.
    """
    add = parser.add_argument
    add("--features", type=comma_separated, help=features, **more)
    add("--rate", type=positive(float), metavar="HZ", help="features (or samples) a second")
    times = "column of times, unit s, ms, us or ns; none (default: the one that is found)"
    add("--time", type=_clock, default="", metavar="COLUMN[:UNIT]", help=times)
    add("--durations", metavar="FILE", help="csv video,duration or json {id: seconds}")
    add("--layout", choices=list(LAYOUTS), default="auto", help="frames or channels first")


def flags_of_files(flags: argparse.Namespace) -> list[str]:
    """Returns which of --rate, --time and --layout are given: videos know these of themselves."""
    default = {"rate": None, "time": Clock(""), "layout": "auto"}
    return [f"--{name}" for name, value in default.items() if getattr(flags, name) != value]


def _clock(text: str) -> Clock | None:
    """Returns how times are read: not at all for 'none', '' in any column that has them."""
    column, _, unit = text.rpartition(":")
    clock = Clock(column, unit) if column and unit in UNITS else Clock(text)
    return None if text == "none" else clock


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
