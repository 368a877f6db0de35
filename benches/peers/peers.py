#!/usr/bin/env python3
"""Etude against PyTorch and JAX, interleaved in one run: one thread each, or one card.

    benches/peers/peers.py                 the full table (about a quarter of an hour)
    benches/peers/peers.py --csv           the same, and a row of each side appended to benches/results/all.csv
    benches/peers/peers.py --quick         a few cases, about a minute
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
import importlib.util
import json
import math
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
import time

import results

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
OF_RESULTS = [":(top,exclude)benches/results", ":(top,exclude)*.md"]
JAX_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

# name: (worker, allocator tuned, requests it takes)
PAIRS = ("dot", "cosine", "euclidean")
CONVS = ("conv", "conv2d")
LOSSES = ("loss", "loss16", "centres", "ratings", "short")
# What the rows and labels of those are that take what `loss` takes.
DATA = {"short": "short rows", "centres": "five centres", "ratings": "continuous labels"}
FORWARD = "-forward"  # after the name of one of these: without going back
ANY = ("step", *LOSSES, *(op + end for op in (*CONVS, *PAIRS) for end in ("", FORWARD)))
# A lone convolution is the same call of oneDNN compiled or not, and a dot product the same one of MKL.
COMPILED = ("step", *LOSSES, *(op + end for op in PAIRS[1:] for end in ("", FORWARD)))
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


# ----------------------------------------------------------------------------------------------
# Workers. `conv_forms`, `pair_forms`, `step_forms` and so on give the ways to write the same thing, as
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

    def value_and_gradient(self, f, z):
        def run():
            zi = z.detach().requires_grad_(True)
            loss = f(zi)
            loss.backward()
            return loss.detach(), zi.grad

        return run

    def array(self, tensor):
        return tensor.detach().float().cpu().numpy()

    def norm(self, tensor):
        return float(self.torch.linalg.vector_norm(tensor.detach(), dtype=self.torch.float64))

    def both_ways(self, f, a, b, backward=True):
        """Forward, and backward with the output itself as the gradient from above."""
        torch, f = self.torch, self.compile(f) if self.compiled else f
        a, b = a.requires_grad_(backward), b.requires_grad_(backward)

        def run():
            self.begin()
            y = f(a, b)
            return y.detach(), torch.autograd.grad(y, (a, b), y.detach()) if backward else ()

        return run

    def conv_forms(self, batch, cin, cout, t, k, stride, backward=True, wide=False):
        F = self.torch.nn.functional
        x = self.tensor(wave(batch * cin, t).reshape(batch, cin, t), wide)
        w = self.tensor(wave(cout * cin, k).reshape(cout, cin, k), wide)
        forms = {"conv1d": self.both_ways(lambda x, w: F.conv1d(x, w, stride=stride), x, w, backward)}
        if self.device == "cpu":
            last = [v.detach()[:, :, None].contiguous(memory_format=self.torch.channels_last) for v in (x, w)]
            forms["channels last"] = self.both_ways(lambda x, w: F.conv2d(x, w, stride=(1, stride)), *last, backward)
        return forms

    def conv2d_forms(self, batch, cin, cout, h, k, backward=True, wide=False):
        F = self.torch.nn.functional
        x = self.tensor(wave(batch * cin, h * h).reshape(batch, cin, h, h), wide)
        w = self.tensor(wave(cout * cin, k * k).reshape(cout, cin, k, k), wide)
        last = [v.detach().contiguous(memory_format=self.torch.channels_last) for v in (x, w)]
        f = lambda x, w: F.conv2d(x, w, padding=k // 2)  # noqa: E731
        return {"conv2d": self.both_ways(f, x, w, backward), "channels last": self.both_ways(f, *last, backward)}

    def reference(self, op, *sizes):
        """What the values should be, in float64."""
        torch = self.torch
        op, backward = op.removesuffix(FORWARD), not op.endswith(FORWARD)
        if op in (*CONVS, *PAIRS):
            make = getattr(self, op + "_forms") if op in CONVS else lambda *more, **options: self.pair_forms(op, *more, **options)
            forms = make(*sizes, backward=backward, wide=True)
            y, grads = forms.get("gram", next(iter(forms.values())))()
            return [y, *grads]
        n, d = sizes
        z, label = map(self.tensor, loss_inputs(op, n, d))
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
        return [total / 4 / pairs, grad / pairs]

    def pair_forms(self, kind, n, d, backward=True, wide=False):
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
        return {n: self.both_ways(f, a, b, backward) for n, f in forms.items() if not (self.compiled and n == "cdist")}

    def pairs_loss_forms(self, kind, n, d):
        torch, scale, stored = self.torch, 0.5 / (n * (n - 1)), "bf16" if kind == "loss16" else "f32"
        z, label = map(self.tensor, loss_inputs(kind, n, d))

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


class EtudePython(Torch):
    """Etude's own ops on PyTorch's tensors, through autograd."""

    def __init__(self):
        super().__init__(False)
        import etude

        self.etude = etude

    def conv_forms(self, batch, cin, cout, t, k, stride, backward=True):
        x, w = self.tensor(wave(batch * cin, t).reshape(batch, cin, t)), self.tensor(wave(cout * cin, k).reshape(cout, cin, k))
        return {"etude": self.both_ways(lambda x, w: self.etude.conv1d(x, w, stride=stride), x, w, backward)}

    def conv2d_forms(self, batch, cin, cout, h, k, backward=True):
        x = self.tensor(wave(batch * cin, h * h).reshape(batch, cin, h, h))
        w = self.tensor(wave(cout * cin, k * k).reshape(cout, cin, k, k))
        return {"etude": self.both_ways(lambda x, w: self.etude.conv2d(x, w, padding=k // 2), x, w, backward)}

    def pair_forms(self, kind, n, d, backward=True):
        rows = self.tensor(wave(2 * n, d))
        f = lambda a, b: self.etude.pairwise_similarity(a, b, kind)  # noqa: E731
        return {"etude": self.both_ways(f, rows[:n].clone(), rows[n:].clone(), backward)}

    def pairs_loss_forms(self, kind, n, d):
        z, label = map(self.tensor, loss_inputs(kind, n, d))
        return {"etude": self.value_and_gradient(lambda z: self.etude.contrastive_loss(z, label, margin=MARGIN), z)}


class MetricLearning(Torch):
    """pytorch-metric-learning's loss of that name: a mean over other pairs, here for scale."""

    def pairs_loss_forms(self, kind, n, d):
        from pytorch_metric_learning.losses import ContrastiveLoss

        z, label = map(self.tensor, loss_inputs(kind, n, d))
        loss, label = ContrastiveLoss(pos_margin=0, neg_margin=MARGIN), label.long()
        return {"ContrastiveLoss": self.value_and_gradient(lambda z: loss(z, label), z)}


