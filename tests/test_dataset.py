"""Random access to shards: without TensorFlow, with or without an index, and damage is found."""

import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from segtad_jax.data import tfrecord
from segtad_jax.data.dataset import INDEX, find, find_all, open_dataset
from segtad_jax.data.records import Record
from segtad_jax.data.writer import write_dataset


def record(index):
    random = np.random.default_rng(index)
    num_actions = index % 3
    starts = random.uniform(0, 5, num_actions)
    return Record(
        video=f"v{index:02d}",
        features=random.normal(size=(10 + index, 4)).astype(np.float32),
        rate=2.0,
        duration=10.0,
        segments=np.stack([starts, starts + random.uniform(0, 5, num_actions)], axis=1),
        labels=("b", "a")[:num_actions],
    )


@pytest.fixture
def directory(tmp_path):
    return write_dataset(
        tmp_path,
        name="small",
        classes=("a", "b"),
        num_channels=4,
        splits={
            "training": map(record, range(8)),
            "validation": map(record, range(8, 11)),
        },
        description="For a test.",
    )


def assert_equal_recordings(first, second):
    assert first.splits.keys() == second.splits.keys()
    for split, recordings in first.splits.items():
        for a, b in zip(recordings, second.splits[split], strict=True):
            for field in ("video", "num_frames", "rate", "duration", "shard", "offset", "size"):
                assert getattr(a, field) == getattr(b, field)
            np.testing.assert_array_equal(a.segments, b.segments)
            np.testing.assert_array_equal(a.labels, b.labels)


def test_every_record_is_read_at_its_place_in_any_order(directory):
    dataset = open_dataset(directory)
    assert [r.video for r in dataset.recordings("training")] == [f"v{i:02d}" for i in range(8)]
    for recording in reversed(dataset.recordings("training") + dataset.recordings("validation")):
        original = record(int(recording.video[1:]))
        assert recording.num_frames == len(original.features)
        np.testing.assert_array_equal(dataset.features(recording), original.features)
        np.testing.assert_array_equal(recording.segments, original.segments)
        assert tuple(dataset.classes[label - 1] for label in recording.labels) == original.labels


def test_without_an_index_the_shards_are_scanned(directory):
    indexed = open_dataset(directory)
    (directory / INDEX).unlink()
    assert_equal_recordings(indexed, open_dataset(directory))
    assert not (directory / INDEX).exists()


def without_checksum(directory):
    """Makes the index one of an older version, and returns its file and content."""
    index = directory / INDEX
    content = {"recordings": json.loads(index.read_text())["recordings"]}
    for row in content["recordings"]:
        del row["checksum"]
    index.write_text(json.dumps(content))
    return index, content


def test_the_index_is_what_is_read_but_not_against_the_record(directory):
    """So that opening a large data set takes no scan."""
    index, _ = without_checksum(directory)
    index.write_text(index.read_text().replace("v03", "renamed"))
    dataset = open_dataset(directory)
    (renamed,) = [r for r in dataset.recordings("training") if r.video == "renamed"]
    with pytest.raises(ValueError, match=rf"{renamed.shard}: .* 'v03', expected 'renamed'"):
        dataset.features(renamed)


