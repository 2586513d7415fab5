"""What training costs: the loop, the step, its stages, compiling, memory.

    python -m benchmarks.step --config configs/activitynet.py [--batch=4] [--json=FILE]

`loop` is what a run does between two lines of its log: batches from memory, steps, metrics. The
stages of the network are forward and backward; all are compiled alone, for one device's part of the
batch: their sum is not the whole.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from benchmarks import command, first_calls, flops, measure, stages
from benchmarks.measure import Effort, Row
from benchmarks.programs import Training, num_sampled, sizes
from segtad_jax import targets
from segtad_jax.models.segtad import SegTAD, grid
from segtad_jax.ops import sampling
from segtad_jax.runtime import parallel

STEPS = 4  # that the loop makes at once


def main(config: ConfigDict, batch: int) -> command.Measured:
    """Measures."""
    rows, peaks = [], None
    if "times" in command.MEASURE.value:
        effort = command.effort()
        measured = functools.partial(times, Training(config, batch), effort)
        rows, peaks = measure.between_peaks(measured, effort)
    if "first" in command.MEASURE.value:
        rows += first_calls.rows("step", config, batch)
    return command.Measured(rows, peaks)


def times(program: Training, effort: Effort) -> list[Row]:
    """The whole and its stages."""
    config = program.config
    size = config.train.batch_size
    forward = flops.gflop(config, *sizes(config), num_sampled(config))
    forward["SSN"] += forward.pop("heads") + forward.pop("boundaries")
    counted = {name: (1 + flops.BACKWARD) * count for name, count in forward.items()}
    total = size * sum(counted.values())
    batch = program.batch()
    state = program.new_state()

    def loop() -> Any:
        nonlocal state
        state = program.loop(state, STEPS)
        return state.step

    def step() -> Any:
        nonlocal state
        state, metrics = program.step(state, parallel.shard_batch(batch))
        return metrics

    counted[stages.BOTH] = counted["SGAlign"] + counted["PDN"]
    rows = [
        measure.timed("loop: everything", loop, effort, total, STEPS),
        measure.timed("step", step, effort, total),
    ]
    share = jax.device_count()
    functions = stage_functions(program, batch, share)
    return rows + stages.timed(functions, counted, size / share, effort)


def stage_functions(program: Training, inputs: dict[str, np.ndarray], share: int) -> dict:
    """Every stage by its name, ready to be called, for a `share`-th of the batch."""
    config, classes = program.config, len(program.dataset.classes)
    model = SegTAD(config, classes)
    state = program.new_state()
    variables = jax.device_put(jax.device_get(state.variables), jax.local_devices()[0])
    batch = jax.device_put({k: v[: len(v) // share] for k, v in inputs.items()})
    proposals = jnp.asarray(grid(config).segments)
    label = functools.partial(
        targets.video_targets,
        proposals=proposals,
        num_frames=config.data.num_frames,
        boundary_radius=config.loss.boundary_radius,
    )
    draw = functools.partial(sampling.draw_seeds, num_seeds=config.sampling.seeds)

    @jax.jit
    def targets_of(batch: dict[str, jax.Array]) -> targets.Targets:
        return jax.vmap(label)(batch["segments"], batch["labels"], batch["valid"])

    @jax.jit
    def seeds_of(batch: dict[str, jax.Array], tiou: jax.Array) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), batch["position"])
        real = proposals[:, 1] <= batch["num_frames"][:, None]
        return jax.vmap(draw)(keys, tiou > config.loss.positive_tiou, real)[0]

    @jax.jit
    def optimise(gradients: Any, state: Any) -> Any:
        updates, moments = program.optimizer.update(gradients, state.opt_state, state.params)
        return optax.apply_updates(state.params, updates), moments

    tiou = targets_of(batch).tiou
    batch["seeds"] = seeds_of(batch, tiou)
    whole = jax.jit(functools.partial(stages.run, model, train=True))(variables, batch, {})[1]
    found = {
        "input": program.batch,
        "targets": functools.partial(targets_of, batch),
        "sampling": functools.partial(seeds_of, batch, tiou),
    }
    for part in stages.PARTS:
        found[part] = functools.partial(stages.training(model, part), variables, batch, whole)
    return found | {"optimiser": functools.partial(optimise, state.params, state)}


if __name__ == "__main__":
    command.run("step", lambda config: config.train.batch_size, main)
