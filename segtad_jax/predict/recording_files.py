"""Reads the files of new recordings as those of training were read."""

from collections.abc import Sequence

from segtad_jax.data.clocks import ANY, Clock
from segtad_jax.data.defects import KINDS
from segtad_jax.data.features import Recorded, Source, open_source, read_recording
from segtad_jax.data.preparation import Preparation


class RecordingFiles:
    """Files of all sources, in any form that `prepare` reads.

    Attributes:
        sources: as `open_source` returns them.
        forms: of each source.
        keys: {id as the first source that has the video writes it: key of `Source.places`}.
        notes: {file or column: what is odd about it}.
    """

    def __init__(
        self,
        preparation: Preparation,
        paths: Sequence[str | Source],
        layout: str = "auto",
        clock: Clock | None = ANY,
    ) -> None:
        """Finds the recordings and reads the first few.

        Args:
            preparation: how the model's features were made.
            paths: of as many sources as it has, or these.
            layout: 'tc', 'ct' or 'auto'.
            clock: how times are read; None: not at all; ANY: as in training.

        Raises:
            ValueError: the sources are not those that the model takes, or it takes no times.
        """
        self._preparation = preparation
        self.sources = [p if isinstance(p, Source) else open_source(p) for p in paths]
        keys = sorted({key for source in self.sources for key in source.places})
        self.keys = {next(s.names[k] for s in self.sources if k in s.names): k for k in keys}
        clocks: Sequence[Clock | None] = preparation.clocks or [None] * len(paths)
        if clock != ANY:
            clocks = [clock] * len(paths)
        clocks = [s.clock or clock for s, clock in zip(self.sources, clocks, strict=True)]
        if preparation.rate is None:
            if clock not in (ANY, None):
                raise ValueError(
                    "--time says where times are, but the model knows no rate to bring features "
                    "to, and uses none: leave it out, and give --rate or --durations"
                )
            clocks = [None] * len(paths)
        columns = preparation.columns or ((),) * len(paths)
        self.forms = [
            source.form(
                source.places,
                layout,
                width,
                names,
                chosen=preparation.chosen,
                clock=clock,
                rate=preparation.rate,
            )
            for source, width, names, clock in zip(
                self.sources, preparation.widths, columns, clocks, strict=True
            )
        ]
        defects = [defect for source in self.sources for defect in source.defects]
        self.notes = {d.video: f"{KINDS[d.kind].meaning}: {d.value}" for d in defects}
        for form in self.forms:
            for name, values in form.times.items():
                self.notes[f"column {name!r}"] = f"{KINDS['time_column'].meaning} ({values})"

    @property
    def identity(self) -> list[list[object]]:
        """Returns how all files alike are read, in JSON's types."""
        return [
            [form.layout, list(form.columns), sorted(form.times), form.clock and list(form.clock)]
            for form in self.forms
        ]

    def read(self, video: str) -> Recorded:
        """Returns what the files have of a video.

        Raises:
            KeyError: one of the sources does not have it.
            FeatureError: it cannot be used; names the file.
        """
        return read_recording(
            self.sources,
            self.forms,
            self.keys[video],
            self._preparation.rate,
            fill=self._preparation.gaps == "fill",
        )
