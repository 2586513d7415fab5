"""The documents keep to the project: links, commands, config fields, and the names in tables."""

import ast
import functools
import re
from pathlib import Path

import pytest

from segtad_jax.__main__ import COMMANDS
from segtad_jax.config import default, with_arguments

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "launch/README.md"]
TABLE = "## Equation, function, test"
IN_TABLE = [*(f"Eq. {number}" for number in range(1, 12)), "SGAlign", "sampling", "s1 x s2"]
PAST = {  # fields and files that documents may name although they are gone
    *("model.refine", "benchmarks/growth.py", "benchmarks/startup.py"),
}
MODULES = re.compile(r"python3? (?:-\w+ )*-m ((?:segtad_jax|benchmarks|configs)[\w.]*)")
VERBS = re.compile(r"(?<![\w.])(?:segtad|-m segtad_jax) ([a-z]+)")
IMPORTS = re.compile(r"^from (segtad_jax[\w.]*) import (\w+)", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
CONFIGS = re.compile(r"(?:--config[ =]|`)(configs/\w+\.py)(?::([\w=,]+))?")
GROUPS = "data|model|sampling|loss|augment|optim|train|eval"
FIELDS = re.compile(
    r"--config\.([a-z][\w.]*)"
    rf"|`((?:{GROUPS})\.(?!(?:py|json|safetensors)\b)\w+)[`\s=]"  # but not train.py
)

documents = pytest.mark.parametrize(
    "text", [pytest.param(p.read_text(), id=str(p.relative_to(ROOT))) for p in DOCUMENTS]
)


@functools.cache
def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    seen: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#+ (.+)$", without_code(path.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        result.add(f"{slug}-{count}" if count else slug)
    return result


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def broken_links(path: Path, text: str) -> list[str]:
    """Relative links of a document whose file or anchor does not exist."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    assert not broken_links(path, path.read_text())


def test_broken_links_are_noticed():
    text = "[a](docs/none.md) [b](docs/results.md#none) [c](#none) [d](docs/results.md#ablations)"
    found = broken_links(ROOT / "README.md", text)
    assert found == ["docs/none.md", "docs/results.md#none", "#none"]


@documents
def test_commands_exist(text):
    for module in MODULES.findall(text):
        path = ROOT.joinpath(*module.rstrip(".").split("."))
        files = [path.with_suffix(".py"), path / "__main__.py"]
        assert any(f.exists() and "__main__" in f"{f.name}{f.read_text()}" for f in files), module
    assert not set(verbs(text)) - set(COMMANDS)
    for name in (".".join(pair) for pair in IMPORTS.findall(text)):
        assert defines(ROOT, name), name


@functools.cache
def sources(folder: str) -> str:
    return "".join(path.read_text() for path in sorted((ROOT / folder).rglob("*.py")))


@documents
def test_flags_of_commands_exist(text):
    for code in CODE.findall(text):
        for line in re.sub(r'\\\n|"[^"]*"', " ", code).splitlines():
            if command := re.search(r"(-m segtad_jax|-m benchmarks|(?<![\w.])segtad )(.*)", line):
                folder = "benchmarks" if "benchmarks" in command[1] else "segtad_jax"
                for flag in re.findall(r" --(?:no(?=run))?(\w+)", command[2]):
                    assert re.search(rf'"(?:--)?{flag}"', sources(folder)), f"--{flag}: {line}"


def verbs(text: str) -> list[str]:
    return [verb for code in CODE.findall(text) for verb in VERBS.findall(code)]


def test_running_lists_all_commands():
    assert set(verbs((ROOT / "docs" / "running.md").read_text())) == set(COMMANDS)


@documents
def test_files_of_the_code_exist(text):
    for file in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
        places = [root / file for root in (ROOT, ROOT / "segtad_jax")]
        assert file in PAST or any(place.exists() for place in places), file


@documents
def test_configs_and_their_switches_exist(text):
    for file, switches in CONFIGS.findall(text):
        assert (ROOT / file).exists(), file
        if "NAME" not in switches:  # `:ablation=NAME` stands for all of them
            with_arguments(default(), switches)


@documents
def test_fields_exist(text):
    config = default()
    for group_and_name in FIELDS.findall(text.replace(table(text), "")):
        field = "".join(group_and_name)
        if field not in PAST:
            value = config
            for part in field.split("."):
                assert part in value, field
                value = value[part]


def table(text: str) -> str:
    """The section of a document whose table names functions and tests; "" without one."""
    _, heading, rest = text.partition(TABLE)
    return heading + rest.split("\n## ")[0]


def rows() -> list[list[str]]:
    """The cells of each row of the table in docs/paper_notes.md."""
    section = table((ROOT / "docs" / "paper_notes.md").read_text())
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def defines(root: Path, name: str) -> bool:
    """Whether `module.Class.method`, looked for under a folder, is written in that module."""
    *modules, last = name.split(".")
    inner = [last]
    while modules and not (file := root.joinpath(*modules).with_suffix(".py")).exists():
        inner.insert(0, modules.pop())
    if not modules:
        return False
    body: list[ast.stmt] = ast.parse(file.read_text()).body
    for part in inner:
        found = [
            n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part
        ]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("cells", rows(), ids=lambda cells: cells[0])
def test_paper_table_names_what_exists(cells):
    _, functions, tests = cells
    for column, root in [(functions, ROOT / "segtad_jax"), (tests, ROOT / "tests")]:
        names = re.findall(r"`([\w.]+)`", column)
        assert names, f"names nothing: {column}"
        assert not [name for name in names if not defines(root, name)]
    assert all(name.split(".")[1].startswith("test_") for name in re.findall(r"`([\w.]+)`", tests))


@pytest.mark.parametrize("part", IN_TABLE)
def test_paper_table_is_complete(part):
    assert [cells for cells in rows() if re.search(rf"{re.escape(part)}(?!\d)", cells[0])]


def test_wrong_names_are_noticed():
    package = ROOT / "segtad_jax"
    assert defines(package, "models.ssn.PAG.__call__")
    for wrong in ["models.ssn.PAX", "models.ssn.PAG.call", "models.snn.PAG", "PAG", "ops.graph"]:
        assert not defines(package, wrong)
