"""Fields that a config leaves open (None), chosen to fit a data set by rules of thumb.

configs/custom.py opens all of them. Every choice is logged with its reason.
"""

import itertools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from segtad_jax.config.check import check, number_of_proposals
from segtad_jax.config.defaults import ENCODER_STRIDE
from segtad_jax.data.dataset import Dataset
from segtad_jax.data.preparation import REPORT, read_ceilings, read_preparation

log = logging.getLogger(__name__)

ENOUGH = 0.1  # a stride may cost so much of the best possible mAP
MOST_PROPOSALS = 8256  # 128 cells; ActivityNet's T = 1000 at stride 8 has 125
STRIDES = (2, 4, 8, 16)  # of a pyramid, in which fine boundaries cost little
CELLS = (8, 4)  # of its longer proposals: a boundary is within a sixteenth, or an eighth
FEWEST_CELLS = 16  # of the grid, where no ceiling is known
WIDEST_DILATION = 30  # of the paper, for T = 1000
EPOCHS = 15  # of the paper
FEWEST_STEPS, MOST_STEPS = 800, 20_000
MOST_ONE_CLASS = 2  # from so many classes on, a recording is not of one
FEW_WINDOWS = 2000  # below it a smaller model is enough


class Size(NamedTuple):
    """The facts about a data set that the rules look at."""

    window: int  # T that prepare recorded
    windows: int  # that the training split is long
    ceilings: dict[int, float]  # best possible average mAP by stride
    classes: float = 1.0  # different ones in a training recording that has actions, the median


def open_fields(config: ConfigDict) -> list[str]:
    """Returns the fields that a data set has to settle."""
    return [field for field in RULES if config[field] is None]


def fitted(config: ConfigDict, dataset: Dataset) -> ConfigDict:
    """Returns a copy of the config with nothing left open; logs each choice with its reason.

    Raises:
        ValueError: a field that is set cannot be run; or T is open, but prepare did not make the
            data set.
    """
    config = config.copy_and_resolve_references()
    if not (left := open_fields(config)):
        return config
    check(config, partial=True)
    size = _size(config, dataset)
    for field in left:
        value, reason = RULES[field](config, size)
        config.update_from_flattened_dict({field: value})
        log.info("%s = %s: %s", field, value, reason)
    return config


def _size(config: ConfigDict, dataset: Dataset) -> Size:
    preparation = read_preparation(dataset.directory)
    # The demo's data have no report.
    reported = preparation and (dataset.directory / REPORT).exists()
    ceilings = read_ceilings(dataset.directory) if reported else {}
    window = config.data.num_frames or (preparation.window if preparation else 0)
    if not window:
        raise ValueError(
            f"data.num_frames is open, and {dataset.directory} does not say what fits: it was not "
            "made by `python -m segtad_jax.prepare`. Set --config.data.num_frames."
        )
    recordings = dataset.recordings(config.data.train_split)
    windows = sum(max(round(r.num_frames / window), 1) for r in recordings)
    classes = [len(set(r.labels.tolist())) for r in recordings if len(r.labels)]
    return Size(window, windows, ceilings, float(np.median(classes)) if classes else 0.0)


def _window(_: ConfigDict, size: Size) -> tuple[int, str]:
    return size.window, "the T that prepare recorded"


def finest_pyramid(window: int) -> tuple[int, int]:
    """Returns stride and cells of the finest pyramid for windows of T frames."""
    strides = [stride for stride in STRIDES if window % stride == 0] or [1]
    for stride, cells in itertools.product(strides, CELLS):
        if number_of_proposals(window, stride, cells) <= MOST_PROPOSALS:
            return stride, cells
    return strides[-1], CELLS[-1]


