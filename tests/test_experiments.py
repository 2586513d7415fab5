"""The paper's tables as a command: what runs, in what order, what is kept, what is said."""

import csv
import json
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from segtad_jax.config.ablations import ABLATIONS
from segtad_jax.config.defaults import default, flatten
from segtad_jax.evaluation.report import style
from segtad_jax.experiments import paper, plan
from segtad_jax.experiments.figure import ablation_figure
from segtad_jax.experiments.paper import TABLES
from segtad_jax.experiments.results import TIOUS, Result, ResultFiles
from segtad_jax.experiments.session import Session
from segtad_jax.experiments.tables import difference, markdown
from tests.test_config import ROOT_CONFIGS, load

TINY = ROOT_CONFIGS / "tiny.py"
SHORT = {"train.steps": 2, "train.log_every": 2, "train.eval_every": 0, "train.save_every": 2}


def base(**overrides: object) -> plan.Base:
    fields = {name.replace("__", "."): value for name, value in overrides.items()}
    config = load(TINY)
    config.update_from_flattened_dict(fields)
    return plan.base("configs/tiny.py", fields, config)


def result(average: float, tiou: float = 0.5) -> Result:
    ceiling = {"0.50": 1.0, "0.75": 0.9, "0.95": 0.4, "average": 0.8}
    return Result({**dict.fromkeys(TIOUS, tiou), "average": average}, ceiling, 200, 60.0, 55.0, 2)


def session(folder: pathlib.Path, table: str = "5", seeds: int = 2, **overrides: object) -> Session:
    numbers = paper.table_numbers(table)
    return Session(base(**overrides), numbers, seeds, folder / "runs", folder / "results")


# What runs


def test_seed_0_of_every_row_comes_first_and_a_config_runs_once() -> None:
    every = paper.ablations(paper.table_numbers("all"))
    assert set(every) == set(ABLATIONS)
    watch = plan.base("configs/watch.py", {}, load(ROOT_CONFIGS / "watch.py"))
    runs = plan.trials(watch, every, 2)
    assert [run.seed for run in runs] == [0] * 12 + [1] * 12
    # Of 13 rows two are the same here: dilations 1, 10, 20, 30 are those of the config.
    assert {run.ablation for run in runs} == set(ABLATIONS) - {"dilations_1_10_20_30"}
    assert len({run.name for run in runs}) == len(runs)
    tiny = plan.trials(base(), every, 1)
    assert {run.ablation for run in tiny} == set(ABLATIONS)


def test_experiments_are_plain_and_the_command_line_has_the_last_word() -> None:
    watch = load(ROOT_CONFIGS / "watch.py", "paper")
    watch.train.steps = 7
    shared = plan.base("configs/watch.py:paper", {"train.steps": 7}, watch)
    config = plan.trial(shared, "no_graph", 3).config
    assert shared.arguments == ("paper", "plain")
    assert (config.seed, config.train.steps) == (3, 7)
    assert config.model.branches == ("atrous", "global")
    assert config.model.aggregate == "sum"
    assert (config.eval.snap, config.augment.noise) == (0, 0.0)


def test_command_gives_main_the_same_config() -> None:
    shared = base(train__steps=6, model__dilations=(1, 2))
    for run in plan.trials(shared, list(ABLATIONS), 2)[::3]:
        flags = plan.command(shared, run, "runs")
        file, _, argument = flags[2].removeprefix("--config=").partition(":")
        config = load(ROOT_CONFIGS.parent / file, argument)
        config.update_from_flattened_dict({"train.steps": 6, "model.dilations": (1, 2)})
        config.seed = run.seed
        assert flatten(config) == flatten(run.config)
        assert flags[:2] == ["-m", "segtad_jax.main"]
        assert flags[3:] == [
            *("--config.train.steps=6", "--config.model.dilations=(1, 2)"),
            f"--config.seed={run.seed}",
            f"--workdir=runs/{run.ablation}_seed{run.seed}",
        ]


