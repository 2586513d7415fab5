"""Videos or features, annotations -> TFRecord data set: python -m segtad_jax.prepare --name=... ...

Exit status: 0 written, and everything that was left out is named; 1 refused, nothing written;
2 wrong command line; 3 `--check` found something that would be left out or changed, other than what
`--ignore`, `--widen`, `--split` and `--blocked` ask for; 4 `--strict` stopped at such a thing.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from segtad_jax.prepare.flags import parse
from segtad_jax.runtime import command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    flags = parse(arguments)
    if not flags.videos:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # TensorFlow only writes files here
    return command.run(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> int:
    from segtad_jax.prepare import build

    return build.run(flags)


if __name__ == "__main__":
    sys.exit(main())
