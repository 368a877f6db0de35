"""The operators on PyTorch tensors; skipped only where PyTorch is not installed."""

import os
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import etude  # noqa: E402
import etude.nn  # noqa: E402
from etude._torch import (  # noqa: E402
    contrastive,
    convolution,
    info_nce,
    pairs,
    rank_n_contrast,
    similarity,
    tensors,
)

F = torch.nn.functional
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
# Both sides sum some hundred products in the type given; a card's cuDNN is told not to round to TF32.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
torch.backends.cudnn.allow_tf32 = False


def normal(*shape, dtype=torch.float64, device="cpu", grad=False):
    return torch.randn(shape, dtype=dtype, device=device).requires_grad_(grad)


def types(device):
    return [torch.float32] if device == "cuda" else [torch.float32, torch.float64]


ON = [(device, dtype) for device in DEVICES for dtype in types(device)]


def close(got, want):
    assert got.shape == want.shape and got.dtype == want.dtype and got.device == want.device
    scale = max(1e-30, want.abs().max().item())
    torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE[got.dtype] * scale)


def cdist_loss(
    z,
    labels,
    weights=None,
    others=None,
    other_labels=None,
    other_weights=None,
    margin=0.5,
    tau=0.0,
    metric="euclidean",
):
    """The loss as one writes it in PyTorch."""
    all_pairs = others is None
    if all_pairs:
        others, other_labels, other_weights = z, labels, weights
    if metric == "euclidean":
        d = torch.cdist(z, others, compute_mode="donot_use_mm_for_euclid_dist")
    else:
        d = 1 - F.normalize(z) @ F.normalize(others).T
    w = (labels[:, None] - other_labels).abs()
    pairs = torch.where(w <= 1.00025 * tau + 1e-6, d * d, (margin * w - d).clamp(min=0) ** 2) / 2
    counted = torch.ones_like(pairs)
    counted = counted if weights is None else counted * weights[:, None]
    counted = counted if other_weights is None else counted * other_weights
    if all_pairs:
        counted = counted.triu(1)
    return (counted * pairs).sum() / counted.sum()


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("device,dtype", ON)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_the_cdist_form(device, dtype, metric, weighted):
    z = normal(65, 7, dtype=dtype, device=device, grad=True)
    ratings = torch.rand(65, device=device)
    weights = torch.rand(65, dtype=dtype, device=device) if weighted else None
    for labels, tau in [(etude.bins(ratings, 5), 0.0), (ratings.to(dtype), 0.25)]:
        options = {"metric": metric, "margin": 0.75, "tau": tau}
        got = etude.contrastive_loss(z, labels, weights, **options)
        want = cdist_loss(z, labels.to(dtype), weights, **options)
        close(got, want)
        (got,), (want,) = gradients(got, z), gradients(want, z)
        close(got, want)
        loss, gradient = etude.contrastive_loss_and_grad(z, labels, weights, **options)
        assert not loss.requires_grad and torch.equal(gradient, got)


@pytest.mark.parametrize("device,dtype", ON)
def test_loss_against_others_is_the_cdist_form(device, dtype):
    z, o = (normal(n, 7, dtype=dtype, device=device, grad=True) for n in (33, 40))
    labels, other_labels = (torch.rand(n, dtype=dtype, device=device) for n in (33, 40))
    weights, other_weights = torch.rand_like(labels), torch.rand_like(other_labels)
    options = {"others": o, "other_labels": other_labels, "margin": 4.0}
    for of_z, of_o in [(None, None), (weights, None), (None, other_weights), (weights, other_weights)]:
        got = etude.contrastive_loss(z, labels, of_z, other_weights=of_o, **options)
        want = cdist_loss(z, labels, of_z, other_weights=of_o, **options)
        close(got, want)
        for g, w in zip(gradients(got, z, o), gradients(want, z, o)):
            close(g, w)
    # Of one side only.
    close(
        *(
            f(z, labels, others=o.detach(), other_labels=other_labels)
            for f in (etude.contrastive_loss, cdist_loss)
        )
    )


@pytest.mark.parametrize("device,dtype", ON)
def test_backward_scales_the_kept_gradient(device, dtype):
    z, labels = normal(20, 4, dtype=dtype, device=device, grad=True), torch.arange(20, device=device)
    loss, gradient = etude.contrastive_loss_and_grad(z, labels)
    (3 * etude.contrastive_loss(z, labels)).backward()
    assert torch.equal(z.grad, 3 * gradient)
    assert not contrastive._all(z, labels, None, 0, 0.5, 0.0)[1].requires_grad


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_of_equal_rows_is_finite(device):
    z = torch.ones(4, 3, device=device, requires_grad=True)
    etude.contrastive_loss(z, torch.arange(4, device=device)).backward()
    assert (z.grad == 0).all()
    a = torch.ones(2, 3, device=device, requires_grad=True)
    etude.pairwise_similarity(a, a, "euclidean").sum().backward()
    assert (a.grad == 0).all()


SIMILARITIES = {
    "dot": lambda a, b: a @ b.T,
    "cosine": lambda a, b: F.normalize(a) @ F.normalize(b).T,
    "squared_euclidean": lambda a, b: ((a[:, None] - b) ** 2).sum(2),
    "euclidean": lambda a, b: torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist"),
}


@pytest.mark.parametrize("device,dtype", ON)
@pytest.mark.parametrize("kind", SIMILARITIES)
def test_similarity_is_pytorchs(device, dtype, kind):
    a, b = (normal(n, 9, dtype=dtype, device=device, grad=True) for n in (21, 34))
    dy = normal(21, 34, dtype=dtype, device=device)
    got, want = etude.pairwise_similarity(a, b, kind), SIMILARITIES[kind](a, b)
    close(got, want)
    of_got, of_want = gradients((got * dy).sum(), a, b), gradients((want * dy).sum(), a, b)
    for g, w in zip(of_got, of_want):
        close(g, w)
    for g, w in zip(etude.pairwise_similarity_backward(dy, a, b, kind), of_got):
        assert torch.equal(g, w)


