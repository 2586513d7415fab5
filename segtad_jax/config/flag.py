"""The flag `--config`, and what the commands that have it share."""

import re
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from segtad_jax.config import files
from segtad_jax.config.check import unknown_field
from segtad_jax.config.defaults import SWITCHES, default, flatten

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config, with switches behind a colon: watch, or FILE.py:paper,runlocal"
)
flags.register_validator(
    CONFIG.name,
    lambda config: config is not None,
    "give a file, or the name of a config of the package, as --config=custom",
)
PRINT = flags.DEFINE_bool("print_config", False, "Print the config with its comments, and stop.")


class _ConfigFile(flags.ArgumentParser):
    def parse(self, argument: str) -> ConfigDict:
        return files.load(argument)


class _Integer(flags.ArgumentParser):
    def parse(self, argument: str) -> int | None:
        return None if argument == "None" else flags.IntegerParser().parse(argument)


class _Float(flags.ArgumentParser):
    def parse(self, argument: str) -> float:
        try:
            return float(argument)
        except ValueError:
            raise ValueError("it must be a number; this field cannot be left open") from None


flags.FLAGS[CONFIG.name].parser = _ConfigFile()  # ml_collections' own adds a traceback to errors
config_flags.register_flag_parser_for_type(int, _Integer())  # None opens a field
config_flags.register_flag_parser_for_type(float, _Float())

HELP = ("--help", "-help", "-h", "--helpshort", "-helpshort", "-?", "--?")


def run(main: Callable[[], int]) -> NoReturn:
    """Parses the flags and exits with the status that `main` returns.

    `--help` prints the command's own flags and what `--config` takes, and exits with 0.
    """

    def main_without_arguments(argv: list[str]) -> int:
        if len(argv) > 1:
            sys.exit(f"error: unexpected arguments: {argv[1:]}")
        return main()

    app.run(main_without_arguments, flags_parser=parse)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags and returns the arguments that are none; exits with one line on an error."""
    if not set(HELP).isdisjoint(argv[1:]):
        _print(_help())
    try:
        _require_fields(argv)
        rest = flags.FLAGS(argv)
    except (flags.Error, ValueError, AttributeError, KeyError) as error:
        sys.exit(f"error: {error}")
    config, given = CONFIG.value, config_flags.get_override_values(flags.FLAGS[CONFIG.name])
    for field in [field for field, value in given.items() if value == (None,)]:
        given[field] = None  # ml_collections makes a tuple of --config.model.dilations=None
        config.update_from_flattened_dict({field: None})
    if PRINT.value:
        _print(files.listing(config))
    return rest


def _print(text: str) -> NoReturn:
    """Prints, and exits with 0, or silently where nobody reads it to its end, as `| head`."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    print(text, flush=True)
    sys.exit(0)


def _require_fields(argv: list[str]) -> None:
    fields = flatten(default())
    known = fields.keys() | {field.partition(".")[0] for field in fields}
    for argument in argv[1:]:
        if (given := re.match(r"--?(?:no)?config\.([\w.]+)", argument)) and given[1] not in known:
            raise ValueError(f"{argument}: {unknown_field(given[1])}")


def _help() -> str:
    shared = [flags.FLAGS[CONFIG.name], flags.FLAGS[PRINT.name]]
    described = [*shared, *flags.FLAGS.get_key_flags_for_module(sys.argv[0])]
    lines = [sys.modules["__main__"].__doc__ or ""]
    for flag in sorted(described, key=lambda flag: flag.name):
        name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
        lines.append(flags.text_wrap(f"{name}: {flag.help}", 100, "    ", "  "))
    about = {
        "Configs that come with the package": ", ".join(files.shipped()),
        "Switches behind the colon, separated by commas": ", ".join(SWITCHES),
        "Fields": "--config.GROUP.FIELD=VALUE sets one, as --config.train.steps=500; "
        "--config=watch --print_config lists all of them, with comments",
    }
    lines += [
        "",
        *(flags.text_wrap(f"{name}: {text}.", 100, "  ", "") for name, text in about.items()),
    ]
    return "\n".join(lines)
