#!/usr/bin/env python3
"""Etude against PyTorch and JAX, interleaved in one run: one thread each, or one card.

    benches/peers/peers.py                 the full table (about six minutes)
    benches/peers/peers.py --quick         two cases, about a minute
    benches/peers/peers.py --json out.json a machine-readable copy of everything
    benches/peers/peers.py --device cuda   on an NVIDIA card, against PyTorch there; scripts/gpu-report does that

Every side, Etude included, is a worker process that reads one request per line
and answers one JSON line (README.md has the protocol). The driver speaks to all
of them alike, round by round, so that a slow minute of the machine hits every
side. No ratio is printed before every side's loss and gradient norm agree with
a float64 reference.
"""

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import platform
import select
import subprocess
import sys
import time

MARGIN, BINS = 0.5, 5
LR, MOMENTUM, DECAY = 0.005, 0.9, 1e-5
ROWS = 1024  # recordings in the resident synthetic data set
CHANNELS = (1, 4, 8, 16)
TOLERANCE = 1e-4  # relative, f32 sides against the f64 reference
TF32_TOLERANCE = 1e-2  # 10 bits of each factor, 5e-4; sums that cancel lose more

# The glibc allocator told to keep what it has: separates arithmetic from page faults.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(16 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
JAX_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

# name: (worker, allocator tuned, requests it takes)
PAIRS = ("dot", "cosine", "euclidean")
ON_CPU = {
    "torch eager": ("torch-eager", False, ("step", "loss")),
    "torch eager, malloc tuned": ("torch-eager", True, ("step", "loss")),
    "torch.compile": ("torch-compile", False, ("step", "loss")),
    "torch.compile, malloc tuned": ("torch-compile", True, ("step", "loss")),
    "jax.jit": ("jax", False, ("step", "loss")),
    "jax.jit, gradient by hand": ("jax-hand", False, ("loss",)),
}
ON_CUDA = {
    "torch eager": ("torch-eager", False, ("step", "loss", "conv", *PAIRS)),
    "torch eager, TF32": ("torch-tf32", False, ("conv", *PAIRS)),
    "torch.compile": ("torch-compile", False, ("step", "loss", *PAIRS)),
    "torch.compile, CUDA graphs": ("torch-graphs", False, ("step", "loss", *PAIRS)),
}


def wave(n, d):
    """The numbers (f32) every side computes on."""
    import numpy as np

    i, k = np.arange(n)[:, None], np.arange(d)[None, :]
    return (np.sin(0.37 * (i + 1) * (k + 1)) * 0.7 + 0.1 * np.cos(1.3 * i)).astype(np.float32)


def loss_inputs(n, d):
    """The deterministic embeddings (f32) and bins every side computes on."""
    import numpy as np

    y = np.modf(np.arange(n) * 0.6180339887498949)[0]
    return wave(n, d), np.minimum(np.floor(BINS * y + 1e-6), BINS - 1).astype(np.float32)


def loss_reference(n, d, rows=512):
    """Loss and gradient norm in float64, a block of rows at a time."""
    import numpy as np

    z, label = (a.astype(np.float64) for a in loss_inputs(n, d))
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
    return float(total / 4 / pairs), float(np.linalg.norm(grad / pairs))


# ----------------------------------------------------------------------------------------------
# Workers. `loss_forms(n, d)` and `step_forms(b, t)` give the ways to write the same thing, as
# {name: () -> ...}; the fastest at warm-up is the one timed, and its name goes into the answer.
# ----------------------------------------------------------------------------------------------


