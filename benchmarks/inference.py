"""Detection: the whole of it, and the network's parts.

    python -m benchmarks.inference --config configs/activitynet.py [--batch=1] [--json=FILE]

`detect` is what prediction and training's evaluation run: batches from memory, the devices' step,
copies to the host, pooling, soft-NMS. `--video_scores` labels the proposals by random video-level
scores, as section 4.1 does by a classifier's; without it the frames' own classes do. The parts grow
to the whole network, for one device's share of the batch; a part's time is the rows' difference.
"""

import functools
from collections.abc import Iterator

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import command
from benchmarks.measure import Effort, Measurement, timed
from benchmarks.programs import Inference
from segtad_jax.models.segtad import SegTAD

VIDEO_SCORES = flags.DEFINE_bool("video_scores", False, "Proposals get the labels of their video.")
BATCHES = 8  # that `detect` goes through, so that its start counts little
PARTS = ("SSN", "SGAlign", "PDN")


def rows(config: ConfigDict, batch: int, effort: Effort) -> Iterator[Measurement]:
    """The whole, the devices' step, the network's parts."""
    program = Inference(config, batch, BATCHES * batch, video_scores=VIDEO_SCORES.value)
    yield timed("detect: everything", program.detect, effort, BATCHES, gflop=program.gflop)
    step = "device step, copied to the host"
    yield timed(step, program.from_host, effort, gflop=program.gflop)
    share, gflop = batch // jax.device_count(), 0.0
    for last, part in enumerate(PARTS):
        gflop += program.counted[part] * share
        name = "  " + ", ".join(PARTS[: last + 1])
        yield timed(name, network(program, part, share), effort, gflop=gflop)


def network(program: Inference, part: str, videos: int) -> functools.partial:
    """The network up to a part, for so many videos on the first device; call it with nothing."""
    config = program.config.copy_and_resolve_references()
    if part == "SGAlign":
        config.model.proposal_layers = 0  # its parameters are in the variables, and not used
    model = SegTAD(config, len(program.dataset.classes))
    wanted = ["frame_logits"] + ["proposal_logits"] * (part != "SSN")

    @jax.jit
    def forward(variables: dict, *inputs: jax.Array) -> list[jax.Array]:
        outputs = model.apply(variables, *inputs)
        return [outputs[name] for name in wanted]

    inputs = [program.inputs[name][:videos] for name in ("features", "num_frames")]
    placed = jax.device_put((jax.device_get(program.state), *inputs), jax.local_devices()[0])
    return functools.partial(forward, *placed)


if __name__ == "__main__":
    labels = {True: " with video-level scores", False: ""}
    command.run(lambda: f"inference{labels[VIDEO_SCORES.value]}", "", rows)
