#!/usr/bin/env python3
"""Etude against PyTorch and JAX, interleaved in one run: one thread each, or one card.

    benches/peers/peers.py                 the full table (about six minutes)
    benches/peers/peers.py --quick         two cases, about a minute
    benches/peers/peers.py --json out.json a machine-readable copy of everything
    benches/peers/peers.py --device cuda   on an NVIDIA card, against PyTorch there; scripts/gpu-report does that
    ... --budget 500 --json out.json       ends in time, says what it left out, and goes on from out.json the next time

Every side, Etude included, is a worker process that reads one request per line
and answers one JSON line (README.md has the protocol). The driver speaks to all
of them alike, round by round, so that a slow minute of the machine hits every
side. No side is timed before its values agree with a float64 reference; one that
fails, or takes too long, is shown as "–" with the reason, and a wrong one as
"wrong": then the exit status is 1.
"""

import argparse
import concurrent.futures
import datetime
import importlib.metadata
import json
import math
import os
import platform
import select
import signal
import subprocess
import sys
import time

MARGIN, BINS = 0.5, 5
LR, MOMENTUM, DECAY = 0.005, 0.9, 1e-5
ROWS = 1024  # recordings in the resident synthetic data set
CHANNELS = (1, 4, 8, 16)
TOLERANCE = 1e-4  # relative, f32 sides against the f64 reference
TF32_TOLERANCE = 1e-2  # 10 bits of each factor, 5e-4; sums that cancel lose more
BF16_TOLERANCE = 1e-2  # of a peer, which may round what it multiplies bf16 rows with to bf16

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
LOSSES = ("loss", "loss16")
ON_CPU = {
    "torch eager": ("torch-eager", False, ("step", "loss")),
    "torch eager, malloc tuned": ("torch-eager", True, ("step", "loss")),
    "torch.compile": ("torch-compile", False, ("step", "loss")),
    "torch.compile, malloc tuned": ("torch-compile", True, ("step", "loss")),
    "jax.jit": ("jax", False, ("step", "loss")),
    "jax.jit, gradient by hand": ("jax-hand", False, ("loss",)),
}
ON_CUDA = {
    "torch eager": ("torch-eager", False, ("step", *LOSSES, "conv", *PAIRS)),
    "torch eager, TF32": ("torch-tf32", False, ("conv", *PAIRS)),
    "torch.compile": ("torch-compile", False, ("step", *LOSSES, *PAIRS)),
    "torch.compile, CUDA graphs": ("torch-graphs", False, ("step", *LOSSES, *PAIRS)),
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

    def tensor(self, array, wide=False):
        tensor = self.torch.from_numpy(array).to(self.device)
        return tensor.double() if wide else tensor

    def compile(self, f, **options):
        return self.torch.compile(f, dynamic=False, mode=self.mode, **options)

    def begin(self):
        """What a run of a graph gave before may be overwritten."""
        if self.mode:
            self.torch.compiler.cudagraph_mark_step_begin()

    def forget(self):
        """Gives memory back, and what was compiled: PyTorch stops compiling a function that it has seen at eight sizes."""
        import gc

        self.torch._dynamo.reset()
        gc.collect()
        if self.device == "cuda":
            self.torch.cuda.empty_cache()

    def norm(self, tensor):
        return float(self.torch.linalg.vector_norm(tensor.detach(), dtype=self.torch.float64))

    def both_ways(self, f, a, b):
        """Forward, and backward with the output itself as the gradient from above."""
        torch, f = self.torch, self.compile(f) if self.compiled else f
        a, b = a.requires_grad_(True), b.requires_grad_(True)

        def run():
            self.begin()
            y = f(a, b)
            return y.detach(), torch.autograd.grad(y, (a, b), y.detach())

        return run

    def conv_forms(self, batch, cin, cout, t, k, stride, wide=False):
        F = self.torch.nn.functional
        x = self.tensor(wave(batch * cin, t).reshape(batch, cin, t), wide)
        w = self.tensor(wave(cout * cin, k).reshape(cout, cin, k), wide)
        return {"conv1d": self.both_ways(lambda x, w: F.conv1d(x, w, stride=stride), x, w)}

    def reference(self, op, *sizes):
        """What the values should be, in float64; None where it is the driver's business."""
        torch = self.torch
        if op in PAIRS or op == "conv":
            forms = self.conv_forms(*sizes, wide=True) if op == "conv" else self.pair_forms(op, *sizes, wide=True)
            y, grads = forms.get("gram", next(iter(forms.values())))()
            return [self.norm(y), *map(self.norm, grads)]
        n, d = sizes
        z, label = map(self.tensor, loss_inputs(n, d))
        z = (z.bfloat16() if op == "loss16" else z).double()
        sq, label, pairs, total, grad = (z * z).sum(1), label.double(), n * (n - 1) / 2, 0.0, torch.empty_like(z)
        for rows in torch.arange(n).split(1024):
            zi = z[rows]
            dist = (sq[rows, None] + sq - 2 * (zi @ z.T)).clamp(min=0).sqrt()
            dist[torch.arange(len(rows)), rows] = 0
            w = (label[rows, None] - label).abs()
            hinge = (MARGIN * w - dist).clamp(min=0)
            total += torch.where(w == 0, dist * dist, hinge * hinge).sum()
            coef = torch.where(w == 0, 1.0, -hinge / torch.where(dist > 0, dist, math.inf))
            grad[rows] = coef.sum(1, keepdim=True) * zi - coef @ z
        return [float(total / 4 / pairs), self.norm(grad / pairs)]

    def pair_forms(self, kind, n, d, wide=False):
        torch, F = self.torch, self.torch.nn.functional
        rows = wave(2 * n, d)
        a, b = self.tensor(rows[:n], wide), self.tensor(rows[n:], wide)

        def gram_euclidean(a, b):
            return ((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)).clamp(min=1e-12).sqrt()

        forms = {
            "dot": {"matmul": lambda a, b: a @ b.T},
            "cosine": {"normalize, matmul": lambda a, b: F.normalize(a, dim=1) @ F.normalize(b, dim=1).T},
            "euclidean": {"cdist": torch.cdist, "gram": gram_euclidean},
        }[kind]
        return {name: self.both_ways(f, a, b) for name, f in forms.items() if not (self.compiled and name == "cdist")}

    def loss16_forms(self, n, d):
        return self.loss_forms(n, d, "bf16")

    def loss_forms(self, n, d, stored="f32"):
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

        def by_hand(zi, qi, li, z, sq, label, product=torch.matmul):  # value and gradient of some rows, as Etude's kernel
            d2 = (qi[:, None] + sq - 2 * product(zi, z.T)).clamp(min=0)
            w, near = (li[:, None] - label).abs(), d2 < 1e-7
            dist = d2.sqrt()
            hinge = (MARGIN * w - dist).clamp(min=0)
            coef = torch.where(w == 0, 1.0, torch.where(near, 0.0, -hinge / torch.where(near, 1.0, dist)))
            value = torch.where(w == 0, d2, hinge * hinge).sum() * scale
            return value, (coef.sum(1)[:, None] * zi.float() - product(coef.to(z.dtype), z)) * (4 * scale)

        def whole(z, label, **options):
            sq = (z.float() * z.float()).sum(1)
            return by_hand(z, sq, label, z, sq, label, **options)

        def blocked(f):  # what a large N takes: a block of rows at a time
            def run():
                sq = (z.float() * z.float()).sum(1)
                value, grads = 0.0, []
                for rows in zip(z.split(4096), sq.split(4096), label.split(4096)):
                    self.begin()
                    block, grad = f(*rows, z, sq, label)
                    value = value + block
                    grads.append(grad.clone() if self.mode else grad)  # a graph's next run overwrites it
                return value, torch.cat(grads)

            return run

        def direct(f):
            def run():
                self.begin()
                return f(z, label)

            return run

        def in_f32(f):
            return lambda z, label: f(z.float(), label)

        def bf16(a, b):  # bf16 factors, an f32 sum
            return torch.mm(a, b, out_dtype=torch.float32)

        if stored == "bf16":
            z = z.bfloat16()
        make = self.compile if self.compiled else lambda f: f

        def backward(f):
            def run():
                self.begin()
                zi = z.detach().requires_grad_(True)
                loss = f(zi, label)
                loss.backward()
                return loss.detach(), zi.grad

            return run

        forms = {}
        if stored == "bf16":
            forms["gram_clamped of rows in f32"] = backward(make(in_f32(gram_clamped)))
            forms["by hand, rows in f32"] = direct(make(in_f32(whole)))
            forms["by hand, bf16 products"] = direct(make(lambda z, label: whole(z, label, product=bf16)))
            if n >= 16384:
                forms["by hand, bf16 products, blocks of 4096"] = blocked(make(lambda *rows: by_hand(*rows, product=bf16)))
            return forms
        if not self.compiled:
            # pdist's derivative is not written for pairs beyond 32 bits.
            forms = {f.__name__: backward(f) for f in (cdist, gram, gram_clamped, *([pdist] if n < 16384 else []))}
        else:
            # On a card the two differ by what one kernel does between two products, and compiling takes its time.
            for f in (gram, gram_clamped) if self.device == "cpu" else (gram_clamped,):
                forms[f.__name__] = backward(self.compile(f))
                one = self.compile(torch.func.grad_and_value(f), fullgraph=True)
                forms[f.__name__ + ", one graph"] = lambda run=direct(one): run()[::-1]
        if self.device == "cuda":
            forms["by hand"] = direct(make(whole))
            if n >= 16384:
                forms["by hand, blocks of 4096"] = blocked(make(by_hand))
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

        def capture(opt, loss, turn):  # gather, forward, backward and update as one CUDA graph, by PyTorch's own recipe
            index, value = batches[0].clone(), None

            def once():
                opt.zero_grad(set_to_none=True)
                value = loss(index)
                value.backward()
                opt.step()
                return value

            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):
                    once()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                value = once()

            def run():
                index.copy_(batches[next(turn) % 8])
                graph.replay()
                return value.item(), None

            return run

        def make(compile_step, captured=False, compiled_loss=False, **options):
            net, turn = Net(), iter(range(1 << 60))
            opt = torch.optim.SGD(net.parameters(), LR, MOMENTUM, weight_decay=DECAY, **options)

            def loss(index):
                return F.mse_loss(net(x.index_select(0, index)), y.index_select(0, index))

            def update():
                opt.step()

            if captured:
                return capture(opt, torch.compile(loss, dynamic=False) if compiled_loss else loss, turn)
            if self.compiled:
                loss = self.compile(loss)
                update = torch.compile(update) if compile_step else update

            def run():
                self.begin()
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

        # Made when first run: what one of them cannot do here must not take the others along.
        def later(make, *args, **options):
            made = []

            def run():
                if not made:
                    made.append(make(*args, **options))
                return made[0]()

            return run

        if not self.compiled:
            return {"fused SGD": make(False, fused=True), "foreach SGD": make(False, foreach=True)}
        forms = {
            "fused SGD": later(make, False, fused=True),
            "compiled foreach SGD": later(make, True, foreach=True),
            "one graph": later(make_whole),
        }
        if self.mode and self.device == "cuda":
            forms["eager, captured whole"] = later(make, False, True, fused=True)
            forms["compiled, captured whole"] = later(make, False, True, True, fused=True)
        return forms


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
    import gc

    import numpy as np

    peer = {
        "torch-eager": lambda: Torch(False, device),
        "torch-tf32": lambda: Torch(False, device, tf32=True),
        "torch-compile": lambda: Torch(True, device),
        "torch-graphs": lambda: Torch(True, device, mode="reduce-overhead"),
        "jax": lambda: Jax(False),
        "jax-hand": lambda: Jax(True),
    }[kind]()
    chosen, broken = {}, {}

    def make(op, *sizes):
        if op in PAIRS:
            return peer.pair_forms(op, *sizes)
        return getattr(peer, op + "_forms")(*sizes)

    def first_runs(*request):
        """The forms that run at all; what is the matter with the others goes into the answer."""
        op, forms = request[0], make(*request)
        forms = {form: forms[form]} if form else forms  # the driver asks for one it knows
        for name, run in list(forms.items()):
            try:
                run(), run()
            except Exception as e:  # noqa: BLE001 - out of memory, or more than this PyTorch can
                del forms[name]
                text = "out of memory" if "out of memory" in str(e) else f"{type(e).__name__}: {e}".splitlines()[0][:160]
                broken.setdefault(" ".join(map(str, request)), {})[name] = text
            if not forms or request[-2:-1] >= (16384,):
                release()
        return forms

    def release():
        gc.collect()
        if device == "cuda":
            peer.torch.cuda.empty_cache()

    def why(request):
        return broken.get(" ".join(map(str, request)), {})

    def best(*request):
        if request not in chosen:
            op, forms = request[0], first_runs(*request)
            if not forms:
                raise RuntimeError("; ".join(f"{name}: {text}" for name, text in why(request).items()))
            cost = dict.fromkeys(forms, math.inf)
            for _ in range(6 if op == "step" else 4):  # in turn, the least of each: busy machines lie upwards
                for name, run in forms.items():
                    cost[name] = min(cost[name], clocked(run, peer.wait)[0])
            name = min(cost, key=cost.get)
            chosen[request] = name, forms[name]
        return chosen[request]

    def norm(tensor):
        if hasattr(peer, "norm"):
            return peer.norm(tensor)
        return float(np.linalg.norm(np.asarray(tensor, np.float64)))

    def answer(op, *args):
        if op == "reference":
            return {"values": peer.reference(args[0], *map(int, args[1:]))}
        if op == "warm":
            return {"forms": list(first_runs(args[0], *map(int, args[1:])))}
        if op == "forget":
            chosen.clear()
            peer.forget()
            return {}
        if op in ("step", *LOSSES, "conv", *PAIRS):
            *sizes, reps = map(int, args)
            name, run = best(op, *sizes)
            run()  # untimed: the other sides had the caches
            ms = []
            for _ in range(reps):
                took, (value, grad) = clocked(run, peer.wait)
                ms.append(took)
            more = {"failed_forms": failed} if (failed := why((op, *sizes))) else {}
            if op not in ("step", *LOSSES):
                return {"ms": ms, "form": name, "norms": [norm(value), *map(norm, grad)], **more}
            reply = {"ms": ms, "loss": float(value), "form": name, **more}
            if grad is not None:
                reply["grad_norm"] = norm(grad)
            return reply
        if op == "rss":
            import ctypes

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
            except Exception as e:  # noqa: BLE001 - the driver shows it
                reply = {"error": f"{type(e).__name__}: {e}"}
            out.write(json.dumps(reply) + "\n")


