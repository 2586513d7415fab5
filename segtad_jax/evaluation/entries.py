"""Annotations of single videos as files have them, and how their values are read."""

import dataclasses
import datetime as dt
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segtad_jax.evaluation.ids import clean_label, file_id
from segtad_jax.evaluation.json_files import InputError

# kind, video, value, where. Of a NOTE, which is no defect but worth saying, the value is a line,
# and `where` the name of what is said once a file, or empty.
ReportDefect = Callable[[str, str, object, str], None]

NOTE = "note"
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}  # how many are a second
_CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,6}):([0-5]?\d)([.,]\d*)?")
_DAY = 86400
_EARLY = 60  # seconds before a recording, of annotations in whole minutes; earlier is a day later


@dataclasses.dataclass(frozen=True)
class Reading:
    """Settings that decide where a file leaves open how it is meant."""

    rate: float | None = None  # Hz, of files with a class a frame
    unit: str | None = None  # of starts and ends, of UNITS or frames; None: s, or the form's own
    label_fps: float | None = None  # frames a second that the annotators saw
    # {video, start, end, label, subset, duration or origin: its column in a table}
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clock: bool = False  # times as hh:mm:ss are times of day
    # When a recording began, of its id; None: unknown. A table's column `origin` comes before it.
    origins: Callable[[str], dt.datetime | None] = dataclasses.field(default=lambda _: None)
    tier: str | None = None  # names of tiers with commas, or all
    moments: bool = False  # events without a length are read, too

    def frames(self, path: object, what: str) -> float:
        """Returns the frames a second of a form that counts in frames.

        Raises:
            InputError: they are not given.
        """
        if self.label_fps is None:
            raise InputError(
                f"{path}: {what}: say how many of them are a second of the annotated video, as "
                "--label_fps=25"
            )
        return self.label_fps


SECONDS = Reading()


@dataclasses.dataclass(frozen=True)
class Action:
    """One annotated action; times in seconds, not yet checked against each other."""

    start: float
    end: float
    label: str
    where: str  # file and place


@dataclasses.dataclass
class Entry:
    """Annotations of one video: of one entry or line of a file, or of several joined."""

    video: str
    where: str
    # {the word in the file, for THUMOS14's csv that in the id: the first place that has it}
    words: dict[str, str] = dataclasses.field(default_factory=dict)
    durations: dict[float, str] = dataclasses.field(default_factory=dict)  # {seconds: place}
    covered: float | None = None  # seconds that BMN's features cover; they end before the video
    actions: list[Action] = dataclasses.field(default_factory=list)
    subset: str | None = None  # training, validation, testing, or a word that is none of SUBSETS
    media: str | None = None  # the file of which the video has its id, as the annotations name it

    @classmethod
    def of_file(cls, media: str, where: str) -> "Entry":
        """Returns the entry of a recording that is named by its file or address."""
        return cls(file_id(media), where, media=media)

    @property
    def written_subset(self) -> str | None:
        """The subset as the file has it."""
        return next(iter(self.words), None)

    @property
    def duration(self) -> float | None:
        """Seconds; None if it is unknown."""
        return next(iter(self.durations), None)

    def join(self, other: "Entry") -> None:
        """Takes what another entry of the same video says."""
        for word, where in other.words.items():
            self.words.setdefault(word, where)
        for seconds, where in other.durations.items():
            self.durations.setdefault(seconds, where)
        self.covered = other.covered if self.covered is None else self.covered
        self.actions += other.actions

    def describe(self, subset: object, seconds: object, report: ReportDefect) -> None:
        """Sets what a file says of the whole video; both may be None."""
        self.words = {} if subset is None else {str(subset): self.where}
        duration = seconds_of_clock(seconds)
        duration = number(seconds) if duration is None else duration
        if duration is not None and duration > 0:
            self.durations = {duration: self.where}
        elif seconds is not None:
            report("bad_duration", self.video, seconds, self.where)


