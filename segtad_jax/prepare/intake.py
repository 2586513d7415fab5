"""Reads annotated videos one at a time and makes their records; what is wrong is named."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from segtad_jax.data.clocks import Clock
from segtad_jax.data.defects import Defect
from segtad_jax.data.features import (
    FeatureError,
    Form,
    Recorded,
    Source,
    cast,
    read_recording,
)
from segtad_jax.data.preparation import LENGTH_TOLERANCE, Preparation
from segtad_jax.data.records import Record
from segtad_jax.data.resizing import corner_shift
from segtad_jax.data.timeline import Piece, usual_rate
from segtad_jax.data.value_range import ValueRange
from segtad_jax.evaluation.entries import Action
from segtad_jax.evaluation.ids import ending_note, match_id, matching, piece_id
from segtad_jax.prepare.annotations import Annotations, Video, checked_actions
from segtad_jax.prepare.split import cut_pieces

SPLITS = ("training", "validation", "testing")


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """One video after it was read."""

    video: Video
    records: tuple[Record, ...]  # several if it was split at gaps, none if it was left out
    defects: tuple[Defect, ...]
    rate: float = 0.0  # frames per second of the longest source
    range: ValueRange | None = None  # of the sources' values; None: left out
    times: Mapping[str, Any] | None = None  # `Timeline.to_json`; None: it has none


@dataclasses.dataclass(frozen=True, eq=False)
class Intake:
    """The videos to read, and how."""

    annotations: Annotations
    sources: tuple[Source, ...]
    forms: tuple[Form, ...]  # of each source
    durations: Mapping[str, float]  # seconds by `match_id`, besides the annotations'
    keys: tuple[str, ...]  # `match_id`s of the videos to read, by subset and id
    defects: tuple[Defect, ...]  # of videos that are not to be read
    rate: float | None  # of the features in Hz: --rate, or chosen by their times
    needs_times: bool  # whether it was chosen
    fill: bool  # whether gaps are filled
    widen: float = 0.0  # seconds of the actions that moments become; 0: they stay moments
    time: float | None = None  # the share of a recording that trains; the rest validates

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels that most videos of each source have."""
        return tuple(form.width for form in self.forms)

    def recorded(self, key: str) -> Recorded:
        """Returns the arrays of every source, frames first, float32, and what is to be told.

        Raises:
            FeatureError: one cannot be used.
        """
        recorded = read_recording(self.sources, self.forms, key, self.rate, fill=self.fill)
        if self.needs_times and recorded.timeline is None:
            where = self.sources[0].places[key][0]
            raise FeatureError("no_length", f"{where}: has no times as others have: give --rate")
        return recorded

    def training_arrays(self) -> Iterator[list[Float[np.ndarray, "_ _"]]]:
        """Yields the arrays of the training videos, less those that will be left out.

        Raises:
            FeatureError: that is all of them; says why the first is.
        """
        first: FeatureError | None = None
        there = False
        for key in self.keys:
            if self.annotations.videos[key].subset == "training":
                try:
                    recorded, end = self._divided(key)
                except FeatureError as error:  # named again when the video's turn comes
                    first = first or error
                    continue
                for start, arrays in recorded.pieces:
                    if end is not None and start >= end:
                        break
                    if tuple(array.shape[1] for array in arrays) == self.widths:
                        there = True
                        yield arrays
        if first and not there:
            raise FeatureError(first.kind, f"no training recording can be used; the first: {first}")

    def _divided(self, key: str) -> tuple[Recorded, float | None]:
        """Reads a video, and cuts it where its end is to validate: the second to be returned.

        None: it is not to be cut, or has not a whole action on either side.
        """
        recorded, video = self.recorded(key), self.annotations.videos[key]
        seconds = video.covered or self.durations.get(key, video.duration)
        if self.time is None or video.subset != "training" or not (self.rate or seconds):
            return recorded, None
        samples = max(map(len, recorded.pieces[-1].arrays))
        rate = self.rate or samples / (seconds or 1.0)
        end = recorded.pieces[-1].start + samples / rate
        before, after = cut_pieces(recorded.pieces, self.time * end, rate)
        at = after[0].start if after else end
        sides = {a.end <= at for a in video.actions if a.end <= at or a.start >= at}
        if not before or not after or len(sides) < 2:
            return recorded, None
        return recorded._replace(pieces=[*before, *after]), at

    def outcomes(self, key: str, preparation: Preparation) -> tuple[Outcome, ...]:
        """Reads one video, of which a second outcome is the end that validates, if it was cut."""
        video = self.annotations.videos[key]
        where = str(self.sources[0].places[key][0])
        try:
            recorded, end = self._divided(key)
        except FeatureError as error:
            return (Outcome(video, (), (Defect(error.kind, video.video, str(error), where),)),)
        whole, parts = self._outcome(video, where, recorded, preparation)
        if end is not None:
            return _halves(whole, parts, round(end, 3))
        if self.time is not None and video.subset == "training" and parts:
            told = Defect("not_cut", video.video, f"{len(video.actions)} actions", where)
            whole = dataclasses.replace(whole, defects=(*whole.defects, told))
        return (whole,)

    def _outcome(
        self, video: Video, where: str, recorded: Recorded, preparation: Preparation
    ) -> tuple[Outcome, list["_Part"]]:
        """Returns a video's outcome, and the parts of its records."""
        rate = preparation.frame_rate
        defects: list[Defect] = []
        parts: list[_Part] = []
        times = recorded.timeline.to_json() if recorded.timeline else None

        def note(kind: str, text: str) -> None:
            defects.append(Defect(kind, video.video, text, where))

        for kind, text in recorded.notes:
            note(kind, text)
        try:
            if parts := _parts(recorded, preparation, where, note):
                duration, covered = self._seconds(video, recorded, preparation, parts[-1])
        except FeatureError as error:
            note(error.kind, str(error))
            parts = []
        if not parts:
            return Outcome(video, (), tuple(defects), times=times), []
        if rate and abs(covered - duration) > LENGTH_TOLERANCE * duration:
            seconds = f"{len(parts[0].features)} frames / {rate:g} Hz = {covered:.2f} s"
            seconds = f"the last piece ends at {covered:.2f} s" if len(parts) > 1 else seconds
            note("length_differs", f"{seconds}, duration {duration:g}")
        for part in parts:
            part.tell(preparation, note)
        if not video.actions and video.subset != "testing":
            note("no_annotations", video.subset)
        actions, wrong = checked_actions(video, duration, self.widen)
        defects.extend(wrong)
        if recorded.is_whole:
            records = [_record(video.video, parts[0], preparation, duration, covered, actions)]
        else:
            hertz = preparation.rate or sum(p.samples for p in parts) / (video.covered or duration)
            records, cut = _split(video.video, parts, preparation, hertz, actions)
            defects.extend(cut)
        outcome = Outcome(
            video,
            tuple(records),
            tuple(defects),
            rate=preparation.rate or parts[0].samples / (video.covered or duration),
            range=ValueRange.union([ValueRange.of(part.piece.arrays) for part in parts]),
            times=times,
        )
        return outcome, parts

    def _seconds(
        self, video: Video, recorded: Recorded, preparation: Preparation, last: "_Part"
    ) -> tuple[float, float]:
        """Returns the seconds of the video, and those until the end of its features."""
        stated = self.durations.get(match_id(video.video), video.duration) or recorded.duration
        if preparation.rate is None or preparation.frame_rate is None:
            if stated is None:
                raise FeatureError("no_length", "neither a rate nor a duration is known")
            return stated, video.covered or stated
        duration = last.start + last.samples / preparation.rate if stated is None else stated
        return duration, last.start + len(last.features) / preparation.frame_rate


