"""Seeded damages of annotation and result files: each is named, with the file, or does no harm."""

import json
import random

import pytest

from segtad_jax.data.defects import KINDS
from segtad_jax.evaluation.entries import Reading
from segtad_jax.evaluation.ground_truth import predictions_in_scope, read_ground_truth
from segtad_jax.evaluation.ids import read_ids
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.evaluation.results import read_predictions
from segtad_jax.evaluation.scoring import evaluate
from segtad_jax.prepare.annotations import checked_actions, read_annotations

VIDEOS = {
    video: {
        "subset": "validation" if video == "c" else "training",
        "duration": 60.5,
        "annotations": [
            {"segment": [5, 20.25], "label": "Bügeln"},
            {"segment": [30.5, 41], "label": "walk"},
        ],
    }
    for video in "abc"
}
ROWS = [
    f"{video},{a['segment'][0]},{a['segment'][1]},{a['label']},{fields['subset']},60.5"
    for video, fields in VIDEOS.items()
    for a in fields["annotations"]
]
RESULTS = {
    video: [{**action, "score": 0.5 + index / 4} for index, action in enumerate(f["annotations"])]
    for video, f in VIDEOS.items()
}
BMN = {
    video: {
        "duration_second": 60.5, "duration_frame": 1815, "feature_frame": 1808,
        "subset": "validation", "annotations": fields["annotations"],
    }
    for video, fields in VIDEOS.items()
}  # fmt: skip
PREPARED = [
    {
        "video": video, "num_frames": 121, "rate": 2.0, "duration": 60.5, "split": fields["subset"],
        "segments": [[5.0, 20.25], [30.5, 41.0]], "labels": [1, 2], "shard": "x",
        "offset": 0, "size": 9,
    }
    for video, fields in VIDEOS.items()
]  # fmt: skip
HEAD = "video,start,end,label,subset,duration"
ANNOTATIONS = {  # name: {file: content}
    "activitynet": {"a.json": json.dumps({"database": VIDEOS}, ensure_ascii=False)},
    "bmn": {"a.json": json.dumps(BMN)},
    "csv": {"a.csv": "\n".join([HEAD, *ROWS])},
    "semicolons": {"a.csv": "\n".join([HEAD, *ROWS]).replace(",", ";").replace(".", ",")},
    "charades": {"a.csv": "id,actions,length\na,c006 0.00 3.60;c008 0.00 5.00,30.5\nb,,4.0\n"},
    "thumos14": {
        "Run_val.txt": "video_validation_0000001 1.0 2.5\nvideo_validation_0000002 3.0 4.0\n",
        "Run_test.txt": "video_test_0000001 1.0 2.5\n",
    },
    "frames": {"a.txt": "take\ntake\nbg\n", "b.txt": "take\nbg\nput\n", "mapping.txt": "0 bg\n"},
    "prepared": {
        "recordings.json": json.dumps({"recordings": PREPARED}),
        "labels.labels.txt": "Bügeln\nwalk\n",
    },
}
STRANGE = [
    None, True, [], {}, -1, 0, 1e308, 10**400, "", "x", "\ud800", "a\nb", "\x1b[31m", [[]],
    [1, "2"], float("nan"), float("inf"),
]  # fmt: skip


def damaged_bytes(rng, content):
    data = bytearray(content.encode())
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        kind = rng.choice(["flip", "cut", "delete", "insert", "repeat", "null"])
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[at:]
        elif kind == "delete":
            del data[at : at + rng.randint(1, 9)]
        elif kind == "insert":
            words = [b'"', b"\n", b"{", b"]", b",", b"\xff", b"1e999", b"NaN", b"-", b"\r", b"\x00"]
            data[at:at] = rng.choice(words)
        elif kind == "repeat":
            data[at:at] = data[max(at - 30, 0) : at]
        else:
            data[at : at + 4] = bytes(4)
    return bytes(data)


