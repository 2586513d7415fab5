"""Write constraints.txt: what pip resolves today on each of several Pythons, merged by markers.

    python .ci/lock.py python3.11 python3.12 python3.13      (or: make lock)

Each Python gets a new virtual environment with the newest versions of everything that `make demo`
and `make test` install. Name the Pythons from the oldest to the newest; a version later than the
last one gets what the last one got.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Every package that `make demo` and `make test` install, pinned, for Linux on x86-64 and the CPU.
# Written by `make lock`; do not edit by hand.
"""


def resolve(python: str, folder: Path) -> tuple[str, dict[str, str]]:
    """Install into a new virtual environment and return (version of Python, {package: version})."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_CONSTRAINT")}
    newest = ["--upgrade", "--upgrade-strategy", "eager"]
    wanted = ["hatchling", "--editable", f"{ROOT}[demo,video,test,dev]"]
    subprocess.run([*pip, "install", "--quiet", *newest, *wanted], check=True, env=environment)
    listed = subprocess.run(
        [*pip, "freeze", "--all", "--exclude", "pip", "--exclude-editable"],
        check=True,
        env=environment,
        capture_output=True,
        text=True,
    ).stdout
    version = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return version, dict(line.split("==") for line in listed.split())


def merge(resolved: dict[str, dict[str, str]]) -> list[str]:
    """One line a package, or one for each run of Pythons that resolve it to the same version."""
    pythons = list(resolved)
    lines = []
    for package in sorted({name for found in resolved.values() for name in found}, key=str.lower):
        versions = [resolved[python].get(package) for python in pythons]
        first = 0
        for last, version in enumerate(versions):
            if last + 1 < len(versions) and versions[last + 1] == version:
                continue
            bounds = []
            if first > 0:
                bounds.append(f"python_version >= '{pythons[first]}'")
            if last + 1 < len(versions):
                bounds.append(f"python_version < '{pythons[last + 1]}'")
            if version is not None:
                marker = f"; {' and '.join(bounds)}" if bounds else ""
                lines.append(f"{package}=={version}{marker}")
            first = last + 1
    return lines


def main(pythons: list[str]) -> None:
    """Resolve on every Python, then replace constraints.txt in one step."""
    if not pythons:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        found = dict(resolve(python, Path(scratch, str(n))) for n, python in enumerate(pythons))
    target = ROOT / "constraints.txt"
    new = target.with_suffix(".new")
    new.write_text(HEADER + "\n".join(merge(found)) + "\n")
    new.replace(target)


if __name__ == "__main__":
    main(sys.argv[1:])
