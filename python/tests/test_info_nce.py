"""InfoNCE weighted by label distances beside the paper's formula, and what it is of classes and of views."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import etude  # noqa: E402
import etude.nn  # noqa: E402

F = torch.nn.functional
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def formula(z, labels, sigma, t, others=None, other_labels=None):
    """The mean over anchors of the cross-entropy of the softmax of cosines against that of label distances."""
    terms = []
    for i in range(len(z)):
        columns = torch.arange(len(z if others is None else others))
        columns = columns[columns != i] if others is None else columns
        o, of = ((z, labels) if others is None else (others, other_labels))[0:2]
        s = F.cosine_similarity(z[i], o[columns]) / t
        weights = (-(labels[i] - of[columns]).square() / (2 * sigma**2)).softmax(0)
        terms.append(-(weights * s.log_softmax(0)).sum())
    return torch.stack(terms).mean()


def samples(n, d, dtype=torch.float64, grades=None, device="cpu"):
    labels = torch.rand(n, dtype=dtype, device=device)
    labels = labels if grades is None else (labels * grades).floor() - 1
    return torch.randn(n, d, dtype=dtype, device=device, requires_grad=True), labels


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("grades", [None, 1, 4])
@pytest.mark.parametrize("n, d", [(2, 2), (3, 5), (17, 8), (40, 33)])
@pytest.mark.parametrize("sigma, t", [(0.5, 0.125), (0.0625, 1.0), (0.1, 0.07)])
def test_is_the_papers_formula(n, d, sigma, t, grades, sets):
    z, labels = samples(n, d, grades=grades)
    others = dict(zip(("others", "other_labels"), samples(7, d, grades=grades))) if sets == 2 else {}
    rows = [z, *list(others.values())[:1]]
    got = etude.info_nce_loss(z, labels, sigma=sigma, temperature=t, **others)
    want = formula(z, labels, sigma, t, **others)
    # Sigma and temperature are float32's.
    tolerance = 1e-12 if sigma != 0.1 else 1e-6
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    by_got, by_want = (torch.autograd.grad(3 * of, rows) for of in (got, want))
    for g, w in zip(by_got, by_want, strict=True):
        torch.testing.assert_close(g, w, rtol=tolerance, atol=tolerance)
    arrays = {name: of.detach().numpy() for name, of in {"embeddings": z, "labels": labels, **others}.items()}
    loss, *gradients = etude.info_nce_loss_and_grad(**arrays, sigma=sigma, temperature=t)
    assert loss == got.item()
    for mine, g in zip(gradients, by_got, strict=True):
        np.testing.assert_allclose(3 * mine, g.numpy(), rtol=1e-15)
    assert etude.info_nce_loss(**arrays, sigma=sigma, temperature=t) == loss
    with torch.no_grad():
        assert etude.info_nce_loss(z, labels, sigma=sigma, temperature=t, **others) == got


def test_of_classes_it_is_the_supervised_contrastive_loss():
    """Khosla et al., NeurIPS 2020, their L_out: the mean over an anchor's positives, of which each has some."""
    z, _ = samples(40, 6)
    classes = torch.arange(40) % 5
    s = (F.normalize(z) @ F.normalize(z).T / 0.1).fill_diagonal_(-torch.inf)
    positive = (classes[:, None] == classes) & ~torch.eye(40, dtype=torch.bool)
    log = torch.where(positive, s.log_softmax(1), 0)
    want = -(log.sum(1) / positive.sum(1)).mean()
    got = etude.info_nce_loss(z, classes, sigma=0.01, temperature=0.1)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)


def test_of_two_views_it_is_info_nce():
    """Each sample once on either side: cross-entropy with its own row as the class."""
    (z, _), (o, _) = samples(30, 6), samples(30, 6)
    labels = torch.arange(30)
    want = F.cross_entropy(F.normalize(z) @ F.normalize(o).T / 0.2, labels)
    got = etude.info_nce_loss(z, labels, sigma=0.01, temperature=0.2, others=o, other_labels=labels)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)
    # Both as one set, each in the other's class: NT-Xent.
    both, classes = torch.cat((z, o)), labels.repeat(2)
    s = (F.normalize(both) @ F.normalize(both).T / 0.2).fill_diagonal_(-torch.inf)
    want = F.cross_entropy(s, (torch.arange(60) + 30) % 60)
    got = etude.info_nce_loss(both, classes, sigma=0.01, temperature=0.2)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_types_that_are_computed_in_float32(dtype, device):
    z, labels = samples(60, 12, torch.float32, 9, device)
    z = z.detach().to(dtype).requires_grad_()
    got = etude.info_nce_loss(z, labels, sigma=1.0)
    want = formula(z.double(), labels.double(), 1.0, 0.1)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    by_got, by_want = (torch.autograd.grad(of, z)[0] for of in (got, want))
    assert by_got.dtype == dtype
    torch.testing.assert_close(by_got, by_want, rtol=1e-4 if dtype == torch.float32 else 1e-2, atol=1e-6)
    with torch.autocast(device, torch.bfloat16):
        assert etude.info_nce_loss(z, labels, sigma=1.0).dtype == torch.float32


