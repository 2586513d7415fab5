"""ActivityNet's json, HACS', THUMOS14's and BMN's, and a json of durations.

ActivityNet's is described at http://activity-net.org/download.html: `{"database": {id: {"duration",
"subset", "annotations": [{"segment": [start, end], "label"}]}}}`. BMN's is one object a video with
`duration_second`, `duration_frame`, `feature_frame` and `annotations`.
"""

from collections.abc import Iterator
from typing import Any

from segtad_jax.evaluation.entries import Entry, Reading, ReportDefect, add_action, number, shown
from segtad_jax.evaluation.ids import match_id
from segtad_jax.evaluation.json_files import InputError


def read(
    content: Any, path: object, report: ReportDefect, reading: Reading, *, durations: bool
) -> Iterator[Entry]:
    """Yields the entries of a json; with `durations` also of one {id: seconds}.

    Raises:
        InputError: it has another form.
    """
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object with 'database', found {shown(content)}")
    database = content.get("database")
    if database is None and "results" in content:
        raise InputError(f"{path}: this is a file of results, not of annotations")
    if database is None and any(_is_bmn(entry) for entry in content.values()):
        database = content
    elif database is None and durations and all(not isinstance(v, dict) for v in content.values()):
        database = {video: {"duration": seconds} for video, seconds in content.items()}
    if not isinstance(database, dict):
        keys = ", ".join(map(repr, list(content)[:5])) or "none"
        raise InputError(
            f"{path}: expected ActivityNet's form, an object with 'database': {{id: ...}}, or "
            f"BMN's, {{id: {{'duration_second': ...}}}}, or a project of BORIS, VIA or Label "
            f"Studio; the keys are {keys}"
        )
    first: dict[str, str] = {}
    for name, fields in database.items():
        where = f"{path}, video {shown(name)}"
        if first.setdefault(match_id(name), name) != name:
            report("repeated_video", name, f"{name} and {first[match_id(name)]}", where)
        elif not isinstance(fields, dict):
            report("bad_video", name, fields, where)
        else:
            yield _entry(name, fields, where, report, reading)


def _is_bmn(fields: object) -> bool:
    return isinstance(fields, dict) and "duration_second" in fields


def _entry(
    name: str, fields: dict[str, Any], where: str, report: ReportDefect, reading: Reading
) -> Entry:
    entry = Entry(name, where)
    seconds = fields["duration_second"] if _is_bmn(fields) else fields.get("duration")
    entry.describe(fields.get("subset"), seconds, report)
    entry.covered = covered(
        entry.duration, fields.get("duration_frame"), fields.get("feature_frame")
    )
    annotations = fields.get("annotations") or []  # a testing video may have none
    if not isinstance(annotations, list):
        report("bad_video", name, annotations, f"{where}: 'annotations' is no list")
        annotations = []
    for position, action in enumerate(annotations):
        place = f"{where}, annotation {position}"
        segment = action.get("segment") if isinstance(action, dict) else None
        if not (isinstance(segment, list) and len(segment) == 2):
            report("bad_action", name, action, place)
        else:
            add_action(entry, segment, action.get("label"), place, report, reading)
    return entry


def covered(duration: float | None, frames: object, used: object) -> float | None:
    """Returns the seconds that BMN's features cover, from frames of the video and of these."""
    total, part = number(frames), number(used)
    if duration is None or not total or not part or total <= 0 or part <= 0:
        return None
    return part / total * duration
