"""Every kernel, and the training step, beside PyTorch's own in one run.

    python -m etude.bench                      on a card where there is one, else on one thread
    python -m etude.bench --quick              smaller sizes, fewer rounds: to see that all of it works
    python -m etude.bench --csv times.csv      every measurement, too
    python -m etude.bench --only contrastive   the cases whose name holds that

Each case is written in PyTorch in every form at hand and run eagerly, compiled, compiled with max-autotune, and on
a card replayed as CUDA graphs; the fastest form of a side is the one timed. Before anything is timed, values and
gradients of every side are compared with PyTorch's in float64 on the CPU. Sides take turns, round by round, so that a
slow minute of the machine hits all of them. A case is forward and backward, through autograd, ours included; `step` is
a whole training step of the network. On the CPU the loss stands beside the native call alone, without autograd, and
beside that call in an `autograd.Function` of its own: between the two lies what PyTorch takes, beyond them what this
package does.

For scale, the loss stands beside two others that are not the same numbers and are marked so: pytorch-metric-learning's
`ContrastiveLoss` (where it is installed), and Rank-N-Contrast's as its authors compute it, in a loop over the other
rows. That loop stands beside our own kernel for it, too, and there its numbers are the same.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import logging
import math
import platform
import statistics
import sys
import time

import torch

import etude
from etude import _device, _native

F = torch.nn.functional
TOLERANCE = 1e-4  # of the norm: f32 sides, sums of up to 10^8 terms, against f64
MARGIN, BINS = 0.5, 5


# --------------------------------------------------------------------------------------------------
# Cases: inputs, and forms of the same function of them. Ours is first.


def contrastive(n, d):
    def cdist(z, labels):
        w, distance = (labels[:, None] - labels).abs(), torch.cdist(z, z)
        pairs = torch.where(w == 0, distance**2, (MARGIN * w - distance).clamp(min=0) ** 2)
        return pairs.sum() / (2 * n * (n - 1))

    def gram(z, labels):
        square = (z * z).sum(1)
        d2 = torch.addmm(square[:, None] + square, z, z.T, alpha=-2).clamp(min=1e-7)
        w = (labels[:, None] - labels).abs()
        return torch.where(w == 0, d2, (MARGIN * w - d2.sqrt()).clamp(min=0) ** 2).sum() / (2 * n * (n - 1))

    def inputs():
        return [torch.randn(n, d) / d**0.5], [etude.bins(torch.rand(n), BINS)]

    def ours(z, labels):
        return etude.contrastive_loss(z, labels, margin=MARGIN)

    return inputs, ours, {"gram": gram, "cdist": cdist}


def cross(n, m, d):
    def cdist(z, others, labels, other_labels):
        w, distance = (labels[:, None] - other_labels).abs(), torch.cdist(z, others)
        return torch.where(w == 0, distance**2, (MARGIN * w - distance).clamp(min=0) ** 2).mean() / 2

    def inputs():
        rows = [torch.randn(k, d) / d**0.5 for k in (n, m)]
        return rows, [etude.bins(torch.rand(k), BINS) for k in (n, m)]

    def ours(z, others, labels, other_labels):
        return etude.contrastive_loss(z, labels, others=others, other_labels=other_labels, margin=MARGIN)

    return inputs, ours, {"cdist": cdist}


def without_diagonal(square):
    n = square.shape[0]
    return square.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


def rank_n_contrast(n, d):
    def by_sorting(z, labels):
        # Each anchor's rows from far to near; a sum is of all up to the end of the ties.
        far, order = without_diagonal((labels[:, None] - labels).abs()).sort(1, descending=True)
        logits = without_diagonal(-torch.cdist(z, z) / 2).gather(1, order)
        sums = logits.logcumsumexp(1).gather(1, torch.searchsorted(-far, -far, right=True) - 1)
        return (sums - logits).mean()

    def inputs():
        return [torch.randn(n, d)], [torch.rand(n)]

    return inputs, etude.rank_n_contrast_loss, {"sorted": by_sorting}


def rank_loop(z, labels):
    """For each other row, every anchor's with all those at least as far from it in label."""
    n = len(z)
    logits, apart = (
        without_diagonal(-torch.cdist(z, z) / 2),
        without_diagonal((labels[:, None] - labels).abs()),
    )
    logits = logits - logits.max(1, keepdim=True).values.detach()
    exps, loss = logits.exp(), 0
    for k in range(n - 1):
        negatives = (apart >= apart[:, k : k + 1]).to(z.dtype)
        loss = loss - (logits[:, k] - (negatives * exps).sum(1).log()).sum()
    return loss / (n * (n - 1))


