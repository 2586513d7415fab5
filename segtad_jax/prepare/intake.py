"""Reads annotated videos one at a time and makes their records; what is wrong is named."""

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
    """One video after it was read."""

    video: Video
    record: Record | None  # None: left out
    channels: int  # of the first source's array, 0 where it could not be read
    defects: tuple[Defect, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Intake:
    """The videos to read, and how."""

    annotations: Annotations
    sources: tuple[Source, ...]
    layouts: tuple[str, ...]  # of each source
    widths: tuple[int, ...]  # channels that most videos of each source have
    durations: Mapping[str, float]  # seconds by `match_id`, besides the annotations'
    keys: tuple[str, ...]  # `match_id`s of the videos to read, by subset and id
    defects: tuple[Defect, ...]  # of videos that are not to be read

    def arrays(self, key: str) -> list[Float[np.ndarray, "_ _"]]:
        """Returns the array of every source, frames first, float32.

        Raises:
            FeatureError: one cannot be used.
        """
        return [
            as_frames(source.read(key), layout, str(source.places[key][0]))
            for source, layout in zip(self.sources, self.layouts, strict=True)
        ]

    def training_arrays(self) -> Iterator[list[Float[np.ndarray, "_ _"]]]:
        """Yields the arrays of the training videos, less those that will be left out."""
        for key in self.keys:
            if self.annotations.videos[key].subset == "training":
                with contextlib.suppress(FeatureError):  # named when the video's turn comes
                    arrays = self.arrays(key)
                    if tuple(array.shape[1] for array in arrays) == self.widths:
                        yield arrays

    def outcome(self, key: str, preparation: Preparation) -> Outcome:
        """Reads one video."""
        video = self.annotations.videos[key]
        where = str(self.sources[0].places[key][0])
        rate = preparation.frame_rate
        defects: list[Defect] = []
        channels = 0

        def note(kind: str, text: str) -> None:
            defects.append(Defect(kind, video.video, text, where))

        try:
            arrays = self.arrays(key)
            channels = arrays[0].shape[1]
            features = preparation.features(arrays)
            duration, covered = self._seconds(video, preparation, arrays, len(features))
            stored = cast(preparation.resized(features), np.dtype(preparation.dtype), where)
        except FeatureError as error:
            note(error.kind, str(error))
            return Outcome(video, None, channels, tuple(defects))
        if rate and abs(covered - duration) > LENGTH_TOLERANCE * duration:
            seconds = f"{len(features)} frames / {rate:g} Hz = {covered:.2f} s"
            note("length_differs", f"{seconds}, duration {duration:g}")
        if len(features) > 1 and (features == features[0]).all():
            note("constant", f"all {len(features)} frames are the same")
        if not video.actions and video.subset != "testing":
            note("no_annotations", video.subset)
        actions, wrong = checked_actions(video, duration)
        record = Record(
            video=video.video,
            features=stored,
            rate=rate if rate and preparation.num_frames is None else len(stored) / covered,
            duration=duration,
            segments=np.array([(a.start, a.end) for a in actions], np.float64).reshape(-1, 2),
            labels=tuple(action.label for action in actions),
        )
        return Outcome(video, record, channels, (*defects, *wrong))

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
) -> Intake:
    """Looks up the features of every annotated video.

    Args:
        annotations: all videos.
        sources: their features, whose channels are put side by side.
        layout: 'tc', 'ct' or 'auto'.
        durations: seconds by `match_id`.
        blocked: ids to leave out.

    Raises:
        FeatureError: no annotated video has features that can be read, or nothing says which axis
            of them is time.
    """
    defects = [*annotations.defects, *(d for source in sources for d in source.defects)]
    left_out = {match_id(video) for video in blocked}
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
    samples = [_sample(source, keys) for source in sources]
    layouts = tuple(infer_layout(shapes, layout) for shapes in samples)
    widths = tuple(map(_usual_width, sources, samples, layouts))
    return Intake(
        annotations, tuple(sources), layouts, widths, durations, tuple(keys), tuple(defects)
    )


def _sample(source: Source, keys: Sequence[str]) -> list[tuple[int, ...]]:
    """Returns the shapes of the first few arrays that can be read."""

    def shapes() -> Iterator[tuple[int, ...]]:
        for key in keys:
            with contextlib.suppress(FeatureError):  # named when the video's turn comes
                yield source.read(key).shape

    return list(itertools.islice(shapes(), LAYOUT_SAMPLE))


def _usual_width(source: Source, shapes: Sequence[tuple[int, ...]], layout: str) -> int:
    flat = [tuple(n for n in shape if n != 1 or len(shape) == 2) for shape in shapes]
    axis = -1 if layout == "tc" else -2
    counts = collections.Counter(shape[axis] for shape in flat if len(shape) == 2)
    if not counts:
        raise FeatureError(
            "unreadable",
            f"{source.path}: no video has features of frames by channels that can be read",
        )
    return counts.most_common(1)[0][0]
