#!/usr/bin/env python3
"""Golden vectors: every op's outputs and gradients as PyTorch computes them in float64.

    .venv/bin/python tests/golden/pytorch/make.py

writes `*.safetensors` and `cases.json` beside this file; running it again writes the same bytes.
README.md says what the names mean. Inputs are rounded to float32 first, so that a float32
implementation starts from exactly these numbers; everything after that is float64.
"""

import json
import math
import pathlib
import zlib

import safetensors.torch
import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent
F64 = torch.float64
files, index = {}, []


class Random:
    """A stream of its own for every case, so that adding one leaves the others' bytes alone."""

    def __init__(self, name):
        self.g = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normal(self, *shape, scale=1.0):
        return exact(torch.randn(shape, generator=self.g, dtype=F64) * scale)

    def uniform(self, *shape, low=0.0, high=1.0):
        return exact(torch.rand(shape, generator=self.g, dtype=F64) * (high - low) + low)

    def integers(self, low, high, *shape):
        return torch.randint(low, high, shape, generator=self.g)

    def permutation(self, n):
        return torch.randperm(n, generator=self.g)


def exact(x):
    """The float64 that a float32 can hold."""
    return torch.as_tensor(x, dtype=F64).float().double()


def save(op, name, options, inputs, outputs, extra=()):
    """Adds a case: its tensors under `<name>/`, its row in the index."""
    tensors = {**inputs, **outputs, **dict(extra)}
    for key, t in tensors.items():
        t = t.detach()
        assert t.dtype in (F64, torch.int64) and torch.isfinite(t).all(), (name, key)
        if t.dtype == F64 and (key in inputs or key == "gy"):
            assert torch.equal(exact(t), t), (name, key)
            t = t.float()
        files.setdefault(op, {})[f"{name}/{key}"] = t.contiguous().clone()
    index.append(
        {
            "case": name,
            "op": op,
            "file": f"{op}.safetensors",
            "options": options,
            "inputs": list(inputs),
            "outputs": list(outputs),
            "gradients": [k for k in dict(extra) if k.startswith("g") and k != "gy"],
        }
    )


def vjp(op, name, options, f, inputs, fixed=(), extra_outputs=()):
    """The usual case: y = f(inputs), a random upstream gy, and the gradient of every input."""
    leaves = {k: v.clone().requires_grad_(True) for k, v in inputs.items()}
    y = f(*leaves.values())
    gy = Random(name + "/gy").normal(*y.shape)
    grads = torch.autograd.grad(y, list(leaves.values()), gy, allow_unused=True)
    extra = {"gy": gy}
    for key, leaf, grad in zip(leaves, leaves.values(), grads):
        extra["g" + key] = torch.zeros_like(leaf) if grad is None else grad
    save(op, name, options, {**inputs, **dict(fixed)}, {"y": y, **dict(extra_outputs)}, extra)


# ---------------------------------------------------------------------------------- convolution


