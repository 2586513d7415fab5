"""All commands of this package: segtad COMMAND ..., or python -m segtad_jax COMMAND ..."""

import difflib
import runpy
import sys

from segtad_jax.runtime.command import USAGE

COMMANDS = {  # verb: (module, arguments before the user's, description)
    "prepare": ("prepare", [], "features and annotations -> data set for training"),
    "train": ("main", ["--mode=train"], "train on a data set, evaluate, report"),
    "evaluate": ("main", ["--mode=evaluate"], "evaluate a checkpoint on a split"),
    "predict": ("predict", [], "detect in features without annotations"),
    "video": ("video", [], "detect what a video backbone knows, without training"),
    "score": ("evaluation", [], "score result files; needs NumPy alone"),
    "inspect": ("checkpoint", [], "print what is in a checkpoint"),
    "export": ("export", [], "write a trained model for use without this package"),
    "experiments": ("experiments", [], "run the paper's tables, with seeds"),
    "compile": ("main", ["--mode=compile"], "does a config fit a TPU slice? needs no TPU"),
}


def main() -> int:
    """Hands over to the command that the first argument names, or lists all; returns the status."""
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in ("--help", "-h", "help"):
        lines = (f"  {name:12} {text}" for name, (_, _, text) in COMMANDS.items())
        print(__doc__, *lines, "\nsegtad COMMAND --help says more of one.", sep="\n")
        return 0
    if verb not in COMMANDS:
        guess = difflib.get_close_matches(verb, COMMANDS, n=1)
        hint = f" Did you mean '{guess[0]}'?" if guess else ""
        print(
            f"error: unknown command '{verb}'.{hint} Known: {', '.join(COMMANDS)}.", file=sys.stderr
        )
        return USAGE
    module, preset, _ = COMMANDS[verb]
    sys.argv[1:] = [*preset, *arguments]
    runpy.run_module(f"segtad_jax.{module}", run_name="__main__", alter_sys=True)  # exits
    return 0


if __name__ == "__main__":
    sys.exit(main())