def test_rows_of_zeros_have_no_gradient():
    z, labels = samples(6, 3)
    z = z.detach()
    z[1] = 0
    z.requires_grad_()
    etude.info_nce_loss(z, labels, sigma=0.5).backward()
    assert z.grad.isfinite().all() and not z.grad[1].any() and z.grad[0].any()
    gradient = torch.func.grad(lambda z: etude.info_nce_loss(z, labels, sigma=0.5))
    moved = torch.func.jvp(gradient, (z.detach(),), (torch.randn(6, 3, dtype=z.dtype),))[1]
    assert moved.isfinite().all() and not moved[1].any() and moved[0].any()


def test_labels_of_any_type():
    z, _ = samples(9, 4, torch.float32)
    order = torch.randperm(9)
    want = etude.info_nce_loss(z, order.float(), sigma=1)
    for labels in (order, order.int(), order.double(), order + 10**12, order.half(), -8 + order):
        assert etude.info_nce_loss(z, labels, sigma=1) == want
        assert etude.info_nce_loss(z.detach().numpy(), labels.numpy(), sigma=1) == want.item()
    # Whole numbers of two sets are counted from the smallest of both on.
    across = etude.info_nce_loss(z, order, sigma=1, others=z, other_labels=order + 1)
    far = {"others": z, "other_labels": order + 10**12 + 1}
    assert etude.info_nce_loss(z, order + 10**12, sigma=1, **far) == across


def test_what_is_refused():
    z, labels = samples(5, 3, torch.float32)
    bad = labels.clone()
    bad[3] = torch.nan

    def says(error, what, *arguments, **options):
        options = {"sigma": 1.0} | options
        for function in (etude.info_nce_loss, etude.info_nce_loss_and_grad):
            numpy = {k: v.detach().numpy() if isinstance(v, torch.Tensor) else v for k, v in options.items()}
            for given, named in ((arguments, options), ([a.detach().numpy() for a in arguments], numpy)):
                with pytest.raises(error, match=f"info_nce_loss(_and_grad)?: {what}"):
                    function(*given, **named)

    others = {"others": z, "other_labels": labels}
    says(ValueError, "labels: row 3 is nan, must be finite", z, bad)
    says(
        ValueError, "other_labels: row 3 is nan, must be finite", z, labels, **others | {"other_labels": bad}
    )
    wide = torch.tensor([-3e38, 3e38, 0, 1, 2])
    says(ValueError, "labels: are from -.* to .*, a difference that", z, wide)
    says(
        ValueError,
        "labels: are from .*, a difference that over a sigma of 1e-30 float32",
        z,
        1e20 * labels,
        sigma=1e-30,
    )
    says(
        ValueError,
        "labels: are from .*, a difference that",
        z,
        -wide.abs(),
        others=z,
        other_labels=wide.abs(),
    )
    says(ValueError, r"labels: must be \[5\] for embeddings of shape \[5, 3\]", z, labels[:4])
    says(ValueError, r"other_labels: must be \[5\]", z, labels, **others | {"other_labels": labels[:4]})
    says(ValueError, "other_labels: missing", z, labels, others=z)
    says(ValueError, "other_labels: given without others", z, labels, other_labels=labels)
    says(ValueError, "others: must have as many columns", z, labels, others=z[:, :2], other_labels=labels)
    says(TypeError, "others: is .*float64", z, labels, others=z.double(), other_labels=labels)
    says(ValueError, r"embeddings: must be \[N, D\]", z[0], labels)
    for name in ("sigma", "temperature"):
        for number in (0, -1, 1e-50, float("inf"), float("nan")):
            says(ValueError, f"{name}: must be positive and finite in float32", z, labels, **{name: number})
        says(TypeError, f"{name}: must be a number, is 'near'", z, labels, **{name: "near"})
    says(TypeError, "embeddings: must be float", z.int(), labels)
    with pytest.raises(TypeError, match="sigma"):
        etude.info_nce_loss(z, labels)
    with pytest.raises(ValueError, match="labels: requires a gradient"):
        etude.info_nce_loss(z, labels.clone().requires_grad_(), sigma=1)
    with pytest.raises(ValueError, match="labels: row 0 is inf"):
        etude.info_nce_loss(z[:1], torch.tensor([torch.inf]), sigma=1)