def conv1d():
    #   name              B  Cin Cout   T  K  s  p  d  g  bias
    for name, b, ci, co, t, k, s, p, d, g, bias in (
        ("one",           1,  1,  1,    1, 1, 1, 0, 1, 1, True),
        ("plain",         2,  3,  4,    9, 3, 1, 0, 1, 1, True),
        ("no_bias",       2,  3,  4,    8, 3, 1, 0, 1, 1, False),
        ("first_layer",   2,  1,  4,   40, 7, 3, 0, 1, 1, False),
        ("second_layer",  2,  4,  8,   25, 7, 3, 0, 1, 1, False),
        ("melody",        2,  2,  4,   40, 7, 3, 0, 1, 1, True),
        ("pointwise",     2,  5,  7,    6, 1, 1, 0, 1, 1, True),
        ("one_output",    2,  3,  2,    5, 5, 1, 0, 1, 1, True),
        ("stride",        2,  2,  3,   17, 3, 2, 0, 1, 1, True),
        ("stride_tail",   2,  2,  3,   20, 3, 4, 0, 1, 1, True),  # the last inputs touch nothing
        ("stride_gaps",   2,  2,  3,   23, 2, 5, 0, 1, 1, True),  # stride > kernel: holes in gx
        ("dilation",      2,  3,  2,   14, 3, 1, 0, 4, 1, True),
        ("stride_dil",    2,  3,  4,   29, 3, 2, 0, 3, 1, True),
        ("padding",       2,  3,  4,   11, 5, 1, 2, 1, 1, True),
        ("padding_wide",  2,  2,  3,    4, 3, 1, 5, 1, 1, True),  # some windows see padding alone
        ("all_options",   2,  4,  6,   19, 5, 3, 4, 2, 2, True),
        ("groups",        2,  6,  9,    8, 3, 1, 1, 1, 3, False),
        ("depthwise",     2,  5,  5,   14, 4, 2, 1, 1, 5, True),
        ("primes",        3,  5,  7,   17, 5, 3, 2, 2, 1, True),
        ("even_kernel",   2,  3,  3,   16, 4, 2, 3, 3, 1, False),
    ):  # fmt: skip
        r = Random("conv1d_" + name)
        inputs = {"x": r.normal(b, ci, t), "w": r.normal(co, ci // g, k, scale=(k * ci / g) ** -0.5)}
        if bias:
            inputs["b"] = r.normal(co)
        options = {"stride": s, "padding": p, "dilation": d, "groups": g, "bias": bias}
        vjp("conv1d", "conv1d_" + name, options, lambda x, w, b=None: F.conv1d(x, w, b, s, p, d, g), inputs)


def conv2d():
    #   name             B  Cin Cout  (H, W)   (KH,KW)  stride   padding  dilation g  bias
    for name, b, ci, co, hw, k, s, p, d, g, bias in (
        ("one",          1,  1,  1,  (1, 1),   (1, 1),  (1, 1),  (0, 0),  (1, 1),  1, True),
        ("plain",        2,  3,  4,  (6, 7),   (3, 3),  (1, 1),  (0, 0),  (1, 1),  1, True),
        ("no_bias",      2,  3,  2,  (5, 6),   (3, 2),  (1, 1),  (0, 0),  (1, 1),  1, False),
        ("pointwise",    2,  5,  3,  (4, 3),   (1, 1),  (1, 1),  (0, 0),  (1, 1),  1, True),
        ("one_output",   2,  2,  3,  (3, 5),   (3, 5),  (1, 1),  (0, 0),  (1, 1),  1, True),
        ("stride",       2,  2,  3,  (9, 8),   (3, 3),  (2, 3),  (0, 0),  (1, 1),  1, True),
        ("stride_dil",   1,  2,  3,  (9, 11),  (3, 3),  (2, 3),  (0, 0),  (3, 2),  1, True),
        ("padding",      2,  3,  2,  (5, 4),   (3, 3),  (1, 1),  (1, 2),  (1, 1),  1, True),
        ("all_options",  2,  4,  6,  (5, 6),   (3, 2),  (2, 1),  (2, 1),  (2, 3),  2, True),
        ("depthwise",    2,  4,  4,  (6, 5),   (3, 3),  (1, 2),  (1, 1),  (1, 1),  4, False),
        ("primes",       2,  3,  5,  (7, 5),   (5, 3),  (3, 2),  (1, 2),  (1, 2),  1, True),
        ("row",          2,  3,  4,  (1, 17),  (1, 7),  (1, 3),  (0, 2),  (1, 1),  1, True),  # conv1d lying down
    ):  # fmt: skip
        r = Random("conv2d_" + name)
        inputs = {"x": r.normal(b, ci, *hw), "w": r.normal(co, ci // g, *k, scale=(math.prod(k) * ci / g) ** -0.5)}
        if bias:
            inputs["b"] = r.normal(co)
        options = {"stride": s, "padding": p, "dilation": d, "groups": g, "bias": bias}
        vjp("conv2d", "conv2d_" + name, options, lambda x, w, b=None: F.conv2d(x, w, b, s, p, d, g), inputs)


# ------------------------------------------------------------------------- normalisation, network


def batch_norm():
    #   name             shape        momentum eps
    for name, shape, momentum, eps in (
        ("bc",           (5, 3),      0.1, 1e-5),
        ("bct",          (4, 3, 7),   0.1, 1e-5),
        ("two_values",   (2, 3),      0.1, 1e-5),
        ("one_channel",  (3, 1, 5),   0.1, 1e-5),
        ("t1",           (7, 4, 1),   0.1, 1e-5),
        ("b1",           (1, 4, 9),   0.1, 1e-5),
        ("primes",       (3, 5, 11),  0.1, 1e-5),
        ("options",      (6, 2, 5),   0.3, 1e-3),
        ("constant",     (4, 3, 6),   0.1, 1e-5),  # channel 1 does not vary
        ("offset",       (4, 2, 16),  0.1, 1e-5),  # mean 100, deviation 1: a one-pass variance suffers
    ):  # fmt: skip
        for train in (True, False) if name in ("bc", "bct", "options") else (True,):
            case = f"batch_norm_{'train' if train else 'eval'}_{name}"
            r, c = Random(case), shape[1]
            x = r.normal(*shape)
            if name == "constant":
                x[:, 1] = 0.75
            if name == "offset":
                x = exact(x + 100)
            mean, var = r.normal(c), r.uniform(c, low=0.5, high=2.0)
            after = (mean.clone(), var.clone())

            def f(x, w, b):
                return F.batch_norm(x, *after, w, b, train, momentum, eps)

            inputs = {"x": x, "w": r.uniform(c, low=0.5, high=1.5), "b": r.normal(c)}
            f(*inputs.values())  # moves the statistics once; the gradient does not read them in training
            moved = dict(zip(("running_mean_after", "running_var_after"), (a.clone() for a in after)))
            vjp(
                "batch_norm",
                case,
                {"train": train, "momentum": momentum, "eps": eps},
                f,
                inputs,
                fixed={"running_mean": mean, "running_var": var},
                extra_outputs=moved if train else {},
            )


def activations():
    edge = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1.0, -1.0], dtype=F64)
    far = torch.tensor([-100.0, -50.0, -20.0, 0.0, 20.0, 50.0, 100.0], dtype=F64)
    for op, options, f, special in (
        ("relu", {}, F.relu, edge),
        ("leaky_relu", {"slope": 0.01}, lambda x: F.leaky_relu(x, 0.01), edge),
        ("sigmoid", {}, torch.sigmoid, far),
    ):
        vjp(op, f"{op}_plain", options, f, {"x": Random(op).normal(3, 4, 7)})
        vjp(op, f"{op}_one", options, f, {"x": Random(op + "1").normal(1)})
        vjp(op, f"{op}_edge", options, f, {"x": exact(special)})


def mean_time():
    for name, shape in (("one", (1, 1, 1)), ("plain", (3, 4, 10)), ("primes", (3, 7, 17)), ("t1", (3, 16, 1))):
        vjp("mean_time", "mean_time_" + name, {}, lambda x: x.mean(2), {"x": Random("mean" + name).normal(*shape)})
    for name, shape, lengths in (
        ("plain", (4, 3, 9), [9, 1, 5, 8]),
        ("primes", (5, 7, 13), [13, 2, 3, 11, 7]),
        ("all_full", (2, 3, 6), [6, 6]),
    ):
        length = torch.tensor(lengths)
        mask = (torch.arange(shape[2]) < length[:, None])[:, None].double()
        vjp(
            "masked_mean_time",
            "masked_mean_time_" + name,
            {},
            lambda x: (x * mask).sum(2) / length[:, None],
            {"x": Random("masked" + name).normal(*shape)},
            fixed={"lengths": length},
        )


def linear():
    for name, b, i, o, bias in (
        ("one", 1, 1, 1, True),
        ("hidden", 6, 16, 8, True),
        ("out", 6, 8, 1, True),
        ("no_bias", 5, 7, 3, False),
        ("primes", 7, 13, 11, True),
    ):
        r = Random("linear" + name)
        inputs = {"x": r.normal(b, i), "w": r.normal(o, i, scale=i**-0.5)}
        if bias:
            inputs["b"] = r.normal(o)
        vjp("linear", "linear_" + name, {"bias": bias}, lambda x, w, b=None: F.linear(x, w, b), inputs)


def losses():
    for n in (1, 7, 16):
        r = Random(f"mse{n}")
        inputs = {"p": r.uniform(n), "t": r.uniform(n)}
        vjp("mse", f"mse_{n}", {}, lambda p, t: F.mse_loss(p, t), inputs)
    for n in (1, 7, 16):
        r = Random(f"bce{n}")
        t = r.integers(0, 2, n).double() if n != 16 else r.uniform(n)
        p, x = r.uniform(n, low=0.02, high=0.98), r.normal(n, scale=3)
        vjp("bce", f"bce_{n}", {}, lambda p: F.binary_cross_entropy(p, t), {"p": p}, {"t": t})
        vjp(
            "bce_logits",
            f"bce_logits_{n}",
            {},
            lambda x: F.binary_cross_entropy_with_logits(x, t),
            {"x": x},
            {"t": t},
        )
    p = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5], dtype=F64)
    t = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0], dtype=F64)
    vjp("bce", "bce_saturated", {}, lambda p: F.binary_cross_entropy(p, t), {"p": p}, {"t": t})
    x = torch.tensor([-90.0, 90.0, -90.0, 90.0, 0.0], dtype=F64)
    vjp("bce_logits", "bce_logits_far", {}, lambda x: F.binary_cross_entropy_with_logits(x, t), {"x": x}, {"t": t})


