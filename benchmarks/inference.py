"""Detection: the whole of it, its stages, its first calls.

    python -m benchmarks.inference --config configs/activitynet.py [--batch=1] [--json=FILE]

`detect` is what prediction and training's evaluation run: batches from memory, the devices' step,
copies to the host, pooling, soft-NMS. `--video_scores` labels the proposals by random video-level
scores, as section 4.1 does by a classifier's; without it the frames' own classes do.
"""

from absl import flags
from ml_collections import ConfigDict

from benchmarks import command, stages
from benchmarks.measure import Effort, Measurement, timed
from benchmarks.programs import Inference

VIDEO_SCORES = flags.DEFINE_bool("video_scores", False, "Proposals get the labels of their video.")
BATCHES = 8  # that `detect` goes through, so that its start counts little


def make(config: ConfigDict, batch: int) -> Inference:
    """Detection in 8 batches of recordings."""
    return Inference(config, batch, BATCHES * batch, video_scores=VIDEO_SCORES.value)


def rows(program: Inference, effort: Effort) -> list[Measurement]:
    """The whole, its stages and its first calls."""
    step = "device step, copied to the host"
    return [
        timed("detect: everything", program.detect, effort, BATCHES, gflop=program.gflop),
        timed(step, program.from_host, effort, gflop=program.gflop),
        *stages.rows(program, effort),
        *program.first_calls(),
    ]


if __name__ == "__main__":
    labels = {True: " with video-level scores", False: ""}
    command.run(lambda: f"inference{labels[VIDEO_SCORES.value]}", "", make, rows)
