"""The path head's inputs: a column of 14 channels per step of an alignment's path."""

import numpy as np
from notes import fold

CHANNELS = 14
TREND = 21


def columns(a, b, path):
    """(steps, 14) of blocks `a` aligned to blocks `b`."""
    x, y = a[path.i], b[path.j]
    both, length = (x > 0) & (y > 0), len(x)
    d = fold(x - y - path.octave - path.shift)
    out = np.empty((length, CHANNELS), np.float32)
    repeats = np.zeros((2, length))
    repeats[0, 1:] = np.diff(path.j) == 0
    repeats[1, 1:] = np.diff(path.i) == 0
    out[:, 0] = np.clip(d, -3, 3) / 1.5 * both
    out[:, 1], out[:, 2], out[:, 3] = both, x > 0, y > 0
    out[:, 4:6] = repeats.T
    out[:, 6] = np.abs(out[:, 0])
    out[:, 7] = both & (np.abs(d) < 0.5)
    out[:, 8] = abs(fold(path.shift)) / 3
    out[:, 9] = (x - np.median(a[a > 0])) / 6 * (x > 0)
    out[:, 10] = (y - np.median(b[b > 0])) / 6 * (y > 0)
    out[:, 11] = np.clip(fold(x - y - path.octave), -3, 3) / 1.5 * both
    out[:, 12] = 2 * np.log(len(a) / len(b))
    # Zeros beyond the ends.
    out[:, 13] = 2 * np.convolve(repeats[0] - repeats[1], np.full(TREND, 1 / TREND))[TREND // 2 :][:length]
    return out
