"""Finds the features of videos and brings them into one form: float32, frames by channels.

A source is a folder with a file a video (.npy, .npz, .csv, .tsv, .parquet, .mat, .pt, .pth), named
by its id with or without `v_`, or one .h5, .hdf5 or .npz file with an array a video. Nothing is
ever unpickled.
"""

import collections
import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float

from segtad_jax.data.clocks import Clock, fit_clock, read_timeline
from segtad_jax.data.columns import in_order, is_called_times, named, time_columns, usual_columns
from segtad_jax.data.defects import Defect
from segtad_jax.data.feature_files import (
    CONTAINERS,
    KEY,
    READERS,
    FeatureError,
    Stored,
    is_table_of_annotations,
    list_arrays,
    place_name,
    read_array,
)
from segtad_jax.data.timeline import Piece, Timeline, even, pieces
from segtad_jax.data.value_range import FILLS, HALF_FILLS, outlier, require_no_fill
from segtad_jax.evaluation.ids import match_id

LAYOUTS = ("tc", "ct", "auto")
LAYOUT_SAMPLE = 20  # files that decide which axis is time
SAME_RATE = 1e-3  # of a rate, by which two clocks may differ untold
LATE = 1.0  # seconds; times that begin later are told


Place = tuple[epath.Path, str | None]  # file, name of the array in it


@dataclasses.dataclass(frozen=True)
class Form:
    """How the arrays of a source become frames by channels."""

    layout: str  # 'tc' or 'ct'
    width: int  # channels
    columns: tuple[str, ...] = ()  # names of the channels in tables, () if there are none
    times: Mapping[str, str] = dataclasses.field(default_factory=dict)  # columns left out: values
    chosen: bool = False  # whether `columns` were, so that files may have others
    clock: Clock | None = None  # how times are read; None: they are not used
    rates: tuple[float | None, ...] = ()  # of the first few files by their times, in Hz


class Frames(NamedTuple):
    """A video's features in one source, as they are stored."""

    array: Float[np.ndarray, "F C"]
    notes: list[tuple[str, str]]  # kind and text of what is to be told
    timeline: Timeline | None  # None: there are no times, or they are not used
    duration: float | None = None  # seconds, where more is known than frames and rate say


class Recorded(NamedTuple):
    """A video's features in all sources: as they are stored, or at one rate between gaps."""

    pieces: list[Piece]
    notes: list[tuple[str, str]]
    timeline: Timeline | None  # of the source that begins first
    duration: float | None = None  # seconds, of the longest source that knows it

    @property
    def is_whole(self) -> bool:
        """Returns whether it is one piece that begins when the recording does."""
        return len(self.pieces) == 1 and self.pieces[0].start == 0