def test_reading_imports_no_tensorflow(directory):
    code = (
        "import sys; from segtad_jax.data import pipeline; "
        "from segtad_jax.data.dataset import open_dataset; "
        f"dataset = open_dataset({str(directory)!r}); "
        "print(dataset.features(dataset.recordings('training')[0]).shape, "
        "'tensorflow' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert run.stdout == "(10, 4) False\n"


def test_nothing_but_opening_needs_tfds():
    code = (
        "import sys; sys.modules.update(tensorflow=None, tensorflow_datasets=None, orbax=None); "
        "from segtad_jax import detector, step; from segtad_jax.data import pipeline, synthetic; "
        "del sys.modules['orbax']; from segtad_jax import train"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Elsewhere(tfds.core.GeneratorBasedBuilder):
    """As another tool might write them: other encodings and integers, several shards."""

    VERSION = tfds.core.Version("2.1.0")
    code_path = None

    def _info(self):
        classes = tfds.features.ClassLabel(names=["b", "a"])
        spec = {
            "video": tfds.features.Text(),
            "features": tfds.features.Tensor(shape=(None, 4), dtype=np.float64),
            "rate": np.float32,
            "duration": np.float64,
            "segments": tfds.features.Tensor(shape=(None, 2), dtype=np.float32),
            "labels": tfds.features.Sequence(classes),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(spec))

    def _split_generators(self, dl_manager):
        return {"training": self._generate_examples()}

    def _generate_examples(self):
        for r in map(record, range(8)):
            yield (
                r.video,
                {
                    "video": r.video,
                    "features": r.features.astype(np.float64),
                    "rate": np.float32(r.rate),
                    "duration": np.float64(r.duration),
                    "segments": r.segments.astype(np.float32),
                    "labels": list(r.labels),
                },
            )


def test_a_data_set_made_elsewhere_is_read(tmp_path):
    builder = Elsewhere(data_dir=tmp_path)
    config = tfds.download.DownloadConfig(num_shards=3)
    builder.download_and_prepare(file_format="tfrecord", download_config=config)
    dataset = open_dataset(builder.data_dir)
    assert dataset.name == "elsewhere"
    assert dataset.dtype == np.float32  # though stored as float64
    assert dataset.classes == ("b", "a")
    recordings = dataset.recordings("training")
    assert len({recording.shard for recording in recordings}) == 3
    for recording, original in zip(recordings, map(record, range(8)), strict=True):
        np.testing.assert_array_equal(dataset.features(recording), original.features)
        np.testing.assert_allclose(recording.segments, original.segments, rtol=1e-6)
        assert recording.rate == original.rate
        assert [dataset.classes[label - 1] for label in recording.labels] == list(original.labels)


def shard_of(directory):
    dataset = open_dataset(directory)
    recording = dataset.recordings("training")[-1]
    return dataset, recording, directory / recording.shard


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("num_frames", 10**9, "hold"),
        ("num_frames", 0, "hold"),
        ("num_frames", 10**400, "hold"),
        ("offset", -1, "whole number"),
        ("offset", 7, "ends at"),
        ("size", 1 << 60, "positive whole number"),
        ("size", 3000.0, "positive whole number"),
        ("duration", math.nan, "positive number"),
        ("rate", 0, "positive number"),
        ("rate", "2", "positive number"),
        ("segments", [[1.0, math.inf]], "pairs of seconds"),
        ("segments", [[1.0]], "pairs of seconds"),
        ("labels", [3], "class from 1 to 2"),
        ("labels", [0], "class from 1 to 2"),
        ("labels", [1, 1, 1], "class from 1 to 2"),
        ("split", "train", "one of training, validation"),
        ("shard", "../small-training.tfrecord-00000", "a file's name"),
        ("shard", "gone", "ends at"),
        ("video", "v03", "twice"),
        ("video", None, "an id"),
    ],
)
def test_an_index_that_claims_what_cannot_be_is_named(directory, field, value, expected):
    index, content = without_checksum(directory)
    rows = [row for row in content["recordings"] if row["split"] == "training"]
    row = rows[4]  # v04, with one action
    row[field] = value
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=expected) as caught:
        open_dataset(directory)
    message = str(caught.value)
    assert str(directory) in message
    assert "prepare the data set again" in message.lower()
    if field not in ("video", "shard"):
        assert "v04" in message
        assert f"{field} is {value!r:.100}" in message


def test_a_row_that_is_missing_is_noticed(directory):
    index, content = without_checksum(directory)
    for gone in (3, -1):
        index.write_text(
            json.dumps(
                {
                    "recordings": [
                        row
                        for row in content["recordings"]
                        if row is not content["recordings"][gone]
                    ]
                }
            )
        )
        with pytest.raises(ValueError, match=r"small-\w+\.tfrecord-00000.*again"):
            open_dataset(directory)


