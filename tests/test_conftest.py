"""The test session itself: its devices, its checks of annotations, its list of allowed skips."""

import sys
from pathlib import Path

import jax
import pytest

pytest_plugins = ["pytester"]

SKIPPING = """
import pytest

@pytest.mark.parametrize("side", ["left"])
def test_skips(side):
    pytest.skip("no such arm")

@pytest.mark.xfail
def test_fails_as_expected():
    assert False

def test_passes():
    pass
"""


def test_there_are_four_cpu_devices():
    assert [d.platform for d in jax.devices()] == ["cpu"] * 4


def test_annotations_of_the_package_are_checked():
    import segtad_jax

    assert type(sys.modules[segtad_jax.__name__].__spec__.loader).__module__.startswith("jaxtyping")


@pytest.fixture
def run_in_ci(pytester, monkeypatch):
    """Run tests with this session's conftest.py, as CI does, under a given list of skips."""

    def run(tests: str, allowed: str, *arguments: str) -> pytest.RunResult:
        monkeypatch.setenv("CI", "true")
        pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
        pytester.makepyfile(tests)
        folder = pytester.mkdir(".ci")
        (folder / "allowed_skips.txt").write_text(allowed)
        return pytester.runpytest_subprocess(*arguments)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
def test_unlisted_skip_fails_the_run(run_in_ci, pytester, workers):
    pytester.makepyfile(test_module="import pytest; pytest.importorskip('no_such_module')")
    result = run_in_ci(SKIPPING, "# none\n", "-n", workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, skipped=2, xfailed=1)
    result.stdout.fnmatch_lines(["*skips that allowed_skips.txt does not name*"])
    result.stdout.fnmatch_lines_random(
        ["*::test_skips?left?: Skipped: no such arm", "test_module.py: Skipped: could not import*"]
    )


def test_listed_skip_passes(run_in_ci):
    result = run_in_ci(SKIPPING, "*::test_skips[left]  # people have two arms\n")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, skipped=1, xfailed=1)


def test_run_of_listed_skips_alone_fails(run_in_ci):
    result = run_in_ci(SKIPPING, "*::test_skips*  # why not\n", "-k", "test_skips")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*no test ran*"])


def test_listed_skip_needs_a_reason(run_in_ci):
    result = run_in_ci(SKIPPING, "*::test_skips*\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*allowed_skips.txt:1: give a reason*"])


def test_real_data_comes_from_the_environment(pytester, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("SEGTAD_TEST_DATA", "nowhere")
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makepyfile("def test_reads(shared_data): pass")
    result = pytester.runpytest_subprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no real data: nowhere is not a folder; set SEGTAD_TEST_DATA*"])
