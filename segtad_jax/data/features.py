"""Finds the features of videos and brings them into one form: float32, frames by channels.

A source is a folder with a file a video (.npy, .npz, .csv, .pt, .pth), named by its id with or
without `v_`, or one .h5, .hdf5 or .npz file with an array a video. Nothing is ever unpickled.
"""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from etils import epath
from jaxtyping import Float

from segtad_jax.data.columns import in_order, named, time_columns, usual_columns
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
from segtad_jax.data.value_range import FILLS, HALF_FILLS, outlier, require_no_fill
from segtad_jax.evaluation.ids import match_id

LAYOUTS = ("tc", "ct", "auto")
LAYOUT_SAMPLE = 20  # files that decide which axis is time


Place = tuple[epath.Path, str | None]  # file, name of the array in it


@dataclasses.dataclass(frozen=True)
class Form:
    """How the arrays of a source become frames by channels."""

    layout: str  # 'tc' or 'ct'
    width: int  # channels
    columns: tuple[str, ...] = ()  # names of the channels in csv files, () if there are none
    times: Mapping[str, str] = dataclasses.field(default_factory=dict)  # columns left out: values


@dataclasses.dataclass(frozen=True)
class Source:
    """The files or arrays of many videos' features."""

    path: epath.Path
    places: Mapping[str, Place]  # by `match_id`: the id without `v_`
    names: Mapping[str, str]  # `match_id` -> id as it stands there
    defects: tuple[Defect, ...]

    def read(self, video: str) -> Stored:
        """Returns the array of a video, by `match_id`, as it is stored.

        Raises:
            FeatureError: it cannot be read, with the file and what to do.
        """
        return read_array(*self.places[video])

    def form(
        self,
        videos: Iterable[str],
        layout: str,
        width: int | None = None,
        columns: Sequence[str] = (),
    ) -> Form:
        """Returns the form of the arrays, from the first few of these videos that can be read.

        Args:
            videos: by `match_id`.
            layout: 'tc', 'ct' or 'auto'.
            width: C if known, as of a trained model.
            columns: names of the channels, if known.

        Raises:
            FeatureError: nothing says which axis is time, or no array can be read.
        """
        samples, reason = self._samples(videos)
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
        columns = tuple(columns) or usual_columns(tables, times)
        usual = _usual_width(samples, layout, times)
        if width is None and not usual:
            raise FeatureError(
                "unreadable",
                f"{self.path}: no video has features of frames by channels that can be read; the "
                f"first: {reason or f'its shape is {samples[0].array.shape}'}",
            )
        return Form(layout, width or usual, columns, times)

    def frames(
        self, video: str, form: Form
    ) -> tuple[Float[np.ndarray, "F C"], list[tuple[str, str]]]:
        """Returns a video's frames by channels, and kind and text of what else is to be told.

        Raises:
            FeatureError: it cannot be read, or not be used; names the file.
        """
        where = place_name(*self.places[video])
        stored, notes = self.read(video), []
        array = stored.array
        if stored.columns and form.columns:
            array, moved = in_order(stored, form.columns, form.times, where)
            if moved:
                notes.append(("column_order", ", ".join(stored.columns)))
        if stored.beside:
            notes.append(("not_read", ", ".join(map(repr, stored.beside))))
        frames = as_frames(array, form.layout, where)
        if text := outlier(frames):
            notes.append(("outlier", text))
        return frames, notes

    def _samples(self, videos: Iterable[str]) -> tuple[list[Stored], str]:
        """Returns the first few arrays that can be used, and why the first other one cannot."""
        samples: list[Stored] = []
        reason = ""
        for video in videos:
            if len(samples) == LAYOUT_SAMPLE:
                break
            try:
                sample = self.read(video)
            except FeatureError as error:  # named again when the video's turn comes
                reason = reason or str(error)
                continue
            if sample.array.size:
                samples.append(sample)
            else:  # says nothing about the others; likewise
                reason = reason or f"{place_name(*self.places[video])}: is empty"
        return samples, reason