def shown(value: object) -> str:
    """Returns a value of a file as text that fits into a message."""
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= 200 else f"{text[:197]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def add_action(
    entry: Entry,
    segment: Sequence[Any],
    label: object,
    where: str,
    report: ReportDefect,
    reading: Reading = SECONDS,
    origin: object = None,
) -> None:
    """Adds an action, if its two times are such and its label is a name.

    Args:
        entry: takes it.
        segment: start and end: numbers in the unit of `reading`, also as text, or clock times.
        label: the class.
        where: file and place.
        report: called with what is wrong.
        reading: of the times; by default they are seconds.
        origin: when the recording began, where the file says it.

    Raises:
        InputError: a time is one of the day or a date, and nothing says when the recording began.
    """
    text = str(label).strip() if isinstance(label, str | int) else ""
    name = clean_label(text)
    start, end = (_seconds(time, entry, where, report, reading, origin) for time in segment)
    if not name or isinstance(label, bool):
        report("bad_action", entry.video, f"label {shown(label)}", where)
    elif start is None or end is None:
        report("bad_time", entry.video, f"[{', '.join(map(shown, segment))}] {name}", where)
    else:
        if name != unicodedata.normalize("NFC", text):
            report("label_changed", entry.video, f"{text!a} is {name!r}", where)
        elif name != text:
            report(NOTE, "", f"label {text!a} is read in Unicode form NFC: {name!r}", "")
        entry.actions.append(Action(start, end, name, where))


def add_interval(
    entry: Entry,
    start: object,
    end: object,
    label: object,
    where: str,
    report: ReportDefect,
    reading: Reading,
) -> None:
    """Adds what an annotation tool calls an event, in seconds; a moment has no other end.

    Moments are left out, and reported, unless `reading` wants them.
    """
    if end is not None and (start != end or number(start) is None):
        add_action(entry, [start, end], label, where, report)
    elif reading.moments:
        add_action(entry, [start, start], label, where, report)
    else:
        report("moment", entry.video, f"{shown(label)} at {shown(start)}", where)


def _seconds(
    value: object,
    entry: Entry,
    where: str,
    report: ReportDefect,
    reading: Reading,
    origin: object,
) -> float | None:
    if (plain := number(value)) is not None:
        if reading.unit == "frames":
            return plain / reading.frames(where, "--unit=frames")
        return plain / UNITS[reading.unit or "s"]
    date = _date(value)
    clock = seconds_of_clock(value, of_the_day=reading.clock)
    if date is None and (clock is None or not reading.clock):
        if clock is not None:
            text = f"times such as {shown(value)} ({where}) are hours, minutes and seconds since "
            text += "the start of the recording; --clock takes them for the time of day"
            report(NOTE, "", text, "clock")
        return clock
    began = reading.origins(entry.video) if origin is None else origin
    start = began if isinstance(began, dt.datetime) else _date(began)
    if date is not None and start is not None:
        zones = (date.tzinfo is None) + (start.tzinfo is None)
        return (date - start).total_seconds() if zones != 1 else None
    clock = _of_the_day(date) if clock is None else clock
    first = seconds_of_clock(began, of_the_day=True) if start is None else _of_the_day(start)
    if first is None or clock is None:
        raise InputError(
            f"{where}: {shown(value)} is no time since the start of the recording, and "
            f"{'nothing says' if began is None else f'{shown(began)} does not say'} when "
            f"{shown(entry.video)} began: name the column that does, as --columns=origin=COLUMN "
            "(prepare also takes dates in --features), or write times since the start"
        )
    return (clock - first + _EARLY) % _DAY - _EARLY  # past midnight, where it is earlier


def _date(value: object) -> dt.datetime | None:
    """Returns the date and time of ISO 8601, or None."""
    try:
        return dt.datetime.fromisoformat(str(value).strip()) if "-" in str(value) else None
    except ValueError:
        return None


def _of_the_day(date: dt.datetime | None) -> float | None:
    midnight = date and date.replace(hour=0, minute=0, second=0, microsecond=0)
    return (date - midnight).total_seconds() if date and midnight else None


def seconds_of_clock(value: object, *, of_the_day: bool = False) -> float | None:
    """Returns the seconds of HH:MM:SS[.xxx] or MM:SS[.xxx], of the day HH:MM; None of others."""
    clock = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if clock is None:
        return None
    hours, minutes, seconds, part = clock.groups(default="")
    if of_the_day and not hours and not part:
        hours, minutes, seconds = minutes, seconds, "0"
    if hours and int(minutes) > 59:
        return None
    whole = 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds)
    return float(f"{whole}{(part or '.').replace(',', '.')}")


def number(value: object) -> float | None:
    """Returns a finite number, which some data sets write as text, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or "_" in str(value):
        return None
    try:
        finite = float(value)
    except (ValueError, OverflowError):
        return None
    return finite if math.isfinite(finite) else None