class _Part(NamedTuple):
    """A piece of a recording, and what becomes of it."""

    piece: Piece
    features: Float[np.ndarray, "F C"]
    stored: np.ndarray  # as the record has them

    @classmethod
    def of(cls, piece: Piece, preparation: Preparation, where: str) -> "_Part":
        """Makes the features of a piece; raises FeatureError."""
        features = preparation.features(piece.arrays)
        stored = cast(preparation.resized(features), np.dtype(preparation.dtype), where)
        return cls(piece, features, stored)

    @property
    def start(self) -> float:
        """Seconds since the recording's start, to a millisecond."""
        return round(self.piece.start, 3)

    @property
    def samples(self) -> int:
        """Those of the longest source."""
        return max(map(len, self.piece.arrays))

    def tell(self, preparation: Preparation, note: Callable[[str, str], None]) -> None:
        """Notes what is odd about the features: kind and text."""
        frames = len(self.features)
        if preparation.resize == "linear" and preparation.num_frames:
            shift = corner_shift(frames, preparation.num_frames)
            if shift > 1:
                resized = f"{frames} frames resized to {preparation.num_frames}"
                note("corners", f"{resized}: up to {shift:.1f} of these off")
        if frames > 1 and (self.features == self.features[0]).all():
            note("constant", f"all {frames} frames are the same")


