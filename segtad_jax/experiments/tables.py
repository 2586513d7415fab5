"""Results in the form of the paper's tables, with the paper's numbers beside them."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from segtad_jax.experiments.paper import DATA, MEASURES, TABLES, PaperRow
from segtad_jax.experiments.results import Result

LEVEL = 0.05  # of the test below which a difference counts as one
Results = Callable[[str], Sequence[Result]]  # ablation -> results of all seeds that are done


class Difference(NamedTuple):
    """Average mAP of a row less that of SegTAD, in points."""

    mean: float
    error: float | None  # standard error; None: too few seeds
    p: float | None  # of Welch's t-test; None: too few seeds


def difference(row: Sequence[Result], reference: Sequence[Result]) -> Difference | None:
    """Compares the seeds of two rows; None where one of them has no result."""
    ours, theirs = (
        np.array([100 * r.map["average"] for r in results]) for results in (row, reference)
    )
    if not len(ours) or not len(theirs):
        return None
    mean = float(ours.mean() - theirs.mean())
    if min(len(ours), len(theirs)) < 2:
        return Difference(mean, None, None)
    error = math.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))
    if error == 0:
        return Difference(mean, error, float(mean == 0))
    return Difference(mean, error, float(stats.ttest_ind(ours, theirs, equal_var=False).pvalue))


def markdown(numbers: Iterable[int], results: Results, subject: str) -> str:
    """Returns the tables as Markdown, each with what its differences say, under the subject."""
    reading = (
        "Mean and standard deviation over seeds of mAP (%) at three tIoUs and over 0.5:0.05:0.95. "
        f"The paper's numbers are of other data ({DATA}, one run, top-1 classes): compare "
        "differences, not levels."
    )
    return "\n\n".join([subject, reading, *(_table(number, results) for number in numbers)]) + "\n"


def _table(number: int, results: Results) -> str:
    table = TABLES[number]
    short = ["0.5", "0.75", "0.95", "Avg."]
    heading = [*table.heading, *short, "seeds", *(f"paper {name}" for name in short)]
    rows = [heading, ["---"] * len(heading)]
    rows += [_cells(row, results(row.ablation)) for row in table.rows]
    reference = results(table.reference)
    paper = next(row for row in table.rows if row.ablation == table.reference).paper
    differences = [
        f"- `{row.ablation}` ({' '.join(row.cells)}): "
        f"{_sentence(difference(results(row.ablation), reference))} "
        f"In the paper {row.paper[3] - paper[3]:+.2f}."
        for row in table.rows
        if row.ablation != table.reference
    ]
    ceiling = _ceiling([result for row in table.rows for result in results(row.ablation)])
    return "\n\n".join(
        [
            f"## Table {number}. {table.title}",
            "\n".join(f"| {' | '.join(cells)} |" for cells in rows),
            f"{ceiling}Average mAP, less SegTAD's (the row of `ablation={table.reference}`):",
            "\n".join(differences),
        ]
    )


def _cells(row: PaperRow, results: Sequence[Result]) -> list[str]:
    ours = [_spread([100 * r.map[measure] for r in results]) for measure in MEASURES]
    return [*row.cells, *ours, str(len(results)), *(f"{value:.2f}" for value in row.paper)]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"


def _ceiling(results: Sequence[Result]) -> str:
    if not results:
        return ""
    values = [
        "/".join(sorted({f"{100 * result.ceiling[measure]:.1f}" for result in results}))
        for measure in MEASURES
    ]
    return f"The grid of proposals itself allows {', '.join(values)} with perfect scores. "


def _sentence(difference: Difference | None) -> str:
    if difference is None:
        return "not run yet."
    mean, error, p = difference
    if error is None or p is None:
        return f"{mean:+.1f} points; of one seed, so that nothing is known of the noise."
    side = "worse" if mean < 0 else "better"
    verdict = (
        f"{side} than SegTAD beyond the noise of seeds"
        if p < LEVEL
        else "not to be told from SegTAD by these seeds"
    )
    chance = "p < 0.01" if p < 0.005 else f"p = {p:.2f}"
    return f"{mean:+.1f} points, standard error {error:.1f}: {verdict} (Welch's t-test, {chance})."
