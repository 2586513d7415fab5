"""The one check of a config: each error has the field, its value, and what to do."""

import difflib
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from ml_collections import ConfigDict

from segtad_jax.config.defaults import ENCODER_STRIDE, default, flatten
from segtad_jax.config.stored import ANY_DATA, OPENABLE, REMOVED

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "data.source": ("prepared", "watch", "synthetic"),
    "model.dtype": ("float32", "bfloat16"),
    "model.aggregate": ("sum", "mean", "max"),
    "model.decoder_stride": (1, 4),
    "model.interpolation": ("constant", "linear"),
    "model.similarity": ("tiou", "center"),
    "sampling.second_hop": ("own", "remaining"),
    "sampling.edges": ("tree", "list"),
    "optim.schedule": ("step", "cosine"),
    "eval.fusion": ("product", "sqrt"),
    "eval.class_mean": ("arithmetic", "geometric"),
}

POSITIVE = (
    *("data.num_frames", "data.num_channels", "data.num_classes"),
    *("model.width", "model.snippet_neighbours", "model.stride", "model.num_bins"),
    *("model.proposal_neighbours", "sampling.seeds", "augment.mix_concentration"),
    *("augment.mask_frames", "train.batch_size", "train.steps", "train.log_every", "train.keep"),
    *("eval.batch_size", "eval.top_classes", "eval.sigma", "eval.max_detections"),
)
OFF_AT_0 = (
    *("model.pyramid", "model.context", "loss.snap", "augment.rotate_degrees", "augment.masks"),
    *("train.eval_every", "train.save_every", "eval.snap", "eval.boundary_power"),
)
SHARES = ("augment.mix_style", "eval.snap_offset", "eval.least_precision", "train.rehearsal")
CHANNELS = ("augment.mirror", "augment.rotate")  # each a tuple of channels of the features
BRANCHES = {"graph", "atrous", "global"}


def check(config: ConfigDict, num_devices: int = 1, *, partial: bool = False) -> None:
    """Checks that a config can be run.

    Args:
        config: of a run.
        num_devices: that share a batch.
        partial: fields may be open; the rules that relate fields to each other then have to wait.

    Raises:
        ValueError: with the offending numbers and what to do.
    """
    for fault in _faults(config, num_devices, partial):
        raise ValueError(fault)


def number_of_proposals(num_frames: int, stride: int, pyramid: int) -> int:
    """Returns M, of Eq. 8 or of a pyramid (`ops.proposals.proposal_pyramid`)."""
    cells = num_frames // stride
    total, shortest, longest = 0, 1, 2 * pyramid or cells
    while cells >= shortest:
        lengths = range(shortest, min(longest, cells) + 1)
        total += sum(cells - length + 1 for length in lengths)
        shortest, cells = pyramid + 1, cells // 2 if pyramid else 0
    return total


def require_dividing(batch_size: int, num_devices: int) -> None:
    """Raises ValueError if the devices do not divide the batch of a run that goes on."""
    if batch_size % num_devices:
        counts = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
        fewer = max(n for n in counts if n < num_devices)
        raise ValueError(
            f"{num_devices} devices do not divide train.batch_size = {batch_size} of this run, "
            f"which stays as it is. Go on with {fewer} of them, as by CUDA_VISIBLE_DEVICES="
            f"{','.join(map(str, range(fewer)))}, or on a machine with one of these numbers of "
            f"devices: {', '.join(map(str, counts))}."
        )


def check_data(config: ConfigDict, num_channels: int, num_classes: int, owner: str) -> None:
    """Checks that a data set has what the config says, and the channels that augmentation names.

    Args:
        config: of a run.
        num_channels: C of the data.
        num_classes: D of the data.
        owner: of these numbers, for the message: the directory of a data set, or fields.

    Raises:
        ValueError: with both numbers and what to do.
    """
    for field, number in zip(ANY_DATA, (num_channels, num_classes), strict=True):
        if config[field] not in (None, number):
            raise ValueError(
                f"{field} = {config[field]}, but {owner} has {number}. Use the data set that the "
                f"config is for, or set {field} to {number}."
            )
    for field in CHANNELS:
        channels = config[field] or (0,)
        first, last = min(channels), max(channels)
        if first < 0 or last >= num_channels:
            raise ValueError(
                f"{field} names channels {first} to {last}, but those of {owner} are 0 to "
                f"{num_channels - 1}. Name channels that are there, or set {field} to ()."
            )


def unknown_field(name: str) -> str:
    """Returns the message for a field that no config has, with the nearest one."""
    if name in REMOVED:
        return f"there is no field '{name}' any more: leave it out. {REMOVED[name][1]}"
    known = {field: field.rpartition(".")[2] for field in flatten(default())}
    near = difflib.get_close_matches(name.rpartition(".")[2], known.values(), n=1)
    likely = [field for field, last in known.items() if last in near]
    (nearest,) = difflib.get_close_matches(name, likely or known, n=1, cutoff=0)
    return f"there is no field '{name}' in a config; did you mean '{nearest}'?"


