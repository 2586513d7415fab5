"""Formats results as plain text: scoring needs NumPy alone, so there is no rich here."""

from collections.abc import Iterable, Mapping, Sequence

_MATRIX_CLASSES = 12  # a matrix of more would be wider than a terminal
_SHOWN_CONFUSIONS = 10


def summary(result: Mapping) -> str:
    """Returns what was scored, the metrics in percent, and everything that was not scored.

    Args:
        result: of `scoring.evaluate`, with or without what the command adds on its scope.
    """
    counts = ", ".join(f"{number:,} {name}" for name, number in result["counts"].items())
    subset = f", subset {result['subset']}" if "subset" in result else ""
    blocks = [f"{result['protocol']} protocol{subset}: {counts}"]
    if "map" in result:
        blocks.append(_mean_average_precision(result["map"], result["ties"]))
    if "ar" in result:
        recall = {f"@{number}": result["ar"][number] for number in ("1", "5", "10", "50", "100")}
        blocks.append(_row("AR (%)", recall | {"AUC": result["ar"]["auc"]}))
    if "diagnosis" in result:
        blocks += _diagnosis(result["diagnosis"])
    if "operating_point" in result:
        blocks.append(operating_point(result["operating_point"]))
    return "\n\n".join([*blocks, "\n".join(_remarks(result))])


def _mean_average_precision(mean: Mapping[str, float], ties: Mapping) -> str:
    if not ties["predictions"]:
        return _row("mAP (%)", mean)
    orders = {
        "in the file's order": mean,
        "hits of a tie first": ties["hits_first"],
        "misses of a tie first": ties["misses_first"],
    }
    return _table(
        ["mAP (%)", *mean],
        *([name, *map(_percent, values.values())] for name, values in orders.items()),
    )


def _row(title: str, values: Mapping[str, float]) -> str:
    return _table([title, *values], ["", *map(_percent, values.values())])


def _diagnosis(diagnosis: Mapping) -> list[str]:
    outcomes = diagnosis["outcomes"]
    return [
        f"Diagnosis at tIoU {diagnosis['tiou']:.2f}: mAP_N {_percent(diagnosis['map_n'])} %",
        _table(
            ["outcome", "share %", "mAP_N gain"],
            *(
                [name.replace("_", " "), _percent(share), _percent(outcomes["gain"].get(name))]
                for name, share in outcomes["share"].items()
            ),
        ),
        _table(
            ["actions by", "range", "number", "mAP_N %", "missed %"],
            *(
                [
                    name,
                    row["range"],
                    f"{row['actions']:,}",
                    *map(_percent, (row["map_n"], row["missed"])),
                ]
                for name, bins in diagnosis["sensitivity"].items()
                for row in bins
            ),
        ),
    ]


def operating_point(point: Mapping) -> str:
    """Returns what is right at thresholds, and what is taken for what; of `assess`."""
    f1, best = _percent(point["f1"]), _percent(point["best_f1"])
    columns = ("right", "false", "missed")
    shares = ("precision", "recall", "f1")
    rows = (
        [
            name,
            "" if threshold is None else f"{threshold:.3g}",
            *(f"{row[column]:,}" for column in columns),
            *(_percent(row[share]) for share in shares),
        ]
        for name, threshold, row in [
            *((str(n), point["thresholds"].get(n), row) for n, row in point["per_class"].items()),
            ("all", None, point),
        ]
    )
    lines = [
        f"At thresholds, tIoU {point['tiou']:.2f}: F1 {f1} % (best possible {best} %)",
        f"measured {point['measured']}",
        _table(["class", "from", *columns, "precision %", "recall %", "F1 %"], *rows),
        *_confusion(point),
    ]
    for of, key in (("scores", "calibration"), ("confidences", "confidence")):
        errors = {"all": point.get(key), "those above": point.get(f"{key}_above")}
        texts = [f"{_percent(found['error'])} of {name}" for name, found in errors.items() if found]
        if texts:
            lines.append(f"expected calibration error of {of}, in points: {', '.join(texts)}")
    return "\n".join(lines)


def _confusion(point: Mapping) -> Iterable[str]:
    """Yields the confusion matrix, or of many classes what is confused most."""
    labels = [*point["per_class"], None]
    counts = {(row, column): number for row, column, number in point["confusion"]}
    if len(labels) <= _MATRIX_CLASSES + 1:
        names = [*map(str, labels[:-1]), "nothing"]
        yield _table(
            ["action, found as", *names],
            *(
                [name, *(f"{counts.get((row, column), '.')}" for column in labels)]
                for name, row in zip(names, labels, strict=True)
            ),
        )
        return
    confused = [row for row in point["confusion"] if None not in row and row[0] != row[1]]
    confused.sort(key=lambda row: -row[2])
    if confused:
        most = (f"{row} as {column} {number}" for row, column, number in confused)
        yield f"most confused: {', '.join(list(most)[:_SHOWN_CONFUSIONS])}"


def _remarks(result: Mapping) -> Iterable[str]:
    if "ties" in result:
        number, largest = result["ties"]["predictions"], result["ties"]["largest"]
        yield f"tied predictions, of one class and score: {number:,}" + (
            f", the largest tie {largest:,}" if number else ""
        )
    yield f"videos without a prediction: {_listed(result['missing_videos'])}"
    if "outside_subset" in result:
        outside = result["outside_subset"]
        yield (
            f"predictions of other subsets, counted as false positives: "
            f"{outside['predictions']:,} in {outside['videos']:,} videos"
            + (
                f", as officially; predict --features=DATA --subset={result['subset']} detects in "
                "that part alone"
                if outside["predictions"]
                else ""
            )
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


def _table(*rows: list[str]) -> str:
    """Returns columns of equal width, the first aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)
