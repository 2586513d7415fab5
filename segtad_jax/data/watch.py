"""Smartwatch recordings composed of seglearn's trials: real signals, composed joins.

The PyPI package seglearn (BSD licence; Burns et al., arXiv 1802.01489) carries 140 trials of
shoulder exercises, one exercise each and no rest between. A recording here is a chain of excerpts
of one person's and side's trials, two exercises standing for background.
"""

import dataclasses
import hashlib
import importlib.util
import io
import itertools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from segtad_jax.data.clocks import Clock
from segtad_jax.data.preparation import FILE, Preparation
from segtad_jax.data.records import Record
from segtad_jax.data.signals import CONTEXT_OFFSETS, SignalTransform
from segtad_jax.data.value_range import ValueRange
from segtad_jax.evaluation.json_files import sealed

SIZE = 18_118_091  # bytes of the one file this is written for, of seglearn 1.2.5
SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"

SAMPLE_RATE = 50.0  # Hz
CLASSES = ("ABD", "ER", "FEL", "IR", "PEN")  # sorted; the other two exercises are background
# Acceleration along x, y, z, turning about x, y, z; x runs along the forearm.
AXES = ("ax", "ay", "az", "wx", "wy", "wz")
NUM_CHANNELS = 3 * len(AXES) * len(CONTEXT_OFFSETS)  # 3 statistics, the means first
WINDOW = 320  # frames, 64 s
EXAMPLE = "s08_0_0"  # of validation, whose raw samples lie beside the shards

PERSONS = range(1, 11)
LAST_TRAINING_PERSON = 7
SIDES = (0, 1)
REPETITIONS = 4
EXCERPTS = 16
BACKGROUND_PROBABILITY = 0.45
FIRST_BACKGROUND_EXERCISE = 5  # of seglearn's numbers 0..6
SHORTEST, LONGEST = 2, 12  # seconds of an excerpt

DESCRIPTION = (
    "Smartwatch recordings of shoulder exercises: signals of seglearn's load_watch (real), joined "
    "at random into continuous recordings of one person and side (composed). 6 axes at 50 Hz, as "
    "windowed statistics at 5 Hz in their temporal context, normalised by the training recordings."
)
CITATION = (
    "D. M. Burns, N. Leung, M. Hardisty, C. M. Whyne, P. Henry, S. McLachlin. Shoulder "
    "physiotherapy exercise recognition: machine learning the inertial signals from a smartwatch. "
    "Physiological Measurement 39 (2018). arXiv:1802.01489"
)


def records(split: str) -> Iterator[Record]:
    """Yields recordings of 'training' (persons 1..7) or 'validation' (8..10), as features.

    Raises:
        ModuleNotFoundError: seglearn is not installed.
        ValueError: its file is not the expected one.
    """
    signals = _signals()
    transform = _transform(signals["training"])
    for record in signals[split]:
        features = transform(record.features)
        yield dataclasses.replace(record, features=features, rate=transform.frame_rate)


def files() -> Iterator[tuple[str, str]]:
    """Yields names and texts of what lies beside the shards.

    These are how the features are made, and the raw samples of one validation recording as a table,
    to detect in as in any new recording.
    """
    signals = _signals()
    preparation = Preparation(
        name="watch",
        widths=(len(AXES),),
        rate=SAMPLE_RATE,
        num_frames=None,
        resize="half_pixel",
        window=WINDOW,
        dtype="float32",
        signals=_transform(signals["training"]),
        columns=(AXES,),
        clocks=(Clock("time", guessed="s"),),
        rates=(SAMPLE_RATE, SAMPLE_RATE),
        range=ValueRange.union(ValueRange.of([r.features]) for r in signals["training"]),
    )
    yield FILE, json.dumps(sealed(preparation.to_json())) + "\n"
    example = next(r.features for r in signals["validation"] if r.video == EXAMPLE)
    lines = [f"{n / SAMPLE_RATE:.2f},{','.join(map(str, row))}" for n, row in enumerate(example)]
    yield f"{EXAMPLE}.csv", "\n".join([",".join(["time", *AXES]), *lines, ""])


