"""Detect actions in a recording with this exported model: python run.py RECORDING.npy --rate=HZ.

RECORDING.npy holds one array [frames, channels] as it was recorded: raw samples where the model was
trained on signals, else features; of several sources, one file each, in their order in training.

Needs jax, numpy and flatbuffers (with which jax.export reads files); nothing of segtad_jax.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from segtad_jax.data.resizing import RESIZERS, with_channels
from segtad_jax.data.signals import SignalTransform

FOLDER = Path(__file__).resolve().parent


def load(folder: Path = FOLDER) -> tuple[Callable, dict[str, Any]]:
    """The function (features, num_frames, offset) -> (scores, segments, labels) and model.json."""
    model = json.loads((folder / "model.json").read_text())
    exported = jax.export.deserialize(bytearray((folder / model["function"]["file"]).read_bytes()))
    return jax.jit(exported.call), model


def prepare(
    sources: Sequence[np.ndarray], model: dict[str, Any], rate: float | None = None
) -> tuple[np.ndarray, float, float]:
    """Features [frames, C] of a recording, how many there are a second, and its seconds.

    Args:
        sources: [frames, channels] each, as recorded: raw samples of a model of signals.
        model: of `load`.
        rate: frames of the sources a second; may be left out where the model knows it.

    Raises:
        ValueError: other shapes or another rate than the model takes, or values that are no
            numbers.
    """
    preparation = model["preparation"]
    widths = preparation["widths"]
    if [s.shape[1:] for s in sources] != [(w,) for w in widths] or not all(map(len, sources)):
        expected = ", ".join(f"[frames, {width}]" for width in widths)
        shapes = ", ".join(str(list(source.shape)) for source in sources)
        raise ValueError(f"expected {expected}, for `widths` in model.json, but got {shapes}")
    for source in sources:
        if source.dtype.kind not in "fiu":
            raise ValueError(f"expected numbers, but got {source.dtype}")
        if len(wrong := np.argwhere(~np.isfinite(source))):
            frame, channel = wrong[0]
            value = source[frame, channel]
            raise ValueError(f"frame {frame}, channel {channel} is {value}; {len(wrong)} such")
    rate = model["rate"] if rate is None else float(rate)
    if rate is None:
        raise ValueError(
            "the model does not know the rate: give --rate=HZ, the frames of the file divided by "
            "the seconds of the recording"
        )
    low, high = model["rates"] or (0.0, np.inf)
    if not (0 < rate < np.inf and 0.99 * low <= rate <= 1.01 * high):
        raise ValueError(f"the rate is {rate:g} Hz, and training's was {low:g} to {high:g} Hz")
    features = with_channels([source.astype(np.float32) for source in sources])
    covered = seconds = len(features) / rate
    if preparation["signals"]:  # which may end within a frame
        transform = SignalTransform.from_json(preparation["signals"])
        features = transform(features)
        covered = len(features) / (rate / transform.samples)
    if preparation["num_frames"]:
        features = RESIZERS[preparation["resize"]](features, preparation["num_frames"])
    return features, len(features) / covered, seconds


def windows(features: np.ndarray, model: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """One recording as the function takes it: features [1, w, T, C], num_frames and offset [1, w].

    Args:
        features: [frames, C], of `prepare`.
        model: of `load`.
    """
    size = model["windows"]["frames"]
    step, rest = model["windows"]["step"], max(len(features) - size, 0)
    offset = np.arange(0, rest + step, step)
    if model["windows"]["whole"]:
        offset = np.minimum(offset, rest)
    num_frames = np.minimum(size, len(features) - offset)
    cut = np.zeros((len(offset), size, features.shape[1]), np.float32)
    for window, first, frames in zip(cut, offset, num_frames, strict=True):
        window[:frames] = features[first : first + frames]
    return cut[None], num_frames[None].astype(np.int32), offset[None].astype(np.int32)


def detect(
    function: Callable,
    model: dict[str, Any],
    sources: Sequence[np.ndarray],
    rate: float | None = None,
    threshold: float | str = 0.0,
) -> list[dict[str, Any]]:
    """Actions of one recording, best first, in seconds.

    Args:
        function: of `load`.
        model: of `load`.
        sources: see `prepare`.
        rate: see `prepare`.
        threshold: the least score; "auto" for `thresholds` of model.json, one for each class.

    Raises:
        ValueError: as `prepare`, or the model has no thresholds, or makes no numbers of this.
    """
    given = dict.fromkeys(model["labels"], threshold)
    chosen = model["thresholds"] if threshold == "auto" else given
    if chosen is None:
        raise ValueError("the model has no thresholds: give a number instead of auto")
    features, a_second, duration = prepare(sources, model, rate)
    scores, segments, labels = map(np.asarray, function(*windows(features, model)))
    if np.isnan(scores).any():
        raise ValueError(
            "the network makes NaN or infinity of this recording: it has values that training "
            "never had, or the training failed"
        )
    seconds = np.clip(segments[0] / a_second, 0, duration)
    return [
        {"label": model["labels"][label], "segment": [float(start), float(end)], "score": score}
        for score, (start, end), label in zip(scores[0].tolist(), seconds, labels[0], strict=True)
        if label >= 0 and end > start and score >= chosen[model["labels"][label]]  # -1 fills up
    ]


def score(text: str) -> float | str:
    """The value of --threshold."""
    if text != "auto" and not float(text) >= 0:  # nor NaN
        raise ValueError
    return text if text == "auto" else float(text)


def main() -> None:
    """Prints the actions as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", metavar="RECORDING.npy", help="see above")
    parser.add_argument(
        "--rate", type=float, help="frames of RECORDING.npy a second; default: as in training"
    )
    parser.add_argument(
        "--threshold",
        type=score,
        default=0.0,
        metavar="auto|X",
        help="least score; auto: each class's own, of model.json; default: 0, all",
    )
    given = parser.parse_args()
    function, model = load()
    try:
        sources = [np.load(path, allow_pickle=False) for path in given.sources]
        if not all(isinstance(source, np.ndarray) for source in sources):
            raise ValueError("a file holds several arrays; give .npy files, with one each")
        found = detect(function, model, sources, given.rate, given.threshold)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
