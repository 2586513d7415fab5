"""A first run on a part of the training recordings, which settles what only data can tell.

WORKDIR/rehearsal/STEPS/       a run, with its own report; its recordings are those held aside
WORKDIR/rehearsal/choice.json  what was chosen, and what else was tried
"""

import json
import logging
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from segtad_jax import train
from segtad_jax.checkpoint.store import locate, restore_variables
from segtad_jax.data.dataset import HOLDOUT, split_holdout
from segtad_jax.evaluate import evaluated_split, open_data
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.rehearsal.constants import CANDIDATES, Attempt, choose
from segtad_jax.runtime import parallel
from segtad_jax.runtime.files import write_json
from segtad_jax.runtime.preemption import Stop

log = logging.getLogger(__name__)

FOLDER, FILE = "rehearsal", "choice.json"
STEPS = "train.steps"
SHORTER = 4  # where steps are open a run of so many times fewer is tried, too
FEWEST_ACTIONS = 20  # of the recordings held aside; fewer cannot tell two values apart


def rehearsed(
    config: ConfigDict,
    workdir: epath.PathLike,
    checkpoint: str | None = None,
    stop: Stop | None = None,
) -> ConfigDict:
    """Returns the config with the open fields settled that a rehearsal settles.

    Args:
        config: of the run; `train.rehearsal` is the share of recordings that are held aside.
        workdir: of the run.
        checkpoint: that the run starts from.
        stop: as `train.train` takes it.

    Raises:
        ValueError: as `train.train` does.
    """
    fields = [field for field in (STEPS, *CANDIDATES) if config[field] is None]
    if not config.train.rehearsal or not fields:
        return config
    folder = epath.Path(workdir) / FOLDER
    if (path := folder / FILE).exists():
        chosen = json.loads(path.read_text())["chosen"]
    elif (chosen := _rehearse(config, folder, fields, checkpoint, stop)) is None:
        return config
    config = config.copy_and_resolve_references()
    # A rehearsal of an older version chose less: the rest stays open, as it was then.
    config.update_from_flattened_dict({k: chosen[k] for k in fields if k in chosen})
    return config


def _rehearse(
    config: ConfigDict,
    folder: epath.Path,
    fields: list[str],
    checkpoint: str | None,
    stop: Stop | None,
) -> dict[str, Any] | None:
    share = f"{100 * config.train.rehearsal:g}%"
    first, dataset = open_data(config)
    recordings = dataset.recordings(first.data.train_split)
    rest, held = split_holdout(recordings, share) if len(recordings) > 1 else (recordings, [])
    if (actions := sum(len(r.labels) for r in held)) < FEWEST_ACTIONS:
        log.info(
            "no rehearsal: of %d training recordings %d would be held aside, with %d actions, and "
            "%d are needed; %s keep the values that suit most data",
            *(len(recordings), len(held), actions, FEWEST_ACTIONS, ", ".join(fields)),
        )
        return None
    lengths = [first.train.steps]
    if STEPS in fields:
        lengths.append(max(first.train.steps // SHORTER, 1))
    log.info(
        "rehearsal: before the run itself, %s steps on %d of the %d training recordings choose %s "
        "on the other %d",
        *(" and ".join(map(str, lengths)), len(rest), len(recordings)),
        *(", ".join(fields), len(held)),
    )
    first.data.holdout, first.data.eval_split = share, HOLDOUT
    first.train.eval_every = 0
    attempts = []
    for first.train.steps in lengths:
        metrics = train.train(first, folder / str(first.train.steps), checkpoint, stop=stop)["map"]
        attempts.append(Attempt({STEPS: first.train.steps}, metrics["0.50"], metrics["average"]))
    best = max(attempts, key=lambda attempt: attempt.worth)
    first.update_from_flattened_dict(best.fields)
    run, step = locate(str(folder / str(first.train.steps)))
    model = SegTAD(first, len(dataset.classes))
    like = jax.eval_shape(lambda: create_variables(first, model, dataset.num_channels))
    split = evaluated_split(first, dataset, held)
    constants = [field for field in fields if field != STEPS]
    chosen, trials = choose(first, restore_variables(run, step, like), split, constants)
    chosen = {field: (best.fields | chosen)[field] for field in fields}
    _show(chosen, trials := [*attempts, *trials[1:]])
    if parallel.is_main():
        tried = [trial._asdict() for trial in trials]
        write_json(folder / FILE, {"chosen": chosen, "tried": tried})
    return chosen


def _show(chosen: dict[str, Any], trials: list[Attempt]) -> None:
    for trial in trials:
        what = ", ".join(f"{k} = {v}" for k, v in trial.fields.items())
        log.info("  %-36s mAP@0.5 %.3f, average %.3f", what, trial.map_50, trial.average)
    log.info("chosen: %s", ", ".join(f"{k} = {v}" for k, v in chosen.items()))
