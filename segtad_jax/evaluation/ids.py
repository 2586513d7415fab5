"""Ids of videos and names of classes: which are the same, and what may stand in them."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from os import PathLike
from urllib.parse import unquote

from segtad_jax.evaluation.json_files import InputError, load_json, read_text

# Of files that are named for the video: a recording, or its features.
_ENDING = re.compile(
    r"(\.(mp4|m4v|mkv|mov|avi|webm|mpe?g|wmv|flv|m2?ts|3gp|wav|mp3|m4a|flac|ogg|txt|npy|npz|[ct]sv"
    r"|parquet|mat|pth?))+$",
    re.IGNORECASE,
)
_PIECE = re.compile(r"(.+)#t=(\d+(?:\.\d+)?),\d+(?:\.\d+)?")
_BREAK = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_INVISIBLE = re.compile(r"[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MAX_BYTES = 255  # longer ones are no file names


def match_id(video: str) -> str:
    """Returns the id by which files refer to one video: without `v_`, in Unicode form NFC."""
    return unicodedata.normalize("NFC", video).removeprefix("v_")


def without_ending(video: str) -> str:
    """Returns an id as `match_id`, less the ending of a media or feature file, if it has one."""
    return _ENDING.sub("", match_id(video))


def has_file_ending(text: str) -> bool:
    """Returns whether a text ends as the name of a recording's file, or of its features."""
    return bool(_ENDING.search(text))


def file_id(file: str) -> str:
    """Returns the id of the recording in a file: its name without folders and known ending.

    Args:
        file: a path of any system or an address, as annotation tools name their media.
    """
    address, _, local = file.strip().partition("?d=")  # Label Studio's local files
    path = local or address
    path = unquote(path) if "://" in file or local else path
    name = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return _ENDING.sub("", name) or name


def is_bad_id(video: str) -> bool:
    """Returns whether no file can have the name of the video, or it cannot be shown as it is."""
    return (
        match_id(video).strip() in ("", ".", "..")
        or len(video.encode(errors="replace")) > _MAX_BYTES
        or any(pattern.search(video) for pattern in (_BREAK, _INVISIBLE, _SURROGATE))
        or not {"/", "\\"}.isdisjoint(video)
    )


def clean_label(label: str) -> str:
    """Returns the name in Unicode form NFC, line breaks and the like as blanks, on one line.

    It is empty if nothing of the name is left, or if it is no text (a lone surrogate).
    """
    visible = _INVISIBLE.sub("", _BREAK.sub(" ", label)).strip()
    return "" if _SURROGATE.search(label) else unicodedata.normalize("NFC", visible)


def piece_id(video: str, start: float, end: float) -> str:
    """Returns the id of a part of a video, in seconds, as W3C's Media Fragments write it."""
    return f"{video}#t={start:.10g},{end:.10g}"


def whole_id(video: str) -> tuple[str, float]:
    """Reverses `piece_id`: returns the id of the video and where in it the part starts."""
    found = _PIECE.fullmatch(video)
    return (found[1], float(found[2])) if found else (video, 0.0)


def look_alikes(labels: Iterable[str]) -> list[list[str]]:
    """Returns the groups of names that differ in case, blanks or invisible characters alone."""
    groups = defaultdict(list)
    for label in sorted(set(labels)):
        folded = unicodedata.normalize("NFKC", label).casefold()
        groups["".join(c for c in folded if c.isprintable() and not c.isspace())].append(label)
    return [group for group in groups.values() if len(group) > 1]


def matching(wanted: Iterable[str], there: Collection[str]) -> dict[str, str]:
    """Returns {id: the one there}, for those that match.

    Both are of `match_id`. What does not match as it is may match without the ending of a media or
    feature file (`clip.wav`), if that leaves no choice.
    """
    wanted = list(wanted)
    exact = {key: key for key in wanted if key in there}
    short: dict[str, list[str]] = defaultdict(list)
    for key in there:
        if key not in exact:
            short[_ENDING.sub("", key)].append(key)
    rest = {key: _ENDING.sub("", key) for key in wanted if key not in exact}
    times = Counter(rest.values())
    return exact | {
        key: short[name][0]
        for key, name in rest.items()
        if times[name] == 1 and len(short.get(name, [])) == 1
    }


def ending_note(matched: dict[str, str], what: str) -> list[str]:
    """Returns a line that names the ids which `matching` found without their ending, if any."""
    cut = [f"{key!r} as {other!r}" for key, other in matched.items() if key != other]
    more = f" and {len(cut) - 3} more" if len(cut) > 3 else ""
    return [f"{what} matched without the ending of a file: {', '.join(cut[:3])}{more}"] * bool(cut)


def read_ids(path: str | PathLike[str]) -> list[str]:
    """Reads a list of video ids: a json list, or one id a line.

    Raises:
        InputError: the file cannot be read or is json of another kind.
    """
    text = read_text(path)
    if not text.lstrip().startswith(("[", "{")):
        return [line.strip() for line in text.split("\n") if line.strip()]
    ids = load_json(path)
    if not (isinstance(ids, list) and all(isinstance(video, str) for video in ids)):
        raise InputError(f"{path}: must be a json list of video ids, or one id a line")
    return ids