@dataclasses.dataclass(frozen=True)
class Source:
    """The files or arrays of many videos' features."""

    path: epath.Path
    places: Mapping[str, Place]  # by `match_id`: the id without `v_`
    names: Mapping[str, str]  # `match_id` -> id as it stands there
    defects: tuple[Defect, ...]

    @property
    def clock(self) -> Clock | None:
        """Clock of times that are its own; None: they are read as those of training."""
        return None

    def read(self, video: str) -> Stored:
        """Returns the array of a video, by `match_id`, as it is stored.

        Raises:
            FeatureError: it cannot be read, with the file and what to do.
        """
        return read_array(*self.places[video])

    def read_numbers(self, video: str, columns: Collection[str] = ()) -> Stored:
        """Returns the same; these columns (by default all that a table has) must be numbers.

        Raises:
            FeatureError: as `read`, or a column is no numbers.
        """
        stored = self.read(video)
        for column, reason in stored.wrong.items():
            if not columns or column in columns:
                where = place_name(*self.places[video])
                raise FeatureError("unreadable", f"{where}: {reason}")
        return stored

    def form(
        self,
        videos: Iterable[str],
        layout: str,
        width: int | None = None,
        columns: Sequence[str] = (),
        *,
        chosen: bool = False,
        clock: Clock | None = None,
        rate: float | None = None,
    ) -> Form:
        """Returns the form of the arrays, from the first few of these videos that can be read.

        Args:
            videos: by `match_id`.
            layout: 'tc', 'ct' or 'auto'.
            width: C if known, as of a trained model.
            columns: names of the channels, if known.
            chosen: whether these were, so that files may have other columns.
            clock: how times are read; None: they are not used.
            rate: of the features in Hz, if known.

        Raises:
            FeatureError: nothing says which axis is time, no array can be read, or there is no
                rate but that of times, and none can be used.
        """
        samples, reason = self._samples(videos, columns if chosen else ())
        # The columns under a header are channels, and so they are in any csv that leaves it open.
        shapes = [sample.array.shape for sample in samples if not named(sample.columns)]
        if not shapes and layout == "auto":  # or each file fails by name
            layout = "tc"
        try:
            layout = infer_layout(shapes, layout, width)
        except FeatureError:
            if not all(sample.columns for sample in samples):
                raise
            layout = "tc"
        tables = [sample for sample in samples if sample.columns and layout == "tc"]
        times = {k: v for k, v in time_columns(tables).items() if k not in columns}
        if clock and any(clock.column in table.columns for table in tables):
            times.setdefault(clock.column, "as --time names it")
        columns = tuple(columns) or usual_columns(tables, times)
        usual = len(columns) if chosen else _usual_width(samples, layout, times)
        if width is None and not usual:
            raise FeatureError(
                "unreadable",
                f"{self.path}: no video has features of frames by channels that can be read; the "
                f"first: {reason or f'its shape is {samples[0].array.shape}'}",
            )
        form = Form(layout, width or usual, columns, times, chosen)
        if clock is None:
            return form
        clock, told = fit_clock(samples, clock, times, rate)
        times |= {k: f"{times[k]}; {how}" if k in times else how for k, how in told.items()}
        form = dataclasses.replace(form, clock=clock)
        rates: list[float | None] = []
        reason = ""
        for sample in samples:
            try:
                timeline = read_timeline(sample, clock, _left_out(sample, form), rate)
                rates.append(timeline.rate if timeline else None)
            except ValueError as error:  # named again when the video's turn comes
                reason = reason or str(error)
        if reason and not rates and rate is None:
            text = f"{self.path}: no file has times that can be used; the first: {reason}"
            raise FeatureError("bad_times", text)
        return dataclasses.replace(form, rates=tuple(rates))

    def frames(self, video: str, form: Form, rate: float | None = None) -> Frames:
        """Returns a video's frames by channels, and their times.

        Args:
            video: by `match_id`.
            form: of the source.
            rate: of the features in Hz, if known.

        Raises:
            FeatureError: it cannot be read, or not be used; names the file.
        """
        where = place_name(*self.places[video])
        stored = self.read_numbers(video, form.columns if form.chosen else ())
        array, notes, timeline = stored.array, [], None
        left_out = _left_out(stored, form)
        if form.columns and (stored.columns or form.chosen):
            array, moved = in_order(stored, form.columns, left_out, where, form.chosen)
            if moved:
                notes.append(("column_order", ", ".join(stored.columns)))
        frames = as_frames(array, form.layout, where)
        if text := outlier(frames):
            notes.append(("outlier", text))
        if form.clock is not None:
            try:
                timeline = read_timeline(stored, form.clock, left_out, rate)
            except ValueError as error:
                raise FeatureError("bad_times", f"{where}: {error}") from error
        beside = [*stored.beside, *([stored.times[0]] if stored.times and not timeline else [])]
        if beside:
            notes.append(("not_read", ", ".join(map(repr, beside))))
        return Frames(frames, notes, timeline)

    def _samples(self, videos: Iterable[str], columns: Collection[str]) -> tuple[list[Stored], str]:
        """Returns the first few arrays that can be used, and why the first other one cannot."""
        samples: list[Stored] = []
        reason = ""
        for video in videos:
            if len(samples) == LAYOUT_SAMPLE:
                break
            try:
                sample = self.read_numbers(video, columns)
            except FeatureError as error:  # named again when the video's turn comes
                reason = reason or str(error)
                continue
            if sample.array.size:
                samples.append(sample)
            else:  # says nothing about the others; likewise
                reason = reason or f"{place_name(*self.places[video])}: is empty"
        return samples, reason


def read_recording(
    sources: Sequence[Source],
    forms: Sequence[Form],
    video: str,
    rate: float | None,
    *,
    fill: bool = False,
) -> Recorded:
    """Reads a video from all sources; where there are times, at one rate and split at gaps.

    Args:
        sources: that have the video.
        forms: of each.
        video: by `match_id`.
        rate: Hz; None: times are not used.
        fill: whether gaps are filled instead.

    Raises:
        FeatureError: it cannot be used in one of the sources; names the file.
    """
    read = [s.frames(video, form, rate) for s, form in zip(sources, forms, strict=True)]
    arrays, notes = [frames.array for frames in read], [n for frames in read for n in frames.notes]
    timed = [frames.timeline for frames in read if frames.timeline is not None]
    if rate is None or not timed:
        if any(any(form.rates) for form in forms):
            notes.append(("no_times", "no column of times"))
        seconds = max((f.duration for f in read if f.duration is not None), default=None)
        return Recorded([Piece(0.0, arrays)], notes, None, seconds)
    timelines = [f.timeline or even(len(f.array), rate) for f in read]
    try:
        found = pieces(timelines, arrays, rate, fill=fill)
    except ValueError as error:
        where = place_name(*sources[0].places[video])
        raise FeatureError("bad_times", f"{where}: {error}") from error
    for number, (line, array) in enumerate(zip(timelines, arrays, strict=True)):
        samples = sum(len(piece.arrays[number]) for piece in found)
        if abs(line.rate / rate - 1) > SAME_RATE or samples != len(array):
            notes.append(
                ("resampled", f"{line.rate:.4g} Hz by {line.column!r}, resampled to {rate:g} Hz")
            )
        how = "filled" if fill else "split"
        notes += [("gap", f"gap of {long:.1f} s at {at:.4g} s: {how}") for at, long in line.gaps]
        if line.unequal:
            notes.append(("jitter", line.unequal))
        if not line.date and abs(line.zero or 0) >= LATE:
            begins = f"{line.column!r} begins at {line.zero:.10g} s"
            notes.append(("time_start", f"{begins}, which is second 0 of annotations"))
    return Recorded(found, notes, min(timed, key=lambda timeline: timeline.zero or 0.0))


