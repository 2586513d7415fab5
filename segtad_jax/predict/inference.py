"""Applies a trained network to recordings; one of which it makes NaN fails alone."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float
from ml_collections import ConfigDict

from segtad_jax.data.dataset import Dataset, Recording
from segtad_jax.detector import Detector, NotFiniteError
from segtad_jax.postprocess import Detection
from segtad_jax.predict.inputs import Input
from segtad_jax.runtime import parallel


class Found(NamedTuple):
    """Results of a network by the ids of recordings, as in `Detected`, and failures."""

    detections: dict[str, list[Detection]]
    probabilities: dict[str, Float[np.ndarray, "F K"]]  # {} if not segmented
    notes: dict[str, str]
    failures: dict[str, str]  # why there is nothing of these


class Inference:
    """A network and its variables on the devices, compiled at first use."""

    def __init__(
        self,
        config: ConfigDict,
        classes: Sequence[str],
        variables: Mapping[str, Any],
        *,
        segments: bool = False,
    ) -> None:
        """Compiles nothing yet.

        Args:
            config: of the run.
            classes: names of the labels 1..D.
            variables: {"params", "batch_stats"}.
            segments: whether recordings are also segmented, in the same pass.
        """
        self.detector = Detector(config, classes, segments=segments)
        self.variables = parallel.replicate(variables)  # once for all calls
        self._classes, self._segments = tuple(classes), segments

    def detect(self, inputs: Sequence[Input]) -> Found:
        """Detects in recordings that `InputMaker` made."""
        arrays = {recording.video: features for recording, features, _ in inputs}
        dataset = Dataset(
            directory=epath.Path("."),
            name="memory",
            classes=self._classes,
            num_channels=next((array.shape[1] for array in arrays.values()), 0),
            dtype=np.dtype(np.float32),
            splits={},
            read=lambda recording: arrays[recording.video],
        )
        return self.detect_in(dataset, [recording for recording, _, _ in inputs])

    def detect_in(self, dataset: Dataset, recordings: Sequence[Recording]) -> Found:
        """Detects in recordings of an opened data set."""
        segmented = len(recordings) if self._segments else 0
        try:
            detected = self.detector.detect(
                self.variables, dataset, recordings, segmented=segmented
            )
        except NotFiniteError as error:
            failures = {}
            for recording in recordings:
                if recording.video in error.videos:
                    features = dataset.features(recording)
                    at = np.unravel_index(np.abs(features).argmax(), features.shape)
                    failures[recording.video] = (
                        "the network makes NaN or infinity of it; the largest of its features is "
                        f"{features[at]:g} at frame {at[0]}, channel {at[1]}"
                    )
            others = [r for r in recordings if r.video not in failures]
            return self.detect_in(dataset, others)._replace(failures=failures)
        return Found(*detected, failures={})
