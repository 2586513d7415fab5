"""What detection costs: the whole of it, its stages, compiling, memory.

    python -m benchmarks.inference --config configs/activitynet.py [--batch=1] [--json=FILE]

`detect` is what prediction and training's evaluation run: batches from memory, the devices' step,
copies to the host, pooling, soft-NMS. `--video_scores` labels the proposals from a file of
video-level scores, made here, as section 4.1 does; without it the frames' own classes do. Stages
are compiled alone, for one device's part of the batch: their sum is not the whole.
"""

import contextlib
import functools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from benchmarks import command, first_calls, flops, measure, stages
from benchmarks.measure import Effort, Row
from benchmarks.programs import Inference, num_proposals, sizes
from segtad_jax import postprocess
from segtad_jax.data import pipeline, synthetic
from segtad_jax.models.segtad import SegTAD, grid
from segtad_jax.ops.videos import over_videos
from segtad_jax.runtime import parallel

VIDEO_SCORES = flags.DEFINE_bool("video_scores", False, "Proposals get their labels from a file.")
BATCHES = 8  # that `detect` goes through, so that its start counts little


def main(config: ConfigDict, batch: int) -> command.Measured:
    """Measures."""
    with _class_scores(config, BATCHES * batch) as config:
        rows, peaks = [], None
        if "times" in command.MEASURE.value:
            program = Inference(config, batch, BATCHES * batch)
            effort = command.effort()
            measured = functools.partial(times, program, batch, effort)
            rows, peaks = measure.between_peaks(measured, effort)
        if "first" in command.MEASURE.value:
            rows += first_calls.rows("inference", config, batch)
    return command.Measured(rows, peaks, "with video-level scores" if VIDEO_SCORES.value else "")


def times(program: Inference, batch: int, effort: Effort) -> list[Row]:
    """The whole and its stages."""
    config = program.config
    counted = flops.gflop(config, *sizes(config), num_proposals(config))
    if config.eval.class_scores:
        counted["heads"] = 0.0
    counted["SSN"] += counted.pop("heads")
    counted.pop("boundaries")
    total = batch * sum(counted.values())
    variables = parallel.replicate(program.variables)
    inputs = program.batch()

    def predict() -> Any:
        step = program.detector.predict_step
        return jax.device_get(step(variables, parallel.shard_batch(inputs)))

    counted[stages.BOTH] = counted["SGAlign"] + counted["PDN"]
    rows = [
        measure.timed("detect: everything", program.detect, effort, total, BATCHES),
        measure.timed("device step, copied to the host", predict, effort, total),
    ]
    share = jax.device_count()
    functions = stage_functions(program, inputs, share)
    return rows + stages.timed(functions, counted, batch / share, effort)


def stage_functions(program: Inference, inputs: dict[str, np.ndarray], share: int) -> dict:
    """Every stage by its name, ready to be called, for a `share`-th of the batch."""
    config = program.config
    model = SegTAD(config, len(program.dataset.classes))
    variables = program.variables
    batch = jax.device_put({k: v[: len(v) // share] for k, v in inputs.items()})
    outputs, whole = jax.jit(functools.partial(stages.run, model))(variables, batch, {})
    segments = grid(config).segments

    @jax.jit
    def candidates(outputs: Any, batch: Any) -> postprocess.Candidates:
        of_windows = batch["num_frames"], batch["cut"]
        return postprocess.process_batch(outputs, segments, *of_windows, config.eval, finish=False)

    @jax.jit
    def select(found: postprocess.Candidates) -> postprocess.Selected:
        return over_videos(functools.partial(postprocess.select, settings=config.eval), found)

    def made() -> None:
        windows = pipeline.inference_windows(program.recordings, config.data.num_frames, 0.0)
        for _ in pipeline.inference_batches(
            program.dataset,
            program.recordings[: len(inputs["window"])],
            windows[: len(inputs["window"])],
            window=config.data.num_frames,
            batch_size=len(inputs["window"]),
        ):
            pass

    found_stages = {"input": made}
    wanted = {stages.SSN: ["decoded"] if config.eval.class_scores else ["decoded", "frame_logits"]}
    for part in stages.PARTS:
        call = stages.forward(model, part, wanted.get(part, ()))
        found_stages[part] = functools.partial(call, variables, batch, whole)
    found_stages["scores"] = functools.partial(candidates, outputs, batch)
    found_stages["NMS"] = functools.partial(select, candidates(outputs, batch))
    return found_stages


@contextlib.contextmanager
def _class_scores(config: ConfigDict, number: int) -> Iterator[ConfigDict]:
    """The config with a file of scores for the synthetic recordings, if they shall have one."""
    config = config.copy_and_resolve_references()
    if not VIDEO_SCORES.value:
        yield config
        return
    names = synthetic.class_names(sizes(config)[1])
    scores = np.random.default_rng(0).dirichlet(np.ones(len(names)), number).tolist()
    results = {f"training_{index:04d}": row for index, row in enumerate(scores)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.json"
        path.write_text(json.dumps({"class": names, "results": results}))
        config.eval.class_scores = str(path)
        yield config


if __name__ == "__main__":
    command.run("inference", lambda _: 1, main)
