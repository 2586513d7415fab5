"""Streams beside detection in whole recordings: agreement and mAP against the delay, and the cost.

    python -m benchmarks.stream --output=DIR RUN,FEATURES,ANNOTATIONS [...] [--delays=4,10,20]

FEATURES are files as the run's data set was prepared from; the recordings of the validation split
are streamed, a second at a time. Prints a table, and writes it with the figure `delay.svg` to DIR.
What is finished there is not measured again, so data sets can be added.
"""

import argparse
import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import segtad_jax
from segtad_jax.evaluation.average_precision import detection_map
from segtad_jax.evaluation.ground_truth import read_ground_truth
from segtad_jax.evaluation.operating_point import above, count
from segtad_jax.evaluation.report import style
from segtad_jax.predict.recording_files import RecordingFiles
from segtad_jax.predict.stream import DetectionStream, WindowProgram
from segtad_jax.predict.trained import Trained
from segtad_jax.runtime import startup

DELAYS = (10.0, 20.0)  # seconds, beside the least and the default
TIOUS = np.arange(0.5, 1.0, 0.05)
COLUMNS = {
    "mAP@0.5": "map",
    "average mAP": "average",
    "F1": "f1",
    "detect's, in the stream": "kept",
    "the stream's, in detect": "confirmed",
}
Found = dict[str, list[Any]]  # detections by video


class SharedWindows(WindowProgram):
    """Programs that look at a window once for all streams that come to it together."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._once = functools.lru_cache(64)(self._look)

    def candidates(self, frames: np.ndarray, *, goes_back: bool) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `WindowProgram.candidates` returned for these frames, if it has just."""
        return self._once(frames.tobytes(), frames.shape, goes_back)

    def _look(self, content: bytes, shape: tuple[int, int], goes_back: bool) -> Any:
        frames = np.frombuffer(content, np.float32).reshape(shape)
        return super().candidates(frames, goes_back=goes_back)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what is missing, prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=Path, help="folder of the results")
    parser.add_argument("--delays", default=DELAYS, type=_numbers, help="seconds, with commas")
    parser.add_argument("--recordings", type=int, help="so many of the split, evenly spread")
    parser.add_argument("runs", nargs="+", help="RUN,FEATURES,ANNOTATIONS")
    flags = parser.parse_args(arguments)
    startup.keep_freed_memory()
    startup.keep_compiled_programs()
    flags.output.mkdir(parents=True, exist_ok=True)
    results = []
    for text in flags.runs:
        run, features, annotations = text.split(",")
        path = flags.output / f"{Path(run).name}.json"
        if not path.exists():
            result = measure(run, features, annotations, flags.delays, flags.recordings)
            path.write_text(json.dumps(result, indent=1) + "\n")
        results.append(json.loads(path.read_text()))
    (flags.output / "delay.md").write_text(table(results) + "\n")
    style.save(figure(results), flags.output / "delay.svg")
    print(table(results))


def measure(
    run: str, features: str, annotations: str, delays: Sequence[float], number: int | None
) -> dict[str, Any]:
    """Returns the figures of detect ("offline") and of streams, by their delays."""
    model = segtad_jax.load(run)
    subset = read_ground_truth(annotations, model.config.data.eval_split)
    files = RecordingFiles(model.preparation, [features])
    videos = sorted(subset.ground_truth)
    videos = videos[:: -(-len(videos) // (number or len(videos)))]
    truth = {video: subset.ground_truth[video] for video in videos}
    recordings = {video: files.read(video).pieces[0].arrays[0] for video in videos}
    rate = model.preparation.rate
    assert rate is not None, "prepared with --rate"

    offline = {video: list(model.detect(x, rate=rate)) for video, x in recordings.items()}
    first = model.stream(threshold=0)
    cost = _cost(first, next(iter(recordings.values())), round(rate))
    chosen = sorted({first.least_delay, first.delay, *delays})
    vars(model)["_windows"] = SharedWindows(model.config, model.classes, model.variables)
    found: dict[float, Found] = {delay: {} for delay in chosen}
    for video, samples in recordings.items():
        streams = {delay: model.stream(threshold=0, delay=delay) for delay in chosen}
        rows: dict[float, list[Any]] = {delay: [] for delay in chosen}
        for start in range(0, len(samples), round(rate)):
            for delay, stream in streams.items():
                rows[delay] += stream.push(samples[start : start + round(rate)])
        for delay, stream in streams.items():
            found[delay][video] = sorted(rows[delay] + stream.finish(), key=lambda d: -d.score)
        print(f"{video}: {len(samples) / rate:.0f} s", flush=True)
    return {
        "name": model.preparation.name,
        "recordings": len(videos),
        "seconds": sum(map(len, recordings.values())) / rate,
        "default": first.delay,
        "cost": cost,
        "offline": _figures(model, truth, offline, offline),
        "delays": [[delay, _figures(model, truth, found[delay], offline)] for delay in chosen],
    }


def _cost(stream: DetectionStream, samples: np.ndarray, part: int) -> float:
    """Returns the seconds of one core that a second of the recording takes."""
    before = time.process_time()
    for start in range(0, len(samples), part):
        stream.push(samples[start : start + part])
    stream.finish()
    return (time.process_time() - before) / (len(samples) / part)


def _figures(model: Trained, truth: Mapping, found: Found, offline: Found) -> dict[str, float]:
    """Returns what detections are worth, and how they agree with those of `detect`."""
    means = detection_map(truth, found, TIOUS)
    least = model.threshold("auto")
    shown, expected = above(found, least), above(offline, least)
    agreement = count({v: [row[:3] for row in rows] for v, rows in expected.items()}, shown)
    return {
        "map": means["per_tiou"]["0.50"],
        "average": means["average"],
        "f1": count(truth, shown)["f1"],
        "kept": agreement["recall"],
        "confirmed": agreement["precision"],
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Returns a row for each data set and delay."""
    rows = [["data", "delay, s", *COLUMNS], ["---"] * (len(COLUMNS) + 2)]
    for result in results:
        name = f"{result['name']}, {result['recordings']} recordings"
        for delay, figures in [*result["delays"], ["offline", result["offline"]]]:
            shown = delay if isinstance(delay, str) else f"{delay:.3g}"
            shown += " (default)" if delay == result["default"] else ""
            rows.append([name, shown, *map(_fraction, map(figures.get, COLUMNS.values()))])
    costs = ", ".join(f"{result['cost']:.3f} on {result['name']}" for result in results)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", f"Seconds of one core for a second of recording: {costs}."])


def figure(results: Sequence[dict[str, Any]]) -> Any:
    """Draws average mAP and agreement against the delay."""
    panels = {"average": "average mAP", "kept": "detect's detections that the stream has"}
    with style.axes(1, 2, size=(9.0, 3.2)) as (drawn, axes):
        for panel, (key, title) in zip(axes[0], panels.items(), strict=True):
            for result, color in zip(results, style.COLORS, strict=False):
                delays, figures = zip(*result["delays"], strict=True)
                values = np.array([row[key] for row in figures], float)  # None becomes NaN
                label = result["name"] if key == "average" else None
                panel.plot(delays, values, "o-", color=color, label=label)
                chosen = delays.index(result["default"])
                panel.plot(delays[chosen], values[chosen], "o", color=color, markersize=9)
                panel.axhline(result["offline"][key] or 0, color=color, linestyle=":", linewidth=1)
            panel.set_title(title)
            panel.set_xlabel("delay, s (large: the default; dotted: detect)")
        style.legend_below(drawn)
        return drawn


def _fraction(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}".removeprefix("0")


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


if __name__ == "__main__":
    main()
