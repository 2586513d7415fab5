"""Videos to test with, and a network for them that needs no weights."""

from fractions import Fraction

import av
import jax
import jax.numpy as jnp
import numpy as np

from segtad_jax.video.backbones import Backbone

RATE = 10  # pictures a second of the videos
MOTION = "tests.video_cases:motion"


def motion(fps=10.0, size=32, weights=None):
    """How a picture is shifted and scaled from one to the next: by its derivatives, as Lucas and
    Kanade; and how bright it is."""

    def apply(frames):
        grey = frames.astype(jnp.float32).mean(-1) / 255  # [n, size, size]
        before = jnp.concatenate([grey[:1], grey[:-1]])
        change, (down, across) = grey - before, jnp.gradient(before, axis=(1, 2))
        place = jnp.linspace(-1, 1, size)
        outward = across * place + down * place[:, None]
        directions = jnp.stack([across, down, outward])
        shift = -(change * directions).sum((2, 3)) / ((directions**2).sum((2, 3)) + 1e-3)
        size_of = jnp.abs(change).mean((1, 2))[None]
        rows = jnp.concatenate([shift, size_of, grey.mean((1, 2))[None]])  # [5, n]
        return rows.reshape(5, -1, 2).mean(-1).T

    return Backbone("", fps, size, stride=2, context=2, channels=5, apply=jax.jit(apply))


def write_video(path, frames, rate=RATE, codec="mpeg4"):
    """Writes RGB pictures [height, width, 3] of even sides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate))
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for frame in frames:
            if not stream.width:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def noise(seconds, seed=0):
    """A picture that wanders over another one."""
    random = np.random.default_rng(seed)
    ground = random.integers(0, 255, (20, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    at = 40 + np.cumsum(random.normal(size=(round(seconds * RATE), 2)), axis=0)
    for y, x in np.clip(at.astype(int), 0, 95):
        yield ground[y : y + 64, x : x + 64]