def _parts(
    recorded: Recorded, preparation: Preparation, where: str, note: Callable[[str, str], None]
) -> list[_Part]:
    """Makes the features of all pieces; notes the kind and text of what cannot be used."""
    parts = []
    for piece in recorded.pieces:
        try:
            parts.append(_Part.of(piece, preparation, where))
        except FeatureError as error:
            place = f", from {piece.start:.4g} s on" if len(recorded.pieces) > 1 else ""
            note(error.kind, f"{error}{place}")
    return parts


def _halves(whole: Outcome, parts: Sequence[_Part], at: float) -> tuple[Outcome, Outcome]:
    """Returns what trains of a recording, with all that is to be told, and what validates."""

    def half(subset: str, after: bool) -> Outcome:
        pairs = zip(parts, whole.records, strict=True)
        inside = [(part, record) for part, record in pairs if (part.start >= at) == after]
        ranges = [ValueRange.of(part.piece.arrays) for part, _ in inside]
        return dataclasses.replace(
            whole,
            video=dataclasses.replace(whole.video, subset=subset),
            records=tuple(record for _, record in inside),
            range=ValueRange.union(ranges) if ranges else None,
        )

    ends = [p.start + r.duration for p, r in zip(parts, whole.records, strict=True) if p.start < at]
    across = [
        Defect(
            "cut_in_two",
            whole.video.video,
            f"[{a.start:.10g}, {a.end:.10g}] {a.label}, cut at {at:.10g} s",
            a.where,
        )
        for a in whole.video.actions
        if a.end > at and ends and a.start < ends[-1]  # between them may be a gap
    ]
    training = dataclasses.replace(half("training", False), defects=(*whole.defects, *across))
    return training, dataclasses.replace(half("validation", True), defects=(), times=None)


def _split(
    video: str,
    parts: Sequence[_Part],
    preparation: Preparation,
    rate: float,
    actions: Sequence[Action],
) -> tuple[list[Record], list[Defect]]:
    """Returns a record of each piece, and what is wrong with the actions at the gaps."""
    spans = [(part.start, part.start + part.samples / rate) for part in parts]
    cut, defects = cut_at_gaps(video, actions, spans, 1 / rate)
    records = []
    for part, (start, end), inside in zip(parts, spans, cut, strict=True):
        ident = piece_id(video, start, round(end, 3))
        covered = len(part.features) / (preparation.frame_rate or rate)
        records.append(_record(ident, part, preparation, end - start, covered, inside))
    return records, defects


def _record(
    video: str,
    part: _Part,
    preparation: Preparation,
    duration: float,
    covered: float,
    actions: Sequence[Action],
) -> Record:
    """Returns the record of a piece; seconds count from its start."""
    fixed = preparation.frame_rate if preparation.num_frames is None else None
    return Record(
        video=video,
        features=part.stored,
        rate=fixed or len(part.stored) / covered,
        duration=duration,
        segments=np.array([(a.start, a.end) for a in actions], np.float64).reshape(-1, 2),
        labels=tuple(action.label for action in actions),
    )


