"""A trained model, ready for recordings that it has not seen: `segtad_jax.load(RUN)`."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import jax
import numpy as np
from etils import epath
from jaxtyping import Float, Real
from ml_collections import ConfigDict

from segtad_jax.checkpoint import run_folder
from segtad_jax.checkpoint.store import locate, restore_variables
from segtad_jax.data.dataset import Dataset, Recording
from segtad_jax.data.features import as_frames
from segtad_jax.data.preparation import Preparation, read_preparation
from segtad_jax.detector import Detector
from segtad_jax.models.segtad import SegTAD, create_variables
from segtad_jax.postprocess import Detection
from segtad_jax.runtime import parallel

RATE_TOLERANCE = 0.01  # of the rate that the model was trained at


@dataclasses.dataclass(repr=False, eq=False)  # arrays, which neither print nor compare well
class Trained:
    """A model of a checkpoint, as `load` returns it."""

    config: ConfigDict  # of the run
    classes: tuple[str, ...]  # names of the labels 1..D
    num_channels: int  # C of the features that the model takes
    variables: Mapping[str, Any]  # {"params", "batch_stats"}
    step: int  # of the checkpoint
    preparation: Preparation  # how its features were made

    def detect(
        self,
        features: Real[np.ndarray, "_ _"] | Sequence[Real[np.ndarray, "_ _"]],
        *,
        rate: SupportsFloat | None = None,
        duration: SupportsFloat | None = None,
    ) -> list[Detection]:
        """Detects the actions in one recording; returns them, best first.

        Args:
            features: frames by channels, as prepare read them: raw samples where the model was
                trained on signals; one array for each source where there were several.
            rate: of these, in Hz; may be left out where the model knows it, or a duration is given.
            duration: seconds.

        Raises:
            ValueError: another width or rate than in training, or something that is no number; says
                what was expected.
        """
        arrays = [features] if isinstance(features, np.ndarray) else list(features)
        arrays = [as_frames(array, "tc", "features") for array in arrays]
        seconds = None if duration is None else float(duration)
        hertz = None if rate is None else float(rate)
        recording, resized = self.recording("recording", arrays, hertz, seconds)
        return self.detect_all([(recording, resized)])["recording"]

    def recording(
        self,
        video: str,
        arrays: Sequence[Float[np.ndarray, "_ _"]],
        rate: float | None,
        duration: float | None,
    ) -> tuple[Recording, Float[np.ndarray, "F C"]]:
        """Makes a recording and its features as those of training were made; see `detect`."""
        self.require_rate(rate)
        preparation = self.preparation
        if len(arrays) != len(preparation.widths):
            raise ValueError(
                f"{len(arrays)} sources of features, the model takes {len(preparation.widths)}"
            )
        features = preparation.features(arrays)
        resized = preparation.resized(features)
        rate = rate or preparation.rate
        covered = max(map(len, arrays)) / rate if rate else duration  # seconds of the features
        if covered is None:
            raise ValueError(
                "neither the rate nor the duration is known: give rate= or duration=, or to the "
                "command --rate or --durations"
            )
        duration = covered if duration is None else duration
        if preparation.frame_rate is not None:  # signals may end within a frame
            covered = len(features) / preparation.frame_rate
        recording = Recording(
            video=video,
            num_frames=len(resized),
            rate=len(resized) / covered,
            duration=duration,
            segments=np.zeros((0, 2)),
            labels=np.zeros(0, np.int32),
            shard="",
            offset=0,
            size=0,
        )
        return recording, resized

    def require_rate(self, rate: float | None) -> None:
        """Raises ValueError if the model was trained on features of another rate."""
        trained = self.preparation.rate
        if rate and trained and abs(rate - trained) > RATE_TOLERANCE * trained:
            raise ValueError(
                f"the rate is {rate:g} Hz, but the model was trained at {trained:g} Hz: resample "
                "the features, or give the rate that they really have"
            )

    def require_same(self, dataset: Dataset) -> None:
        """Raises ValueError if a prepared data set has other features than the model's."""
        if dataset.num_channels != self.num_channels:
            raise ValueError(
                f"{dataset.directory} has {dataset.num_channels} channels, the model takes "
                f"{self.num_channels}"
            )
        if (preparation := read_preparation(dataset.directory)) is None:
            return
        there, here = preparation.to_json(), self.preparation.to_json()
        for field in ("signals", "widths", "rate", "num_frames", "resize"):
            if there[field] != here[field]:
                values = f", {there[field]} there, {here[field]} here"
                raise ValueError(
                    f"{dataset.directory} was not prepared as the model's features were: {field} "
                    f"differs{'' if field == 'signals' else values}. Prepare it together with the "
                    "training data, or give predict the feature files themselves."
                )

    def detect_all(
        self, recordings: Sequence[tuple[Recording, Float[np.ndarray, "_ _"]]]
    ) -> dict[str, list[Detection]]:
        """Detects in several recordings that `recording` made; returns the actions by video."""
        arrays = {recording.video: features for recording, features in recordings}
        dataset = Dataset(
            directory=epath.Path("."),
            name="memory",
            classes=self.classes,
            num_channels=self.num_channels,
            dtype=np.dtype(np.float32),
            splits={},
            read=lambda recording: arrays[recording.video],
        )
        return self.detect_in(dataset, [recording for recording, _ in recordings])

    def detect_in(
        self, dataset: Dataset, recordings: Sequence[Recording]
    ) -> dict[str, list[Detection]]:
        """Detects in recordings of an opened data set; returns the actions by video."""
        detector, variables = self._on_devices
        detections, _ = detector.detect(variables, dataset, recordings)
        return detections

    @functools.cached_property
    def _on_devices(self) -> tuple[Detector, Mapping[str, Any]]:
        """Returns the detector and the variables on the devices, made once for all calls."""
        return Detector(self.config, self.classes), parallel.replicate(self.variables)


def load(checkpoint: str, **settings: Any) -> Trained:
    """Returns the model of a run.

    Args:
        checkpoint: RUN or RUN/STEP.
        **settings: of `config.eval` that differ from the run's.

    Raises:
        FileNotFoundError: no such checkpoint; says which there are.
        ValueError: the folder is no run of this version.
    """
    run, step = locate(checkpoint)
    config, classes, channels, _ = run_folder.read(run)
    config.eval.update(settings)
    devices = jax.local_device_count()
    config.eval.batch_size = -(-config.eval.batch_size // devices) * devices
    model = SegTAD(config, len(classes))
    like = jax.eval_shape(lambda: create_variables(config, model, channels))
    variables = restore_variables(run, step, like)
    preparation = read_preparation(run) or Preparation(  # features stay as they are
        name="",
        widths=(channels,),
        rate=None,
        num_frames=None,
        resize="linear",
        window=config.data.num_frames,
        dtype="float32",
    )
    return Trained(config, tuple(classes), channels, variables, step, preparation)
