"""The flags that say how annotations are read, shared by `prepare` and the evaluation."""

import argparse

from segtad_jax.evaluation.entries import UNITS, Reading
from segtad_jax.evaluation.forms.tables import FIELDS


def add_annotation_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --columns, --unit, --label_fps, --clock and --tier."""
    add = parser.add_argument
    columns = "a table's columns by their headers: video=file,start=begin,end=stop,label=activity"
    add("--columns", type=_columns, default={}, metavar="FIELD=COLUMN,...", help=columns)
    unit = "of starts and ends (default: s, or the form's own)"
    add("--unit", choices=[*UNITS, "frames"], help=unit)
    add_label_fps(parser, "frames a second, as annotated, where times are frames")
    clock = "times are of the day; recordings began as the column origin or their dates say"
    add("--clock", action="store_true", help=clock)
    tiers = "tiers whose annotations are the classes, or all (default: the only one)"
    add("--tier", metavar="A,B", help=tiers)


def add_label_fps(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Adds --label_fps."""
    parser.add_argument("--label_fps", type=_rate, metavar="HZ", help=meaning)


def reading_of(flags: argparse.Namespace) -> Reading:
    """Returns the settings that these flags, and --rate, give."""
    return Reading(
        rate=flags.rate,
        unit=flags.unit,
        label_fps=flags.label_fps,
        columns=flags.columns,
        clock=flags.clock,
        tier=flags.tier,
    )


def _columns(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    columns = {name.strip(): column.strip() for name, _, column in pairs}
    wrong = [name for name, column in columns.items() if name not in FIELDS or not column]
    if wrong or len(columns) < len(pairs) or not pairs:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be FIELD=COLUMN, several with commas, as start=begin,label=activity; "
            f"the fields are {', '.join(FIELDS)}, each once"
        )
    return columns


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return rate
