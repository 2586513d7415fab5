"""When recordings began, by the dates in their files: annotations may be in times of the day."""

import contextlib
import datetime as dt
import functools
from collections.abc import Callable, Sequence

from segtad_jax.data.clocks import Clock
from segtad_jax.data.features import FeatureError, Source
from segtad_jax.evaluation.ids import match_id, matching


def origins(
    sources: Sequence[Source],
    layout: str,
    clock: Clock | None,
    rate: float | None,
    channels: Sequence[str] = (),
) -> Callable[[str], dt.datetime | None]:
    """Returns a function of an id: the date of the recording's first sample, None without one.

    A recording is read when its date is asked for, so that nothing is where no annotation needs it.

    Args:
        sources: of the recordings.
        layout: 'tc', 'ct' or 'auto'.
        clock: how their times are read; None: they are not used.
        rate: of the features in Hz, if known.
        channels: names of the columns that are features, if they were chosen.
    """

    @functools.cache
    def forms() -> list:
        return [
            source.form(
                sorted(source.places),
                layout,
                columns=channels,
                chosen=bool(channels),
                clock=clock,
                rate=rate,
            )
            for source in sources
        ]

    @functools.cache
    def began(video: str) -> dt.datetime | None:
        dates = []
        for source, form in zip(sources, forms(), strict=True):
            for key in matching([match_id(video)], source.places).values():
                with contextlib.suppress(FeatureError):  # named when the recording's turn comes
                    timeline = source.frames(key, form, rate).timeline
                    if timeline is not None and timeline.date:
                        dates.append(dt.datetime.fromisoformat(timeline.date))
        return min(dates, key=dt.datetime.timestamp, default=None)

    return began