class Jax:
    wait = None

    def __init__(self, by_hand):
        os.environ["XLA_FLAGS"] = JAX_FLAGS
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        self.jax, self.by_hand = jax, by_hand

    def both_ways(self, f, a, b, backward, restore=None):
        """As PyTorch's. `restore` gives a form's output, or a gradient, the axes of the others."""
        jax = self.jax

        def there_and_back(a, b):
            y, pull = jax.vjp(f, a, b)
            return y, pull(y)

        jitted, a, b = jax.jit(there_and_back if backward else lambda a, b: (f(a, b), ())), *map(jax.device_put, (a, b))
        run = lambda: jax.block_until_ready(jitted(a, b))  # noqa: E731
        run.restore = restore
        return run

    def pair_forms(self, kind, n, d, backward=True):
        jnp, rows = self.jax.numpy, wave(2 * n, d)

        def unit(a):
            return a / jnp.maximum(jnp.sqrt((a * a).sum(1, keepdims=True)), 1e-12)

        def gram(a, b):
            return jnp.sqrt(jnp.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T), 1e-12))

        form, f = {
            "dot": ("matmul", lambda a, b: a @ b.T),
            "cosine": ("normalize, matmul", lambda a, b: unit(a) @ unit(b).T),
            "euclidean": ("gram", gram),
        }[kind]
        return {form: self.both_ways(f, rows[:n], rows[n:], backward)}

    def conv_forms(self, batch, cin, cout, t, k, stride, backward=True):
        x, w = wave(batch * cin, t).reshape(batch, cin, 1, t), wave(cout * cin, k).reshape(cout, cin, 1, k)
        # One dimension is two of which one is 1: the values lie alike.
        return self.slide(x, w, stride, 0, backward)

    def conv2d_forms(self, batch, cin, cout, h, k, backward=True):
        x, w = wave(batch * cin, h * h).reshape(batch, cin, h, h), wave(cout * cin, k * k).reshape(cout, cin, k, k)
        return self.slide(x, w, 1, k // 2, backward)

    def slide(self, x, w, stride, pad, backward):
        """Channels first, channels last, and as slices side by side and one matrix product."""
        jnp, lax = self.jax.numpy, self.jax.lax
        (_, _, kh, kw), padding = w.shape, [(pad, pad), (pad, pad)]

        def conv(axes):
            return lambda x, w: lax.conv_general_dilated(x, w, (1, stride), padding, dimension_numbers=axes)

        def slices(x, w):
            x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
            h, t = x.shape[1] - kh + 1, (x.shape[2] - kw) // stride + 1
            taps = [x[:, i : i + h, j : j + stride * (t - 1) + 1 : stride] for i in range(kh) for j in range(kw)]
            return jnp.concatenate(taps, -1) @ w.reshape(-1, w.shape[3])

        def first(array, at):  # the output, the input's gradient, the weight's
            return array.transpose((3, 2, 0, 1) if at == 2 else (0, 3, 1, 2))

        last = x.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0)
        return {
            "conv, channels first": self.both_ways(conv(("NCHW", "OIHW", "NCHW")), x, w, backward),
            "conv, channels last": self.both_ways(conv(("NHWC", "HWIO", "NHWC")), *last, backward, first),
            "slices + matmul, channels last": self.both_ways(slices, *last, backward, first),
        }

    def pairs_loss_forms(self, kind, n, d):
        jax, jnp, scale = self.jax, self.jax.numpy, 0.5 / (n * (n - 1))
        z, label = map(jax.device_put, loss_inputs(kind, n, d))

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


