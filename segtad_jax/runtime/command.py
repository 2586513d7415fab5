"""Exit statuses, environment and error messages that all commands share.

Imports the standard library alone, so that every command answers `--help` at once.
"""

import argparse
import contextlib
import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

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

# What steers a terminal, or the order in which it shows text; and lone surrogates, which no
# encoding has.
_STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def printable(text: str, encoding: str = "utf-8") -> str:
    """Returns text that a terminal shows and does not obey: an escape character as its code.

    What the terminal's encoding lacks is escaped, too.
    """
    shown = _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


class PrintableStream:
    """A text stream through which ids, labels and messages reach the terminal as `printable`."""

    def __init__(self, stream: Any) -> None:
        """Writes to `stream`, which is that of the process."""
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes text as `printable`."""
        return self.stream.write(printable(text, self.stream.encoding or "utf-8"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Parser(argparse.ArgumentParser):
    """A parser of flags that are written in full, and that names the nearest one for a typo."""

    def __init__(self, **how: Any) -> None:
        """Takes the arguments of argparse's."""
        super().__init__(allow_abbrev=False, **how)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Returns the flags; exits with USAGE and a message if they are wrong."""
        for word in sys.argv[1:] if args is None else args:
            name = word.partition("=")[0]
            if re.match("--.", name) and name not in self._option_string_actions:
                near = difflib.get_close_matches(name, self._option_string_actions, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.error(f"unrecognized arguments: {printable(word)}{hint}")
        return super().parse_args(args, namespace)


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
    with (
        contextlib.redirect_stdout(PrintableStream(sys.stdout)),
        contextlib.redirect_stderr(PrintableStream(sys.stderr)),
    ):
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
