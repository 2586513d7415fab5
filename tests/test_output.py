"""predict's result file and its parts: what is kept, what is refused, and any damage to them."""

import json
import pathlib
import re

import numpy as np
import pytest
from etils import epath

from segtad_jax.predict.output import Output, Prediction
from segtad_jax.runtime import lease
from tests.damage import damaged

MODEL = {"checkpoint": "abc", "step": 20}
FOUND = [{"score": 0.12345678901234567, "segment": [1.5, 2.25], "label": "a"}]


def sources(*videos: str, **others: str) -> dict[str, str]:
    return dict.fromkeys(videos, "first") | others


class Work:
    """What predict does with an output, with detections that need no model."""

    def __init__(self, folder: pathlib.Path, wanted: dict[str, str], model=MODEL, result=FOUND):
        self.told: list[str] = []
        self.path, self.wanted, self.result = folder / "found.json", wanted, result
        self.output = Output(epath.Path(self.path), model, wanted, self.told.append)
        self.parts = folder / "found.json.parts"

    def run(self, number: int = 0, of: int = 1, most: int | None = None) -> list[str]:
        """Returns which videos were done; most: as if it was killed after so many."""
        with self.output.held(number) as kept:
            share = list(self.wanted)[number::of]
            missing = [v for v in share if v not in kept or kept[v].failed]
            for video in missing[:most]:
                self.output.add({video: Prediction(self.wanted[video], self.result)})
            done = self.output.done()
            if done.keys() == self.wanted.keys():
                self.output.finish(done, {})
        return missing[:most]

    def results(self) -> dict:
        return json.loads(self.path.read_text())["results"]


def test_what_is_unchanged_is_kept_and_the_rest_is_done(tmp_path):
    assert Work(tmp_path, sources("a", "b", "c")).run() == ["a", "b", "c"]
    before = (tmp_path / "found.json").read_bytes()
    work = Work(tmp_path, sources("a", "b", "c"))
    assert work.run() == []
    assert work.told == ["Recordings: 3 kept."]
    assert work.path.read_bytes() == before
    work = Work(tmp_path, sources("b", c="second", d="first"), result=[])
    assert work.run() == ["c", "d"]
    assert work.told[0] == "Recordings: 1 kept, 1 changed, 1 new, 1 removed."
    assert work.results() == {"b": FOUND, "c": [], "d": []}
    (kept,) = (p for p in tmp_path.iterdir() if p.name != "found.json")
    assert kept.name in work.told[1]  # nothing is lost with the recording that is gone
    assert kept.read_bytes() == before


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_a_killed_start_leaves_the_same_bytes(tmp_path, killed_after):
    for folder in ("unbroken", "killed"):
        (tmp_path / folder).mkdir()
    unbroken, killed = (Work(tmp_path / f, sources("a", "b", "c")) for f in ("unbroken", "killed"))
    unbroken.run()
    killed.run(most=killed_after)
    killed.parts.mkdir(exist_ok=True)
    (killed.parts / f".x.json.{'0' * 32}").write_text('{"made_by": ')  # on its way
    (killed.path.parent / f".found.json.{'0' * 32}").write_text("{")
    assert len(killed.run()) == 3 - killed_after
    assert [p.name for p in killed.path.parent.iterdir()] == ["found.json"]
    assert killed.path.read_bytes() == unbroken.path.read_bytes()


def test_failures_are_tried_again(tmp_path):
    Work(tmp_path, sources("a", "b"), result="needs PyTorch").run()
    assert json.loads((tmp_path / "found.json").read_text())["external_data"]["failures"] == {
        "a": "needs PyTorch", "b": "needs PyTorch"
    }  # fmt: skip
    work = Work(tmp_path, sources("a", "b"))
    assert work.run() == ["a", "b"]
    assert work.told == ["Recordings: 0 kept, 2 failed before and tried again."]
    assert work.results() == {"a": FOUND, "b": FOUND}


def test_another_model_starts_anew_and_the_file_of_the_first_stays(tmp_path):
    first = Work(tmp_path, sources("a", "b"))
    first.run()
    before = first.path.read_bytes()
    second = Work(tmp_path, sources("a", "b"), {**MODEL, "step": 30}, [])
    assert second.run() == ["a", "b"]
    [line] = second.told
    assert re.search(r"found\.json .*another model.*kept as found\.before-.*step: 30 .*20 ", line)
    [kept] = tmp_path.glob("found.before-*.json")
    assert kept.read_bytes() == before
    assert second.results() == {"a": [], "b": []}


