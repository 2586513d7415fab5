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

from segtad_jax.models.segtad import SegTAD

PARTS = {  # the method that is a part
    ("SSN", "__call__"): "SSN",
    ("SegTAD", "_sgalign"): "SGAlign",
    ("PDN", "__call__"): "PDN",
}
BEFORE = {"SSN": None, "SGAlign": "SSN", "PDN": "SGAlign"}  # whose result goes into it

Batch = Mapping[str, Any]
Given = Mapping[str, Any]  # what parts gave


def run(
    model: SegTAD, variables: Any, batch: Batch, given: Given, train: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outputs of the model and results of its parts; those in `given` are not computed.

    Args:
        model: SegTAD.
        variables: its parameters and statistics.
        batch: features, num_frames and in training seeds.
        given: results of parts, by name.
        train: as the model takes it.
    """
    results: dict[str, Any] = {}

    def interceptor(
        method: Callable, arguments: tuple, keywords: dict, context: nn.module.InterceptorContext
    ) -> Any:
        part = PARTS.get((type(context.module).__name__, context.method_name))
        if part is None:
            return method(*arguments, **keywords)
        result = given[part] if part in given else method(*arguments, **keywords)
        results[part] = jax.tree.map(lambda x: x, result)  # the model empties what it gets
        return jax.tree.map(lambda x: x, result)

    with nn.intercept_methods(interceptor):
        outputs = model.apply(
            variables,
            batch["features"],
            batch["num_frames"],
            batch.get("seeds"),
            train=train,
            mutable=["batch_stats"] if train else False,
        )
    if missing := set(PARTS.values()) - set(results):
        raise RuntimeError(f"SegTAD no longer calls {', '.join(sorted(missing))}: mend PARTS")
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

    def call(variables: Any, batch: Batch, given: Given) -> Any:
        result = run(model, variables, batch, _without(given, part))[1][part]
        return {name: result[name] for name in results} if results else result

    return jax.jit(call)


def training(model: SegTAD, part: str) -> Callable[[Any, Batch, Given], Any]:
    """A part's forward and backward pass, `(variables, batch, whole) -> gradients`.

    Gradients are of its parameters and of what goes into it; what comes from behind stands in for
    the losses' gradient.
    """

    def call(variables: Any, batch: Batch, given: Given) -> Any:
        own = {k: v for k, v in variables["params"].items() if _owner(k) == part}
        before = BEFORE[part]
        # Of the SSN's results only the decoded features go on.
        into = None if before is None else given[before]
        into = into["decoded"] if before == "SSN" else into

        def objective(own: Any, into: Any) -> jax.Array:
            changed = _without(given, part)
            if before == "SSN":
                changed["SSN"] = given["SSN"] | {"decoded": into}
            elif before is not None:
                changed[before] = into
            params = variables["params"] | own
            result = run(model, variables | {"params": params}, batch, changed, train=True)[1][part]
            return sum(0.5 * jnp.sum(jnp.square(x)) for x in jax.tree.leaves(result))

        return jax.grad(objective, (0,) if before is None else (0, 1))(own, into)

    return jax.jit(call)


def _without(given: Given, part: str) -> dict[str, Any]:
    return {name: result for name, result in given.items() if name != part}


def _owner(parameter: str) -> str:
    return {"ssn": "SSN", "pdn": "PDN"}.get(parameter, "SGAlign")