# ----------------------------------------------------------------------------------------------
# Driver
# ----------------------------------------------------------------------------------------------


class Failed(Exception):
    """What a side could not do."""


class Side:
    """A worker process and its pipe; started anew at the next request where it has died."""

    def __init__(self, name, command, cpus, env=None, takes=("step", *LOSSES, "conv", *PAIRS)):
        self.name, self.takes = name, takes
        self.command, self.cpus, self.env = command, cpus, env
        self.process = None
        self.start()

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
CASES_ON_CUDA = [  # what matters most first: a budget ends the list
    ("step", (64, 1000), 200),
    ("step", (512, 1000), 100),
    ("loss", (1024, 128), 50),
    ("loss", (4096, 128), 20),
    ("loss", (16384, 128), 5),
    ("loss16", (16384, 128), 5),
    ("conv", (512, 1, 4, 1000, 7, 3), 50),  # batch, channels in and out, frames, taps, stride
    ("conv", (512, 4, 8, 332, 7, 3), 50),
    ("conv", (512, 8, 16, 109, 7, 3), 50),
    ("conv", (32, 64, 128, 512, 5, 1), 50),
    ("euclidean", (16384, 128), 5),
    ("dot", (16384, 128), 5),
    ("cosine", (16384, 128), 5),
    ("loss", (1024, 16), 100),
    ("loss", (65536, 128), 2),
    ("loss16", (65536, 128), 2),
]
# Enough to see that all of it works.
CASES_TO_TRY = [("step", (64, 1000), 2), ("conv", (2, 1, 4, 50, 7, 3), 2), ("loss", (64, 16), 2), ("loss16", (64, 16), 2)] + [
    (kind, (48, 16), 2) for kind in PAIRS
]
HUGE = 32768  # rows whose N x N matrices several sides cannot hold at once