def test_parts_of_two_models_are_never_joined(tmp_path):
    Work(tmp_path, sources("a", "b"), {**MODEL, "step": 30}, []).run(most=1)
    work = Work(tmp_path, sources("a", "b"))
    assert work.run(most=1) == ["a"]
    assert re.search(r"parts of another model.*step: 20 here, 30 there", work.told[0])
    assert Work(tmp_path, sources("a", "b")).run() == ["b"]
    assert work.results() == {"a": FOUND, "b": FOUND}


def test_the_result_of_an_older_version_stays_beside(tmp_path):
    older = {"version": "VERSION 1.3", "results": {"a": []}}
    older["external_data"] = {"command": {"checkpoint": "run"}, "failures": {}}
    (tmp_path / "found.json").write_text(json.dumps(older))
    assert Work(tmp_path, sources("a")).run() == ["a"]
    [kept] = tmp_path.glob("found.before-*.json")
    assert json.loads(kept.read_text()) == older


def test_two_at_once_and_the_same_number_twice(tmp_path):
    first, second = (Work(tmp_path, sources("a", "b")) for _ in range(2))
    with first.output.held(0):
        for number in (0, 0):
            with pytest.raises(lease.HeldError, match=r"found\.json.*process \d+ on .* since \d"):
                second.run(number)
        assert second.run(1, of=2) == ["b"]
        first.output.add({"a": Prediction("first", FOUND)})
        other = Work(tmp_path, sources("a", "b"), {**MODEL, "step": 30})
        with pytest.raises(lease.HeldError, match=r"found\.json\.parts.*another model"):
            other.run(1, of=2)
    assert second.run() == []
    assert second.results() == {"a": FOUND, "b": FOUND}


def test_what_a_user_changed_is_refused(tmp_path):
    work = Work(tmp_path, sources("a", "b"))
    work.run()
    content = json.loads(work.path.read_text())
    work.path.write_text(json.dumps(content, indent=2))  # the same, in another form
    assert work.run() == []
    content["results"]["a"][0]["score"] = 0.2
    for text in (json.dumps(content), json.dumps({"database": {}}), '{"results": {', "[]", ""):
        work.path.write_text(text)
        with pytest.raises(ValueError, match=r"found\.json.*Move it away.*--output"):
            work.run()
        assert work.path.read_text() == text


def test_results_of_other_recordings_alone_are_not_dropped(tmp_path):
    Work(tmp_path, sources("a", "b")).run()
    before = (tmp_path / "found.json").read_bytes()
    with pytest.raises(ValueError, match=r"found\.json.* 2 recordings.*'a'.*--output"):
        Work(tmp_path, sources("x")).run()
    assert (tmp_path / "found.json").read_bytes() == before


@pytest.mark.parametrize("seed", range(60))
def test_any_damage_to_a_part_or_the_result_is_named_or_harmless(tmp_path, seed):
    """No other exception, and what is in the end there is what unbroken work gives."""
    random = np.random.default_rng(seed)
    expected = {"a": FOUND, "b": FOUND, "c": FOUND}
    work = Work(tmp_path, sources("a", "b", "c"))
    work.run(most=3 if seed % 2 else 2)
    file = work.path if seed % 2 else max(work.parts.glob("0*.json"))
    before = file.read_bytes()
    damage = damaged(before, random)
    file.write_bytes(damage)
    again = Work(tmp_path, sources("a", "b", "c"))
    refused = _refusal(again)
    if refused is not None:
        assert file == work.path, f"a part is no reason to refuse: {refused}"
        assert re.search(r"found\.json .*Move it away", refused)
        assert file.read_bytes() == damage, "what a user has is not written over"
        return
    assert again.results() == expected
    if _json(damage) != json.loads(before):  # never taken for what was written, and never silent
        assert any(file.name in line for line in again.told), again.told


def _refusal(work: Work) -> str | None:
    """What the refusal says, None where nothing is refused; no other exception passes."""
    try:
        work.run()
    except ValueError as error:
        return str(error)
    return None


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None