# ------------------------------------------------------------------------- pairs and their losses


def euclidean(a, b):
    """‖a − b‖; the gradient at 0 is 0, not NaN."""
    square = ((a - b) ** 2).sum()
    return square.sqrt() if square > 0 else square


def cosine(a, b):
    """a·b/(‖a‖‖b‖); with a zero row 0, and no gradient for either row."""
    if (a == 0).all() or (b == 0).all():
        return (a * 0).sum() + (b * 0).sum()
    return (a * b).sum() / (a.norm() * b.norm())


SIMILARITY = {
    "dot": lambda a, b: (a * b).sum(),
    "cosine": cosine,
    "squared_euclidean": lambda a, b: ((a - b) ** 2).sum(),
    "euclidean": euclidean,
}
DISTANCE = {"euclidean": euclidean, "cosine": lambda a, b: 1 - cosine(a, b)}


def pairwise():
    for name, n, m, d in (("one", 1, 1, 1), ("plain", 5, 4, 3), ("primes", 5, 7, 11), ("special", 6, 5, 4)):
        for metric, f in SIMILARITY.items():
            r = Random("pairwise" + name)
            a, b = r.normal(n, d), r.normal(m, d)
            if name == "special":
                a[0], b[1] = 0, 0  # zero rows
                b[2], b[3] = a[2], exact(a[3] + 1e-3)  # a pair at distance 0, a near one
                a[4] = exact(b[4] * -2)  # opposite

            def matrix(a, b):
                return torch.stack([torch.stack([f(x, y) for y in b]) for x in a])

            vjp("pairwise", f"pairwise_{metric}_{name}", {"metric": metric}, matrix, {"a": a, "b": b})


