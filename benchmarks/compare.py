"""Compares two files of --json: what got slower or larger.

    python -m benchmarks.compare OLD.json NEW.json [--tolerance=0.1]

Times are compared as multiples of what each file's own matmul peak makes possible, so that the
speed of the machine at the time does not matter; memory as it is. Exit status: 0 nothing got worse
by more than the tolerance; 1 something did, or is missing: its rows are marked; 2 the files cannot
be compared.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Measurement, Results

OF_THE_MACHINE = {"ms", "s", "videos/s"}  # units that a faster machine changes
COMPARED = {"data", "model", "sampling", "eval"}  # groups of the config


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
    print("\n".join(lines))
    sys.exit(int(bool(worse)))


def compare(old: Results, new: Results, tolerance: float) -> tuple[list[str], list[str]]:
    """A line for each row of the old results, and the names of those that are worse or missing.

    Raises:
        ValueError: the results are not of the same thing.
    """
    before, after = _subject(old), _subject(new)
    if changed := [name for name in before if after.get(name, before[name]) != before[name]]:
        lines = [f"{name} was {before[name]} and is {after[name]}" for name in changed]
        raise ValueError("these are not of the same thing: " + "; ".join(lines))
    rows = {row.name.strip(): row for row in new.rows}
    lines, worse = ["times at each file's own matmul peak"], []
    for row in old.rows:
        name = row.name.strip()
        if name not in rows:
            lines.append(f"{name:34} is missing in the new file")
            worse.append(name)
            continue
        ratio = _cost(new, rows[name]) / _cost(old, row)
        verdict = "WORSE" if ratio > 1 + tolerance else "better" if ratio < 1 - tolerance else ""
        values = f"{measure.number(row.value):>9} -> {measure.number(rows[name].value):>9}"
        lines.append(f"{name:34} {values} {row.unit:8} {ratio:7.2f} x {verdict}".rstrip())
        worse += [name] if verdict == "WORSE" else []
    return [*lines, f"worse: {', '.join(worse)}" if worse else "nothing got worse"], worse


def _subject(results: Results) -> dict[str, object]:
    """The benchmark, its machine and its shapes: what must be equal."""
    shapes = {k: v for k, v in results.config.items() if k.split(".")[0] in COMPARED}
    machine = {name: results.machine[name] for name in ("device", "devices")}
    return {"benchmark": results.benchmark, **machine, **shapes, "data.dir": None}


def _cost(results: Results, row: Measurement) -> float:
    """The cost of a row, free of the machine's speed; larger is worse."""
    value = 1 / row.value if row.unit in ("videos/s", "x") else row.value
    measured = row.peak in results.peaks and row.unit in OF_THE_MACHINE
    return value * max(results.peaks[row.peak]) if measured else value


if __name__ == "__main__":
    main()