CONV = {
    1: (etude.conv1d, etude.conv1d_backward, F.conv1d),
    2: (etude.conv2d, etude.conv2d_backward, F.conv2d),
}


@pytest.mark.parametrize("device,dtype", ON)
@pytest.mark.parametrize("dims", CONV)
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1, "dilation": 3, "groups": 2}])
def test_convolution_is_pytorchs(device, dtype, dims, options):
    ours, backward, theirs = CONV[dims]
    make = lambda *shape: normal(*shape, dtype=dtype, device=device, grad=True)  # noqa: E731
    x, bias = make(3, 4, *[19, 17][:dims]), make(6)
    weight = make(6, 4 // options.get("groups", 1), *[3, 4][:dims])
    got, want = ours(x, weight, bias, **options), theirs(x, weight, bias, **options)
    close(got, want)
    dy = torch.randn_like(want)
    of_got, of_want = (gradients((y * dy).sum(), x, weight, bias) for y in (got, want))
    for g, w in zip(of_got, of_want):
        close(g, w)
    for g, w in zip(backward(dy, x, weight, **options), of_got):
        assert torch.equal(g, w)
    close(ours(x, weight, **options), theirs(x, weight, **options))
    # Gradients that are not needed are not computed.
    (got,) = gradients((ours(x.detach(), weight, bias, **options) * dy).sum(), weight)
    close(got, of_want[1])


def test_gradcheck():
    check = torch.autograd.gradcheck
    z, o, labels, weights = (
        normal(7, 3, grad=True),
        normal(5, 3, grad=True),
        torch.rand(7),
        torch.rand(7).double(),
    )
    for metric in ("euclidean", "cosine"):
        options = {"metric": metric, "margin": 4.0, "tau": 0.125}
        assert check(lambda z: etude.contrastive_loss(z, labels, **options), z)
        assert check(lambda z: etude.contrastive_loss(z, labels, weights, **options), z)
        assert check(
            lambda z, o: etude.contrastive_loss(z, labels, others=o, other_labels=labels[:5], **options),
            (z, o),
        )
    for kind in SIMILARITIES:
        assert check(lambda a, b: etude.pairwise_similarity(a, b, kind), (z, o))
    for dims, (conv, _, _) in CONV.items():
        x, weight, bias = (
            normal(*s, grad=True) for s in ((2, 4, *[9, 8][:dims]), (4, 2, *[3, 2][:dims]), (4,))
        )
        options = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}
        assert check(lambda x, w, b: conv(x, w, b, **options), (x, weight, bias))
        assert check(lambda x, w: conv(x, w, groups=2), (x, weight))


def operator_samples(device, dtype):
    make = lambda *shape, grad=True: normal(*shape, dtype=dtype, device=device, grad=grad)  # noqa: E731
    labels, weights = torch.arange(6.0, device=device), torch.rand(6, device=device)
    z, o = make(6, 3), make(5, 3)
    yield contrastive._all, (z, labels, None, 0, 0.5, 0.0)
    yield contrastive._all, (z, labels, weights, 1, 0.5, 0.25)
    yield contrastive._cross, (z, labels, None, o, labels[:5], weights[:5], 0, 0.5, 0.0)
    for options in ((0, 0.5, 0.0), (1, 4.0, 1.0)):
        alone, both = (z, labels, weights, None, None, None), (z, labels, None, o, labels[:5], weights[:5])
        yield contrastive._kept, (*alone, make(6, 3, grad=False), None, *options)
        yield contrastive._kept, (*both, make(6, 3, grad=False), make(5, 3, grad=False), *options)
        alone, both = ([None if t is None else t.detach() for t in of] for of in (alone, both))
        yield contrastive._second, (*alone, make(6, 3), None, False, *options)
        yield contrastive._second, (*both, make(6, 3), make(5, 3), True, *options)
        yield contrastive._second, (*both, make(6, 3), make(5, 3), False, *options)
    for differentiate in (True, False):
        yield rank_n_contrast._operator, (z if differentiate else z.detach(), labels, 1.5, differentiate)
        of_others = o if differentiate else o.detach(), labels[:5]
        for others in ((None, None), of_others):
            samples = z if differentiate else z.detach(), labels, *others
            yield info_nce._operator, (*samples, 0.5, 0.25, differentiate)
        d = make(4, 6).detach().abs().requires_grad_(differentiate)
        yield rank_n_contrast._rows, (d, labels, 2, 1.5, differentiate)
        for columns, own in ((6, True), (5, False)):
            of = d[:, :columns], labels, labels[:columns]
            yield info_nce._rows, (*of, 2, own, 0.5, 0.25, differentiate)
    apart, counts = torch.rand(2, 4, 6, dtype=dtype, device=device)
    for own in (True, False):
        for options in ((0, 4.0, 0.1), (1, 1.5, 0.25)):
            yield pairs._operator, (make(4, 6), apart, counts if own else None, 2, own, *options)
            yield pairs._backward, (make(4, 6), apart, None if own else counts, make(4), 2, own, *options)
    yield rank_n_contrast._kept_rows, (apart, labels, counts, 2, 1.5)
    yield info_nce._kept_rows, (apart, labels, labels, counts, 2, True, 0.5, 0.25)
    along = make(6, 3, grad=False), make(5, 3, grad=False)
    yield info_nce._kept, (z.detach(), labels, o.detach(), labels[:5], *along, 0.5, 0.25)
    yield info_nce._kept, (z.detach(), labels, None, None, along[0], along[1][:0, 0], 0.5, 0.25)
    yield rank_n_contrast._kept, (z.detach(), labels, make(6, 3, grad=False), 1.5)
    for kind in range(4):
        yield similarity._similarity, (z, o, kind)
        yield similarity._similarity_backward, (make(6, 5), z, o, kind)
    yield similarity._of_differences, (z, o, make(6, 3), make(5, 3))
    for dims, (forward, backward) in convolution._OPERATORS.items():
        x, weight, bias = make(2, 4, *[9, 8][:dims]), make(6, 2, *[3, 2][:dims]), make(6)
        slide = ([2, 1][:dims], [1, 0][:dims], [1, 2][:dims], 2)
        yield forward, (x, weight, bias, *slide)
        yield forward, (x, weight, None, *slide)
        y = forward(x, weight, bias, *slide).detach()
        for needed in ([True] * 3, [False, True, False]):
            yield backward, (torch.randn_like(y).requires_grad_(), x, weight, *slide, needed)


