"""Videos as a source of recordings: their features are made once, and kept.

    videos = open_videos("videos", transform_of(backbone), "features")
    videos.extract([path for path, _ in videos.places.values()], backbone, console)
    videos.frames(key, videos.form()).array

For a.mp4 the folder then has a.npy, frames by channels, and a.npy.json, which says what made it. A
process that is killed loses no more than the block that it was at. Several processes share the
work: each video is held by the one that is at it.
"""

import dataclasses
import functools
import io
import itertools
import json
import math
import pathlib
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath
from rich.console import Console
from rich.progress import Progress

from segtad_jax import __version__
from segtad_jax.data.feature_files import READERS, read_array
from segtad_jax.data.features import (
    FeatureError,
    Form,
    Frames,
    Source,
    as_frames,
    by_id,
    files_under,
)
from segtad_jax.data.preparation import VideoTransform
from segtad_jax.runtime import files, lease
from segtad_jax.video.backbones import Backbone, create
from segtad_jax.video.decode import SUFFIXES, open_video
from segtad_jax.video.extract import features, first_frame
from segtad_jax.video.kept import read_statement, statement_of

SPEED_SECONDS = 600  # of work, the last, whose speed tells how long the rest takes
POLLED_SECONDS = 1  # while other processes make the last features


@dataclasses.dataclass(frozen=True)
class Videos(Source):
    """The files of videos, and the features that are kept of them."""

    transform: VideoTransform
    kept: epath.Path
    failures: dict[epath.Path, str] = dataclasses.field(default_factory=dict)

    def form(self, *_: Any, **__: Any) -> Form:
        """Returns the form of what `extract` makes."""
        return Form("tc", self.transform.channels)

    def frames(self, video: str, form: Form, rate: float | None = None) -> Frames:  # noqa: ARG002
        """Returns the features that are kept of a video; raises FeatureError if there are none."""
        path, _ = self.places[video]
        if (details := self.details(path)) is None:
            reason = self.failures.get(path, f"{path}: its features are not made yet")
            raise FeatureError("unreadable", reason)
        array = self._array(path, form)
        notes = [("odd_video", note) for note in details["notes"]]
        return Frames(array, notes, None, details["duration"])

    def _array(self, path: epath.Path, form: Form) -> np.ndarray:
        file = self.file(path)
        try:
            return as_frames(read_array(file).array, form.layout, str(file))
        except FeatureError as error:
            raise FeatureError(error.kind, f"{error}. Remove it: it is made again") from error

    def file(self, path: epath.Path) -> epath.Path:
        """Returns the file of a video's features."""
        return self.kept / f"{path.stem}.npy"

    def details(self, path: epath.Path) -> dict[str, Any] | None:
        """Returns what is known of the features that are kept of a video; None: there are none.

        Those of a file that was replaced since are none.

        Raises:
            ValueError: they were made in another way.
        """
        file = self.file(path)
        if not (stated := statement_of(file)).exists():
            if file.exists():
                raise ValueError(
                    f"{file} is there, and no {stated.name} that says what made it: remove it, or "
                    "keep features elsewhere with --save_features=DIR"
                )
            return None
        made_by, details = read_statement(file)
        if made_by != self.transform:
            raise ValueError(
                f"{file} was made by {made_by}, not by {self.transform}: keep these features "
                "elsewhere with --save_features=DIR"
            )
        return details if file.exists() and details["source"] == _identity(path) else None

    def extract(self, paths: Sequence[epath.Path], backbone: Backbone, console: Console) -> None:
        """Makes the features of videos that are not kept yet; waits for what others make.

        Why there are none of a video is in `failures` afterwards.

        Args:
            paths: of the videos.
            backbone: makes them.
            console: shows the progress.

        Raises:
            ValueError: features are kept that were made in another way.
            OSError: the features cannot be written.
        """
        left = [p for p in paths if self.details(p) is None or self._blocks(p).exists()]
        sizes = {path: _size(path) for path in left}
        total, done, waits = max(sum(sizes.values()), 1), 0, False
        with Progress(
            console=console, transient=True, speed_estimate_period=SPEED_SECONDS
        ) as progress:
            task = progress.add_task("features", total=total)
            while left:
                held = []
                for path in left:
                    started = time.monotonic()
                    try:
                        with lease.held(_hidden(self.file(path), "lease"), f"the video {path}"):
                            if self.details(path) is None:  # nor has another made them since
                                for share in self._extract(path, backbone):
                                    progress.update(task, completed=done + share * sizes[path])
                            self._blocks(path).rmtree(missing_ok=True)
                    except lease.HeldError:
                        held.append(path)
                        continue
                    except ValueError as error:
                        self.failures[path] = str(error)
                    done += sizes[path]
                    progress.update(task, completed=done)
                    if not console.is_terminal:  # which shows the bar
                        line = f"{path}: {time.monotonic() - started:.0f} s, {done / total:.0%}"
                        console.print(line, markup=False, soft_wrap=True)
                if held == left:
                    if not waits:
                        console.print(f"waiting for {len(held)} videos of other processes")
                    waits = True
                    time.sleep(POLLED_SECONDS)
                left = held

    def _extract(self, path: epath.Path, backbone: Backbone) -> Iterator[float]:
        """Makes the features of a video from where it was interrupted; yields the share made.

        Raises:
            ValueError: it cannot be decoded.
        """
        blocks, file = self._blocks(path), self.file(path)
        first = sum(map(len, _in_order(blocks)))
        told = blocks / "notes.json"
        notes = files.read_json(told, "Remove it.")["notes"] if told.exists() else []
        start = first_frame(backbone, first)
        video = open_video(path, fps=backbone.fps, size=backbone.size, first=start)
        if blocks.exists():  # it was interrupted, perhaps in its last writes
            for name in (file.name, statement_of(file).name):
                files.remove_leftovers(self.kept, name)
        blocks.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(blocks)
        for array in filter(len, features(video.frames(), backbone, first=first)):
            if video.notes:
                files.write_json(told, {"notes": _joined(notes, video.notes)})
            files.write_whole(_block(blocks, first), _npy(array))
            first += len(array)
            yield min(first / self.transform.rate / (video.duration or math.inf), 1.0)
        if not first:
            raise FeatureError("empty", f"{path}: has no picture")
        file.unlink(missing_ok=True)  # of a video that was replaced
        made = {"duration": video.duration, "notes": _joined(notes, video.notes)}
        files.write_sealed(statement_of(file), self._made_by(path) | made)
        header = np.lib.format.header_data_from_array_1_0(next(_in_order(blocks)))
        with files.written_whole(file) as joined:
            shape = {"shape": (first, self.transform.channels)}
            np.lib.format.write_array_header_1_0(joined, header | shape)
            for array in _in_order(blocks):
                joined.write(array.tobytes())

    def _made_by(self, path: epath.Path) -> dict[str, Any]:
        """Returns what decides the features of a video, in JSON's types."""
        transform = dataclasses.asdict(self.transform)
        return {"source": _identity(path), "transform": transform, "segtad_jax": __version__}

    def _blocks(self, path: epath.Path) -> epath.Path:
        """Returns the folder of a video's features while they are made; others' are of no use."""
        number = zlib.crc32(json.dumps(self._made_by(path)).encode())
        return _hidden(self.file(path), f"{number:08x}.parts")


