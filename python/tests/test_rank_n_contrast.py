"""Rank-N-Contrast's loss beside the paper's formula."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import etude  # noqa: E402
import etude.nn  # noqa: E402

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def formula(z, labels, t):
    """The mean over anchors and other rows, pair by pair."""
    n = len(z)
    terms = []
    for i in range(n):
        others = [k for k in range(n) if k != i]
        s = {k: -(z[i] - z[k]).norm() / t for k in others}
        for j in others:
            far = (labels[i] - labels[j]).abs()
            negatives = [s[k] for k in others if (labels[i] - labels[k]).abs() >= far]
            terms.append(torch.logsumexp(torch.stack(negatives), 0) - s[j])
    return torch.stack(terms).mean()


def samples(n, d, dtype=torch.float64, grades=None, device="cpu"):
    labels = torch.rand(n, dtype=dtype, device=device)
    labels = labels if grades is None else (labels * grades).floor() - 1
    return torch.randn(n, d, dtype=dtype, device=device, requires_grad=True), labels


@pytest.mark.parametrize("grades", [None, 1, 4])
@pytest.mark.parametrize("n, d", [(2, 1), (3, 5), (17, 8), (40, 33)])
@pytest.mark.parametrize("t", [2.0, 0.5, 0.07])
def test_is_the_papers_formula(n, d, t, grades):
    z, labels = samples(n, d, grades=grades)
    got, want = etude.rank_n_contrast_loss(z, labels, temperature=t), formula(z, labels, t)
    # Temperatures are float32's.
    tolerance = 1e-12 if t > 0.1 else 1e-6
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    by_got, by_want = (torch.autograd.grad(3 * of, z)[0] for of in (got, want))
    torch.testing.assert_close(by_got, by_want, rtol=tolerance, atol=tolerance)
    loss, gradient = etude.rank_n_contrast_loss_and_grad(z.detach().numpy(), labels.numpy(), temperature=t)
    assert loss == got.item() and np.array_equal(3 * gradient, by_got.numpy())
    assert etude.rank_n_contrast_loss(z.detach().numpy(), labels.numpy(), temperature=t) == loss
    with torch.no_grad():
        assert etude.rank_n_contrast_loss(z, labels, temperature=t) == got


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_types_that_are_computed_in_float32(dtype, device):
    z, labels = samples(60, 12, torch.float32, 9, device)
    z = z.detach().to(dtype).requires_grad_()
    got, want = etude.rank_n_contrast_loss(z, labels), formula(z.double(), labels.double(), 2.0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    by_got, by_want = (torch.autograd.grad(of, z)[0] for of in (got, want))
    assert by_got.dtype == dtype
    torch.testing.assert_close(by_got, by_want, rtol=1e-4 if dtype == torch.float32 else 1e-2, atol=1e-6)
    with torch.autocast(device, torch.bfloat16):
        assert etude.rank_n_contrast_loss(z, labels).dtype == torch.float32


def test_rows_that_are_equal_have_a_gradient():
    z, labels = samples(6, 3)
    z = z.detach()
    z[1] = z[0]
    z.requires_grad_()
    etude.rank_n_contrast_loss(z, labels).backward()
    assert z.grad.isfinite().all()
    gradient = torch.func.grad(lambda z: etude.rank_n_contrast_loss(z, labels))
    assert torch.func.jvp(gradient, (z.detach(),), (torch.randn(6, 3, dtype=z.dtype),))[1].isfinite().all()


def test_labels_of_any_type():
    z, _ = samples(9, 4, torch.float32)
    order = torch.randperm(9)
    want = etude.rank_n_contrast_loss(z, order.float())
    for labels in (order, order.int(), order.double(), order + 10**12, order.half(), -8 + order):
        assert etude.rank_n_contrast_loss(z, labels) == want
        assert etude.rank_n_contrast_loss(z.detach().numpy(), labels.numpy()) == want.item()
    grades = (order > 4).float()
    assert etude.rank_n_contrast_loss(z, order > 4) == etude.rank_n_contrast_loss(z, grades)


def test_what_is_refused():
    z, labels = samples(5, 3, torch.float32)
    bad = labels.clone()
    bad[3] = torch.nan

    def says(error, what, *arguments, **options):
        for function in (etude.rank_n_contrast_loss, etude.rank_n_contrast_loss_and_grad):
            for given in (arguments, [a.detach().numpy() for a in arguments]):
                with pytest.raises(error, match=f"rank_n_contrast_loss(_and_grad)?: {what}"):
                    function(*given, **options)

    says(ValueError, "labels: row 3 is nan, must be finite", z, bad)
    wide = torch.tensor([-3e38, 3e38, 0, 1, 2])
    says(
        ValueError, "labels: are from -.* to .*, a difference that float32 does not hold: scale them", z, wide
    )
    says(ValueError, r"labels: must be \[5\] for embeddings of shape \[5, 3\]", z, labels[:4])
    says(ValueError, r"embeddings: must be \[N, D\]", z[0], labels)
    says(ValueError, "temperature: must be positive and finite in float32, is 0", z, labels, temperature=0)
    says(ValueError, "temperature: must be positive and finite", z, labels, temperature=1e-50)
    says(ValueError, "temperature: must be positive and finite", z, labels, temperature=float("inf"))
    says(TypeError, "temperature: must be a number, is 'warm'", z, labels, temperature="warm")
    says(TypeError, "embeddings: must be float", z.int(), labels)
    says(ValueError, "labels: row .* does not hold", z, torch.tensor([0, 2**40, 2**40 + 1, 3, 4]))
    with pytest.raises(ValueError, match="labels: requires a gradient"):
        etude.rank_n_contrast_loss(z, labels.clone().requires_grad_())
    bad = torch.tensor([torch.inf])
    with pytest.raises(ValueError, match="labels: row 0 is inf"):
        etude.rank_n_contrast_loss(z[:1], bad)


@pytest.mark.parametrize("n", [0, 1])
def test_without_a_pair_the_loss_is_nan(n):
    z, labels = samples(n, 3, torch.float32)
    loss = etude.rank_n_contrast_loss(z, labels)
    loss.backward()
    assert loss.isnan() and not z.grad.any()
    loss, gradient = etude.rank_n_contrast_loss_and_grad(z.detach().numpy(), labels.numpy())
    assert np.isnan(loss) and not gradient.any() and gradient.shape == (n, 3)
    gradient = torch.func.grad(lambda z: etude.rank_n_contrast_loss(z, labels))
    assert not torch.func.jvp(gradient, (z.detach(),), (z.detach(),))[1].any()


def test_rows_that_are_far_apart():
    """Whose exponentials float32 does not hold."""
    z, labels = samples(40, 6, torch.float32)
    z = (z.detach() + 300 * (torch.arange(40) // 9)[:, None]).requires_grad_()
    got, want = etude.rank_n_contrast_loss(z, labels), formula(z.double(), labels.double(), 2.0)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    by_got, by_want = (torch.autograd.grad(of, z)[0] for of in (got, want))
    torch.testing.assert_close(by_got, by_want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
def test_inside_torch_compile(dynamic):
    loss = etude.nn.RankNContrastLoss(0.5)
    compiled = torch.compile(lambda z, labels: 2 * loss(z.sin(), labels), dynamic=dynamic, fullgraph=True)
    for n in (5, 9, 13):
        z, labels = samples(n, 4, torch.float32)
        got, want = compiled(z, labels), 2 * loss(z.sin(), labels)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
        by_got, by_want = (torch.autograd.grad(of, z)[0] for of in (got, want))
        torch.testing.assert_close(by_got, by_want, rtol=1e-4, atol=1e-6)


def test_vmap():
    z, labels = torch.randn(3, 8, 2, dtype=torch.float64), torch.rand(3, 8, dtype=torch.float64)
    losses = torch.vmap(etude.rank_n_contrast_loss)(z, labels)
    assert torch.equal(losses, torch.stack([etude.rank_n_contrast_loss(*of) for of in zip(z, labels)]))
    gradients = torch.vmap(torch.func.grad(etude.rank_n_contrast_loss))(z, labels)
    one_by_one = [etude.rank_n_contrast_loss_and_grad(*of)[1] for of in zip(z, labels)]
    assert torch.equal(gradients, torch.stack(one_by_one))


def test_the_module():
    loss = etude.nn.RankNContrastLoss(0.25)
    assert repr(loss) == "RankNContrastLoss(temperature=0.25)"
    z, labels = samples(11, 3, torch.float32)
    want = etude.rank_n_contrast_loss(z, labels, temperature=0.25)
    for of in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert of(z, labels) == want
    assert not loss.state_dict() and repr(etude.nn.RankNContrastLoss(gather=True)).endswith("gather=True)")
    checkpointed = torch.utils.checkpoint.checkpoint(lambda z: loss(z, labels), z, use_reentrant=False)
    assert torch.equal(*(torch.autograd.grad(of, z)[0] for of in (checkpointed, want)))
    # Strides of any kind, memory between alignments of elements.
    turned = z.detach().T.contiguous().T.requires_grad_()
    assert loss(turned, labels.repeat_interleave(2)[::2]) == want


def training(rank=None):
    """Parameters after some steps on the pairs of all samples, a part of which each of two processes has."""
    torch.manual_seed(0)
    x, labels = torch.randn(14, 5), torch.rand(14)
    parts = [slice(0, 5), slice(5, 14)]
    encoder = torch.nn.Linear(5, 3)
    model = encoder if rank is None else torch.nn.parallel.DistributedDataParallel(encoder)
    loss = etude.nn.RankNContrastLoss(gather=True)
    own = slice(None) if rank is None else parts[rank]
    optimizer = torch.optim.SGD(encoder.parameters(), 1.0)
    for _ in range(3):
        optimizer.zero_grad()
        loss(model(x[own]), labels[own]).backward()
        optimizer.step()
    return [p.detach() for p in encoder.parameters()]


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="needs gloo"
)
def test_two_processes_train_as_one(on_two_processes):
    want = training()
    for got in on_two_processes(training):
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=0, atol=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system for the most memory")
def test_memory_is_of_some_rows_of_the_distances():
    """16,384 rows, whose distances alone would take 1 GiB."""
    code = (
        "import etude, numpy, resource\nmost = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rng = numpy.random.default_rng(0)\n"
        "z, y = rng.standard_normal((16384, 128), numpy.float32), rng.random(16384, numpy.float32)\n"
        "etude.rank_n_contrast_loss_and_grad(z[:100], y[:100])\nbefore = most()\n"
        "etude.rank_n_contrast_loss_and_grad(z, y)\nprint((most() - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200, done.stdout
