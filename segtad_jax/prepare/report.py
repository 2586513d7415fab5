"""Shows a report of `prepare`: tables in the terminal, and one page with pictures."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segtad_jax.evaluation.report import style
from segtad_jax.evaluation.report.html import write_html
from segtad_jax.prepare.look import Look, look_figure

SHOWN = 5  # of each kind of defect in the terminal
SHOWN_ON_PAGE = 50  # of each kind of defect on the page
SHOWN_CLASSES = 60
TICKED_RATIO = 1000  # ratio of lengths up to which 1, 2 and 5 have a tick, not 1 alone
SHOWN_THRESHOLDS = ("0.50", "0.70", "0.75", "0.95", "average")
TREATMENT_COLORS = {"left out": "red", "changed": "yellow", "kept": "cyan"}

Report = Mapping[str, Any]  # as report.json


def print_report(report: Report, console: Console, file: str = "") -> None:
    """Prints the tables; `file` is where everything is, if it is written."""
    lengths, ceiling, classes = report["lengths"], report["ceiling"], report["classes"]
    table = _table(
        f"{report['name']}: {report['channels']} channels, windows of {report['window']} frames",
        ["split", "videos", "used", "actions", "hours", "background", "frames", "frames/s"],
    )
    for split, row in report["splits"].items():
        table.add_row(
            split,
            f"{row['annotated']:,}",
            f"{row['found']:,}",
            f"{row['actions']:,}",
            f"{row['hours']:.1f}",
            "-" if row["background"] is None else f"{row['background']:.0%}",
            _range(row["frames"], "{:.0f}"),
            _range(row["rate"], "{:.3g}"),
        )
    console.print(table)
    if lengths["seconds"]:
        table = _table("Actions", ["quantile", *(f"{q} %" for q in lengths["seconds"])])
        shares = {q: 100 * share for q, share in lengths["share_of_video"].items()}
        for name, form, quantiles in (
            ("length, s", "{:.3g}", lengths["seconds"]),
            ("share of the video, %", "{:.3g}", shares),
            ("actions of a video", "{:.0f}", lengths["actions_of_a_video"]),
        ):
            table.add_row(name, *map(form.format, quantiles.values()))
        console.print(table)
    if classes:
        console.print(_class_table(classes))
    table = _table(
        f"What the grid of proposals can reach on {ceiling['split']}, T = {ceiling['window']} (%)",
        ["stride", *(f"@{threshold}" for threshold in SHOWN_THRESHOLDS[:-1]), "average"],
    )
    for key, name in (("recall", "recall"), ("map", "mAP")):
        for grid, reached in _grids(ceiling).items():
            figures = (f"{100 * reached[key][threshold]:.1f}" for threshold in SHOWN_THRESHOLDS)
            table.add_row(f"{name}, {grid}", *figures)
    if ceiling["strides"] and classes:
        console.print(table)
    if report["defects"]:
        _print_defects(report["defects"], console, file)
    else:
        console.print("Nothing is wrong with the files.")
    for note in report["notes"]:
        console.print(
            f"note: {note}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )


def _grids(ceiling: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is known of each grid of proposals, by a name for it."""
    grids = {
        stride if reached["divides"] else f"{stride} (does not divide T)": reached
        for stride, reached in ceiling["strides"].items()
    }
    return grids | {
        f"pyramid from {reached['stride']}": reached for reached in ceiling.get("pyramid", [])
    }


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.min_width = len(title)  # the title would be wrapped to the columns
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", header_style="dim")
    return table


def _range(quantiles: Mapping[str, float], form: str) -> str:
    if not quantiles:
        return "-"
    low, high = form.format(quantiles["0"]), form.format(quantiles["100"])
    return low if low == high else f"{low}..{high}"


def _class_table(classes: Mapping[str, Mapping[str, int]]) -> Table:
    splits = sorted({split for counts in classes.values() for split in counts})
    table = _table(f"{len(classes)} classes", ["class", *splits])
    ordered = sorted(classes.items(), key=lambda item: -sum(item[1].values()))
    for number, (label, counts) in enumerate(ordered):
        if len(ordered) <= 24 or not 8 <= number < len(ordered) - 8:
            table.add_row(escape(label), *(f"{counts.get(split, 0):,}" for split in splits))
        elif number == 8:
            table.add_row(f"... {len(ordered) - 16} more ...")
    return table


def _print_defects(defects: Mapping[str, Any], console: Console, file: str) -> None:
    """Prints each kind of defect with the first few: the video, the value and where it stands."""
    console.print(f"What is wrong{f' (all of it is in {file})' if file else ''}", style="bold")
    for kind, defect in defects.items():
        color = TREATMENT_COLORS[defect["treatment"]]
        head = f"{kind}: {escape(defect['meaning'])}: {defect['count']:,}"
        console.print(f"{head} [{color}]{defect['treatment']}[/]", highlight=False, soft_wrap=True)
        for item in defect["items"][:SHOWN]:
            place = item["where"].rpartition("/")[2] if ", " in item["where"] else item["where"]
            where = f" ({place})" if place and place not in item["value"] else ""
            value = "" if item["value"] == item["video"] else f": {item['value']}"
            line = f"  {item['video']}{value}{where}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if (more := defect["count"] - SHOWN) > 0:
            console.print(f"  and {more:,} more")