def test_a_shard_of_another_size_is_noticed_at_opening(directory):
    *_, shard = shard_of(directory)
    content = shard.read_bytes()
    for changed in (content[:-1], content + b"0", None):
        shard.unlink()
        if changed is not None:
            shard.write_bytes(changed)
        said = "missing" if changed is None else f"has {len(changed)} bytes, .* {len(content)}"
        with pytest.raises(ValueError, match=rf"{re.escape(str(shard))}: .*{said}.*again"):
            open_dataset(directory)
        shard.touch()


def test_classes_are_those_that_were_written(directory):
    labels = directory / "labels.labels.txt"
    labels.write_text("a\nc\n")
    message = r"labels\.labels\.txt: classes: 'c' here, .*recordings\.json 'b'.* again"
    with pytest.raises(ValueError, match=message):
        open_dataset(directory)
    labels.unlink()  # TFDS would count them
    with pytest.raises(ValueError, match=r"labels\.labels\.txt: is missing.*again"):
        open_dataset(directory)


def test_another_data_set_of_equal_shape_is_another(directory, tmp_path):
    """Only the features differ: ids, lengths, annotations and sizes are equal."""
    negative = (dataclasses.replace(r, features=-r.features) for r in map(record, range(8)))
    other = write_dataset(
        tmp_path / "other",
        name="small",
        classes=("a", "b"),
        num_channels=4,
        splits={"training": negative, "validation": map(record, range(8, 11))},
        description="",
    )
    here, there = open_dataset(directory), open_dataset(other)
    assert here.fingerprint != there.fingerprint
    *_, shard = shard_of(directory)
    shard.write_bytes((other / shard.name).read_bytes())
    mixed = open_dataset(directory)
    with pytest.raises(ValueError, match=rf"{shard.name}: .*checksum differs.*again"):
        mixed.features(mixed.recordings("training")[0])


def test_a_fingerprint_stays_where_the_data_go(directory, tmp_path):
    fingerprint = open_dataset(directory).fingerprint
    moved = shutil.copytree(directory, tmp_path / "elsewhere")
    assert open_dataset(moved).fingerprint == fingerprint
    (moved / INDEX).unlink()  # made anew
    assert open_dataset(moved).fingerprint == fingerprint
    _, content = without_checksum(directory)
    older = open_dataset(directory).fingerprint
    assert len(older) == len(fingerprint) > 32
    content["recordings"][0]["duration"] += 1
    (directory / INDEX).write_text(json.dumps(content))
    assert open_dataset(directory).fingerprint != older


def test_a_record_that_claims_more_than_the_file_holds_takes_no_memory(directory):
    _, recording, shard = shard_of(directory)
    content = bytearray(shard.read_bytes())
    length = (1 << 50).to_bytes(8, "little")
    checksum = tfrecord._masked_crc32c(length).to_bytes(4, "little")
    content[recording.offset : recording.offset + 12] = length + checksum
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=f"byte {recording.offset} is not that of"):
        open_dataset(directory).features(recording)
    (directory / INDEX).unlink()
    with pytest.raises(ValueError, match=f"no whole record at byte {recording.offset}"):
        open_dataset(directory)


