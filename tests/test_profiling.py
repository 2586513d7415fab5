"""Traces of some steps: which, where they end up, and what is said of them."""

import gzip
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from segtad_jax.runtime import profiling
from segtad_jax.runtime.preemption import StoppedError


def names_in(run: pathlib.Path) -> set[str]:
    """Of the events of its one trace."""
    (file,) = run.glob("profile/**/*.trace.json.gz")
    with gzip.open(file, "rt") as trace:
        return {event.get("name", "") for event in json.load(trace)["traceEvents"]}


@pytest.mark.parametrize("text", ["", "5", "0:3", "5:0", "5-8", "5:3:1", "a:b", "-1:3"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"--profile={text} is not START:STEPS.*such as 20:5"):
        profiling.parse(text, 100)


def test_a_span_lies_within_the_run() -> None:
    span = profiling.parse("98:3", 100)
    assert (span.first, span.last) == (98, 100)
    with pytest.raises(ValueError, match=r"98:4 ends with step 101, .* train\.steps = 100"):
        profiling.parse("98:4", 100)


def test_the_steps_of_the_span_are_traced_into_the_run(tmp_path, caplog) -> None:
    caplog.set_level("INFO", "segtad_jax")
    done = []

    def step(state, batch):
        with jax.profiler.TraceAnnotation(f"step after {state}"):
            done.append(batch)
            return jnp.asarray(state + 1), {}

    state = 5
    with profiling.traced(step, profiling.Span(7, 2), 5, epath.Path(tmp_path)) as traced:
        for batch in "abcd":
            state, _ = traced(int(state), batch)
    assert (int(state), done) == (9, ["a", "b", "c", "d"])
    assert {n for n in names_in(tmp_path) if n.startswith("step after")} == {
        "step after 6",
        "step after 7",
    }
    assert f"steps 7 to 8 are traced in {tmp_path}/profile" in caplog.text
    assert "perfetto" in caplog.text


def test_a_span_that_is_cut_short_is_kept_as_far_as_it_came(tmp_path, caplog) -> None:
    caplog.set_level("INFO", "segtad_jax")

    def step(state, batch):
        with jax.profiler.TraceAnnotation(f"step after {state}"):
            if batch == "stop":
                raise StoppedError
            return state + 1, {}

    def train() -> None:
        with profiling.traced(step, profiling.Span(2, 10), 0, epath.Path(tmp_path / "run")) as call:
            for state, batch in enumerate(["a", "b", "c", "stop"]):
                call(state, batch)

    with pytest.raises(StoppedError):
        train()
    assert {"step after 1", "step after 2"} <= names_in(tmp_path / "run")
    assert f"steps 2 to 4 are traced in {tmp_path}/run/profile" in caplog.text
    jax.profiler.start_trace(str(tmp_path / "another"))  # refused while there is one
    jax.profiler.stop_trace()


def test_a_resumed_run_beyond_the_span_says_so(tmp_path, caplog) -> None:
    with profiling.traced(max, profiling.Span(5, 2), 5, epath.Path(tmp_path)) as step:
        assert step is max
    assert "step 5 is done already: nothing is traced" in caplog.text
