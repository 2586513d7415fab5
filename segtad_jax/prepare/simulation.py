"""Simulates features for real annotations, so that everything can be tried without the real ones.

A class is a direction in feature space, drowned in noise; one frame says little of its class, so
that the nearest prototype of each frame does not solve what temporal context does.
"""

import dataclasses
import zlib
from collections.abc import Mapping

import numpy as np
from etils import epath

from segtad_jax.data.feature_files import FeatureError, Stored
from segtad_jax.data.features import Source
from segtad_jax.data.synthetic import class_prototypes
from segtad_jax.prepare.annotations import Annotations

SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class _Simulated(Source):
    annotations: Annotations
    labels: dict[str, int]  # 1..D by the names of the classes
    durations: Mapping[str, float]
    num_frames: int | None
    rate: float | None
    prototypes: np.ndarray  # [D + 1, C]; 0 is the background

    def read(self, video: str) -> Stored:
        """Returns prototypes of the frames' classes and noise of deviation 1; always the same."""
        entry = self.annotations.videos[video]
        seconds = self.durations.get(video, entry.duration)
        if seconds is None:
            raise FeatureError("no_length", "no duration to simulate: give --durations")
        frames = self.num_frames or max(round(seconds * (self.rate or 1.0)), 1)
        kinds = np.zeros(frames, int)
        for action in entry.actions:
            start, stop = np.clip(np.array([action.start, action.end]) / seconds, 0, 1) * frames
            kinds[int(start) : int(np.ceil(stop))] = self.labels[action.label]
        random = np.random.default_rng([SEED, zlib.crc32(video.encode())])
        noise = random.standard_normal((frames, self.prototypes.shape[1]), np.float32)
        return Stored(self.prototypes[kinds] + noise)


def simulated(
    annotations: Annotations,
    channels: int,
    *,
    durations: Mapping[str, float],
    num_frames: int | None,
    rate: float | None,
) -> Source:
    """Returns a source that has features for every annotated video.

    It has `num_frames`, or else as many as its duration has at `rate` per second; `durations`
    are seconds by `match_id`, besides the annotations'.
    """
    labels = {label: number for number, label in enumerate(annotations.classes, start=1)}
    nowhere = epath.Path("simulated")
    return _Simulated(
        path=nowhere,
        places=dict.fromkeys(annotations.videos, (nowhere, None)),
        names={key: video.video for key, video in annotations.videos.items()},
        defects=(),
        annotations=annotations,
        labels=labels,
        durations=durations,
        num_frames=num_frames,
        rate=rate,
        prototypes=class_prototypes(len(labels), channels, SEED).astype(np.float32),
    )
