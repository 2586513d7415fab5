"""Video files of any kind, made here: each picture says in black and white which one it is."""

import struct
from fractions import Fraction

import av
import numpy as np

BITS = 8  # of a picture's number, as rows of black or white that survive any compression
SIDE = 128  # pixels


def picture(number, side=SIDE):
    """A square whose BITS middle rows are the number, the least bit on top."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)])
    inner = np.repeat(bits, side * 3 // 4 // BITS)
    gray = np.pad(inner, (side - len(inner)) // 2) * 255
    return np.broadcast_to(gray[:, None, None], (side, side, 3)).astype(np.uint8)


def number_of(square):
    """The number in a picture that was scaled and cropped by 224 / 256."""
    side = len(square) * 8 / 7
    at = side / 16 + (np.arange(BITS) + 0.5) * side * 3 / 4 / BITS
    return int(((square.mean(axis=(1, 2))[at.round().astype(int)] > 128) << np.arange(BITS)).sum())


def write(
    path, pictures=None, times=None, *, codec="libx264", tick=Fraction(1, 1000), form=None,
    options=None, aspect=None, sound=0.0, rate=25, pixels="yuv420p", **attributes,
):  # fmt: skip
    """Writes pictures that begin at `times` ticks, and so many seconds of silence."""
    pictures = [picture(n) for n in range(50)] if pictures is None else pictures
    times = [round(n / rate / tick) for n in range(len(pictures))] if times is None else times
    with av.open(str(path), "w", format=form) as container:
        height, width = pictures[0].shape[:2] if pictures else (SIDE, SIDE)
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.time_base = stream.codec_context.time_base = tick
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in attributes.items():
            setattr(stream.codec_context, name, value)
        voice = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for image, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = time, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode() if pictures else [])
        container.start_encoding()
        if voice:
            speak(container, voice, sound)
    return path


def write_sound(path, seconds=1.0):
    with av.open(str(path), "w") as container:
        speak(container, container.add_stream("aac", rate=16_000, layout="mono"), seconds)
    return path


def speak(container, voice, seconds):
    for start in range(0, int(16_000 * seconds), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
        container.mux(voice.encode(frame))
    container.mux(voice.encode())


def turn(path, matrix):
    """Sets the first four numbers of the display matrix of an mp4, as a phone does."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version 0: times, layer, volume
    a, b, c, d = (struct.pack(">i", number << 16) for number in matrix)
    content[place : place + 36] = b"".join(
        [a, b, bytes(4), c, d, bytes(4), bytes(8), struct.pack(">i", 1 << 30)]
    )
    path.write_bytes(content)
    return path