@pytest.mark.parametrize(
    ("file", "overrides", "message"),
    [
        ("x.py:ablation=no_graph", {}, r"--config=x.py:ablation=no_graph .*leave it out"),
        ("x.py", {"seed": 3}, r"--config.seed .*--seeds"),
    ],
)
def test_what_the_experiments_say_themselves_is_refused(file, overrides, message) -> None:
    with pytest.raises(ValueError, match=message):
        plan.base(file, overrides, default())


def test_what_a_data_set_settles_may_differ_and_nothing_else() -> None:
    wanted, trained = load(ROOT_CONFIGS / "custom.py"), load(ROOT_CONFIGS / "custom.py")
    trained.data.num_frames, trained.model.stride = 320, 8
    assert plan.fits(wanted, trained)
    trained.augment.noise = 0.5
    assert not plan.fits(wanted, trained)


def test_unknown_table_is_answered_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"--table=5,9.*'9'.*3, 4, 5, 6, 7, 8.*all"):
        paper.table_numbers("5,9")
    assert paper.table_numbers("8, 3") == [3, 8]


def test_a_config_that_cannot_run_is_told_before_anything_runs(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"num_frames = 60 .* 8\b.*64"):
        session(tmp_path, data__num_frames=60)


# What is kept


def test_a_result_is_found_again_by_config_and_seed(tmp_path) -> None:
    shared = base()
    one, other = plan.trials(shared, ["no_graph", "no_global"], 1)
    ResultFiles(tmp_path).add(one, result(0.5))
    again = ResultFiles(tmp_path)
    assert again.get(one) == result(0.5)
    assert again.get(other) is None
    assert again.get(one._replace(seed=1)) is None
    assert again.get(one._replace(ablation="another name")) == result(0.5)
    elsewhere = plan.trials(base(data__dir="elsewhere", train__save_every=50), ["no_graph"], 1)[0]
    assert again.get(elsewhere) == result(0.5)
    longer = plan.trials(base(train__steps=300), ["no_graph"], 1)[0]
    assert again.get(longer) is None
    again.add(other, result(0.25))
    lines = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [line["ablation"] for line in lines] == ["no_graph", "no_global"]
    assert [float(line["average"]) for line in lines] == [0.5, 0.25]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_field_that_comes_later_leaves_results_valid(tmp_path) -> None:
    """As if the results were of a version that did not know of snapping, which is off in both."""
    run = plan.trials(base(), ["no_graph"], 1)[0]
    ResultFiles(tmp_path).add(run, result(0.5))
    path = tmp_path / "configs.json"
    for field, value in {"eval.snap": 0, "model.width": 256}.items():
        content = json.loads(path.read_text())
        (name,) = content
        del content[name][field]
        path.write_text(json.dumps(content))
        assert flatten(default())[field] == value
        # tiny has another width than the default: nobody knows what that run had.
        assert (ResultFiles(tmp_path).get(run) is None) == (field == "model.width")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "results.csv",
            lambda text: text.replace("seed,", "sed,"),
            "results.csv .*seed,.*--results",
        ),
        (
            "results.csv",
            lambda text: text.replace(",0.50000", ",high"),
            "results.csv, line 2.*'high'",
        ),
        ("configs.json", lambda text: text[:-20], "configs.json: .*Restore it"),
        (
            "configs.json",
            lambda _: "{}",
            "results.csv, line 2.* [0-9a-f]{12} .*configs.json.*Restore",
        ),
    ],
)
def test_broken_results_are_refused_not_overwritten(tmp_path, file, change, message) -> None:
    run = plan.trials(base(), ["no_graph"], 1)[0]
    ResultFiles(tmp_path).add(run, result(0.25))
    path = tmp_path / file
    path.write_text(change(path.read_text()))
    before = path.read_text()
    with pytest.raises(ValueError, match=message):
        ResultFiles(tmp_path)
    assert path.read_text() == before


# What is said


def test_difference_has_the_standard_error_of_two_means() -> None:
    ours, theirs = [0.50, 0.53, 0.52], [0.60, 0.61]
    found = difference([result(x) for x in ours], [result(x) for x in theirs])
    a, b = 100 * np.array(ours), 100 * np.array(theirs)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.error == pytest.approx(np.sqrt(a.var(ddof=1) / 3 + b.var(ddof=1) / 2))
    assert found.p < 0.01
    assert difference([result(0.5)], [result(0.6)] * 3) == (pytest.approx(-10), None, None)
    assert difference([], [result(0.6)]) is None
    assert difference([result(0.5)] * 2, [result(0.5)] * 2) == (0.0, 0.0, 1.0)