def bins(y, k):
    return torch.clamp(torch.floor(k * y + 1e-6), max=k - 1).long()


def pair_loss(za, zb, ya, yb, pairs, kind, metric, margin, k, tau):
    """The mean over `pairs` of one (i, j) at a time, as the formula reads."""
    if kind == "binned":
        ya, yb, tau = bins(ya, k), bins(yb, k), 0
    total = torch.zeros((), dtype=F64)
    for i, j in pairs:
        w = abs((ya[i] - yb[j]).item())
        d = DISTANCE[metric](za[i], zb[j])
        if w <= tau:
            total = total + d * d / 2
        elif margin * w > d:
            total = total + (margin * w - d) ** 2 / 2
        else:
            total = total + d * 0
    return total / len(pairs)


def ratings(r, n):
    """Multiples of 1/64: their differences are exact in float32, and never near tau = 0.1."""
    y = r.integers(0, 65, n).double() / 64
    if n >= 4:
        y[3] = y[0]  # a positive pair for tau = 0
    return y


def contrastive():
    for pairs in ("all", "halves", "cross"):
        for kind, tau in (("binned", None), ("continuous", 0.0), ("continuous", 0.1)):
            for metric in DISTANCE:
                tag = f"{pairs}_{kind}{'' if tau is None else '_tau' + str(tau)}_{metric}"
                pair_case(tag, pairs, kind, tau, metric, 12, 9, 5, 0.5, 5)
    for metric in DISTANCE:
        pair_case(f"all_two_{metric}", "all", "binned", None, metric, 2, 0, 1, 2.0, 5, special=False)
        pair_case(f"all_primes_{metric}", "all", "binned", None, metric, 19, 0, 11, 2.0, 5, special=False)
        pair_case(f"cross_one_{metric}", "cross", "continuous", 0.0, metric, 1, 1, 3, 1.0, 5, special=False)
        pair_case(f"cross_wide_{metric}", "cross", "binned", None, metric, 5, 11, 16, 1.0, 5)
        pair_case(f"all_bin_edges_{metric}", "all", "binned", None, metric, 11, 0, 4, 1.0, 10, edges=True)
        pair_case(f"all_same_rating_{metric}", "all", "continuous", 0.0, metric, 6, 0, 4, 0.5, 5, same=True)
        pair_case(f"all_identical_{metric}", "all", "binned", None, metric, 6, 0, 4, 0.5, 5, identical=True)


