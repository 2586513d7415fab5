"""What the commands share: text that cannot steer a terminal, and flags that are misspelt."""

import io
import sys

import pytest
from etils import epath
from rich.table import Table

from segtad_jax import evaluate
from segtad_jax.evaluation import scoring
from segtad_jax.evaluation.__main__ import main as score
from segtad_jax.prepare.__main__ import main as prepare
from segtad_jax.runtime import command
from segtad_jax.runtime.console import open_console

EVIL = "a\x1b[2J\x1b]0;title\x07\u202eb\x9b1m\ud800"
SHOWN = r"a\x1b[2J\x1b]0;title\x07\u202eb\x9b1m\ud800"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_a_command_prints_cannot_steer_the_terminal(monkeypatch, stream):
    monkeypatch.setattr(sys, stream, terminal := Terminal())

    def act():
        print(f"Bügeln\t{EVIL}", file=getattr(sys, stream))
        if stream == "stderr":
            raise ValueError(EVIL)

    assert command.run(act) == (command.FAILED if stream == "stderr" else command.DONE)
    error = f"error: {SHOWN}\n" if stream == "stderr" else ""
    assert terminal.getvalue() == f"Bügeln\t{SHOWN}\n{error}"


def test_what_an_encoding_lacks_is_escaped(monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, "ascii", write_through=True))
    command.run(lambda: print("Bügeln"))
    assert content.getvalue() == b"B\\xfcgeln\n"


def test_rich_keeps_its_colours_and_nothing_else(monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def act():
        console = open_console(width=200, color_system="standard")
        console.print(EVIL, style="red", markup=False, highlight=False)
        table = Table("class")
        table.add_row(EVIL)
        console.print(table)

    assert command.run(act) == 0
    written = terminal.getvalue()
    assert written.count(SHOWN.replace(r"\x07", "")) == 2  # rich takes out the bell
    assert "\x1b[31m" in written
    assert not set("\x07\x9b\u202e\ud800") & set(written)
    assert "\x1b[2J" not in written


def test_a_run_tells_its_ties(tmp_path, capsys):
    truth = {"x": [(0, 10, "a")]}
    metrics = scoring.evaluate(truth, {"x": [(20, 30, "a", 0.5), (0, 10, "a", 0.5)]})
    evaluate.show(epath.Path(tmp_path), metrics | {"step": 1})
    assert "2 tied; mean 0.500 if misses lead, 1.000 if hits do" in capsys.readouterr().out
    older = {key: value for key, value in metrics.items() if key != "ties"}
    evaluate.show(epath.Path(tmp_path), older | {"step": 1})
    assert "tied" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("main", "flags", "near"),
    [
        (score, ["--prediction=p.json", "--ground_truth=g.json"], "--predictions"),
        (score, ["--groundtruth=x"], "--ground_truth"),
        (prepare, ["--anotations", "a.csv"], "--annotations"),
    ],
)
def test_a_misspelt_flag_is_answered_with_the_nearest(main, flags, near, capsys):
    with pytest.raises(SystemExit) as caught:
        main(flags)
    assert caught.value.code == command.USAGE
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith(f"{flags[0]}; did you mean {near}?")


@pytest.mark.parametrize(
    "text", ["0.5:0:0.9", "0.5:0.07:0.9", "0:nan:1", "0.5:", "a", "0", "0.5,0.501"]
)
def test_thresholds_that_are_none_are_answered_with_the_form(text, capsys):
    with pytest.raises(SystemExit):
        score(["--ground_truth=x", "--predictions=y", f"--tiou={text}"])
    message = capsys.readouterr().err.splitlines()[-1]
    assert all(part in message for part in ("--tiou", repr(text), "0.5:0.05:0.95", "0.3,0.5"))
