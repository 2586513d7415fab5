"""Which runs tables need: one for each different config and seed, whatever rows ask for it."""

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from segtad_jax.checkpoint.run_folder import FREE_FIELDS
from segtad_jax.config.ablations import TABLES
from segtad_jax.config.check import check
from segtad_jax.config.defaults import flatten, with_arguments
from segtad_jax.config.fit import open_fields

PLAIN = "plain"  # the recipe of all experiments
# What changes neither weights nor scores, or is counted apart.
_NOT_THE_METHOD = (*FREE_FIELDS, "seed", "train.log_every", "train.eval_every", "train.save_every",
                   "train.rematerialise")  # fmt: skip


class Base(NamedTuple):
    """What all runs share, as the command line gives it."""

    file: str  # configs/watch.py
    arguments: tuple[str, ...]  # behind its colon
    overrides: Mapping[str, Any]  # --config.FIELD=VALUE
    config: ConfigDict  # of all of these


class Run(NamedTuple):
    """One training."""

    ablation: str  # the first of the rows that ask for it
    seed: int
    config: ConfigDict

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.ablation}_seed{self.seed}"


def base(path: str, overrides: Mapping[str, Any], config: ConfigDict) -> Base:
    """Of `--config=FILE:arguments --config.FIELD=VALUE`.

    Raises:
        ValueError: it says what the experiments have to: the ablation or the seed.
    """
    file, _, argument = path.partition(":")
    given = [part.strip() for part in argument.split(",") if part.strip()]
    if ablations := [part for part in given if part.startswith("ablation=")]:
        raise ValueError(
            f"--config={path} names {', '.join(ablations)}, but the tables say which ablations "
            "run: leave it out."
        )
    if "seed" in overrides:
        raise ValueError("--config.seed is set, but the runs have seeds 0, 1, ...: use --seeds.")
    return Base(file, tuple(dict.fromkeys([*given, PLAIN])), overrides, config)


def table_numbers(text: str) -> list[int]:
    """Of `--table`: 'all' or '3,5'.

    Raises:
        ValueError: no such table.
    """
    if text == "all":
        return list(TABLES)
    known = {str(number): number for number in TABLES}
    given = [part.strip() for part in text.split(",")]
    if unknown := [part for part in given if part not in known]:
        raise ValueError(
            f"--table={text}: there is no table '{unknown[0]}' of ablations in the paper. Known: "
            f"{', '.join(known)}, separated by commas, or all."
        )
    return sorted({known[part] for part in given})


def ablations_of(numbers: Iterable[int]) -> list[str]:
    """The rows of some tables, each once; SegTAD's own of a table first."""
    rows = [[TABLES[n].reference, *(row.ablation for row in TABLES[n].rows)] for n in numbers]
    return list(dict.fromkeys(name for names in rows for name in names))


def config_of(base: Base, ablation: str, seed: int) -> ConfigDict:
    """What `python -m segtad_jax.main` makes of `command`.

    Raises:
        ValueError: it cannot be run.
    """
    config = base.config.copy_and_resolve_references()
    with_arguments(config, f"{PLAIN},ablation={ablation}")
    config.update_from_flattened_dict({**base.overrides, "seed": seed})
    if not config.fit:
        check(config)
    return config


def runs(base: Base, ablations: Sequence[str], seeds: int) -> list[Run]:
    """Seed 0 of every row first, then seed 1: whoever stops has the most telling table by then."""
    found: dict[tuple[str, int], Run] = {}
    for seed in range(seeds):
        for ablation in ablations:
            run = Run(ablation, seed, config_of(base, ablation, seed))
            found.setdefault((key(method(run.config)), seed), run)
    return list(found.values())


def method(config: ConfigDict) -> dict[str, Any]:
    """The fields that say what was run, in JSON's types."""
    return without_circumstances(flatten(config))


def without_circumstances(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those of all flattened fields that can change a result."""
    return {name: value for name, value in fields.items() if name not in _NOT_THE_METHOD}


def fits(wanted: ConfigDict, trained: ConfigDict) -> bool:
    """Whether a run is of this config; a data set has settled what it leaves open."""
    ours, theirs = method(wanted), method(trained)
    settled = open_fields(wanted)
    return all(ours[name] == theirs[name] for name in ours if name not in settled)


def key(method: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that stand for these fields."""
    text = json.dumps(method, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def command(base: Base, run: Run, workdir: epath.PathLike) -> list[str]:
    """The arguments of `python` that train and evaluate a run."""
    arguments = ",".join([*base.arguments, f"ablation={run.ablation}"])
    return [
        "-m",
        "segtad_jax.main",
        f"--config={base.file}:{arguments}",
        *(f"--config.{field}={value}" for field, value in base.overrides.items()),
        f"--config.seed={run.seed}",
        f"--workdir={epath.Path(workdir) / run.name}",
    ]


def shell_lines(base: Base, missing: Iterable[Run], workdir: epath.PathLike) -> str:
    """One line for each run, for a shell or a cluster."""
    lines = [shlex.join(["python", *command(base, run, workdir)]) for run in missing]
    return "".join(line + "\n" for line in lines)