class Torch:
    def __init__(self, compiled, device="cpu", mode=None, tf32=False):
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        torch.set_default_device(device)
        # Etude computes in f32; cuDNN would not, unless told.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        self.torch, self.compiled, self.device, self.mode = torch, compiled, device, mode
        self.wait = torch.cuda.synchronize if device == "cuda" else None
        if compiled:
            import logging

            logging.getLogger("torch").setLevel(logging.ERROR)

    def tensor(self, array):
        return self.torch.from_numpy(array).to(self.device)

    def compile(self, f, **options):
        return self.torch.compile(f, dynamic=False, mode=self.mode, **options)

    def both_ways(self, f, a, b):
        """Forward, and backward with the output itself as the gradient from above."""
        torch, f = self.torch, self.compile(f) if self.compiled else f
        a, b = a.requires_grad_(True), b.requires_grad_(True)

        def run():
            y = f(a, b)
            return y.detach(), torch.autograd.grad(y, (a, b), y.detach())

        return run

    def conv_forms(self, batch, cin, cout, t, k, stride):
        F = self.torch.nn.functional
        x = self.tensor(wave(batch * cin, t).reshape(batch, cin, t))
        w = self.tensor(wave(cout * cin, k).reshape(cout, cin, k))
        return {"conv1d": self.both_ways(lambda x, w: F.conv1d(x, w, stride=stride), x, w)}

    def pair_forms(self, kind, n, d):
        torch, F = self.torch, self.torch.nn.functional
        rows = wave(2 * n, d)
        a, b = self.tensor(rows[:n]), self.tensor(rows[n:])

        def gram_euclidean(a, b):
            return ((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)).clamp(min=1e-12).sqrt()

        forms = {
            "dot": {"matmul": lambda a, b: a @ b.T},
            "cosine": {"normalize, matmul": lambda a, b: F.normalize(a, dim=1) @ F.normalize(b, dim=1).T},
            "euclidean": {"cdist": torch.cdist, "gram": gram_euclidean},
        }[kind]
        return {name: self.both_ways(f, a, b) for name, f in forms.items() if not (self.compiled and name == "cdist")}

    def loss_forms(self, n, d):
        torch, scale = self.torch, 0.5 / (n * (n - 1))
        z, label = map(self.tensor, loss_inputs(n, d))

        def weights(label):
            return (label[:, None] - label).abs()

        def cdist(z, label):  # N x N, every pair twice
            w, dist = weights(label), torch.cdist(z, z)
            return torch.where(w == 0, dist * dist, (MARGIN * w - dist).clamp(min=0) ** 2).sum() * scale

        def gram(z, label):
            sq = (z * z).sum(1)
            d2 = sq[:, None] + sq - 2 * (z @ z.T)
            w, near = weights(label), d2 < 1e-7
            dist = torch.where(near, 0.0, torch.where(near, 1.0, d2).sqrt())
            return torch.where(w == 0, dist * dist, (MARGIN * w - dist).clamp(min=0) ** 2).sum() * scale

        def gram_clamped(z, label):  # fewer passes: clamp under the root, no root for positives
            sq = (z * z).sum(1)
            d2 = torch.addmm(sq[:, None] + sq, z, z.T, alpha=-2).clamp(min=1e-7)
            w = weights(label)
            return torch.where(w == 0, d2, (MARGIN * w - d2.sqrt()).clamp(min=0) ** 2).sum() * scale

        def pdist(z, label):  # i < j alone
            w, dist = torch.pdist(label[:, None], p=1), torch.pdist(z)
            return torch.where(w == 0, dist * dist, (MARGIN * w - dist).clamp(min=0) ** 2).sum() * (2 * scale)

        def backward(f):
            def run():
                zi = z.detach().requires_grad_(True)
                loss = f(zi, label)
                loss.backward()
                return loss.detach(), zi.grad

            return run

        if not self.compiled:
            # pdist's derivative is not written for pairs beyond 32 bits.
            return {f.__name__: backward(f) for f in (cdist, gram, gram_clamped, *([pdist] if n < 16384 else []))}
        forms = {}
        for f in (gram, gram_clamped):
            forms[f.__name__] = backward(self.compile(f))
            whole = self.compile(torch.func.grad_and_value(f), fullgraph=True)
            forms[f.__name__ + ", one graph"] = lambda whole=whole: whole(z, label)[::-1]
        return forms

    def step_forms(self, b, t):
        torch, F = self.torch, self.torch.nn.functional
        x, y = torch.randn(ROWS, CHANNELS[0], t), torch.rand(ROWS)
        batches = [torch.randint(0, ROWS, (b,)) for _ in range(8)]

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                pairs = list(zip(CHANNELS, CHANNELS[1:]))
                self.conv = torch.nn.ModuleList(torch.nn.Conv1d(i, o, 7, 3, bias=False) for i, o in pairs)
                self.bn = torch.nn.ModuleList(torch.nn.BatchNorm1d(o) for _, o in pairs)
                for bn in self.bn:
                    bn.num_batches_tracked = None  # momentum is fixed: nothing reads the count
                self.hidden, self.out = torch.nn.Linear(16, 8), torch.nn.Linear(8, 1)

            def forward(self, x):
                for conv, bn in zip(self.conv, self.bn):
                    x = F.relu(bn(conv(x)))
                return torch.sigmoid(self.out(self.hidden(x.mean(2))))[:, 0]

        def make(compile_step, **options):
            net, turn = Net(), iter(range(1 << 60))
            opt = torch.optim.SGD(net.parameters(), LR, MOMENTUM, weight_decay=DECAY, **options)

            def loss(index):
                return F.mse_loss(net(x.index_select(0, index)), y.index_select(0, index))

            def update():
                opt.step()

            if self.compiled:
                loss = self.compile(loss)
                update = torch.compile(update) if compile_step else update

            def run():
                opt.zero_grad(set_to_none=True)
                value = loss(batches[next(turn) % 8])
                value.backward()
                update()
                return value.item(), None

            return run

        def make_whole():  # forward, backward and update as one graph
            net, turn = Net(), iter(range(1 << 60))
            params = {k: v.detach().clone() for k, v in net.named_parameters()}
            stats = {k: v.clone() for k, v in net.named_buffers()}
            momentum = {k: torch.zeros_like(v) for k, v in params.items()}

            def loss(params, stats, index):
                after = {k: v.clone() for k, v in stats.items()}
                rating = torch.func.functional_call(net, (params, after), (x.index_select(0, index),))
                return F.mse_loss(rating, y.index_select(0, index)), after

            def step(params, momentum, stats, index):
                g, (value, after) = torch.func.grad_and_value(loss, has_aux=True)(params, stats, index)
                for k, v in stats.items():
                    v.copy_(after[k])
                for k, p in params.items():
                    momentum[k].mul_(MOMENTUM).add_(g[k] + DECAY * p)
                    p.sub_(momentum[k], alpha=LR)
                return value

            step = self.compile(step, fullgraph=True)
            return lambda: (step(params, momentum, stats, batches[next(turn) % 8]).item(), None)

        if self.compiled:
            return {
                "fused SGD": make(False, fused=True),
                "compiled foreach SGD": make(True, foreach=True),
                "one graph": make_whole(),
            }
        return {"fused SGD": make(False, fused=True), "foreach SGD": make(False, foreach=True)}