@pytest.mark.parametrize("device,dtype", ON)
def test_opcheck(device, dtype):
    seen = set()
    for operator, arguments in operator_samples(device, dtype):
        torch.library.opcheck(operator, arguments)
        seen.add(operator._opoverload._schema.name)
    assert seen == {
        f"etude::{name}" for name in dir(torch.ops.etude) if not name.startswith("_") and name != "name"
    }


@pytest.mark.parametrize("device", DEVICES)
def test_sixteen_bits(device):
    for dtype in (torch.float16, torch.bfloat16):
        z, o = (normal(n, 5, dtype=torch.float32, device=device).to(dtype).requires_grad_() for n in (20, 12))
        wide, others = (t.detach().float().requires_grad_() for t in (z, o))
        labels = torch.rand(20, device=device)
        got, want = etude.contrastive_loss(z, labels), etude.contrastive_loss(wide, labels)
        close(got, want)
        (of_got,), (of_want,) = gradients(got, z), gradients(want, wide)
        # The rounding to the stored type.
        torch.testing.assert_close(of_got, of_want.to(dtype), rtol=1e-2, atol=1e-6)
        got, want = etude.pairwise_similarity(z, o, "dot"), etude.pairwise_similarity(wide, others, "dot")
        close(got, want)
        for g, w in zip(gradients(got.sum(), z, o), gradients(want.sum(), wide, others)):
            torch.testing.assert_close(g, w.to(dtype), rtol=1e-2, atol=1e-2)
        cross = {"others": o, "other_labels": labels[:12]}
        cross_wide = {"others": others, "other_labels": labels[:12]}
        close(etude.contrastive_loss(z, labels, **cross), etude.contrastive_loss(wide, labels, **cross_wide))


@pytest.mark.parametrize("device", DEVICES)
def test_autocast(device):
    x, labels = normal(12, 3, 20, dtype=torch.float32, device=device), torch.rand(12, device=device)
    conv = etude.nn.Conv1d(3, 4, 5).to(device)
    linear = torch.nn.Linear(4, 4).to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        half = linear(x[:, 0, :4])
        assert half.dtype == torch.bfloat16
        y = conv(x)
        assert y.dtype == torch.float32 and torch.equal(y, conv(x.float()))
        assert conv(half[:, :3, None].expand(12, 3, 9)).dtype == torch.float32
        loss = etude.contrastive_loss(half, labels)
        assert loss.dtype == torch.float32 and torch.equal(loss, etude.contrastive_loss(half.float(), labels))
        # Embeddings of two types meet.
        matrix = etude.pairwise_similarity(half, half.float())
    assert matrix.dtype == torch.float32
    (loss + y.square().mean() + matrix.mean()).backward()
    assert all(p.grad.isfinite().all() for p in (*conv.parameters(), *linear.parameters()))


