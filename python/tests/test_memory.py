"""The loss over more samples than a batch's: those before it, and those of other processes."""

import copy

import pytest

torch = pytest.importorskip("torch")

import etude  # noqa: E402
import etude.nn  # noqa: E402

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def batches(count, sizes=(5, 3, 1, 4, 9, 2, 0), device="cpu", dtype=torch.float32):
    """Embeddings, labels and weights of one batch after another; some are masked out."""
    for i in range(count):
        n = sizes[i % len(sizes)]
        z = torch.randn(n, 4, device=device, dtype=dtype, requires_grad=True)
        weights = torch.rand(n, device=device, dtype=dtype)
        weights[1::4] = 0
        yield z, torch.randint(4, (n,), device=device) / 4, weights


def over_pairs(z, labels, weights, kept, metric, margin=0.75, tau=0.25):
    """The mean over pairs of the batch, and over those with what was kept, one by one."""
    total = z.new_zeros(())
    count = z.new_zeros(())
    for i in range(len(z)):
        others = [(z[j], labels[j], weights[j]) for j in range(i)] + kept
        for other, label, weight in others:
            d = (
                (z[i] - other).norm()
                if metric == "euclidean"
                else 1 - torch.cosine_similarity(z[i], other, 0)
            )
            w = (labels[i] - label).abs()
            cost = d**2 if w <= 1.00025 * tau + 1e-6 else (margin * w - d).clamp(min=0) ** 2
            total = total + weights[i] * weight * cost / 2
            count = count + weights[i] * weight
    return total / count if count > 0 else total


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_memory_is_the_last_samples(device, metric, weighted):
    loss = etude.nn.ContrastiveMemoryLoss(7, 4, metric=metric, margin=0.75, tau=0.25).to(device)
    kept = []
    for z, labels, weights in batches(12, device=device, sizes=(5, 3, 1, 4, 9, 2)):
        weights = weights if weighted else torch.ones_like(weights)
        got = loss(z, labels, weights if weighted else None)
        want = over_pairs(z, labels, weights, kept, metric)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
        if len(z) > 1:
            by_got, by_want = (torch.autograd.grad(of, z)[0] for of in (got, want))
            torch.testing.assert_close(by_got, by_want, rtol=1e-5, atol=1e-6)
        kept = (kept + [(a.detach(), b, c) for a, b, c in zip(z, labels, weights)])[-7:]
    # In evaluation nothing is kept.
    before = copy.deepcopy(loss.state_dict())
    loss.eval()
    torch.testing.assert_close(loss(z, labels, weights), over_pairs(z, labels, weights, kept, metric))
    assert all(map(torch.equal, loss.state_dict().values(), before.values()))
    loss.reset()
    torch.testing.assert_close(
        loss(z, labels), etude.contrastive_loss(z, labels, metric=metric, margin=0.75, tau=0.25)
    )


def test_without_a_pair_the_loss_is_zero():
    loss = etude.nn.ContrastiveMemoryLoss(7, 4)
    for z, labels, weights in batches(3, sizes=(0, 1, 0)):
        value = loss(z, labels, weights)
        value.backward()
        assert value == 0 and not z.grad.any()


def test_only_the_ratios_of_weights_count():
    given = list(batches(4, sizes=(5, 3)))
    values = []
    for scale in (1, 2.0**-70, 2.0**60):
        loss = etude.nn.ContrastiveMemoryLoss(6, 4)
        values.append(torch.stack([loss(z, labels, weights * scale) for z, labels, weights in given]))
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(values[2], values[0])


def test_a_state_goes_on():
    given = list(batches(8, sizes=(5, 3, 6)))
    whole, first = (etude.nn.ContrastiveMemoryLoss(11, 4) for _ in range(2))
    want = [whole(*batch) for batch in given]
    assert all(map(torch.equal, [first(*batch) for batch in given[:5]], want))
    second = etude.nn.ContrastiveMemoryLoss(11, 4)
    second.load_state_dict(first.state_dict())
    assert all(map(torch.equal, [second(*batch) for batch in given[5:]], want[5:]))


def test_gradients_of_several_batches_together():
    """What was kept before a batch is what its backward pass sees, whatever has been kept since."""
    given = list(batches(4, sizes=(5, 3)))
    one, all_at_once = (etude.nn.ContrastiveMemoryLoss(6, 4) for _ in range(2))
    want = [torch.autograd.grad(one(*batch), batch[0])[0] for batch in given]
    losses = [all_at_once(*batch) for batch in given]
    got = torch.autograd.grad(sum(losses), [batch[0] for batch in given])
    assert all(map(torch.equal, got, want))
    z, *rest = given[0]
    hvp = torch.autograd.functional.hvp(lambda z: one.eval()(z, *rest), z, torch.ones_like(z))
    assert hvp[1].isfinite().all() and hvp[1].any()