def test_tables_say_what_is_known_and_what_is_not() -> None:
    averages = {
        "segtad": [0.60, 0.61, 0.605],
        "no_atrous": [0.50, 0.51, 0.52],
        "no_graph": [0.60, 0.59, 0.62],
        "no_global": [0.65],
    }

    def results(ablation: str) -> list[Result]:
        return [result(x) for x in averages.get(ablation, [])]

    text = markdown([5, 8], results, "of tiny")
    assert "## Table 5. Ablating studies in PAG of 1D-SSN" in text
    atrous = "| ✗ | ✓ | ✓ | 50.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | 51.0 ± 1.0 | 3 "
    assert f"{atrous}| 48.55 | 33.04 | 5.21 | 32.37 |" in text
    assert "| ✓ | ✓ | ✗ | 50.0 | 50.0 | 50.0 | 65.0 | 1 | 49.75" in text
    assert "100.0, 90.0, 40.0, 80.0 with perfect scores" in text
    assert "-9.5 points, standard error 0.6: worse than SegTAD beyond the noise of seeds" in text
    assert "-0.2 points, standard error 0.9: not to be told from SegTAD by these seeds" in text
    assert "+4.5 points; of one seed, so that nothing is known of the noise. In the paper" in text
    assert "`center_distance` (Center distance): not run yet. In the paper -1.01." in text
    assert "ActivityNet-1.3, validation" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| ✗")}
    assert widths == {13}


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_figure_draws_whatever_is_done(seeds: int) -> None:
    noise = np.random.default_rng(0)

    def results(ablation: str) -> list[Result]:
        return [result(0.5 + noise.normal() / 50) for _ in range(seeds)]

    figure = ablation_figure(list(TABLES), results)
    assert len(figure.axes) == len(TABLES)
    rows = [[label.get_text() for label in panel.get_yticklabels()] for panel in figure.axes]
    assert rows[2] == ["no_atrous", "no_graph", "no_global"]
    limits = {panel.get_xlim() for panel in figure.axes}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low < -1.41 < 0 < high  # Table 7 of the paper
    assert style.encode(figure, "svg").startswith(b"<?xml")


# The command


def command(folder: pathlib.Path, *flags: str) -> list[str]:
    fields = [f"--config.{name}={value}" for name, value in SHORT.items()]
    return [
        *(sys.executable, "-m", "segtad_jax.experiments", "--config=configs/tiny.py:runlocal"),
        *(f"--workdir={folder / 'runs'}", f"--results={folder / 'results'}"),
        *(*fields, f"--config.data.dir={folder / 'data'}", *flags),
    ]


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        arguments, check=False, capture_output=True, text=True, cwd=ROOT_CONFIGS.parent
    )


@pytest.mark.slow
def test_commands_are_written_without_running(tmp_path) -> None:
    done = call(*command(tmp_path, "--table=7,8", "--seeds=2", "--norun"))
    assert done.returncode == 0, done.stderr
    assert "0 of 6 runs are done" in done.stdout
    results = tmp_path / "results"
    lines = (results / "commands.txt").read_text().splitlines()
    assert len(lines) == 6
    words = shlex.split(lines[1])
    assert words[:3] == ["python", "-m", "segtad_jax.main"]
    assert "--config=configs/tiny.py:runlocal,plain,ablation=no_proposal_graph" in words
    assert {p.name for p in results.iterdir()} == {"commands.txt", "tables.md", "ablations.svg"}
    assert not (tmp_path / "runs").exists()
    said = (results / "tables.md").read_text().splitlines()[0]
    method = "`configs/tiny.py:runlocal,plain`, train.steps = 2"
    assert said == f"{method}: 0 of 6 runs are done (results.csv)."