def info_nce(n, d):
    sigma, t = 0.1, 0.1

    def softmaxes(z, labels):
        u = F.normalize(z)
        weights = without_diagonal((labels[:, None] - labels).square() / (-2 * sigma**2)).softmax(1)
        return F.cross_entropy(without_diagonal(u @ u.T / t), weights)

    def masked(z, labels):
        u = F.normalize(z)
        weights = ((labels[:, None] - labels).square() / (-2 * sigma**2)).fill_diagonal_(-1e9).softmax(1)
        return F.cross_entropy((u @ u.T / t).fill_diagonal_(-1e9), weights)

    def inputs():
        return [torch.randn(n, d)], [torch.rand(n)]

    def ours(z, labels):
        return etude.info_nce_loss(z, labels, sigma=sigma, temperature=t)

    return inputs, ours, {"softmaxes": softmaxes, "masked": masked}


def each(n, d):
    def cdist(z, labels):
        w, distance = (labels[:, None] - labels).abs(), torch.cdist(z, z)
        pairs = torch.where(w == 0, distance**2, (MARGIN * w - distance).clamp(min=0) ** 2) / 2
        return pairs.sum(1) / (n - 1)

    def inputs():
        return [torch.randn(n, d) / d**0.5], [etude.bins(torch.rand(n), BINS)]

    def ours(z, labels):
        return etude.contrastive_loss(z, labels, margin=MARGIN, reduction="none")

    return inputs, ours, {"cdist": cdist}


def similarity(kind, n, d):
    def gram(a, b):
        return ((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)).clamp(min=1e-12)

    forms = {
        "dot": {"matmul": lambda a, b: a @ b.T},
        "cosine": {"normalize, matmul": lambda a, b: F.normalize(a) @ F.normalize(b).T},
        "squared_euclidean": {"gram": gram},
        "euclidean": {"cdist": torch.cdist, "gram": lambda a, b: gram(a, b).sqrt()},
    }[kind]
    inputs = lambda: ([torch.randn(n, d), torch.randn(n, d)], [])  # noqa: E731
    return inputs, lambda a, b: etude.pairwise_similarity(a, b, kind), forms


def conv(x, weight, stride):
    dims = len(x) - 2
    ours, theirs = {1: (etude.conv1d, F.conv1d), 2: (etude.conv2d, F.conv2d)}[dims]

    def inputs():
        fan_in = math.prod(weight[1:])
        return [torch.randn(x), torch.randn(weight) / fan_in**0.5, torch.randn(weight[0])], []

    form = {f"F.conv{dims}d": lambda x, w, b: theirs(x, w, b, stride=stride)}
    return inputs, lambda x, w, b: ours(x, w, b, stride=stride), form


