"""Tables 3 to 8 as the paper prints them, and which ablations they need."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

MEASURES = ("0.50", "0.75", "0.95", "average")  # mAP at these tIoU and over 0.5:0.05:0.95
DATA = "ActivityNet-1.3, validation"  # of all of the paper's tables of ablations


class PaperRow(NamedTuple):
    """A row: its cells, the ablation that it is, and the paper's mAP."""

    cells: tuple[str, ...]
    ablation: str
    paper: tuple[float, float, float, float]  # MEASURES, percent


class PaperTable(NamedTuple):
    """A table of the paper; its last row or, in Table 6, its last but one is SegTAD itself."""

    title: str
    heading: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    reference: str  # the ablation that is none: SegTAD


_YES, _NO = "✓", "✗"
_PAPER = (49.86, 34.37, 6.50, 33.53)  # SegTAD, in every table

TABLES: Mapping[int, PaperTable] = {
    3: PaperTable(
        "Effectiveness of our segmentation network",
        ("Segmentation loss",),
        (
            PaperRow((_NO,), "no_segmentation_loss", (49.15, 33.45, 3.81, 32.45)),
            PaperRow((_YES,), "segmentation_loss", _PAPER),
        ),
        "segmentation_loss",
    ),
    4: PaperTable(
        "Different loss functions for segmentation",
        ("Segment. loss types",),
        (
            PaperRow(("Binary",), "binary_segmentation_loss", (49.35, 33.77, 4.07, 32.79)),
            PaperRow(("SegTAD",), "segmentation_loss", _PAPER),
        ),
        "segmentation_loss",
    ),
    5: PaperTable(
        "Ablating studies in PAG of 1D-SSN",
        ("AC", "GC", "GP"),
        (
            PaperRow((_NO, _YES, _YES), "no_atrous", (48.55, 33.04, 5.21, 32.37)),
            PaperRow((_YES, _NO, _YES), "no_graph", (49.48, 33.95, 7.50, 33.30)),
            PaperRow((_YES, _YES, _NO), "no_global", (49.75, 34.25, 5.97, 33.29)),
            PaperRow((_YES, _YES, _YES), "segtad", _PAPER),
        ),
        "segtad",
    ),
    6: PaperTable(
        "Different sets of dilation ratios of the AC branches",
        ("Dilation ratios",),
        (
            PaperRow(("1, 2, 4, 6",), "dilations_1_2_4_6", (49.58, 34.14, 5.58, 33.25)),
            PaperRow(("1, 6, 12, 18",), "dilations_1_6_12_18", (49.71, 34.01, 5.90, 33.31)),
            PaperRow(("1, 10, 20, 30",), "dilations_1_10_20_30", _PAPER),
            PaperRow(("1, 16, 32, 64",), "dilations_1_16_32_64", (50.00, 34.31, 6.35, 33.45)),
        ),
        "dilations_1_10_20_30",
    ),
    7: PaperTable(
        "Ablating the proposal detection network",
        ("PDN layers",),
        (
            PaperRow(("Conv1D(k = 1, s = 1)",), "no_proposal_graph", (48.31, 32.79, 5.49, 32.12)),
            PaperRow(("Graph convolutions",), "segtad", _PAPER),
        ),
        "segtad",
    ),
    8: PaperTable(
        "Comparing different similarity metrics",
        ("Node similarity metric",),
        (
            PaperRow(("Center distance",), "center_distance", (49.34, 33.57, 3.62, 32.52)),
            PaperRow(("Temp. intersection over union",), "segtad", _PAPER),
        ),
        "segtad",
    ),
}


def table_numbers(text: str) -> list[int]:
    """Returns the numbers of the tables that `--table` names: 'all' or '3,5'.

    Raises:
        ValueError: no such table.
    """
    if text == "all":
        return list(TABLES)
    known = {str(number): number for number in TABLES}
    names = [part.strip() for part in text.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"--table={text}: there is no table '{unknown[0]}' of ablations in the paper. Known: "
            f"{', '.join(known)}, separated by commas, or all."
        )
    return sorted({known[name] for name in names})


def ablations(numbers: Iterable[int]) -> list[str]:
    """Returns the ablations of some tables' rows, each once, a table's reference first."""
    rows = [[TABLES[n].reference, *(row.ablation for row in TABLES[n].rows)] for n in numbers]
    return list(dict.fromkeys(name for names in rows for name in names))
