"""What a program's first calls cost in a new process: seconds to compile, and memory."""

import tempfile
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks.measure import MB, Memory, Row, in_fresh_process
from benchmarks.programs import Inference, Training, start
from segtad_jax.runtime import parallel, startup

CALLS = 3  # after which memory no longer grows


def rows(program: str, config: ConfigDict, batch: int) -> list[Row]:
    """Of 'step' or 'inference': a process without compiled programs, then one that finds them."""
    with tempfile.TemporaryDirectory() as cache:
        cold = in_fresh_process(first_calls, program, config.to_dict(), batch, cache)
        warm = in_fresh_process(first_calls, program, config.to_dict(), batch, cache)
    found = [
        Row("parameters made, cold", cold["state"], "s"),
        Row("parameters made, from the cache", warm["state"], "s"),
        Row("first call, cold", cold["call"], "s"),
        Row("first call, from the cache", warm["call"], "s"),
        Row("peak memory above the base", warm["peak"], "MB"),
        Row("  of it, the program's temporaries", warm["temporaries"], "MB"),
    ]
    if warm["device"] is not None:
        found.append(Row("peak memory of a device", warm["device"], "MB"))
    return found


def first_calls(program: str, fields: dict[str, Any], batch: int, cache: str) -> dict[str, Any]:
    """For `in_fresh_process`.

    The base is the process with its imports, JAX's devices and the recordings' features. Above it
    come parameters, inputs, constants, compiled code and what the calls need.
    """
    start()
    jax.config.update("jax_compilation_cache_dir", cache)
    kept = startup.WORTH_KEEPING_SECONDS
    jax.config.update("jax_persistent_cache_min_compile_time_secs", kept)
    jax.devices()
    config = ConfigDict(fields)
    return (_step if program == "step" else _inference)(config, batch)


def _step(config: ConfigDict, batch: int) -> dict[str, Any]:
    training = Training(config, batch)
    memory, started = Memory(), time.perf_counter()
    state = jax.block_until_ready(training.new_state())
    made = time.perf_counter()
    sharded = parallel.shard_batch(training.batch())
    state, _ = jax.block_until_ready(training.step(state, sharded))
    called = time.perf_counter()
    jax.block_until_ready(training.loop(state, CALLS))
    peak, device = memory.peak_mb(), memory.device_mb()
    lowered = training.step.lower(training.new_state(), sharded)
    return _figures(started, made, called, peak, device, lowered)


def _inference(config: ConfigDict, batch: int) -> dict[str, Any]:
    inference = Inference(config, batch, batch)
    memory, started = Memory(), time.perf_counter()
    variables = jax.block_until_ready(inference.variables)
    made = time.perf_counter()
    inference.detect()
    called = time.perf_counter()
    for _ in range(CALLS):
        inference.detect()
    peak, device = memory.peak_mb(), memory.device_mb()
    inputs = parallel.shard_batch(inference.batch())
    lowered = inference.detector.predict_step.lower(parallel.replicate(variables), inputs)
    return _figures(started, made, called, peak, device, lowered)


def _figures(
    started: float, made: float, called: float, peak: float, device: float | None, lowered: Any
) -> dict[str, Any]:
    return {
        "state": made - started,
        "call": called - made,
        "peak": peak,
        "device": device,
        "temporaries": lowered.compile().memory_analysis().temp_size_in_bytes / MB,
    }