def pair_case(tag, pairs, kind, tau, metric, n, m, d, margin, k, special=True, edges=False, same=False, identical=False):
    name = "contrastive_" + tag
    r = Random(name)
    z, y = r.normal(n, d, scale=0.5), ratings(r, n)
    if edges:
        y = exact(torch.arange(n) / 10)  # every bin edge of K = 10
    if same:
        y[:] = 0.5
    if special and n >= 5:
        z[1] = z[0]  # identical: gradient 0 through the distance
        z[2] = 0  # zero row
        z[4] = exact(z[3] + 1e-3)  # near duplicate
    if identical:
        z[:] = z[0]
    options = {"pairs": pairs, "labels": kind, "metric": metric, "margin": margin}
    options |= {"bins": k} if kind == "binned" else {"tau": tau}
    z.requires_grad_(True)
    inputs = {"z": z, "y": y}
    if pairs == "cross":
        zb, yb = r.normal(m, d, scale=0.5), ratings(r, m)
        if special:
            zb[0], zb[1] = z[0].detach(), 0  # at distance 0 from a row of z; a zero row
        zb.requires_grad_(True)
        inputs |= {"zb": zb, "yb": yb}
        which = [(i, j) for i in range(n) for j in range(m)]
    elif pairs == "all":
        zb, yb = z, y
        which = [(i, j) for i in range(n) for j in range(i + 1, n)]
    else:
        zb, yb = z, y
        order = r.permutation(n)
        left, right = order[: n // 2], order[n // 2 :]
        if special:  # put the identical rows 0 and 1 opposite each other
            order = torch.cat([torch.tensor([0]), torch.arange(2, n // 2 + 1), torch.tensor([1]), torch.arange(n // 2 + 1, n)])
            left, right = order[: n // 2], order[n // 2 :][torch.cat([torch.tensor([0]), 1 + r.permutation(n // 2 - 1)])]
        inputs |= {"left": left, "right": right}
        which = list(zip(left.tolist(), right.tolist()))
    if kind == "binned":
        inputs["label"] = bins(y, k)
        if pairs == "cross":
            inputs["labelb"] = bins(yb, k)
    loss = pair_loss(z, zb, y, yb, which, kind, metric, margin, k, tau)
    leaves = {"z": z, "zb": zb} if pairs == "cross" else {"z": z}
    grads = torch.autograd.grad(loss, list(leaves.values()))
    save("contrastive", name, options, inputs, {"loss": loss}, {"g" + k: g for k, g in zip(leaves, grads)})


def contrastive_hvp():
    """The gradient of the sum over pairs by the rows, and how it moves where all rows do: forward over reverse."""
    distance = {"euclidean": lambda a, b: (a - b).square().sum().sqrt(), "cosine": lambda a, b: (a - b).square().sum() / 2}
    for pairs, n, m, d in (("all", 9, 0, 4), ("cross", 7, 5, 11), ("cross", 1, 3, 1)):
        for metric, d_of in distance.items():
            name = f"contrastive_hvp_{pairs}{n}_{metric}"
            r = Random(name)
            inputs = {"z": r.normal(n, d, scale=0.5), "v": r.normal(n, d), "y": ratings(r, n)}
            if pairs == "cross":
                inputs |= {"zb": r.normal(m, d, scale=0.5), "vb": r.normal(m, d), "yb": ratings(r, m)}
            margin, tau = 2.0, 0.1

            def loss(z, *zb):
                others, labels = (zb[0], inputs["yb"]) if zb else (z, inputs["y"])
                which = [(i, j) for i in range(n) for j in (range(m) if zb else range(i + 1, n))]
                total = z.sum() * 0
                for i, j in which:
                    w, far = abs((inputs["y"][i] - labels[j]).item()), d_of(z[i], others[j])
                    total = total + (far if w <= tau else (margin * w - far).clamp(min=0)) ** 2 / 2
                return total

            rows = [inputs[k] for k in ("z", "zb") if k in inputs]
            along = [inputs[k] for k in ("v", "vb") if k in inputs]
            sums = torch.func.jvp(torch.func.grad(loss), tuple(rows), tuple(along))
            save("contrastive_hvp", name, {"metric": metric, "margin": margin, "tau": tau}, inputs, {"sums": torch.stack(sums, 1)})


def rank_n_contrast():
    """The paper's formula, pair by pair: of anchor i and row j, what is as far from i by its label as j is, or farther."""
    for n, d, t, labels in ((2, 3, 2.0, "ratings"), (9, 4, 2.0, "ratings"), (12, 7, 0.5, "grades"), (10, 1, 1.0, "one grade")):
        name = f"rank_n_contrast_{n}x{d}_{labels.replace(' ', '_')}"
        r = Random(name)
        y = ratings(r, n) if labels == "ratings" else r.integers(0, 1 if labels == "one grade" else 4, n).double()
        inputs = {"z": r.normal(n, d), "y": y}
        z = inputs["z"].clone().requires_grad_(True)
        s = {(i, k): -(z[i] - z[k]).square().sum().sqrt() / t for i in range(n) for k in range(n) if i != k}
        loss = z.sum() * 0
        for i, j in s:
            negatives = [k for k in range(n) if k != i and abs(y[i] - y[k]) >= abs(y[i] - y[j])]
            loss = loss + (torch.logsumexp(torch.stack([s[i, k] for k in negatives]), 0) - s[i, j]) / (n * (n - 1))
        (gz,) = torch.autograd.grad(loss, z)
        save("rank_n_contrast", name, {"temperature": t}, inputs, {"loss": loss}, {"gz": gz})


def info_nce():
    """Cross-entropy of the softmax of cosines against that of label distances, an anchor of `z` at a time: against the other
    rows, or against all of `zb`."""
    for n, m, d, sigma, t, labels in (
        (2, 0, 3, 0.5, 0.5, "ratings"),
        (9, 0, 4, 0.25, 0.125, "ratings"),
        (12, 0, 7, 0.5, 0.125, "grades"),
        (8, 0, 2, 0.0625, 1.0, "ratings"),
        (5, 8, 4, 0.25, 0.25, "ratings"),
        (7, 1, 3, 0.25, 0.25, "ratings"),
    ):
        name = f"info_nce_{n}x{d}_{labels}" + (f"_against_{m}" if m else "")
        r = Random(name)
        of = lambda n: ratings(r, n) if labels == "ratings" else r.integers(0, 4, n).double()
        inputs = {"z": r.normal(n, d), "y": of(n)} | ({"zb": r.normal(m, d), "yb": of(m)} if m else {})
        rows = {k: inputs[k].clone().requires_grad_(True) for k in ("z", "zb") if k in inputs}
        z, others = rows["z"], rows.get("zb", rows["z"])
        y, other_y = inputs["y"], inputs.get("yb", inputs["y"])
        loss = z.sum() * 0
        for i in range(n):
            columns = [k for k in range(len(others)) if m or k != i]
            s = torch.stack([torch.dot(z[i], others[k]) / (z[i].norm() * others[k].norm()) / t for k in columns])
            weights = torch.softmax(-((y[i] - other_y[columns]) ** 2) / (2 * sigma**2), 0)
            loss = loss - (weights * torch.log_softmax(s, 0)).sum() / n
        gradients = torch.autograd.grad(loss, list(rows.values()))
        save("info_nce", name, {"sigma": sigma, "temperature": t}, inputs, {"loss": loss}, {"g" + k: g for k, g in zip(rows, gradients)})


def pair_losses():
    """Each row's losses, pair by pair, of label distances and weights that are there as matrices; by the rows of `z`, whose own
    pair is none where there is no `zb`, and by those."""
    for metric in ("euclidean", "cosine"):
        for n, m, d, margin, tau, weighted in ((5, 0, 3, 1.5, 0.25, False), (6, 0, 4, 0.5, 0.0, True), (4, 9, 5, 1.0, 0.5, True)):
            name = f"pair_loss_{n}x{m or n}_{metric}" + ("_weighted" if weighted else "")
            r = Random(name)
            columns = m or n
            inputs = {"z": r.normal(n, d, scale=0.5), "apart": r.integers(0, 4, n, columns).double() / 2, "up": r.normal(n)}
            if m:
                inputs["zb"] = r.normal(m, d, scale=0.5)
            if weighted:
                inputs["weights"] = r.integers(0, 4, n, columns).double()
            rows = {k: inputs[k].clone().requires_grad_(True) for k in ("z", "zb") if k in inputs}
            z, others = rows["z"], rows.get("zb", rows["z"])
            sums, totals = [z[i].sum() * 0 for i in range(n)], [0.0] * n
            for i in range(n):
                for j in range(columns):
                    s = inputs["weights"][i, j].item() if weighted else 1.0
                    if not m and i == j:
                        continue
                    if metric == "euclidean":
                        far = (z[i] - others[j]).square().sum().sqrt()
                    else:
                        far = 1 - torch.dot(z[i], others[j]) / (z[i].norm() * others[j].norm())
                    w = inputs["apart"][i, j].item()
                    totals[i] += s
                    sums[i] = sums[i] + s * (far if w <= tau else (margin * w - far).clamp(min=0)) ** 2 / 2
            sums = torch.stack(sums)
            gradients = torch.autograd.grad((sums * inputs["up"]).sum(), list(rows.values()))
            results = {"sums": sums, "totals": torch.tensor(totals, dtype=torch.float64)}
            options = {"metric": metric, "margin": margin, "tau": tau}
            save("pair_loss", name, options, inputs, results, {"g" + k: g for k, g in zip(rows, gradients)})


# ------------------------------------------------------------------------------------- optimizers


def optimizers():
    steps, n = 5, 17
    for op, name, make, options, kept in (
        ("sgd", "plain", torch.optim.SGD, {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}, {}),
        ("sgd", "momentum", torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0}, {"m": "momentum_buffer"}),
        ("sgd", "paper", torch.optim.SGD, {"lr": 0.005, "momentum": 0.9, "weight_decay": 1e-5}, {"m": "momentum_buffer"}),
        ("sgd", "decay", torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}, {"m": "momentum_buffer"}),
        ("adam", "plain", torch.optim.Adam, {"lr": 1e-3, "weight_decay": 0.0}, {"m": "exp_avg", "v": "exp_avg_sq"}),
        ("adam", "decay", torch.optim.Adam, {"lr": 1e-2, "weight_decay": 0.1}, {"m": "exp_avg", "v": "exp_avg_sq"}),
        ("adamw", "default", torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 1e-2}, {"m": "exp_avg", "v": "exp_avg_sq"}),
        ("adamw", "strong", torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.3}, {"m": "exp_avg", "v": "exp_avg_sq"}),
    ):  # fmt: skip
        r = Random(f"{op}_{name}")
        p0, g = r.normal(n), r.normal(steps, n)
        g[:, 0] = 0  # a parameter that never gets a gradient: decay and epsilon alone
        extra_options = {} if op == "sgd" else {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
        arguments = {k: v for k, v in options.items()}
        if extra_options:
            arguments |= {"betas": (0.9, 0.999), "eps": 1e-8}
        p = torch.nn.Parameter(p0.clone())
        optimizer = make([p], foreach=False, **arguments)
        rows = {"p": [], **{k: [] for k in kept}}
        for s in range(steps):
            p.grad = g[s].clone()
            optimizer.step()
            rows["p"].append(p.detach().clone())
            for key, state in kept.items():
                rows[key].append(optimizer.state[p][state].clone())
        outputs = {k: torch.stack(v) for k, v in rows.items()}
        save(op, f"{op}_{name}", {**options, **extra_options, "steps": steps}, {"p0": p0, "grad": g}, outputs)


# ---------------------------------------------------------------------------------- whole network


def network():
    for name, b, c, t, weight in (("mse", 20, 1, 200, 0.0), ("joint", 5, 2, 91, 0.5)):
        case = "pcconvnet_" + name
        r = Random(case)
        channels = (c, 4, 8, 16)
        p, before = {}, {}
        for k, (i, o) in enumerate(zip(channels, channels[1:]), 1):
            bound = (7 * i) ** -0.5
            p[f"conv{k}.w"] = r.uniform(o, i, 7, low=-bound, high=bound)
            p[f"bn{k}.w"], p[f"bn{k}.b"] = r.uniform(o, low=0.8, high=1.2), r.normal(o, scale=0.1)
            before[f"bn{k}.running_mean"] = torch.zeros(o, dtype=F64)
            before[f"bn{k}.running_var"] = torch.ones(o, dtype=F64)
        for layer, i, o in (("hidden", 16, 8), ("out", 8, 1)):
            bound = i**-0.5
            p[layer + ".w"], p[layer + ".b"] = (r.uniform(*s, low=-bound, high=bound) for s in ((o, i), (o,)))
        x = exact(r.uniform(b, c, t, low=48, high=84) / 127)  # MIDI pitch / 127
        x[:, :, ::7] = 0  # unvoiced
        y = ratings(r, b)
        leaves = {k: v.clone().requires_grad_(True) for k, v in p.items()}
        after = {k: v.clone() for k, v in before.items()}
        h = x
        for k in (1, 2, 3):
            h = F.conv1d(h, leaves[f"conv{k}.w"], None, 3)
            stats = after[f"bn{k}.running_mean"], after[f"bn{k}.running_var"]
            h = F.relu(F.batch_norm(h, *stats, leaves[f"bn{k}.w"], leaves[f"bn{k}.b"], True, 0.1, 1e-5))
        embedding = h.mean(2)
        hidden = F.linear(embedding, leaves["hidden.w"], leaves["hidden.b"])
        rating = torch.sigmoid(F.linear(hidden, leaves["out.w"], leaves["out.b"]))[:, 0]
        loss = F.mse_loss(rating, y)
        if weight:
            which = [(i, j) for i in range(b) for j in range(i + 1, b)]
            loss = loss + weight * pair_loss(embedding, embedding, y, y, which, "binned", "euclidean", 0.5, 5, None)
        grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))
        sgd = {"lr": 0.005, "momentum": 0.9, "weight_decay": 1e-5}
        stepped = {k: v - sgd["lr"] * (grads[k] + sgd["weight_decay"] * v) for k, v in p.items()}  # the first step
        save(
            "pcconvnet",
            case,
            {"channels": c, "widths": channels[1:], "kernel": 7, "stride": 3, "lambda": weight, "margin": 0.5, "bins": 5, **sgd},
            {"x": x, "y": y, **p, **before},
            {
                "embedding": embedding,
                "rating": rating,
                "loss": loss,
                **{"after." + k: v for k, v in after.items()},
                **({} if weight else {"step." + k: v for k, v in stepped.items()}),
            },
            {"grad." + k: v for k, v in grads.items()},
        )


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    of_pairs = pairwise, contrastive, contrastive_hvp, rank_n_contrast, info_nce, pair_losses
    for make in (conv1d, conv2d, batch_norm, activations, mean_time, linear, losses, *of_pairs, optimizers, network):
        make()
    assert len({c["case"] for c in index}) == len(index)
    total = 0
    for op, tensors in files.items():
        path = HERE / f"{op}.safetensors"
        safetensors.torch.save_file(tensors, path, metadata={"torch": torch.__version__.split("+")[0]})
        path.chmod(0o644)
        total += path.stat().st_size
    rows = ",\n".join("  " + json.dumps(c) for c in index)
    (HERE / "cases.json").write_text(f'{{\n "torch": "{torch.__version__.split("+")[0]}",\n "cases": [\n{rows}\n ]\n}}\n')
    total += (HERE / "cases.json").stat().st_size
    print(f"{len(index)} cases, {len(files)} files, {total / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
