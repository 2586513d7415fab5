"""Prints what is in a checkpoint: python -m segtad_jax.checkpoint RUN[/STEP].

Reads no array. Exit status: 0 done; 1 no such checkpoint, or it does not read; 2 wrong command
line.
"""

import sys
from collections.abc import Sequence

from segtad_jax.runtime import command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = command.Parser(
        prog="python -m segtad_jax.checkpoint",
        description="Print what is in a checkpoint.",
        epilog="Exit status: 0 done, 1 no such checkpoint, or it does not read, 2 wrong command "
        "line. See docs/checkpoints.md.",
    )
    parser.add_argument("checkpoint", metavar="RUN[/STEP]", help="a run of segtad_jax.main")
    flags = parser.parse_args(arguments)
    return command.run(lambda: _print(flags.checkpoint))


def _print(checkpoint: str) -> None:
    from segtad_jax.checkpoint.contents import summary

    print(summary(checkpoint))


if __name__ == "__main__":
    sys.exit(main())
