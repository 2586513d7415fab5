"""Videos of every kind that people have: the right picture at every time, or what is wrong."""

import itertools
import os
import random
import re
import struct
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from clips import number_of, picture, speak, turn, write, write_sound
from object_store import bucket_in
from segtad_jax.video.decode import MOST_SECONDS, VideoError, open_video

SIZE = 112
KINDS = {
    "mp4": {}, "mov": {}, "mkv": {}, "flv": {}, "ts": {}, "h264": {"form": "h264"},
    "webm": {"codec": "libvpx-vp9"}, "avi": {"codec": "mpeg4", "tick": Fraction(1, 25)},
    "mpg": {"codec": "mpeg2video", "tick": Fraction(1, 25)}, "wmv": {"codec": "msmpeg4"},
}  # fmt: skip


def numbers(path, fps=25.0, first=0, notes=(), size=SIZE):
    clip = open_video(path, fps=float(fps), size=size, first=first)
    found = [number_of(square) for square in clip.frames()]
    assert len(clip.notes) == len(notes), clip.notes
    for note, words in zip(clip.notes, notes, strict=True):
        assert re.search(words, note), note
    return found


def refusal(path):
    with pytest.raises(VideoError) as raised:
        list(open_video(path, fps=25.0, size=SIZE).frames())
    assert str(raised.value).startswith(f"{path} ")
    return str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_each_picture_once_at_the_files_own_rate(tmp_path, kind):
    path = write(tmp_path / f"x.{kind}", **KINDS[kind])
    notes = ["50 pictures have no time: taken to come 25 a second"] if kind == "h264" else []
    assert numbers(path, notes=notes) == list(range(50))
    clip = open_video(path, fps=25.0, size=SIZE)
    assert (clip.width, clip.height, clip.rate) == (128, 128, 25)
    assert len(list(clip.frames())) == 50
    assert clip.duration == pytest.approx(2.0, abs=1e-3)