def test_types():
    loss = etude.nn.ContrastiveMemoryLoss(6, 4)
    for z, labels, weights in batches(3, sizes=(5, 3)):
        half = z.detach().bfloat16().requires_grad_()
        value = loss(half, labels, weights)
        value.backward()
        assert value.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    loss.double()
    assert all(loss(*batch).dtype == torch.float64 for batch in batches(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="labels: row 0 is nan"):
        loss(z.double(), torch.full((len(z),), 2**24 + 1))
    assert loss(z.double(), torch.arange(len(z))).isfinite()
    for bad, name in (((0, 4), "size"), ((4, 0), "columns"), ((-1, 4), "size")):
        with pytest.raises(ValueError, match=f"ContrastiveMemoryLoss: {name}: "):
            etude.nn.ContrastiveMemoryLoss(*bad)
    for bad, message in (
        (
            (torch.randn(5, 3), torch.rand(5)),
            r"embeddings: must have as many columns as the memory of shape \[6, 4\]",
        ),
        ((torch.randn(5), torch.rand(5)), r"embeddings: must be \[N, 4\], has shape \[5\]"),
        ((torch.randn(5, 4), [0, 1, 2, 3, 4]), "labels: must be a PyTorch tensor, is list"),
        ((torch.randn(5, 4).numpy(), torch.rand(5)), "embeddings: must be a PyTorch tensor, is ndarray"),
        ((torch.ones(5, 4).int(), torch.rand(5)), "embeddings: must be float32"),
        ((torch.randn(5, 4), torch.rand(4)), r"labels: must be \[5\] for embeddings of shape \[5, 4\]"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            loss(*bad)


def test_inside_torch_compile():
    loss, compiled = (etude.nn.ContrastiveMemoryLoss(6, 4, margin=2.0) for _ in range(2))
    step = torch.compile(compiled, fullgraph=True, dynamic=False)
    for z, labels, weights in batches(4, sizes=(5,)):
        got, want = step(z, labels, weights), loss(z, labels, weights)
        torch.testing.assert_close(got, want)
        by_got, by_want = (torch.autograd.grad(of, z)[0] for of in (got, want))
        torch.testing.assert_close(by_got, by_want)
    assert all(map(torch.allclose, compiled.buffers(), loss.buffers()))


SIZES = [(6, 6), (5, 2), (1, 4), (3, 3)]  # of each process's batch, step by step


class _Squared(torch.nn.Module):
    """Each row's loss, by itself."""

    def __init__(self):
        super().__init__()
        self.loss = etude.nn.ContrastiveLoss(margin=2.0, reduction="none", gather=True)

    def forward(self, *samples):
        return self.loss(*samples).square().mean()


MODULES = {
    "gathered": lambda: etude.nn.ContrastiveLoss(margin=2.0, gather=True),
    "memory": lambda: etude.nn.ContrastiveMemoryLoss(13, 4, margin=2.0),
    "gathered, by nearness": lambda: etude.nn.InfoNCELoss(0.2, gather=True),
    "gathered, of each row": _Squared,
}
TRAINED = [(module, weighted) for module in list(MODULES)[:2] for weighted in ("", "weighted")]
TRAINED += [("gathered, by nearness", ""), ("gathered, of each row", "weighted")]


def training(module, weighted, rank=None):
    """Losses, parameters and what is kept after some steps: on every sample, or on one process's."""
    torch.manual_seed(0)
    encoder, loss = torch.nn.Linear(3, 4), MODULES[module]()
    model = encoder if rank is None else torch.nn.parallel.DistributedDataParallel(encoder)
    optimizer, losses = torch.optim.SGD(encoder.parameters(), 0.1), []
    for sizes in SIZES:
        x, labels = torch.randn(sum(sizes), 3), torch.randint(4, (sum(sizes),)) / 4
        weights = torch.rand(sum(sizes)) if weighted else None
        samples = [x, labels, weights] if weighted else [x, labels]
        if rank is not None:
            samples = [t.split(sizes)[rank] for t in samples]
        x, *of_rows = samples
        optimizer.zero_grad()
        value = loss(model(x), *of_rows)
        value.backward()
        optimizer.step()
        losses.append(value.detach())
    return [torch.stack(losses), *encoder.state_dict().values(), *loss.buffers()]


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="needs gloo"
)
@pytest.mark.parametrize("module, weighted", TRAINED)
def test_two_processes_train_as_one(module, weighted, on_two_processes):
    want = training(module, weighted)
    for got in on_two_processes(training, module, weighted):
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-6)
