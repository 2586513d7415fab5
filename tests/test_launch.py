"""Scripts of launch/: what they would do is what they do, and watch.sh knows when to go on.

Programs that reach beyond this machine are stubs that log how they were called.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parent.parent / "launch"
STUBS = ("gcloud", "git", "rm", "xpk", "kubectl", "sbatch", "srun", "scontrol")

# Logs its call as a line of JSON; answers with the next [output, status] of the first pattern
# that its call matches, the last of which stays.
STUB = f"""#!{sys.executable}
import json, os, pathlib, re, sys
call = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
folder = pathlib.Path(os.environ["STUBS"])
with (folder / "calls").open("a") as log:
    log.write(json.dumps(call) + chr(10))
answers = json.loads((folder / "answers").read_text())
for pattern, sequence in answers.items():
    if re.search(pattern, " ".join(call)):
        output, status = sequence.pop(0) if len(sequence) > 1 else sequence[0]
        (folder / "answers").write_text(json.dumps(answers))
        print(output) if output else None
        sys.exit(status)
"""

SETTINGS = {
    "CONFIG": "configs/activitynet.py",
    "DATA_DIR": "gs://bucket/data/x",
    "WORKDIR": "gs://bucket/runs/x",
    "PROJECT": "payer",
    "ZONE": "zone-a",
    "ACCELERATOR_TYPE": "v5litepod-16",
    "SPOT": "yes",
    "TPU_NAME": "slice",
    "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
    "ATTEMPTS": "4",
    "CLUSTER": "cluster",
    "WORKLOAD": "job",
    "SBATCH_FLAGS": "(--nodes=2 --comment='two words')",
}


class Desk:
    """A folder with stubs, settings and a log of calls."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in STUBS:
            path = folder / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(STUB)
            path.chmod(0o755)
        self.configure()
        self.answer({})

    def configure(self, **changes: str | None) -> None:
        lines = [f"{k}={v}" for k, v in {**SETTINGS, **changes}.items() if v is not None]
        (self.folder / "env").write_text("\n".join(lines) + "\n")

    def answer(self, answers: dict[str, list[tuple[str, int]]]) -> None:
        (self.folder / "answers").write_text(json.dumps(answers))

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("SLURM_")},
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "STUBS": str(self.folder),
            "LAUNCH_ENV": str(self.folder / "env"),
            "POLL_SECONDS": "0.01",
        }

    def __call__(
        self, *command: str, **environment: str
    ) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        """Runs a script; its result, and the calls that it made."""
        calls = self.folder / "calls"
        calls.write_text("")
        result = subprocess.run(
            [LAUNCH / command[0], *command[1:]],
            env=self.environment | environment,
            cwd=LAUNCH.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return result, [json.loads(line) for line in calls.read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def printed(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.splitlines()]


COMMANDS = [
    ("tpu.sh", "create"),
    ("tpu.sh", "queue"),
    ("tpu.sh", "sync"),
    ("tpu.sh", "run"),
    ("tpu.sh", "run", "--config.train.batch_size=64", "--config.data.holdout=a b,c'd"),
    ("tpu.sh", "logs"),
    ("tpu.sh", "status"),
    ("tpu.sh", "delete"),
    ("gke.sh", "create"),
    ("gke.sh", "run", "--config.data.holdout=a b"),
    ("gke.sh", "status"),
    ("gke.sh", "logs"),
    ("gke.sh", "stop"),
    ("gke.sh", "delete"),
    ("slurm.sbatch", "submit", "--config.data.holdout=a b"),
    ("slurm.sbatch", "job", "--config.seed=1"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_a_dry_run_prints_is_what_is_called(desk: Desk, command: tuple[str, ...]) -> None:
    desk.answer({"queued-resources list": [("ACTIVE", 0)], "tpu-vm list": [("READY", 0)]})
    script, *arguments = command
    dry, reads = desk(script, "--dry-run", *arguments)
    assert dry.returncode == 0, dry.stderr
    assert not [call for call in reads if call[0] != "git"]  # it reads what is not committed
    real, calls = desk(*command)
    assert real.returncode == 0, real.stderr
    wanted = printed(dry.stdout)
    if command == ("tpu.sh", "status"):  # which looks for a slice of either kind
        assert wanted.pop(1)[3:5] == ["tpu-vm", "list"]
    assert [call for call in calls if call not in reads] == wanted
    assert wanted


def test_calls_say_what_was_asked_for(desk: Desk) -> None:
    _, [queue] = desk("tpu.sh", "queue")
    assert queue[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "slice"]
    assert {"--node-id=slice", "--accelerator-type=v5litepod-16", "--spot"} < set(queue)
    assert {"--project=payer", "--zone=zone-a"} < set(queue)
    desk.configure(SPOT="no")
    _, [create] = desk("tpu.sh", "create")
    assert "--spot" not in create

    flag = "--config.data.holdout=a b,c'd"
    _, [run] = desk("tpu.sh", "run", flag)
    [remote] = [word for word in run if word.startswith("--command=")]
    words = shlex.split(remote.removeprefix("--command="))
    assert words[:2] == ["segtad_jax/launch/worker.sh", "start"]
    assert words[2:] == [
        "--distributed",
        "--config=configs/activitynet.py",
        "--workdir=gs://bucket/runs/x",
        "--config.data.dir=gs://bucket/data/x",
        flag,
    ]
    _, [submit] = desk("slurm.sbatch", "submit", "--config.seed=1")
    assert submit[2:] == [
        "--nodes=2",
        "--comment=two words",
        str(LAUNCH / "slurm.sbatch"),
        "job",
        "--config.seed=1",
    ]


def test_delete_covers_a_slice_that_was_not_queued(desk: Desk) -> None:
    desk.answer({"queued-resources delete": [("NOT_FOUND", 1)]})
    result, calls = desk("tpu.sh", "delete")
    assert result.returncode == 0
    assert [call[3:5] for call in calls] == [["queued-resources", "delete"], ["tpu-vm", "delete"]]
    assert all("--quiet" in call and "slice" in call for call in calls)


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        ("tpu.sh status", "PROJECT"),
        ("tpu.sh status", "ZONE"),
        ("tpu.sh create", "ACCELERATOR_TYPE"),
        ("tpu.sh queue", "RUNTIME_VERSION"),
        ("tpu.sh queue", "SPOT"),
        ("tpu.sh run", "WORKDIR"),
        ("watch.sh", "ATTEMPTS"),
        ("gke.sh create", "CLUSTER"),
        ("gke.sh create", "SPOT"),
        ("gke.sh run", "WORKLOAD"),
        ("slurm.sbatch submit", "SBATCH_FLAGS"),
    ],
)
def test_nothing_that_costs_has_a_default(desk: Desk, command: str, setting: str) -> None:
    desk.configure(**{setting: None})
    result, calls = desk(*command.split(), **{setting: ""})
    assert result.returncode == 1
    assert f"{setting} is not set in {desk.folder / 'env'}" in result.stderr
    assert not calls


def test_the_example_has_every_setting_and_no_value() -> None:
    lines = (LAUNCH / "env.example").read_text().splitlines()
    given = dict(re.match(r"(\w+)=(\S*)", line).groups() for line in lines if line[0:1] not in "# ")
    assert set(given) == set(SETTINGS)
    assert set(given.values()) == {"", "()"}


@pytest.mark.parametrize(
    ("change", "command", "message"),
    [
        ({"SPOT": "maybe"}, "tpu.sh queue", "SPOT=maybe in .*: it can be yes or no"),
        ({"ATTEMPTS": "many"}, "watch.sh", "ATTEMPTS=many: it must be a number above 0"),
        ({}, "tpu.sh", "usage: tpu.sh"),
        ({}, "tpu.sh explode", "usage: tpu.sh"),
        ({}, "tpu.sh create now", "usage: tpu.sh"),
        ({}, "gke.sh explode", "usage: gke.sh"),
        ({}, "worker.sh explode", "usage: worker.sh"),
        ({}, "slurm.sbatch", "usage: slurm.sbatch"),
        ({}, "watch.sh --help", "usage: watch.sh"),
    ],
)
def test_wrong_use(desk: Desk, change: dict[str, str], command: str, message: str) -> None:
    desk.configure(**change)
    result, calls = desk(*command.split())
    assert result.returncode == 1
    assert re.search(message, result.stderr)
    assert not calls


def test_without_settings(desk: Desk) -> None:
    (desk.folder / "env").unlink()
    result, _ = desk("tpu.sh", "status")
    assert result.returncode == 1
    assert "copy env.example to it and fill it in" in result.stderr


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [(0, 0, False), (1, 0, False), (75, 0, True), (76, 2, True), (76, 3, False)],
)
def test_slurm_goes_on_after_a_stop(desk: Desk, status: int, restarts: int, requeued: bool) -> None:
    desk.answer({"^srun": [("", status)]})
    job = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts)}
    result, calls = desk("slurm.sbatch", "job", **job)
    assert (["scontrol", "requeue", "7"] in calls) == requeued
    if restarts == 3:
        assert result.returncode == 1
        assert "ATTEMPTS=4 are used up" in result.stderr
    else:
        assert result.returncode == status


