"""Runs `prepare` on several machines: the same reading and the same shards, as a Beam pipeline.

Needs the extra: pip install 'segtad-jax[beam]'. Every worker must see the feature files and the
output folder under the same names.
"""

import collections
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from segtad_jax.data.defects import Defect
from segtad_jax.data.preparation import Preparation
from segtad_jax.data.records import Record, serialiser
from segtad_jax.data.value_range import ValueRange
from segtad_jax.data.writer import ShardWriter, shard_prefix
from segtad_jax.prepare.intake import SPLITS, Intake, Outcome

OUTCOMES = ".outcomes"  # while the pipeline runs: a line of JSON for each video


def run(
    intake: Intake, preparation: Preparation, writer: ShardWriter, options: Sequence[str]
) -> Iterator[Outcome]:
    """Writes all shards into the writer's folder, then yields each video's outcome, less features.

    The options are Beam's, such as '--runner=DirectRunner'.
    """
    classes = intake.annotations.classes
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        outputs = (
            pipeline
            | beam.Create(intake.keys)
            | beam.Reshuffle()
            | beam.ParDo(_Read(intake, preparation, classes)).with_outputs(*SPLITS, main="outcomes")
        )
        splits = {intake.annotations.videos[key].subset for key in intake.keys}
        for split in sorted(splits | ({"validation"} if intake.time else set())):
            prefix = str(writer.folder / shard_prefix(preparation.name, split))
            outputs[split] | f"write {split}" >> beam.io.WriteToTFRecord(
                prefix, shard_name_template="-SSSSS"
            )
        outputs.outcomes | beam.io.WriteToText(str(writer.folder / OUTCOMES))
    lines = []
    for path in sorted(writer.folder.glob(f"{OUTCOMES}*")):
        lines += path.read_text().splitlines()
        path.unlink()
    outcomes = [_from_json(json.loads(line), intake) for line in lines]
    outcomes.sort(key=lambda outcome: (SPLITS.index(outcome.video.subset), outcome.video.video))
    written = collections.Counter(o.video.subset for o in outcomes for _ in o.records)
    for split, number in written.items():
        writer.adopt(split, number)
    yield from outcomes


class _Read(beam.DoFn):
    """Turns a video's key into its serialised record, as its split's output, and its outcome."""

    def __init__(self, intake: Intake, preparation: Preparation, classes: Sequence[str]) -> None:
        self._intake, self._preparation, self._classes = intake, preparation, tuple(classes)

    def setup(self) -> None:
        dtype = np.dtype(self._preparation.dtype)
        self._serialise = serialiser(self._classes, self._preparation.num_channels, dtype)

    def process(self, key: str) -> Iterator[Any]:
        for outcome in self._intake.outcomes(key, self._preparation):
            for record in outcome.records:
                yield beam.pvalue.TaggedOutput(outcome.video.subset, self._serialise(record))
            yield json.dumps(_to_json(key, outcome))


def _to_json(key: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "key": key,
        "subset": outcome.video.subset,
        "rate": outcome.rate,
        "range": outcome.range and outcome.range.to_json(),
        "defects": [dataclasses.astuple(defect) for defect in outcome.defects],
        "times": outcome.times,
        "records": [
            {
                "video": record.video,
                "features": len(record.features),
                "rate": record.rate,
                "duration": record.duration,
                "segments": record.segments.tolist(),
                "labels": record.labels,
            }
            for record in outcome.records
        ],
    }


def _from_json(content: dict[str, Any], intake: Intake) -> Outcome:
    video = intake.annotations.videos[content["key"]]
    video = dataclasses.replace(video, subset=content["subset"])
    records = tuple(
        Record(
            video=fields["video"],
            features=np.zeros((fields["features"], 0), np.float32),
            rate=fields["rate"],
            duration=fields["duration"],
            segments=np.array(fields["segments"], np.float64).reshape(-1, 2),
            labels=tuple(fields["labels"]),
        )
        for fields in content["records"]
    )
    defects = tuple(Defect(*defect) for defect in content["defects"])
    values = content["range"] and ValueRange.from_json(content["range"])
    return Outcome(video, records, defects, content["rate"], values, content["times"])
