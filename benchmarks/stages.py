"""The network's parts, each compiled alone: the model's own code, entered and left where they meet.

The model is run as a whole, but the parts that are not asked for are skipped, and what they give is
taken from a real run. So there is no second copy of the model here. The parts' sum is not the
whole: XLA fuses across them, and what passes between them is written to memory here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks import measure
from benchmarks.measure import Effort, Row
from segtad_jax.models.segtad import SegTAD

SSN, ALIGN, BOTH = "SSN", "SGAlign", "SGAlign and PDN"
PARTS = (SSN, ALIGN, BOTH)
MODULES = ("SSN", "PDN")
LAYER = ("PDN", "_layer")  # an edge convolution: x comes first and has the result's shape

Batch = Mapping[str, Any]
Given = Mapping[str, Any]  # what modules gave


def run(
    model: SegTAD,
    variables: Any,
    batch: Batch,
    given: Given,
    layers: bool = True,
    train: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outputs of the model and results of its modules; those in `given` are not computed.

    Args:
        model: SegTAD.
        variables: its parameters and statistics.
        batch: features, num_frames and in training seeds.
        given: results of modules, by name.
        layers: whether PDN's edge convolutions are made.
        train: as the model takes it.

    Raises:
        RuntimeError: the model is no longer made of these modules.
    """
    results: dict[str, Any] = {}
    skipped = []

    def interceptor(
        method: Callable, arguments: tuple, keywords: dict, context: nn.module.InterceptorContext
    ) -> Any:
        called = (type(context.module).__name__, context.method_name)
        if called == LAYER and not layers:
            skipped.append(called)
            return arguments[0]
        if called[0] not in MODULES or called[1] != "__call__":
            return method(*arguments, **keywords)
        result = given[called[0]] if called[0] in given else method(*arguments, **keywords)
        results[called[0]] = _copy(result)  # the model empties what it gets
        return _copy(result)

    with nn.intercept_methods(interceptor):
        outputs = model.apply(
            variables,
            batch["features"],
            batch["num_frames"],
            batch.get("seeds"),
            train=train,
            mutable=["batch_stats"] if train else False,
        )
    missing = [name for name in MODULES if name not in results]
    if not layers and "PDN" not in given and not skipped:
        missing.append(".".join(LAYER))
    if missing:
        raise RuntimeError(f"SegTAD no longer calls {', '.join(missing)}: mend benchmarks/stages")
    return (outputs[0] if train else outputs), results


def forward(
    model: SegTAD, part: str, results: Sequence[str] = ()
) -> Callable[[Any, Batch, Given], Any]:
    """A part's forward pass, `(variables, batch, whole) -> its result`.

    Args:
        model: SegTAD.
        part: its name.
        results: which of the part's results are wanted, where they have names; by default all.
    """

    def call(variables: Any, batch: Batch, whole: Given) -> Any:
        result = _part(model, part, variables, batch, whole, train=False)
        return {name: result[name] for name in results} if results else result

    return jax.jit(call)


def training(model: SegTAD, part: str) -> Callable[[Any, Batch, Given], Any]:
    """A part's forward and backward pass, `(variables, batch, whole) -> gradients`.

    Gradients are of its parameters and of what goes into it; what comes from behind stands in for
    the losses' gradient.
    """

    def call(variables: Any, batch: Batch, whole: Given) -> Any:
        own = {k: v for k, v in variables["params"].items() if (k == "ssn") == (part == SSN)}

        def objective(own: Any, decoded: Any) -> jax.Array:
            changed = variables | {"params": variables["params"] | own}
            into = whole | {"SSN": whole["SSN"] | {"decoded": decoded}}
            result = _part(model, part, changed, batch, into, train=True)
            return sum(0.5 * jnp.sum(jnp.square(x)) for x in jax.tree.leaves(result))

        wanted = (0,) if part == SSN else (0, 1)
        return jax.grad(objective, wanted)(own, whole["SSN"]["decoded"])

    return jax.jit(call)


def _part(model: SegTAD, part: str, variables: Any, batch: Batch, whole: Given, train: bool) -> Any:
    own = "SSN" if part == SSN else "PDN"
    given = {name: result for name, result in whole.items() if name != own}
    return run(model, variables, batch, given, layers=part != ALIGN, train=train)[1][own]


def _copy(result: Any) -> Any:
    return jax.tree.map(lambda x: x, result)


def timed(
    functions: Mapping[str, Callable[[], Any]],
    counted: Mapping[str, float],
    videos: float,
    effort: Effort,
) -> list[Row]:
    """A row for each stage.

    Args:
        functions: of the stages, ready to be called.
        counted: GFLOP of a video, of those that are counted.
        videos: that a function takes at once.
        effort: how long and how often.
    """
    return [
        measure.timed(
            f"  {name}", function, effort, counted[name] * videos if name in counted else None
        )
        for name, function in functions.items()
    ]
