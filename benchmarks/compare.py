"""What got slower or larger between two files of --json.

    python -m benchmarks.compare OLD.json NEW.json [--tolerance=0.1]

Times are compared as multiples of what each file's own matmul peak makes possible, so that the
speed of the machine at the time does not matter; memory as it is. Exit status: 0 nothing got worse
by more than the tolerance; 1 something did, or is missing: its rows are marked; 2 the files cannot
be compared.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Report, Row

HIGHER_IS_BETTER = {"videos/s", "x"}
OF_THE_MACHINE = {"ms", "s", "videos/s"}  # units that a faster machine changes


def main() -> None:
    """Prints every row and what became of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.compare", description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.1, help="0.1: a tenth slower passes")
    flags = parser.parse_args()
    try:
        old, new = measure.read(flags.old), measure.read(flags.new)
        lines, worse = compare(old, new, flags.tolerance)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print("\n".join(lines))
    sys.exit(int(bool(worse)))


def compare(old: Report, new: Report, tolerance: float) -> tuple[list[str], list[str]]:
    """A line for each row of the old report, and the names of those that are worse or missing.

    Raises:
        ValueError: the reports are not of the same thing.
    """
    _require_same(old, new)
    after = {row.name.strip(): row for row in new.rows}
    peaks = f"{old.best_peak:,.0f} GFLOP/s, then {new.best_peak:,.0f}"
    lines = [f"times at each file's own matmul peak: {peaks}"]
    worse = []
    for row in old.rows:
        name = row.name.strip()
        if name not in after:
            lines.append(f"{name:34} is missing in the new file")
            worse.append(name)
            continue
        ratio = _cost(new, after[name]) / _cost(old, row)
        verdict = "WORSE" if ratio > 1 + tolerance else "better" if ratio < 1 - tolerance else ""
        values = f"{measure.number(row.value):>9} -> {measure.number(after[name].value):>9}"
        lines.append(f"{name:34} {values} {row.unit:8} {ratio:7.2f} x {verdict}".rstrip())
        worse += [name] if verdict == "WORSE" else []
    lines.append(f"worse: {', '.join(worse)}" if worse else "nothing got worse")
    return lines, worse


def _cost(report: Report, row: Row) -> float:
    """What a row costs, free of the machine's speed; larger is worse."""
    value = 1 / row.value if row.unit in HIGHER_IS_BETTER else row.value
    measured = report.peak is not None and row.unit in OF_THE_MACHINE
    return value * report.best_peak if measured else value


def _require_same(old: Report, new: Report) -> None:
    found = list(_differences(old, new))
    if found:
        raise ValueError("these are not of the same thing: " + "; ".join(found))


def _differences(old: Report, new: Report) -> Iterator[str]:
    pairs = {
        "benchmark": (old.benchmark, new.benchmark),
        "batch": (old.batch, new.batch),
        "devices": tuple((r.machine["devices"], r.machine["device"]) for r in (old, new)),
    }
    for field in sorted(set(old.config) & set(new.config)):
        if field.split(".")[0] in {"data", "model", "sampling", "eval"} and field != "data.dir":
            pairs[field] = (old.config[field], new.config[field])
    for name, (before, after) in pairs.items():
        if before != after:
            yield f"{name} was {before} and is {after}"


if __name__ == "__main__":
    main()