def seconds_of(op, sizes):
    """About what a case takes on a card once its compilers are warm: enough to say whether it still fits."""
    if op == "conv":
        return 10
    return 75 if sizes[0] >= HUGE else 45 if op in PAIRS else 25


def title(op, sizes):
    if op == "step":
        return "step B={} T={}".format(*sizes)
    if op == "conv":
        return "conv B={} {}->{} T={} k={} s={}".format(*sizes)
    if op == "loss16":
        return "loss, bf16 rows N={} D={}".format(*sizes)
    return "{} N={} D={}".format(op, *sizes)


def read(path):
    try:
        with open(path) as f:
            return json.load(f)
    except (OSError, TypeError, ValueError):
        return {}


def write(path, result):
    """In one piece: a reader never finds half a file."""
    if path:
        with open(path + ".new", "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")
        os.replace(path + ".new", path)


def warm(commands, known, cases, left, say):
    """Compiles what the cases take, several at a time, into PyTorch's caches on disk; nothing is timed meanwhile."""
    start, share = time.monotonic(), max(0, left()) * 0.4
    over = lambda: start + min(share, 240) - time.monotonic()  # noqa: E731
    width = max(1, min(4, (os.cpu_count() or 1) // 3))
    todo = [c for c in cases if c[1][0] < HUGE]

    def some(name, which):
        side = None
        try:
            for op, sizes, _ in which:
                if op in known[name][2] and over() > 1:
                    side = side or Side(name, commands[name], set())
                    side.ask(" ".join(map(str, ("warm", op, *sizes))), over())
                    side.ask("forget", max(1, over()))
        except Failed as e:
            say(f"warming {name}: {e}")
        finally:
            if side:
                side.kill()

    parts = [(name, todo[i::width]) for i in range(width) for name in commands]
    with concurrent.futures.ThreadPoolExecutor(len(parts) or 1) as pool:
        list(pool.map(lambda part: some(*part), parts))
    took = time.monotonic() - start
    say(f"compilers warmed in {took:.0f} s")
    return round(took, 1)


def expected(op, sizes, sides, left):
    """Values in float64: by the first of PyTorch's sides where there is one, on the card if it is there."""
    for s in sides:
        if s.command[-1].startswith("torch") and op != "step":
            try:
                values = s.ask(" ".join(map(str, ("reference", op, *sizes))), max(5, min(120, left())))["values"]
                s.ask("forget", 60)
                return values
            except Failed:
                continue
    return list(loss_reference(*sizes)) if op == "loss" and sizes[0] < HUGE else None


def measure(op, sizes, reps, sides, rounds, left, say):
    """One case: every side checked, then timed in turn."""
    request = " ".join(map(str, (op, *sizes)))
    case = {"case": title(op, sizes), "op": op, "sizes": list(sizes), "sides": {}}
    say(f"{case['case']}: warming up")
    ms = {}
    reference = expected(op, sizes, sides, left)
    # Where the matrices of several sides do not fit side by side, one after the other.
    alone = op not in ("step", "conv") and sizes[0] >= HUGE
    case["one_after_the_other"] = alone

    def check(s):
        reply = s.ask(f"{request} {1 if alone else 3}", max(10, min(180, left())))
        nonlocal reference
        if "norms" in reply:
            got, names = reply["norms"], ("norm of the output", "of the first gradient", "of the second")
        elif "grad_norm" in reply:
            got, names = [reply["loss"], reply["grad_norm"]], ("loss", "gradient norm")
        else:
            got, names = [reply["loss"]], ("loss",)
        case["sides"][s.name] = side = {"form": reply.get("form"), "values": got}
        if "failed_forms" in reply:
            side["failed_forms"] = reply["failed_forms"]
        tolerance = TF32_TOLERANCE if s.name.endswith("TF32") else TOLERANCE
        if op == "loss16" and s.name != "etude":
            tolerance = BF16_TOLERANCE
        for what, value, want in zip(names, got, reference or got):
            if not math.isfinite(value) or abs(value - want) > tolerance * abs(want):
                side["wrong"] = f"{what} {value!r}, should be {want!r}"
                say(f"peers: {s.name}: {case['case']}: {side['wrong']}")
                return False
        ms[s.name] = []
        return True

    def attempt(s, what):
        try:
            return what(s)
        except Failed as e:
            say(f"peers: {s.name}: {case['case']}: {e}")
            ms.pop(s.name, None)
            case["sides"].setdefault(s.name, {})["failed"] = str(e)
            return False

    def block(s):
        ms[s.name].append(s.ask(f"{request} {reps}", max(5, min(120, left())))["ms"])
        return True

    def forget(s):
        if s.command[-1].startswith("torch"):
            try:
                s.ask("forget", 60)
            except Failed:
                s.kill()

    if alone:
        for s in sides:
            if attempt(s, check):
                for _ in range(rounds):
                    if not attempt(s, block):
                        break
            forget(s)
    else:
        here = [s for s in sides if attempt(s, check)]
        say(f"{case['case']}: {rounds} rounds")
        for r in range(rounds):
            for s in here[r % max(1, len(here)) :] + here[: r % max(1, len(here))]:  # nobody is always first
                if s.name in ms:
                    attempt(s, block)
        for s in sides:
            forget(s)
    for name, blocks in ms.items():
        flat = [t for block in blocks for t in block]
        case["sides"][name] |= {
            "median_ms": median(flat),
            "p20_ms": percentile(flat, 0.2),
            "p80_ms": percentile(flat, 0.8),
            "ms": blocks,
        }
        if "etude" in ms:
            case["sides"][name]["over_etude"] = median([median(p) / median(e) for p, e in zip(blocks, ms["etude"])])
    return case


def drive(args):
    start = time.monotonic()
    # A killed driver takes its sides along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("peers: told to end"))
    deadline = start + args.budget - 5 if args.budget else math.inf
    load = os.getloadavg()[0]  # before cargo adds its own
    os.environ.update(ONE_THREAD)  # numpy's own, before it is imported
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    core, cores = set(allowed[-1:]), set(allowed[-args.threads :])
    card = args.device == "cuda"
    if card:
        core = set()  # the host's threads serve the card, none is what is measured
        # Several processes compile at a time; one number for all, which their cache may go by.
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
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
    result = {**environment(), "device": args.device, "on": on, "load": [load], "rounds": rounds}
    result |= {"cases": [], "left_out": [], "rss": [], "scaling": []}

    sides = [Side("etude", etude(1), core)] if exe else []
    sides += [Side(n, peer(n), core, env(n), known[n][2]) for n in names]
    old = read(args.json) if args.budget else {}
    done = {c["case"]: c for c in old.get("cases", [])}
    left = lambda: deadline - time.monotonic()  # noqa: E731
    if card and not args.no_warm:
        todo = [c for c in cases if title(*c[:2]) not in done]
        result["warming_s"] = warm({n: peer(n) for n in names if "compile" in known[n][0] or "graphs" in known[n][0]}, known, todo, left, say)
    for op, sizes, reps in cases:
        name = title(op, sizes)
        if name in done:
            result["cases"].append(done[name])
            continue
        if card and left() < seconds_of(op, sizes):
            result["left_out"].append(name)
            continue
        result["cases"].append(measure(op, sizes, reps, [s for s in sides if op in s.takes], rounds, left, say))
        write(args.json, result)
    for s in sides:
        s.quit()

    sizes = [c[1] for c in cases if c[0] == "loss"]
    if sizes and known is ON_CPU:
        n, d = (4096, 16) if (4096, 16) in sizes else sizes[-1]
        forms = next(c["sides"] for c in result["cases"] if c["sizes"] == [n, d] and c["op"] == "loss")
        result["rss_case"] = title("loss", (n, d))
        say(f"{result['rss_case']}: peak memory")
        for name in (["etude"] if exe else []) + [x for x in names if not known[x][1]]:
            if "median_ms" not in forms.get(name, {}):
                continue
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
    write(args.json, result)
    if any("wrong" in side for case in result["cases"] for side in case["sides"].values()):
        sys.exit("peers: a side's values are wrong")


def report(r, names):
    versions = ", ".join(f"{k} {v}" for k, v in r["versions"].items())
    print(f"{r['date']}, {r['cpu']} ({r['cores']} cores), {versions}, {r['rustc']}, commit {r['commit'][:12]}", end="")
    print(" with changes" if r["modified"] else "", end="")
    print(", load average {:.1f} before, {:.1f} after\n".format(*r["load"]))
    print(f"Milliseconds, {r['on']}, median (p20–p80) of {r['rounds']} interleaved rounds:\n")
    rows, notes = [], []
    for c in r["cases"]:
        rows.append([c["case"]])
        for n in names:
            side = c["sides"].get(n, {})
            if "median_ms" in side:
                rows[-1].append(f"{figure(side['median_ms'])} ({figure(side['p20_ms'])}–{figure(side['p80_ms'])})")
            else:
                rows[-1].append("**wrong**" if "wrong" in side else "–")
            notes += [f"- {c['case']}, {n}: {side[k]}" for k in ("wrong", "failed") if k in side]
            notes += [f"- {c['case']}, {n}, left out: {form}: {why}" for form, why in side.get("failed_forms", {}).items()]
        if c.get("one_after_the_other"):
            notes.append(f"- {c['case']}: one side after the other, since several do not fit the memory together")
    notes += [f"- {case}: left out, no time" for case in r["left_out"]]
    print(table(["case", *names], rows))
    if notes:
        print("\n".join(notes) + "\n")
    if "etude" in names:
        peers = names[1:]
        print("Time over Etude's, median of the rounds' own ratios (above 1: Etude is faster):\n")
        rows = []
        for c in r["cases"]:
            over = {n: c["sides"][n]["over_etude"] for n in peers if "over_etude" in c["sides"].get(n, {})}
            best = min(over, key=over.get, default=None)
            rows.append([c["case"]] + [f"{over[n]:.2f}" if n in over else "–" for n in peers])
            rows[-1].append(f"**{over[best]:.2f}** ({best})" if best else "–")
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
    p.add_argument("--json", metavar="FILE", help="write everything measured here, after each case")
    p.add_argument("--budget", type=float, metavar="S", help="end within so many seconds; cases that FILE holds already are kept")
    p.add_argument("--no-warm", action="store_true", help="on a card: compile each case only when its turn comes")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where every side computes")
    p.add_argument("--trial", action="store_true", help="small cases and the card's sides, only to see that all of it works")
    p.add_argument("--worker", choices=sorted({s[0] for s in (ON_CPU | ON_CUDA).values()}), help=argparse.SUPPRESS)
    p.add_argument("--form", help=argparse.SUPPRESS)
    args = p.parse_args()
    worker(args.worker, args.form, args.device) if args.worker else drive(args)


if __name__ == "__main__":
    main()
