"""A model that has learnt nothing is told from one that is merely not good."""

import pytest
from etils import epath

from segtad_jax.evaluate import show
from segtad_jax.evaluation.scoring import chance

TRUTH = {"a": [(0.0, 4.0, "run")], "b": [(10.0, 14.0, "run")], "c": [(20.0, 24.0, "run")]}


def test_chance_is_what_the_detections_of_another_recording_are_worth():
    perfect = {video: [(*row, 1.0) for row in rows] for video, rows in TRUTH.items()}
    assert chance(TRUTH, perfect) == 0.0
    alike = {video: [(1.0, 3.0, "run")] for video in TRUTH}
    assert chance(alike, {video: [(1.0, 3.0, "run", 0.5)] for video in TRUTH}) == 1.0
    assert chance(TRUTH, {"a": [(10.0, 14.0, "run", 0.1)]}) == 0.0  # goes to c, not to b
    assert chance(TRUTH, {"a": [(20.0, 24.0, "run", 0.1)]}) == pytest.approx(1 / 3)
    assert chance(TRUTH, {}) == 0.0


@pytest.mark.parametrize(
    ("found", "by_chance", "told"),
    [(0.004, 0.003, True), (0.0, 0.0, True), (0.05, 0.01, False), (0.4, None, False)],
)
def test_a_run_at_chance_says_what_to_look_at(tmp_path, capsys, found, by_chance, told):
    metrics = {
        "step": 7,
        "counts": {"videos": 3, "predictions": 9},
        "map": {"0.50": found, "average": found / 2},
        "missing_videos": [],
    }
    show(epath.Path(tmp_path), metrics | ({} if by_chance is None else {"chance": by_chance}))
    line = "".join(x for x in capsys.readouterr().out.splitlines() if "learnt nothing" in x)
    assert bool(line) == told
    for part in ("0.0", "report.html", str(tmp_path / "curves.png"), "--config.train.steps"):
        assert not told or part in line