def _signals() -> dict[str, list[Record]]:
    """Returns the recordings of the splits as raw samples."""
    split: dict[str, list[Record]] = {"training": [], "validation": []}
    for person, record in compose(load_trials(find_trials())):
        split["training" if person <= LAST_TRAINING_PERSON else "validation"].append(record)
    return split


def _transform(training: list[Record]) -> SignalTransform:
    return SignalTransform.fit(SAMPLE_RATE, len(AXES), (record.features for record in training))


def find_trials() -> pathlib.Path:
    """Locates the file of seglearn, which is not imported: it needs an undeclared pandas.

    Raises:
        ModuleNotFoundError: seglearn is not installed.
    """
    spec = importlib.util.find_spec("seglearn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the watch data set is made from signals in the package seglearn, which is not "
            "installed: pip install 'segtad-jax[demo]' (or: pip install seglearn==1.2.5 --no-deps)"
        )
    return pathlib.Path(spec.submodule_search_locations[0]) / "data" / "watch_dataset.npy"


def load_trials(path: pathlib.Path) -> dict[str, Any]:
    """Loads seglearn's dictionary: X (signals [n, 6]), y (exercise), subject, side, y_labels.

    The file is a pickle, which runs code when it is loaded: so only this very file is.

    Raises:
        ValueError: another file than expected.
    """
    content = path.read_bytes() if path.exists() else b""
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise ValueError(
            f"{path} has {len(content)} bytes and SHA-256 {digest}; expected {SIZE} bytes and "
            f"{SHA256}, the file of seglearn 1.2.5. It is a pickle and was not loaded. "
            "Install that version: pip install seglearn==1.2.5 --no-deps"
        )
    return np.load(io.BytesIO(content), allow_pickle=True).item()


def compose(trials: dict[str, Any]) -> Iterator[tuple[int, Record]]:
    """Yields (person, raw recording) in one order and from one random state: always the same 80."""
    random = np.random.RandomState(0)
    for person, side, repetition in itertools.product(PERSONS, SIDES, range(REPETITIONS)):
        chosen = np.flatnonzero((trials["subject"] == person) & (trials["side"] == side))
        signal, segments, labels = _chain(trials, chosen, random)
        record = Record(
            video=f"s{person:02d}_{side}_{repetition}",
            features=signal,
            rate=SAMPLE_RATE,
            duration=len(signal) / SAMPLE_RATE,
            segments=segments,
            labels=labels,
        )
        yield person, record


def _chain(
    trials: dict[str, Any], chosen: np.ndarray, random: np.random.RandomState
) -> tuple[Float[np.ndarray, "n 6"], Float[np.ndarray, "actions 2"], tuple[str, ...]]:
    """Joins excerpts of the chosen trials into the signal, segments (s) and labels of a recording.

    The order of the random draws is part of the definition.
    """
    background = trials["y"][chosen] >= FIRST_BACKGROUND_EXERCISE
    excerpts, segments, labels = [], [], []
    position, previous = 0, None
    for _ in range(EXCERPTS):
        rest = random.rand() < BACKGROUND_PROBABILITY
        candidates = chosen[background if rest else ~background & (chosen != previous)]
        previous = candidates[random.randint(len(candidates))]
        trial = trials["X"][previous]
        length = int(SAMPLE_RATE * random.uniform(SHORTEST, LONGEST))
        start = random.randint(max(1, len(trial) - length))
        excerpt = trial[start : start + length]
        stop = position + len(excerpt)
        if not rest:
            segments.append((position / SAMPLE_RATE, stop / SAMPLE_RATE))
            labels.append(trials["y_labels"][trials["y"][previous]])
        excerpts.append(excerpt)
        position = stop
    return np.concatenate(excerpts), np.array(segments).reshape(-1, 2), tuple(labels)