def write_page(path: str | PathLike[str], report: Report, looks: Iterable[Look] = ()) -> None:
    """Writes the page, which opens from disk without a network, with a picture of each look."""
    images, drawn = {}, []
    for number, look in enumerate(looks):
        images[f"look {number}"] = look_figure(look)
        drawn.append(look.to_json())
    if report["ceiling"]["strides"]:
        images["ceiling"] = ceiling_figure(report["ceiling"])
    if report["lengths"]["seconds_histogram"]["counts"]:
        images["lengths"] = _length_figure(report["lengths"])
    if report["classes"]:
        images["classes"] = _class_figure(report["classes"])
    write_html(
        path,
        "dataset.html",
        title=report["name"],
        images=images,
        report=report,
        drawn=drawn,
        grids=_grids(report["ceiling"]),
        times=time_rows(report.get("times", {})),
        thresholds=SHOWN_THRESHOLDS,
        shown=SHOWN_ON_PAGE,
    )


def time_rows(times: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns what was measured of each recording's times, in words; those with gaps first."""
    rows = [
        {
            "video": video,
            "rate": f"{found['rate']:.4g}",
            "gaps": ", ".join(f"{long:.1f} s at {at:.4g} s" for at, long in found["gaps"]),
            "unequal": found["unequal"],
            "begins": found["date"],
        }
        for video, found in times.items()
    ]
    return sorted(rows, key=lambda row: (not row["gaps"], not row["unequal"], row["video"]))


def ceiling_figure(ceiling: Mapping[str, Any]) -> Figure:
    """Draws the best possible recall and mAP of each grid by tIoU."""
    grids = _grids(ceiling)
    rows = -(-len(grids) // 2)  # of the legend, below, where it hides no curve
    with style.axes(1, 2, size=(9.0, 2.9 + 0.18 * rows)) as (figure, panels):
        for panel, key, name in zip(panels[0], ("recall", "map"), ("recall", "mAP"), strict=True):
            for grid, reached in grids.items():
                points = {float(t): v for t, v in reached[key].items() if t != "average"}
                label = f"{grid}: average {100 * reached[key]['average']:.1f}"
                line = "o-" if reached.get("divides", True) else "o:"
                panel.plot(list(points), list(points.values()), line, label=label, markersize=3.5)
            panel.set_title(f"Best possible {name} on {ceiling['split']} (%)")
            panel.set_xlabel("tIoU threshold")
            panel.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
            panel.set_ylim(0, 1.03)
            below = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.22), "borderaxespad": 0.0}
            panel.legend(**below, ncols=2, fontsize=7.5, columnspacing=1.0, handlelength=1.6)
        return figure


def _length_figure(lengths: Mapping[str, Any]) -> Figure:
    with style.axes(1, 2, size=(9.0, 2.8)) as (figure, panels):
        for panel, key, unit in zip(
            panels[0], ("seconds", "share"), ("s", "share of the video"), strict=True
        ):
            histogram = lengths[f"{key}_histogram"]
            edges, counts = np.array(histogram["edges"]), histogram["counts"]
            panel.bar(edges[:-1], counts, np.diff(edges), align="edge", color=style.ACCENT)
            panel.set_xscale("log")
            wide = edges[-1] > TICKED_RATIO * edges[0]  # so many labels would overlap
            panel.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_title(f"Length of actions ({unit})")
            panel.set_ylabel("actions")
            panel.grid(visible=False, axis="x")
        return figure


def _class_figure(classes: Mapping[str, Mapping[str, int]]) -> Figure:
    ordered = sorted(classes.items(), key=lambda item: sum(item[1].values()))
    many = len(ordered) > SHOWN_CLASSES
    if many:
        ordered = [*ordered[: SHOWN_CLASSES // 2], *ordered[-SHOWN_CLASSES // 2 :]]
    with style.axes(size=(9.0, 1.0 + 0.17 * len(ordered))) as (figure, panels):
        panel = panels[0, 0]
        position, base = np.arange(len(ordered)), np.zeros(len(ordered))
        splits = sorted({split for counts in classes.values() for split in counts})
        for split, color in zip(splits, style.COLORS, strict=False):
            counts = np.array([by_split.get(split, 0) for _, by_split in ordered])
            panel.barh(position, counts, 0.7, base, color=color, label=split)
            base += counts
        # Dollars would enclose mathematics.
        panel.set_yticks(position, [label.replace("$", r"\$") for label, _ in ordered], fontsize=7)
        shown = f" ({SHOWN_CLASSES // 2} rarest and most frequent)" if many else ""
        panel.set_title(f"Actions of each class{shown}")
        panel.grid(visible=False, axis="y")
        panel.margins(y=0.01)
        panel.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)
        return figure
