"""Train, evaluate or compile: python -m segtad_jax.main --config FILE --workdir RUN ...

Exit status: 0 done, 1 wrong use or an error, 75 stopped (SIGTERM, Ctrl-C, SIGHUP) and saved, 76
lost another process, 130 interrupted; after 75, 76 and 130 the same command resumes.
"""

# What this file calls is imported where it is called, so that --help answers at once.

import contextlib
import errno
import logging
import os
from typing import TYPE_CHECKING

from absl import flags

from segtad_jax.config import flag
from segtad_jax.config.flag import CONFIG
from segtad_jax.runtime import command

if TYPE_CHECKING:
    from segtad_jax.runtime import preemption

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
    "topology", [], "TPU slice that --mode=compile compiles for: v5e:4x4. No TPU is needed."
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


def main() -> int:
    """Trains, evaluates or compiles; returns the exit status."""
    return command.run(_act, debug=_DEBUG.value, advice=_advice)


def _act() -> int:
    # Our own lines alone: the libraries' would bury them.
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    # Orbax logs what it raises as well, with every thread's stack.
    logging.getLogger("absl").setLevel(logging.WARNING if _DEBUG.value else logging.CRITICAL)
    if not _WORKDIR.value and _MODE.value != "compile":
        raise ValueError("--workdir is missing: give the run a folder, as --workdir=runs/mine")
    if _CHECKPOINT.value and _MODE.value == "compile":
        raise ValueError("--checkpoint goes with --mode=train and --mode=evaluate")
    if _PROFILE.value and _MODE.value != "train":
        raise ValueError("--profile goes with --mode=train")
    import jax

    from segtad_jax.runtime import lease, parallel, preemption, startup

    jax.config.update("jax_debug_nans", _DEBUG.value)  # not infs: -inf marks what is no candidate
    startup.keep_freed_memory()
    stop = preemption.Stop(exits=True)
    try:
        with contextlib.nullcontext() if _MODE.value == "compile" else stop.listening():
            if _DISTRIBUTED.value:
                parallel.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
                stop.joined()
            # Compiling for a slice must not look for devices here.
            verbose = _DEBUG.value or _MODE.value == "compile" or parallel.is_main()
            level = logging.DEBUG if _DEBUG.value else logging.INFO
            log.setLevel(level if verbose else logging.WARNING)
            return _run_mode(stop)
    except preemption.StoppedError:
        log.info("stopped and saved; run the same command to go on")
        return command.STOPPED
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) and not _DEBUG.value:
            raise ValueError(
                f"the memory of a device is not enough: {str(error).splitlines()[0]}\n"
                "Set a smaller train.batch_size or eval.batch_size, train.rematerialise = True, or "
                "model.dtype = 'bfloat16'."
            ) from error
        if not _DISTRIBUTED.value:
            raise
        log.exception(
            "lost another process; run the same command on all to go on from the last checkpoint"
        )
        lease.release_all()
        os._exit(command.LOST)  # an orderly exit would wait for the others


def _run_mode(stop: "preemption.Stop") -> int:
    if _MODE.value == "compile":
        from segtad_jax.tpu.compile import check_slices

        return check_slices(CONFIG.value, _TOPOLOGY.value)
    from segtad_jax import evaluate, train
    from segtad_jax.rehearsal.plan import rehearsed
    from segtad_jax.runtime import startup

    startup.keep_compiled_programs()
    if _MODE.value == "train":
        config = rehearsed(CONFIG.value, _WORKDIR.value, _CHECKPOINT.value, stop)
        train.train(config, _WORKDIR.value, _CHECKPOINT.value, _PROFILE.value, stop)
    else:
        evaluate.evaluate_checkpoint(CONFIG.value, _WORKDIR.value, _CHECKPOINT.value)
    return command.DONE


def _advice(error: Exception) -> str:
    """Returns what to do about a full disk; Orbax names the cause in its text alone."""
    refusals = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
    if not any(os.strerror(number) in str(error) for number in refusals):
        return ""
    return (
        "\nWhat was saved before is whole. Make room, or give a --workdir that can be written, and "
        "run the same command to go on."
    )


if __name__ == "__main__":
    flag.run(main)
