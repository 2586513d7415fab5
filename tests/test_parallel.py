"""Joining processes: what is wrong with the numbers, who is missing; a NaN is found in a step."""

import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segtad_jax.runtime import command, parallel
from tests.tiny_runs import ROOT


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (("host:1234", None, 0), "--coordinator, --num_processes and --process_id go together"),
        ((None, 2, 0), "give all three, or none on TPU pods"),
        (("host", 2, 0), "--coordinator=host is not ADDRESS:PORT, of process 0"),
        (("a:b:1", 2, 0), "--coordinator=a:b:1 is not ADDRESS:PORT"),
        (("host:1234", 2, 2), r"--process_id=2 is not in 0\.\.1, as --num_processes=2 asks"),
        (("[::1]:1234", 2, -1), r"--process_id=-1 is not in 0\.\.1"),
    ],
)
def test_wrong_numbers_are_refused(numbers: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parallel.initialize(*numbers)


def joined(*arguments: object) -> subprocess.CompletedProcess:
    script = (
        "import logging\nlogging.basicConfig()\nfrom segtad_jax.runtime import parallel\n"
        f"parallel.JOIN_SECONDS = 2\nparallel.initialize(*{arguments})"
    )
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("process", [0, 1])
def test_a_process_that_waits_in_vain_says_what_to_check(process: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = joined(f"127.0.0.1:{port}", 2, process)
    assert done.returncode == command.LOST == 76
    assert "not all processes have joined within 2 s" in done.stderr
    assert f"numbers 0 to 1, each once; that process 0 runs at 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif("SLURM_JOB_ID" in os.environ, reason="Slurm says which process this is")
def test_without_a_cluster_the_three_flags_are_named() -> None:
    done = joined()
    assert done.returncode == 1
    assert "--distributed found no TPU pod, Slurm or Kubernetes job" in done.stderr
    assert "--coordinator=ADDRESS:PORT, --num_processes=N and --process_id=I" in done.stderr


def test_debugging_finds_the_operation_that_makes_a_nan() -> None:
    def step(state, batch):
        doubled = 2 * state["a"]  # the state is there still
        return {"a": doubled + jax.lax.psum(jnp.log(batch).sum(), "batch")}, {}

    batch = parallel.shard_batch({"x": -np.ones(8, np.float32)})["x"]
    with (
        jax.debug_nans(True),
        parallel.no_transfers(),
        pytest.raises(FloatingPointError, match="nan") as found,
    ):
        parallel.replicate_step(step)(parallel.replicate({"a": np.ones(3, np.float32)}), batch)
    assert any("jnp.log(batch)" in str(entry.statement) for entry in found.traceback)


def test_a_step_takes_a_batch_that_is_on_the_devices_already() -> None:
    step = jax.jit(lambda batch: batch["x"] * 2)
    on_host = {"x": np.ones((8, 3), np.float32)}
    sharded = parallel.shard_batch(on_host)
    assert sharded["x"].shape == (jax.local_device_count(), 8 // jax.local_device_count(), 3)
    step(sharded)  # compiled
    with parallel.no_transfers():
        step(sharded)
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
            step({"x": np.ones((1, 8, 3), np.float32)})


def test_what_is_on_all_devices_already_is_not_put_there_again() -> None:
    state = parallel.replicate({"a": np.ones(3, np.float32), "b": jnp.zeros(2)})
    again = parallel.replicate(state)
    assert again["a"] is state["a"]
    assert again["b"] is state["b"]
