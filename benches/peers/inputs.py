"""The numbers that every side computes on, and what the loss of them is in float64."""

import math

MARGIN, BINS = 0.5, 5
LR, MOMENTUM, DECAY = 0.005, 0.9, 1e-5
ROWS = 1024  # recordings in the resident synthetic data set
CHANNELS = (1, 4, 8, 16)


def wave(n, d, dtype=None):
    """The numbers every side computes on."""
    import numpy as np

    i, k = np.arange(n)[:, None], np.arange(d)[None, :]
    return (np.sin(0.37 * (i + 1) * (k + 1)) * 0.7 + 0.1 * np.cos(1.3 * i)).astype(dtype or np.float32)


def loss_inputs(kind, n, d):
    """The deterministic embeddings (f32) and labels every side computes on."""
    import numpy as np

    y = np.modf(np.arange(n) * 0.6180339887498949)[0]
    bins = np.minimum(np.floor(BINS * y + 1e-6), BINS - 1)
    if kind in ("ratings", "short"):  # of the second hardly a pair is beyond its margin
        return wave(n, d) / (256 if kind == "short" else 1), (BINS * y).astype(np.float32)
    if kind == "centres":  # of each bin, with noise of a deviation of 0.05
        i, k = np.arange(1, n + 1)[:, None], np.arange(1, d + 1)[None, :]
        noise = np.sin(12.9898 * i + 78.233 * k) * 43758.5453
        noise = 2 * (noise - np.floor(noise)) - 1
        rows = wave(BINS, d, np.float64)[bins.astype(int)] + 0.05 * math.sqrt(3) * noise
        return rows.astype(np.float32), bins.astype(np.float32)
    return wave(n, d), bins.astype(np.float32)


def loss_reference(kind, n, d, rows=512):
    """Loss and gradient in float64, a block of rows at a time."""
    import numpy as np

    z, label = (a.astype(np.float64) for a in loss_inputs(kind, n, d))
    sq, total, grad = (z * z).sum(1), 0.0, np.empty_like(z)
    for s in range(0, n, rows):
        zi = z[s : s + rows]
        dist = np.sqrt(np.maximum(sq[s : s + rows, None] + sq - 2 * zi @ z.T, 0))
        dist[np.arange(len(zi)), s + np.arange(len(zi))] = 0
        w = np.abs(label[s : s + rows, None] - label)
        hinge = np.maximum(MARGIN * w - dist, 0)
        total += np.where(w == 0, dist * dist, hinge * hinge).sum()
        coef = np.where(w == 0, 1.0, -hinge / np.where(dist > 0, dist, np.inf))
        grad[s : s + rows] = coef.sum(1, keepdims=True) * zi - coef @ z
    pairs = n * (n - 1) / 2
    return np.float64(total / 4 / pairs), grad / pairs
