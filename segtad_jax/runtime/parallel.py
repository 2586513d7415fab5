"""One program, its batch divided among all devices: the only place for pmap and collectives.

The state keeps its true shapes (no device axis); a step is a plain function of (state, batch) that
sees its device's part of the batch.
"""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segtad_jax.runtime import command

AXIS = "batch"  # the device axis, over which losses and BatchNorm statistics are summed
HEARTBEAT_SECONDS = 30  # after which a process that died is noticed; 90 by default
JOIN_SECONDS = 300  # within which all processes must have started

PyTree = Any
T = TypeVar("T")

log = logging.getLogger(__name__)


def initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of one run, before any other use of JAX.

    Args:
        coordinator: address:port of process 0; none of the three is needed on TPU pods, Slurm and
            Kubernetes.
        num_processes: how many there are.
        process_id: which of them this is, from 0.

    Raises:
        ValueError: no such process, or nothing here says which this is.

    Where not all of them come, the process ends with `command.LOST` and a message.
    """
    _check_numbers(coordinator, num_processes, process_id)
    # JAX ends the process with a stack trace when its own time is up; ours is up before.
    alarm = threading.Timer(JOIN_SECONDS, _give_up, (coordinator, num_processes))
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            initialization_timeout=2 * JOIN_SECONDS,
        )
    except ValueError as error:
        raise ValueError(
            "--distributed found no TPU pod, Slurm or Kubernetes job that says which process this "
            "is. Elsewhere give --coordinator=ADDRESS:PORT, --num_processes=N and --process_id=I; "
            f"for a single process leave --distributed out. JAX says: {error}"
        ) from error
    finally:
        alarm.cancel()


def _check_numbers(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    if coordinator is None and num_processes is None and process_id is None:
        return
    if coordinator is None or num_processes is None or process_id is None:
        raise ValueError(
            "--coordinator, --num_processes and --process_id go together: give all three, or none "
            "on TPU pods, Slurm and Kubernetes."
        )
    if not re.fullmatch(r"[^:]+:\d+|\[.+\]:\d+", coordinator):
        raise ValueError(f"--coordinator={coordinator} is not ADDRESS:PORT, of process 0.")
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process_id={process_id} is not in 0..{num_processes - 1}, as "
            f"--num_processes={num_processes} asks."
        )


def _give_up(coordinator: str | None, num_processes: int | None) -> None:
    log.error(
        "not all processes have joined within %d s. Check that all of them were started, with the "
        "numbers 0 to %s, each once; that process 0 runs at %s; and that the others reach this "
        "address and port (firewall). Then run the same command on all.",
        JOIN_SECONDS,
        "N - 1" if num_processes is None else num_processes - 1,
        coordinator or "the address that the cluster names",
    )
    os._exit(command.LOST)  # the main thread waits inside of JAX


def is_alone() -> bool:
    """Returns whether this is the only process."""
    return jax.process_count() == 1


def is_main() -> bool:
    """Returns whether this process logs and writes results."""
    return jax.process_index() == 0


def replicate_step(step: Callable, devices: Sequence[jax.Device] | None = None) -> Callable:
    """Compiles a training step `(state, batch) -> (state, metrics)` for all, or these, devices.

    Its results must be equal on all devices, which is not checked: sum over `AXIS` inside. The
    state is donated; `batch` comes from `shard_batch`.
    """
    return jax.pmap(
        step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0, devices=devices
    )


def divide_step(step: Callable, devices: Sequence[jax.Device] | None = None) -> Callable:
    """Compiles `(state, batch) -> outputs` for all, or these, devices, each with its own part.

    Outputs stay where they were made; `local_part` gets this process's to the host.
    """
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=0, devices=devices)


def local_part(outputs: PyTree) -> PyTree:
    """Returns `divide_step`'s outputs for this process's part of the batch, in order: [b, ...]."""

    def part(x: jax.Array) -> np.ndarray:
        shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return np.concatenate([np.concatenate(np.asarray(shard.data)) for shard in shards])

    jax.tree.map(lambda x: x.copy_to_host_async(), outputs)
    return jax.tree.map(part, outputs)


def all_gather(content: bytes) -> list[bytes]:
    """Returns what each process gives, in their order."""
    if is_alone():
        return [content]
    sizes = multihost_utils.process_allgather(np.array(len(content), np.int32))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    everything = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes() for row, size in zip(everything, sizes, strict=True)]


def replicate(state: PyTree) -> PyTree:
    """Puts the state on all devices, where a donated argument must be.

    Arrays that are there already are returned, not copied: donating the result takes them, too.
    """
    sharding = NamedSharding(Mesh(np.array(jax.devices()), (AXIS,)), PartitionSpec())

    def put(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and x.sharding == sharding:
            return x
        return jax.make_array_from_process_local_data(sharding, np.asarray(x))

    return jax.tree.map(put, state)


def shard_batch(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    """Divides this process's part of a batch: [b, ...] -> [local devices, b / local devices, ...].

    The copy to the devices starts at once, while they still work on the batch before; with several
    processes pmap takes the batch from the host.
    """
    devices = jax.local_device_count()
    parts = {k: v.reshape(devices, len(v) // devices, *v.shape[1:]) for k, v in batch.items()}
    if not is_alone():
        return parts
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(parts, NamedSharding(mesh, PartitionSpec(AXIS)))


def no_transfers() -> contextlib.AbstractContextManager:
    """Returns a context in which an implicit transfer to or from a device is an error.

    It allows them with several processes, where pmap takes batches from the host, and with
    `--debug`, where JAX looks at all that a step makes.
    """
    guarded = is_alone() and not jax.config.values["jax_debug_nans"]
    return jax.transfer_guard("disallow") if guarded else contextlib.nullcontext()


def require_shared(folder: epath.Path) -> None:
    """Raises ValueError unless all processes see the same folder."""
    if is_alone():
        return
    drawn = np.random.default_rng().integers(1 << 30, dtype=np.int32)
    token = int(multihost_utils.broadcast_one_to_all(drawn))
    path = folder / f".seen-by-process-0-{token}"
    if is_main():
        folder.mkdir(parents=True, exist_ok=True)
        path.touch()
    multihost_utils.sync_global_devices("workdir written")
    seen = path.exists()
    all_see = multihost_utils.process_allgather(np.array([seen]))
    if is_main():
        path.unlink()
    if not all_see.all():
        blind = np.flatnonzero(~all_see.reshape(-1)).tolist()
        raise ValueError(
            f"--workdir={folder} is not one folder: processes {blind} of {jax.process_count()} do "
            "not see what process 0 writes there. Use a shared file system or gs://."
        )


def require_equal(number: int, otherwise: str) -> None:
    """Raises ValueError unless all processes have the same number."""
    if is_alone():
        return
    numbers = multihost_utils.process_allgather(np.array([number])).reshape(-1)
    if len(set(numbers.tolist())) > 1:
        raise ValueError(f"{otherwise}: {numbers.tolist()}")


@contextlib.contextmanager
def entered_by_main(context: contextlib.AbstractContextManager[T]) -> Iterator[T | None]:
    """Returns a context that process 0 enters; where it cannot, all processes raise its error."""
    with contextlib.ExitStack() as stack:
        if is_alone():
            yield stack.enter_context(context)
            return
        entered, failure = None, ""
        if is_main():
            try:
                entered = stack.enter_context(context)
            except (ValueError, OSError) as error:
                failure = str(error) or repr(error)
        if failure := all_gather(failure.encode())[0].decode():
            raise ValueError(failure)
        yield entered


def wait_for_all(what: str) -> None:
    """Waits until all processes are here."""
    if not is_alone():
        multihost_utils.sync_global_devices(what)


def stop_agreed(step: int) -> bool:
    """Returns whether some process was told to stop and all reached this step (several only)."""
    return not is_alone() and multihost_utils.reached_preemption_sync_point(step)
