"""The fields that `:paper` leaves as a config has them, and why: said at the start of a run."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from segtad_jax.config.ablations import ABLATIONS
from segtad_jax.config.defaults import ENCODER_STRIDE, PAPER

OPEN: Mapping[str, str] = {  # of model, sampling and loss: the paper has no value that can be set
    "model.width": "C' is not given",
    "model.dtype": "not given",
    "loss.l2": "weight 1 of 'the L2 norm' cannot be meant: it is coupled, on kernels",
}
# What Table 1 or 2 was trained and scored by: whether a value is theirs, and what they have.
PROTOCOL: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "data.num_frames": (lambda n: n in (1000, 400), "1000 on ActivityNet, 400 on HACS"),
    "optim.schedule": (lambda name: name == "step", "'step': a tenth after 7 of 15 epochs"),
    "optim.learning_rate": (lambda rate: rate in (1e-5, 2e-3), "1e-5 on ActivityNet, 2e-3 on HACS"),
    "optim.warmup_steps": (lambda steps: steps == 0, "none"),
    "eval.class_scores": (bool, "UntrimmedNets' or TSM's; here the segmentation's"),
}
NOT_GIVEN = ("train.batch_size", "eval.sigma")
_ABLATED = {field for fields in ABLATIONS.values() for field in fields}


def remarks(config: ConfigDict) -> list[str]:
    """Returns lines that say what is not the paper's in a config that is otherwise; else none.

    A config is the paper's if it has all that `:paper` sets, but for a row of Tables 3 to 8.
    """
    if any(config[field] != value for field, value in PAPER.items() if field not in _ABLATED):
        return []
    other = [field for field, (theirs, _) in PROTOCOL.items() if not theirs(config[field])]
    protocol = "not Table 1's or 2's protocol" if other else "Table 1's or 2's protocol"
    lines = [f":paper: model, sampling and losses to the letter; {protocol}. Left as they are:"]
    lines += [f"  {field} = {config[field]!r}: {why}" for field, why in OPEN.items()]
    lines += [f"  {field} = {config[field]!r}: not given" for field in NOT_GIVEN]
    lines += [f"  {field} = {config[field]!r}; the paper: {PROTOCOL[field][1]}" for field in other]
    nodes = (config.data.num_frames or 0) // ENCODER_STRIDE
    if nodes and (beyond := [d for d in config.model.dilations if d >= nodes]):
        lines.append(f"  model.dilations: {beyond} reach beyond {nodes} snippets: each sees itself")
    return lines