def _usual_width(samples: Sequence[Stored], layout: str, times: Mapping[str, str]) -> int:
    """Returns the number of channels that most arrays have; 0 if none has frames by channels."""
    counts: collections.Counter[int] = collections.Counter()
    for array, columns, _ in samples:
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
    entries, defects = _entries(path)
    places: dict[str, Place] = {}
    names: dict[str, str] = {}
    for name, place in entries:
        if match_id(name) in places:
            first = names[match_id(name)]
            defects.append(Defect("two_files", name, f"{name} beside {first}", str(place[0])))
        else:
            places[match_id(name)], names[match_id(name)] = place, name
    return Source(path, places, names, tuple(defects))


def _entries(path: epath.Path) -> tuple[list[tuple[str, Place]], list[Defect]]:
    """Returns names and places of the videos in a folder or a file, and what lies between them."""
    if path.is_dir():
        entries: list[tuple[str, Place]] = []
        defects = []
        for file in _files(path):
            table = file.suffix.lower() == ".csv" and is_table_of_annotations(file)
            if table or file.name.startswith("."):  # macOS puts ._x.npy beside x.npy
                defects.append(Defect("not_features", file.name, "skipped", str(file)))
            else:
                entries.append((file.stem, (file, None)))
        if not entries:
            raise FeatureError("missing", f"{path}: has no file {', '.join(sorted(READERS))}")
        return entries, defects
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


def _files(folder: epath.Path, above: frozenset[str] = frozenset()) -> Iterator[epath.Path]:
    """Yields all feature files under a folder, in order of their names; no circle of links."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in READERS:
            yield path
        elif path.is_dir():
            yield from _files(path, above | {real})


def with_channels(
    parts: Sequence[Float[np.ndarray, "_ _"]],
) -> Float[np.ndarray, "F C"]:
    """Puts several sources (rgb and flow) side by side, all as long as the longest."""
    longest = max(len(part) for part in parts)
    return np.concatenate([resize_linear(part, longest) for part in parts], axis=1)


def resize_linear(features: Float[np.ndarray, "F C"], num_frames: int) -> Float[np.ndarray, "T C"]:
    """Interpolates linearly to `num_frames`; first and last stay (`align_corners=True`).

    So they lie half of their own length from the ends of the video, and not half of an output
    frame: see `corner_shift`.
    """
    if len(features) == num_frames:
        return features
    return _at(features, np.linspace(0, len(features) - 1, num_frames))


def corner_shift(frames: int, num_frames: int) -> float:
    """Returns how many output frames too far out `resize_linear` has a video's first and last."""
    return (num_frames / frames - 1) / 2


def resize_half_pixel(
    features: Float[np.ndarray, "F C"], num_frames: int
) -> Float[np.ndarray, "T C"]:
    """Interpolates linearly to `num_frames`, each at its centre in the video's time.

    Beyond the first and last centre the value stays (PyTorch's default, `align_corners=False`).
    """
    positions = (np.arange(num_frames) + 0.5) * len(features) / num_frames - 0.5
    return _at(features, np.clip(positions, 0, len(features) - 1))


def resize_bsn(features: Float[np.ndarray, "F C"], num_frames: int) -> Float[np.ndarray, "T C"]:
    """Pools as BSN does: the mean of three samples in each of `num_frames` equal bins.

    The samples lie at both ends and in the middle of a bin; a frame's value stands at its centre,
    between centres it is linear. Bins are cut to the first and last centre (BSN leaves a bin that
    lies wholly beyond them at zero; here it has the value of that frame).
    """
    edges = np.clip(np.linspace(0, len(features), num_frames + 1) - 0.5, 0, len(features) - 1)
    middle = (edges[:-1] + edges[1:]) / 2
    samples = np.stack([edges[:-1], middle, edges[1:]])  # [3, T]
    return np.stack([_at(features, row) for row in samples]).mean(axis=0)


RESIZERS = {"half_pixel": resize_half_pixel, "linear": resize_linear, "bsn": resize_bsn}


def _at(features: Float[np.ndarray, "F C"], positions: np.ndarray) -> Float[np.ndarray, "n C"]:
    """Returns features at these positions in frames, linear between neighbours."""
    below = np.minimum(positions.astype(int), max(len(features) - 2, 0))
    above = np.minimum(below + 1, len(features) - 1)
    weight = (positions - below)[:, None].astype(np.float32)
    return features[below] * (1 - weight) + features[above] * weight
