"""config.json: what a run is, what it started from, and runs of older versions."""

import json

import numpy as np
import pytest
from etils import epath

from segtad_jax.checkpoint.run_folder import (
    FILE,
    claim,
    in_use,
    other_fields,
    read,
    read_classes,
    recorded_data,
    refuse_other,
    refuse_results,
    starting_point,
)
from segtad_jax.config.defaults import default, flatten
from segtad_jax.data.dataset import Dataset


def make_run(folder, steps=(4, 8), **fields):
    folder = epath.Path(folder)
    content = flatten(default()) | {"classes": ["a", "b"], "channels": 7} | fields
    folder.mkdir()
    (folder / FILE).write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))
    for step in steps:
        (folder / "checkpoints" / str(step)).mkdir(parents=True)
    return folder


PREPARATION = json.dumps(
    {"name": "x", "widths": [7], "rate": None, "num_frames": None, "resize": "linear", "window": 8}
    | {"dtype": "float16", "signals": None}
)


def dataset(folder, num_channels=7, fingerprint="f" * 64):
    (folder / "preparation.json").write_text(PREPARATION)
    return Dataset(
        directory=epath.Path(folder),
        name="x",
        classes=("a", "b"),
        num_channels=num_channels,
        dtype=np.dtype(np.float32),
        splits={},
        read=lambda _: np.zeros((0, num_channels), np.float32),
        fingerprint=fingerprint,
    )


def test_a_run_has_its_config_classes_channels_and_start(tmp_path):
    run = make_run(tmp_path / "run", **{"model.width": 64, "model.dilations": [1, 2]})
    config, classes, channels, start = read(run)
    assert (classes, channels, start) == (("a", "b"), 7, None)
    assert (config.model.width, config.model.dilations) == (64, (1, 2))
    assert read(make_run(tmp_path / "other", start="run/4")).start == "run/4"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model.widht": 3}, r"model\.widht = 3.*Use the version that trained it"),
        ({"model.refine": True}, r"model\.refine = True.*Use the version that trained it"),
        ({"model.width": "wide"}, r"model\.width = 'wide'.*int"),
        ({"classes": ...}, "not a run.*'classes'"),
        ({"channels": ...}, "not a run.*'channels'"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(tmp_path, fields, message):
    run = make_run(tmp_path / "run", **fields)
    with pytest.raises(ValueError, match=rf"{FILE}.*{message}|{message.replace('not', 'is not')}"):
        read(run)


def test_what_an_older_version_left_open_or_off_reads_as_such(tmp_path):
    old = {"fit": True, "data.num_channels": 0, "data.num_classes": 0, "eval.snap": -1}
    old |= {"model.dilations": [], "model.width": 0, "loss.snap": 0, "model.refine": False}
    config = read(make_run(tmp_path / "run", **old)).config
    opened = {name for name, value in flatten(config).items() if value is None}
    assert opened == old.keys() - {"fit", "loss.snap", "model.refine"}
    assert other_fields(epath.Path(tmp_path) / "run", config) == []
    old |= {"fit": False, "eval.snap": 0}  # then these are values, which --config.fit would not fit
    config = read(make_run(tmp_path / "closed", **old)).config
    assert (config.model.dilations, config.eval.snap) == ((), 0)
    assert (config.data.num_channels, config.data.num_classes) == (None, None)


def test_classes_are_read_of_any_version(tmp_path):
    assert read_classes(make_run(tmp_path / "run", **{"model.refine": True})) == ("a", "b")


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ValueError, match=r"not a run: config\.json: .*No such file"):
        read(epath.Path(tmp_path))
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ValueError, match=r"config\.json does not read: Expecting.*copy"):
        read(epath.Path(tmp_path))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "is empty"),
        ("[1]", "does not read: a JSON object was expected, not list"),
        ("[" * 100_000, "does not read: maximum recursion"),
        ("\\xff", "does not read: 'utf-8'"),
        ('{"classes": 5, "channels": 2}', "classes = 5 is wrong"),
        ('{"classes": [], "channels": "two"}', "channels = 'two' is wrong"),
    ],
)
def test_a_damaged_config_is_named_with_what_to_do(tmp_path, content, fault):
    (tmp_path / FILE).write_bytes(content.encode().replace(b"\\xff", b"\xff"))
    for reader in (read, read_classes, lambda run: starting_point(run, None)):
        with pytest.raises(ValueError, match=rf"{tmp_path}/{FILE}:? {fault}.* Put a copy"):
            reader(epath.Path(tmp_path))


