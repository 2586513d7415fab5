"""What every test stands on: CPU devices, checked annotations, real data, no quiet skips."""

import fcntl
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

import hypothesis
import jaxtyping
import pytest

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"

# All of this is read when jax, TensorFlow or matplotlib is first imported, here or in a subprocess.
os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile far more than they compute: a training step takes 1.7 s of CPU like this, and 8 s
# with the optimisations of LLVM and XLA's newer form of fusions.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        *(["--xla_cpu_use_fusion_emitters=false"] if version("jaxlib").startswith("0.10.") else []),
    ]
).strip()
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # hides GPUs from TensorFlow without importing it
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["MPLBACKEND"] = "agg"

# A shell ignores SIGINT in what it starts in the background, nohup SIGHUP, and children inherit
# that; tests send both.
if threading.current_thread() is threading.main_thread():
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)

# Shapes and types in signatures are checked in every call, if this precedes the first import.
jaxtyping.install_import_hook("segtad_jax", "beartype.beartype")

# Compiling dominates the time of an example, so there is no deadline.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if IN_CI else "dev")


def pytest_configure(config: pytest.Config) -> None:
    # Compiled programs are shared by the workers, by subprocesses and by the next session; the
    # least of them are not kept, since hypothesis makes thousands.
    if config.pluginmanager.hasplugin("cacheprovider"):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if IN_CI and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipList(config.rootpath / ".ci" / "allowed_skips.txt"))


MOST_MAPS = 30_000


@pytest.fixture(scope="module", autouse=True)
def programs_are_let_go() -> Iterator[None]:
    """A program on a CPU is some 40 memory maps. Of these Linux gives a process 65,530, and LLVM
    aborts it (`Unable to allocate section memory!`) where one more is refused; a worker that kept
    the programs of all its tests came that far."""
    yield
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and len(maps.read_bytes().split(b"\n")) > MOST_MAPS:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: SEGTAD_TEST_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("SEGTAD_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not a folder; set SEGTAD_TEST_DATA to one")
    return folder


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Makes a folder once for all workers: the first that asks fills it, the others wait for it.

    Who uses it changes nothing in it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose own folder lies in that of all
        root = root.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = root / f"once-{name}", root / f"done-{name}"
        with (root / f"lock-{name}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def data_dir(once: Once) -> str:
    """Where embedded data sets are written, once."""
    return str(once("data", Path.mkdir))


@pytest.fixture(scope="session")
def unbroken(once: Once, data_dir: str) -> Path:
    """A finished run of `tiny_runs.short`, to compare others with; copy it to change it."""
    from segtad_jax import train
    from tests.tiny_runs import short

    return once("unbroken", lambda folder: train.train(short(data_dir), folder))


class SkipList:
    """Fails a run with a skip that the list does not name, and a run in which no test ran."""

    def __init__(self, path: Path):
        self.path = path
        self.patterns = read_skip_list(path)
        self.skipped: dict[str, str] = {}
        self.ran = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran += report.when == "call" and not report.skipped
        if not hasattr(report, "wasxfail"):
            self.note_skip(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.note_skip(report)

    def note_skip(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not any(fnmatchcase(report.nodeid, p) for p in self.patterns):
            self.skipped[report.nodeid] = report.longrepr[-1]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and (self.skipped or not self.ran):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section(f"skips that {self.path.name} does not name", red=True)
            for test, reason in self.skipped.items():
                terminalreporter.line(f"{test}: {reason}")
        if not self.ran:
            terminalreporter.section("no test ran", red=True)


def read_skip_list(path: Path) -> list[str]:
    """Patterns for fnmatch from lines of the form `test id  # reason`."""
    patterns = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, _, reason = line.partition("  #")
        if not reason.strip():
            raise pytest.UsageError(f"{path}:{number}: give a reason: `{line.strip()}  # why`")
        patterns.append(pattern.strip().replace("[", "[[]"))  # ids of parametrised tests have them
    return patterns
