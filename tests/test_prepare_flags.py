"""Flags of `prepare` that do not go together are told before anything is read."""

import dataclasses
import re

import pytest

from segtad_jax.evaluation.annotation_flags import reading_of
from segtad_jax.evaluation.entries import SECONDS
from segtad_jax.prepare.__main__ import main
from segtad_jax.prepare.flags import parse


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--name=x"], "missing: --annotations, --features, --output"),
        (["--features=a", "--annotations=b", "--check"], "missing: --name"),
        (["--name=A-b", "--features=a", "--annotations=b", "--check"], "--name=A-b must be"),
        (["--recipe=hapt"], "--recipe=hapt takes --source=DIR"),
        (["--num_frames=100"], "--num_frames: 100 is not divisible by 8.*use 104"),
        (["--num_frames=32", "--window=16"], "give one of them"),
        (["--rate=0"], "0 must be above 0"),
        (["--rate=fast"], "'fast' is not a number"),
        (["--rate=nan"], "nan must be above 0"),
        (["--layout=xy"], "invalid choice"),
        (["--annotations=,"], "--annotations: names nothing"),
        (["--feature=a"], "unrecognized arguments"),
        (["--widen=-1"], "-1 must be above 0"),
        (["--group=(s"], r"'\(s' is no regular expression: .*\)"),
        (["--group=s."], r"'s.' has no parentheses .*'\(s.\)'"),
        (["--split=time:80"], "time:80: expected the share .* time:0.8"),
        (["--split=time:0.8", "--group=(s)"], "--split=time:SHARE has everybody on both sides"),
        (["--split=time:0.8", "--num_frames=32"], "--split=time cuts them"),
        (["--split=group"], "--split=group needs --group=REGEX"),
        (["--recipe=hapt", "--source=x", "--ignore=a"], "--recipe=hapt has its own classes"),
        (
            ["--columns=file=video"],
            "'file=video' must be FIELD=COLUMN.*fields are video, start, end",
        ),
        (["--columns=start"], "'start' must be FIELD=COLUMN"),
        (["--columns=start=a,start=b"], "each once"),
        (["--unit=minutes"], "invalid choice: 'minutes'.*'frames'"),
        (["--label_fps=0"], "--label_fps: 0 must be above 0"),
        (["--label_fps=fast"], "'fast' is not a number"),
        (["--simulate=4"], "--simulate makes the features"),
        (
            ["--name=x", "--videos=a", "--annotations=b", "--output=c", "--layout=tc", "--time=t"],
            "--videos makes the features: give no --time, --layout",
        ),
        (
            ["--name=x", "--videos=a", "--annotations=b", "--output=c", "--time=none", "--rate=5"],
            "--videos makes the features: give no --rate, --time",
        ),
    ],
)
def test_wrong_command_lines_end_with_status_2(flags, message, capsys):
    complete = ["--name=x", "--features=a", "--annotations=b", "--check"]
    if "--name" not in flags[0] and "--features" not in flags[0] and "--recipe" not in flags[0]:
        flags = [*complete, *flags]
    with pytest.raises(SystemExit) as caught:
        main(flags)
    assert caught.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_the_old_spelling_of_ignore_is_read():
    flags = ["--name=x", "--features=a", "--annotations=b", "--check"]
    assert parse([*flags, "--ignored=a,b"]).ignore == parse([*flags, "--ignore=a,b"]).ignore


def test_how_annotations_are_read():
    columns = "--columns=video=file,start=from (s), label = activity"
    flags = ["--unit=ms", "--label_fps=29.97", columns, "--clock", "--tier=a,b", "--rate=50"]
    complete = ["--name=x", "--features=a", "--annotations=b", "--check"]
    reading = reading_of(parse([*complete, *flags]))
    assert reading.columns == {"video": "file", "start": "from (s)", "label": "activity"}
    assert (reading.unit, reading.label_fps, reading.rate) == ("ms", 29.97, 50.0)
    assert (reading.clock, reading.tier) == (True, "a,b")
    assert dataclasses.replace(reading_of(parse(complete)), origins=SECONDS.origins) == SECONDS
