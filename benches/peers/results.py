"""benches/results/all.csv: every row that was measured, appended and never changed."""

import csv
import os
import pathlib

FILE = pathlib.Path(__file__).resolve().parent.parent / "results" / "all.csv"
COLUMNS = [
    "run",  # one call of peers.py; ratios are taken within one alone
    "date",
    "commit",  # a + where the tree had changes
    "machine",  # processor, widest vectors, cores
    "versions",
    "threads",
    "kernel",  # loss, conv1d, dot, ...
    "data",  # of the loss: what rows and labels
    "shape",
    "dtype",
    "mode",  # forward, forward+backward, value+gradient, step
    "provider",  # etude, torch eager, ...
    "form",  # how the provider wrote it: the fastest of several
    "same",  # yes, or no where it computes something else
    "p20_ms",
    "p50_ms",
    "p80_ms",
    "over_etude",  # its time over Etude's, the median of the rounds' own ratios
    "peak_mb",  # beyond what was there before, as the inputs were
    "error",  # the largest |got - f64| / max |f64| of the value and its gradients
    "gflop",  # of Etude, as its kernels count
    "core_gflop_s",  # of Etude: what the core was measured to do at most, in the same run
    "note",  # why there is no time
]


def append(path, rows):
    """Rows, each a dictionary, at the end of the file, in one write."""
    new = not os.path.exists(path) or os.path.getsize(path) == 0
    with open(path, "a", newline="") as f:
        out = csv.DictWriter(f, COLUMNS, restval="", lineterminator="\n")
        if new:
            out.writeheader()
        out.writerows(rows)


def read(path=FILE):
    if not os.path.exists(path):
        return []
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    if rows and list(rows[0]) != COLUMNS:
        raise SystemExit(f"{path}: has other columns than benches/peers/results.py")
    return rows