class Jax:
    wait = None

    def __init__(self, by_hand):
        os.environ["XLA_FLAGS"] = JAX_FLAGS
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        self.jax, self.by_hand = jax, by_hand

    def loss_forms(self, n, d):
        jax, jnp, scale = self.jax, self.jax.numpy, 0.5 / (n * (n - 1))
        z, label = map(jax.device_put, loss_inputs(n, d))

        def block(zi, qi, li, z, sq, label):
            d2 = jnp.maximum(qi[:, None] + sq - 2 * (zi @ z.T), 1e-7)
            w = jnp.abs(li[:, None] - label)
            return jnp.where(w == 0, d2, jnp.maximum(MARGIN * w - jnp.sqrt(d2), 0) ** 2).sum()

        def gram(z, label):
            sq = (z * z).sum(1)
            d2 = sq[:, None] + sq - 2 * (z @ z.T)
            w, near = jnp.abs(label[:, None] - label), d2 < 1e-7
            dist = jnp.where(near, 0.0, jnp.sqrt(jnp.where(near, 1.0, d2)))
            return jnp.where(w == 0, dist * dist, jnp.maximum(MARGIN * w - dist, 0) ** 2).sum() * scale

        def gram_clamped(z, label):
            sq = (z * z).sum(1)
            return block(z, sq, label, z, sq, label) * scale

        def blocked(z, label, rows):  # row blocks, recomputed in the backward pass
            sq = (z * z).sum(1)
            one = jax.checkpoint(lambda a: block(*a, z, sq, label))
            return jax.lax.map(one, split(z, sq, label, rows)).sum() * scale

        def split(z, sq, label, rows):
            return z.reshape(-1, rows, d), sq.reshape(-1, rows), label.reshape(-1, rows)

        def hand(z, label, rows):  # value and gradient of a block together, as Etude's kernel does
            sq = (z * z).sum(1)

            def one(a):
                zi, qi, li = a
                d2 = jnp.maximum(qi[:, None] + sq - 2 * (zi @ z.T), 0)
                w, near = jnp.abs(li[:, None] - label), d2 < 1e-7
                dist = jnp.sqrt(d2)
                hinge = jnp.maximum(MARGIN * w - dist, 0)
                coef = jnp.where(w == 0, 1.0, jnp.where(near, 0.0, -hinge / jnp.where(near, 1.0, dist)))
                value = jnp.where(w == 0, d2, hinge * hinge).sum()
                return value, coef.sum(1)[:, None] * zi - coef @ z

            value, grad = jax.lax.map(one, split(z, sq, label, rows))
            return value.sum() * scale, grad.reshape(n, d) * (4 * scale)

        sizes = [r for r in (32, 128) if n % r == 0] or [n]
        if self.by_hand:
            forms = {f"blocks of {r}": lambda z, l, r=r: hand(z, l, r) for r in sizes}
            forms["whole matrix"] = lambda z, l: hand(z, l, n)
        else:
            forms = {f.__name__: jax.value_and_grad(f) for f in (gram, gram_clamped)}
            for r in sizes:
                forms[f"blocks of {r}"] = jax.value_and_grad(lambda z, l, r=r: blocked(z, l, r))
        jitted = {name: jax.jit(f) for name, f in forms.items()}
        return {name: lambda f=f: jax.block_until_ready(f(z, label)) for name, f in jitted.items()}

    def step_forms(self, b, t):
        import numpy as np

        jax, jnp, lax = self.jax, self.jax.numpy, self.jax.lax
        rng = np.random.default_rng(0)

        def normal(*shape, scale=1.0):
            return jnp.asarray(rng.standard_normal(shape) * scale, jnp.float32)

        batches = [jnp.asarray(rng.integers(0, ROWS, b)) for _ in range(8)]

        def conv_ncw(x, w):
            return lax.conv_general_dilated(x, w, (3,), "VALID", dimension_numbers=("NCH", "OIH", "NCH"))

        def conv_nwc(x, w):
            return lax.conv_general_dilated(x, w, (3,), "VALID", dimension_numbers=("NHC", "HIO", "NHC"))

        def gather_nwc(x, w):  # seven strided slices side by side, then one matrix product
            size = (x.shape[1] - 7) // 3 + 1
            taps = jnp.concatenate([x[:, k : k + 3 * (size - 1) + 1 : 3] for k in range(7)], -1)
            return taps @ w.reshape(-1, w.shape[2])

        def make(conv, time_last, one_pass):
            time_axis, over, wide = (2, (0, 2), (1, -1, 1)) if time_last else (1, (0, 1), (1, 1, -1))
            x = normal(ROWS, CHANNELS[0], t) if time_last else normal(ROWS, t, CHANNELS[0])
            y = jnp.asarray(rng.random(ROWS), jnp.float32)
            p = {"w": [], "gain": [], "shift": []}
            for i, o in zip(CHANNELS, CHANNELS[1:]):
                p["w"].append(normal(*((o, i, 7) if time_last else (7, i, o)), scale=(7 * i) ** -0.5))
                p["gain"].append(jnp.ones(o))
                p["shift"].append(jnp.zeros(o))
            p["hidden"] = (normal(16, 8, scale=0.25), jnp.zeros(8))
            p["out"] = (normal(8, 1, scale=0.35), jnp.zeros(1))
            running = [(jnp.zeros(o), jnp.ones(o)) for o in CHANNELS[1:]]

            def loss(p, running, x, y):
                after = []
                for w, gain, shift, (rm, rv) in zip(p["w"], p["gain"], p["shift"], running):
                    x = conv(x, w)
                    count, mean = x.size // w.shape[0 if time_last else 2], x.mean(over)
                    if one_pass:
                        var = (x * x).mean(over) - mean * mean
                    else:
                        var = ((x - mean.reshape(wide)) ** 2).mean(over)
                    after.append((0.9 * rm + 0.1 * mean, 0.9 * rv + 0.1 * var * (count / (count - 1))))
                    gain = gain * lax.rsqrt(var + 1e-5)
                    x = jax.nn.relu((x - mean.reshape(wide)) * gain.reshape(wide) + shift.reshape(wide))
                h = x.mean(time_axis) @ p["hidden"][0] + p["hidden"][1]
                rating = jax.nn.sigmoid(h @ p["out"][0] + p["out"][1])[:, 0]
                return ((rating - y) ** 2).mean(), after

            def step(p, m, running, x, y, index):
                xb, yb = (a.at[index].get(mode="promise_in_bounds") for a in (x, y))
                (value, running), g = jax.value_and_grad(loss, has_aux=True)(p, running, xb, yb)
                m = jax.tree.map(lambda m, g, p: MOMENTUM * m + g + DECAY * p, m, g, p)
                return jax.tree.map(lambda p, m: p - LR * m, p, m), m, running, value

            jitted = jax.jit(step, donate_argnums=(0, 1, 2))
            state, turn = [p, jax.tree.map(jnp.zeros_like, p), running], iter(range(1 << 60))

            def run():
                *state[:], value = jitted(*state, x, y, batches[next(turn) % 8])
                return float(value), None

            return run

        return {
            "conv NCW": make(conv_ncw, True, False),
            "conv NCW, one-pass variance": make(conv_ncw, True, True),
            "conv NWC, one-pass variance": make(conv_nwc, False, True),
            "slices + matmul NWC": make(gather_nwc, False, False),
            "slices + matmul NWC, one-pass variance": make(gather_nwc, False, True),
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


def worker(kind, form, device):
    """Answers requests on stdin until `quit`."""
    import numpy as np

    peer = {
        "torch-eager": lambda: Torch(False, device),
        "torch-tf32": lambda: Torch(False, device, tf32=True),
        "torch-compile": lambda: Torch(True, device),
        "torch-graphs": lambda: Torch(True, device, mode="reduce-overhead"),
        "jax": lambda: Jax(False),
        "jax-hand": lambda: Jax(True),
    }[kind]()
    chosen = {}

    def make(op, *sizes):
        if op in PAIRS:
            return peer.pair_forms(op, *sizes)
        return {"step": peer.step_forms, "loss": peer.loss_forms, "conv": getattr(peer, "conv_forms", None)}[op](*sizes)

    def best(*request):
        if request not in chosen:
            op, forms = request[0], make(*request)
            forms = {form: forms[form]} if form else forms  # the driver asks for one it knows
            for run in forms.values():
                run(), run()
            cost = dict.fromkeys(forms, math.inf)
            for _ in range(6 if op == "step" else 4):  # in turn, the least of each: busy machines lie upwards
                for name, run in forms.items():
                    cost[name] = min(cost[name], clocked(run, peer.wait)[0])
            name = min(cost, key=cost.get)
            chosen[request] = name, forms[name]
        return chosen[request]

    def norm(tensor):
        return float(np.linalg.norm(np.asarray(tensor.cpu() if hasattr(tensor, "cpu") else tensor, np.float64)))

    def answer(op, *args):
        if op in ("step", "loss", "conv", *PAIRS):
            *sizes, reps = map(int, args)
            name, run = best(op, *sizes)
            run()  # untimed: the other sides had the caches
            ms = []
            for _ in range(reps):
                took, (value, grad) = clocked(run, peer.wait)
                ms.append(took)
            if op not in ("step", "loss"):
                return {"ms": ms, "form": name, "norms": [norm(value), *map(norm, grad)]}
            reply = {"ms": ms, "loss": float(value), "form": name}
            if grad is not None:
                reply["grad_norm"] = norm(grad)
            return reply
        if op == "rss":
            import ctypes
            import gc

            name, run = best("loss", *map(int, args))  # compiles; its memory is not the loss's
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            with open("/proc/self/clear_refs", "w") as f:
                f.write("5")  # the high-water mark starts again here
            base = status_kb("VmRSS")
            run()
            return {"base_kb": base, "peak_kb": status_kb("VmHWM"), "form": name}
        raise ValueError(f"unknown request {op!r}")

    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a library's chatter must not reach the protocol
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            break
        if words:
            try:
                reply = answer(*words)
            except Exception as e:  # noqa: BLE001 - the driver prints it and stops
                reply = {"error": f"{type(e).__name__}: {e}"}
            out.write(json.dumps(reply) + "\n")


# ----------------------------------------------------------------------------------------------
# Driver
# ----------------------------------------------------------------------------------------------


class Side:
    """A worker process and its pipe."""

    def __init__(self, name, command, cpus, env=None, takes=("step", "loss", "conv", *PAIRS)):
        self.name, self.takes, self.buffer = name, takes, b""
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **ONE_THREAD, **(env or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, cpus) if cpus else None,
        )

    def ask(self, request, timeout=900):
        try:
            self.process.stdin.write((request + "\n").encode())
            deadline = time.monotonic() + timeout
            while b"\n" not in self.buffer:
                if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                    sys.exit(f"peers: {self.name}: no answer to `{request}` in {timeout} s")
                chunk = os.read(self.process.stdout.fileno(), 1 << 16)
                if not chunk:
                    sys.exit(f"peers: {self.name}: ended while working on `{request}`")
                self.buffer += chunk
        except BrokenPipeError:
            sys.exit(f"peers: {self.name}: gone before `{request}`")
        line, self.buffer = self.buffer.split(b"\n", 1)
        try:
            reply = json.loads(line)
        except ValueError:
            sys.exit(f"peers: {self.name}: `{request}` answered {line!r}, not JSON")
        if "error" in reply:
            sys.exit(f"peers: {self.name}: `{request}`: {reply['error']}")
        return reply

    def quit(self):
        try:
            self.process.stdin.write(b"quit\n")
            self.process.stdin.close()
            self.process.wait(30)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()