def test_wrong_use_is_a_line(tmp_path) -> None:
    done = call(*command(tmp_path, "--table=9"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --table=9")


@pytest.mark.slow
def test_runs_what_is_missing_and_goes_on_after_a_stop_and_a_loss(tmp_path) -> None:
    arguments = command(tmp_path, "--table=7", "--seeds=1")
    runs, results = tmp_path / "runs", tmp_path / "results"
    process = subprocess.Popen(
        arguments, cwd=ROOT_CONFIGS.parent, stdout=subprocess.PIPE, text=True
    )
    while not (runs / "segtad_seed0" / "metrics.json").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate()
    assert process.returncode == 75
    assert "1 of 2 runs are done" in said
    assert "The same command goes on" in said

    # Folders of runs are lost, what is committed is not; then a run fails.
    (runs / "segtad_seed0").rename(tmp_path / "lost")
    (runs / "no_proposal_graph_seed0").mkdir(parents=True, exist_ok=True)
    (runs / "no_proposal_graph_seed0" / "config.json").write_text("{}")
    done = call(*arguments)
    assert done.returncode == 1
    assert "failed, see above: no_proposal_graph_seed0" in done.stderr
    (runs / "no_proposal_graph_seed0" / "config.json").unlink()
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    assert "run 2 of 2: no_proposal_graph, seed 0; about" in done.stdout
    assert "2 of 2 runs are done" in done.stdout
    assert not (runs / "segtad_seed0").exists()
    assert (results / "commands.txt").read_text() == ""
    lines = list(csv.DictReader((results / "results.csv").open()))
    assert [line["ablation"] for line in lines] == ["segtad", "no_proposal_graph"]
    metrics = json.loads((runs / "no_proposal_graph_seed0" / "metrics.json").read_text())
    assert float(lines[1]["average"]) == pytest.approx(metrics["map"]["average"], abs=1e-5)
    assert float(lines[1]["ceiling_average"]) == pytest.approx(
        metrics["ceiling"]["average"], abs=1e-5
    )
    assert lines[0]["cpu_seconds"]


def test_what_other_machines_have_finished_is_taken_in(tmp_path) -> None:
    numbers = session(tmp_path, "7", 1)
    run = numbers.missing()[1]
    folder = tmp_path / "runs" / run.name
    folder.mkdir(parents=True)
    identity = flatten(run.config) | {"classes": ["a"], "channels": 16}
    (folder / "config.json").write_text(json.dumps(identity))
    found = {"map": result(0.5).map, "ceiling": result(0.5).map, "step": 100}
    (folder / "metrics.json").write_text(json.dumps(found))
    assert len(session(tmp_path, "7", 1).missing()) == 2  # of 200 steps
    (folder / "metrics.json").write_text(json.dumps(found | {"step": 200}))
    (folder / "config.json").write_text(json.dumps(identity | {"model.width": 8}))
    assert len(session(tmp_path, "7", 1).missing()) == 2  # of another config
    (folder / "config.json").write_text(json.dumps(identity))
    del found["ceiling"]
    (folder / "metrics.json").write_text(json.dumps(found | {"step": 200}))
    with pytest.raises(ValueError, match=r"metrics\.json .*ceiling.*Delete it"):
        session(tmp_path, "7", 1)
    (folder / "metrics.json").write_text(
        json.dumps(found | {"ceiling": result(0.5).map, "step": 200})
    )
    assert session(tmp_path, "7", 1).missing() == [numbers.missing()[0]]
    line = next(csv.DictReader((tmp_path / "results" / "results.csv").open()))
    assert (line["average"], line["seconds"], line["cores"]) == ("0.50000", "", "")


def test_time_left_is_told_from_the_second_run_on(tmp_path) -> None:
    numbers = session(tmp_path, "7", 2)
    first, second, *_ = numbers.missing()
    assert numbers.announcement(first) == "run 1 of 4: segtad, seed 0"
    ResultFiles(tmp_path / "results").add(first, result(0.5))
    again = session(tmp_path, "7", 2)
    expected = "run 2 of 4: no_proposal_graph, seed 0; about 3 min 0 s left"
    assert again.announcement(second) == expected