NOT_STARTED = ("worker: not started\nworker: not set up", 0)
RUNNING = ("worker: running\nworker: running", 0)
DONE = ("worker: exit 0\nworker: exit 0", 0)
ACTIVE = ("ACTIVE", 0)
GONE = ("", 0)


def watch(
    desk: Desk, states: list[tuple[str, int]], workers: list[tuple[str, int]], **answers: list
) -> tuple[subprocess.CompletedProcess[str], list[str], list[list[str]]]:
    """Runs watch.sh; its result, what it did in short, and its calls."""
    desk.answer(
        {
            "queued-resources list": states,
            "worker.sh status": workers,
            "queued-resources create": answers.get("create", [("", 0)]),
            "worker.sh setup": answers.get("setup", [("", 0)]),
        }
    )
    result, calls = desk("watch.sh", "--config.seed=3")
    names = {
        "queued-resources create": "queue",
        "worker.sh setup": "sync",
        "worker.sh start": "run",
        "worker.sh logs": "logs",
        "queued-resources delete": "delete",
    }
    done = [n for call in calls for p, n in names.items() if p in " ".join(call)]
    return result, done, calls


def test_watch_to_success(desk: Desk) -> None:
    states = [GONE, ("WAITING_FOR_RESOURCES", 0), ("PROVISIONING", 0), ACTIVE]
    result, done, calls = watch(desk, states, [NOT_STARTED, RUNNING, DONE])
    assert result.returncode == 0, result.stderr
    assert done == ["queue", "sync", "run", "delete"]
    assert "the run is finished: gs://bucket/runs/x" in result.stderr

    dry, reads = desk("watch.sh", "--dry-run", "--config.seed=3")
    made = {tuple(call) for call in calls if call not in reads}
    assert {tuple(call) for call in printed(dry.stdout)} == made


