"""The sides of a comparison as the driver sees them: processes that answer a request a line."""

import json
import os
import select
import subprocess
import sys
import time

from cases import ANY, FORWARD, LOSSES, PAIRS

# The glibc allocator told to keep what it has: separates arithmetic from page faults.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(16 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# A lone convolution is the same call of oneDNN compiled or not, and a dot product the same one of MKL.
COMPILED = ("step", *LOSSES, *(op + end for op in PAIRS[1:] for end in ("", FORWARD)))
# name: (worker, allocator tuned, requests it takes)
ON_CPU = {
    "etude from Python": ("etude-python", False, tuple(op for op in ANY if op not in ("step", "loss16"))),
    "torch eager": ("torch-eager", False, ANY),
    "torch eager, malloc tuned": ("torch-eager", True, ANY),
    "torch.compile": ("torch-compile", False, COMPILED),
    "torch.compile, malloc tuned": ("torch-compile", True, COMPILED),
    "jax.jit": ("jax", False, ANY),
    # Its loss goes by blocks that fit the caches.
    "jax.jit, malloc tuned": ("jax", True, tuple(op for op in ANY if op not in LOSSES)),
    "jax.jit, gradient by hand": ("jax-hand", False, LOSSES),
    "pytorch-metric-learning": ("torch-pml", False, ("loss", "centres")),
}
# Where they are not installed there is no such side.
NEEDS = {"etude-python": "etude", "torch-pml": "pytorch_metric_learning"}
OTHER_NUMBERS = ("pytorch-metric-learning",)
ON_CUDA = {
    "torch eager": ("torch-eager", False, ("step", *LOSSES, "conv", *PAIRS)),
    "torch eager, TF32": ("torch-tf32", False, ("conv", *PAIRS)),
    "torch.compile": ("torch-compile", False, ("step", *LOSSES, *PAIRS)),
    "torch.compile, CUDA graphs": ("torch-graphs", False, ("step", *LOSSES, *PAIRS)),
}


class Failed(Exception):
    """What a side could not do."""


class Side:
    """A worker process and its pipe; started at the first request, and at the next where it has died."""

    def __init__(self, name, command, cpus, env=None, takes=ANY, worker=None):
        self.name, self.takes = name, takes
        self.worker = worker  # which of worker.py's; None of Etude's own process
        self.command, self.cpus, self.env = command, cpus, env
        self.process = None

    def start(self):
        self.buffer = b""
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **ONE_THREAD, **(self.env or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, self.cpus) if self.cpus else None,
        )

    def ask(self, request, timeout=900):
        if not self.process:
            self.start()
        try:
            self.process.stdin.write((request + "\n").encode())
            deadline = time.monotonic() + timeout
            while b"\n" not in self.buffer:
                if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                    raise self.died(f"no answer in {timeout:.0f} s")
                chunk = os.read(self.process.stdout.fileno(), 1 << 16)
                if not chunk:
                    raise self.died("ended without an answer")
                self.buffer += chunk
        except BrokenPipeError:
            raise self.died("gone before it was asked") from None
        line, self.buffer = self.buffer.split(b"\n", 1)
        try:
            reply = json.loads(line)
        except ValueError:
            raise self.died(f"answered {line!r}, not JSON") from None
        if "error" in reply:
            raise Failed(reply["error"])
        return reply

    def died(self, why):
        self.kill()
        return Failed(why)

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
        self.process = None

    def quit(self):
        if not self.process:
            return
        try:
            self.process.stdin.write(b"quit\n")
            self.process.stdin.close()
            self.process.wait(10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


def build_etude(card):
    command = ["cargo", "bench", "--no-run", "--no-default-features", "--message-format=json", "--bench", "peers"]
    command += ["--features", "cuda"] if card else []
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("peers: `" + " ".join(command) + "` failed")
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message.get("target", {}).get("name") == "peers":
            return message["executable"]
    sys.exit("peers: cargo named no executable for the bench `peers`")
