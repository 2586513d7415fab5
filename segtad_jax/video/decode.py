"""Decodes a video file into square pictures at a fixed rate, by the times at which it shows them.

PyAV reads the file, with FFmpeg inside. Nothing but the file itself is opened: no address, no
playlist, no device.
"""

import contextlib
import dataclasses
import importlib
import itertools
import math
import pathlib
import shlex
import shutil
import stat
import tempfile
import types
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import UInt8

from segtad_jax.runtime.files import on_object_store

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream
else:
    InputContainer = VideoStream = object

# fmt: off
SUFFIXES = frozenset((
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".h264", ".hevc", ".ivf", ".m2ts", ".m4v", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv",
))
# fmt: on
# Containers that are one file, by FFmpeg's names; a playlist (hls, dash, concat) is none.
FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,dv,ivf,obu,h264,hevc,m4v,gif,"
    "mp3,wav,flac,aac"  # sound alone, to say so
)
INDEXED = ("mov", "matroska")  # know where each moment is, and never begin to count anew
MOST_PIXELS = 1 << 26  # of a picture: 8192 x 8192
MOST_ASPECT = 16  # the longer side of a picture by the shorter
MOST_SECONDS = 48 * 3600  # of a recording
MOST_FAULTS = 100  # in a row, of which nothing can be read
ANEW = 1.0  # seconds; times that go back by less are out of order, by more they begin anew
STILL = 10.0  # seconds without a new picture, of which a note is made
SHORT = 0.5  # seconds that are missing at the end, of which a note is made
MARGIN = 256 / 224  # short side of a picture that is scaled, by the side of the crop


class VideoError(ValueError):
    """A file cannot be used as a video; the message names it and says what to do."""


class Shown(NamedTuple):
    """A decoded picture, and when it is shown."""

    time: float  # seconds from the start of the file
    end: float  # seconds, unless another follows before or after
    picture: "av.VideoFrame"


@dataclasses.dataclass
class _Faults:
    """Counts what is odd about the pictures of a file."""

    damaged: int = 0
    unreadable: int = 0
    disordered: int = 0
    untimed: int = 0
    restarts: int = 0
    since: float = math.inf  # seconds, of the first that is damaged or unreadable
    still: tuple[float, float] = (0.0, 0.0)  # seconds, the longest, and where it begins

    def lines(self, rate: float) -> Iterator[str]:
        """Yields a line for each kind that there is."""
        if self.damaged or self.unreadable:
            yield (
                f"damaged from {self.since:.2f} s on: {self.damaged} pictures in part, "
                f"{self.unreadable} packets wholly, for which the picture before stands"
            )
        if self.untimed:
            yield f"{self.untimed} pictures have no time: taken to come {rate:.6g} a second"
        if self.disordered:
            yield f"{self.disordered} pictures are out of the order of their times: left out"
        if self.restarts:
            yield f"the times begin anew {self.restarts} times: counted on from there"
        if self.still[0] > STILL:
            yield f"no new picture for {self.still[0]:.1f} s from {self.still[1]:.2f} s on"