def build_etude():
    command = ["cargo", "bench", "--no-run", "--message-format=json", "--bench", "peers"]
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("peers: `" + " ".join(command) + "` failed")
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message.get("target", {}).get("name") == "peers":
            return message["executable"]
    sys.exit("peers: cargo named no executable for the bench `peers`")


def percentile(values, q):
    s = sorted(values)
    at = q * (len(s) - 1)
    low = math.floor(at)
    return s[low] + (s[min(low + 1, len(s) - 1)] - s[low]) * (at - low)


def median(values):
    return percentile(values, 0.5)


def figure(x):
    return f"{x:.3g}" if x < 1000 else f"{x:.0f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


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
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system() + " " + platform.machine(),
        "python": platform.python_version(),
        "versions": {p: v for p in ("torch", "jax", "numpy") if (v := version(p))},
        "rustc": first_line(["rustc", "--version"]),
        "commit": first_line(["git", "rev-parse", "HEAD"]),
        "modified": bool(first_line(["git", "status", "--porcelain", "-uno"])),
    }


CASES = [  # op, sizes, repetitions per round
    ("step", (64, 1000), 15),
    ("step", (512, 1000), 4),
    ("loss", (1024, 16), 8),
    ("loss", (1024, 128), 6),
    ("loss", (4096, 16), 2),
    ("loss", (4096, 128), 2),
]
CASES_ON_CUDA = [
    ("step", (64, 1000), 200),
    ("step", (512, 1000), 100),
    ("conv", (512, 1, 4, 1000, 7, 3), 50),  # batch, channels in and out, frames, taps, stride
    ("conv", (512, 4, 8, 332, 7, 3), 50),
    ("conv", (512, 8, 16, 109, 7, 3), 50),
    ("conv", (32, 64, 128, 512, 5, 1), 50),
    ("loss", (1024, 16), 100),
    ("loss", (4096, 128), 20),
    ("loss", (16384, 128), 5),
    ("dot", (16384, 128), 5),
    ("cosine", (16384, 128), 5),
    ("euclidean", (16384, 128), 5),
]
# Enough to see that all of it works.
CASES_TO_TRY = [("step", (64, 1000), 2), ("conv", (2, 1, 4, 50, 7, 3), 2), ("loss", (64, 16), 2)] + [
    (kind, (48, 16), 2) for kind in PAIRS
]


