"""Wrote this folder, with the code of the commit that README.md names; no other code runs it."""

import csv
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import numpy as np

from segtad_jax import predict, run, stopping
from segtad_jax.prepare import main as prepare

FIELDS = {
    "data.dir": "data",
    "model.width": 8,
    "optim.warmup_steps": 5,
    "train.batch_size": 4,
    "train.steps": 30,
    "train.log_every": 5,
    "train.save_every": 10,
    "train.eval_every": 10,
    "train.keep": 2,
    "eval.max_detections": 20,
}


def write_files():
    random = np.random.default_rng(0)
    Path("features").mkdir()
    rows = [("video", "start", "end", "label", "subset")]
    for index in range(8):
        features = random.normal(size=(44 + 3 * index, 3)).astype(np.float32)
        for number, label in enumerate(("walk", "jump")):
            start = 5 + index + 20 * number
            features[start : start + 10, number] += 3
            subset = "validation" if index > 5 else "training"
            rows.append((f"x{index}", start / 5, start / 5 + 2, label, subset))
        np.save(f"features/x{index}.npy", features)
    with Path("annotations.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def load(name, argument, fields):
    path = Path(run.__file__).parent.parent / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(argument)
    config.update_from_flattened_dict(fields)
    return config.lock()


def train_until(step, *, evaluation):
    """Stops after a step or, with `evaluation`, in the evaluation that is due there."""
    seen = []
    requested, check = stopping.Stop.requested, stopping.Stop.check

    def request(_, now):
        seen.append(now)
        return now == step and not evaluation

    def stop(_):
        if evaluation and seen and seen[-1] == step:
            raise stopping.StoppedError

    stopping.Stop.requested, stopping.Stop.check = request, stop
    try:
        run.train(load("custom", "", FIELDS), "unfinished")
    except stopping.StoppedError:
        print(f"stopped at step {step}")
    finally:
        stopping.Stop.requested, stopping.Stop.check = requested, check


def without_timing(path):
    lines = map(json.loads, path.read_text().splitlines())
    kept = [{k: v for k, v in line.items() if not k.startswith("timing/")} for line in lines]
    return "".join(json.dumps(line) + "\n" for line in kept)


def main(folder):
    Path(folder).mkdir()
    os.chdir(folder)
    write_files()
    files = ["--features=features", "--annotations=annotations.csv", "--output=data"]
    assert prepare(["--name=old", *files, "--rate=5"]) == 0
    train_until(10, evaluation=True)
    train_until(13, evaluation=False)
    expected = Path("expected")
    expected.mkdir()
    for step in (13, 10):  # without step 13 the run begins with the evaluation at step 10
        resumed = Path(f"resumed_{step}")
        shutil.copytree("unfinished", resumed)
        if step == 10:
            shutil.rmtree(resumed / "checkpoints/13")
        run.train(load("custom", "", FIELDS), resumed)
        results = {
            name: (resumed / name).read_text() for name in ("metrics.json", "detections.json")
        }
        results["metrics.jsonl"] = without_timing(resumed / "metrics.jsonl")
        for name, content in results.items():
            path = expected / name
            assert step == 13 or path.read_text() == content, name
            path.write_text(content)
    run.evaluate_checkpoint(load("custom", "", FIELDS), "evaluated", "unfinished")
    shutil.copy("evaluated/detections.json", expected / "evaluated.json")
    flags = ["--checkpoint=unfinished", "--features=features", "--rate=5"]
    assert predict.main([*flags, f"--output={expected / 'predicted.json'}"]) == 0
    small = {"data.dir": "synthetic", "data.synthetic_recordings": 4, "train.batch_size": 4}
    small |= {"model.width": 8, "train.keep": 1, "eval.max_detections": 20}
    run.train(load("watch", "runlocal", small), "finished")


if __name__ == "__main__":
    main(sys.argv[1])
