"""The flag `--config`, for every command line that is given a config file."""

import sys

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, with arguments behind a colon: configs/watch.py:paper,runlocal"
)
flags.mark_flag_as_required("config")


def parse(argv: list[str]) -> list[str]:
    """Flags, with one line where a config file, field or argument does not exist."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
