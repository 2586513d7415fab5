"""`--config` on the command line: names, open fields, the listing, and typos in one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def main(*flags: str, cwd: Path = ROOT) -> tuple[int, str, str]:
    """Status, stdout and stderr; nothing here comes as far as importing JAX."""
    code = "import sys, runpy; sys.modules['jax'] = None; "
    code += "runpy.run_module('segtad_jax.main', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", code, *flags]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=environment
    )
    return done.returncode, done.stdout, done.stderr


def fields(*flags: str, cwd: Path = ROOT) -> dict[str, str]:
    status, printed, errors = main(*flags, "--print_config", cwd=cwd)
    assert (status, errors) == (0, "")
    return dict(re.findall(r"^([\w.]+) = (.*?)(?:  #.*)?$", printed, re.MULTILINE))


def test_the_config_is_printed_with_what_the_command_line_sets(tmp_path):
    found = fields("--config=watch:paper", "--config.model.dilations=1,2", cwd=tmp_path)
    assert found["data.source"] == "'watch'"
    assert found["model.aggregate"] == "'sum'"
    assert found["model.dilations"] == "(1, 2)"
    assert found["data.num_channels"] == "None"


def test_none_opens_a_field_and_a_value_closes_it(tmp_path):
    opened = ("--config.model.width=None", "--config.model.dilations=None")
    found = fields("--config=hapt", *opened, "--config.data.num_classes=None", cwd=tmp_path)
    assert {found[f] for f in ("model.width", "model.dilations", "data.num_classes")} == {"None"}
    closed = ("--config.model.width=64", "--config.model.dilations=(1,)", "--config.eval.snap=0")
    found = fields("--config=custom", *closed, cwd=tmp_path)
    assert [found[f] for f in ("model.width", "model.dilations", "eval.snap", "model.stride")] == [
        "64", "(1,)", "0", "None"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "typo", "nearest"),
    [
        (["--config=watch", "--config.model.widht=3"], "model.widht", "model.width"),
        (["--config=configs/whatch.py"], "configs/whatch.py", "configs/watch.py"),
        (["--config=watch:papr"], "papr", "paper"),
        (["--config=watch", "--wrokdir=x"], "wrokdir", "workdir"),
        (["--config=watch", "--config.model.width=wide"], "wide", "config.model.width"),
        ([], "None", "config"),
    ],
)
def test_a_typo_is_one_line_with_the_nearest_name(flags, typo, nearest):
    status, _, errors = main(*flags, "--workdir=x")
    assert status == 1
    assert typo in errors
    assert nearest in errors.replace(typo, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