def open_intake(
    annotations: Annotations,
    sources: Sequence[Source],
    *,
    layout: str,
    durations: Mapping[str, float],
    blocked: Collection[str] = (),
    widen: float = 0.0,
    rate: float | None = None,
    clock: Clock | None = None,
    fill: bool = False,
    channels: Sequence[str] = (),
    time: float | None = None,
) -> Intake:
    """Looks up the features of every annotated video.

    Args:
        annotations: all videos.
        sources: their features, whose channels are put side by side.
        layout: 'tc', 'ct' or 'auto'.
        durations: seconds by `match_id`.
        blocked: ids to leave out.
        widen: seconds of the actions that moments become; 0: they stay moments.
        rate: of the features in Hz; None: their times say it, or each video's duration.
        clock: how times are read; None: they are not used.
        fill: whether gaps in the times are filled; otherwise recordings are split there.
        channels: columns of tables that are the features, if they were chosen.
        time: the share of each training video that trains; the rest of it validates.

    Raises:
        FeatureError: no annotated video has features that can be read, nothing says which axis of
            them is time, or no file has the clock's column.
    """
    defects = [*annotations.defects, *(d for source in sources for d in source.defects)]
    notes = list(annotations.notes)
    sources = [_renamed(source, annotations.videos, notes) for source in sources]
    found = matching(annotations.videos, durations)
    durations = {key: durations[other] for key, other in found.items()}
    found = matching(map(match_id, blocked), annotations.videos)
    left_out = set(found.values())
    if absent := [repr(video) for video in blocked if match_id(video) not in found]:
        more = ", ..." if len(absent) > 5 else ""
        notes.append(f"blocked ids that no annotation names: {', '.join(absent[:5])}{more}")
    keys = []
    for key, video in annotations.videos.items():
        without = [source for source in sources if key not in source.places]
        if key in left_out:
            defects.append(Defect("blocked", video.video, video.subset, ""))
        elif without:
            defects.append(Defect("missing", video.video, video.subset, str(without[0].path)))
        else:
            keys.append(key)
    for source in sources:
        for key in sorted(set(source.places) - set(annotations.videos)):
            place = str(source.places[key][0])
            defects.append(Defect("unused", source.names[key], source.names[key], place))
    if not keys:
        wanted = ", ".join(repr(video.video) for video in list(annotations.videos.values())[:3])
        there = ", ".join(repr(name) for name in list(sources[0].names.values())[:3])
        raise FeatureError(
            "missing",
            f"no annotated video has features in {', '.join(str(s.path) for s in sources)}: the "
            f"annotations name {wanted}, the features {there}",
        )
    keys.sort(key=lambda key: (SPLITS.index(annotations.videos[key].subset), key))
    forms, hertz = _forms(sources, keys, layout, rate, clock, channels, notes)
    for source, form in zip(sources, forms, strict=True):
        for name, values in form.times.items():
            defects.append(Defect("time_column", name, f"{name!r}: {values}", str(source.path)))
    annotations = dataclasses.replace(annotations, notes=tuple(notes))
    return Intake(
        annotations=annotations,
        sources=tuple(sources),
        forms=tuple(forms),
        durations=durations,
        keys=tuple(keys),
        defects=tuple(defects),
        rate=hertz,
        needs_times=rate is None and hertz is not None,
        fill=fill,
        widen=widen,
        time=time,
    )


def _forms(
    sources: Sequence[Source],
    keys: Sequence[str],
    layout: str,
    rate: float | None,
    clock: Clock | None,
    channels: Sequence[str],
    notes: list[str],
) -> tuple[list[Form], float | None]:
    """Returns the sources' forms and the rate of the features, for `open_intake`."""
    forms = [
        source.form(keys, layout, columns=channels, chosen=bool(channels), clock=clock, rate=rate)
        for source in sources
    ]
    if clock and clock.column and not any(clock.column in form.times for form in forms):
        raise FeatureError(
            "bad_times",
            f"--time={clock.column}: no file of {', '.join(str(s.path) for s in sources)} has such "
            "a column of numbers or of ISO 8601",
        )
    measured = [hertz for form in forms for hertz in form.rates]
    if rate is None and measured and None not in measured:
        rate, others = usual_rate(list(filter(None, measured)))
        notes.append(
            f"without --rate all is brought to {rate:g} Hz, the own rate of most files by their "
            f"times{others}; --rate=HZ says otherwise"
        )
    elif rate is None:
        forms = [dataclasses.replace(form, clock=None) for form in forms]
        if any(measured):
            notes.append("some files have no times: without --rate those of others are not used")
    return forms, rate


def cut_at_gaps(
    video: str, actions: Sequence[Action], spans: Sequence[tuple[float, float]], least: float
) -> tuple[list[list[Action]], list[Defect]]:
    """Returns the actions of each piece of a recording, in its own seconds, and the defects.

    Args:
        video: id of the recording.
        actions: in its seconds.
        spans: of the pieces, in seconds.
        least: seconds; shorter remainders of an action at a gap are none.
    """
    cut: list[list[Action]] = [[] for _ in spans]
    defects = []
    for action in actions:
        length, within = action.end - action.start, 0.0
        hit = False
        for inside, (start, end) in zip(cut, spans, strict=True):
            a, b = max(action.start, start), min(action.end, end)
            if b - a >= min(least, length):
                inside.append(dataclasses.replace(action, start=a - start, end=b - start))
                within, hit = within + b - a, True
        if not hit or length - within > least:
            value = f"[{action.start:.10g}, {action.end:.10g}] {action.label}"
            value += f": {within:.10g} s of it are recorded" if hit else ""
            defects.append(Defect("cut_at_gap" if hit else "in_gap", video, value, action.where))
    return cut, defects


def _renamed(source: Source, wanted: Collection[str], notes: list[str]) -> Source:
    """Returns the source with the annotations' ids, where only a file's ending differs."""
    found = matching(wanted, source.places)
    if not (note := ending_note(found, "annotated ids")):
        return source
    notes += note
    keys = {other: key for key, other in found.items()}
    places = {keys.get(key, key): place for key, place in source.places.items()}
    names = {keys.get(key, key): name for key, name in source.names.items()}
    return dataclasses.replace(source, places=places, names=names)
