"""The ablations of the paper (Tables 3 to 8): what each row changes in a config, and its numbers.

`configs/x.py:ablation=NAME` is a row of a table with the data and the recipe of that config;
`python -m segtad_jax.experiments` runs whole tables.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

MEASURES = ("0.50", "0.75", "0.95", "average")  # mAP at these tIoU and over 0.5:0.05:0.95
DATA = "ActivityNet-1.3, validation"  # of all of the paper's tables of ablations


class Row(NamedTuple):
    """A row as the paper prints it."""

    cells: tuple[str, ...]
    ablation: str
    paper: tuple[float, float, float, float]  # MEASURES, percent


class Table(NamedTuple):
    """A table of the paper; its last row or, in Table 6, its last but one is SegTAD itself."""

    title: str
    heading: tuple[str, ...]
    rows: tuple[Row, ...]
    reference: str  # the ablation that is none: SegTAD


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

_YES, _NO = "✓", "✗"
_PAPER = (49.86, 34.37, 6.50, 33.53)  # SegTAD, in every table

TABLES: Mapping[int, Table] = {
    3: Table(
        "Effectiveness of our segmentation network",
        ("Segmentation loss",),
        (
            Row((_NO,), "no_segmentation_loss", (49.15, 33.45, 3.81, 32.45)),
            Row((_YES,), "segmentation_loss", _PAPER),
        ),
        "segmentation_loss",
    ),
    4: Table(
        "Different loss functions for segmentation",
        ("Segment. loss types",),
        (
            Row(("Binary",), "binary_segmentation_loss", (49.35, 33.77, 4.07, 32.79)),
            Row(("SegTAD",), "segmentation_loss", _PAPER),
        ),
        "segmentation_loss",
    ),
    5: Table(
        "Ablating studies in PAG of 1D-SSN",
        ("AC", "GC", "GP"),
        (
            Row((_NO, _YES, _YES), "no_atrous", (48.55, 33.04, 5.21, 32.37)),
            Row((_YES, _NO, _YES), "no_graph", (49.48, 33.95, 7.50, 33.30)),
            Row((_YES, _YES, _NO), "no_global", (49.75, 34.25, 5.97, 33.29)),
            Row((_YES, _YES, _YES), "segtad", _PAPER),
        ),
        "segtad",
    ),
    6: Table(
        "Different sets of dilation ratios of the AC branches",
        ("Dilation ratios",),
        (
            Row(("1, 2, 4, 6",), "dilations_1_2_4_6", (49.58, 34.14, 5.58, 33.25)),
            Row(("1, 6, 12, 18",), "dilations_1_6_12_18", (49.71, 34.01, 5.90, 33.31)),
            Row(("1, 10, 20, 30",), "dilations_1_10_20_30", _PAPER),
            Row(("1, 16, 32, 64",), "dilations_1_16_32_64", (50.00, 34.31, 6.35, 33.45)),
        ),
        "dilations_1_10_20_30",
    ),
    7: Table(
        "Ablating the proposal detection network",
        ("PDN layers",),
        (
            Row(("Conv1D(k = 1, s = 1)",), "no_proposal_graph", (48.31, 32.79, 5.49, 32.12)),
            Row(("Graph convolutions",), "segtad", _PAPER),
        ),
        "segtad",
    ),
    8: Table(
        "Comparing different similarity metrics",
        ("Node similarity metric",),
        (
            Row(("Center distance",), "center_distance", (49.34, 33.57, 3.62, 32.52)),
            Row(("Temp. intersection over union",), "segtad", _PAPER),
        ),
        "segtad",
    ),
}
