"""The flag `--config`, and what the commands that have it share."""

import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags
from ml_collections import config_flags

from segtad_jax.config.defaults import SWITCHES

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, with switches behind a colon: configs/watch.py:paper,runlocal"
)
flags.mark_flag_as_required("config")

HELP = ("--help", "-help", "-h", "--helpshort", "-helpshort", "-?", "--?")
ABOUT_CONFIG = f"""
{flags.text_wrap("Switches behind the colon, separated by commas: " + ", ".join(SWITCHES), 100)}
A field is set by --config.GROUP.FIELD=VALUE; segtad_jax/config/defaults.py lists all with comments.
"""


def run(main: Callable[[], int]) -> NoReturn:
    """Parses the flags and exits with the status that `main` returns.

    `--help` prints the flags of the command's own file, and `--config`, and exits with 0.
    """

    def main_without_arguments(argv: list[str]) -> int:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments: {argv[1:]}")
        return main()

    app.run(main_without_arguments, flags_parser=parse)


def parse(argv: list[str]) -> list[str]:
    """Flags, with one line where a config file, field or argument does not exist."""
    if not set(HELP).isdisjoint(argv[1:]):
        print(_help())
        sys.exit(0)
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _help() -> str:
    lines = [sys.modules["__main__"].__doc__ or ""]
    command_flags = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    for flag in sorted([flags.FLAGS[CONFIG.name], *command_flags], key=lambda flag: flag.name):
        name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
        lines.append(flags.text_wrap(f"{name}: {flag.help}", 100, "    ", "  "))
    return "\n".join([*lines, ABOUT_CONFIG])
