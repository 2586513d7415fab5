"""Times of the network up to each of its parts: the rows of one table grow to the whole network.

What a row does not need is left out by the compiler, as in the program itself; a part's own time is
the difference of two rows. In training a row is a forward and a backward pass, from squares in
place of the losses. All are for one device's part of the batch.
"""

import functools
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Effort, Measurement, timed
from benchmarks.programs import Program, Training, num_proposals
from segtad_jax.models.segtad import SegTAD

PARTS = ("SSN", "SGAlign", "PDN")


def rows(program: Program, effort: Effort) -> Iterator[Measurement]:
    """A row for each part.

    Raises:
        TimeoutError: the deadline has passed; names the part.
    """
    share = program.size // jax.device_count()
    gflop = 0.0
    for last, part in enumerate(PARTS):
        if time.monotonic() > effort.deadline:
            raise TimeoutError(f"the minutes were spent before {part}")
        gflop += program.counted[part] * share
        name = "  " + ", ".join(PARTS[: last + 1])
        yield timed(name, network(program, part, share), effort, gflop=gflop)


def network(program: Program, part: str, videos: int) -> functools.partial:
    """The network up to a part, for so many videos on the first device; call it with nothing."""
    config, training = program.config.copy_and_resolve_references(), isinstance(program, Training)
    if part == "SGAlign":
        config.model.proposal_layers = 0  # its parameters are in the variables, and not used
    wanted = ["frame_logits"] + ["start_logits", "end_logits"] * training
    wanted += ["proposal_logits"] * (part != "SSN")
    model = SegTAD(config, len(program.dataset.classes))
    state = jax.device_get(program.state)
    seeds = np.linspace(0, num_proposals(config) - 1, config.sampling.seeds).astype(np.int32)
    inputs = [program.inputs[name][:videos] for name in ("features", "num_frames")]
    inputs += [np.broadcast_to(seeds, (videos, len(seeds)))] * training
    variables = state.variables if training else state
    placed = jax.device_put((variables, inputs), jax.local_devices()[0])

    def forward(variables: Any, inputs: Any) -> list[jax.Array]:
        mutable = ["batch_stats"] if training else False
        outputs = model.apply(variables, *inputs, train=training, mutable=mutable)
        return [(outputs[0] if training else outputs)[name] for name in wanted]

    def backward(variables: Any, inputs: Any) -> Any:
        def squares(params: Any) -> jax.Array:
            return sum(jnp.sum(x * x) for x in forward(variables | {"params": params}, inputs))

        return jax.grad(squares)(variables["params"])

    call = jax.jit(backward if training else forward)
    return functools.partial(call, *placed)