def _faults(config: ConfigDict, num_devices: int, partial: bool) -> Iterator[str]:
    fields = flatten(config)
    for name in fields.keys() - flatten(default()).keys():
        yield unknown_field(name)
    still_open = [name for name, value in fields.items() if value is None]
    for name in still_open:
        if name not in OPENABLE:
            yield f"{name} is None; set it. Only these can be open: {', '.join(OPENABLE)}."
        if name not in ANY_DATA and not partial:
            yield f"{name} is open, and there is no data set that it could fit: set it."
    yield from _value_faults(config)
    yield from _tuple_faults(config)
    if not set(still_open) - set(ANY_DATA):
        yield from _joint_faults(config, num_devices)


def _value_faults(config: ConfigDict) -> Iterator[str]:
    """Each field by itself; one that is open is in order."""
    for field, allowed in CHOICES.items():
        if config[field] is not None and config[field] not in allowed:
            choices = ", ".join(map(str, allowed))
            yield f"{field} is {config[field]!r}; it can be: {choices}{_or_open(field)}."
    for fields, accepts, rule in (
        (POSITIVE, lambda value: value > 0, "it must be above 0"),
        (OFF_AT_0, lambda value: value >= 0, "it must not be negative, and is off at 0"),
        (SHARES, lambda value: 0 <= value <= 1, "it must be in 0..1"),
        (["eval.window_overlap"], lambda value: 0 <= value < 1, "it must be in [0, 1)"),
    ):
        for field in fields:
            if config[field] is not None and not accepts(config[field]):
                yield f"{field} is {config[field]}; {rule}{_or_open(field)}."


def _tuple_faults(config: ConfigDict) -> Iterator[str]:
    branches, dilations = config.model.branches, config.model.dilations
    if not branches or set(branches) - BRANCHES:
        yield f"model.branches is {branches}; name at least one of: {', '.join(sorted(BRANCHES))}."
    if "atrous" in branches and dilations is not None and min(dilations, default=0) <= 0:
        yield (
            f"model.dilations is {dilations}, but model.branches has 'atrous': give numbers above "
            f"0, such as 1,10,20,30, or leave the branch out{_or_open('model.dilations')}."
        )
    for field in CHANNELS:
        channels = config[field]
        if (
            not isinstance(channels, tuple)
            or any(type(channel) is not int for channel in channels)
            or len(set(channels)) < len(channels)
        ):
            yield (
                f"{field} = {channels!r} is not a tuple of channels, each named once, such as "
                "(0, 3); () leaves it out."
            )
    if (rotated := len(config.augment.rotate)) % 2:
        yield (
            f"augment.rotate names {rotated} channels, but they rotate two and two: two axes of a "
            "sensor, then two of the next, such as (1, 2, 4, 5)."
        )


def _joint_faults(config: ConfigDict, num_devices: int) -> Iterator[str]:
    data, model, loss, train = config.data, config.model, config.loss, config.train
    context = Fraction(model.context).limit_denominator(1000)  # as ops.align reads it
    bins = context.denominator + 2 * context.numerator
    log_every = "train.log_every: a resumed run could not log the averages of an unbroken one"
    for field, factor, reason in (
        ("data.num_frames", ENCODER_STRIDE, "the encoder's stride"),
        ("model.num_bins", bins, f"as model.context = {model.context} asks"),
        ("train.batch_size", num_devices, "the devices that share a batch"),
        ("eval.batch_size", num_devices, "the devices that share a batch"),
        ("train.save_every", train.log_every, log_every),
        ("train.eval_every", train.log_every, log_every),
    ):
        if (value := config[field]) % factor:
            yield (
                f"{field} = {value} is not a multiple of {factor}, {reason}. "
                f"Use {-(-value // factor) * factor}, for instance."
            )
    if data.num_frames % model.stride:
        divides_all = math.lcm(model.stride, ENCODER_STRIDE)
        yield (
            f"data.num_frames = {data.num_frames} is not a multiple of model.stride = "
            f"{model.stride}. Use a stride that divides it{_or_open('model.stride')}; or "
            f"{-(-data.num_frames // divides_all) * divides_all} frames."
        )
    nodes, k = data.num_frames // ENCODER_STRIDE, model.snippet_neighbours
    if k >= nodes:
        yield (
            f"model.snippet_neighbours = {k} needs more than {k} encoded snippets, but "
            f"data.num_frames = {data.num_frames} gives {nodes}: use more frames."
        )
    k, grid = model.proposal_neighbours, (data.num_frames, model.stride, model.pyramid)
    if (proposals := number_of_proposals(*grid)) <= k * k + 2 * k:
        yield (
            f"model.proposal_neighbours = {k} needs more than {k * k + 2 * k} proposals, but "
            f"{data.num_frames} frames at model.stride = {model.stride} give {proposals}: use more "
            "frames or a smaller stride."
        )
    if not (
        (loss.segmentation and loss.segmentation_classes)
        or model.classifier
        or config.eval.class_scores
    ):
        yield (
            f"loss.segmentation = {loss.segmentation} and loss.segmentation_classes = "
            f"{loss.segmentation_classes} leave nothing that learns the classes: set "
            "model.classifier = True, or name a file in eval.class_scores."
        )
    unsaved = not train.save_every or train.eval_every % train.save_every
    if data.holdout and train.eval_every and unsaved:
        yield (
            f"train.eval_every = {train.eval_every} is not a multiple of train.save_every = "
            f"{train.save_every}; with data.holdout the best step is kept, so every step that is "
            "evaluated must be saved, too."
        )


def _or_open(field: str) -> str:
    fits = f", or None (--config.{field}=None) to fit the data set"
    return fits if field in OPENABLE else ""
