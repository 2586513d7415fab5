"""Exit statuses, environment and error messages that all commands share.

Imports the standard library alone, so that every command answers `--help` at once.
"""

import os
import sys
from collections.abc import Callable

DONE = 0
FAILED = 1  # wrong use, or an error
USAGE = 2  # wrong command line; argparse exits with it, too, absl with 1
STOPPED = 75  # told to stop (a signal), and saved (EX_TEMPFAIL): the same command resumes
LOST = 76  # another process is missing or was lost: the same command resumes
INTERRUPTED = 130  # by Ctrl-C, where nothing is saved for it; what a shell says of SIGINT
UNREAD = 141  # nobody reads what is printed, as after `| head`; what a shell says of SIGPIPE

# TensorFlow only reads and writes shards here; these keep it from reporting on the CPU.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}

# Wrong use as this package, JAX and the file systems raise it: one line tells all there is to know.
ERRORS = (ValueError, OSError, FloatingPointError, ModuleNotFoundError)


def run(
    act: Callable[[], int | None],
    *,
    debug: bool = False,
    advice: Callable[[Exception], str] = lambda _: "",
) -> int:
    """Does what a command does and returns its exit status.

    Args:
        act: returns the exit status, None for 0. What it raises of `ERRORS` is printed on stderr
            as `error: ...`, and the status is 1; everything else passes.
        debug: let these errors pass, too, for their traceback.
        advice: returns what is printed after an error's message.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        status = act() or DONE
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("stopped (Ctrl-C); run the same command to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still to be flushed
        return UNREAD
    except ERRORS as error:
        if debug:
            raise
        print(f"error: {error}{advice(error)}", file=sys.stderr)
        return FAILED
