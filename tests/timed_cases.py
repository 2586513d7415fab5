"""Ten recordings as people have them: csv with times of two kinds, at three rates, with gaps."""

import datetime as dt

import numpy as np

RATE, SECONDS, GAP = 50.0, 120, (83.0, 89.0)
RATES = (50.0, 52.3, 100.0)
WITH_GAP = ("r2", "r5", "r7")
START = dt.datetime(2024, 5, 1, 10, 0, tzinfo=dt.timezone(dt.timedelta(hours=2)))
COLUMNS = ("acc_x", "acc_y", "acc_z")
LABELS = {
    "wave": [(10.0, 16.0), (50.0, 58.0), (80.0, 92.0)], "turn": [(25.0, 33.0), (100.0, 105.0)],
    "fall": [(85.0, 87.0)],  # wholly within the gap
}  # fmt: skip


def signal(video, times):
    """Smooth movements that differ by class, so that samples at any time are known."""
    index = int(video.removeprefix("r"))
    base = [np.sin(0.7 * times + axis + index) for axis in range(3)]
    for label, where in LABELS.items():
        for start, end in where:
            inside = np.clip(np.minimum(times - start, end - times), 0, 1)
            hertz = {"wave": 2.0, "turn": 1.2, "fall": 1.6}[label]
            for axis in range(3):
                turn = (axis == 0) if label == "turn" else 1
                base[axis] = base[axis] + 2 * turn * inside * np.sin(2 * np.pi * hertz * times)
    return np.stack(base, axis=1)


def own_times(video):
    index = int(video.removeprefix("r"))
    rate = RATES[index % 3]
    times = np.arange(round(SECONDS * rate)) / rate
    if video in WITH_GAP:
        times = times[(times < GAP[0]) | (times >= GAP[1])]
    return times


def write_recordings(folder, write_labels=True):
    """Writes r0.csv to r9.csv and labels.csv; returns the folders' paths by name."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    for index in range(10):
        video = f"r{index}"
        times = own_times(video)
        if index % 2:
            stamps = [(START + dt.timedelta(seconds=t)).isoformat() for t in times]
        else:
            stamps = [f"{1_714_557_600_000 + 1000 * t:.3f}" for t in times]
        order = [2, 0, 1] if index == 4 else [0, 1, 2]
        lines = [",".join(["timestamp", *(COLUMNS[k] for k in order), "note"])]
        for stamp, row in zip(stamps, signal(video, times), strict=True):
            lines.append(",".join([stamp, *(f"{row[k]:.6f}" for k in order), "ok"]))
        (raw / f"{video}.csv").write_text("\n".join(lines) + "\n")
    return raw


def write_labels(path, videos=tuple(f"r{index}" for index in range(10))):
    lines = ["video,start,end,label,subset"]
    for video in videos:
        subset = "validation" if video in ("r2", "r4") else "training"
        for label, where in LABELS.items():
            lines += [f"{video},{start},{end},{label},{subset}" for start, end in where]
    path.write_text("\n".join(lines) + "\n")
    return path


def by_hand(video):
    """{start: samples at 50 Hz} of each piece, interpolated linearly."""
    times = own_times(video)
    x = signal(video, times)
    edges = np.flatnonzero(np.diff(times) > 1)
    found = {}
    for rows in np.split(np.arange(len(times)), edges + 1):
        at = np.arange(times[rows[0]], times[rows[-1]] + 1e-9, 1 / RATE)
        found[times[rows[0]]] = np.stack([np.interp(at, times[rows], c) for c in x[rows].T], axis=1)
    return found
