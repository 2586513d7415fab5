"""Videos with exact annotations: a camera moves over photographs.

    python -m benchmarks.camera_moves --output=DIR [--photographs=FOLDER] [--seconds=60] [--each=2]

Between rests it pans, tilts, zooms, rolls or shakes; the moves are the actions. Neither the rests
nor the cuts to another place, which lie in them, are annotated. The pixels are real: without
--photographs they are those of scikit-image and scikit-learn, if these are installed. Every third
photograph validates, so that no picture is on both sides.
"""

import argparse
import importlib.util
import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

MOVES = ("pan", "tilt", "zoom", "roll", "shake")
RATE = 25  # pictures a second
SIZE = 320, 240  # pixels
LENGTHS = 2.0, 5.0  # seconds of a move or a rest, at least and at most
CUTS = 0.3  # of the rests
MARGIN = 0.25  # of a photograph, mirrored around it for views that look beyond
SMALLEST = 300  # pixels
INSTALLED = {"skimage": "data", "sklearn": "datasets/images"}  # folders of photographs
NO_PHOTOGRAPHS = {
    "cell", "chessboard_GRAY", "chessboard_RGB", "clock_motion", "color", "horse", "logo",
    "microaneurysms", "motorcycle_right", "page", "phantom", "text",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the videos and annotations.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=Path, help="a folder")
    parser.add_argument("--photographs", type=Path, help="a folder of jpg and png")
    parser.add_argument("--seconds", type=float, default=60, help="of a video")
    parser.add_argument("--each", type=int, default=2, help="videos of a photograph")
    flags = parser.parse_args(arguments)
    database = {}
    for number, path in enumerate(photographs(flags.photographs)):
        for take in range(flags.each):
            video = f"{path.stem}_{take}"
            views, actions = choreography(np.random.default_rng([number, take]), flags.seconds)
            write_video(flags.output / f"{video}.mp4", film(Image.open(path), views))
            database[video] = {
                "subset": "validation" if number % 3 == 2 else "training",
                "annotations": [{"segment": [a, b], "label": name} for a, b, name in actions],
            }
    content = json.dumps({"database": database}, indent=1)
    (flags.output / "annotations.json").write_text(content + "\n")
    print(
        f"python -m segtad_jax.prepare --name=moves --videos={flags.output} "
        f"--annotations={flags.output}/annotations.json --output=data"
    )


def photographs(folder: Path | None) -> list[Path]:
    """Returns those of a folder, or those that are installed, less diagrams and small ones."""
    folders = [folder] if folder else []
    for package, place in {} if folder else INSTALLED.items():
        if (spec := importlib.util.find_spec(package)) and spec.submodule_search_locations:
            folders.append(Path(spec.submodule_search_locations[0]) / place)
    found = [p for f in folders for p in sorted(f.glob("*.[jp][pn]g"))]
    found = [p for p in found if p.stem not in NO_PHOTOGRAPHS and min(_size(p)) >= SMALLEST]
    if len(found) < 3:
        raise SystemExit("too few photographs: pip install scikit-image, or --photographs=FOLDER")
    return found


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def choreography(
    random: np.random.Generator, seconds: float
) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """Returns views and actions.

    Returns:
        [n, 4], for each picture: x and y of the centre, and the width, in widths of the photograph
        (y in heights), and the angle in radians; and (start, end, move) in seconds.
    """
    views: list[np.ndarray] = []
    actions = []
    view = _place(random)
    while len(views) < seconds * RATE:
        rest, moving = np.round(random.uniform(*LENGTHS, 2) * RATE).astype(int)
        cut = random.integers(rest) if random.random() < CUTS else 0
        views += [view] * cut
        view = _place(random) if cut else view
        views += [view] * (rest - cut)
        move = MOVES[random.integers(len(MOVES))]
        path = _moved(random, view, move, moving)
        actions.append((len(views) / RATE, (len(views) + moving) / RATE, move))
        views += list(path)
        view = path[-1]
    views = views[: round(seconds * RATE)]
    whole = [(a, b, name) for a, b, name in actions if b <= len(views) / RATE]
    first = round(actions[-1][0] * RATE)
    if len(whole) < len(actions) and first < len(views):  # the last is cut: a rest instead
        views[first:] = [views[first - 1]] * (len(views) - first)
    hand = _sway(random, len(views), 0.2, 1.0, 0.001)  # that holds the camera
    return np.array(views) + hand, whole


def _place(random: np.random.Generator) -> np.ndarray:
    low, high = (0.35, 0.35, 0.35, -0.2), (0.65, 0.65, 0.55, 0.2)
    return random.uniform(low, high)


def _moved(random: np.random.Generator, view: np.ndarray, move: str, number: int) -> np.ndarray:
    """Returns the views while the camera moves, [number, 4]."""
    if move == "shake":
        return view + _sway(random, number, 3.0, 5.0, 0.012)
    goal, far = view.copy(), random.uniform(0.8, 1)
    if move in ("pan", "tilt"):  # to the other side
        axis = MOVES.index(move)
        goal[axis] += far * (0.36 if view[axis] < 0.5 else -0.36)
    elif move == "zoom":
        goal[2] *= 1 + 0.7 * far if view[2] < 0.42 else 1 / (1 + 0.7 * far)
    else:
        goal[3] += far * (0.6 if view[3] < 0 else -0.6)
    share = np.linspace(0, 1, number)[:, None]
    share = share * 0.6 + (3 * share**2 - 2 * share**3) * 0.4  # sets in and ends a little softly
    return view + (goal - view) * share


def _sway(
    random: np.random.Generator, number: int, slow: float, fast: float, width: float
) -> np.ndarray:
    """Returns a small unrest of x and y, of frequencies in Hz, [number, 4]."""
    hertz, phase = random.uniform(slow, fast, (3, 2)), random.uniform(0, 2 * np.pi, (3, 2))
    waves = np.sin(2 * np.pi * hertz * np.arange(number)[:, None, None] / RATE + phase)
    return np.pad(waves.mean(1) * width, ((0, 0), (0, 2)))


def film(photograph: Image.Image, views: np.ndarray) -> Iterator[np.ndarray]:
    """Yields a picture of each view, [height, width, 3]."""
    pixels = np.asarray(photograph.convert("RGB"))
    height, width, _ = pixels.shape
    around = [(round(MARGIN * height),) * 2, (round(MARGIN * width),) * 2, (0, 0)]
    canvas = Image.fromarray(np.pad(pixels, around, mode="symmetric"))
    for x, y, wide, angle in views:
        scale = wide * width / SIZE[0]
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        u, v = SIZE[0] / 2, SIZE[1] / 2
        left, top = (x + MARGIN) * width, (y + MARGIN) * height
        affine = (cos, -sin, left - cos * u + sin * v, sin, cos, top - sin * u - cos * v)
        yield np.asarray(
            canvas.transform(SIZE, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        )


def write_video(path: Path, pictures: Iterator[np.ndarray]) -> None:
    """Writes a video of RATE pictures a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(RATE))
        stream.width, stream.height = SIZE
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