def cases(quick):
    shrink = 8 if quick else 1
    for n, d in ((1024, 16), (1024, 128), (4096, 16), (4096, 128)):
        yield f"contrastive_loss N={n // shrink} D={d}", contrastive(n // shrink, d)
    yield (
        f"contrastive_loss N={2048 // shrink} M={8192 // shrink} D=128",
        cross(2048 // shrink, 8192 // shrink, 128),
    )
    for n in (256, 1024, 4096):
        yield f"loss of each row N={n // shrink} D=128", each(n // shrink, 128)
    for n in (256, 1024, 2048):
        yield f"rank_n_contrast_loss N={n // shrink} D=128", rank_n_contrast(n // shrink, 128)
    for n in (256, 1024, 4096):
        yield f"info_nce_loss N={n // shrink} D=128", info_nce(n // shrink, 128)
    for kind in ("dot", "cosine", "squared_euclidean", "euclidean"):
        yield f"pairwise_similarity {kind} N={2048 // shrink} D=128", similarity(kind, 2048 // shrink, 128)
    for x, weight, stride in (
        ((512, 1, 1000), (4, 1, 7), 3),
        ((512, 4, 332), (8, 4, 7), 3),
        ((32, 64, 512), (128, 64, 5), 1),
        ((32, 3, 64, 64), (32, 3, 3, 3), 1),
        ((32, 32, 32, 32), (64, 32, 3, 3), 2),
    ):
        x = (max(1, x[0] // shrink), *x[1:])
        yield f"conv{len(x) - 2}d {list(x)} * {list(weight)} stride {stride}", conv(x, weight, stride)


# --------------------------------------------------------------------------------------------------
# Sides


def modes(device):
    """How PyTorch is run, by name."""
    compiled = lambda **options: lambda f: torch.compile(f, dynamic=False, **options)  # noqa: E731
    autotuned = compiled(mode="max-autotune-no-cudagraphs")
    found = {
        "torch eager": lambda f: f,
        "torch.compile": compiled(),
        "torch.compile, max-autotune": autotuned,
    }
    if device == "cuda":
        found["torch.compile, CUDA graphs"] = compiled(mode="reduce-overhead")
    return found


def both_ways(f, variables, constants):
    """Forward, and backward with the output as its own gradient, or 1 of a number."""
    variables = [v.detach().clone().requires_grad_() for v in variables]

    def run():
        torch.compiler.cudagraph_mark_step_begin()
        y = f(*variables, *constants)
        return y.detach(), *torch.autograd.grad(
            y, variables, torch.ones_like(y) if y.dim() == 0 else y.detach()
        )

    return run


def check(name, side, got, want):
    """Whether values and gradients are those of the reference."""
    for i, (g, w) in enumerate(zip(got, want)):
        off = (g.double().cpu() - w).norm() / w.norm().clamp(min=1e-30)
        if not off <= TOLERANCE:
            what = f"gradient {i}" if i else "value"
            sys.exit(
                f"etude.bench: {name}: {side}: the {what} is off by {off:.1e} of its norm: nothing is timed"
            )


class Clock:
    """Milliseconds of a call, on a card until its work is done."""

    def __init__(self, device):
        self.wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def __call__(self, run):
        self.wait()
        start = time.perf_counter()
        run()
        self.wait()
        return (time.perf_counter() - start) * 1e3

    def fastest(self, forms):
        """The form that takes the least, and its name."""
        for run in forms.values():
            for _ in range(3):
                run()
        cost = {name: min(self(run) for _ in range(3)) for name, run in forms.items()}
        name = min(cost, key=cost.get)
        return name, forms[name]


def sides_of(name, case, device, clock):
    """Every side of a case, checked, in its fastest form: `{side: (form, run, same numbers)}`."""
    inputs, ours, forms = case
    torch.manual_seed(0)
    variables, constants = inputs()
    wide = lambda tensors: [t.double() for t in tensors]  # noqa: E731
    # The form that does not cancel is the reference where there is one.
    reference = forms.get("cdist", next(iter(forms.values())))
    want = both_ways(reference, wide(variables), wide(constants))()
    variables, constants = ([t.to(device) for t in tensors] for tensors in (variables, constants))
    run = both_ways(ours, variables, constants)
    check(name, "etude", run(), want)
    sides = {"etude": (*clock.fastest({"operator": run}), True)}
    of_pairs = name.startswith("contrastive_loss") and len(variables) == 1
    if device == "cpu" and of_pairs:
        native = native_loss(*variables, *constants)
        sides["native call"] = ("memory kept", native, True)
        sides["native call, autograd"] = ("nothing else", through_autograd(native, *variables), True)
    for side, mode in modes(device).items():
        torch.compiler.reset()
        runs = {}
        for form, f in forms.items():
            if side != "torch eager" and form == "cdist" and len(forms) > 1:
                continue  # compiled, it is the same call
            runs[form] = both_ways(mode(f), variables, constants)
            check(name, f"{side}, {form}", runs[form](), want)
        sides[side] = (*clock.fastest(runs), True)
    n, by_rank = len(variables[0]), name.startswith("rank_n_contrast_loss")
    others = for_scale(n) if of_pairs else published_loop(n) if by_rank else {}
    for side, f in others.items():
        run = both_ways(f, variables, constants)
        if by_rank:
            check(name, side, run(), want)
        sides[side] = (*clock.fastest({"as published": run}), by_rank)
    return sides


def native_loss(z, labels):
    """What `loss.backward()` is around: the call of the native library alone, again into the same memory."""
    loss, gradient = torch.empty(()), torch.empty_like(z)
    one = _device.cpu(torch.get_num_threads(), False)
    z_in, of, value, by_z = ((t.data_ptr(), _device.REAL, t.numel()) for t in (z, labels, loss, gradient))

    def run():
        one.contrastive(tuple(z.shape), z_in, of, None, 0, MARGIN, 0.0, value, by_z)
        return loss, gradient

    return run


def through_autograd(native, z):
    """What any function costs that autograd looks on: the same call in a function that does nothing else."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            loss, ctx.gradient = native()
            return loss.clone()

        @staticmethod
        def backward(ctx, upstream):
            return ctx.gradient

    return both_ways(Function.apply, [z], [])


def published_loop(n):
    """Rank-N-Contrast's, where it fits: its loop keeps N matrices for the backward pass, 4 GB at 1024."""
    return {"Rank-N-Contrast, a loop": rank_loop} if n <= 1024 else {}


def for_scale(n):
    """Other losses over all pairs of labelled embeddings."""
    found = published_loop(n)
    try:
        from pytorch_metric_learning.losses import ContrastiveLoss
    except ImportError:
        return found
    loss = ContrastiveLoss(pos_margin=0, neg_margin=1)
    return found | {"pytorch-metric-learning": lambda z, labels: loss(z, labels.long())}


def step_sides(batch, device, clock):
    """The training step of PCConvNet: three times convolution, normalisation and ReLU, a mean, two layers, SGD."""
    name = f"step B={batch} T=1000"
    one = (
        _device.cuda(0, torch.cuda.current_stream().cuda_stream)
        if device == "cuda"
        else _device.cpu(torch.get_num_threads(), False)
    )
    ours = _native.Step(one, batch)
    # Sixteen samples side by side.
    x = torch.tensor(ours.x).view(-1, 1000, 16).transpose(1, 2).reshape(-1, 1, 1000)[:batch]
    ratings = torch.tensor(ours.ratings)
    values = {n: torch.tensor(v).view(shape) for n, shape, v in ours.parameters}

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            channels = [1, 4, 8, 16]
            self.conv = torch.nn.ModuleList(
                torch.nn.Conv1d(i, o, 7, 3, bias=False) for i, o in zip(channels, channels[1:])
            )
            self.norm = torch.nn.ModuleList(torch.nn.BatchNorm1d(o) for o in channels[1:])
            self.hidden, self.out = torch.nn.Linear(16, 8), torch.nn.Linear(8, 1)
            layers = {f"conv{i + 1}": c for i, c in enumerate(self.conv)} | {
                f"norm{i + 1}": n for i, n in enumerate(self.norm)
            }
            names = {"gamma": "weight", "beta": "bias"}
            with torch.no_grad():
                for name, value in values.items():
                    layer, parameter = name.split(".")
                    of = layers.get(layer) or getattr(self, layer)
                    getattr(of, names.get(parameter, parameter)).copy_(value)

        def forward(self, x):
            for conv, norm in zip(self.conv, self.norm):
                x = F.relu(norm(conv(x)))
            return torch.sigmoid(self.out(self.hidden(x.mean(2))))[:, 0]

    def make(mode, dtype, device, fused):
        net = Net().to(device, dtype)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=fused)
        batch_x, target = x.to(device, dtype), ratings.to(device, dtype)
        value = mode(lambda: F.mse_loss(net(batch_x), target))

        def run():
            torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad(set_to_none=True)
            loss = value()
            loss.backward()
            optimizer.step()
            return loss.item()

        return run

    steps = 5
    reference = make(lambda f: f, torch.float64, "cpu", False)
    want = [torch.tensor([reference() for _ in range(steps)], dtype=torch.float64)]
    losses = lambda run: [torch.tensor([run() for _ in range(steps)])]  # noqa: E731
    check(name, "etude", losses(ours.run), want)
    sides = {"etude": ("recorded", ours.run, True)}
    for side, mode in modes(device).items():
        torch.compiler.reset()
        forms = {
            ("fused" if fused else "foreach") + " SGD": make(mode, torch.float32, device, fused)
            for fused in (True, False)
        }
        for form, run in forms.items():
            check(name, f"{side}, {form}", losses(run), want)
        sides[side] = (*clock.fastest(forms), True)
    return name, sides


# --------------------------------------------------------------------------------------------------
# Measuring and telling


def measure(sides, clock, rounds):
    """Milliseconds of every side, `rounds` blocks of them in turn."""
    names = list(sides)
    runs = {name: sides[name][1] for name in names}
    # Each block some 30 ms.
    reps = {name: max(1, min(50, round(30 / max(clock(run), 1e-3)))) for name, run in runs.items()}
    ms = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:  # nobody is always first
            runs[name]()  # untimed: the other sides had the caches
            ms[name].append([clock(runs[name]) for _ in range(reps[name])])
    return ms


def flat(blocks):
    return [t for block in blocks for t in block]


def spread(times):
    """p20, median, p80."""
    if len(times) == 1:
        return times * 3
    fifths = statistics.quantiles(times, n=5, method="inclusive")
    return fifths[0], statistics.median(times), fifths[3]


def figure(ms):
    return f"{ms:.3g}" if ms < 100 else f"{ms:.0f}"


def machine(device):
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), cpu)
    except OSError:
        pass
    on = (
        torch.cuda.get_device_name() + f", CUDA {torch.version.cuda}, on {cpu}"
        if device == "cuda"
        else f"{cpu}, {torch.get_num_threads()} thread(s)"
    )
    packages = ("torch", "numpy", "triton", "pytorch-metric-learning")
    versions = [f"etude {etude.__version__}", f"Python {platform.python_version()}"]
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    return f"{datetime.date.today().isoformat()}, {on}, {platform.system()}; {', '.join(versions)}"


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def report(results, device):
    """Two tables in Markdown: times, and how many times ours."""
    names = list(dict.fromkeys(side for _, sides, _ in results for side in sides))
    print(f"{machine(device)}\n")
    print("Milliseconds, forward and backward, median (p20–p80); † computes something else:\n")
    title = {n: n + ("" if all(s[n][2] for _, s, _ in results if n in s) else " †") for n in names}
    rows = []
    for case, _, ms in results:
        cells = [case]
        for name in names:
            low, middle, high = map(figure, spread(flat(ms[name]))) if name in ms else ("",) * 3
            cells.append(f"{middle} ({low}–{high})" if name in ms else "–")
        rows.append(cells)
    print(table(["case", *title.values()], rows))
    print("Time over Etude's, median (p20–p80) of the rounds' own ratios; above 1 Etude is faster:\n")
    rows = []
    for case, _, ms in results:
        cells = [case]
        for name in names[1:]:
            if name not in ms:
                cells.append("–")
                continue
            ratios = [statistics.median(t) / statistics.median(o) for t, o in zip(ms[name], ms["etude"])]
            low, middle, high = (f"{r:.2f}" for r in spread(ratios))
            cells.append(f"{middle} ({low}–{high})")
        rows.append(cells)
    print(table(["case", *list(title.values())[1:]], rows))
    print("The form each side was fastest in:\n")
    rows = [[case, *(sides[n][0] if n in sides else "–" for n in names[1:])] for case, sides, _ in results]
    print(table(["case", *names[1:]], rows), flush=True)


def write_csv(path, results, device):
    with open(path, "w", newline="") as f:
        out = csv.writer(f)
        out.writerow(["case", "side", "form", "same_numbers", "round", "ms", "machine"])
        where = machine(device)
        for case, sides, ms in results:
            for side, (form, _, same) in sides.items():
                for i, block in enumerate(ms[side]):
                    out.writerows([case, side, form, same, i, f"{t:.6f}", where] for t in block)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m etude.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides on the CPU (default 1)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, two rounds")
    parser.add_argument("--rounds", type=int, help="rounds of each case (default 7)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name holds TEXT")
    parser.add_argument("--csv", metavar="FILE", help="write every measurement here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # Ours computes in f32; PyTorch would not on a card, unless told.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    logging.getLogger("torch").setLevel(logging.ERROR)
    clock, rounds = Clock(args.device), args.rounds or (2 if args.quick else 7)
    todo = [
        (name, lambda n=name, c=case: (n, sides_of(n, c, args.device, clock)))
        for name, case in cases(args.quick)
    ]
    todo += [(f"step B={b} T=1000", lambda b=b: step_sides(b, args.device, clock)) for b in (64, 512)]
    results = []
    for name, make in todo:
        if args.only in name:
            print(f"{name}: checking", file=sys.stderr, flush=True)
            name, sides = make()
            print(f"{name}: {rounds} rounds", file=sys.stderr, flush=True)
            results.append((name, sides, measure(sides, clock, rounds)))
    if not results:
        parser.error(f"no case holds {args.only!r}")
    report(results, args.device)
    if args.csv:
        write_csv(args.csv, results, args.device)


if __name__ == "__main__":
    main()