def test_watch_through_a_preemption(desk: Desk) -> None:
    states = [GONE, ACTIVE, ACTIVE, ("SUSPENDED", 0), GONE, ACTIVE]
    result, done, _ = watch(desk, states, [NOT_STARTED, RUNNING, NOT_STARTED, DONE])
    assert result.returncode == 0, result.stderr
    assert done == ["queue", "sync", "run", "delete", "queue", "sync", "run", "delete"]
    assert "slice is SUSPENDED" in result.stderr
    assert "attempt 2 of 4" in result.stderr


def test_watch_without_quota(desk: Desk) -> None:
    refusal = (
        "ERROR: Quota limit 'TPUV5sPreemptibleLitepodPerProjectPerZone' has been exceeded",
        1,
    )
    result, done, _ = watch(desk, [GONE], [], create=[refusal])
    assert result.returncode == 1
    assert done == ["queue", "delete"]
    assert "has been exceeded" in result.stderr
    assert "no quota for v5litepod-16 in zone-a" in result.stderr


def test_watch_goes_on_after_a_lost_process_on_the_same_slice(desk: Desk) -> None:
    lost = ("worker: exit 76\nworker: died", 0)
    half = ("worker: exit 76\nworker: running", 0)
    killed = ("worker: exit 75\nworker: exit 137", 0)
    workers = [NOT_STARTED, RUNNING, half, lost, RUNNING, killed, DONE]
    result, done, _ = watch(desk, [GONE, ACTIVE], workers)
    assert result.returncode == 0, result.stderr
    assert done == ["queue", *["sync", "run"] * 3, "delete"]


