"""HAPT: 61 recordings of a phone at the waist, 12 activities and transitions between them.

UCI data set 341 (Smartphone-Based Recognition of Human Activities and Postural Transitions); no
commercial use, so it is never shipped with this package.
"""

import dataclasses

import numpy as np
from etils import epath

from segtad_jax.data.feature_files import FeatureError, Stored
from segtad_jax.data.features import Source, open_source
from segtad_jax.evaluation.entries import Action
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.prepare.annotations import Annotations, Video, read_annotations

SAMPLE_RATE = 50.0  # Hz
WINDOW = 320  # frames of 0.2 s
ACTIVITIES = (
    "WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING",
    "STAND_TO_SIT", "SIT_TO_STAND", "SIT_TO_LIE", "LIE_TO_SIT", "STAND_TO_LIE", "LIE_TO_STAND",
)  # by their number in labels.txt, from 1  # fmt: skip
TEST_USERS = (2, 4, 9, 10, 12, 13, 18, 20, 24)  # of the authors' split
CITATION = (
    "J.-L. Reyes-Ortiz, L. Oneto, A. Samà, X. Parra, D. Anguita. Transition-Aware Human Activity "
    "Recognition Using Smartphones. Neurocomputing 171 (2016)."
)


def open_recordings(folder: epath.PathLike) -> tuple[Annotations, Source]:
    """Opens annotations and raw signals (accelerometer in g, gyroscope in rad/s).

    Args:
        folder: UCI's, with RawData/, or one with hapt_50hz_f16.npz and hapt_gt.json.

    Raises:
        FileNotFoundError: it holds neither.
    """
    folder = epath.Path(folder)
    packed, truth = folder / "hapt_50hz_f16.npz", folder / "hapt_gt.json"
    if packed.exists() and truth.exists():
        return read_annotations([truth]), open_source(packed)
    raw = folder / "RawData" if (folder / "RawData").exists() else folder
    if not (raw / "labels.txt").exists():
        raise FileNotFoundError(
            f"no HAPT data in {folder}: expected RawData/labels.txt beside RawData/acc_exp01_"
            "user01.txt, as in the archive of UCI data set 341 ('HAPT Data Set.zip')"
        )
    places = {
        path.stem.removeprefix("acc_"): (path, None) for path in sorted(raw.glob("acc_exp*.txt"))
    }
    source = _TextFiles(raw, places, {video: video for video in places}, ())
    return _annotations(raw / "labels.txt", source), source


@dataclasses.dataclass(frozen=True)
class _TextFiles(Source):
    """UCI's files: one of the accelerometer, one of the gyroscope, a line for each sample."""

    def read(self, video: str) -> Stored:
        """Returns the six axes."""
        parts = []
        for sensor in ("acc", "gyro"):
            path = self.path / f"{sensor}_{video}.txt"
            try:
                parts.append(np.loadtxt(path.read_text().splitlines(), ndmin=2))
            except (OSError, ValueError) as error:
                raise FeatureError("unreadable", f"{path}: {error}") from error
        samples = min(map(len, parts))
        return Stored(np.concatenate([part[:samples] for part in parts], axis=1))


def _annotations(path: epath.Path, source: Source) -> Annotations:
    """Reads labels.txt: experiment, user, activity, first and last sample, counted from 1."""
    actions: dict[str, list[Action]] = {video: [] for video in source.places}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        where = f"{path}, line {number}"
        try:
            experiment, user, activity, first, last = map(int, line.split())
            video, label = f"exp{experiment:02d}_user{user:02d}", ACTIVITIES[activity - 1]
            actions[video].append(
                Action((first - 1) / SAMPLE_RATE, last / SAMPLE_RATE, label, where)
            )
        except (ValueError, IndexError, KeyError) as error:
            raise InputError(
                f"{where}: {line!r} is not `experiment user activity first last` of a recording "
                "that is there"
            ) from error
    videos = {}
    for video, performed in actions.items():
        subset = "validation" if int(video[-2:]) in TEST_USERS else "training"
        videos[video] = Video(video, subset, None, None, tuple(performed))
    return Annotations(videos, (), ())