def worker(kind, device):
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
        "etude-python": EtudePython,
        "torch-pml": lambda: MetricLearning(False),
    }[kind]()
    chosen, broken = {}, {}

    def make(op, *sizes):
        op, backward = op.removesuffix(FORWARD), not op.endswith(FORWARD)
        if op in PAIRS:
            return peer.pair_forms(op, *sizes, backward=backward)
        if op in LOSSES:
            return peer.pairs_loss_forms(op, *sizes)
        return getattr(peer, op + "_forms")(*sizes, **({} if op == "step" else {"backward": backward}))

    def first_runs(*request):
        """The forms that run at all; what is the matter with the others goes into the answer."""
        op, forms, cost = request[0], make(*request), {}
        for name, run in list(forms.items()):
            try:
                run()
                cost[name] = clocked(run, peer.wait)[0]
            except Exception as e:  # noqa: BLE001 - out of memory, or more than this PyTorch can
                del forms[name]
                text = "out of memory" if "out of memory" in str(e) else f"{type(e).__name__}: {e}".splitlines()[0][:160]
                broken.setdefault(" ".join(map(str, request)), {})[name] = text
            if not forms or request[-2:-1] >= (16384,):
                release()
        return forms, cost

    def release():
        gc.collect()
        if device == "cuda":
            peer.torch.cuda.empty_cache()

    def why(request):
        return broken.get(" ".join(map(str, request)), {})

    def best(*request):
        if request not in chosen:
            op, (forms, cost) = request[0], first_runs(*request)
            if not forms:
                raise RuntimeError("; ".join(f"{name}: {text}" for name, text in why(request).items()))
            start = time.monotonic()
            for _ in range(0 if len(forms) == 1 else 6 if op == "step" else 4):  # in turn, the least of each: busy machines lie upwards
                for name, run in forms.items():
                    if cost[name] > 2 * min(cost.values()):
                        continue  # it will not be the fastest
                    cost[name] = min(cost[name], clocked(run, peer.wait)[0])
                if time.monotonic() - start > 1:
                    break
            name = min(cost, key=cost.get)
            chosen[request] = name, forms[name], cost[name]
        return chosen[request]

    def norm(tensor):
        if hasattr(peer, "norm"):
            return peer.norm(tensor)
        return float(np.linalg.norm(np.asarray(tensor, np.float64)))

    def answer(op, *args):
        if op == "reference":
            *request, path = args
            values = peer.reference(request[0], *map(int, request[1:]))
            if path != "-":
                np.savez(path, *(v.detach().cpu().numpy() for v in values))
            return {"values": [float(values[0]), peer.norm(values[1])] if request[0] in LOSSES else list(map(peer.norm, values))}
        if op == "values":
            path, name, *sizes = args
            form, run, _ = best(name, *map(int, sizes))
            value, grads = run()
            outputs = [value, *(grads if isinstance(grads, (tuple, list)) else [grads])]
            restore = getattr(run, "restore", None) or (lambda array, _: array)
            arrays = [getattr(peer, "array", np.asarray)(v) for v in outputs]
            np.savez(path, *(restore(array, at) for at, array in enumerate(arrays)))
            return {}
        if op == "warm":
            return {"forms": list(first_runs(args[0], *map(int, args[1:]))[0])}
        if op == "forget":
            chosen.clear()
            peer.forget()
            return {}
        if op in ANY:
            *sizes, reps = map(int, args)
            name, run, cost = best(op, *sizes)
            if cost < 100:
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
        if op == "memory":
            import ctypes

            at = args.index("=")  # the form comes after it
            run = make(args[0], *map(int, args[1:at]))[" ".join(args[at + 1 :])]
            run(), run()  # compiled, whose memory is not what is asked for
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            with open("/proc/self/clear_refs", "w") as f:
                f.write("5")  # the high-water mark starts again here
            base = status_kb("VmRSS")
            run()
            return {"peak_kb": max(0, status_kb("VmHWM") - base)}
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
    """A worker process and its pipe; started at the first request, and at the next where it has died."""

    def __init__(self, name, command, cpus, env=None, takes=ANY):
        self.name, self.takes = name, takes
        self.is_python = "--worker" in command
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


