"""Command line: `python -m segtad_jax.main --config FILE[:arguments] --workdir RUN`.

Flags and one call; what it does can be imported from `segtad_jax.run`. Exit status: 0 done, 1 wrong
use or an error, 75 told to stop (SIGTERM) and saved, 76 lost another process; after 75 and 76 the
same command goes on.
"""

import errno
import logging
import os
import sys

import jax
from absl import app, flags

from segtad_jax import run
from segtad_jax.config.flag import CONFIG, parse
from segtad_jax.runtime import parallel, preemption, startup
from segtad_jax.tpu import slices

log = logging.getLogger("segtad_jax")  # of the package; this file may be called __main__

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, logs, results.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "compile"], "What to do.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "RUN or RUN/STEP that training starts from with as much as fits, or that is evaluated instead "
    "of the workdir's latest checkpoint.",
)
_TOPOLOGY = flags.DEFINE_multi_string(
    "topology", [], "TPU slices that --mode=compile compiles for: v5e:4x4. No TPU is needed."
)
_PROFILE = flags.DEFINE_string(
    "profile", None, "START:STEPS: trace these steps of training into WORKDIR/profile."
)
_DEBUG = flags.DEFINE_bool(
    "debug", False, "Stop at the operation that gives a NaN, show tracebacks, log more. Slow."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "This is one of several processes; TPU pods, Slurm, Kubernetes say which."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "Elsewhere: address:port of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Elsewhere: how many there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Elsewhere: which this one is, from 0.")
flags.register_multi_flags_validator(
    ["mode", "workdir"],
    lambda given: given["mode"] == "compile" or given["workdir"] is not None,
    "Flag --workdir must have a value other than None.",
)


def main(argv: list[str]) -> None:
    """Trains, evaluates or compiles; a wrong use ends with a message and status 1, no traceback."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _CHECKPOINT.value and _MODE.value == "compile":
        raise app.UsageError("--checkpoint goes with --mode=train and --mode=evaluate")
    if _PROFILE.value and _MODE.value != "train":
        raise app.UsageError("--profile goes with --mode=train")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow writes the shards, silently
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    # Our own lines alone: the libraries' would bury them.
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    # Orbax logs what it raises as well, with every thread's stack.
    logging.getLogger("absl").setLevel(logging.WARNING if _DEBUG.value else logging.CRITICAL)
    jax.config.update("jax_debug_nans", _DEBUG.value)  # not infs: -inf marks what is no candidate
    startup.keep_freed_memory()
    try:
        sys.exit(_act())
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        if _DEBUG.value:
            raise
        sys.exit(f"error: {error}{_after(error)}")
    except preemption.StoppedError:
        log.info("stopped and saved; run the same command to go on")
        sys.exit(preemption.STATUS)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) and not _DEBUG.value:
            sys.exit(
                f"error: the memory of a device is not enough: {str(error).splitlines()[0]}\n"
                "Set a smaller train.batch_size or eval.batch_size, train.rematerialise = True, or "
                "model.dtype = 'bfloat16'."
            )
        if not _DISTRIBUTED.value:
            raise
        log.exception(
            "lost another process; run the same command on all to go on from the last checkpoint"
        )
        os._exit(parallel.LOST_STATUS)  # an orderly exit would wait for the others


def _after(error: Exception) -> str:
    """What to do about a disk that takes no more; Orbax tells of it in the text alone."""
    refusals = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
    if not any(os.strerror(number) in str(error) for number in refusals):
        return ""
    return (
        "\nWhat was saved before is whole. Make room, or give a --workdir that can be written, and "
        "run the same command to go on."
    )


def _act() -> int:
    """What the flags ask for; returns the exit status."""
    if _DISTRIBUTED.value:
        parallel.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    # Compiling for a slice must not look for devices here.
    talks = _DEBUG.value or _MODE.value == "compile" or parallel.is_main()
    told = logging.DEBUG if _DEBUG.value else logging.INFO
    log.setLevel(told if talks else logging.WARNING)
    if _MODE.value == "compile":
        return slices.check_slices(CONFIG.value, _TOPOLOGY.value)
    startup.keep_compiled_programs()
    if _MODE.value == "train":
        run.train(CONFIG.value, _WORKDIR.value, _CHECKPOINT.value, _PROFILE.value)
    else:
        run.evaluate_checkpoint(CONFIG.value, _WORKDIR.value, _CHECKPOINT.value)
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
