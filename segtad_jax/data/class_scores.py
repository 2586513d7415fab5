"""Reads video-level class scores of an external classifier, in the forms they are published in.

- CUHK's: {"results": {video: [a probability a class]}, "class" or "classes": [names]}.
- TCANet's for HACS: the same, but results[video] is a list that holds the list of logits; a softmax
  makes probabilities of them.
- ActivityNet's classification results: {"results": {video: [{"label": name, "score": x}, ...]}}.
- UntrimmedNet's for THUMOS14: an npy array [videos, 101]; the row is the number at the end of the
  id less one, the columns are the classes of UCF101.

Where the file has names, names decide which class a score belongs to; where it has none, there must
be a score for each class, in their order.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from os import PathLike
from pathlib import PurePath
from typing import Any

import numpy as np

from segtad_jax.evaluation.ids import clean_label, match_id, matching, whole_id
from segtad_jax.evaluation.json_files import InputError, load_json, open_file, require_object

# The classes of THUMOS14 by their number among the 101 of UCF101, from 1.
_THUMOS14 = {
    "BaseballPitch": 7,
    "BasketballDunk": 9,
    "Billiards": 12,
    "CleanAndJerk": 21,
    "CliffDiving": 22,
    "CricketBowling": 23,
    "CricketShot": 24,
    "Diving": 26,
    "FrisbeeCatch": 31,
    "GolfSwing": 33,
    "HammerThrow": 36,
    "HighJump": 40,
    "JavelinThrow": 45,
    "LongJump": 51,
    "PoleVault": 68,
    "Shotput": 79,
    "SoccerPenalty": 85,
    "TennisSwing": 92,
    "ThrowDiscus": 93,
    "VolleyballSpiking": 97,
}


def read_class_scores(
    path: str | PathLike[str], videos: Iterable[str], classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Reads the scores of the classes in each video.

    Args:
        path: a file in one of the forms above; .npy is UntrimmedNet's.
        videos: ids, with or without `v_` whichever way the file has them.
        classes: the names to read; those that an ActivityNet list leaves out have no score.

    Returns:
        {video: {label: score}} for exactly the given videos, scores finite and at least 0.

    Raises:
        InputError: names the videos or the classes that are missing, or the value that is wrong.
    """
    if PurePath(path).suffix == ".npy":
        return _read_untrimmednet(path, videos, classes)
    content = require_object(load_json(path), path, ("results",))
    results = content["results"]
    if not isinstance(results, dict):
        raise InputError(f"{path}: 'results' must be an object {{video id: scores}}")
    names = content.get("class", content.get("classes"))
    names = _clean(names) if isinstance(names, list) else names
    there = {match_id(key): key for key in results}
    whole = {video: match_id(whole_id(video)[0]) for video in videos}  # of pieces between gaps
    found = matching(whole.values(), there)
    scores, missing = {}, []
    for video, wanted in whole.items():
        if (key := found.get(wanted)) is None:
            missing.append(video)
        else:
            scores[video] = _scores(path, video, results[there[key]], names, classes)
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise InputError(f"{path}: has no class scores of {len(missing)} videos: {shown}")
    return scores


def _clean(names: list[Any]) -> list[Any]:
    return [clean_label(name) if isinstance(name, str) else name for name in names]


def _scores(
    path: str | PathLike[str], video: str, value: Any, names: Any, classes: Sequence[str]
) -> dict[str, float]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{path}: video {video!r}: must be a list of scores")
    if isinstance(value[0], dict):
        rows = [row for row in value if isinstance(row, dict)]
        named = zip(_clean([row.get("label") for row in rows]), rows, strict=True)
        known = {label: row.get("score") for label, row in named if label in classes}
        return _checked(path, video, known)
    logits = isinstance(value[0], list)
    numbers = value[0] if logits else value
    if names is None:
        names = classes
        if len(numbers) != len(classes):
            raise InputError(
                f"{path}: video {video!r}: {len(numbers)} scores and no names ('class'), but "
                f"{len(classes)} classes"
            )
    if len(numbers) != len(names):
        raise InputError(f"{path}: video {video!r}: {len(numbers)} scores for {len(names)} names")
    absent = set(classes) - set(names)
    if absent:
        raise InputError(f"{path}: has no class {', '.join(map(repr, sorted(absent)[:5]))}")
    if logits:
        array = np.array(numbers, np.float64)
        exponentials = np.exp(array - array.max())
        numbers = (exponentials / exponentials.sum()).tolist()
    by_name = dict(zip(names, numbers, strict=True))
    return _checked(path, video, {label: by_name[label] for label in classes})


def _checked(path: str | PathLike[str], video: str, scores: dict[str, Any]) -> dict[str, float]:
    for label, score in scores.items():
        number = isinstance(score, int | float) and math.isfinite(score)
        if not number or score < 0:
            raise InputError(
                f"{path}: video {video!r}, class {label!r}: score {score!r} must be a number, at "
                "least 0"
            )
    if not scores:
        raise InputError(f"{path}: video {video!r}: has no score of any class of this data set")
    return {label: float(score) for label, score in scores.items()}


def _read_untrimmednet(
    path: str | PathLike[str], videos: Iterable[str], classes: Collection[str]
) -> dict[str, dict[str, float]]:
    unknown = sorted(set(classes) - set(_THUMOS14))
    if unknown:
        raise InputError(f"{path}: an npy file is for THUMOS14, which has no class {unknown[0]!r}")
    with open_file(path) as file:
        try:
            array = np.load(file, allow_pickle=False)
        except ValueError as error:
            raise InputError(f"{path}: not an npy file of numbers ({error})") from error
    if array.ndim != 2 or array.shape[1] != 101:
        raise InputError(f"{path}: shape {array.shape} must be [videos, 101]")
    scores = {}
    for video in videos:
        number = int(video[-4:]) if video[-4:].isdigit() else 0
        if not 1 <= number <= len(array):
            raise InputError(f"{path}: has no class scores of {video}: {len(array)} rows")
        row = {label: float(array[number - 1, _THUMOS14[label] - 1]) for label in classes}
        scores[video] = _checked(path, video, row)
    return scores
