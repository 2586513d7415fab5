"""A trained model for use without this package: python -m segtad_jax.export --checkpoint=RUN ...

Writes a folder: the whole of inference through jax.export, the parameters as safetensors, what both
are in JSON, and an example that runs it. Exit status: 0 done; 1 refused; 2 wrong command line.
"""

import argparse
import sys
from collections.abc import Sequence

from segtad_jax.runtime import command

PLATFORMS = ("cpu", "cuda", "tpu")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    platforms = flags.platforms.split(",")
    for name in platforms:
        if name not in PLATFORMS:
            parser.error(f"--platforms: '{name}' is none of {', '.join(PLATFORMS)}")
    return command.run(lambda: _run(flags.checkpoint, flags.output, platforms))


def _run(checkpoint: str, output: str, platforms: Sequence[str]) -> None:
    from segtad_jax.export.build import write

    write(checkpoint, output, platforms)


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(
        prog="python -m segtad_jax.export",
        description="Write a trained model for use without this package.",
        epilog="Exit status: 0 done, 1 refused, 2 wrong command line. See docs/checkpoints.md.",
    )
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="RUN[/STEP]", help="a run of segtad_jax.main")
    add("--output", required=True, metavar="DIR", help="folder to write; must not be there")
    names = ",".join(PLATFORMS)
    add("--platforms", default=names, metavar=names, help="to lower for (default: all of them)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
