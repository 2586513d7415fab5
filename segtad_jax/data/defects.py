"""Kinds of data defects and how each is handled. Everything dropped is reported."""

import dataclasses
from typing import NamedTuple

LEFT_OUT, CHANGED, KEPT = "left out", "changed", "kept"
ASKED = {"blocked", "ignored", "widened", "cut_in_two"}  # kinds that a flag asks for


@dataclasses.dataclass(frozen=True)
class Defect:
    """One thing that is wrong with a video, an action or its features."""

    kind: str  # a key of KINDS
    video: str
    value: str  # the offending value, as text
    where: str  # the file, and the place in it

    @property
    def treatment(self) -> str:
        """Returns how it is handled: 'left out', 'changed' or 'kept'."""
        return KINDS[self.kind].treatment

    @property
    def is_flaw(self) -> bool:
        """Returns whether something was left out or changed that no flag asked to be."""
        return self.treatment != KEPT and self.kind not in ASKED

    @property
    def line(self) -> str:
        """Returns all of it on one line."""
        return f"{self.where}: video {self.video!r}: {self.kind}: {self.value}"


class Kind(NamedTuple):
    """The treatment and the meaning of a kind of defect."""

    treatment: str
    meaning: str


KINDS = {
    # of a whole video
    "bad_id": Kind(LEFT_OUT, "an id that is no name of a file: empty, too long, with a slash ..."),
    "repeated_video": Kind(
        LEFT_OUT, "a video that occurs twice (v_ or not is the same): the second"
    ),
    "bad_video": Kind(LEFT_OUT, "an entry that is not of the expected form"),
    "not_annotated": Kind(LEFT_OUT, "a task of an annotation tool that nobody has annotated yet"),
    "unknown_subset": Kind(LEFT_OUT, "a subset that is not training, validation or testing"),
    "unlisted": Kind(LEFT_OUT, "a video that no file of --split names"),
    "subsets_differ": Kind(LEFT_OUT, "a video whose lines name several subsets"),
    "blocked": Kind(LEFT_OUT, "named in the file of blocked ids"),
    "bad_duration": Kind(
        CHANGED, "a duration that is no positive number, or an action's length: taken as unknown"
    ),
    "durations_differ": Kind(CHANGED, "a video whose lines name several durations: not used"),
    "not_cut": Kind(KEPT, "no whole action on one side of the cut of --split=time: all trains"),
    "no_annotations": Kind(KEPT, "a training or validation video without any annotation"),
    # of an action
    "bad_action": Kind(LEFT_OUT, "an annotation without segment [start, end] or without label"),
    "moment": Kind(
        LEFT_OUT, "an event without a length in an annotation tool; --widen=SECONDS makes an action"
    ),
    "bad_time": Kind(
        LEFT_OUT,
        "a start or end that is neither seconds nor hh:mm:ss.fff, or a date with a zone where the "
        "recording's start has none",
    ),
    "reversed": Kind(LEFT_OUT, "an annotation that ends before it starts"),
    "in_gap": Kind(LEFT_OUT, "an annotation wholly in a gap of its recording"),
    "cut_at_gap": Kind(CHANGED, "an annotation across a gap of its recording: cut"),
    "cut_in_two": Kind(CHANGED, "an annotation across the cut of --split=time: part of it trains"),
    "outside": Kind(LEFT_OUT, "an annotation wholly before or after its video"),
    "duplicate": Kind(LEFT_OUT, "an annotation that is there already"),
    "ignored": Kind(LEFT_OUT, "of a class that --ignore names"),
    "label_changed": Kind(CHANGED, "a label with a line break or the like: taken as a blank"),
    "widened": Kind(CHANGED, "a moment that --widen makes an action of"),
    "ambiguous": Kind(LEFT_OUT, "a segment of THUMOS14's class Ambiguous, which is no class"),
    "negative": Kind(CHANGED, "an annotation that starts before its video: cut"),
    "beyond_end": Kind(CHANGED, "an annotation that ends after its video: cut"),
    "zero_length": Kind(
        KEPT, "a moment: nothing can detect it, scores count it; --widen=SECONDS makes it an action"
    ),
    "two_labels": Kind(KEPT, "one segment under two labels"),
    # of features
    "missing": Kind(LEFT_OUT, "a video without a file"),
    "two_files": Kind(LEFT_OUT, "a second file of one video"),
    "unused": Kind(KEPT, "a file that no annotation names"),
    "unreadable": Kind(LEFT_OUT, "a file that cannot be read"),
    "pickle": Kind(LEFT_OUT, "a pickle, which runs code when it is loaded; it was not"),
    "bad_type": Kind(LEFT_OUT, "an array that does not hold numbers"),
    "bad_shape": Kind(LEFT_OUT, "an array that is not frames by channels"),
    "wrong_columns": Kind(LEFT_OUT, "columns of other names than those of the others"),
    "fill_value": Kind(LEFT_OUT, "features with a fill value for a gap, such as -9999 or 1e20"),
    "empty": Kind(LEFT_OUT, "features without a frame, or a signal shorter than one"),
    "wrong_width": Kind(LEFT_OUT, "another number of channels than the others"),
    "not_finite": Kind(LEFT_OUT, "features with NaN or infinity"),
    "overflow": Kind(LEFT_OUT, "a feature too large for the stored type"),
    "no_length": Kind(LEFT_OUT, "no duration known: give --rate or --durations"),
    "time_column": Kind(CHANGED, "a column of times or a counter, which is no feature: left out"),
    "bad_times": Kind(LEFT_OUT, "times that do not rise, or are no numbers"),
    "gap": Kind(CHANGED, "a gap in the times: split there, or filled by --gaps=fill"),
    "resampled": Kind(CHANGED, "another rate than --rate, or uneven steps: resampled"),
    "jitter": Kind(KEPT, "times whose steps are not equal"),
    "time_start": Kind(KEPT, "times that do not begin at 0, from whose first one seconds count"),
    "no_times": Kind(KEPT, "a file without times among others: taken to be at --rate"),
    "column_order": Kind(KEPT, "columns in another order than the others': matched by name"),
    "not_features": Kind(
        KEPT, "a file of another kind, a hidden one or a csv of annotations, among the features"
    ),
    "not_read": Kind(KEPT, "an array beside the features in their file: not read"),
    "odd_video": Kind(KEPT, "a video with something odd about it, such as damaged parts"),
    "outlier": Kind(KEPT, "a value absurdly far from all others of its channel"),
    "constant": Kind(KEPT, "features that are the same in every frame"),
    "dead_channels": Kind(KEPT, "channels that are constant within every recording"),
    "corners": Kind(KEPT, "ends more than a frame off by --resize=linear; half_pixel has none"),
    "length_differs": Kind(KEPT, "frames / rate is more than 10 % off the duration"),
}
