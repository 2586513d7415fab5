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
}
ANY_DATA = ("data.num_channels", "data.num_classes")  # nothing is chosen for these

_REMOVED = {
    "model.refine": False
}  # fields of older versions, and the value at which they did nothing


def read_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns stored fields as this version writes them, with the defaults of younger fields.

    A field that this version does not have is dropped where it did nothing, and stays otherwise.
    """
    fields = dict(stored)
    fits = fields.pop("fit", False)
    for name, value in _REMOVED.items():
        if fields.get(name) == value:
            del fields[name]
    for name, value in OPENABLE.items():
        if (fits or name in ANY_DATA) and fields.get(name) == value:
            fields[name] = None
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
