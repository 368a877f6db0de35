"""One of Python's sides: answers requests on stdin until `quit`, a JSON line each.

    worker.py NAME [--device cuda]

`peers.py` starts these; README.md has the protocol. A side's `conv_forms`, `pair_forms`, `step_forms` and so on give the ways to
write the same thing, as {name: () -> ...}; the fastest at warm-up is the one timed, and its name goes into the answer.
"""

import argparse
import ctypes
import gc
import json
import os
import sys
import time

import numpy as np

from cases import ANY, FORWARD, LOSSES, PAIRS
from jax_side import Jax
from torch_side import EtudePython, MetricLearning, Torch

PEERS = {  # made for a device
    "torch-eager": lambda device: Torch(False, device),
    "torch-tf32": lambda device: Torch(False, device, tf32=True),
    "torch-compile": lambda device: Torch(True, device),
    "torch-graphs": lambda device: Torch(True, device, mode="reduce-overhead"),
    "jax": lambda _: Jax(False),
    "jax-hand": lambda _: Jax(True),
    "etude-python": lambda _: EtudePython(),
    "torch-pml": lambda _: MetricLearning(False),
}


def status_kb(field):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field + ":"))


def clocked(run, wait=None):
    start = time.perf_counter()
    out = run()
    if wait:
        wait()
    return (time.perf_counter() - start) * 1e3, out


class Worker:
    """The forms that a peer has for each request, and its answers."""

    def __init__(self, kind, device):
        self.peer, self.device = PEERS[kind](device), device
        self.chosen, self.broken = {}, {}

    def forms(self, op, *sizes):
        op, backward = op.removesuffix(FORWARD), not op.endswith(FORWARD)
        if op in PAIRS:
            return self.peer.pair_forms(op, *sizes, backward=backward)
        if op in LOSSES:
            return self.peer.pairs_loss_forms(op, *sizes)
        return getattr(self.peer, op + "_forms")(*sizes, **({} if op == "step" else {"backward": backward}))

    def first_runs(self, *request):
        """The forms that run at all; what is the matter with the others goes into the answer."""
        forms, cost = self.forms(*request), {}
        for name, run in list(forms.items()):
            try:
                run()
                cost[name] = clocked(run, self.peer.wait)[0]
            except Exception as e:  # noqa: BLE001 - out of memory, or more than this PyTorch can
                del forms[name]
                text = "out of memory" if "out of memory" in str(e) else f"{type(e).__name__}: {e}".splitlines()[0][:160]
                self.broken.setdefault(request, {})[name] = text
            if not forms or request[-2:-1] >= (16384,):
                self.release()
        return forms, cost

    def release(self):
        gc.collect()
        if self.device == "cuda":
            self.peer.torch.cuda.empty_cache()

    def best(self, *request):
        """Name, run and milliseconds of the fastest form."""
        if request not in self.chosen:
            forms, cost = self.first_runs(*request)
            if not forms:
                raise RuntimeError("; ".join(f"{name}: {text}" for name, text in self.broken[request].items()))
            start = time.monotonic()
            turns = 0 if len(forms) == 1 else 6 if request[0] == "step" else 4
            for _ in range(turns):  # the least of each: busy machines lie upwards
                for name, run in forms.items():
                    if cost[name] > 2 * min(cost.values()):
                        continue  # it will not be the fastest
                    cost[name] = min(cost[name], clocked(run, self.peer.wait)[0])
                if time.monotonic() - start > 1:
                    break
            name = min(cost, key=cost.get)
            self.chosen[request] = name, forms[name], cost[name]
        return self.chosen[request]

    def norm(self, values):
        if hasattr(self.peer, "norm"):
            return self.peer.norm(values)
        return float(np.linalg.norm(np.asarray(values, np.float64)))

    def answer(self, op, *args):
        if op in ANY:
            return self.timed(op, *map(int, args))
        if op in ("reference", "values", "warm", "forget", "memory"):
            return getattr(self, op)(*args)
        raise ValueError(f"unknown request {op!r}")

    def timed(self, op, *args):
        *sizes, reps = args
        name, run, cost = self.best(op, *sizes)
        if cost < 100:
            run()  # untimed: the other sides had the caches
        ms = []
        for _ in range(reps):
            took, (value, grad) = clocked(run, self.peer.wait)
            ms.append(took)
        failed = self.broken.get((op, *sizes))
        more = {"failed_forms": failed} if failed else {}
        if op not in ("step", *LOSSES):
            return {"ms": ms, "form": name, "norms": [self.norm(value), *map(self.norm, grad)], **more}
        reply = {"ms": ms, "loss": float(value), "form": name, **more}
        if grad is not None:
            reply["grad_norm"] = self.norm(grad)
        return reply

    def reference(self, *args):
        op, *sizes, path = args
        values = self.peer.reference(op, *map(int, sizes))
        if path != "-":
            np.savez(path, *(v.detach().cpu().numpy() for v in values))
        norms = [self.norm(v) for v in values]
        return {"values": [float(values[0]), *norms[1:]] if op in LOSSES else norms}

    def values(self, path, op, *sizes):
        _, run, _ = self.best(op, *map(int, sizes))
        value, grads = run()
        outputs = [value, *(grads if isinstance(grads, (tuple, list)) else [grads])]
        restore = getattr(run, "restore", None) or (lambda array, _: array)
        arrays = [getattr(self.peer, "array", np.asarray)(v) for v in outputs]
        np.savez(path, *(restore(array, at) for at, array in enumerate(arrays)))
        return {}

    def warm(self, op, *sizes):
        return {"forms": list(self.first_runs(op, *map(int, sizes))[0])}

    def forget(self):
        self.chosen.clear()
        self.peer.forget()
        return {}

    def memory(self, *args):
        at = args.index("=")  # the form comes after it
        run = self.forms(args[0], *map(int, args[1:at]))[" ".join(args[at + 1 :])]
        run(), run()  # compiled, whose memory is not what is asked for
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")  # the high-water mark starts again here
        base = status_kb("VmRSS")
        run()
        return {"peak_kb": max(0, status_kb("VmHWM") - base)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("name", choices=sorted(PEERS))
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = p.parse_args()
    worker = Worker(args.name, args.device)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a library's chatter must not reach the protocol
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            break
        if words:
            try:
                reply = worker.answer(*words)
            except Exception as e:  # noqa: BLE001 - the driver shows it
                reply = {"error": f"{type(e).__name__}: {e}"}
            out.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
