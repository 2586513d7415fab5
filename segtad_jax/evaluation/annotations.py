"""Reading of ground truth: ActivityNet's JSON, and THUMOS14's csv and txt files."""

import csv
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segtad_jax.evaluation.json_files import InputError, load_json, read_text, require_object


@dataclass(frozen=True)
class Annotations:
    """One subset of a ground-truth file, and what is known of the rest of the file."""

    path: str
    subset: str
    ground_truth: dict[str, list[tuple[float, float, str]]]  # seconds; in file order
    durations: dict[str, float]  # seconds, of the videos for which the file says it
    blocked: frozenset[str]  # taken out, of whatever subset
    other_videos: frozenset[str]  # of other subsets
    labels: frozenset[str]  # of all subsets
    notes: list[str] = field(default_factory=list)  # what was let pass, a line each


def read_ground_truth(
    path: str | Path,
    subset: str,
    *,
    blocked: Collection[str] = (),
    lenient: bool = False,
) -> Annotations:
    """The actions of a subset.

    Args:
      path: ActivityNet's form {"database": {video: {"subset", "duration", "annotations"}}}, times
        as numbers or text; or THUMOS14's csv (video,type,...,start,end); or the folder of the txt
        files of THUMOS14 (CLASS_test.txt, CLASS_val.txt with `video start end`).
      subset: videos of other subsets are no part of the ground truth.
      blocked: ids of videos to take out.
      lenient: leave out actions that end before they start or are no finite numbers.

    Raises:
      InputError: names the file, the place and the value.
    """
    file = Path(path) if isinstance(path, str) else path
    if file.is_dir():
        videos = _read_txt_folder(file)
    elif file.suffix == ".csv":
        videos = _read_csv(file)
    else:
        videos = _read_json(file)
    return _select(file, videos, subset, frozenset(blocked), lenient)


@dataclass
class _Video:
    subset: str | None  # None: the file does not say, so any
    duration: float | None
    actions: list[tuple[float, float, str, str]]  # start, end, label, where it stands in the file


def read_blocked(path: str | Path) -> list[str]:
    """Ids of videos: a JSON list, or one a line."""
    if not read_text(path).lstrip().startswith(("[", "{")):
        return read_text(path).split()
    blocked = load_json(path)
    if not (isinstance(blocked, list) and all(isinstance(video, str) for video in blocked)):
        raise InputError(f"{path}: must be a JSON list of video ids, or one id a line")
    return blocked


def _select(
    path: Path, videos: dict[str, _Video], subset: str, blocked: frozenset[str], lenient: bool
) -> Annotations:
    own = {name: video for name, video in videos.items() if video.subset in (subset, None)}
    if not own:
        found = Counter(video.subset for video in videos.values())
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(found.items())) or "none"
        raise InputError(f"{path}: has no video of the subset {subset!r}; it has: {listed}")
    kept = {name: video for name, video in own.items() if name not in blocked}
    if not any(video.actions for video in kept.values()):
        raise InputError(f"{path}: the subset {subset!r} has no annotated action to score against")
    ground_truth: dict[str, list[tuple[float, float, str]]] = {name: [] for name in kept}
    broken = 0
    for name, video in kept.items():
        for start, end, label, where in video.actions:
            if math.isfinite(start) and math.isfinite(end) and start <= end:
                ground_truth[name].append((start, end, label))
            elif lenient:
                broken += 1
            else:
                raise InputError(
                    f"{path}: {where}: segment [{start}, {end}] must be finite and end after it "
                    "starts; mend it or score with --lenient, which leaves it out"
                )
    return Annotations(
        path=str(path),
        subset=subset,
        ground_truth=ground_truth,
        durations={
            name: video.duration
            for name, video in kept.items()
            if video.duration is not None and 0 < video.duration < math.inf
        },
        blocked=blocked,
        other_videos=frozenset(set(videos) - set(own)),
        labels=frozenset(row[2] for video in videos.values() for row in video.actions),
        notes=[f"{path}: {broken} broken actions left out"] if broken else [],
    )


def _read_json(path: Path) -> dict[str, _Video]:
    content = require_object(load_json(path), path, ("database",))
    database = content["database"]
    if not isinstance(database, dict):
        raise InputError(f"{path}: 'database' must be an object {{video id: ...}}")
    return {name: _json_video(path, name, entry) for name, entry in database.items()}


def _json_video(path: Path, name: str, entry: Any) -> _Video:
    where = f"video {name!r}"
    if not isinstance(entry, dict) or "subset" not in entry:
        raise InputError(f"{path}: {where}: must be an object with 'subset' and 'annotations'")
    annotations = entry.get("annotations") or []  # the testing subset may have none
    if not isinstance(annotations, list):
        raise InputError(f"{path}: {where}: 'annotations' must be a list")
    actions = []
    for position, action in enumerate(annotations):
        place = f"{where}, annotation {position}"
        segment = action.get("segment") if isinstance(action, dict) else None
        label = action.get("label") if isinstance(action, dict) else None
        if not (isinstance(segment, list) and len(segment) == 2):
            raise InputError(f"{path}: {place}: {action!r} must have 'segment': [start, end]")
        if not isinstance(label, str):
            raise InputError(f"{path}: {place}: label {label!r} must be the name of the class")
        start, end = (_seconds(path, place, value) for value in segment)
        actions.append((start, end, label, place))
    duration = entry.get("duration")
    return _Video(
        subset=str(entry["subset"]),
        duration=None if duration is None else _seconds(path, f"{where}, duration", duration),
        actions=actions,
    )


def _read_csv(path: Path) -> dict[str, _Video]:
    lines = csv.DictReader(read_text(path).splitlines())
    columns = {"video", "type", "start", "end"}
    if not columns <= set(lines.fieldnames or ()):
        raise InputError(
            f"{path}: the first line must name {', '.join(sorted(columns))}; it has "
            f"{', '.join(lines.fieldnames or ()) or 'nothing'}"
        )
    rows = ((f"line {lines.line_num}", row) for row in lines)
    named = (
        (place, row["video"], row["type"], row["start"], row["end"], None) for place, row in rows
    )
    return _grouped(path, named)


def _read_txt_folder(path: Path) -> dict[str, _Video]:
    def rows() -> Iterator[tuple[str, str, str, str, str, str]]:
        for file in sorted(path.glob("*_*.txt")):
            label, _, ending = file.stem.rpartition("_")
            subset = {"test": "test", "val": "validation"}.get(ending)
            if subset is None:
                continue
            for number, line in enumerate(read_text(file).splitlines(), start=1):
                place, parts = f"{file.name}, line {number}", line.split()
                if len(parts) == 3:
                    yield place, parts[0], label, parts[1], parts[2], subset
                elif parts:
                    raise InputError(f"{path}: {place}: {line!r} must be `video start end`")

    return _grouped(path, rows())


def _grouped(path: Path, rows: Iterator[tuple]) -> dict[str, _Video]:
    """THUMOS14's files have a line for each action and no durations."""
    videos: dict[str, _Video] = {}
    for place, name, label, start, end, subset in rows:
        in_name = re.fullmatch(r"video_([a-z]+)_\d+", name)
        known = subset or (in_name and in_name.group(1)) or None
        video = videos.setdefault(name, _Video(known, None, []))
        where = f"{place}, video {name!r}"
        times = _seconds(path, where, start), _seconds(path, where, end)
        video.actions.append((*times, label, where))
    return videos


def _seconds(path: Path, where: str, value: Any) -> float:
    """A time; some data sets write it as text."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {where}: {value!r} is no time in seconds") from error