def transform_of(backbone: Backbone) -> VideoTransform:
    """Returns what is to be known of a backbone to make the same features again."""
    names = [field.name for field in dataclasses.fields(VideoTransform)]
    return VideoTransform(**{name: getattr(backbone, name) for name in names})


@functools.lru_cache(1)
def backbone_for(
    transform: VideoTransform, weights: str | None = None, plug_in: str | None = None
) -> Backbone:
    """Returns the backbone that makes the features of a transform, its weights loaded.

    Args:
        transform: which a model was trained with.
        weights: a file, where not the backbone's own.
        plug_in: the transform's name again, where it is a function: a run, which may be a
            stranger's, is data and imports no code.

    Raises:
        ValueError: what is installed makes other features, or a function is not named.
        ModuleNotFoundError: it needs a package that is not installed.
    """
    if ":" in transform.name and plug_in != transform.name:
        raise ValueError(
            f"the model was trained on features by the function {transform.name}: give "
            f"--backbone={transform.name} (backbone=) if you trust that code"
        )
    backbone = create(transform.name, weights=weights)
    if transform_of(backbone) != transform:
        backbone = create(transform.name, fps=transform.fps, size=transform.size, weights=weights)
    if (found := transform_of(backbone)) != transform:
        raise ValueError(
            f"the model was trained on features by {transform}; there is {found}: give the weights "
            "of training by --weights=FILE, or install the backbone as it was"
        )
    return backbone


def open_videos(path: epath.PathLike, transform: VideoTransform, kept: epath.PathLike) -> Videos:
    """Lists a video, or those of a folder; nothing is read yet.

    Args:
        path: file or folder.
        transform: of the backbone.
        kept: the folder of the features.

    Raises:
        FileNotFoundError: there is no such file or folder.
        FeatureError: a folder without a video, or a file of features.
    """
    path = epath.Path(path)
    if path.is_dir():
        found = [
            file
            for file in files_under(path, SUFFIXES)
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        ]
        if not found:
            endings = ", ".join(sorted(SUFFIXES))
            raise FeatureError("missing", f"{path}: has no video, which would end in {endings}")
    elif not path.exists():
        raise FileNotFoundError(f"no videos at {path}: there is no such file or folder")
    elif path.suffix.lower() in READERS:
        raise FeatureError("unreadable", f"{path}: features, no video: give them by --features")
    else:
        found = [path]  # whatever it is called: decoding tells
    entries = [(file.stem, (file, None)) for file in found]
    return Videos(path, *by_id(entries), transform, epath.Path(kept))


def _hidden(file: epath.Path, kind: str) -> epath.Path:
    return file.with_name(f".{file.stem}.{kind}")


def _size(path: epath.Path) -> int:
    """Returns the bytes of a file; 0 of a link to nothing and the like, which decoding names."""
    return path.stat().length if _is_file(path) else 0


def _is_file(path: epath.Path) -> bool:
    """Returns whether it can be read to an end; epath takes a pipe for a file."""
    return files.on_object_store(path) or pathlib.Path(path).is_file()


def _identity(path: epath.Path) -> str:
    """Returns what tells a file from another, wherever it is copied to; decoding says more."""
    try:
        if _is_file(path):
            return f"{_size(path)} {files.checksum_of_ends(path):08x}"
    except OSError:
        pass
    return "unreadable"


def _joined(*notes: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(itertools.chain(*notes)))


def _block(blocks: epath.Path, first: int) -> epath.Path:
    """Returns the file of the features from `first` on, a few of a video."""
    return blocks / f"{first:09d}.npy"


def _in_order(blocks: epath.Path) -> Iterator[np.ndarray]:
    """Yields the features of a video that are there, a few at a time."""
    first = 0
    while (block := _block(blocks, first)).exists():
        yield (array := read_array(block).array)
        first += len(array)


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()