def _stride(config: ConfigDict, size: Size) -> tuple[int, str]:
    if config.model.pyramid is None:
        stride, _ = finest_pyramid(config.data.num_frames)
        return stride, f"the finest whose pyramid has at most {MOST_PROPOSALS} proposals"

    def proposals(stride: int) -> int:
        cells = size.window // stride
        return cells * (cells + 1) // 2

    usable = [s for s in (16, 8, 4, 2, 1) if size.window % s == 0]
    known = [s for s in usable if s in size.ceilings]
    if not known:
        stride = next((s for s in usable if size.window >= FEWEST_CELLS * s), usable[-1])
        return stride, f"the largest that divides T = {size.window} into {FEWEST_CELLS} cells"
    affordable = [s for s in known if proposals(s) <= MOST_PROPOSALS] or known[:1]
    best = max(size.ceilings[s] for s in affordable)
    stride = max(s for s in affordable if size.ceilings[s] >= best - ENOUGH)
    listed = ", ".join(f"{s}: {100 * size.ceilings[s]:.1f}" for s in known)
    return stride, (
        f"the largest whose best possible average mAP is within {100 * ENOUGH:.0f} points of the "
        f"best of at most {MOST_PROPOSALS} proposals ({listed})"
    )


def _pyramid(config: ConfigDict, _: Size) -> tuple[int, str]:
    grid = config.data.num_frames, config.model.stride
    fit = [cells for cells in CELLS if number_of_proposals(*grid, cells) <= MOST_PROPOSALS]
    cells = fit[0] if fit else CELLS[-1]
    number = number_of_proposals(*grid, cells)
    return cells, f"{number} proposals, the longer ones with coarser boundaries"


def _mix_style(_: ConfigDict, size: Size) -> tuple[float, str]:
    what = f"a recording has {size.classes:g} classes (median)"
    if size.classes < MOST_ONE_CLASS:
        return 0.0, f"{what}, and what its frames have in common may be what tells them"
    return 1.0, f"{what}: what its frames have in common tells who or where, and is mixed"


def _dilations(config: ConfigDict, _: Size) -> tuple[tuple[int, ...], str]:
    nodes = config.data.num_frames // ENCODER_STRIDE
    widest = max(min(round(WIDEST_DILATION * nodes / 125), WIDEST_DILATION), 4)
    chosen = (1, max(widest // 3, 2), max(2 * widest // 3, 3), widest)
    return chosen, f"as the paper's reach a quarter of 125 nodes, these of {nodes}"


def _snap(config: ConfigDict, _: Size) -> tuple[int, str]:
    return max(config.model.stride // 2, 1), f"half of the grid's stride, {config.model.stride}"


def _width(_: ConfigDict, size: Size) -> tuple[int, str]:
    return (128 if size.windows < FEW_WINDOWS else 256), f"{size.windows} windows to train on"


def _num_bins(config: ConfigDict, _: Size) -> tuple[int, str]:
    frames = config.data.num_frames
    return (16 if frames < 400 else 32), f"T = {frames}; the paper has 32 for T = 400 and more"


def _seeds(config: ConfigDict, _: Size) -> tuple[int, str]:
    cells = config.data.num_frames // config.model.stride
    number = cells * (cells + 1) // 2
    return (25 if number < MOST_PROPOSALS / 2 else 50), f"{number} proposals; the paper has 50"


def _batch_size(_: ConfigDict, size: Size) -> tuple[int, str]:
    return (8 if size.windows < FEW_WINDOWS else 32), f"{size.windows} windows to train on"


def _steps(config: ConfigDict, size: Size) -> tuple[int, str]:
    needed = EPOCHS * size.windows / config.train.batch_size
    steps = int(min(max(-(-needed // 100) * 100, FEWEST_STEPS), MOST_STEPS))
    return steps, f"{EPOCHS} times {size.windows} windows, at least {FEWEST_STEPS} steps"


def _usual(value: Any) -> "Rule":
    return lambda _, __: (value, "what suits most data")


Rule = Callable[[ConfigDict, Size], tuple[Any, str]]
RULES: dict[str, Rule] = {  # in this order: later ones look at what earlier ones chose
    "data.num_frames": _window,
    "model.stride": _stride,
    "model.pyramid": _pyramid,
    "model.dilations": _dilations,
    "model.width": _width,
    "model.num_bins": _num_bins,
    "sampling.seeds": _seeds,
    "augment.mix_style": _mix_style,
    "train.batch_size": _batch_size,
    "train.steps": _steps,
    "eval.snap": _snap,
    "eval.boundary_power": _usual(0.35),
    "eval.class_mean": _usual("geometric"),
    "eval.renormalise": _usual(True),
    "eval.snap_mean": _usual(True),
    "eval.snap_offset": _usual(0.5),
    "eval.sigma": _usual(0.4),
}
