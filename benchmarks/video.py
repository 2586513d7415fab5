"""I3D's features of video: the network alone, with decoding, and the memory of the process.

    python -m benchmarks.video [FILE] [--size=224] [--frames=250] [--json=OUT]

The network alone gets frames from memory, `--frames` of them. FILE is decoded again and again until
there are as many. A row is one frame of it; accelerators have one in each number format.
"""

import argparse
import collections
import dataclasses
import functools
import itertools
import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from benchmarks.measure import Effort, Measurement, Results
from segtad_jax.runtime import startup
from segtad_jax.video import i3d
from segtad_jax.video.backbones import Backbone
from segtad_jax.video.decode import open_video
from segtad_jax.video.extract import features

GFLOP = 48.6 / 16 / 224**2  # of a pixel of a frame; convolutions, counted from shapes


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="a video")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--frames", type=int, default=250, help="how many of them")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a row, at least")
    parser.add_argument("--json", type=Path, help="a file to write")
    flags = parser.parse_args(arguments)
    startup.keep_compiled_programs()
    accelerated = jax.default_backend() != "cpu"
    formats = ("bfloat16", "float32") if accelerated else ("float32",)
    results = Results("video", {"size": flags.size, "frames": flags.frames})
    results.add_peaks(flags.seconds, formats)
    for kind in formats:
        variant = i3d.Variant(folded=not accelerated, dtype=jnp.dtype(kind))
        backbone = i3d.create(size=flags.size, variant=variant)
        results.rows += rows(backbone, kind, flags.file, flags.frames, Effort(flags.seconds, 2))
    results.add_peaks(flags.seconds, formats)
    print(measure.table(results))
    if flags.json:
        measure.write(results, flags.json)


def rows(
    backbone: Backbone, kind: str, file: str | None, number: int, effort: Effort
) -> Iterator[Measurement]:
    """The network alone, and with decoding."""
    shape = (min(number, 64), backbone.size, backbone.size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def decoded() -> Iterator[np.ndarray]:
        while True:
            yield from open_video(file, fps=backbone.fps, size=backbone.size).frames()

    def timed(name: str, source: Callable[[], Iterator[np.ndarray]]) -> Measurement:
        def extract() -> None:
            collections.deque(features(itertools.islice(source(), number), backbone), maxlen=0)

        gflop = GFLOP * backbone.size**2
        row = measure.timed(f"{name}, {kind}", extract, effort, number, gflop=gflop, peak=kind)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        note = f"{1e3 / row.value:.1f} frames/s; the process had {resident:,.0f} MB at most"
        return dataclasses.replace(row, note=note)

    yield timed("network", functools.partial(itertools.cycle, noise))
    if file:
        yield timed("with decoding", decoded)


if __name__ == "__main__":
    main()
