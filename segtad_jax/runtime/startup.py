"""Settings made before the first use of JAX, and a line about where a process runs."""

import ctypes
import logging
import os
import pathlib

import jax

log = logging.getLogger(__name__)

# JAX's default of 1 s would leave out the inference step of a small model.
WORTH_KEEPING_SECONDS = 0.2

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of mallopt, in glibc's malloc.h


def keep_compiled_programs() -> None:
    """Keeps compiled programs in the user's cache folder, where the next start finds them.

    All runs share that folder, so a second run, an evaluation and a restart find the programs of
    the first. The run's own folder would not do: these programs are executed, and a run that is
    passed on should hold nothing that is. JAX_COMPILATION_CACHE_DIR names another folder, gs:// for
    machines that come and go; empty, it keeps nothing. Without a folder that can be written, all is
    compiled at every start, which only takes longer. A file that a killed process left half-written
    there does not unpack: JAX warns, and compiles.
    """
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING_SECONDS)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        ours = pathlib.Path(root) / "segtad_jax"
        folder = ours / "compiled"
        ours.mkdir(mode=0o700, parents=True, exist_ok=True)  # whoever writes here runs code
        folder.mkdir(mode=0o700, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} cannot be written")
    except (OSError, RuntimeError) as error:  # RuntimeError: no home
        log.debug("compiled programs are not kept: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def keep_freed_memory() -> None:
    """Tells glibc to keep the memory that a step frees for the next one.

    By default arrays of more than a few MB are new pages of zeros in every step, and what a step
    writes first it waits for: on a CPU more than half of its time (docs/performance.md). One arena,
    as only the first of glibc's can grow beyond 64 MB. Nothing where the C library is another.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1)):
        mallopt(parameter, value)


def facts(batch_size: int) -> str:
    """Returns a line on what this process runs on; `batch_size` is of all processes together."""
    device = jax.devices()[0]
    return (
        f"jax {jax.__version__} on {device.platform} ({device.device_kind}): "
        f"{jax.device_count()} device(s) in {jax.process_count()} process(es); this is process "
        f"{jax.process_index()}, with {jax.local_device_count()} device(s) and "
        f"{batch_size // jax.process_count()} of the {batch_size} windows of a batch"
    )