def test_other_rates_drop_and_repeat(tmp_path):
    path = write(tmp_path / "x.mp4")
    assert numbers(path, fps=5) == list(range(0, 50, 5))
    assert numbers(path, fps=50) == [n // 2 for n in range(100)]
    assert numbers(path, fps=10) == [int(2.5 * n) for n in range(20)]


@pytest.mark.parametrize("tick", [Fraction(1, 1000), Fraction(1, 90_000), Fraction(1, 12_345)])
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_variable_rates_are_exact_to_a_millisecond(tmp_path, kind, tick):
    random.seed(repr((kind, tick)))
    steps = [random.choice([7, 16, 33, 40, 55, 120, 433]) + random.random() for _ in range(60)]
    times = [0, *itertools.accumulate(round(step / 1000 / tick) for step in steps)]
    path = write(tmp_path / f"x.{kind}", [picture(n) for n in range(61)], times, tick=tick)
    shown = numbers(path, fps=1000)
    assert sorted(set(shown)) == list(range(61))
    begins = [shown.index(n) / 1000 for n in range(61)]
    np.testing.assert_allclose(begins, [float(time * tick) for time in times], atol=1.001e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_work_goes_on_where_it_stopped(tmp_path, kind):
    """Of pictures with long distances between those that can be decoded alone."""
    images = [picture(n) for n in range(100)]
    noise = np.random.default_rng(0).integers(0, 60, (128, 128, 3), np.uint8)
    images = [np.clip(np.roll(noise, n, 1) + image // 2, 0, 255).astype(np.uint8)
              for n, image in enumerate(images)]  # fmt: skip
    path = write(tmp_path / f"x.{kind}", images, gop_size=30, **KINDS[kind])
    whole = list(open_video(path, fps=12.0, size=SIZE).frames())
    assert len(whole) == 48
    for first in (1, 13, 30, 47, 48, 200):
        rest = list(open_video(path, fps=12.0, size=SIZE, first=first).frames())
        assert len(rest) == max(48 - first, 0)
        assert all(np.array_equal(a, b) for a, b in zip(whole[first:], rest, strict=True))


def test_sound_that_begins_first_is_where_seconds_begin(tmp_path):
    path = write(tmp_path / "x.mp4", times=[500 + 40 * n for n in range(50)], sound=3.0)
    shown = numbers(path, fps=10)
    assert shown[:6] == [0] * 6
    assert shown[6] == 2
    assert open_video(path, fps=10.0, size=SIZE).duration == pytest.approx(2.5, abs=0.05)


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [((1, 0, 0, 1), (0, 0)), ((0, 1, -1, 0), (0, -1)), ((-1, 0, 0, -1), (-1, -1)),
     ((0, -1, 1, 0), (-1, 0))],
)  # fmt: skip
def test_phones_are_turned_upright(tmp_path, matrix, corner):
    """The matrix takes (x, y) of the stored picture to (a x + c y, b x + d y)."""
    image = np.zeros((96, 160, 3), np.uint8)
    image[:48, :80] = 255  # the upper left quarter
    clip = open_video(turn(write(tmp_path / "x.mp4", [image] * 3), matrix), fps=25.0, size=64)
    sideways = matrix[0] == 0
    assert (clip.width, clip.height) == ((96, 160) if sideways else (160, 96))
    square = next(iter(clip.frames()))
    assert square.shape == (64, 64, 3)
    bright = {place for place in itertools.product((0, -1), repeat=2) if square[place].mean() > 128}
    assert bright == {corner}


def test_pixels_that_are_not_square_become_so(tmp_path):
    rows, columns = np.mgrid[:96, :80]
    round_on_screen = ((rows - 48) / 30) ** 2 + ((columns - 40) / 15) ** 2 < 1
    image = (round_on_screen[..., None] * np.full(3, 255)).astype(np.uint8)
    clip = open_video(write(tmp_path / "x.mp4", [image] * 3, aspect=2), fps=25.0, size=84)
    assert (clip.width, clip.height) == (160, 96)
    disc = next(iter(clip.frames())).mean(axis=2) > 128
    assert disc.any(axis=0).sum() == pytest.approx(disc.any(axis=1).sum(), abs=2)
    assert disc.sum() == pytest.approx(np.pi * 30**2, rel=0.05)


def test_the_centre_of_the_shorter_side_is_shown(tmp_path):
    """Of 512 x 256 pixels the middle 224 x 224, whose edges are at 144 and 16."""
    image = np.zeros((256, 512, 3), np.uint8)
    image[16:240, 144:368] = 255
    path = write(tmp_path / "x.mp4", [image] * 3, options={"crf": "1"})
    square = next(iter(open_video(path, fps=25.0, size=224).frames()))
    assert square[2:-2, 2:-2].min() > 240
    half = next(iter(open_video(path, fps=25.0, size=112).frames()))
    assert half[2:-2, 2:-2].min() > 240
    image[16:240, 144:368] = 0
    image[:16] = image[:, :144] = 255
    path = write(tmp_path / "y.mp4", [image] * 3, options={"crf": "1"})
    assert next(iter(open_video(path, fps=25.0, size=224).frames()))[2:, 2:].max() < 15
    still = next(open_video(path, fps=25.0, size=224).stills([0.04], 64))
    assert still.shape == (64, 128, 3)


@pytest.mark.parametrize("ending", ["mp4", "mpg"])
def test_stills_are_what_is_on_the_screen(tmp_path, ending, monkeypatch):
    """A file without an index is decoded once for all of them."""
    codec = {"mp4": "libx264", "mpg": "mpeg2video"}[ending]
    path = write(tmp_path / f"x.{ending}", codec=codec, tick=Fraction(1, 25))
    video = open_video(path, fps=25.0, size=SIZE)
    opened, opens = [], video._open
    monkeypatch.setattr(video, "_open", lambda: (opened.append(1), opens())[1])
    times = [0.0, 0.04, 0.05, 0.6, 1.96, 9.0]
    stills = list(video.stills(times, 128))
    middles = [still[8:-8, 8:-8] for still in stills]
    assert list(map(number_of, middles)) == [0, 1, 1, 15, 49, 49]
    assert len(opened) == (1 if ending == "mpg" else len(times))


def test_colours_are_those_of_the_file(tmp_path):
    """SMPTE 170M and BT.709 keep other numbers for one colour."""
    image = np.full((64, 64, 3), (200, 40, 60), np.uint8)
    for standard in (1, 5):
        frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(
            format="yuv420p", dst_colorspace={1: "ITU709", 5: "ITU601"}[standard]
        )
        path = tmp_path / f"{standard}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
            stream.width = stream.height = 64
            stream.codec_context.colorspace = standard
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        found = next(iter(open_video(path, fps=25.0, size=56).frames()))
        np.testing.assert_allclose(found.mean(axis=(0, 1)), (200, 40, 60), atol=4)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_damage_is_named_and_costs_no_time(tmp_path, kind):
    rng = np.random.default_rng(0)
    images = [np.clip(picture(n) // 2 + rng.integers(0, 99, (128, 128, 1)), 0, 255).astype(np.uint8)
              for n in range(100)]  # fmt: skip
    path = write(tmp_path / f"x.{kind}", images, gop_size=10)
    content = bytearray(path.read_bytes())
    for place in rng.integers(len(content) // 3, len(content) // 2, 60):
        content[place] ^= 0xFF
    path.write_bytes(content)
    shown = numbers(path, notes=[r"damaged from 1\.[23]\d s on: 1\d pictures"])
    assert len(shown) == 100
    assert shown[:31] + shown[-40:] == [*range(31), *range(60, 100)]


@pytest.mark.parametrize("kind", ["mkv", "ts", "avi", "mp4", "flv", "mpg"])
def test_a_file_that_is_cut_off_ends_there(tmp_path, kind):
    options = {"movflags": "faststart"} if kind == "mp4" else {}
    path = write(tmp_path / f"x.{kind}", [picture(n) for n in range(100)], **KINDS[kind])
    if kind == "mp4":
        path = rewritten(path, options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    clip = open_video(path, fps=25.0, size=SIZE)
    shown = [number_of(square) for square in clip.frames()]
    assert 20 < len(shown) < 90
    assert shown[:-3] == list(range(len(shown) - 3))
    assert clip.duration == pytest.approx(len(shown) / 25, abs=0.05)
    if kind in ("mkv", "mp4", "flv"):  # the others say nothing of their length
        assert re.search(r"ends at \d\.\d\d s, the file says 4\.0\d s", clip.notes[-1])


def rewritten(path, options, **texts):
    """The same packets in a new file, with options of the container."""
    new = path.with_stem("new")
    with av.open(str(path)) as old, av.open(str(new), "w", options=options) as container:
        container.metadata.update(texts)
        stream = container.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return new


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nreal.ts\n#EXT-X-ENDLIST\n"),
        ("cat.mp4", b"ffconcat version 1.0\nfile real.ts\n"),
        ("dash.mp4", b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>"),
        ("session.mp4", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"),
        ("noise.mp4", np.random.default_rng(0).bytes(5000)),
    ],
)
def test_what_leads_elsewhere_is_no_video(tmp_path, name, content):
    write(tmp_path / "real.ts")
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert "playlists are not followed" in message
    assert f"ffmpeg -i {tmp_path / name} " in message


@pytest.mark.parametrize(
    "name", ["concat:real.ts", "subfile,,start,0,end,0,,:real.ts", "http://x/y"]
)
def test_names_are_files_and_no_addresses(tmp_path, monkeypatch, name):
    write(tmp_path / "real.ts")
    monkeypatch.chdir(tmp_path)
    assert re.search("No such file|is no file", refusal(name))


def test_a_name_with_a_protocol_in_it_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x.mp4").rename("concat:a|b %20 'c'.mp4")
    assert numbers("concat:a|b %20 'c'.mp4") == list(range(50))


def test_what_is_no_video_file_is_named(tmp_path):
    (tmp_path / "empty.mp4").touch()
    assert "is empty" in refusal(tmp_path / "empty.mp4")
    assert "No such file" in refusal(tmp_path / "none.mp4")
    assert "is no file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "is no file" in refusal(tmp_path / "pipe.mp4")
    message = refusal(write_sound(tmp_path / "song.mp4"))
    assert "no moving picture (audio)" in message
    for kind in ("mkv", "mp4", "avi"):
        message = refusal(write(tmp_path / f"none.{kind}", []))
        assert re.search("End of file|no moving picture|no picture that can be decoded", message)
    path = write(tmp_path / "early.mp4")
    path.write_bytes(path.read_bytes()[:2000])
    assert "cut off" in refusal(path)


def test_a_cover_is_no_film(tmp_path):
    song = tmp_path / "song.mp4"
    with av.open(str(song), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        voice = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.VideoFrame.from_ndarray(picture(1, 64), "rgb24").reformat(format="yuvj420p")
        container.mux(cover.encode(frame))
        container.mux(cover.encode())
        speak(container, voice, 1.0)
    assert "no moving picture (audio and video)" in refusal(song)


def test_the_first_of_several_videos_is_read_and_told(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for side, stream in zip((128, 64), streams, strict=True):
            stream.width = stream.height = side
        for number in range(20):
            for side, stream, shown in zip((128, 64), streams, (number, 99), strict=True):
                frame = av.VideoFrame.from_ndarray(picture(shown, side), "rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    assert numbers(path, notes=[r"1 more .*64 x 64.*-map 0:v:1"]) == list(range(20))


def test_times_that_begin_anew_are_counted_on(tmp_path):
    one = write(tmp_path / "a.ts").read_bytes()
    two = write(tmp_path / "b.ts", [picture(n) for n in range(50, 100)]).read_bytes()
    (tmp_path / "both.ts").write_bytes(one + two)
    assert numbers(tmp_path / "both.ts", notes=["begin anew 1 times"]) == list(range(100))


def test_a_picture_that_stands_still_is_told(tmp_path):
    path = write(tmp_path / "x.mkv", [picture(n) for n in range(3)], [0, 40, 30_040])
    shown = numbers(path, fps=10, notes=[r"no new picture for 30\.0 s from 0\.04 s"])
    assert shown == [0, *[1] * 300, 2][: len(shown)]
    assert len(shown) in (301, 302)


def test_size_and_length_are_limited(tmp_path):
    path = write(tmp_path / "x.avi", codec="rawvideo", tick=Fraction(1, 25), pixels="bgr24")
    content = bytearray(path.read_bytes())
    place = content.index(b"strf") + 12  # width and height of a bitmap's header
    content[place : place + 8] = struct.pack("<ii", 16_000, 9_000)
    path.write_bytes(content)
    message = refusal(path)
    assert "more than 67,108,864 pixels" in message
    assert "scale=-2:720" in message
    flat = write(tmp_path / "flat.mp4", [np.zeros((16, 320, 3), np.uint8)])
    assert "320 x 16" in refusal(flat)
    hours = 1000 * (MOST_SECONDS + 60)
    path = write(tmp_path / "long.mkv", [picture(n) for n in range(2)], [0, hours])
    message = refusal(path)
    assert "48.0 hours" in message
    assert "-t 24:00:00" in message


def test_texts_that_are_no_utf_8(tmp_path):
    path = write(tmp_path / "x.mp4")
    path = rewritten(path, {}, title="caf!")
    path.write_bytes(path.read_bytes().replace(b"caf!", b"caf\xe9"))
    assert numbers(path) == list(range(50))


def test_without_pyav_it_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'segtad-jax\[video\]'"):
        open_video(write_bytes(tmp_path / "x.mp4"), fps=25.0, size=SIZE)


def write_bytes(path):
    path.write_bytes(b"something")
    return path


def test_videos_on_an_object_store_are_fetched(tmp_path, monkeypatch):
    folder = bucket_in(tmp_path / "store", monkeypatch)
    folder.mkdir(parents=True)
    write(tmp_path / "x.mp4").rename(folder / "x.mp4")
    assert numbers("gs://bucket/x.mp4") == list(range(50))
    assert "gs://bucket/y.mp4" in refusal("gs://bucket/y.mp4")
