"""Equality of a device and the CPU: losses, gradients and detections of the same videos."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from benchmarks.measure import HIGHEST, Measurement
from benchmarks.programs import Training
from segtad_jax import postprocess
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD
from segtad_jax.ops.videos import over_videos
from segtad_jax.step import create_state, train_step

VIDEOS = 2
NAMES = (
    "losses, relative",
    "gradients, norm of the difference over the norm",
    "proposals' scores, absolute",
    "soft-NMS of equal scores, part of the choices",
)
# Of NAMES, by the device's precision. The forms of a CPU and of an accelerator, both on a CPU, at
# ActivityNet's shapes: 0, 4e-7, 3e-9, 0 in float32, 9e-5, 0.04, 2e-5, 0 in bfloat16; in bfloat16 a
# tiny network has 6e-4, 0.14, 3e-4, 0.
BOUNDS = {
    HIGHEST: (1e-5, 1e-3, 1e-5, 0.05),
    "float32": (1e-3, 5e-2, 1e-3, 0.05),
    "bfloat16": (1e-2, 3e-1, 1e-2, 0.05),
}
GRADIENTS = optax.GradientTransformation(  # its state is the gradients of the last step
    lambda params: params, lambda grads, _, params: (jax.tree.map(jnp.zeros_like, params), grads)
)


def rows(config: ConfigDict, kind: str) -> list[Measurement]:
    """Differences of the first device, at one of the precisions in BOUNDS, from the CPU."""
    cpu, device = jax.devices("cpu")[0], jax.local_devices()[0]
    exact, changed = (config.copy_and_resolve_references() for _ in range(2))
    exact.model.dtype, changed.model.dtype = "float32", kind.partition(",")[0]
    data = Training(exact, VIDEOS * jax.device_count())
    batch = {name: values[:VIDEOS] for name, values in data.inputs.items()}
    with jax.default_device(cpu):
        model = SegTAD(exact, len(data.dataset.classes))
        state = create_state(exact, model, GRADIENTS, data.dataset.num_channels)
    losses, gradients, candidates = _run(model, state, batch, cpu, "highest")
    precision, model = ("highest" if kind == HIGHEST else None), model.clone(config=changed)
    theirs = _run(model, state, batch, device, precision)
    scores = np.where(np.isfinite(candidates.scores), theirs[2].scores - candidates.scores, 0.0)
    chosen, same = (_choices(candidates, exact.eval, place) for place in (cpu, device))
    norm, difference = optax.tree.norm, jax.tree.map(np.subtract, theirs[1], gradients)
    differences = (
        max(abs(theirs[0][name] / loss - 1) for name, loss in losses.items() if loss),
        norm(difference) / norm(gradients),
        np.abs(scores).max(),
        1 - len(chosen & same) / len(chosen),
    )
    rows = []
    for name, value, bound in zip(NAMES, differences, BOUNDS[kind], strict=True):
        note = f"{'within' if value <= bound else 'BEYOND'} {bound}"
        rows.append(Measurement(f"equality, {kind}: {name}", float(value), "", note=note))
    return rows


def _run(model: SegTAD, state: Any, batch: Any, device: Any, precision: str | None) -> tuple:
    """Losses and gradients of a training step, and the candidates for soft-NMS, on a device."""
    config = model.config
    step = functools.partial(train_step, config=config, model=model, optimizer=GRADIENTS)

    @jax.jit
    def run(state: Any, batch: Any) -> Any:
        after, metrics = step(state, batch)
        outputs = model.apply(state.variables, batch["features"], batch["num_frames"])
        where = batch["num_frames"], jnp.zeros((VIDEOS, 2), bool), config.eval, False
        proposals = grid(config)
        candidates = postprocess.process_batch(
            *(outputs, proposals.segments, *where), scales=proposals.scales
        )
        losses = {name: value for name, value in metrics.items() if name.startswith("loss/")}
        return losses, after.opt_state, candidates

    with jax.default_matmul_precision(precision):
        return jax.device_get(run(*jax.device_put((state, batch), device)))


def _choices(candidates: postprocess.Candidates, settings: ConfigDict, device: Any) -> set[tuple]:
    """(video, label, start, end) of all that soft-NMS selects on a device."""
    select = functools.partial(postprocess.select, settings=settings)
    run = jax.jit(functools.partial(over_videos, select))
    selected = jax.device_get(run(jax.device_put(candidates, device)))
    videos = np.indices(selected.labels.shape)[0]
    rows = np.concatenate([np.stack([videos, selected.labels], -1), selected.segments], -1)
    return set(map(tuple, rows.reshape(-1, 4).tolist()))
