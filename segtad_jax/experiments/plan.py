"""Plans the runs that tables need: one for each different config and seed, whoever asks for it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from segtad_jax.checkpoint.run_folder import FREE_FIELDS
from segtad_jax.config.check import check
from segtad_jax.config.defaults import flatten, with_arguments
from segtad_jax.config.fit import open_fields

PLAIN = "plain"  # the recipe of all experiments
# Fields that change neither weights nor scores, and the seed, which is counted apart.
_NOT_THE_METHOD = (*FREE_FIELDS, "seed", "train.log_every", "train.eval_every", "train.save_every",
                   "train.rematerialise")  # fmt: skip


class Base(NamedTuple):
    """The settings that all runs share, as the command line gives them."""

    file: str  # configs/watch.py
    arguments: tuple[str, ...]  # behind its colon
    overrides: Mapping[str, Any]  # --config.FIELD=VALUE
    config: ConfigDict  # of all of these


class Trial(NamedTuple):
    """One training with its evaluation."""

    ablation: str  # the first of the rows that ask for it
    seed: int
    config: ConfigDict

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.ablation}_seed{self.seed}"


def base(path: str, overrides: Mapping[str, Any], config: ConfigDict) -> Base:
    """Reads `--config=FILE:arguments --config.FIELD=VALUE`.

    Raises:
        ValueError: it sets what the experiments set: the ablation or the seed.
    """
    file, _, argument = path.partition(":")
    arguments = [part.strip() for part in argument.split(",") if part.strip()]
    if ablations := [part for part in arguments if part.startswith("ablation=")]:
        raise ValueError(
            f"--config={path} names {', '.join(ablations)}, but the tables say which ablations "
            "run: leave it out."
        )
    if "seed" in overrides:
        raise ValueError("--config.seed is set, but the runs have seeds 0, 1, ...: use --seeds.")
    return Base(file, tuple(dict.fromkeys([*arguments, PLAIN])), overrides, config)


def trial(base: Base, ablation: str, seed: int) -> Trial:
    """Builds the config that `python -m segtad_jax.main` makes of `command`.

    Raises:
        ValueError: it cannot be run.
    """
    config = base.config.copy_and_resolve_references()
    with_arguments(config, f"{PLAIN},ablation={ablation}")
    config.update_from_flattened_dict({**base.overrides, "seed": seed})
    check(config, partial=True)
    config.model.classifier &= not config.eval.class_scores  # as a run of it does
    return Trial(ablation, seed, config)


def trials(base: Base, ablations: Sequence[str], seeds: int) -> list[Trial]:
    """Returns all different trials, seed 0 of every row first: so tables fill up evenly."""
    different: dict[tuple[str, int], Trial] = {}
    for seed in range(seeds):
        for ablation in ablations:
            one = trial(base, ablation, seed)
            different.setdefault((key(method(one.config)), seed), one)
    return list(different.values())


def method(config: ConfigDict) -> dict[str, Any]:
    """Returns the fields that define what was run, in JSON's types."""
    return without_circumstances(flatten(config))


def without_circumstances(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of flattened fields that can change a result."""
    return {name: value for name, value in fields.items() if name not in _NOT_THE_METHOD}


def fits(wanted: ConfigDict, trained: ConfigDict) -> bool:
    """Checks if a run is of this config, whose open fields the data set has settled."""
    ours, theirs = method(wanted), method(trained)
    settled = open_fields(wanted)
    return all(ours[name] == theirs[name] for name in ours if name not in settled)


def key(method: Mapping[str, Any]) -> str:
    """Returns twelve hexadecimal digits that stand for these fields."""
    text = json.dumps(method, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def command(base: Base, trial: Trial, workdir: epath.PathLike) -> list[str]:
    """Returns the arguments of `python` that train and evaluate a trial."""
    arguments = ",".join([*base.arguments, f"ablation={trial.ablation}"])
    return [
        "-m",
        "segtad_jax.main",
        f"--config={base.file}:{arguments}",
        *(f"--config.{field}={value}" for field, value in base.overrides.items()),
        f"--config.seed={trial.seed}",
        f"--workdir={epath.Path(workdir) / trial.name}",
    ]