def test_what_killed_processes_left_is_removed(tmp_path):
    ours = [f".config.json.{'0a' * 16}", ".seen-by-process-0-123"]
    theirs = ["config.json", ".hidden", f"x.{'0a' * 16}", ".config.json.backup"]
    for name in [*ours, *theirs]:
        (tmp_path / name).touch()
    with in_use(epath.Path(tmp_path)):
        assert {p.name for p in tmp_path.iterdir()} == {*theirs, ".lease"}
        (tmp_path / ours[0]).touch()
        with (
            pytest.raises(ValueError, match=rf"{tmp_path} is in use"),
            in_use(epath.Path(tmp_path)),
        ):
            pass
        assert (tmp_path / ours[0]).exists()  # of the one who holds it


def test_a_start_is_the_one_of_the_first_time(tmp_path):
    source = make_run(tmp_path / "source")
    new = epath.Path(tmp_path / "new")
    assert starting_point(new, None) is None
    assert starting_point(new, str(source)) == f"{source}/8"
    assert starting_point(new, f"{source}/4") == f"{source}/4"
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 7.*4, 8"):
        starting_point(new, f"{source}/7")

    make_run(new, start=f"{source}/8")
    (source / "checkpoints" / "12").mkdir()  # it has gone on
    assert starting_point(new, None) == f"{source}/8"
    assert starting_point(new, str(source)) == f"{source}/8"
    assert starting_point(new, f"{source}/8") == f"{source}/8"
    for other in (f"{source}/4", str(tmp_path / "another"), f"{tmp_path}/another/8"):
        with pytest.raises(ValueError, match=rf"from {source}/8, not from {other}\. .*--workdir"):
            starting_point(new, other)
    with pytest.raises(ValueError, match="from new parameters, not from"):
        starting_point(source, str(new))


def test_a_folder_is_claimed_by_one_config(tmp_path):
    data = dataset(tmp_path)
    config, run = default(), epath.Path(tmp_path) / "run"
    claim(run, config, data, "old/8")
    assert read(run)[1:] == (("a", "b"), 7, "old/8")
    assert (
        run / "preparation.json"
    ).read_text() == PREPARATION  # goes with it, when the data are gone
    config.data.dir, config.train.keep, config.eval.batch_size = "elsewhere", 1, 1
    claim(run, config, data)
    config.model.width, config.eval.sigma = 8, 0.85
    with pytest.raises(ValueError, match=r"(?s)eval\.sigma: 0\.85 .*model\.width: 8 .*--workdir"):
        claim(run, config, data)
    refuse_other(run, config, data, ["optim."])
    with pytest.raises(ValueError, match=r"(?s)channels: 8 here, 7 there"):
        refuse_other(run, default(), dataset(tmp_path, num_channels=8), ["channels"])


def test_a_run_knows_its_data(tmp_path):
    run, config = epath.Path(tmp_path) / "run", default()
    ours, other = dataset(tmp_path), dataset(tmp_path, fingerprint="e" * 64)
    claim(run, config, ours)
    assert recorded_data(run) == {"name": "x", "fingerprint": "f" * 64}
    claim(run, config, ours)
    names = rf"{run} .*'x'.*ffffffffffff.*{tmp_path}.*'x'.*eeeeeeeeeeee"
    remedy = rf"data\.dir.*--workdir.*--mode=evaluate --checkpoint={run}"
    for refuse in (
        lambda: claim(run, config, other),
        lambda: refuse_results(run, config, other, 9),
    ):
        with pytest.raises(ValueError, match=f"{names}.*{remedy}"):
            refuse()


def test_a_run_of_an_older_version_is_accepted_with_a_word(tmp_path, caplog):
    run = make_run(tmp_path / "run")
    caplog.set_level("INFO")
    claim(run, default(), dataset(tmp_path))
    (message,) = caplog.messages
    assert message.startswith(f"{run} was started by an older version")
    assert message.endswith(str(tmp_path))


def test_results_of_a_step_do_not_take_the_place_of_those_of_the_end(tmp_path):
    run, config, data = epath.Path(tmp_path) / "run", default(), dataset(tmp_path)
    refuse_results(run, config, data, 10)  # no run at all
    claim(run, config, data)
    refuse_results(run, config, data, 10)
    (run / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"step 1000; .*--workdir .* step 10\b"):
        refuse_results(run, config, data, 10)
    refuse_results(run, config, data, 1000)
    config.eval.sigma = 0.85
    with pytest.raises(ValueError, match=r"eval\.sigma"):
        refuse_results(run, config, data, 1000)


def test_a_field_that_is_younger_than_a_run_was_off(tmp_path):
    run = make_run(tmp_path / "run", **{"model.classifier": ...})
    config = default()
    assert other_fields(run, config) == []
    config.model.classifier = True
    assert other_fields(run, config) == ["model.classifier: True here, False there"]
