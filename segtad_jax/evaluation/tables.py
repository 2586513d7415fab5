"""The result of an evaluation as plain text."""

from collections.abc import Iterable, Sequence


def summary(result: dict) -> str:
    """What was scored, the metrics in percent, and everything that was not scored.

    Takes the result of `evaluate`, with or without what the command adds on its scope.
    """
    counts = result["counts"]
    subset = f", subset {result['subset']}" if "subset" in result else ""
    blocks = [
        f"{result['protocol']} protocol{subset}: "
        + ", ".join(f"{value:,} {name}" for name, value in counts.items())
    ]
    if "map" in result:
        blocks.append(_row_table("mAP (%)", result["map"]))
    if "ar" in result:
        numbers = {f"@{number}": result["ar"][number] for number in ("1", "5", "10", "50", "100")}
        blocks.append(_row_table("AR (%)", {**numbers, "AUC": result["ar"]["auc"]}))
    if "diagnosis" in result:
        blocks.append(_diagnosis(result["diagnosis"]))
    blocks.append("\n".join(_remarks(result)))
    return "\n\n".join(blocks)


def _row_table(title: str, values: dict[str, float]) -> str:
    return _columns([[title, *values], ["", *map(_percent, values.values())]])


def _diagnosis(diagnosis: dict) -> str:
    outcomes = diagnosis["outcomes"]
    rows = [["outcome", "share %", "mAP_N gain"]]
    rows += [
        [name.replace("_", " "), _percent(share), _percent(outcomes["gain"].get(name))]
        for name, share in outcomes["share"].items()
    ]
    sensitivity = [["actions by", "range", "number", "mAP_N %", "missed %"]]
    for name, bins in diagnosis["sensitivity"].items():
        sensitivity += [
            [
                name,
                row["range"],
                f"{row['actions']:,}",
                _percent(row["map_n"]),
                _percent(row["missed"]),
            ]
            for row in bins
        ]
    title = f"Diagnosis at tIoU {diagnosis['tiou']:.2f}: mAP_N {_percent(diagnosis['map_n'])} %"
    return "\n\n".join([title, _columns(rows), _columns(sensitivity)])


def _remarks(result: dict) -> Iterable[str]:
    missing = result["missing_videos"]
    yield f"videos without a prediction: {_listed(missing)}"
    if "outside_subset" in result:
        outside = result["outside_subset"]
        yield (
            f"predictions of other subsets, counted as false positives: "
            f"{outside['predictions']:,} in {outside['videos']:,} videos"
        )
    for name, left_out in result.get("left_out", {}).items():
        if left_out:
            yield f"left out, {name.replace('_', ' ')}: {_listed(sorted(left_out))}"
    zero = result["zero_length"]
    if zero["actions"]:
        yield (
            f"actions of zero length: {zero['actions']} in {', '.join(zero['videos'][:5])}: "
            f"{zero['treatment']}"
        )
    if result["ambiguous"]:
        yield f"segments labelled Ambiguous, which are no actions: {result['ambiguous']:,}"
    yield from (f"note: {note}" for note in result.get("notes", []))


def _listed(names: Sequence[object]) -> str:
    shown = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
    return f"{len(names):,}" + (f" ({shown})" if names else "")


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"


def _columns(rows: list[list[str]]) -> str:
    """Left-aligned first column, right-aligned rest."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