def test_features_of_no_library_are_not_imported(directory, tmp_path, monkeypatch):
    """TFDS imports whatever module features.json names."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    features = directory / "features.json"
    content = features.read_text()
    text = "tensorflow_datasets.core.features.text_feature.Text"
    assert text in content
    for key in ("pythonClassName", "python_class_name"):
        features.write_text(content.replace(text, "evil.Text").replace("pythonClassName", key))
        with pytest.raises(ValueError, match=r"features\.json.*'evil\.Text' is no feature of TFDS"):
            open_dataset(directory)


def test_a_damaged_shard_is_named(directory):
    dataset, recording, shard = shard_of(directory)
    content = shard.read_bytes()
    damaged = re.escape(f"{shard}: no whole record at byte {recording.offset}")

    end = recording.offset + 12 + recording.size + 4
    for length in (end - 1, recording.offset + 5):
        shard.write_bytes(content[:length])
        with pytest.raises(ValueError, match=damaged):
            dataset.features(recording)

    # A wrong length is noticed before that much is read.
    wrong = bytearray(content)
    wrong[recording.offset + 7] = 0x7F
    shard.write_bytes(wrong)
    with pytest.raises(ValueError, match=damaged):
        dataset.features(recording)
    (directory / INDEX).unlink()
    with pytest.raises(ValueError, match=damaged):
        open_dataset(directory)


def test_damaged_features_are_named(directory):
    dataset, recording, shard = shard_of(directory)
    content = bytearray(shard.read_bytes())
    stream = content.index(b"\x78\x01", recording.offset)  # zlib's header
    content[stream + 100] ^= 1
    shard.write_bytes(content)
    message = rf"{shard.name}: the record at byte .* of video {recording.video}.* %s.* again"
    with pytest.raises(ValueError, match=message % "checksum"):
        dataset.features(recording)
    without_checksum(directory)  # zlib has one, too
    older = open_dataset(directory)
    with pytest.raises(ValueError, match=message % "Error -3"):
        older.features(older.recordings("training")[-1])


def test_a_replaced_shard_is_named(directory):
    dataset, _, shard = shard_of(directory)
    first = min(dataset.recordings("training"), key=lambda recording: recording.offset)
    other = directory / dataset.recordings("validation")[0].shard
    for content in (b"", other.read_bytes()):
        shard.write_bytes(content)
        message = f"the record at byte 0 is not that of video {first.video}.*delete .*{INDEX}"
        with pytest.raises(ValueError, match=message):
            dataset.features(first)


def test_a_folder_without_a_data_set_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no data set in {re.escape(str(tmp_path))}"):
        open_dataset(tmp_path)


class TestFind:
    @pytest.mark.parametrize("below", ["some/1.0.0", "1.0.0", ""])
    def test_the_only_one(self, directory, tmp_path, below):
        root = tmp_path / "root"
        place = root / below
        shutil.copytree(directory, place)
        (root / "more").mkdir()
        (root / "notes.txt").write_text("")
        (root / ".preparing-other").mkdir()
        (root / ".preparing-other" / "dataset_info.json").write_text("")
        assert find_all(root) == [place]
        found = open_dataset(find(root, "--option"))
        assert_equal_recordings(found, open_dataset(directory))

    def test_none(self, tmp_path):
        message = re.escape(f"no data set in {tmp_path / 'gone'}: it has no dataset_info.json")
        with pytest.raises(FileNotFoundError, match=message + ".*name DATA by --option=DATA"):
            find(tmp_path / "gone", "--option")

    def test_several_are_named_as_they_would_be_typed(self, directory, tmp_path):
        for name in ("b", "a"):
            shutil.copytree(directory, tmp_path / "several" / name / "1.0.0")
        with pytest.raises(ValueError, match="several holds 2 data sets; name one") as caught:
            find(tmp_path / "several", "--option")
        lines = str(caught.value).splitlines()[1:]
        assert lines == [f"  --option={tmp_path}/several/{name}/1.0.0" for name in ("a", "b")]
        assert find(tmp_path / "several" / "b", "--option") == tmp_path / "several" / "b" / "1.0.0"


def test_an_unknown_split_is_answered_with_those_there_are(directory):
    with pytest.raises(ValueError, match=r"no split 'test' in .*; it has training, validation"):
        open_dataset(directory).recordings("test")


def test_records_of_another_kind_are_named(directory):
    features = directory / "features.json"
    features.write_text(features.read_text().replace('"rate"', '"fps"'))
    with pytest.raises(ValueError, match=r"features\.json: records have no rate; expected"):
        open_dataset(directory)
