"""From raw csv to a page and to files that a person corrects; what comes back trains."""

import csv
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from segtad_jax import evaluate, train
from segtad_jax.data.dataset import open_dataset
from segtad_jax.predict.__main__ import main as predict
from segtad_jax.prepare import build
from segtad_jax.prepare.__main__ import main as prepare
from test_predict import config, signals


def write_recordings(folder, recordings):
    """Tables with times of 50 Hz."""
    folder.mkdir(parents=True)
    for name, signal in recordings.items():
        times = np.arange(len(signal))[:, None] / 50
        table = np.concatenate([times, signal], axis=1)
        header = "time,x,y,z"
        np.savetxt(folder / f"{name}.csv", table, "%.5g", ",", header=header, comments="")


def correct(path):
    """As in ELAN: the first action is another one and begins at 2.5 s, all others are removed."""
    document = ET.parse(path)
    (tier,) = (t for t in document.iter("TIER") if t.get("TIER_ID") == "actions")
    for other in document.getroot().findall("TIER"):
        if other is not tier:
            document.getroot().remove(other)
    first, *others = tier
    for other in others:
        tier.remove(other)
    (action,) = first
    action.find("ANNOTATION_VALUE").text = "kick"
    slots = {slot.get("TIME_SLOT_ID"): slot for slot in document.iter("TIME_SLOT")}
    slots[action.get("TIME_SLOT_REF1")].set("TIME_VALUE", "2500")
    slots[action.get("TIME_SLOT_REF2")].set("TIME_VALUE", "9250")
    document.write(path, "UTF-8", xml_declaration=True)


def run_of(dataset, folder, checkpoint=None):
    made = config(dataset)
    made.train.steps = 2
    made.model.width = 8
    return train.train(made, folder, checkpoint)


@pytest.mark.slow
def test_what_is_corrected_comes_back_and_trains(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build, "write_page", lambda *page: None)  # drawn elsewhere, for seconds
    monkeypatch.setattr(evaluate, "_write_report", lambda *run: None)
    recorded, truth = signals(4)
    write_recordings(tmp_path / "recordings" / "old", recorded)
    write_recordings(tmp_path / "recordings" / "new", signals(2, offset=20)[0])
    labels = tmp_path / "labels.csv"
    with labels.open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "start", "end", "label", "subset"])
        for name, video in truth.items():
            for action in video["annotations"]:
                rows.writerow([name, *action["segment"], action["label"], video["subset"]])
    common = ["--signals=statistics", "--window=64", f"--output={tmp_path / 'data'}"]
    old = [f"--features={tmp_path / 'recordings' / 'old'}", f"--annotations={labels}"]
    assert prepare(["--name=mine", *old, *common]) == 0
    run_of(tmp_path / "data" / "mine", tmp_path / "run")
    flags = {
        "checkpoint": tmp_path / "run",
        "features": tmp_path / "recordings" / "new",
        "output": tmp_path / "found.json",
        "report": tmp_path / "found.html",
        "format": "elan",
        "threshold": 0,
    }
    assert predict([f"--{name}={value}" for name, value in flags.items()]) == 0
    page = flags["report"].read_text()
    found = tmp_path / "found.elan"
    assert sorted(path.name for path in found.iterdir()) == ["s20.eaf", "s21.eaf"]
    assert all(f'"{video}"' in page for video in ("s20", "s21"))

    for path in found.iterdir():
        correct(path)
    everything = f"--features={tmp_path / 'recordings'}"
    assert prepare(["--name=more", everything, f"--annotations={labels},{found}", *common]) == 0
    dataset = open_dataset(tmp_path / "data" / "more" / "1.0.0")
    assert dataset.classes == ("fast", "kick", "loud")
    made = {r.video: r for r in dataset.recordings("training")}
    assert sorted(made) == ["s0", "s1", "s2", "s20", "s21"]
    for name in ("s20", "s21"):
        np.testing.assert_allclose(made[name].segments, [[2.5, 9.25]])
        assert [dataset.classes[label - 1] for label in made[name].labels] == ["kick"]
    capsys.readouterr()
    metrics = run_of(tmp_path / "data" / "more", tmp_path / "again", str(tmp_path / "run"))
    assert metrics["counts"]["videos"] == 1
    assert f"--checkpoint={tmp_path / 'again'}" in capsys.readouterr().out
