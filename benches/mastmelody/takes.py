"""MASTmelody as it lies on disk: contours in blocks of 23 ms, and ratings of the takes."""

import csv
import re
from pathlib import Path

import numpy as np

HOP = 256 / 44100  # seconds per frame
FRAMES = 4  # per block
NAME = re.compile(r"(?P<id>(?P<melody>\d+_mel\d+)_(?P<kind>per|ref)(?P<who>\d+))(_(?P<grade>pass|fail))?")
EXPERTS = (("1Asli", "2Asli"), ("5Ozan",), ("3Cihan", "4Cihan"))


def contour(path):
    """MIDI pitch per frame of an f0 file, 0 where unvoiced: the row nearest in time, the later of two as near."""
    rows = np.fromstring(path.read_text(), sep=" ").reshape(-1, 2)
    times, f0 = rows[:, 0], rows[:, 1]
    at = times[0] + HOP * np.arange(int((times[-1] - times[0]) / HOP + 1e-3) + 1)
    right = np.searchsorted(times, at).clip(1, len(times) - 1)
    nearest = np.where(np.abs(times[right] - at) <= np.abs(times[right - 1] - at), right, right - 1)
    reach = 0.75 * max(HOP, np.median(np.diff(times)))
    voiced = (f0[nearest] > 0) & (np.abs(times[nearest] - at) <= reach)
    midi = 69 + 12 * np.log2(np.where(voiced, f0[nearest], 440) / 440)
    return np.where(voiced, midi, 0).astype(np.float32)


def blocks(pitch):
    """Median of the voiced frames of a block of which at least half are voiced, else 0; without unvoiced ends."""
    count = -(-len(pitch) // FRAMES)
    frames = np.zeros((count, FRAMES), np.float32)
    frames.ravel()[: len(pitch)] = pitch
    size = np.full(count, FRAMES)
    size[-1] = len(pitch) - FRAMES * (count - 1)
    voiced = (frames > 0).sum(1)
    medians = median_of_rows(np.where(frames > 0, frames, np.inf), voiced)
    enough = 2 * voiced >= size
    if not (enough & (voiced > 0)).any():
        enough = voiced > 0
    result = np.where(enough & (voiced > 0), medians, 0).astype(np.float32)
    where = np.flatnonzero(result)
    return result[where[0] : where[-1] + 1]


def median_of_rows(rows, counts):
    """The median of the `counts` finite values of each row, the others infinite; 0 where there is none."""
    rows = np.sort(rows, axis=-1)
    last = rows.shape[-1] - 1
    low = np.take_along_axis(rows, np.clip((counts - 1) // 2, 0, last)[..., None], -1)[..., 0]
    high = np.take_along_axis(rows, np.clip(counts // 2, 0, last)[..., None], -1)[..., 0]
    return np.where(counts > 0, (low + high) / 2, 0)


def read(path):
    return blocks(contour(path))


def ratings(path):
    """Mean grade by take in [0, 1]: of an expert's passes first, then of the experts. Rows of a take are merged."""
    cells = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            take = cells.setdefault(row["file"].removesuffix(".wav"), {})
            for column in (column for expert in EXPERTS for column in expert):
                if row[column]:
                    take.setdefault(column, float(row[column]))
    result = {}
    for take, grades in cells.items():
        experts = [[grades[column] for column in expert if column in grades] for expert in EXPERTS]
        means = [sum(passes) / len(passes) for passes in experts if passes]
        if means:
            result[take] = (sum(means) / len(means) - 1) / 3
    return result


def files(data):
    """(parts of the name, path) of the f0 files, in the order of their ids."""
    paths = Path(data, "f0data").iterdir()
    found = [(NAME.fullmatch(path.name.removesuffix(".f0s.txt")), path) for path in paths]
    return sorted(((name, path) for name, path in found if name), key=lambda file: file[0]["id"])
