"""A damaged data set is named or reads as it was: no other error, and no silent change."""

import json
import random
import shutil

import pytest

from prepare_cases import good_inputs, prepare
from segtad_jax.data.dataset import open_dataset
from segtad_jax.data.index import INDEX
from segtad_jax.data.preparation import read_ceilings, read_preparation
from segtad_jax.evaluation.ground_truth import read_ground_truth
from segtad_jax.prepare import build

DAMAGES = 250


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "write_page", lambda *page: None)
        inputs = good_inputs(tmp_path_factory.mktemp("whole"))
        assert prepare(inputs) == 0
    return inputs["output"] / "mine" / "1.0.0"


def older(directory):
    """Takes out all that older versions did not write."""
    for path in directory.glob("*.json"):
        content = json.loads(path.read_text())
        if "recordings" in content:
            rows = [{k: v for k, v in r.items() if k != "checksum"} for r in content["recordings"]]
            content = {"recordings": rows}
        content.pop("checksum", None)
        path.write_text(json.dumps(content))


def read_dataset(directory):
    dataset = open_dataset(directory)
    recordings = {
        (split, r.video): (
            *(r.num_frames, r.rate, r.duration, r.segments.tolist()),
            *([dataset.classes[label - 1] for label in r.labels], dataset.features(r).tobytes()),
        )
        for split, videos in dataset.splits.items()
        for r in videos
    }
    return (dataset.name, dataset.num_channels, dataset.dtype, recordings)


def read_truth(directory):
    truth = read_ground_truth(directory, "validation")
    return truth.ground_truth, truth.durations


READERS = {
    "data set": read_dataset,
    "fingerprint": lambda directory: open_dataset(directory).fingerprint,
    "truth": read_truth,
    "preparation": lambda directory: read_preparation(directory).to_json(),
    "report": read_ceilings,
}


def damage(directory, draw):
    """Damages a file, or exchanges two, and returns their names."""
    file, other = draw.sample(sorted(directory.iterdir()), 2)
    if draw.random() < 0.3 and other.name != INDEX:  # which has most to lose
        file = directory / INDEX
    content = bytearray(file.read_bytes())
    place = draw.randrange(len(content))
    match draw.choice(["flip", "flip", "flip", "cut", "zeros", "twice", "empty", "gone", "swap"]):
        case "flip":
            content[place] ^= 1 << draw.randrange(8)
        case "cut":
            del content[place:]
        case "zeros":
            content[place : place + 9] = bytes(9)
        case "twice":
            content[place:place] = content[place : place + 20]
        case "empty":
            content.clear()
        case "gone":
            file.unlink()
            return [file.name]
        case "swap":
            file.write_bytes(other.read_bytes())
            other.write_bytes(content)
            return [file.name, other.name]
    file.write_bytes(content)
    return [file.name]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["this", "older"])
def test_damage_is_named_or_harmless(whole, tmp_path, version):
    draw, directory, named = random.Random(1), tmp_path / "damaged", 0
    start = tmp_path / "start"
    shutil.copytree(whole, start)
    if version == "older":
        older(start)
    expected = {name: read(start) for name, read in READERS.items()}
    features = {key: row[-1] for key, row in expected["data set"][-1].items()}
    for number in range(DAMAGES):
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(start, directory)
        files = damage(directory, draw)
        for name, read in READERS.items():
            try:
                found, message = read(directory), ""
            except (ValueError, OSError) as error:
                message = str(error)
            if message:  # says which file, or what to do with all of them
                named += 1
                assert str(directory) in message, f"damage {number}, {files}: {message}"
                assert any(word in message for word in (*files, "again")), message
                continue
            if version == "this":
                assert found == expected[name], f"damage {number}, {files}: {name}"
            elif name == "data set":  # a record is at least that of its video
                assert all(row[-1] == features.get(k) for k, row in found[-1].items())
    assert named > DAMAGES / 2
