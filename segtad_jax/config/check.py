"""The one check of a config: what cannot be run is told with its numbers, and what to do."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ml_collections import ConfigDict

from segtad_jax.config.defaults import ENCODER_STRIDE

CHOICES: Mapping[str, tuple[str, ...]] = {
    "data.source": ("prepared", "watch", "synthetic"),
    "model.dtype": ("float32", "bfloat16"),
    "model.aggregate": ("sum", "mean", "max"),
    "model.interpolation": ("constant", "linear"),
    "model.similarity": ("tiou", "center"),
    "sampling.edges": ("tree", "list"),
    "optim.schedule": ("step", "cosine"),
    "eval.fusion": ("product", "sqrt"),
    "eval.class_mean": ("arithmetic", "geometric"),
}


POSITIVE = (
    *("model.width", "sampling.seeds", "train.batch_size", "train.steps", "train.keep"),
    *(
        "eval.batch_size",
        "eval.max_detections",
        "eval.top_classes",
        "eval.sigma",
        "augment.mix_concentration",
        "augment.mask_frames",
    ),
)

CHANNELS = ("augment.mirror", "augment.rotate")  # each a tuple of channels of the features


def check(config: ConfigDict, num_devices: int = 1) -> None:
    """Raises ValueError, with the offending numbers and what to do, if the config cannot be run."""
    for field, allowed in CHOICES.items():
        value = _get(config, field)
        if value not in allowed:
            raise ValueError(f"{field} is '{value}'; it can be: {', '.join(allowed)}.")
    for field in POSITIVE:
        _require(_get(config, field) > 0, f"{field} is {_get(config, field)}; it must be above 0.")
    unknown = set(config.model.branches) - {"graph", "atrous", "global"}
    _require(
        not unknown and config.model.branches,
        f"model.branches is {config.model.branches}; name at least one of: graph, atrous, global.",
    )
    _require(
        "atrous" not in config.model.branches or min(config.model.dilations, default=0) > 0,
        f"model.dilations is {config.model.dilations}, but model.branches has 'atrous': give "
        "numbers above 0, such as 1,10,20,30, or leave the branch out.",
    )
    _require(
        (config.loss.segmentation and config.loss.segmentation_classes)
        or config.model.classifier
        or config.eval.class_scores,
        f"loss.segmentation = {config.loss.segmentation} and loss.segmentation_classes = "
        f"{config.loss.segmentation_classes} leave nothing that learns the classes: set "
        "model.classifier = True, or name a file in eval.class_scores.",
    )
    _check_grid(config)
    for field in ("train.batch_size", "eval.batch_size"):
        size = _get(config, field)
        _require(
            size % num_devices == 0,
            f"{field} = {size} does not divide among {num_devices} devices; "
            f"use a multiple of {num_devices}, such as {-(-size // num_devices) * num_devices}.",
        )
    log_every = config.train.log_every
    for field in ("train.save_every", "train.eval_every"):
        every = _get(config, field)
        _require(
            log_every > 0 and every % log_every == 0,
            f"{field} = {every} is not a multiple of train.log_every = {log_every}; "
            "a resumed run could then not log the same averages as an unbroken one.",
        )
    judged, saved = config.train.eval_every, config.train.save_every
    _require(
        not config.data.holdout or judged == 0 or (saved > 0 and judged % saved == 0),
        f"train.eval_every = {judged} is not a multiple of train.save_every = {saved}; with "
        "data.holdout the best step is kept, so that every step that is judged must be saved, too.",
    )
    overlap = config.eval.window_overlap
    _require(0 <= overlap < 1, f"eval.window_overlap = {overlap} is not in [0, 1).")
    for field in ("eval.snap_offset", "augment.mix_style"):
        part = _get(config, field)
        _require(0 <= part <= 1, f"{field} = {part} is not in 0..1.")
    for field in CHANNELS:
        channels = _get(config, field)
        _require(
            isinstance(channels, tuple)
            and all(type(channel) is int for channel in channels)
            and len(set(channels)) == len(channels),
            f"{field} = {channels!r} is not a tuple of channels, each named once, such as (0, 3); "
            "() leaves it out.",
        )
    rotated = len(config.augment.rotate)
    _require(
        rotated % 2 == 0,
        f"augment.rotate names {rotated} channels, but they rotate two and two: two axes of a "
        "sensor, then two of the next, such as (1, 2, 4, 5).",
    )
    augmented = ("augment.masks", "augment.rotate_degrees")
    for field in (*augmented, "loss.snap", "eval.snap", "eval.boundary_power"):
        _require(_get(config, field) >= 0, f"{field} = {_get(config, field)}; 0 leaves it out.")


def check_channels(config: ConfigDict, num_channels: int, whose: str) -> None:
    """Raises ValueError if the config names channels that are not there, of features with C.

    Args:
        config: whose augmentation names channels.
        num_channels: C.
        whose: C that is, for the message: a data set's directory, or a field.
    """
    for field in CHANNELS:
        channels = _get(config, field) or (0,)
        first, last = min(channels), max(channels)
        _require(
            0 <= first <= last < num_channels,
            f"{field} names channels {first} to {last}, but those of {whose} are 0 to "
            f"{num_channels - 1}. Name channels that are there, or set {field} to ().",
        )


def _check_grid(config: ConfigDict) -> None:
    frames, stride, bins = config.data.num_frames, config.model.stride, config.model.num_bins
    _require(
        frames > 0 and frames % ENCODER_STRIDE == 0,
        f"data.num_frames = {frames} is not divisible by {ENCODER_STRIDE}, the encoder's stride; "
        f"use {_round_up(frames, ENCODER_STRIDE)}.",
    )
    _require(
        stride > 0 and frames % stride == 0,
        f"data.num_frames = {frames} is not divisible by model.stride = {stride}; use a stride "
        f"that divides it, or {_round_up(frames, stride) if stride > 0 else frames} frames.",
    )
    context = Fraction(config.model.context).limit_denominator(1000)  # as ops.align reads it
    _require(context >= 0, f"model.context is {config.model.context}; it must not be negative.")
    multiple = context.denominator + 2 * context.numerator
    _require(
        bins > 0 and bins % multiple == 0,
        f"model.num_bins = {bins} is not a multiple of {multiple}, as model.context = "
        f"{config.model.context} asks; use {_round_up(bins, multiple)}.",
    )
    _require(
        config.model.decoder_stride in (1, 4),
        f"model.decoder_stride = {config.model.decoder_stride}; it can be 1 or 4.",
    )
    snippets, k = frames // ENCODER_STRIDE, config.model.snippet_neighbours
    _require(
        0 < k < snippets,
        f"model.snippet_neighbours = {k} needs more than {k} encoded snippets; {frames} frames "
        f"give {snippets}.",
    )
    cells, k = frames // stride, config.model.proposal_neighbours
    m = cells * (cells + 1) // 2  # Eq. 8
    _require(
        k > 0 and m > k * k + 2 * k,
        f"{frames} frames at stride {stride} give {m} proposals; model.proposal_neighbours = {k} "
        f"needs more than {k * k + 2 * k}: use more frames or a smaller stride.",
    )


def _get(config: ConfigDict, field: str) -> Any:
    group, name = field.split(".")
    return config[group][name]


def _require(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _round_up(value: int, multiple: int) -> int:
    return max(-(-value // multiple), 1) * multiple
