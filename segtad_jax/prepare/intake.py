"""Annotations and feature files -> records, one video at a time; what is wrong is named."""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from segtad_jax.data.defects import Defect
from segtad_jax.data.features import (
    LAYOUT_SAMPLE,
    FeatureError,
    Source,
    as_frames,
    cast,
    infer_layout,
)
from segtad_jax.data.preparation import Preparation
from segtad_jax.data.records import Record
from segtad_jax.evaluation.annotations import match_id
from segtad_jax.prepare.annotations import Annotations, Video, checked_actions

SPLITS = ("training", "validation", "testing")
LENGTH_TOLERANCE = 0.1  # of the duration


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one video."""

    video: Video
    record: Record | None  # None: left out
    shape: tuple[int, ...]  # of the first source's array, () where it could not be read
    defects: tuple[Defect, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Intake:
    """Which videos there are, and how to read them."""

    annotations: Annotations
    sources: tuple[Source, ...]
    layouts: tuple[str, ...]  # of each source
    durations: Mapping[str, float]  # seconds by `match_id`, besides the annotations'
    keys: tuple[str, ...]  # `match_id`s of the videos to read, by subset and id
    defects: tuple[Defect, ...]  # of videos that are not to be read

    def arrays(self, key: str) -> list[Float[np.ndarray, "_ _"]]:
        """Of every source, frames first, float32.

        Raises:
          FeatureError: one that cannot be used.
        """
        return [
            as_frames(source.read(key), layout, str(source.places[key][0]))
            for source, layout in zip(self.sources, self.layouts, strict=True)
        ]

    def outcome(self, key: str, preparation: Preparation) -> Outcome:
        """Reads one video."""
        video = self.annotations.videos[key]
        where = str(self.sources[0].places[key][0])
        rate = preparation.frame_rate
        notes: list[Defect] = []
        shape: tuple[int, ...] = ()

        def left_out(kind: str, message: str) -> Outcome:
            notes.append(Defect(kind, video.video, message, where))
            return Outcome(video, None, shape, tuple(notes))

        try:
            arrays = self.arrays(key)
            shape = arrays[0].shape
            features = preparation.features(arrays)
            duration, covered = self._seconds(video, preparation, arrays, len(features))
            stored = cast(preparation.resized(features), np.dtype(preparation.dtype), where)
        except FeatureError as error:
            return left_out(error.kind, str(error))
        if rate and abs(covered - duration) > LENGTH_TOLERANCE * duration:
            text = f"{len(features)} frames / {rate:g} Hz = {covered:.2f} s, duration {duration:g}"
            notes.append(Defect("length_differs", video.video, text, where))
        if len(features) > 1 and (features == features[0]).all():
            text = f"all {len(features)} frames are the same"
            notes.append(Defect("constant", video.video, text, where))
        actions, defects = checked_actions(video, duration)
        if not video.actions and video.subset != "testing":
            notes.append(Defect("no_annotations", video.video, video.subset, where))
        record = Record(
            video=video.video,
            features=stored,
            rate=rate if rate and preparation.num_frames is None else len(stored) / covered,
            duration=duration,
            segments=np.array([(a.start, a.end) for a in actions], np.float64).reshape(-1, 2),
            labels=tuple(action.label for action in actions),
        )
        return Outcome(video, record, shape, (*notes, *defects))

    def _seconds(
        self, video: Video, preparation: Preparation, arrays: Sequence[np.ndarray], num_frames: int
    ) -> tuple[float, float]:
        """Seconds of the video, and those that its features cover."""
        said = self.durations.get(match_id(video.video), video.duration)
        if preparation.rate is None or preparation.frame_rate is None:
            if said is None:
                raise FeatureError("no_length", "neither a rate nor a duration is known")
            return said, video.covered or said
        read = max(map(len, arrays)) / preparation.rate
        return (read if said is None else said), num_frames / preparation.frame_rate


def open_intake(
    annotations: Annotations,
    sources: Sequence[Source],
    *,
    layout: str,
    durations: Mapping[str, float],
    blocked: Collection[str] = (),
) -> Intake:
    """Finds the features of every annotated video.

    Args:
      annotations: of all videos.
      sources: whose channels are put side by side.
      layout: 'tc', 'ct' or 'auto'.
      durations: seconds by `match_id`.
      blocked: ids to leave out.

    Raises:
      FeatureError: no annotated video has features, or the layout cannot be told.
    """
    defects = [*annotations.defects, *(d for source in sources for d in source.defects)]
    taken_out = {match_id(video) for video in blocked}
    keys = []
    for key, video in annotations.videos.items():
        without = [source for source in sources if key not in source.places]
        if key in taken_out:
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
        raise FeatureError("missing", _nothing_matches(annotations, sources))
    keys.sort(key=lambda key: (SPLITS.index(annotations.videos[key].subset), key))
    layouts = tuple(infer_layout(_sample(source, keys), layout) for source in sources)
    return Intake(annotations, tuple(sources), layouts, durations, tuple(keys), tuple(defects))


def usual_widths(intake: Intake) -> tuple[int, ...]:
    """The number of channels that most videos of each source have."""
    widths = []
    for source, layout in zip(intake.sources, intake.layouts, strict=True):
        axis = -1 if layout == "tc" else -2
        shapes = [
            tuple(n for n in s if n != 1 or len(s) == 2) for s in _sample(source, intake.keys)
        ]
        counts = collections.Counter(shape[axis] for shape in shapes if len(shape) == 2)
        if not counts:
            raise FeatureError(
                "unreadable",
                f"{source.path}: no video has features of frames by channels that can be read",
            )
        widths.append(counts.most_common(1)[0][0])
    return tuple(widths)


def _sample(source: Source, keys: Sequence[str]) -> list[tuple[int, ...]]:
    """Shapes of the first few arrays that can be read."""

    def shapes() -> Iterator[tuple[int, ...]]:
        for key in keys:
            with contextlib.suppress(FeatureError):  # named when the video's turn comes
                yield source.read(key).shape

    return list(itertools.islice(shapes(), LAYOUT_SAMPLE))


def _nothing_matches(annotations: Annotations, sources: Sequence[Source]) -> str:
    wanted = ", ".join(repr(video.video) for video in list(annotations.videos.values())[:3])
    there = ", ".join(repr(name) for name in list(sources[0].names.values())[:3])
    return (
        f"no annotated video has features in {', '.join(str(s.path) for s in sources)}: the "
        f"annotations name {wanted}, the features {there}"
    )


def training_arrays(
    intake: Intake, widths: Sequence[int]
) -> Iterator[list[Float[np.ndarray, "_ _"]]]:
    """Arrays of the training videos, to normalise by; without those that will be left out."""
    for key in intake.keys:
        if intake.annotations.videos[key].subset == "training":
            with contextlib.suppress(FeatureError):  # named when the video's turn comes
                arrays = intake.arrays(key)
                if tuple(array.shape[1] for array in arrays) == tuple(widths):
                    yield arrays