def _left_out(stored: Stored, form: Form) -> set[str]:
    """Returns the columns of a table that are no features; other files may call theirs so too."""
    called = {n for n in stored.columns if n in stored.dates or is_called_times(n)}
    return (called | form.times.keys()) - set(form.columns)


def _usual_width(samples: Sequence[Stored], layout: str, times: Mapping[str, str]) -> int:
    """Returns the number of channels that most arrays have; 0 if none has frames by channels."""
    counts: collections.Counter[int] = collections.Counter()
    for array, columns, *_ in samples:
        if columns and layout == "tc":
            counts[sum(name not in times for name in columns)] += 1
        elif len(shape := _plain_shape(array.shape)) == 2:
            counts[shape[1 if layout == "tc" else 0]] += 1
    return counts.most_common(1)[0][0] if counts else 0


def open_source(path: epath.PathLike) -> Source:
    """Lists the videos of a folder or a file.

    Raises:
        FileNotFoundError: there is no such folder or file.
        FeatureError: a file of another kind, or a folder without feature files.
    """
    path = epath.Path(path)
    return Source(path, *by_id(*_entries(path)))


def by_id(
    entries: Iterable[tuple[str, Place]], defects: Sequence[Defect] = ()
) -> tuple[dict[str, Place], dict[str, str], tuple[Defect, ...]]:
    """Returns places, names and defects of a `Source`: of two files of one video, the first."""
    places: dict[str, Place] = {}
    names: dict[str, str] = {}
    defects = list(defects)
    for name, place in entries:
        if match_id(name) in places:
            both = (
                f"{place_name(*place)} beside {place_name(*places[match_id(name)])}, which is used"
            )
            defects.append(Defect("two_files", name, both, str(place[0])))
        else:
            places[match_id(name)], names[match_id(name)] = place, name
    return places, names, tuple(defects)


def _entries(path: epath.Path) -> tuple[list[tuple[str, Place]], list[Defect]]:
    """Returns names and places of the videos in a folder or a file, and what lies between them."""
    if path.is_dir():
        return _entries_of_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"no features at {path}: there is no such file or folder")
    if path.suffix.lower() in CONTAINERS:
        names = list_arrays(path)
        if not names:
            raise FeatureError("empty", f"{path}: has no array in it")
        if KEY in names or names == ["arr_0"]:  # numpy's name for a nameless one
            return [(path.stem, (path, None))], []
        return [(name, (path, name)) for name in names], []
    if path.suffix.lower() in READERS:
        return [(path.stem, (path, None))], []
    raise FeatureError(
        "unreadable",
        f"{path}: not a feature file; expected a folder with a file a video "
        f"({', '.join(sorted(READERS))}) or one .h5, .hdf5 or .npz with an array a video",
    )


def _entries_of_folder(folder: epath.Path) -> tuple[list[tuple[str, Place]], list[Defect]]:
    entries: list[tuple[str, Place]] = []
    defects = []
    others: dict[str, list[epath.Path]] = {}  # by ending
    for file in files_under(folder, READERS):
        ending = file.suffix.lower()
        table = ending in (".csv", ".tsv") and is_table_of_annotations(file)
        if ending not in READERS:
            others.setdefault(ending, []).append(file)
        elif table or file.name.startswith("."):  # macOS puts ._x.npy beside x.npy
            defects.append(Defect("not_features", file.name, "skipped", str(file)))
        else:
            entries.append((file.stem, (file, None)))
    if not entries:
        raise FeatureError("missing", f"{folder}: has no file {', '.join(sorted(READERS))}")
    expected = {f"{file.name}.json" for _, (file, _) in entries}  # beside features of videos
    for ending, files in others.items():
        shown = [f for f in files if not f.name.startswith(".") and f.name not in expected]
        if shown:
            more = f", as {len(shown) - 1} more {ending}" if len(shown) > 1 else ""
            defects.append(Defect("not_features", shown[0].name, f"skipped{more}", str(shown[0])))
    return entries, defects


