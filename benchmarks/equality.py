"""Equality of a device and the CPU: losses, gradients and detections of the same videos."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from benchmarks.measure import HIGHEST, Effort, Measurement
from benchmarks.programs import Training
from segtad_jax import postprocess
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD
from segtad_jax.ops.videos import over_videos
from segtad_jax.step import create_state, train_step

VIDEOS = 2  # of a device
BOUNDS = {  # of NAMES
    HIGHEST: (1e-4, 1e-3, 1e-4, 0.05),
    "float32": (1e-2, 1e-1, 1e-2, 0.05),
    "bfloat16": (3e-2, 3e-1, 3e-2, 0.05),
}
NAMES = (
    "losses, relative",
    "gradients, norm of the difference over the norm",
    "proposals' scores, absolute",
    "soft-NMS of equal scores, part of the choices",
)
GRADIENTS = optax.GradientTransformation(  # its state is the gradients of the last step
    lambda params: params, lambda grads, _, params: (jax.tree.map(jnp.zeros_like, params), grads)
)


def rows(config: ConfigDict, kind: str, effort: Effort) -> list[Measurement]:
    """The largest differences of the first device from the CPU in float32, with their bounds.

    Args:
        config: of the shapes.
        kind: the device's precision, one of BOUNDS.
        effort: not used, each is one call.

    Raises:
        RuntimeError: JAX has no CPU here.
    """
    del effort
    cpu, device = jax.devices("cpu")[0], jax.local_devices()[0]
    exact, changed = (config.copy_and_resolve_references() for _ in range(2))
    exact.model.dtype, changed.model.dtype = "float32", kind.partition(",")[0]
    data = Training(exact, VIDEOS * jax.device_count())
    batch = {name: values[:VIDEOS] for name, values in data.inputs.items()}
    batch["cut"] = np.zeros((VIDEOS, 2), bool)
    model = SegTAD(exact, len(data.dataset.classes))
    with jax.default_device(cpu):
        state = create_state(exact, model, GRADIENTS, data.dataset.num_channels)
    losses, gradients, found = _run(exact, model, state, batch, cpu, "highest")
    precision, model = ("highest" if kind == HIGHEST else None), model.clone(config=changed)
    theirs = _run(changed, model, state, batch, device, precision)
    chosen, same = (_choices(found, exact, place) for place in (cpu, device))
    scores = np.where(np.isfinite(found.scores), theirs[2].scores - found.scores, 0.0)
    differences = (
        max(abs(theirs[0][name] / loss - 1) for name, loss in losses.items() if loss),
        _norm(jax.tree.map(np.subtract, theirs[1], gradients)) / _norm(gradients),
        np.abs(scores).max(),
        1 - len(chosen & same) / len(chosen),
    )
    return [
        Measurement(
            f"equality, {kind}: {name}",
            float(difference),
            "",
            note=f"{'within' if difference <= bound else 'BEYOND'} {bound}",
        )
        for name, difference, bound in zip(NAMES, differences, BOUNDS[kind], strict=True)
    ]


def _run(
    config: ConfigDict, model: SegTAD, state: Any, batch: Any, device: Any, precision: str | None
) -> tuple[dict[str, float], Any, postprocess.Candidates]:
    """Losses and gradients of a training step, and the candidates for soft-NMS, on a device."""
    segments = grid(config).segments

    @jax.jit
    def run(state: Any, batch: Any) -> Any:
        settings = {"config": config, "model": model, "optimizer": GRADIENTS}
        after, metrics = train_step(state, batch, **settings)
        outputs = model.apply(state.variables, batch["features"], batch["num_frames"])
        where = batch["num_frames"], batch["cut"]
        candidates = postprocess.of_batch(outputs, segments, *where, config.eval, finish=False)
        losses = {name: value for name, value in metrics.items() if name.startswith("loss/")}
        return losses, after.opt_state, candidates

    with jax.default_matmul_precision(precision):
        return jax.device_get(run(*jax.device_put((state, batch), device)))


def _choices(candidates: postprocess.Candidates, config: ConfigDict, device: Any) -> set[tuple]:
    """(video, label, start, end) of all that soft-NMS selects on a device."""
    select = functools.partial(postprocess.select, settings=config.eval)
    placed = jax.device_put(candidates, device)
    selected = jax.device_get(jax.jit(functools.partial(over_videos, select))(placed))
    videos = np.broadcast_to(np.arange(VIDEOS)[:, None], selected.labels.shape)
    columns = videos, selected.labels, *np.moveaxis(selected.segments, -1, 0)
    return set(zip(*(column.ravel().tolist() for column in columns), strict=True))


def _norm(tree: Any) -> float:
    return float(
        np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(tree)))
    )