@pytest.mark.parametrize(
    "failure", ["worker: exit 1\nworker: exit 76", "worker: exit 0\nworker: exit 2"]
)
def test_watch_stops_at_an_error(desk: Desk, failure: str) -> None:
    result, done, _ = watch(desk, [GONE, ACTIVE], [NOT_STARTED, (failure, 0)])
    assert result.returncode == 1
    assert done == ["queue", "sync", "run", "logs", "delete"]
    assert "the run failed" in result.stderr


def test_watch_stops_after_its_attempts(desk: Desk) -> None:
    result, done, _ = watch(desk, [GONE, ACTIVE], [NOT_STARTED, ("worker: exit 76", 0)])
    assert result.returncode == 1
    assert done == ["queue", *["sync", "run"] * 4, "delete"]
    assert "all ATTEMPTS=4 are used up" in result.stderr


def test_watch_asks_again_when_there_was_no_slice_to_be_had(desk: Desk) -> None:
    refusals = [("ERROR: There is no more capacity in the zone", 1), ("", 0)]
    result, done, _ = watch(desk, [GONE, GONE, ACTIVE], [DONE], create=refusals)
    assert result.returncode == 0
    assert done == ["queue", "queue", "delete"]


def test_watch_replaces_a_slice_that_does_not_answer(desk: Desk) -> None:
    silent = ("ssh: connect to host: timed out", 255)
    states = [*[ACTIVE] * 10, GONE, ACTIVE]
    result, done, _ = watch(desk, states, [*[silent] * 10, NOT_STARTED, DONE])
    assert result.returncode == 0, result.stderr
    assert done == ["delete", "queue", "sync", "run", "delete"]
    assert "has not answered 10 times" in result.stderr


def test_watch_leaves_a_run_alone_while_gcloud_does_not_answer(desk: Desk) -> None:
    states = [("", 1), ("", 1), ACTIVE]
    result, done, _ = watch(desk, states, [RUNNING, DONE])
    assert result.returncode == 0, result.stderr
    assert done == ["delete"]


def test_watch_starts_the_rest_when_a_worker_was_not_reached(desk: Desk) -> None:
    unreached = [("", 255), ("", 0)]
    result, done, _ = watch(desk, [ACTIVE], [NOT_STARTED, NOT_STARTED, DONE], setup=unreached)
    assert result.returncode == 0, result.stderr
    assert done == ["sync", "sync", "run", "delete"]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with the project on it, whose Python is a shell."""
    shutil.copytree(LAUNCH, tmp_path / "launch")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "arguments: $*"\nexec sleep "$4"\n')
    python.chmod(0o755)
    return tmp_path


def worker(host: Path, *command: str) -> str:
    """Output of worker.sh, which must not wait for the run that it starts."""
    result = subprocess.run(
        [host / "launch" / "worker.sh", *command],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return result.stdout


def wait_for(host: Path, wanted: str) -> None:
    deadline = time.monotonic() + 20
    while (status := worker(host, "status")) != f"worker: {wanted}\n":
        assert time.monotonic() < deadline, f"{status!r}, not {wanted!r}"
        time.sleep(0.05)


def test_worker_runs_in_the_background_and_says_how_it_ended(host: Path) -> None:
    wait_for(host, "not started")
    worker(host, "start", "--config=x y", "0.5")
    wait_for(host, "running")
    first = (host / "run.pid").read_text()
    worker(host, "start", "--config=x y", "0")  # one at a time
    assert (host / "run.pid").read_text() == first
    assert "arguments: -m segtad_jax.main --config=x y 0.5" in worker(host, "logs")
    wait_for(host, "exit 0")
    worker(host, "start", "--config=x y", "no-number")
    wait_for(host, "exit 1")
    worker(host, "start", "--config=x y", "60")
    wait_for(host, "running")
    os.killpg(int((host / "run.pid").read_text()), signal.SIGKILL)
    wait_for(host, "died")
    (host / "run.pid").write_text(f"{os.getpid()}\n")  # as after a reboot
    wait_for(host, "died")


def test_worker_installs_with_the_tested_versions(host: Path) -> None:
    lines = printed(worker(host, "--dry-run", "setup"))
    assert lines[-1][-3:] == ["--constraint=constraints.txt", "--editable", ".[tpu]"]
