"""Every command in both forms: --help is quick and complete, a typo in a verb is answered."""

import os
import resource
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from segtad_jax.__main__ import COMMANDS, main
from segtad_jax.config.defaults import SWITCHES

ROOT = Path(__file__).resolve().parent.parent
TINY = "--config=configs/tiny.py"
MODULES = ["main", *sorted({module for module, _, _ in COMMANDS.values()} - {"main"})]
FORMS = [*([f"segtad_jax.{module}"] for module in MODULES), *(["segtad_jax", v] for v in COMMANDS)]
CONFIGS = [path.stem for path in (ROOT / "configs").glob("*.py")]
HEAVY = {"jax", "tensorflow", "tensorflow_datasets", "orbax", "flax", "matplotlib", "scipy"}
ONLY_IN_HELP = {  # of a command
    "main": "--mode", "experiments": "--seeds", "prepare": "--annotations", "export": "--platforms",
    "predict": "--subset", "evaluation": "--ground_truth", "checkpoint": "RUN[/STEP]",
    "video": "--save_features",
}  # fmt: skip
CPU_SECONDS = 2  # 0.5 at most on the machine where this was written; the aim is 1

# As `python -m` does, and prints on stderr what was loaded.
WATCHED = """
import atexit, runpy, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
sys.argv[:] = ["", *sys.argv[2:], "--help"]
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_help_is_quick_and_loads_nothing_heavy(form: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = call("-c", WATCHED.format(module=form[0]), *form)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stderr.split())
    assert "segtad_jax" in done.stderr.split()
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert used < CPU_SECONDS
    module = COMMANDS[form[1]][0] if len(form) > 1 else form[0].removeprefix("segtad_jax.")
    assert ONLY_IN_HELP[module] in done.stdout


@pytest.mark.parametrize("module", ["main", "experiments"])
def test_help_of_commands_with_a_config(module: str) -> None:
    text = call("-m", f"segtad_jax.{module}", "--help").stdout
    for flag in ("--config", "--workdir", "--[no]print_config"):
        assert f"  {flag}: " in text
    assert not [name for name in (*SWITCHES, *CONFIGS) if name not in text]
    assert len(CONFIGS) >= 7
    assert "--config.GROUP.FIELD=VALUE" in text
    assert "--logtostderr" not in text  # absl's own
    assert max(map(len, text.splitlines())) <= 100


def test_commands_are_listed() -> None:
    for arguments in ([], ["--help"], ["help"]):
        done = call("-m", "segtad_jax", *arguments)
        assert done.returncode == 0
        listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
        assert listed == list(COMMANDS)


@pytest.mark.parametrize(
    ("verb", "module", "preset"),
    [
        ("prepare", "segtad_jax.prepare", []),
        ("train", "segtad_jax.main", ["--mode=train"]),
        ("evaluate", "segtad_jax.main", ["--mode=evaluate"]),
        ("compile", "segtad_jax.main", ["--mode=compile"]),
        ("predict", "segtad_jax.predict", []),
        ("score", "segtad_jax.evaluation", []),
        ("inspect", "segtad_jax.checkpoint", []),
        ("export", "segtad_jax.export", []),
        ("experiments", "segtad_jax.experiments", []),
    ],
)
def test_a_verb_is_its_module_with_its_arguments(verb, module, preset, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(
        runpy, "run_module", lambda name, **how: calls.append((name, how, sys.argv[1:]))
    )
    monkeypatch.setattr(sys, "argv", ["segtad", verb, "--x", "a b"])
    main()
    how = {"run_name": "__main__", "alter_sys": True}
    assert calls == [(module, how, [*preset, "--x", "a b"])]
    assert verb in COMMANDS


def test_what_a_command_says_passes_through() -> None:
    arguments = ["--ground_truth=nowhere.json", "--predictions=nowhere.json"]
    forms = (["segtad_jax", "score"], ["segtad_jax.evaluation"])
    short, long = (call("-m", *form, *arguments) for form in forms)
    assert short.returncode == long.returncode == 1
    assert short.stderr == long.stderr
    assert short.stderr.startswith("error: nowhere.json: ")


@pytest.mark.parametrize(("verb", "guess"), [("trian", "'train'"), ("evaluation", "'evaluate'")])
def test_an_unknown_verb_is_answered_with_the_nearest(verb: str, guess: str) -> None:
    done = call("-m", "segtad_jax", verb, "--config=x")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"'{verb}'" in line
    assert f"Did you mean {guess}?" in line
    assert all(name in line for name in COMMANDS)


def test_the_console_script_is_the_same() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"segtad": "segtad_jax.__main__:main"}
    code = "import sys; from segtad_jax.__main__ import main; sys.exit(main())"
    done = call("-c", code, "predict", "--help")
    assert done.returncode == 0
    assert "--features" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--workdir=x", "extra", TINY], ["'extra'"]),
        (["train", "--wrkdir=x", TINY], ["wrkdir", "workdir"]),
        (["evaluate", "--workdir=x", "--profile=1:2", TINY], ["--profile", "--mode=train"]),
        (["compile", "--checkpoint=x", TINY], ["--checkpoint", "--mode=evaluate"]),
        (["train", TINY], ["--workdir=runs/mine"]),
        (["train", "--workdir=x"], ["--config=custom"]),
    ],
)
def test_wrong_use_of_flags_is_a_line(arguments: list[str], named: list[str]) -> None:
    done = call("-m", "segtad_jax", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert not [name for name in named if name not in line]