SLIDES = [  # channels that a convolution spends its time in, and the network's first two layers
    ("conv", (32, 64, 128, 512, 5, 1)),  # batch, channels in and out, frames, taps, stride
    ("conv", (32, 128, 128, 512, 3, 1)),
    ("conv", (32, 256, 256, 512, 3, 1)),
    ("conv", (512, 1, 4, 1000, 7, 3)),
    ("conv", (512, 4, 8, 332, 7, 3)),
    ("conv2d", (32, 64, 64, 56, 3)),  # batch, channels in and out, height and width, taps
]
CASES = [  # op, sizes, repetitions per round
    ("step", (64, 1000), 15),
    ("step", (512, 1000), 4),
    *[("loss", (n, d), reps) for n, d, reps in ((1024, 16, 8), (1024, 128, 6), (4096, 16, 1), (4096, 128, 1))],
    *[(op, (4096, d), 1) for op in ("short", "centres", "ratings") for d in (16, 128)],
    *[(op + end, (2048, d), 3) for op in PAIRS for d in (16, 128, 512) for end in (FORWARD, "")],
    *[(op + end, sizes, 2) for op, sizes in SLIDES for end in (FORWARD, "")],
    # What is left of time and memory against N.
    *[("loss", (n, 128), reps) for n, reps in ((512, 8), (2048, 2))],
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


def seconds_of(op, sizes, card):
    """About what a case takes, on a card once its compilers are warm: enough to say whether it still fits."""
    if not card:
        return 60 if sizes[0] >= 4096 else 25
    if op == "conv":
        return 10
    return 75 if sizes[0] >= HUGE else 45 if op in PAIRS else 25


SHAPES = {
    "step": "B={} T={}",
    "conv": "B={} {}->{} T={} k={} s={}",
    "conv2d": "B={0} {1}->{2} {3}x{3} k={4}x{4}",
}


def shape(op, sizes):
    return SHAPES.get(op.removesuffix(FORWARD), "N={} D={}").format(*sizes)


def title(op, sizes):
    name = {"loss16": "loss, bf16 rows", **{kind: f"loss, {what}" for kind, what in DATA.items()}}.get(op, op)
    return f"{name.replace(FORWARD, ' forward')} {shape(op, sizes)}"


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


def expected(op, sizes, sides, left, path):
    """Values in float64, and where `path` is one all of them there: by the first of PyTorch's sides where there is one, on the
    card if it is there."""
    for s in sides:
        if s.command[-1].startswith("torch") and op != "step":
            try:
                values = s.ask(" ".join(map(str, ("reference", op, *sizes, path or "-"))), max(5, min(120, left())))["values"]
                s.ask("forget", 60)
                return values
            except Failed:
                continue
    if op in LOSSES and op != "loss16" and sizes[0] < HUGE:
        import numpy as np

        loss, grad = loss_reference(op, *sizes)
        if path:
            np.savez(path, loss, grad)
        return [float(loss), float(np.linalg.norm(grad))]
    return None


def error(side, request, reference, folder):
    """The largest |got - f64| of a side's value and gradients, each over the largest |f64| there."""
    import numpy as np

    path = os.path.join(folder, "values" + (".npz" if side.is_python else ""))
    side.ask(f"values {path} {request}" + ("" if side.is_python else " 1"), 120)
    with np.load(reference) as want:
        want = [want[name] for name in want.files]
    if side.is_python:
        with np.load(path) as got:
            got = [got[name] for name in got.files]
    else:
        got = np.split(np.fromfile(path, np.float32), np.cumsum([w.size for w in want])[:-1])
    return max(float(np.abs(g.ravel() - w.ravel()).max() / np.abs(w).max()) for g, w in zip(got, want))


def measure(op, sizes, reps, sides, rounds, left, say, folder=None):
    """One case: every side checked, then timed in turn."""
    request = " ".join(map(str, (op, *sizes)))
    case = {"case": title(op, sizes), "op": op, "sizes": list(sizes), "sides": {}}
    say(f"{case['case']}: warming up")
    ms = {}
    path = folder and os.path.join(folder, "reference.npz")
    reference = expected(op, sizes, sides, left, path)
    # Where the matrices of several sides do not fit side by side, one after the other.
    alone = op not in ("step", *CONVS) and sizes[0] >= HUGE
    case["one_after_the_other"] = alone

    def check(s):
        reply = s.ask(f"{request} {1 if alone or reps < 3 else 3}", max(10, min(180, left())))
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
        side["same"] = s.name not in OTHER_NUMBERS
        for what, value, want in zip(names, got, (side["same"] and reference) or got):
            if not math.isfinite(value) or abs(value - want) > tolerance * abs(want):
                side["wrong"] = f"{what} {value!r}, should be {want!r}"
                say(f"peers: {s.name}: {case['case']}: {side['wrong']}")
                return False
        ms[s.name] = []
        if folder and reference and side["same"]:
            side["error"] = error(s, request, path, folder)
        if folder and s.name == "etude":
            side["flops"] = reply["flops"]
            side["core_gflop_s"] = s.ask("peak")["gflop_s"]
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
                # Of one that takes seconds, and ten times as long as the fastest, one round says enough.
                took = {name: median(blocks[0]) for name, blocks in ms.items() if blocks}
                if s.name in ms and not (r and took.get(s.name, 0) > max(1000, 10 * min(took.values()))):
                    attempt(s, block)
        for s in sides:
            forget(s)
    for name, blocks in ms.items():
        case["sides"][name] |= measured(blocks, ms.get("etude")) | {"ms": blocks}
    return case


def memory(case, request, start, say):
    """What each side takes beyond what was there before, in a process that no timing went through: `start` makes one."""
    for name, side in case["sides"].items():
        # Memory that malloc was told to keep is no measure.
        if "median_ms" not in side or name.endswith("malloc tuned"):
            continue
        try:
            process = start(name)
            # Etude's makes its buffers when it records.
            words = f"memory {request} = {side['form']}" if process.is_python else f"{request} 1"
            side["peak_kb"] = process.ask(words, 120)["peak_kb"]
            if not process.is_python:
                process.quit()
            elif name.startswith("torch"):
                process.ask("forget")
        except Failed as e:
            say(f"peers: {name}: {case['case']}: memory: {e}")


def measured(blocks, etude):
    """Of milliseconds by round, and Etude's."""
    flat = [t for block in blocks for t in block]
    found = {"median_ms": median(flat), "p20_ms": percentile(flat, 0.2), "p80_ms": percentile(flat, 0.8)}
    if etude:
        found["over_etude"] = median([median(p) / median(e) for p, e in zip(blocks, etude)])
    return found


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
    on_cpu = not (card or args.trial)
    known = {n: s for n, s in (ON_CPU if on_cpu else ON_CUDA).items() if importlib.util.find_spec(NEEDS.get(s[0], "json"))}
    cases = CASES_TO_TRY if args.trial else CASES_ON_CUDA if card else CASES
    if args.quick and not args.trial:
        cases = [c for c in cases if c[1] in ((64, 1000), (1024, 16), *([] if card else [(2048, 16), SLIDES[4][1]]))]
    if args.only:
        cases = [c for c in cases if any(text in title(*c[:2]) for text in args.only.split(","))]
    names = [n for n in known if any(n.startswith(p) for p in args.peers.split(","))] if args.peers else list(known)
    rounds = args.rounds or (3 if args.quick else 5 if on_cpu else 7)
    say = lambda text: print(f"{time.monotonic() - start:4.0f} s  {text}", file=sys.stderr, flush=True)  # noqa: E731

    exe = None if args.no_etude else args.etude or build_etude(args.device == "cuda")
    etude = lambda threads: [exe, "--bench", "--device", args.device, "--threads", str(threads)]  # noqa: E731
    worker = [sys.executable, os.path.abspath(__file__), "--device", args.device, "--worker"]
    peer = lambda name, *more: [*worker, known[name][0], *more]  # noqa: E731
    env = lambda name: MALLOC if known[name][1] else {}  # noqa: E731
    on = "one card" if card else "one thread"
    result = {**environment(), "device": args.device, "on": on, "load": [load], "rounds": rounds}
    result |= {"cases": [], "left_out": [], "scaling": []}
    result["run"] = f"{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%S}-{result['commit'][:8]}"
    folder = tempfile.TemporaryDirectory(prefix="peers-") if on_cpu else None

    sides = [Side("etude", etude(1), core)] if exe else []
    sides += [Side(n, peer(n), core, env(n), known[n][2]) for n in names]
    others = {}  # processes for memory, of one heap: glibc gives what another thread's has free back to nobody

    def aside(name):
        if name == "etude":
            return Side(name, etude(1), core)
        if name not in others:
            others[name] = Side(name, peer(name), core, {"MALLOC_ARENA_MAX": "1"})
        return others[name]

    old = read(args.json) if args.budget else {}
    done = {c["case"]: c for c in old.get("cases", [])}
    left = lambda: deadline - time.monotonic()  # noqa: E731
    if card and not args.no_warm:
        todo = [c for c in cases if title(*c[:2]) not in done]
        compiled = {n: peer(n) for n in names if "compile" in known[n][0] or "graphs" in known[n][0]}
        result["warming_s"] = warm(compiled, known, todo, left, say)
    for op, sizes, reps in cases:
        name = title(op, sizes)
        if name in done:
            result["cases"].append(done[name])
            continue
        if left() < seconds_of(op, sizes, card):
            result["left_out"].append(name)
            continue
        those = [s for s in sides if op in s.takes]
        result["cases"].append(measure(op, sizes, reps, those, rounds, left, say, folder and folder.name))
        if on_cpu and op not in DATA:  # which take what `loss` takes
            memory(result["cases"][-1], " ".join(map(str, (op, *sizes))), aside, say)
        write(args.json, result)
        if args.csv:
            results.append(args.csv, rows(result, result["cases"][-1], op, sizes))
    for s in (*sides, *others.values()):
        s.quit()

    if exe and on_cpu and args.threads > 1 and len(cores) == args.threads:
        pair = [Side("etude", etude(1), core), Side(f"etude x{args.threads}", etude(args.threads), cores)]
        scaled = [c for c in cases if c[1] == (512, 1000) or c[0] == "loss" and c[1][0] == 4096]
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
            if args.csv:
                name = {"case": title(op, sizes), "sides": {"etude": measured([many], [one])}}
                results.append(args.csv, rows(result, name, op, sizes, args.threads))
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
    for key, unit, says in (
        ("peak_kb", 1024, "Peak memory beyond what there was, MB"),
        ("error", 1, "The largest error of the value and its gradients against float64, over the largest of their values"),
    ):
        cases = [c for c in r["cases"] if any(side.get(key) is not None for side in c["sides"].values())]
        if cases:
            print(f"{says}:\n")
            of = lambda c, n: (c["sides"].get(n) or {}).get(key)  # noqa: E731
            rows = [[c["case"]] + [f"{of(c, n) / unit:.2g}" if of(c, n) is not None else "–" for n in names] for c in cases]
            print(table(["case", *names], rows))
    if r["scaling"]:
        rows = [[x["case"], figure(x["one_ms"]), figure(x["many_ms"]), f"{x['speedup']:.2f}"] for x in r["scaling"]]
        print("Etude alone, more threads:\n")
        print(table(["case", "1 thread, ms", f"{r['scaling'][0]['threads']} threads, ms", "speed-up"], rows))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="one small case of each kind, three rounds")
    p.add_argument("--etude", metavar="PATH", help="the bench executable (default: what cargo builds)")
    p.add_argument("--no-etude", action="store_true", help="the peers alone")
    p.add_argument("--peers", metavar="A,B", help="only the peers whose names begin so")
    p.add_argument("--only", metavar="TEXT", help='only the cases whose name holds one of TEXT,..., e.g. "loss N=4096"')
    p.add_argument("--rounds", type=int, help="rounds per case (default 5, on a card 7, quick 3)")
    p.add_argument("--threads", type=int, default=2, help="threads of the Etude-only scaling table (1: none)")
    p.add_argument("--json", metavar="FILE", help="write everything measured here, after each case")
    p.add_argument("--csv", metavar="FILE", nargs="?", const=str(results.FILE), help="append a row of each side (all.csv)")
    p.add_argument("--budget", type=float, metavar="S", help="end within so many seconds; cases that FILE holds already are kept")
    p.add_argument("--no-warm", action="store_true", help="on a card: compile each case only when its turn comes")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where every side computes")
    p.add_argument("--trial", action="store_true", help="small cases and the card's sides, only to see that all of it works")
    p.add_argument("--worker", choices=sorted({s[0] for s in (ON_CPU | ON_CUDA).values()}), help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.csv and (args.device != "cpu" or args.trial or args.peers or args.no_etude):
        p.error("--csv takes whole cases on a CPU: none with some sides alone")
    worker(args.worker, args.device) if args.worker else drive(args)


if __name__ == "__main__":
    main()
