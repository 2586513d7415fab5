"""Detect actions in a recording with this exported model: python run.py FEATURES.npy --rate=HZ.

FEATURES.npy holds one array [frames, channels], as `preparation` in model.json makes it of what was
recorded: neither raw signals nor, where recordings are resized, frames of any other number.

Needs jax, numpy and flatbuffers (with which jax.export reads files); nothing of segtad_jax.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

FOLDER = Path(__file__).resolve().parent


def load(folder: Path = FOLDER) -> tuple[Callable, dict[str, Any]]:
    """The function (features, num_frames, offset) -> (scores, segments, labels) and model.json."""
    model = json.loads((folder / "model.json").read_text())
    exported = jax.export.deserialize(bytearray((folder / model["function"]["file"]).read_bytes()))
    return jax.jit(exported.call), model


def windows(features: np.ndarray, model: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """One recording as the function takes it: features [1, w, T, C], num_frames and offset [1, w].

    Args:
        features: [frames, C], made and normalised as `preparation` in model.json says.
        model: of `load`.

    Raises:
        ValueError: another shape than the model takes, or values that are no numbers.
    """
    channels, size = model["channels"], model["windows"]["frames"]
    if features.ndim != 2 or features.shape[1] != channels or not len(features):
        raise ValueError(
            f"features are {list(features.shape)}, expected [frames, {channels}], made as "
            "`preparation` in model.json says"
        )
    resized = model["preparation"]["num_frames"]
    if resized and len(features) != resized:
        how = model["preparation"]["resize"]
        raise ValueError(f"{len(features)} frames; resize every recording to {resized} ({how})")
    wrong = np.argwhere(~np.isfinite(features))
    if len(wrong):
        frame, channel = wrong[0]
        value = features[frame, channel]
        raise ValueError(f"frame {frame}, channel {channel} is {value}; {len(wrong)} such values")
    step, rest = model["windows"]["step"], max(len(features) - size, 0)
    offset = np.arange(0, rest + step, step)
    if model["windows"]["whole"]:
        offset = np.minimum(offset, rest)
    num_frames = np.minimum(size, len(features) - offset)
    cut = np.zeros((len(offset), size, channels), np.float32)
    for window, first, frames in zip(cut, offset, num_frames, strict=True):
        window[:frames] = features[first : first + frames]
    return cut[None], num_frames[None].astype(np.int32), offset[None].astype(np.int32)


def detect(
    function: Callable,
    model: dict[str, Any],
    features: np.ndarray,
    rate: float,
    threshold: float | str = 0.0,
) -> list[dict[str, Any]]:
    """Actions of one recording, best first, in seconds; `rate` in frames of `features` a second.

    Args:
        function: of `load`.
        model: of `load`.
        features: see `windows`.
        rate: frames of `features` a second.
        threshold: the least score; "auto" for `thresholds` of model.json, one for each class.

    Raises:
        ValueError: as `windows`, or the model has no thresholds, or makes no numbers of this.
    """
    given = dict.fromkeys(model["labels"], threshold)
    chosen = model["thresholds"] if threshold == "auto" else given
    if chosen is None:
        raise ValueError("the model has no thresholds: give a number instead of auto")
    scores, segments, labels = map(np.asarray, function(*windows(features, model)))
    if np.isnan(scores).any():
        raise ValueError(
            "the network makes NaN or infinity of these features: they have values that training "
            "never had, or the training failed"
        )
    seconds = np.clip(segments[0] / rate, 0, len(features) / rate)
    return [
        {"label": model["labels"][label], "segment": [float(start), float(end)], "score": score}
        for score, (start, end), label in zip(scores[0].tolist(), seconds, labels[0], strict=True)
        if label >= 0 and end > start and score >= chosen[model["labels"][label]]  # -1 fills up
    ]


def score(text: str) -> float | str:
    """The value of --threshold."""
    return text if text == "auto" else float(text)


def main() -> None:
    """Prints the actions as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", help="npy file, [frames, channels], see above")
    parser.add_argument(
        "--rate", type=float, help="frames of FEATURES a second; default: as in training"
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
    rate = model["rate"] if given.rate is None else given.rate
    if rate is not None and rate <= 0:
        sys.exit(f"error: --rate={rate:g} is not above 0")
    if rate is None:
        sys.exit(
            "error: the model does not know the rate of its features: give --rate=HZ, the frames "
            "of FEATURES.npy divided by the seconds of the recording"
        )
    try:
        features = np.load(given.features, allow_pickle=False)
        if not isinstance(features, np.ndarray):
            raise ValueError(f"{given.features} holds several arrays; give an .npy file, with one")
        found = detect(function, model, features, rate, given.threshold)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
