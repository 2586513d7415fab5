"""Compares two files of --json: what got slower or larger.

    python -m benchmarks.compare OLD.json NEW.json [--tolerance=0.1]

Times are compared as multiples of what each file's own matmul peak makes possible, so that the
machine's speed at the time does not matter. Exit status: 0 nothing got worse by more than the
tolerance; 1 something did, or is missing: its rows are marked; 2 the files cannot be compared.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Measurement, Results


def main() -> None:
    """Prints every row and what became of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.compare", description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.1, help="0.1: a tenth slower passes")
    flags = parser.parse_args()
    try:
        lines, worse = compare(measure.read(flags.old), measure.read(flags.new), flags.tolerance)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(*lines, f"worse: {', '.join(worse)}" if worse else "nothing got worse", sep="\n")
    sys.exit(int(bool(worse)))


def compare(old: Results, new: Results, tolerance: float) -> tuple[list[str], list[str]]:
    """A line for each row of the old results, and the names of those that are worse or missing.

    ValueError if the results are not of the same thing.
    """
    before, after = (
        {"benchmark": r.benchmark, **{k: r.machine[k] for k in ("device", "devices")}, **r.config}
        for r in (old, new)
    )
    if changed := [name for name in before if after.get(name, before[name]) != before[name]]:
        lines = [f"{name} was {before[name]} and is {after[name]}" for name in changed]
        raise ValueError("these are not of the same thing: " + "; ".join(lines))
    rows = {row.name.strip(): row for row in new.rows}
    lines, worse = ["times at each file's own matmul peak"], []
    for row in old.rows:
        name, verdict, text = row.name.strip(), "WORSE", "is missing in the new file"
        if name in rows:
            ratio = _cost(new, rows[name]) / _cost(old, row)
            if ratio <= 1 + tolerance:
                verdict = "better" if ratio < 1 - tolerance else ""
            values = f"{measure.number(row.value):>9} -> {measure.number(rows[name].value):>9}"
            text = f"{values} {row.unit:8} {ratio:7.2f} x"
        lines.append(f"{name:34} {text} {verdict}".rstrip())
        worse += [name] if verdict == "WORSE" else []
    return lines, worse


def _cost(results: Results, row: Measurement) -> float:
    """The cost of a row, free of the machine's speed; larger is worse."""
    value = 1 / row.value if row.unit == "x" else row.value
    timed = row.peak in results.peaks and row.unit in ("ms", "s")
    return value * max(results.peaks[row.peak]) if timed else value


if __name__ == "__main__":
    main()