def damaged_json(rng, content):
    """Another value at a random place, a key gone or twice, or lists in lists without end."""
    content = json.loads(json.dumps(content))
    places = []

    def walk(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(content)
    holder, key = rng.choice(places)
    kind = rng.choice(["swap", "swap", "swap", "drop", "rename", "deep", "twice"])
    if kind == "drop":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[rng.choice(["", "v_a", "..", "a/b", "\ud800", "label"])] = holder.pop(key)
    else:
        holder[key] = rng.choice(STRANGE)
    text = json.dumps(content).replace("Infinity", rng.choice(["Infinity", "1e999"]))
    if kind == "deep":
        text = text.replace("60.5", "[" * 5000 + "]" * 5000, 1)
    if kind == "twice":
        text = text.replace('"segment"', '"label"', 1)
    return text.encode()


def refusal(act, *arguments):
    """What is said of a file that is refused; None if it is not."""
    try:
        act(*arguments)
    except InputError as error:
        return str(error)
    return None


def read_for_training(path):
    annotations = read_annotations([path], Reading(rate=15.0))
    assert {defect.kind for defect in annotations.defects} <= set(KINDS)
    assert all(path in defect.where for defect in annotations.defects)
    for label in annotations.classes:
        assert label == " ".join(label.splitlines()) == label.encode().decode()
    for video in annotations.videos.values():
        actions, _ = checked_actions(video, 60.5)
        assert all(0 <= a.start <= a.end <= 60.51 for a in actions)


def read_for_scoring(path, lenient):
    truth = read_ground_truth(path, "validation", Reading(rate=15.0), lenient=lenient)
    evaluate(truth.ground_truth, {}, durations=truth.durations)


@pytest.mark.slow
@pytest.mark.parametrize("form", ANNOTATIONS)
def test_annotations(tmp_path, form):
    files = ANNOTATIONS[form]
    whole = {name: content.encode() for name, content in files.items()}
    for seed in range(150):
        rng = random.Random(f"{form} {seed}")
        name = rng.choice(list(files))
        if name.endswith(".json") and rng.random() < 0.6:
            damage = damaged_json(rng, json.loads(files[name]))
        else:
            damage = damaged_bytes(rng, files[name])
        for other, content in (whole | {name: damage}).items():
            (tmp_path / other).write_bytes(content)
        path = str(tmp_path / name if len(files) == 1 else tmp_path)
        said = [refusal(read_for_training, path)]
        said += [refusal(read_for_scoring, path, lenient) for lenient in (False, True)]
        for text in filter(None, said):
            assert path in text or "BMN's json" in text


def test_results(tmp_path):
    truth_path, path = tmp_path / "gt.json", tmp_path / "p.json"
    truth_path.write_text(json.dumps({"database": VIDEOS}))
    truth = read_ground_truth(truth_path, "training")
    content = {"version": "VERSION 1.3", "results": RESULTS, "external_data": {}}
    harmless = 0

    def score(lenient):
        predictions, _ = read_predictions(path, lenient=lenient)
        inside, _ = predictions_in_scope(truth, predictions, lenient=lenient)
        result = evaluate(truth.ground_truth, inside, durations=truth.durations)
        assert 0 <= result["map"]["average"] <= 1

    for seed in range(300):
        rng = random.Random(seed)
        damage = damaged_bytes(rng, json.dumps(content)) if seed % 3 else damaged_json(rng, content)
        path.write_bytes(damage)
        for lenient in (False, True):
            text = refusal(score, lenient)
            assert text is None or any(word in text for word in ("p.json", "gt.json", "prediction"))
            harmless += text is None
    assert 20 < harmless < 500  # both happens


def test_lists_of_ids(tmp_path):
    path = tmp_path / "blocked"
    for seed in range(200):
        path.write_bytes(damaged_bytes(random.Random(seed), '["a", "cow 2", "Bügeln"]'))
        text = refusal(read_ids, path)
        assert text is None or str(path) in text
