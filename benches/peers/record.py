"""What a run says of itself, and of each case for benches/results/all.csv."""

import datetime
import importlib.metadata
import os
import platform
import subprocess

from cases import DATA, FORWARD, LOSSES, shape
from sides import OTHER_NUMBERS

OF_RESULTS = [":(top,exclude)benches/results", ":(top,exclude)*.md"]


def environment():
    root = os.path.dirname(os.path.abspath(__file__))

    def first_line(command):
        try:
            return subprocess.run(command, cwd=root, capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""

    def version(package):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    try:
        with open("/proc/cpuinfo") as f:
            cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())
    except OSError:
        cpu = platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            flags = next((set(line.split()) for line in f if line.startswith("flags")), set())
    except OSError:
        flags = set()
    vectors = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), platform.machine())
    return {
        "vectors": vectors,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system() + " " + platform.machine(),
        "python": platform.python_version(),
        "versions": {p: v for p in ("torch", "jax", "numpy", "pytorch-metric-learning") if (v := version(p))},
        "rustc": first_line(["rustc", "--version"]),
        "commit": first_line(["git", "rev-parse", "HEAD"]),
        # Of what is measured: its own results and the documents made of them are none of that.
        "modified": bool(first_line(["git", "status", "--porcelain", "-uno", "--", ":/", *OF_RESULTS])),
    }


def rows(result, case, op, sizes, threads=1):
    """What results.COLUMNS says of each side of a case."""
    kind, what = op.removesuffix(FORWARD), DATA
    kernel = "contrastive loss" if kind in LOSSES else {"conv": "conv1d"}.get(kind, kind)
    mode = "step" if kind == "step" else "value+gradient" if kind in LOSSES else "forward" if kind != op else "forward+backward"
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "Cargo.toml")
    with open(root) as f:
        own = "etude " + next(line.split('"')[1] for line in f if line.startswith("version"))
    versions = {name: f"{name} {version}" for name, version in result["versions"].items()}
    of = lambda name: next((v for n, v in versions.items() if name.startswith(n)), f"{own}, {result['rustc']}")  # noqa: E731
    shared = {
        "run": result["run"],
        "date": result["date"],
        "commit": result["commit"] + "+" * result["modified"],
        "machine": f"{result['cpu']}, {result['vectors']}, {result['cores']} cores",
        "threads": threads,
        "kernel": kernel,
        "data": what.get(kind, "random") if kind in LOSSES else "",
        "shape": shape(op, sizes),
        "dtype": "bf16" if kind == "loss16" else "f32",
        "mode": mode,
    }
    number = lambda x, digits=5: "" if x is None else f"{x:.{digits}g}"  # noqa: E731
    out = []
    for name, side in case["sides"].items():
        row = {
            **shared,
            "versions": of(name),
            "provider": name,
            "form": side.get("form") if name != "etude" else "",
            "same": "no" if name in OTHER_NUMBERS else "yes",
            "note": side.get("wrong") or side.get("failed") or "",
        }
        for column, key in (("p20_ms", "p20_ms"), ("p50_ms", "median_ms"), ("p80_ms", "p80_ms"), ("over_etude", "over_etude")):
            row[column] = number(side.get(key))
        row["peak_mb"] = number(side["peak_kb"] / 1024, 4) if side.get("peak_kb") is not None else ""
        row["error"] = number(side.get("error"), 2)
        row["gflop"] = number(side["flops"] / 1e9) if side.get("flops") else ""
        row["core_gflop_s"] = number(side.get("core_gflop_s"), 4)
        out.append(row)
    return out