class VideoFile:
    """A video file of which pictures come at a fixed rate: upright, with square pixels, cropped.

    Attributes:
        path: of the file, as it was given.
        width: of its pictures as they are shown.
        height: likewise.
        rate: pictures a second that it has, on average; 0 if it does not say.
        duration: seconds to the end of its last picture: as the file says, 0 if it does not, until
            `frames` has come to the end, then exact.
    """

    def __init__(self, path: epath.PathLike, fps: float, size: int, first: int) -> None:
        """Opens the file and decodes its first picture; see `open_video`."""
        try:
            self.path = epath.Path(path)
        except KeyError as error:  # of its protocol
            raise VideoError(f"{path} is no file: download it, and name the file.") from error
        self._fps, self._size, self._first = fps, size, first
        self._file, self._copy = self._local()
        self._faults = _Faults()
        with self._open() as (container, stream):
            self._aspect = float(stream.sample_aspect_ratio or 1)
            # Half a tick of the file's clock, to which times are rounded: milliseconds in Matroska.
            self._early = min(float(stream.time_base or 0) / 2, 5e-4) + 1e-6
            self.rate = float(stream.guessed_rate or 0)
            self.duration = self._declared = _declared(container, stream)
            self._choice = self._chosen(container)
            self._indexed = container.format.name.startswith(INDEXED)
            shown = next(self._decoded(container, stream, self._faults), None)
        if shown is None:
            raise self._error(
                "has no picture that can be decoded "
                f"({self._faults.unreadable} packets cannot), or only some of more than "
                f"{MOST_PIXELS:,} pixels",
                f"If a player shows it: {self._ffmpeg('-vf scale=-2:720')}",
            )
        if self.duration > MOST_SECONDS:
            raise self._too_long(self.duration)
        self.width, self.height = self._shape(shown.picture)
        self._cut: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns what is odd about the file, as far as `frames` has come."""
        return (*self._choice, *self._faults.lines(self.rate), *self._cut)

    def frames(self) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
        """Yields RGB pictures; the k-th is what is on the screen (first + k) / fps seconds on.

        A picture is on the screen from its time until that of the next; the first one from 0 on. 0
        is where players begin: with the first picture or sound, whichever is earlier.

        Raises:
            VideoError: the file cannot be read any more, or is longer than MOST_SECONDS.
        """
        self._faults = faults = _Faults()
        number, short = self._first, round(self._size * MARGIN)
        last: Shown | None = None
        square: np.ndarray | None = None
        end = 0.0
        for shown in itertools.chain(self._from(number / self._fps, faults), [None]):
            until = end if shown is None else shown.time
            while last and number / self._fps < until - self._early:
                if square is None:  # else shown for longer than 1 / fps
                    square = _centre(self._upright(last.picture, short), self._size)
                yield square
                number += 1
            if shown:
                last, square, end = shown, None, shown.end
        if end < self._declared - SHORT:
            self._cut = (f"its picture ends at {end:.2f} s, the file says {self._declared:.2f} s",)
        self.duration = end

    def stills(
        self, times: Sequence[float], short: int
    ) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Yields the whole picture that is on the screen at each of these times.

        A file with an index is entered at each; another is decoded once, from its beginning.

        Args:
            times: in seconds, rising.
            short: pixels of a picture's shorter side.

        Raises:
            VideoError: the file cannot be read any more.
        """
        for group in [[time] for time in times] if self._indexed else [times]:
            pictures = self._from(group[0], _Faults())
            found, following = None, next(pictures, None)
            for time in group:
                while following and (found is None or following.time <= time + self._early):
                    found, following = following, next(pictures, None)
                if found is None:
                    raise self._error("has no picture any more", "Was it changed? Start again.")
                yield self._upright(found.picture, short)

    def _from(self, start: float, faults: _Faults) -> Iterator[Shown]:
        """Yields the pictures from the one on, or before, the screen at `start` seconds."""
        # A key picture may be shown after others that are decoded after it: then further back.
        for back in (0.0, 8.0, math.inf):
            with self._open() as (container, stream):
                if start > back and self._indexed:
                    self._seek(container, stream, start - back)
                pictures = self._decoded(container, stream, faults)
                first = next(pictures, None)
                if first and (start <= back or first.time <= start + self._early):
                    yield first
                    yield from pictures
                    return

    def _decoded(
        self, container: InputContainer, stream: VideoStream, faults: _Faults
    ) -> Iterator[Shown]:
        """Yields the pictures by rising times."""
        tick, step = stream.time_base or Fraction(1, 90_000), 1 / (self.rate or 25.0)
        zero = Fraction(container.start_time or 0, 1_000_000)
        last, shift = -math.inf, 0.0
        for picture in self._pictures(container, stream):
            if picture is None or picture.is_corrupt:
                faults.unreadable += picture is None
                faults.damaged += picture is not None
                faults.since = min(faults.since, max(last, 0.0))
            if picture is None:
                continue
            stamp = picture.dts if picture.pts is None else picture.pts
            if stamp is None:
                faults.untimed += 1
                time = max(last + step, 0.0)
            else:
                time = float(stamp * tick - zero) + shift
            if last - ANEW < time <= last:
                faults.disordered += 1
                continue
            if time <= last:
                faults.restarts += 1
                shift += last + step - time
                time = last + step
            if time > MOST_SECONDS:
                raise self._too_long(time)
            if time - last > faults.still[0] and last >= 0:
                faults.still = (time - last, last)
            yield Shown(time, time + (float(picture.duration * tick) or step), picture)
            last = time

    def _pictures(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator["av.VideoFrame | None"]:
        """Yields what is decoded, and None for each packet that cannot be."""
        errors, number = _av().error.FFmpegError, 0
        while number < MOST_FAULTS:
            try:
                for packet in container.demux(stream):
                    try:
                        pictures = packet.decode()
                    except errors:
                        yield None
                    else:
                        yield from pictures
                        number = 0
                return
            except errors:  # of the file, behind which there may be more
                number += 1
                yield None

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        av = _av()
        most = {"max_pixels": str(MOST_PIXELS)}
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file", **most}
        # Titles need not be UTF-8. PyAV 19 has no such choice any more, and takes them as they are.
        texts = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        try:
            container = av.open(f"file:{self._file}", options=options, **texts)
        except av.error.FFmpegError as error:
            raise self._error(
                f"cannot be read as a video ({error.strerror}): it is cut off or damaged, or it is "
                "none of mp4, mov, mkv, webm, avi, mpg, ts, flv, wmv, ogv, mxf (playlists are not "
                "followed)",
                f"If a player shows it: {self._ffmpeg()}; if none does, copy it here once more.",
            ) from error
        with container:
            streams = _moving(container)
            if not streams:
                kinds = " and ".join(sorted({stream.type for stream in container.streams}))
                raise self._error(f"has no moving picture ({kinds or 'nothing'})", "Leave it out.")
            stream = streams[0]
            if stream.codec_context is None:
                raise self._error("is of a codec that PyAV does not decode", self._ffmpeg())
            stream.codec_context.options = most
            stream.thread_type = "AUTO"
            yield container, stream

    def _seek(self, container: InputContainer, stream: VideoStream, seconds: float) -> None:
        zero = Fraction(container.start_time or 0, 1_000_000)
        with contextlib.suppress(_av().error.FFmpegError):  # then from the beginning
            stamp = (Fraction(seconds) + zero) / (stream.time_base or 1)
            container.seek(math.floor(stamp), stream=stream)

    def _chosen(self, container: InputContainer) -> tuple[str, ...]:
        """Returns a note if there are several films in the file."""
        others = [f"{stream.width} x {stream.height}" for stream in _moving(container)[1:]]
        other = self._ffmpeg("-map 0:v:1 -c copy")
        note = f"has {len(others)} more videos inside ({', '.join(others)}), not read: {other}"
        return (note,) * bool(others)

    def _shape(self, picture: "av.VideoFrame") -> tuple[int, int]:
        """Returns width and height as shown, in pixels that are square.

        Raises:
            VideoError: one is more than MOST_ASPECT times the other.
        """
        width, height = round(picture.width * self._aspect), picture.height
        if max(width, height) > MOST_ASPECT * min(width, height):
            raise self._error(
                f"has pictures of {width} x {height} pixels, and {MOST_ASPECT}:1 is the most",
                f"Scale it: {self._ffmpeg('-vf scale=640:360,setsar=1')}",
            )
        return (height, width) if round(picture.rotation / 90) % 2 else (width, height)

    def _upright(self, picture: "av.VideoFrame", short: int) -> UInt8[np.ndarray, "height width 3"]:
        """Returns a picture in RGB, scaled so that its shorter side has `short` pixels."""
        sides = self._shape(picture)
        quarters = round(picture.rotation / 90)  # counter-clockwise
        width, height = (max(round(side * short / min(sides)), short) for side in sides)
        if quarters % 2:
            width, height = height, width
        return np.rot90(picture.reformat(width, height, "rgb24").to_ndarray(), quarters)

    def _local(self) -> tuple[pathlib.Path, tempfile.TemporaryDirectory | None]:
        """Returns the file, and the folder that it was copied into from an object store."""
        try:
            if on_object_store(self.path):
                folder = tempfile.TemporaryDirectory()  # goes with the clip
                copy = pathlib.Path(folder.name, f"video{self.path.suffix}")
                with self.path.open("rb") as there, copy.open("wb") as here:
                    shutil.copyfileobj(there, here)
                return copy, folder
            file = pathlib.Path(self.path).absolute()
            found = file.stat()
        except OSError as error:
            raise self._error(
                f"cannot be read ({error.strerror or error})", "Look at it."
            ) from error
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for without an end
            raise self._error("is no file", "Name a video file.")
        if not found.st_size:
            raise self._error("is empty", "Copy it here once more.")
        return file, None

    def _too_long(self, seconds: float) -> VideoError:
        return self._error(
            f"lasts {seconds / 3600:,.1f} hours by its times; {MOST_SECONDS // 3600} are the most",
            f"Cut it: {self._ffmpeg('-t 24:00:00 -c copy')}",
        )

    def _error(self, fault: str, remedy: str) -> VideoError:
        return VideoError(f"{self.path} {fault}. {remedy}")

    def _ffmpeg(self, how: str = "") -> str:
        words = ["ffmpeg", "-i", shlex.quote(str(self.path)), *how.split(), "new.mp4"]
        return " ".join(words)


def open_video(path: epath.PathLike, *, fps: float, size: int, first: int = 0) -> VideoFile:
    """Opens a video file, or one on an object store, of which a copy is made while it is open.

    Args:
        path: of the file.
        fps: pictures a second that `VideoFile.frames` yields.
        size: height and width of these pictures: the centre, after the shorter side of the whole
            is scaled to 256 / 224 of this.
        first: which of them comes first, so that work that was interrupted goes on.

    Raises:
        VideoError: it is no video, damaged from its first picture on, or too large.
        ModuleNotFoundError: PyAV is not installed; says what to type.
    """
    return VideoFile(path, fps, size, first)


def _moving(container: InputContainer) -> list[VideoStream]:
    """Returns the streams that are films and no cover."""
    still = ("attached_pic", "timed_thumbnails")
    return [
        stream
        for stream in container.streams.video
        if not any(getattr(type(stream.disposition), name) in stream.disposition for name in still)
    ]


def _declared(container: InputContainer, stream: VideoStream) -> float:
    """Returns the duration that the file claims, 0 for none."""
    seconds = (container.duration or 0) / 1_000_000
    if stream.duration and stream.time_base:
        end = ((stream.start_time or 0) + stream.duration) * stream.time_base
        seconds = float(end - Fraction(container.start_time or 0, 1_000_000))
    return max(seconds, 0.0)


def _centre(picture: np.ndarray, size: int) -> UInt8[np.ndarray, "size size 3"]:
    top, left = ((side - size) // 2 for side in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + size, left : left + size])


def _av() -> types.ModuleType:
    try:
        return importlib.import_module("av")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "videos need PyAV, which is not installed. Type: pip install 'segtad-jax[video]'",
            name="av",
        ) from error
