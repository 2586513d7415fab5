"""Detections and frame probabilities of one recording, as `Trained` returns them."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from segtad_jax.data.dataset import Recording
from segtad_jax.data.timeline import date_after
from segtad_jax.evaluation.confidence import Knots, confidence_of
from segtad_jax.evaluation.ids import whole_id
from segtad_jax.postprocess import Detection

BACKGROUND = "background"  # class 0 of frames


class Detections(list[Detection]):
    """A list of the detections in one recording, best first.

    Attributes:
        date: when the recording began, ISO 8601; '' if its times are no dates.
        confidences: of each detection, how often one of such a score is right (0..1); None where
            the run has none, or for other settings.
    """

    def __init__(
        self, rows: Iterable[Detection] = (), date: str = "", knots: Knots | None = None
    ) -> None:
        super().__init__(rows)
        self.date, self._knots = date, knots

    @property
    def confidences(self) -> list[float] | None:
        """Confidences, in the list's order."""
        if not self._knots:
            return None
        return confidence_of([detection.score for detection in self], self._knots).tolist()

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON's types.

        {"detections": [{"score", "segment": [start, end], "label"}, ...]}, with segments in
        seconds. Where there is a date it is "date", and each has "times", the dates of its segment;
        where there are confidences, each has "confidence".
        """
        rows = [detection.to_dict() for detection in self]
        for row, confidence in zip(rows, self.confidences or (), strict=False):
            row["confidence"] = confidence
        if not self.date:
            return {"detections": rows}
        for row in rows:
            row["times"] = [date_after(self.date, seconds) for seconds in row["segment"]]
        return {"date": self.date, "detections": rows}


class FrameProbabilities(NamedTuple):
    """Probabilities of the classes of every frame of one recording (Eq. 3)."""

    probabilities: Float[np.ndarray, "F K"]  # K = D + 1; each row sums to 1
    times: Float[np.ndarray, " F"]  # seconds, of the frames' middles
    classes: tuple[str, ...]  # K names, the first is BACKGROUND
    detections: Detections  # of the same pass of the network


def frame_times(recording: Recording) -> Float[np.ndarray, " F"]:
    """Returns the middles of the frames in seconds; of a piece, in those of its whole recording."""
    return whole_id(recording.video)[1] + (np.arange(recording.num_frames) + 0.5) / recording.rate