def title(op, sizes):
    if op == "step":
        return "step B={} T={}".format(*sizes)
    if op == "conv":
        return "conv B={} {}->{} T={} k={} s={}".format(*sizes)
    return "{} N={} D={}".format(op, *sizes)


def drive(args):
    load = os.getloadavg()[0]  # before cargo adds its own
    os.environ.update(ONE_THREAD)  # numpy's own, before it is imported
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    core, cores = set(allowed[-1:]), set(allowed[-args.threads :])
    card = args.device == "cuda"
    if card:
        core = set()  # the host's threads serve the card, none is what is measured
    known = ON_CUDA if card or args.trial else ON_CPU
    cases = CASES_TO_TRY if args.trial else CASES_ON_CUDA if card else CASES
    if args.quick and not args.trial:
        cases = [c for c in cases if c[1] in ((64, 1000), (1024, 16))]
    if args.only:
        cases = [c for c in cases if args.only in title(*c[:2])]
    names = [n for n in known if any(n.startswith(p) for p in args.peers.split(","))] if args.peers else list(known)
    rounds = args.rounds or (3 if args.quick else 7)
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731

    exe = None if args.no_etude else args.etude or build_etude()
    etude = lambda threads: [exe, "--bench", "--device", args.device, "--threads", str(threads)]  # noqa: E731
    worker = [sys.executable, os.path.abspath(__file__), "--device", args.device, "--worker"]
    peer = lambda name, *more: [*worker, known[name][0], *more]  # noqa: E731
    env = lambda name: MALLOC if known[name][1] else {}  # noqa: E731
    on = "one card" if card else "one thread"
    result = {**environment(), "device": args.device, "on": on, "load": [load], "rounds": rounds, "cases": [], "rss": [], "scaling": []}

    sides = [Side("etude", etude(1), core)] if exe else []
    sides += [Side(n, peer(n), core, env(n), known[n][2]) for n in names]
    for op, sizes, reps in cases:
        here = [s for s in sides if op in s.takes]
        request = " ".join(map(str, (op, *sizes)))
        case = {"case": title(op, sizes), "op": op, "sizes": list(sizes), "sides": {}}
        say(f"{case['case']}: warming up")
        ms = {s.name: [] for s in here}
        reference = loss_reference(*sizes) if op == "loss" else None
        for s in here:
            reply = s.ask(f"{request} 3")
            if "norms" in reply:  # of the output and both gradients; the first side's hold for all
                got, names_of = reply["norms"], ("norm of the output", "of the first gradient", "of the second")
                reference = reference or got
            else:
                got, names_of = [reply["loss"]] + ([reply["grad_norm"]] if reference else []), ("loss", "gradient norm")
            tolerance = TF32_TOLERANCE if s.name.endswith("TF32") else TOLERANCE
            for what, value, want in zip(names_of, got, reference or got):
                if not math.isfinite(value) or abs(value - want) > tolerance * abs(want):
                    sys.exit(f"peers: {s.name}: {case['case']}: {what} {value!r}, should be {want!r}")
            case["sides"][s.name] = {"form": reply.get("form"), "values": got}
        say(f"{case['case']}: {rounds} rounds")
        for r in range(rounds):
            turn = here[r % len(here) :] + here[: r % len(here)]  # nobody is always first
            for s in turn:
                ms[s.name].append(s.ask(f"{request} {reps}")["ms"])
        for s in here:
            flat = [t for block in ms[s.name] for t in block]
            case["sides"][s.name] |= {
                "median_ms": median(flat),
                "p20_ms": percentile(flat, 0.2),
                "p80_ms": percentile(flat, 0.8),
                "ms": ms[s.name],
            }
            if exe:
                paired = [median(p) / median(e) for p, e in zip(ms[s.name], ms["etude"])]
                case["sides"][s.name]["over_etude"] = median(paired)
        result["cases"].append(case)
    for s in sides:
        s.quit()

    sizes = [c[1] for c in cases if c[0] == "loss"]
    if sizes and known is ON_CPU:
        n, d = (4096, 16) if (4096, 16) in sizes else sizes[-1]
        forms = next(c["sides"] for c in result["cases"] if c["sizes"] == [n, d] and c["op"] == "loss")
        result["rss_case"] = title("loss", (n, d))
        say(f"{result['rss_case']}: peak memory")
        for name in (["etude"] if exe else []) + [x for x in names if not known[x][1]]:
            command = etude(1) if name == "etude" else peer(name, "--form", forms[name]["form"])
            fresh = Side(name, command, core)
            reply = fresh.ask(f"rss {n} {d}")
            fresh.quit()
            result["rss"].append({"side": name, **reply, "mb": (reply["peak_kb"] - reply["base_kb"]) / 1024})

    if exe and known is ON_CPU and args.threads > 1 and len(cores) == args.threads:
        pair = [Side("etude", etude(1), core), Side(f"etude x{args.threads}", etude(args.threads), cores)]
        scaled = [c for c in cases if c[1] in ((512, 1000), (4096, 16), (4096, 128))] or cases
        for op, sizes, reps in scaled:
            request = " ".join(map(str, (op, *sizes)))
            say(f"{title(op, sizes)}: {args.threads} threads")
            for s in pair:
                s.ask(f"{request} 3")
            ratio, one, many = [], [], []
            for _ in range(rounds):
                x, y = (s.ask(f"{request} {reps}")["ms"] for s in pair)
                ratio.append(median(x) / median(y))
                one, many = one + x, many + y
            result["scaling"].append(
                {
                    "case": title(op, sizes),
                    "threads": args.threads,
                    "one_ms": median(one),
                    "many_ms": median(many),
                    "speedup": median(ratio),
                }
            )
        for s in pair:
            s.quit()

    result["load"].append(os.getloadavg()[0])
    if load > 1 or result["load"][1] > args.threads + 1:
        say("peers: the machine was busy with something else: measure again when it is not")
    report(result, [s.name for s in sides])
    if args.json:
        with open(args.json, "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")


