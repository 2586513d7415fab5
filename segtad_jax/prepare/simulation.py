"""Features for real annotations: so that a data set goes through everything without its features.

A class is a direction in feature space, drowned in noise; one frame says little of its class, so
that the nearest prototype of each frame does not solve what temporal context does.
"""

import dataclasses
import zlib
from collections.abc import Mapping

import numpy as np
from etils import epath

from segtad_jax.data.feature_files import FeatureError
from segtad_jax.data.features import Source
from segtad_jax.data.synthetic import PROTOTYPE_LENGTH
from segtad_jax.prepare.annotations import Annotations

SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class _Simulated(Source):
    annotations: Annotations
    durations: Mapping[str, float]
    num_frames: int | None
    rate: float | None
    prototypes: np.ndarray  # [D + 1, C]; 0 is the background

    def read(self, video: str) -> np.ndarray:
        """Prototypes of the classes of the frames, and noise of deviation 1; always the same."""
        entry = self.annotations.videos[video]
        seconds = self.durations.get(video, entry.duration)
        if seconds is None:
            raise FeatureError("no_length", "no duration to simulate: give --durations")
        frames = self.num_frames or max(round(seconds * (self.rate or 1.0)), 1)
        classes = self.annotations.classes
        kinds = np.zeros(frames, int)
        for action in entry.actions:
            start, stop = np.clip(np.array([action.start, action.end]) / seconds, 0, 1) * frames
            kinds[int(start) : int(np.ceil(stop))] = classes.index(action.label) + 1
        random = np.random.default_rng([SEED, zlib.crc32(video.encode())])
        noise = random.standard_normal((frames, self.prototypes.shape[1]), np.float32)
        return self.prototypes[kinds] + noise


def simulated(
    annotations: Annotations,
    channels: int,
    *,
    durations: Mapping[str, float],
    num_frames: int | None,
    rate: float | None,
) -> Source:
    """A source that has features for every annotated video.

    Args:
      annotations: of all videos.
      channels: C.
      durations: seconds by `match_id`, besides the annotations'.
      num_frames: of every video, or None: its duration at `rate`.
      rate: frames per second.
    """
    random = np.random.default_rng(SEED)
    prototypes = random.standard_normal((len(annotations.classes) + 1, channels))
    lengths = np.linalg.norm(prototypes, axis=1, keepdims=True)
    nowhere = epath.Path("simulated")
    return _Simulated(
        nowhere,
        dict.fromkeys(annotations.videos, (nowhere, None)),
        {key: video.video for key, video in annotations.videos.items()},
        (),
        annotations,
        durations,
        num_frames,
        rate,
        (PROTOTYPE_LENGTH * prototypes / lengths).astype(np.float32),
    )
