"""Compiled programs are kept for the next start, where they can be."""

import os
import platform
import subprocess
import sys

import jax
import pytest

from segtad_jax.runtime import startup
from tests.tiny_runs import ROOT, TINY, logged


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What is set in JAX, which is left as it is."""
    found: dict[str, object] = {}
    monkeypatch.setattr(jax.config, "update", found.__setitem__)
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(name, raising=False)
    return found


def test_programs_are_kept_in_the_users_cache_folder(settings, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    startup.keep_compiled_programs()
    folder = tmp_path / "segtad_jax" / "compiled"
    assert settings["jax_compilation_cache_dir"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    startup.keep_compiled_programs()
    assert settings["jax_compilation_cache_dir"] == str(tmp_path / ".cache/segtad_jax/compiled")


def test_what_the_user_has_set_stays(settings, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "3")
    startup.keep_compiled_programs()
    assert not settings


def test_a_folder_that_cannot_be_written_is_no_error(
    settings, tmp_path, monkeypatch, caplog
) -> None:
    caplog.set_level("DEBUG", "segtad_jax")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    startup.keep_compiled_programs()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    startup.keep_compiled_programs()
    assert "jax_compilation_cache_dir" not in settings
    assert caplog.text.count("compiled programs are not kept") == 2
    assert "cannot be written" in caplog.text


def test_facts_name_devices_processes_and_windows() -> None:
    assert startup.facts(8) == (
        f"jax {jax.__version__} on cpu (cpu): 4 device(s) in 1 process(es); this is process 0, "
        "with 4 device(s) and 8 of the 8 windows of a batch"
    )


@pytest.mark.slow
def test_the_second_start_compiles_neither_step_and_gets_the_same_numbers(tmp_path) -> None:
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", None)
    kept = []
    for name in ("first", "second"):
        command = [sys.executable, "-m", "segtad_jax.main", f"--config={TINY}:runlocal"]
        command += [f"--workdir={tmp_path / name}", f"--config.data.dir={tmp_path / 'data'}"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        kept.append({p.name for p in (tmp_path / "cache").rglob("*-cache")})
    # init, the training step and the inference step; small programs as time has it
    assert len(kept[0]) >= 3
    assert sum(name.startswith("jit__fun") for name in kept[0]) >= 2
    assert not {name for name in kept[1] - kept[0] if name.startswith(("jit__fun", "jit_init"))}
    assert logged(tmp_path / "first") == logged(tmp_path / "second")
    for name in ("detections.json", "metrics.json"):
        same = [(tmp_path / run / name).read_bytes() for run in ("first", "second")]
        assert same[0] == same[1]


def test_a_program_that_is_half_written_is_compiled_anew(tmp_path) -> None:
    """JAX writes them where it will read them, and a process can be killed meanwhile."""
    code = "import jax; print(jax.jit(lambda x: x + 41)(1))"
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    for whole in (1.0, 0.5, 0.0):
        kept = list(tmp_path.glob("jit__lambda*-cache"))
        assert len(kept) == (whole < 1)
        for path in kept:
            path.write_bytes(path.read_bytes()[: int(whole * path.stat().st_size)])
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "42\n"
        assert ("Error reading persistent compilation cache entry" in done.stderr) == (whole < 1)


def test_freed_memory_is_kept() -> None:
    """In a process of its own: pages that one array touched are not new for the next."""
    code = """
import resource, sys
from segtad_jax.runtime import startup
if sys.argv[1] == "kept":
    startup.keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    before = faults()
    del_me = b"x" * 100_000_000
    del del_me
print(faults() - before)
"""
    found = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", code, how], capture_output=True, check=True
            ).stdout
        )
        for how in ("kept", "default")
    }
    assert found["kept"] < 1000
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        assert found["default"] > 10 * found["kept"]