def report(r, names):
    versions = ", ".join(f"{k} {v}" for k, v in r["versions"].items())
    print(f"{r['date']}, {r['cpu']} ({r['cores']} cores), {versions}, {r['rustc']}, commit {r['commit'][:12]}", end="")
    print(" with changes" if r["modified"] else "", end="")
    print(", load average {:.1f} before, {:.1f} after\n".format(*r["load"]))
    print(f"Milliseconds, {r['on']}, median (p20–p80) of {r['rounds']} interleaved rounds:\n")
    rows = []
    for c in r["cases"]:
        cells = [c["sides"].get(n) for n in names]
        rows.append([c["case"]] + [
            f"{figure(x['median_ms'])} ({figure(x['p20_ms'])}–{figure(x['p80_ms'])})" if x else "–" for x in cells
        ])
    print(table(["case", *names], rows))
    if "etude" in names:
        peers = names[1:]
        print("Time over Etude's, median of the rounds' own ratios (above 1: Etude is faster):\n")
        rows = []
        for c in r["cases"]:
            over = {n: c["sides"][n]["over_etude"] for n in peers if n in c["sides"]}
            best = min(over, key=over.get)
            rows.append([c["case"]] + [f"{over[n]:.2f}" if n in over else "–" for n in peers])
            rows[-1].append(f"**{over[best]:.2f}** ({best})")
        print(table(["case", *peers, "fastest peer"], rows))
    print("Form each peer was fastest in:\n")
    peers = [n for n in names if n != "etude"]
    rows = [[c["case"]] + [(c["sides"].get(n) or {}).get("form") or "–" for n in peers] for c in r["cases"]]
    print(table(["case", *peers], rows))
    if r["rss"]:
        print(f"Peak memory over the base, {r['rss_case']}, value and gradient, a fresh process:\n")
        rows = [[x["side"], f"{x['mb']:.1f}", x.get("form", "–")] for x in r["rss"]]
        print(table(["side", "MB", "form"], rows))
    if r["scaling"]:
        rows = [[x["case"], figure(x["one_ms"]), figure(x["many_ms"]), f"{x['speedup']:.2f}"] for x in r["scaling"]]
        print("Etude alone, more threads:\n")
        print(table(["case", "1 thread, ms", f"{r['scaling'][0]['threads']} threads, ms", "speed-up"], rows))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="step B=64 and loss N=1024 D=16, three rounds")
    p.add_argument("--etude", metavar="PATH", help="the bench executable (default: what cargo builds)")
    p.add_argument("--no-etude", action="store_true", help="the peers alone")
    p.add_argument("--peers", metavar="A,B", help="only the peers whose names begin so")
    p.add_argument("--only", metavar="TEXT", help='only the cases whose name holds TEXT, e.g. "loss N=4096"')
    p.add_argument("--rounds", type=int, help="rounds per case (default 7, quick 3)")
    p.add_argument("--threads", type=int, default=2, help="threads of the Etude-only scaling table (1: none)")
    p.add_argument("--json", metavar="FILE", help="write everything measured here")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where every side computes")
    p.add_argument("--trial", action="store_true", help="small cases and the card's sides, only to see that all of it works")
    p.add_argument("--worker", choices=sorted({s[0] for s in (ON_CPU | ON_CUDA).values()}), help=argparse.SUPPRESS)
    p.add_argument("--form", help=argparse.SUPPRESS)
    args = p.parse_args()
    worker(args.worker, args.form, args.device) if args.worker else drive(args)


if __name__ == "__main__":
    main()
