"""The ablations of the paper (Tables 3 to 8): what each row changes in a config.

`configs/x.py:ablation=NAME` is a row of a table with the data and the recipe of that config;
`python -m segtad_jax.experiments` runs whole tables, and has the paper's numbers beside them.
"""

from collections.abc import Mapping
from typing import Any

_SEGTAD: Mapping[str, Any] = {
    "model.branches": ("graph", "atrous", "global"),
    "model.proposal_graph": True,
    "model.similarity": "tiou",
    "loss.segmentation": 1.0,
    "loss.segmentation_classes": True,
}
# In the paper a video's classes come from another model, whatever the row. Where no file has them,
# a network of its own learns them in all rows of Tables 3 and 4 alike; renormalised, it says which
# action a proposal is and not how much of one.
_WITH_CLASSIFIER = {**_SEGTAD, "model.classifier": True, "eval.renormalise": True}

ABLATIONS: Mapping[str, Mapping[str, Any]] = {  # name: the fields that it sets
    "segtad": _SEGTAD,
    "segmentation_loss": _WITH_CLASSIFIER,
    "no_segmentation_loss": {**_WITH_CLASSIFIER, "loss.segmentation": 0.0},
    "binary_segmentation_loss": {**_WITH_CLASSIFIER, "loss.segmentation_classes": False},
    "no_atrous": {**_SEGTAD, "model.branches": ("graph", "global")},
    "no_graph": {**_SEGTAD, "model.branches": ("atrous", "global")},
    "no_global": {**_SEGTAD, "model.branches": ("graph", "atrous")},
    "dilations_1_2_4_6": {**_SEGTAD, "model.dilations": (1, 2, 4, 6)},
    "dilations_1_6_12_18": {**_SEGTAD, "model.dilations": (1, 6, 12, 18)},
    "dilations_1_10_20_30": {**_SEGTAD, "model.dilations": (1, 10, 20, 30)},
    "dilations_1_16_32_64": {**_SEGTAD, "model.dilations": (1, 16, 32, 64)},
    "no_proposal_graph": {**_SEGTAD, "model.proposal_graph": False},
    "center_distance": {**_SEGTAD, "model.similarity": "center"},
}