def as_frames(array: np.ndarray, layout: str, where: str) -> Float[np.ndarray, "F C"]:
    """Returns an array as float32 frames by channels, all numbers finite.

    Args:
        array: two axes, and any number of axes of length 1 before or after them.
        layout: 'tc' or 'ct', which axis comes first.
        where: the place that messages name.

    Raises:
        FeatureError: kind 'bad_type', 'bad_shape', 'empty', 'not_finite', 'overflow' or
            'fill_value'.
    """
    if array.dtype.kind not in "fiu":
        raise FeatureError("bad_type", f"{where}: holds {array.dtype}, expected numbers")
    frames = array
    while frames.ndim > 2 and frames.shape[0] == 1:
        frames = frames[0]
    while frames.ndim > 2 and frames.shape[-1] == 1:
        frames = frames[..., 0]
    if frames.ndim != 2:
        raise FeatureError(
            "bad_shape", f"{where}: has shape {array.shape}, expected frames by channels"
        )
    frames = frames if layout == "tc" else frames.T
    if 0 in frames.shape:
        raise FeatureError("empty", f"{where}: has shape {array.shape}: nothing in it")
    frames = cast(frames, np.dtype(np.float32), where)
    require_no_fill(frames, where, HALF_FILLS if array.dtype == np.float16 else FILLS)
    return frames


def cast(
    frames: np.ndarray, dtype: np.dtype, where: str, advice: str = "use --dtype=float32"
) -> Float[np.ndarray, "F C"]:
    """Returns frames by channels in the type that they are stored in, all numbers finite.

    Args:
        frames: numbers of any type.
        dtype: float16 or float32.
        where: the place that messages name.
        advice: what to do about numbers too large for float16.

    Raises:
        FeatureError: kind 'not_finite' for NaN and infinity, 'overflow' for a number that the type
            cannot hold; with frame, channel and value.
    """
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(frames, dtype)
    if np.isfinite(result).all():
        return result
    wrong = ~np.isfinite(frames)
    kind = "not_finite" if wrong.any() else "overflow"
    wrong = ~np.isfinite(result) if kind == "overflow" else wrong
    frame, channel = np.argwhere(wrong)[0]
    value = f"{where}: {frames[frame, channel]:g} at frame {frame}, channel {channel}"
    if kind == "not_finite":
        raise FeatureError(kind, f"{value} ({np.count_nonzero(wrong)} such)")
    advice = f"; {advice}" if dtype == np.float16 else ""
    raise FeatureError(kind, f"{value} is too large for {dtype}{advice}")


def infer_layout(
    shapes: Sequence[tuple[int, ...]], layout: str, channels: int | None = None
) -> str:
    """Returns which axis is time, 'tc' or 'ct', from the shapes of several arrays.

    Args:
        shapes: of a few videos' arrays.
        layout: 'auto', or already the answer.
        channels: C, if known. Otherwise channels are the axis on which the videos agree.

    Raises:
        FeatureError: kind 'bad_shape', if both or neither axis could be time.
    """
    if layout != "auto":
        return layout
    flat = [shape for shape in map(_plain_shape, shapes) if len(shape) == 2]
    if channels is not None:
        votes = [sum(shape[axis] == channels for shape in flat) for axis in (1, 0)]
    else:
        counts = [collections.Counter(shape[axis] for shape in flat) for axis in (1, 0)]
        votes = [max(count.values(), default=0) for count in counts]
    if votes[0] == votes[1] or max(votes) <= len(flat) / 2:
        shown = ", ".join(str(shape) for shape in shapes[:5])
        known = "" if channels is None else f" ({channels} channels are expected)"
        raise FeatureError(
            "bad_shape",
            f"cannot tell which axis is time from the shapes {shown}{known}: say --layout=tc "
            "(frames first) or --layout=ct (channels first)",
        )
    return "tc" if votes[0] > votes[1] else "ct"


def _plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a shape less axes of length 1, unless it has two axes."""
    return shape if len(shape) == 2 else tuple(n for n in shape if n != 1)


def files_under(
    folder: epath.Path,
    endings: Collection[str],
    above: frozenset[str] = frozenset(),
) -> Iterator[epath.Path]:
    """Yields all files under a folder, in order of names; of these endings all are taken for files.

    To ask what something is takes a request on an object store.
    """
    real = os.path.realpath(folder)
    if real in above:
        return  # in a circle of links
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in endings or not path.is_dir():
            yield path
        else:
            yield from files_under(path, endings, above | {real})
