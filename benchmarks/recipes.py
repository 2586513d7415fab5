"""The untouched recipe on prepared data sets: mAP over seeds, as a Markdown table.

    python -m benchmarks.recipes --output=RUNS [--seeds=0,1,2] DATA [DATA ...] [--config.FIELD=X]

Each run is the command that prepare prints, with the fields that are given. What is finished in
RUNS is not trained again and what was stopped goes on, so rows and seeds can be added.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segtad_jax.data.dataset import find_all

SHOWN = ("0.50", "0.70", "average")
CHOSEN = ("data.num_frames", "model.stride", "model.pyramid", "train.steps")


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--seeds", default="0,1,2", help="of the runs, with commas")
    parser.add_argument("--config", default="custom", help="as of segtad_jax.main")
    parser.add_argument("data", nargs="+", help="prepared data sets, or folders with one")
    flags, fields = parser.parse_known_args(arguments)
    seeds = flags.seeds.split(",")
    runs = {
        str(path): [flags.output / path.parent.name / seed for seed in seeds]
        for data in flags.data
        for path in find_all(data)
    }
    for path, workdirs in runs.items():
        for seed, workdir in zip(seeds, workdirs, strict=True):
            command = ["-m", "segtad_jax.main", f"--config={flags.config}", f"--workdir={workdir}"]
            command += [f"--config.data.dir={path}", f"--config.seed={seed}", *fields]
            subprocess.run([sys.executable, *command], check=True, stdout=sys.stderr)
    print(table({Path(path).parent.name: workdirs for path, workdirs in runs.items()}))


def table(runs: dict[str, list[Path]]) -> str:
    """Returns a row for each data set: mean and range over its finished runs, what they chose."""
    titles = ["data", *(f"mAP@{name}" if name[0] == "0" else name for name in SHOWN), *CHOSEN]
    rows = [titles, ["---"] * len(titles)]
    for name, workdirs in runs.items():
        scores = [_content(workdir / "metrics.json")["map"] for workdir in workdirs]
        configs = [_content(workdir / "config.json") for workdir in workdirs]
        cells = [_spread([score[shown] for score in scores]) for shown in SHOWN]
        chosen = [", ".join(sorted({str(c[field]) for c in configs})) for field in CHOSEN]
        rows.append([name, *cells, *chosen])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _content(path: Path) -> dict:
    return json.loads(path.read_text())


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
