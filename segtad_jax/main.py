"""Command line: `python -m segtad_jax.main --config FILE[:arguments] --workdir RUN`.

Flags and one call; what it does can be imported from `segtad_jax.run`.
"""

import logging
import os
import sys

from absl import app, flags
from ml_collections import config_flags

from segtad_jax import run

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, with arguments behind a colon: configs/watch.py:paper,runlocal"
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, logs, results.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "What to do.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "RUN or RUN/STEP to evaluate instead of the workdir's latest checkpoint."
)
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Trains or evaluates; a wrong use ends with a message and status 1, without a traceback."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow writes the shards, silently
    # Our own lines alone: the libraries' would bury them.
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    logging.getLogger("absl").setLevel(logging.WARNING)
    logging.getLogger("segtad_jax").setLevel(logging.INFO)
    try:
        if _MODE.value == "train":
            run.train(_CONFIG.value, _WORKDIR.value)
        else:
            run.evaluate_checkpoint(_CONFIG.value, _WORKDIR.value, _CHECKPOINT.value)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        logging.getLogger("segtad_jax").debug("", exc_info=True)
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