@pytest.mark.parametrize("n, m", [(0, None), (1, None), (0, 4), (3, 0)])
def test_without_a_pair_the_loss_is_nan(n, m):
    z, labels = samples(n, 3, torch.float32)
    others = {} if m is None else dict(zip(("others", "other_labels"), samples(m, 3, torch.float32)))
    loss = etude.info_nce_loss(z, labels, sigma=1, **others)
    loss.backward()
    assert loss.isnan() and not z.grad.any()
    arrays = {name: of.detach().numpy() for name, of in {"embeddings": z, "labels": labels, **others}.items()}
    loss, *gradients = etude.info_nce_loss_and_grad(**arrays, sigma=1)
    assert np.isnan(loss) and not any(g.any() for g in gradients) and gradients[0].shape == (n, 3)
    others = {name: of.detach() for name, of in others.items()}
    gradient = torch.func.grad(lambda z: etude.info_nce_loss(z, labels, sigma=1, **others))
    assert not torch.func.jvp(gradient, (z.detach(),), (z.detach(),))[1].any()


def test_labels_that_are_many_sigmas_apart():
    """Where no label is near, the nearest count, however many sigmas away."""
    z, _ = samples(40, 6, torch.float32)
    labels = torch.arange(40.0).square()
    got = etude.info_nce_loss(z, labels, sigma=0.5)
    torch.testing.assert_close(
        got.double(), formula(z.double(), labels.double(), 0.5, 0.1), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_inside_torch_compile(dynamic):
    loss = etude.nn.InfoNCELoss(0.5)
    ours = lambda z, y, o, of: 2 * loss(z.sin(), y) + loss(z, y, others=o.cos(), other_labels=of)  # noqa: E731
    compiled = torch.compile(ours, dynamic=dynamic, fullgraph=True)
    for n in (5, 9, 13):
        (z, labels), (o, of) = samples(n, 4, torch.float32), samples(2 * n, 4, torch.float32)
        got, want = compiled(z, labels, o, of), ours(z, labels, o, of)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
        by_got, by_want = (torch.autograd.grad(of, (z, o)) for of in (got, want))
        torch.testing.assert_close(by_got, by_want, rtol=1e-4, atol=1e-6)


def test_vmap():
    loss = lambda z, labels: etude.info_nce_loss(z, labels, sigma=0.3)  # noqa: E731
    z, labels = torch.randn(3, 8, 2, dtype=torch.float64), torch.rand(3, 8, dtype=torch.float64)
    losses = torch.vmap(loss)(z, labels)
    assert torch.equal(losses, torch.stack([loss(*of) for of in zip(z, labels)]))
    gradients = torch.vmap(torch.func.grad(loss))(z, labels)
    one_by_one = [etude.info_nce_loss_and_grad(*of, sigma=0.3)[1] for of in zip(z, labels)]
    assert torch.equal(gradients, torch.stack(one_by_one))


def test_the_module():
    loss = etude.nn.InfoNCELoss(0.25, 0.5)
    assert repr(loss) == "InfoNCELoss(sigma=0.25, temperature=0.5)"
    z, labels = samples(11, 3, torch.float32)
    options = {"sigma": 0.25, "temperature": 0.5}
    want = etude.info_nce_loss(z, labels, **options)
    for of in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert of(z, labels) == want
    others = dict(zip(("others", "other_labels"), samples(4, 3, torch.float32)))
    assert loss(z, labels, **others) == etude.info_nce_loss(z, labels, **options, **others)
    assert not loss.state_dict() and repr(etude.nn.InfoNCELoss(1, gather=True)).endswith("gather=True)")
    checkpointed = torch.utils.checkpoint.checkpoint(lambda z: loss(z, labels), z, use_reentrant=False)
    assert torch.equal(*(torch.autograd.grad(of, z)[0] for of in (checkpointed, want)))
    # Strides of any kind, memory between alignments of elements.
    turned = z.detach().T.contiguous().T.requires_grad_()
    assert loss(turned, labels.repeat_interleave(2)[::2]) == want


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system for the most memory")
def test_memory_is_of_some_rows_of_the_cosines():
    """16,384 rows, whose cosines alone would take 1 GiB."""
    code = (
        "import etude, numpy, resource\nmost = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rng = numpy.random.default_rng(0)\n"
        "z, y = rng.standard_normal((16384, 128), numpy.float32), rng.random(16384, numpy.float32)\n"
        "loss = lambda n: etude.info_nce_loss_and_grad(z[:n], y[:n], sigma=0.1)\n"
        "loss(100)\nbefore = most()\nloss(16384)\nprint((most() - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200, done.stdout
