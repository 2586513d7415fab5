"""Reads annotated videos one at a time and makes their records; what is wrong is named."""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from segtad_jax.data.defects import Defect
from segtad_jax.data.features import FeatureError, Form, Source, cast, corner_shift
from segtad_jax.data.preparation import LENGTH_TOLERANCE, Preparation
from segtad_jax.data.records import Record
from segtad_jax.data.value_range import ValueRange
from segtad_jax.evaluation.ids import ending_note, match_id, matching
from segtad_jax.prepare.annotations import Annotations, Video, checked_actions

SPLITS = ("training", "validation", "testing")


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """One video after it was read."""

    video: Video
    record: Record | None  # None: left out
    defects: tuple[Defect, ...]
    rate: float = 0.0  # frames per second of the longest source
    range: ValueRange | None = None  # of the sources' values; None: left out


@dataclasses.dataclass(frozen=True, eq=False)
class Intake:
    """The videos to read, and how."""

    annotations: Annotations
    sources: tuple[Source, ...]
    forms: tuple[Form, ...]  # of each source
    durations: Mapping[str, float]  # seconds by `match_id`, besides the annotations'
    keys: tuple[str, ...]  # `match_id`s of the videos to read, by subset and id
    defects: tuple[Defect, ...]  # of videos that are not to be read
    widen: float = 0.0  # seconds of the actions that moments become; 0: they stay moments

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels that most videos of each source have."""
        return tuple(form.width for form in self.forms)

    def arrays(self, key: str) -> tuple[list[Float[np.ndarray, "_ _"]], list[tuple[str, str]]]:
        """Returns the array of every source, frames first, float32, and what is to be told.

        Raises:
            FeatureError: one cannot be used.
        """
        pairs = [s.frames(key, form) for s, form in zip(self.sources, self.forms, strict=True)]
        return [frames for frames, _ in pairs], [note for _, notes in pairs for note in notes]

    def training_arrays(self) -> Iterator[list[Float[np.ndarray, "_ _"]]]:
        """Yields the arrays of the training videos, less those that will be left out."""
        for key in self.keys:
            if self.annotations.videos[key].subset == "training":
                with contextlib.suppress(FeatureError):  # named when the video's turn comes
                    arrays, _ = self.arrays(key)
                    if tuple(array.shape[1] for array in arrays) == self.widths:
                        yield arrays

    def outcome(self, key: str, preparation: Preparation) -> Outcome:
        """Reads one video."""
        video = self.annotations.videos[key]
        where = str(self.sources[0].places[key][0])
        rate = preparation.frame_rate
        defects: list[Defect] = []

        def note(kind: str, text: str) -> None:
            defects.append(Defect(kind, video.video, text, where))

        try:
            arrays, notes = self.arrays(key)
            for kind, text in notes:
                note(kind, text)
            features = preparation.features(arrays)
            duration, covered = self._seconds(video, preparation, arrays, len(features))
            stored = cast(preparation.resized(features), np.dtype(preparation.dtype), where)
        except FeatureError as error:
            note(error.kind, str(error))
            return Outcome(video, None, tuple(defects))
        if rate and abs(covered - duration) > LENGTH_TOLERANCE * duration:
            seconds = f"{len(features)} frames / {rate:g} Hz = {covered:.2f} s"
            note("length_differs", f"{seconds}, duration {duration:g}")
        if preparation.resize == "linear" and preparation.num_frames:
            shift = corner_shift(len(features), preparation.num_frames)
            if shift > 1:
                resized = f"{len(features)} frames resized to {preparation.num_frames}"
                note("corners", f"{resized}: up to {shift:.1f} of these off")
        if len(features) > 1 and (features == features[0]).all():
            note("constant", f"all {len(features)} frames are the same")
        if not video.actions and video.subset != "testing":
            note("no_annotations", video.subset)
        actions, wrong = checked_actions(video, duration, self.widen)
        record = Record(
            video=video.video,
            features=stored,
            rate=rate if rate and preparation.num_frames is None else len(stored) / covered,
            duration=duration,
            segments=np.array([(a.start, a.end) for a in actions], np.float64).reshape(-1, 2),
            labels=tuple(action.label for action in actions),
        )
        return Outcome(
            video,
            record,
            (*defects, *wrong),
            rate=preparation.rate or max(map(len, arrays)) / (video.covered or duration),
            range=ValueRange.of(arrays),
        )

    def _seconds(
        self, video: Video, preparation: Preparation, arrays: Sequence[np.ndarray], num_frames: int
    ) -> tuple[float, float]:
        """Returns the seconds of the video, and those that its features cover."""
        stated = self.durations.get(match_id(video.video), video.duration)
        if preparation.rate is None or preparation.frame_rate is None:
            if stated is None:
                raise FeatureError("no_length", "neither a rate nor a duration is known")
            return stated, video.covered or stated
        duration = max(map(len, arrays)) / preparation.rate if stated is None else stated
        return duration, num_frames / preparation.frame_rate


def open_intake(
    annotations: Annotations,
    sources: Sequence[Source],
    *,
    layout: str,
    durations: Mapping[str, float],
    blocked: Collection[str] = (),
    widen: float = 0.0,
) -> Intake:
    """Looks up the features of every annotated video.

    Args:
        annotations: all videos.
        sources: their features, whose channels are put side by side.
        layout: 'tc', 'ct' or 'auto'.
        durations: seconds by `match_id`.
        blocked: ids to leave out.
        widen: seconds of the actions that moments become; 0: they stay moments.

    Raises:
        FeatureError: no annotated video has features that can be read, or nothing says which axis
            of them is time.
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
    forms = tuple(source.form(keys, layout) for source in sources)
    for source, form in zip(sources, forms, strict=True):
        for name, values in form.times.items():
            defects.append(Defect("time_column", name, f"{name!r}: {values}", str(source.path)))
    annotations = dataclasses.replace(annotations, notes=tuple(notes))
    return Intake(annotations, tuple(sources), forms, durations, tuple(keys), tuple(defects), widen)


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
