"""Synthetic recordings: a class is a direction in feature space, drowned in noise.

A single frame says little of its class and many in a row say all, so that temporal context is what
solves them.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from segtad_jax.data.records import Record

RATE = 5.0  # frames per second
PROTOTYPE_LENGTH = 2.0  # with noise of 1: a frame's class can be guessed, a run of frames is clear
SHORTEST, LONGEST = 8, 40  # frames of an action
SHORTEST_GAP, LONGEST_GAP = 4, 16  # frames of background before each
DESCRIPTION = "Synthetic recordings: noisy prototypes of classes, in actions of 8 to 40 frames."


@dataclasses.dataclass(frozen=True)
class World:
    """The distribution that synthetic recordings are drawn from."""

    num_frames: int  # of every recording
    num_channels: int  # C
    num_classes: int  # D
    noise: float  # standard deviation in every channel, around the class's prototype
    seed: int


def records(split: str, number: int, world: World) -> Iterator[Record]:
    """Yields `number` recordings of a split, always the same for the same arguments."""
    prototypes = class_prototypes(world.num_classes, world.num_channels, world.seed)
    for index in range(number):
        random = np.random.default_rng([world.seed, *split.encode(), index])
        yield _record(f"{split}_{index:04d}", prototypes, world, random)


def class_names(num_classes: int) -> tuple[str, ...]:
    """Returns names in sorted order, `class_00` for label 1."""
    return tuple(f"class_{index:02d}" for index in range(num_classes))


def class_prototypes(
    num_classes: int, num_channels: int, seed: int
) -> Float[np.ndarray, "classes C"]:
    """Returns mean features of background and classes 1..D, each vector of PROTOTYPE_LENGTH."""
    random = np.random.default_rng(seed)
    prototypes = random.standard_normal((num_classes + 1, num_channels))
    lengths = np.linalg.norm(prototypes, axis=1, keepdims=True)
    return PROTOTYPE_LENGTH * prototypes / lengths


def _record(
    video: str,
    prototypes: Float[np.ndarray, "classes C"],
    world: World,
    random: np.random.Generator,
) -> Record:
    segments, labels = _actions(world, random)
    frame_classes = np.zeros(world.num_frames, int)
    for (start, stop), label in zip(segments, labels, strict=True):
        frame_classes[start:stop] = label
    features = prototypes[frame_classes]
    features = features + world.noise * random.standard_normal(features.shape)
    names = class_names(world.num_classes)
    return Record(
        video=video,
        features=features.astype(np.float32),
        rate=RATE,
        duration=world.num_frames / RATE,
        segments=segments / RATE,
        labels=tuple(names[label - 1] for label in labels),
    )


def _actions(
    world: World, random: np.random.Generator
) -> tuple[Int[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """Draws segments in frames, one after the other with gaps between, and labels 1..D."""
    segments = []
    start = int(random.integers(SHORTEST_GAP, LONGEST_GAP + 1))
    while start + SHORTEST <= world.num_frames:
        length = int(random.integers(SHORTEST, LONGEST + 1))
        stop = min(start + length, world.num_frames)
        segments.append((start, stop))
        start = stop + int(random.integers(SHORTEST_GAP, LONGEST_GAP + 1))
    labels = random.integers(1, world.num_classes + 1, size=len(segments))
    return np.array(segments, int).reshape(-1, 2), labels