def whole(x, weight, bias, labels, others):
    z = etude.conv1d(x, weight, bias, stride=2).mean(2)
    image = etude.conv2d(x[:, None], weight[:1, None, :1].expand(2, 1, 1, weight.shape[2]))
    similar = etude.pairwise_similarity(z, others, "euclidean").mean()
    pairs = etude.contrastive_loss(z, labels)
    return (
        pairs
        + similar
        + image.square().mean()
        + etude.contrastive_loss(z, labels, others=others, other_labels=labels[: others.shape[0]])
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_inside_torch_compile(device, dynamic):
    torch.compiler.reset()
    compiled = torch.compile(whole, fullgraph=True, dynamic=dynamic)
    for batch in (12, 9):
        make = lambda *shape: normal(*shape, dtype=torch.float32, device=device, grad=True)  # noqa: E731
        tensors = make(batch, 3, 21), make(4, 3, 5), make(4)
        rest = torch.rand(batch, device=device), normal(7, 4, dtype=torch.float32, device=device)
        got, want = compiled(*tensors, *rest), whole(*tensors, *rest)
        close(got, want)
        for g, w in zip(gradients(got, *tensors), gradients(want, *tensors)):
            close(g, w)


@pytest.mark.parametrize("device,dtype", ON)
def test_tensors_that_are_not_contiguous(device, dtype):
    make = lambda *shape: normal(*shape, dtype=dtype, device=device)  # noqa: E731
    z, labels = make(40, 14)[::2, ::2], torch.rand(40, device=device)[::2]
    assert torch.equal(etude.contrastive_loss(z, labels), etude.contrastive_loss(z.clone(), labels.clone()))
    a = make(5, 11).T
    assert torch.equal(
        etude.pairwise_similarity(a, a), etude.pairwise_similarity(a.contiguous(), a.contiguous())
    )
    x, weight = make(3, 20, 4).transpose(1, 2).requires_grad_(), make(5, 4, 6).transpose(1, 2)[:, 2:]
    y, want = etude.conv1d(x, weight), F.conv1d(x, weight)
    close(y, want)
    # An upstream gradient without memory of its own, and one in another order.
    for dy in (
        torch.ones((), dtype=dtype, device=device).expand_as(y),
        make(*y.shape[::-1]).permute(2, 1, 0),
    ):
        close(
            torch.autograd.grad(y, x, dy, retain_graph=True)[0],
            torch.autograd.grad(want, x, dy, retain_graph=True)[0],
        )


class Calls(TorchDispatchMode):
    """Every operator that is called, those of PyTorch's own included."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def memory_given(monkeypatch):
    """The addresses that kernels are given from now on."""
    memory, given = tensors.memory, set()
    for module in (contrastive, convolution, similarity, tensors):
        monkeypatch.setattr(module, "memory", lambda t: given.add(t.data_ptr()) or memory(t))
    return given


@pytest.mark.parametrize("device,dtype", ON)
def test_nothing_is_copied(device, dtype, monkeypatch):
    make = lambda *shape: normal(*shape, dtype=dtype, device=device, grad=True)  # noqa: E731
    z, o, x, weight, bias = make(30, 4), make(20, 4), make(3, 4, 9), make(5, 4, 2), make(5)
    labels = torch.rand(30, dtype=dtype, device=device)
    given = memory_given(monkeypatch)

    def same_memory(run, expected, *tensors):
        """Runs with no operator but those expected, whose kernels get the very memory of what goes in and comes out."""
        given.clear()
        with Calls() as calls:
            out = run()
        assert [n for n in calls.names if n not in ("aten::mul", "aten::detach")] == expected
        assert given >= {t.data_ptr() for t in tensors}
        return out

    loss = same_memory(lambda: etude.contrastive_loss(z, labels), ["etude::contrastive"], z, labels)
    assert loss.data_ptr() in given
    matrix = same_memory(lambda: etude.pairwise_similarity(z, o), ["etude::similarity"], z, o)
    assert matrix.data_ptr() in given
    y = same_memory(lambda: etude.conv1d(x, weight, bias), ["etude::conv1d"], x, weight, bias)
    assert y.data_ptr() in given

    def backward(y, inputs, expected, *tensors):
        dy = torch.randn_like(y)
        return same_memory(lambda: torch.autograd.grad(y, inputs, dy), expected, *tensors)

    backward(loss, [z], [])  # it has kept its gradient: no kernel runs
    found = backward(matrix, [z, o], ["etude::similarity_backward"], z, o)
    assert given >= {t.data_ptr() for t in found}
    found = backward(y, [x, weight, bias], ["etude::conv1d_backward"], x, weight)
    assert given >= {t.data_ptr() for t in found}


def test_a_plain_call_leaves_out_the_operator_and_copies_nothing():
    make = lambda *shape: normal(*shape, dtype=torch.float32, device="cpu", grad=True)  # noqa: E731
    z, o, x, weight, bias = make(30, 4), make(20, 4), make(3, 4, 9), make(5, 4, 2), make(5)
    labels, others = torch.arange(30.0) % 3, torch.arange(20.0) % 4
    for f, inputs in (
        (lambda: etude.contrastive_loss(z, labels), [z]),
        (lambda: etude.contrastive_loss(z, labels, others=o, other_labels=others), [z, o]),
        (lambda: etude.pairwise_similarity(z, o), [z, o]),
        (lambda: etude.conv1d(x, weight, bias), [x, weight, bias]),
    ):
        dy = torch.randn_like(f())
        with torch.profiler.profile() as profile:
            y = f()
            plain = torch.autograd.grad(y, inputs, dy)
        called = {e.name for e in profile.events()}
        assert not [n for n in called if n.startswith("etude::") or n in ("aten::copy_", "aten::mul")], called
        with Calls() as calls:  # who looks on sees the operator, and the same bits
            seen = f()
            gradients = torch.autograd.grad(seen, inputs, dy)
        assert any(n.startswith("etude::") for n in calls.names)
        assert all(map(torch.equal, (y, *plain), (seen, *gradients)))


@pytest.mark.parametrize("upstream", [1.0, -0.75])
def test_the_kept_gradient_is_given_away_where_nobody_asks_again(upstream, monkeypatch):
    z, labels = normal(30, 4, dtype=torch.float32, device="cpu", grad=True), torch.arange(30.0) % 3
    given = memory_given(monkeypatch)
    loss = etude.contrastive_loss(z, labels)
    dy = torch.tensor(upstream)
    (first,) = torch.autograd.grad(loss, z, dy, retain_graph=True)
    want = first.clone()
    assert want.all() and first.data_ptr() not in given
    first.zero_()  # the caller's own
    batched = torch.autograd.grad(
        loss, z, torch.stack([dy, 2 * dy]), is_grads_batched=True, retain_graph=True
    )
    assert torch.equal(batched[0], torch.stack([want, 2 * want]))
    loss.backward(dy)
    assert z.grad.data_ptr() in given and torch.equal(z.grad, want)


def test_batched_upstream_gradients():
    x, weight = (normal(*s, dtype=torch.float32, device="cpu", grad=True) for s in ((3, 4, 9), (5, 4, 2)))
    z, labels = normal(30, 4, dtype=torch.float32, device="cpu", grad=True), torch.arange(30.0) % 3
    for f, inputs in (
        (lambda: etude.contrastive_loss(z, labels), [z]),
        (lambda: etude.pairwise_similarity(z, z), [z]),
        (lambda: etude.conv1d(x, weight), [x, weight]),
    ):
        dy = torch.randn(2, *f().shape)
        each = [torch.autograd.grad(f(), inputs, d) for d in dy]
        found = torch.autograd.grad(f(), inputs, dy, is_grads_batched=True)
        assert all(map(torch.equal, found, map(torch.stack, zip(*each))))


def test_memory_stays_of_the_embeddings_size():
    """No matrix of pairs, and no copy: the process grows by less than one more pair of gradients."""
    resource = pytest.importorskip("resource")
    z, labels = torch.randn(16384, 16), torch.rand(16384)
    etude.contrastive_loss(z[:4096], labels[:4096])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    etude.contrastive_loss(z, labels)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 12 * z.nbytes, grown  # 12 MiB; one matrix would be a GiB


def network(nn, conv):
    torch.manual_seed(1)
    return nn.Sequential(
        conv(1, 4, 7, stride=3, bias=False), nn.BatchNorm1d(4), nn.ReLU(),
        conv(4, 8, 7, stride=3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 6),
    )  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_run_does_not_change_when_operators_are_swapped(device):
    nn, steps = torch.nn, 60
    x, ratings = normal(64, 1, 100, dtype=torch.float32, device=device), torch.rand(64, device=device)
    x[:, 0] += 2 * ratings[:, None]
    labels = etude.bins(ratings, 5)

    def train(net, loss):
        net.to(device)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        curve = []
        for step in range(steps):
            chosen = torch.arange(step % 4, 64, 2, device=device)
            optimizer.zero_grad()
            value = loss(net(x[chosen]), labels[chosen])
            value.backward()
            optimizer.step()
            curve.append(value.item())
        return np.array(curve)

    theirs = train(network(nn, nn.Conv1d), cdist_loss)
    ours = train(network(nn, etude.nn.Conv1d), etude.nn.ContrastiveLoss())
    assert theirs[-1] < 0.8 * theirs[0]  # it learns
    # f32 rounds differently on the two sides, and sixty steps carry that on.
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_modules():
    conv, theirs = (
        etude.nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
        torch.nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
    )
    theirs.load_state_dict(conv.state_dict())
    x = torch.randn(2, 4, 12)
    close(conv(x), theirs(x))
    conv, theirs = (
        etude.nn.Conv2d(4, 6, (3, 2), padding=(1, 0)),
        torch.nn.Conv2d(4, 6, (3, 2), padding=(1, 0)),
    )
    theirs.load_state_dict(conv.state_dict())
    x = torch.randn(2, 4, 12, 9)
    close(conv(x), theirs(x))
    a, b, labels = torch.randn(5, 3), torch.randn(4, 3), torch.rand(5)
    assert torch.equal(etude.nn.PairwiseSimilarity("dot")(a, b), etude.pairwise_similarity(a, b, "dot"))
    loss = etude.nn.ContrastiveLoss(metric="cosine", margin=0.75, tau=0.5)
    assert torch.equal(
        loss(a, labels), etude.contrastive_loss(a, labels, metric="cosine", margin=0.75, tau=0.5)
    )
    given = {"others": b, "other_labels": labels[:4]}
    assert torch.equal(
        loss(a, labels, labels, **given),
        etude.contrastive_loss(a, labels, labels, metric="cosine", margin=0.75, tau=0.5, **given),
    )
    assert "cosine" in repr(loss) and "dot" in repr(etude.nn.PairwiseSimilarity("dot"))


def test_torchs_threads_are_obeyed():
    z, labels = torch.randn(300, 8), torch.rand(300)
    threads = torch.get_num_threads()
    many = etude.contrastive_loss_and_grad(z, labels)
    torch.set_num_threads(1)
    try:
        assert tensors.device_for(z).threads == 1
        one = etude.contrastive_loss_and_grad(z, labels)
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, one, many))


Z, L = torch.randn(6, 3), torch.arange(6.0)
X, W = torch.randn(2, 4, 9), torch.randn(6, 2, 3)
META = torch.randn(6, 3, device="meta")
REFUSED = {
    "embeddings: whole numbers": (TypeError, lambda: etude.contrastive_loss(Z.long(), L)),
    "embeddings: elsewhere": (ValueError, lambda: etude.contrastive_loss(META, L)),
    "embeddings: sparse": (TypeError, lambda: etude.contrastive_loss(Z.to_sparse(), L)),
    "embeddings: one dimension": (ValueError, lambda: etude.contrastive_loss(L, L)),
    "embeddings: no columns": (ValueError, lambda: etude.contrastive_loss(Z[:, :0], L)),
    "labels: of other rows": (ValueError, lambda: etude.contrastive_loss(Z, L[:5])),
    "labels: an array": (TypeError, lambda: etude.contrastive_loss(Z, L.numpy())),
    "labels: elsewhere": (ValueError, lambda: etude.contrastive_loss(Z, META[:, 0])),
    "labels: complex": (TypeError, lambda: etude.contrastive_loss(Z, L + 1j)),
    "labels: with a gradient": (ValueError, lambda: etude.contrastive_loss(Z, L.clone().requires_grad_())),
    "weights: of other rows": (ValueError, lambda: etude.contrastive_loss(Z, L, L[:5])),
    "metric: unknown": (ValueError, lambda: etude.contrastive_loss(Z, L, metric="manhattan")),
    "margin: zero": (ValueError, lambda: etude.contrastive_loss(Z, L, margin=0)),
    "others: other columns": (
        ValueError,
        lambda: etude.contrastive_loss(Z, L, others=Z[:, :2], other_labels=L),
    ),
    "others: of another type": (
        TypeError,
        lambda: etude.contrastive_loss(Z, L, others=Z.double(), other_labels=L),
    ),
    "other_labels: missing": (ValueError, lambda: etude.contrastive_loss(Z, L, others=Z)),
    "a: no columns": (ValueError, lambda: etude.pairwise_similarity(Z[:, :0], Z[:, :0])),
    "b: other columns": (ValueError, lambda: etude.pairwise_similarity(Z, Z[:, :2])),
    "b: of another type": (TypeError, lambda: etude.pairwise_similarity(Z, Z.half())),
    "kind: unknown": (ValueError, lambda: etude.pairwise_similarity(Z, Z, "chebyshev")),
    "dy: another shape": (ValueError, lambda: etude.pairwise_similarity_backward(Z, Z, Z)),
    "x: one dimension": (ValueError, lambda: etude.conv1d(L, W)),
    "x: whole numbers": (TypeError, lambda: etude.conv1d(X.long(), W, groups=2)),
    "weight: of half precision": (TypeError, lambda: etude.conv1d(X, W.half(), groups=2)),
    "weight: two dimensions": (ValueError, lambda: etude.conv1d(X, Z)),
    "padding: with a stride": (ValueError, lambda: etude.conv1d(X, W, stride=2, padding="same", groups=2)),
    "padding: unknown": (ValueError, lambda: etude.conv1d(X, W, padding="full", groups=2)),
    "dy: without a batch": (ValueError, lambda: etude.conv1d_backward(X[0, :, :7], X, W, groups=2)),
    "b: another batch": (ValueError, lambda: etude.pairwise_similarity(X, X[:1].expand(3, 4, 9))),
    "a: one dimension": (ValueError, lambda: etude.pairwise_similarity(L, Z)),
    "weight: elsewhere": (ValueError, lambda: etude.conv1d(X, W.to("meta"), groups=2)),
    "weight: too long": (ValueError, lambda: etude.conv1d(X, W, dilation=9, groups=2)),
    "weight: other channels": (ValueError, lambda: etude.conv1d(X, W)),
    "bias: another shape": (ValueError, lambda: etude.conv1d(X, W, L[:5], groups=2)),
    "groups: seven": (ValueError, lambda: etude.conv1d(X, W, groups=7)),
    "dy: of another output": (ValueError, lambda: etude.conv1d_backward(X, X, W, groups=2)),
    "ratings: beyond 1": (ValueError, lambda: etude.bins(L, 5)),
    "ratings: a table": (ValueError, lambda: etude.bins(Z.sigmoid(), 5)),
    "ratings: whole": (TypeError, lambda: etude.bins(L.long(), 5)),
    "k: a fraction": (TypeError, lambda: etude.bins(L / 6, 5.0)),
    "margin: text": (TypeError, lambda: etude.contrastive_loss(Z, L, margin="0.5")),
    "tau: none": (TypeError, lambda: etude.contrastive_loss(Z, L, tau=None)),
    "metric: no text": (ValueError, lambda: etude.contrastive_loss(Z, L, metric=0)),
    "others: other columns, no rows": (
        ValueError,
        lambda: etude.contrastive_loss(Z, L, others=Z[:0, :2], other_labels=L[:0]),
    ),
    "b: other columns, no rows": (ValueError, lambda: etude.pairwise_similarity(Z[:0], Z[:, :2])),
    "weight: too long, no batch": (ValueError, lambda: etude.conv1d(X[:0], W, dilation=9, groups=2)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_name_the_argument(what):
    kind, call = REFUSED[what]
    with pytest.raises(kind) as raised:
        call()
    argument = what.split(":")[0]
    assert f" {argument}: " in str(raised.value), raised.value


FORWARD = {
    "the loss's operator": (lambda t: torch.ops.etude.contrastive(t, L, None, 0, 0.5, 0.0)[0], Z),
    "the operator itself": (lambda t: torch.ops.etude.similarity(t, Z, 0), Z),
    "an exported model": (None, torch.randn(2, 3, 9)),
}


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = etude.nn.Conv1d(3, 4, 2)

    def forward(self, x):
        z = self.conv(x).mean(2)
        return etude.pairwise_similarity(z, z)


def exported_model():
    return torch.export.export(Model().requires_grad_(False), (torch.randn(2, 3, 9),)).module()


@pytest.mark.parametrize("what", FORWARD)
def test_forward_mode_raises(what):
    """Never a tangent of zero, whichever way leads there."""
    f, x = FORWARD[what]
    f = f or exported_model()
    func, ad = torch.func, torch.autograd.forward_ad

    def dual():
        with ad.dual_level():
            return ad.unpack_dual(f(ad.make_dual(x, torch.ones_like(x)))).tangent

    ways = [
        lambda: func.jvp(f, (x,), (torch.ones_like(x),)),
        lambda: func.jacfwd(f)(x),
        lambda: func.linearize(f, x),
        dual,
        lambda: func.grad(lambda x: func.jvp(f, (x,), (torch.ones_like(x),))[1].sum())(x),
    ]
    for way in ways:
        with pytest.raises(
            NotImplementedError,
            match=r"^etude\.\w+: has no forward-mode derivative as an operator .* or use reverse mode",
        ):
            way()


def test_what_does_not_depend_on_the_tangent_passes_in_forward_mode():
    f = lambda y: y * etude.conv1d(X, W, groups=2).sum()  # noqa: E731
    value, tangent = torch.func.jvp(f, (Z,), (Z,))
    assert torch.equal(value, tangent)
    with torch.autograd.forward_ad.dual_level():
        assert torch.equal(f(Z), value)


TRANSFORMED = {
    "conv1d": (lambda t: etude.conv1d(t, W, groups=2).square(), (2, 4, 9)),
    "conv2d": (lambda t: etude.conv2d(t, torch.ones(2, 1, 2, 2)).square(), (1, 1, 4, 5)),
    "contrastive": (lambda t: etude.contrastive_loss(t, L, L + 1)[None], (6, 3)),
    "contrastive_cross": (lambda t: etude.contrastive_loss(Z, L, others=t, other_labels=L)[None], (6, 3)),
    "info_nce": (lambda t: etude.info_nce_loss(t, L, sigma=1.5)[None], (6, 3)),
    "info_nce_cross": (
        lambda t: etude.info_nce_loss(Z, L, sigma=1.5, others=t, other_labels=L)[None],
        (6, 3),
    ),
    "rank_n_contrast": (lambda t: etude.rank_n_contrast_loss(t, L)[None], (6, 3)),
    "similarity": (lambda t: etude.pairwise_similarity(t, Z, "dot").square(), (6, 3)),
}


@pytest.mark.parametrize("what", TRANSFORMED)
def test_transforms_of_torch_func(what):
    f, shape = TRANSFORMED[what]
    func, several = torch.func, torch.randn(3, *shape)
    total = lambda x: f(x).sum()  # noqa: E731

    def gradient(x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(total(x), x)[0]

    want = torch.stack([gradient(x) for x in several])
    assert torch.equal(func.grad(total)(several[0]), want[0])
    assert torch.equal(func.vjp(total, several[0])[1](torch.tensor(1.0))[0], want[0])
    assert torch.equal(torch.vmap(f)(several), torch.stack([f(x) for x in several]))
    assert torch.equal(torch.vmap(f, in_dims=1)(several.transpose(0, 1)), torch.vmap(f)(several))
    assert torch.equal(torch.vmap(func.grad(total))(several), want)
    assert torch.equal(func.grad(lambda x: torch.vmap(total)(x).sum())(several), want)
    jacobian = torch.autograd.functional.jacobian(f, several[0])
    # Upstream ones and zeros in another order.
    torch.testing.assert_close(func.jacrev(f)(several[0]), jacobian)


def test_a_torch_that_is_none_stops_nobody(tmp_path):
    (tmp_path / "torch.py").write_text("marker = 1\n")
    code = "import etude, torch, numpy\nassert torch.marker\netude.bins(numpy.ones(3), 2)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "not registered with PyTorch" in done.stderr, done.stderr


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("mode", ["eager", "operator", "compiled", "vmap"])
def test_bad_labels_and_weights_are_refused(dtype, others, mode):
    z = normal(4, 2, dtype=dtype)

    def loss(labels, weights=None):
        if others:
            given = {"others": z, "other_labels": labels, "other_weights": weights}
            return etude.contrastive_loss(z, torch.arange(4), **given)
        return etude.contrastive_loss(z, labels, weights)

    of = "other_" if others else ""
    if mode == "operator":
        ops = torch.ops.etude

        def loss(labels, weights=None):  # noqa: F811
            if others:
                return ops.contrastive_cross(z, torch.arange(4), None, z, labels, weights, 0, 0.5, 0.0)
            return ops.contrastive(z, labels, weights, 0, 0.5, 0.0)
    elif mode == "compiled":
        torch.compiler.reset()
        loss = torch.compile(loss, backend="eager")
    elif mode == "vmap":
        eager = loss
        loss = lambda labels, weights=None: torch.vmap(lambda of: eager(of, weights))(labels[None])  # noqa: E731
    fine = torch.arange(4.0)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match=f"contrastive_loss: {of}labels: row 2 is "):
            loss(torch.where(fine == 2, bad, fine))
        loss(torch.where(fine == 2, bad, fine), torch.tensor([1, 1, 0, 1]))
    for bad in (torch.nan, torch.inf, -1.0):
        with pytest.raises(ValueError, match=f"contrastive_loss: {of}weights: row 1 is "):
            loss(fine, torch.where(fine == 1, bad, 1.0))


def test_whole_labels_beyond_the_mantissa_are_told_apart():
    z, small = normal(5, 2, dtype=torch.float32), torch.tensor([0, 1, 3, 1, 2])
    want, cross = etude.contrastive_loss(z, small), {"others": z, "other_labels": small}
    across = etude.contrastive_loss(z, small, **cross)
    for shift in (2**24, -(2**24) - 3, 2**62):
        assert etude.contrastive_loss(z, small + shift) == want
        cross["other_labels"] = small + shift
        assert etude.contrastive_loss(z, small + shift, **cross) == across
        # As a card has it, which nobody waits for.
        (converted,) = contrastive._told_apart_on_card(torch.float32, [small + shift])
        assert torch.equal(converted, small.float())
    assert etude.contrastive_loss(z, (small + 2**30).int()) == want
    with pytest.raises(ValueError, match="labels: row 1 is .* cannot be told apart"):
        etude.contrastive_loss(z, small * (2**24 + 1))
    (converted,) = contrastive._told_apart_on_card(torch.float32, [small * (2**24 + 1)])
    assert converted.isnan().tolist() == [False, True, True, True, True]
    of_floats, of_whole = contrastive._told_apart_on_card(torch.float32, [small / 2, small + 2**24])
    assert torch.equal(of_floats, small / 2) and of_whole.isnan().any()


def test_tensors_that_are_not_aligned():
    def unaligned(tensor):
        moved = torch.frombuffer(bytearray(b"abc" + tensor.numpy().tobytes()), dtype=tensor.dtype, offset=3)
        moved = moved.view(tensor.shape)
        assert moved.data_ptr() % moved.element_size()
        return moved

    for f, *given in (
        (etude.contrastive_loss, Z, L, L + 1),
        (etude.contrastive_loss, Z.double(), L, L + 1),
        (etude.contrastive_loss, Z.half(), L.long(), L + 1),
        (etude.pairwise_similarity, Z, Z),
        (lambda *t: etude.pairwise_similarity_backward(*t)[0], Z @ Z.T, Z, Z),
        (lambda *t: etude.conv1d(*t, groups=2), X, W, L),
        (lambda *t: etude.conv1d_backward(*t, groups=2)[0], torch.randn(2, 6, 7), X, W),
    ):
        assert torch.equal(f(*map(unaligned, given)), f(*given))


def test_lazily_negated_tensors():
    z = torch.complex(Z, -Z).conj().imag
    assert z.is_neg() and torch.equal(etude.pairwise_similarity(z, Z), etude.pairwise_similarity(Z, Z))
    z, labels = torch._neg_view(-Z), torch.zeros(len(Z))  # contiguous
    assert torch.equal(etude.contrastive_loss(z, labels), etude.contrastive_loss(Z, labels))
    assert torch.equal(etude.pairwise_similarity(z, Z), etude.pairwise_similarity(Z, Z))
    zeros = torch._efficientzerotensor(len(Z), len(Z))  # they have no memory
    for gradient in etude.pairwise_similarity_backward(zeros, Z, Z):
        assert torch.equal(gradient, torch.zeros_like(Z))


@pytest.mark.parametrize("device,dtype", ON)
@pytest.mark.parametrize("dims", CONV)
def test_empty_batches_of_convolutions_are_pytorchs(device, dtype, dims):
    ours, _, theirs = CONV[dims]
    make = lambda *shape: normal(*shape, dtype=dtype, device=device, grad=True)  # noqa: E731
    x, weight, bias = make(0, 4, *[9, 8][:dims]), make(6, 2, *[3, 2][:dims]), make(6)
    got, want = (f(x, weight, bias, stride=2, padding=1, groups=2) for f in (ours, theirs))
    assert got.shape == want.shape and got.dtype == want.dtype
    for g, w in zip(gradients(got.sum(), x, weight, bias), gradients(want.sum(), x, weight, bias)):
        assert torch.equal(g, w)


@pytest.mark.parametrize("device,dtype", ON)
@pytest.mark.parametrize("kind", SIMILARITIES)
def test_empty_batches_of_similarities_are_pytorchs(device, dtype, kind):
    z, none = (normal(n, 3, dtype=dtype, device=device, grad=True) for n in (4, 0))
    for a, b in ((none, z), (z, none)):
        got, want = etude.pairwise_similarity(a, b, kind), SIMILARITIES[kind](a, b)
        assert got.shape == want.shape and got.dtype == want.dtype
        for g, w in zip(gradients(got.sum(), a, b), gradients(want.sum(), a, b)):
            assert torch.equal(g, w)


@pytest.mark.parametrize("device,dtype", ON)
def test_losses_without_a_pair_are_pytorchs(device, dtype):
    for count in (0, 1):
        z, labels = (
            normal(count, 3, dtype=dtype, device=device, grad=True),
            torch.arange(count, device=device),
        )
        # A mean over nothing, whose gradient is 0.
        i, j = torch.triu_indices(count, count, 1, device=device)
        got, want = etude.contrastive_loss(z, labels), (z[i] - z[j]).square().sum(1).mean()
        assert got.isnan() and want.isnan() and got.dtype == want.dtype
        (got,), (want,) = gradients(got, z), gradients(want, z)
        assert got.shape == z.shape and (got == 0).all()
    z, none = (normal(n, 3, dtype=dtype, device=device, grad=True) for n in (4, 0))
    labels = torch.arange(4, device=device)
    loss = etude.contrastive_loss(z, labels, others=none, other_labels=labels[:0])
    dz, do = gradients(loss, z, none)
    assert loss.isnan() and (dz == 0).all() and do.shape == (0, 3)
    compiled = torch.compile(
        lambda z, labels: etude.contrastive_loss(z, labels), backend="eager", fullgraph=True
    )
    assert compiled(z[:1], labels[:1]).isnan() and compiled(z, labels).isfinite()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("columns", [1024, 4096])
def test_long_rows_lose_no_more_than_by_pytorch(device, columns):
    """Three times its error at most, in f32."""
    for make in (torch.randn, torch.rand):
        a, b = (make(64, columns, device=device) for _ in range(2))
        for kind in ("dot", "cosine"):
            want = SIMILARITIES[kind](a.double(), b.double())
            errors = [
                (got - want).abs().max().item()
                for got in (etude.pairwise_similarity(a, b, kind), SIMILARITIES[kind](a, b))
            ]
            assert errors[0] <= 3 * errors[1], (kind, errors)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_loader_workers_compute_too():
    """Forked ones, after threads were started; in a process of its own."""
    code = (
        "import torch, etude\n"
        "torch.set_num_threads(4); z, l = torch.randn(300, 8), torch.rand(300)\n"
        "want = etude.contrastive_loss(z, l)\n"
        "class Set(torch.utils.data.Dataset):\n"
        "    def __len__(self): return 4\n"
        "    def __getitem__(self, i): torch.set_num_threads(4); return etude.contrastive_loss(z, l)\n"
        "loader = torch.utils.data.DataLoader(Set(), num_workers=2, multiprocessing_context='fork')\n"
        "assert all(v == want for v in loader)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_bad_labels_and_weights_on_a_card_make_the_loss_nan():
    z, labels = torch.randn(6, 3, device="cuda"), torch.arange(6.0, device="cuda")
    for bad in (torch.nan, torch.inf):
        wrong = torch.where(labels == 2, bad, labels)
        assert etude.contrastive_loss(z, wrong).isnan()
        assert etude.contrastive_loss(z, labels, torch.where(labels == 2, bad, 1.0)).isnan()
    assert etude.contrastive_loss(z, labels, torch.where(labels == 2, -1.0, 1.0)).isnan()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_work_goes_to_the_current_stream():
    z, labels = torch.randn(4096, 64, device="cuda"), torch.rand(4096, device="cuda")
    want = etude.contrastive_loss(z, labels)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(z)
        torch.cuda._sleep(10_000_000)
        late.copy_(z)
        got = etude.contrastive_loss(late, labels)
    stream.synchronize()
    assert torch.equal(got, want)
