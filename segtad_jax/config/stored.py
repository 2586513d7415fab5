"""Configs as JSON, one flat object, in config.json of a run and configs.json of experiments."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from segtad_jax.config.defaults import default, flatten

# Fields that can be open, and what stood for that before it was None: always in the first two, in
# the others where the config said `fit`.
OPENABLE: Mapping[str, Any] = {
    "data.num_channels": 0,
    "data.num_classes": 0,
    "data.num_frames": 0,
    "model.stride": 0,
    "model.dilations": [],
    "model.width": 0,
    "model.num_bins": 0,
    "sampling.seeds": 0,
    "train.batch_size": 0,
    "train.steps": 0,
    "eval.snap": -1,
    **dict.fromkeys(
        (
            *("eval.boundary_power", "eval.class_mean", "eval.renormalise", "eval.snap_mean"),
            *("eval.snap_offset", "eval.sigma", "model.pyramid", "augment.mix_style"),
        )
    ),
}
ANY_DATA = ("data.num_channels", "data.num_classes")  # nothing is chosen for these

REMOVED: Mapping[str, tuple[Any, str]] = {  # the values that did nothing; what there is instead
    "fit": ((False, True), "A field is chosen to fit the data set where it is None."),
    "model.refine": ((False,), "docs/what_helped.md says what was learned from it."),
}


def read_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns stored fields as this version writes them, with the defaults of younger fields.

    A field that this version does not have is dropped where it did nothing, and stays otherwise.
    """
    opened = OPENABLE if stored.get("fit") else ANY_DATA
    fields = {
        name: None if name in opened and value == OPENABLE[name] else value
        for name, value in stored.items()
        if name not in REMOVED or value not in REMOVED[name][0]
    }
    return flatten(default()) | fields


def restore(fields: Mapping[str, Any]) -> ConfigDict:
    """Returns the config that has the fields of `read_fields`.

    Raises:
        ValueError: names a field whose value is of another type.
    """
    config = default()
    for name, value in fields.items():
        try:
            config.update_from_flattened_dict(
                {name: tuple(value) if isinstance(value, list) else value}
            )
        except TypeError as error:
            raise ValueError(f"{name} = {value!r}: {error}") from error
    return config


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Returns a line for every field in which two flat configs differ, with both values."""
    missing = "(absent)"
    return [
        f"{field}: {ours.get(field, missing)!r} here, {theirs.get(field, missing)!r} there"
        for field in sorted(set(ours) | set(theirs))
        if ours.get(field, missing) != theirs.get(field, missing)
    ]
