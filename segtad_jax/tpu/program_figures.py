"""What the compiler says of a compiled program: memory, flops, bytes, time, collectives."""

import collections
import dataclasses
import re
import time
from typing import Any

import jax
import numpy as np

Shapes = dict[str, jax.ShapeDtypeStruct]

NO_FIGURE = float("nan")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
COLLECTIVE = re.compile(rf"^\s*(?:ROOT )?\S+ = (.+?) ({KINDS})(-start)?\(", re.MULTILINE)
ARRAY = re.compile(r"\b(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Figures:
    """What the compiler says of one step, per device; NaN where it says nothing."""

    fits: bool
    hbm: float = NO_FIGURE  # bytes: arguments, results, temporaries and code
    code: float = 0.0  # bytes
    flops: float = NO_FIGURE
    accessed: float = NO_FIGURE  # bytes
    seconds: float = NO_FIGURE  # its own estimate
    collectives: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    loops: int = 0  # whose bodies count once in all figures but `hbm`
    compiled_in: float = NO_FIGURE  # seconds, on this machine

    @property
    def collective_bytes(self) -> float:
        """Of the results of all collectives."""
        return float(sum(size for _, size in self.collectives.values()))


def compile_step(step: Any, state: Any, batch: Shapes) -> Figures:
    """Compiles `step(state, batch)`.

    Args:
        step: of `parallel`.
        state: shapes.
        batch: shapes.
    """
    started = time.monotonic()
    try:
        compiled = step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Figures(False, hbm=refused_bytes(str(error)), compiled_in=time.monotonic() - started)
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    return Figures(
        True,
        hbm=float(
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
            + memory.generated_code_size_in_bytes
        ),
        code=float(memory.generated_code_size_in_bytes),
        flops=said(cost, "flops"),
        accessed=said(cost, "bytes accessed"),
        seconds=said(cost, "optimal_seconds"),
        collectives=collectives(text),
        loops=len(re.findall(r" while\(", text)),
        compiled_in=time.monotonic() - started,
    )


def said(cost: dict[str, float], key: str) -> float:
    """A figure of cost_analysis, which is negative where the compiler does not know it."""
    value = cost.get(key, NO_FIGURE)
    return value if value > 0 else NO_FIGURE


def refused_bytes(message: str) -> float:
    """What a program needed that the compiler refused, where its message says so."""
    found = re.search(r"(?:Used |\()([\d.]+)([KMGT])\)? (?:of|exceeds)", message)
    return float(found[1]) * UNITS[found[2]] if found else NO_FIGURE


def collectives(text: str) -> dict[str, tuple[int, int]]:
    """How often each kind of collective stands in compiled HLO, and the bytes of its results."""
    counts: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[str] = collections.Counter()
    for result, kind, start in COLLECTIVE.findall(text):
        arrays = [
            (int(bits) if bits else 8) // 8 * int(np.prod([int(n) for n in shape.split(",") if n]))
            for bits, shape in ARRAY.findall(result)
        ]
        if start and kind != "all-reduce":  # its result is (operands, results, ...)
            arrays = arrays[len(arrays) // 2 :]
        counts[kind] += 1
        sizes[kind] += sum(arrays)
    return {kind: (counts[kind], sizes[kind]) for kind in sorted(counts)}
