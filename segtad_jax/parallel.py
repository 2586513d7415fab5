"""The only place that knows pmap: one program, its batch divided among the devices.

The state keeps its true shapes (no device axis); a step is a plain function of (state, batch).
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"  # the device axis, over which losses and BatchNorm statistics are summed

PyTree = Any


def data_parallel(step: Callable, *, replicated_output: bool) -> Callable:
    """Compiles `step(state, batch)` for all local devices; `batch` has a leading device axis.

    Args:
        step: every array it returns must be equal on all devices where `replicated_output`
            (this is not checked: sum over `AXIS` inside).
        replicated_output: a training step, whose state is donated and comes back without a device
            axis; otherwise outputs keep the device axis, as `merge` undoes.
    """
    if replicated_output:
        return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=0)


def replicate(state: PyTree) -> PyTree:
    """The state on all devices; needed before the first donated call."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def shard_batch(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """[b, ...] -> [devices, b / devices, ...]."""
    devices = jax.local_device_count()
    return {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in batch.items()}


def merge(outputs: PyTree) -> PyTree:
    """Outputs of a step on the host: [devices, b / devices, ...] -> [b, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), jax.device_get(outputs))
