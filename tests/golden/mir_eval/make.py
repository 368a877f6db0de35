"""What mir_eval.melody.evaluate says of pairs of f0 series: `python make.py > melody.json`, mir_eval 0.8.2, NumPy 2.4."""

import json
import warnings

import mir_eval
import numpy as np

warnings.simplefilter("ignore")
random = np.random.default_rng(16)


def series(hop, rows, start=0.0, negative=False, seed=0):
    """A tune with rests; f0 of what is thought to be unvoiced may be negative, as mir_eval's convention has it."""
    own = np.random.default_rng(seed)
    times = start + hop * np.arange(rows)
    f0 = 220 * 2 ** (np.floor(times * 6) % 5 / 12 + 0.01 * own.standard_normal(rows))
    rest = (np.floor(times * 9) % 4) == 0
    f0 = np.where(rest, -f0 if negative else 0, f0)
    return np.round(times, 9), np.round(f0, 6)


def spoiled(times, f0):
    """As another tracker has it: octaves, wrong notes, rests elsewhere."""
    f0 = f0.copy()
    for _ in range(4):
        at = random.integers(len(f0) - 6)
        f0[at : at + 6] *= random.choice([0.5, 2.0, 1.06, 0.0, -1.0])
    return times, f0


cases = {
    "same": (series(0.01, 70), series(0.01, 70)),
    "spoiled": (series(0.01, 70), spoiled(*series(0.01, 70))),
    "other_hop": (series(0.01, 70), spoiled(*series(0.0058, 121, seed=1))),
    "coarser": (series(0.0058, 100), spoiled(*series(0.02, 30, seed=2))),
    "late": (series(0.01, 60, 0.03), spoiled(*series(0.013, 50, 0.05, seed=3))),
    "shorter": (series(0.01, 70), spoiled(*series(0.01, 40))),
    "negative": (series(0.01, 70, negative=True), spoiled(*series(0.007, 100, negative=True, seed=4))),
    "nothing_found": (series(0.01, 40), (series(0.01, 40)[0], np.zeros(40))),
    "nothing_there": ((series(0.01, 40)[0], np.zeros(40)), series(0.01, 40)),
}
out = {}
for name, (reference, estimate) in cases.items():
    scores = mir_eval.melody.evaluate(*reference, *estimate)
    out[name] = {
        "reference": [list(map(float, part)) for part in reference],
        "estimate": [list(map(float, part)) for part in estimate],
        "scores": {key.lower().replace(" ", "_"): float(value) for key, value in scores.items()},
    }
print(json.dumps(out))
