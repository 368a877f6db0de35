"""A loss for each row, label distances and pair weights of the caller's, beside formulas of all pairs."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import etude  # noqa: E402
import etude.nn  # noqa: E402
from etude import _checks  # noqa: E402

F = torch.nn.functional
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
OPTIONS = {"margin": 2.0, "tau": 0.1}


def formula(
    z, labels, weights=None, *, others=None, other_labels=None, other_weights=None, metric="euclidean",
    margin=0.5, tau=0.0, reduction="mean", label_distance=None, pair_weights=None,
):  # fmt: skip
    """Of all ordered pairs, as a matrix."""
    own = others is None
    others, other_labels, other_weights = (
        (z, labels, weights) if own else (others, other_labels, other_weights)
    )
    if metric == "euclidean":
        squares = (z[:, None] - others).square().sum(-1)
        d = torch.where(squares > 0, torch.where(squares > 0, squares, 1).sqrt(), 0)
    else:
        d = 1 - F.normalize(z) @ F.normalize(others).T
    distance = label_distance or (lambda a, b: (a[:, None] - b).abs())
    w, s = distance(labels, other_labels), torch.ones_like(d)
    for of in (None if weights is None else weights[:, None], other_weights):
        s = s if of is None else s * of
    if callable(pair_weights):
        pair_weights = pair_weights(torch.arange(len(z)), torch.arange(len(others)))
    s = s if pair_weights is None else s * pair_weights
    s = s - s.diag().diag() if own else s
    loss = torch.where(w <= 1.00025 * tau + 1e-6, d * d, (margin * w - d).clamp(min=0) ** 2) / 2
    if reduction == "mean":
        return (s * loss).sum() / s.sum()
    total = s.sum(1)
    return torch.where(total > 0, (s * loss).sum(1) / torch.where(total > 0, total, 1), 0)


def of_samples(n, d, dtype=torch.float64, device="cpu"):
    weights = (1.5 * torch.rand(n, dtype=dtype, device=device) - 0.5).clamp(min=0)
    return (
        torch.randn(n, d, dtype=dtype, device=device, requires_grad=True),
        torch.rand(n, dtype=dtype, device=device),
        weights,
    )


COST = torch.rand(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
PERFORMERS = torch.arange(60) % 7


def soft(p, q):
    """How far classes are apart on average: no two orders the same."""
    return p @ COST.to(p.dtype) @ q.T


def apart(i, j):
    """Pairs of one performer do not count, and those of the second half twice."""
    return (PERFORMERS[i][:, None] != PERFORMERS[j]) * (1 + (j > 10))


SETTINGS = {
    "": {},
    "weights": {"weights"},
    "others": {"others"},
    "others, weights": {"others", "weights"},
    "soft labels": {"soft"},
    "soft labels, others, weights": {"soft", "others", "weights"},
    "pairs": {"pairs"},
    "pairs as a matrix, weights": {"matrix", "weights"},
    "pairs, others, soft labels": {"pairs", "others", "soft"},
}


def setting(what, dtype=torch.float64, n=23, m=9):
    """Tensors, and options, of which those that are no tensors are functions."""
    asked = SETTINGS[what]
    z, labels, weights = of_samples(n, 5, dtype)
    others, other_labels, other_weights = of_samples(m, 5, dtype)
    if "soft" in asked:
        labels, other_labels = (torch.rand(k, 4, dtype=dtype).softmax(1) for k in (n, m))
    tensors, options = {"z": z, "labels": labels}, dict(OPTIONS)
    if "weights" in asked:
        tensors["weights"] = weights
    if "others" in asked:
        tensors |= {"others": others, "other_labels": other_labels}
        if "weights" in asked:
            tensors["other_weights"] = other_weights
    if "soft" in asked:
        options |= {"label_distance": soft, "margin": 9.0}
    if "pairs" in asked:
        options["pair_weights"] = apart
    if "matrix" in asked:
        options["pair_weights"] = torch.rand(n, m if "others" in asked else n) > 0.3
    return tensors, options


def called(loss, tensors, **options):
    tensors = dict(tensors)
    return loss(tensors.pop("z"), tensors.pop("labels"), **tensors, **options)


def rows_of(tensors):
    return [tensors[name] for name in ("z", "others") if name in tensors]


@pytest.fixture(params=["one block", "blocks"])
def blocks(request, monkeypatch):
    if request.param == "blocks":
        monkeypatch.setattr(_checks, "PAIRS_AT_ONCE", 20)
        monkeypatch.setattr(_checks, "rows_at_once", lambda columns: 5)
    return request.param


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("what", SETTINGS)
def test_is_the_formula(what, metric, reduction, blocks):
    tensors, options = setting(what)
    options |= {"metric": metric, "reduction": reduction}
    got, want = (called(of, tensors, **options) for of in (etude.contrastive_loss, formula))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    rows, upstream = rows_of(tensors), torch.randn_like(want)
    by_got, by_want = (torch.autograd.grad(of, rows, upstream, create_graph=True) for of in (got, want))
    torch.testing.assert_close(by_got, by_want, rtol=1e-10, atol=1e-12)
    assert any(g.any() for g in by_want)
    # Again, through the operators themselves.
    second = (torch.autograd.grad(sum(g.square().sum() for g in of), rows) for of in (by_got, by_want))
    torch.testing.assert_close(*second, rtol=1e-9, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(
            called(etude.contrastive_loss, tensors, **options), want, rtol=1e-12, atol=0
        )


@pytest.mark.parametrize("what", SETTINGS)
def test_numpy(what, blocks):
    tensors, options = setting(what)
    arrays = {name: t.detach().numpy() for name, t in tensors.items()}
    of_arrays = dict(options)
    if "label_distance" in options:
        of_arrays["label_distance"] = lambda p, q: p @ COST.numpy() @ q.T
    if callable(options.get("pair_weights")):
        of_arrays["pair_weights"] = lambda i, j: apart(torch.from_numpy(i), torch.from_numpy(j)).numpy()
    elif "pair_weights" in options:
        of_arrays["pair_weights"] = options["pair_weights"].numpy()
    each = called(etude.contrastive_loss, arrays, reduction="none", **of_arrays)
    want = called(formula, tensors, reduction="none", **options)
    np.testing.assert_allclose(each, want.detach().numpy(), rtol=1e-12, atol=1e-14)
    loss = called(formula, tensors, **options)
    gradients = torch.autograd.grad(loss, rows_of(tensors))
    for got, *by_got in (
        called(etude.contrastive_loss_and_grad, arrays, **of_arrays),
        called(etude.contrastive_loss_and_grad, tensors, **options),
    ):
        np.testing.assert_allclose(got, loss.item(), rtol=1e-12)
        for g, w in zip(by_got, gradients, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-14)
    assert called(etude.contrastive_loss, arrays, **of_arrays) == pytest.approx(loss.item(), rel=1e-12)


def test_the_means_of_rows_are_the_loss():
    z, labels, _ = of_samples(30, 4)
    others = dict(zip(("others", "other_labels"), of_samples(11, 4)))
    for kept in ({}, others):
        each = etude.contrastive_loss(z, labels, **kept, **OPTIONS, reduction="none")
        want = etude.contrastive_loss(z, labels, **kept, **OPTIONS)
        torch.testing.assert_close(each.mean(), want, rtol=1e-12, atol=0)
        torch.testing.assert_close(*(torch.autograd.grad(of, z)[0] for of in (each.mean(), want)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_types_that_are_computed_in_float32(dtype, device, reduction):
    z, labels, weights = of_samples(60, 12, torch.float32, device)
    z = z.detach().to(dtype).requires_grad_()
    pairs = torch.rand(60, 60, device=device) > 0.5
    for options in ({}, {"pair_weights": pairs, "label_distance": lambda a, b: (a[:, None] - b).square()}):
        if reduction == "mean" and not options:
            continue
        options |= {"reduction": reduction, "margin": 9.0, "tau": 0.1}
        got = etude.contrastive_loss(z, labels, weights, **options)
        want = formula(z.double(), labels.double(), weights.double(), **options)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)
        by_got, by_want = (torch.autograd.grad(of.sum(), z)[0] for of in (got, want))
        assert by_got.dtype == dtype
        # Of one set, the parts of either side are rounded to 16 bits before they are added.
        rtol, atol = (1e-3, 1e-4) if dtype == torch.float32 else (2e-2, 2e-3)
        torch.testing.assert_close(by_got, by_want, rtol=rtol, atol=atol)
        with torch.autocast(device, torch.bfloat16):
            assert etude.contrastive_loss(z, labels, weights, **options).dtype == torch.float32


def test_masked_rows_may_hold_anything():
    z, labels, weights = of_samples(12, 3, torch.float32)
    z, labels = z.detach(), labels.clone()
    weights[[2, 7]] = 0
    masked, of_masked = z.clone(), labels.clone()
    masked[2], masked[7], of_masked[2], of_masked[7] = torch.nan, torch.inf, torch.nan, -1
    for options in ({}, {"pair_weights": torch.rand(12, 12)}):
        losses = []
        for rows, of in (
            (masked, of_masked),
            (torch.nan_to_num(masked), of_masked.clamp(min=0).nan_to_num()),
        ):
            rows = rows.clone().requires_grad_()
            losses.append(etude.contrastive_loss(rows, of, weights, **options, **OPTIONS, reduction="none"))
            losses[-1].sum().backward()
            assert rows.grad.isfinite().all() and not rows.grad[[2, 7]].any() and rows.grad[0].any()
        assert torch.equal(*losses) and not losses[0][[2, 7]].any()
    # A pair that counts for nothing may be of labels that are none.
    apart = torch.rand(12, 12).fill_diagonal_(torch.nan)
    apart[3, 4] = torch.inf
    options = {"label_distance": lambda a, b: apart[a][:, b], "pair_weights": ~apart.isinf()}
    assert etude.contrastive_loss(z, torch.arange(12), **options).isfinite()


@pytest.mark.parametrize("n, m", [(0, None), (1, None), (0, 4), (3, 0)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_without_a_pair_the_loss_is_nan(n, m, reduction):
    z, labels, _ = of_samples(n, 3, torch.float32)
    others = {} if m is None else dict(zip(("others", "other_labels"), of_samples(m, 3, torch.float32)))
    arrays = {name: of.detach().numpy() for name, of in {"embeddings": z, "labels": labels, **others}.items()}
    for options in ({}, {"pair_weights": torch.ones(n, n if m is None else m)}):
        loss = etude.contrastive_loss(z, labels, **others, **options, reduction=reduction)
        loss.sum().backward()
        assert loss.shape == ((n,) if reduction == "none" else ()) and loss.isnan().all() and not z.grad.any()
        options = {name: of.numpy() for name, of in options.items()}
        of_arrays = etude.contrastive_loss(**arrays, **options, reduction=reduction)
        assert np.isnan(of_arrays).all() and np.shape(of_arrays) == loss.shape
    for loss, options in ((etude.info_nce_loss, {"sigma": 1}), (etude.rank_n_contrast_loss, {})):
        if m is None or loss is etude.info_nce_loss:
            value = loss(z, labels, **others, **options, reduction=reduction)
            value.sum().backward()
            assert value.isnan().all() and not z.grad.any()
            assert np.shape(loss(**arrays, **options, reduction=reduction)) == value.shape


@pytest.mark.parametrize("loss", ["contrastive", "info_nce"])
def test_rows_against_themselves_by_name(loss):
    """One tensor as rows and as others: both have a part in its gradient, and in how that moves."""
    z, labels, _ = of_samples(7, 3)
    ours = {
        "contrastive": lambda z: etude.contrastive_loss(
            z, labels, others=z, other_labels=labels, **OPTIONS, reduction="none"
        ),
        "info_nce": lambda z: etude.info_nce_loss(
            z, labels, others=z, other_labels=labels, sigma=0.25, temperature=0.5, reduction="none"
        ),
    }[loss]
    theirs = {
        "contrastive": lambda z: formula(
            z, labels, others=z, other_labels=labels, **OPTIONS, reduction="none"
        ),
        "info_nce": lambda z: info_nce(z, labels, z, labels),
    }[loss]
    first, second = [], []
    for of in (ours, theirs):
        first += torch.autograd.grad(of(z).square().sum(), z, create_graph=True)
        second += torch.autograd.grad(first[-1].square().sum(), z)
    torch.testing.assert_close(*first, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(*second, rtol=1e-9, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(
            first[0], torch.autograd.functional.jacobian(lambda z: ours(z).square().sum(), z)
        )


def test_in_inference_mode():
    z, labels, weights = of_samples(9, 3, torch.float32)
    apart = lambda a, b: (a[:, None] - b).square()  # noqa: E731
    options = {"label_distance": apart, "pair_weights": torch.rand(9, 9)}
    want = etude.contrastive_loss_and_grad(z, labels, weights, **options)
    with torch.inference_mode():
        rows, of, w, pairs = (t.detach() * 1 for t in (z, labels, weights, options["pair_weights"]))
        got = etude.contrastive_loss_and_grad(rows, of, w, label_distance=apart, pair_weights=pairs)
        each = etude.contrastive_loss(rows, of, w, reduction="none")
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(each, etude.contrastive_loss(z, labels, weights, reduction="none"))


def test_where_no_pair_counts_it_is_zero():
    z, labels, weights = of_samples(5, 3, torch.float32)
    for options in ({"weights": 0 * weights}, {"pair_weights": torch.zeros(5, 5, dtype=torch.bool)}):
        for reduction in ("mean", "none"):
            loss = etude.contrastive_loss(z, labels, **options, reduction=reduction)
            assert not loss.any() and not torch.autograd.grad(loss.sum(), z)[0].any()


def test_what_is_refused():
    z, labels, weights = of_samples(5, 3, torch.float32)
    arrays = [t.detach().numpy() for t in (z, labels)]

    def says(error, what, of=(z, labels), **options):
        with pytest.raises(error, match=what):
            etude.contrastive_loss(*of, **options)

    square = lambda value: lambda a, b: torch.full((len(a), len(b)), value)  # noqa: E731
    of_arrays = lambda value: lambda a, b: np.full((len(a), len(b)), value)  # noqa: E731
    says(ValueError, "reduction: must be one of 'mean', 'none', is 'sum'", reduction="sum")
    says(ValueError, "reduction: must be one of", arrays, reduction="sum")
    says(TypeError, "label_distance: must be a function, is 3", label_distance=3)
    says(TypeError, "label_distance: must be a function, is 3", arrays, label_distance=3)
    says(TypeError, "pair_weights: must be a PyTorch tensor, is list", pair_weights=[1])
    says(TypeError, "pair_weights: must be a NumPy array, is list", arrays, pair_weights=[1])
    says(ValueError, r"pair_weights: must have shape \[5, 5\], has \[5\]", pair_weights=weights)
    says(ValueError, r"pair_weights: must have shape \[5, 5\], has \[5\]", arrays, pair_weights=arrays[1])
    says(ValueError, r"label_distance: must have shape \[5, 5\], has \[5\]", label_distance=lambda a, b: a)
    says(TypeError, "label_distance: must be a PyTorch tensor, is float", label_distance=lambda a, b: 1.0)
    says(TypeError, "label_distance: must hold real numbers", label_distance=square(1j))
    says(TypeError, "label_distance: must hold real numbers", arrays, label_distance=of_arrays(1j))
    for bad in (-1.0, torch.nan, torch.inf):
        message = f"label_distance: of rows 0 and 1 is {bad}, must be finite and not negative"
        says(ValueError, message, label_distance=square(bad))
        says(ValueError, message, arrays, label_distance=of_arrays(bad))
        message = f"pair_weights: of rows 0 and 1 is {bad}, must be finite and not negative"
        says(ValueError, message, pair_weights=square(bad))
        says(ValueError, message, arrays, pair_weights=of_arrays(bad), reduction="none")
    one = torch.ones(5, 5)
    one[3, 2] = -2
    says(ValueError, "pair_weights: of rows 3 and 2 is -2.0", pair_weights=one)
    grown = torch.ones(5, 5, requires_grad=True)
    says(ValueError, "pair_weights: requires a gradient, but the loss has none by it", pair_weights=grown)
    says(
        ValueError,
        r"labels: must be \[5, ...\] for embeddings of shape",
        (z, labels[:4]),
        label_distance=square(1.0),
    )
    bad = labels.clone()
    bad[1] = -1
    says(ValueError, "labels: row 1 is -1.0, must be finite", (z, bad), reduction="none")
    says(ValueError, "weights: row 1 is -1.0, must be finite", weights=bad, reduction="none")
    says(ValueError, "weights: row 1 is -1.0, must be finite", weights=bad, label_distance=square(1.0))
    # Where others look on, by the operator.
    compiled = torch.compile(lambda z: etude.contrastive_loss(z, labels, pair_weights=one))
    with pytest.raises(ValueError, match="pair_weights: of rows 3 and 2 is -2.0"):
        compiled(z.detach())


def info_nce(z, labels, o=None, of=None):
    """The paper's formula of each anchor."""
    losses = []
    for i in range(len(z)):
        columns = torch.arange(len(z if o is None else o))
        columns = columns[columns != i] if o is None else columns
        rows, theirs = (z, labels) if o is None else (o, of)
        s = F.cosine_similarity(z[i], rows[columns]) / 0.5
        weights = (-(labels[i] - theirs[columns]).square() / (2 * 0.25**2)).softmax(0)
        losses.append(-(weights * s.log_softmax(0)).sum())
    return torch.stack(losses)


def rank_n_contrast(z, labels):
    """The paper's formula of each anchor."""
    losses = []
    for i in range(len(z)):
        others, far = [k for k in range(len(z)) if k != i], (labels - labels[i]).abs()
        s = {k: (z[i] - z[k]).norm() / -0.5 for k in others}
        log = lambda j: torch.stack([s[k] for k in others if far[k] >= far[j]]).logsumexp(0)  # noqa: E731
        losses.append(torch.stack([log(j) - s[j] for j in others]).mean())
    return torch.stack(losses)


RATINGS, OTHERS, OF_OTHERS = (
    torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))
    for shape in ((8,), (7, 3), (7,))
)
NEAR = {"sigma": 0.25, "temperature": 0.5}
ACROSS = {"others": OTHERS, "other_labels": OF_OTHERS}
EACH = {
    "contrastive": (lambda z: etude.contrastive_loss(z, RATINGS, RATINGS, **OPTIONS, reduction="none"),
                    lambda z: formula(z, RATINGS, RATINGS, **OPTIONS, reduction="none")),
    "contrastive, across": (lambda z: etude.contrastive_loss(z, RATINGS, **ACROSS, **OPTIONS, reduction="none"),
                            lambda z: formula(z, RATINGS, **ACROSS, **OPTIONS, reduction="none")),
    "pairs": (lambda z: etude.contrastive_loss(z, RATINGS, **OPTIONS, metric="cosine", pair_weights=apart)[None],
              lambda z: formula(z, RATINGS, **OPTIONS, metric="cosine", pair_weights=apart)[None]),
    "info_nce": (lambda z: etude.info_nce_loss(z, RATINGS, **NEAR, reduction="none"), lambda z: info_nce(z, RATINGS)),
    "info_nce, across": (lambda z: etude.info_nce_loss(z, RATINGS, **NEAR, **ACROSS, reduction="none"),
                         lambda z: info_nce(z, RATINGS, OTHERS, OF_OTHERS)),
    "info_nce, of others": (
        lambda o: etude.info_nce_loss(OTHERS, OF_OTHERS, **NEAR, others=o, other_labels=RATINGS, reduction="none"),
        lambda o: info_nce(OTHERS, OF_OTHERS, o, RATINGS)),
    "rank_n_contrast": (lambda z: etude.rank_n_contrast_loss(z, RATINGS, temperature=0.5, reduction="none"),
                        lambda z: rank_n_contrast(z, RATINGS)),
}  # fmt: skip


@pytest.mark.parametrize("what", EACH)
def test_derivatives(what, blocks):
    ours, theirs = EACH[what]
    func, z = torch.func, torch.randn(8, 3, dtype=torch.float64)
    near = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)  # noqa: E731
    x = z.clone().requires_grad_()
    near(ours(x), theirs(x))
    upstream, along = torch.randn_like(theirs(z)), torch.randn_like(z)
    near(*(torch.autograd.grad(of(x), x, upstream)[0] for of in (ours, theirs)))
    near(func.jacrev(ours)(z), func.jacrev(theirs)(z))
    near(func.jvp(ours, (z,), (along,)), func.jvp(theirs, (z,), (along,)))
    squares = lambda of: lambda z: of(z).square().sum()  # noqa: E731
    near(func.hessian(squares(ours))(z), func.hessian(squares(theirs))(z))
    several = torch.stack([z, along])
    near(torch.vmap(ours)(several), torch.stack([ours(z), ours(along)]))
    assert torch.autograd.gradcheck(ours, (x,)) and torch.autograd.gradgradcheck(ours, (x,))


@pytest.mark.parametrize("what", EACH)
def test_inside_torch_compile(what, blocks):
    ours = EACH[what][0]
    torch._dynamo.reset()  # or it counts as one function compiled again and again
    compiled = torch.compile(lambda z: ours(z.sin()), fullgraph=True)
    z = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    got, want = compiled(z), ours(z.sin())
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(*(torch.autograd.grad(of.square().sum(), z)[0] for of in (got, want)))


def test_compiled_of_any_size():
    def ours(z, y):
        pairs = etude.contrastive_loss(z, y, **OPTIONS, pair_weights=lambda i, j: (i[:, None] + j) % 3 > 0)
        each = etude.contrastive_loss(z, y, **OPTIONS, reduction="none")
        near = etude.info_nce_loss(z, y, sigma=0.3, reduction="none")
        return pairs + (each * near).sum() + etude.rank_n_contrast_loss(z, y, reduction="none").max()

    compiled = torch.compile(ours, dynamic=True, fullgraph=True)
    for n in (5, 9, 13):
        z, labels, _ = of_samples(n, 4, torch.float32)
        got, want = compiled(z, labels), ours(z, labels)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
        by_got, by_want = (torch.autograd.grad(of, z)[0] for of in (got, want))
        torch.testing.assert_close(by_got, by_want, rtol=1e-4, atol=1e-5)


def test_labels_of_any_type():
    z, _, _ = of_samples(9, 4, torch.float32)
    order = torch.randperm(9)
    want = etude.contrastive_loss(z, order.float(), reduction="none")
    for labels in (order, order.int(), order.double(), order + 10**12, order.half()):
        assert torch.equal(etude.contrastive_loss(z, labels, reduction="none"), want)
        arrays = z.detach().numpy(), labels.numpy()
        np.testing.assert_allclose(
            etude.contrastive_loss(*arrays, reduction="none"), want.detach(), rtol=1e-6
        )
        for loss, options in ((etude.info_nce_loss, {"sigma": 1}), (etude.rank_n_contrast_loss, {})):
            each = loss(z, order.float(), **options, reduction="none")
            assert torch.equal(loss(z, labels, **options, reduction="none"), each)
            assert np.array_equal(loss(*arrays, **options, reduction="none"), each.detach().numpy())
    # Of names only whether they are one.
    names = ["cello", "oboe", "viola"] * 3
    apart = lambda a, b: torch.tensor([[float(names[i] != names[j]) for j in b] for i in a])  # noqa: E731
    classes = (torch.arange(9) % 3 == 0).int()
    two = lambda a, b: apart(a, b) * (1 - classes[a][:, None] * classes[b])  # noqa: E731
    want = formula(z, torch.arange(9), label_distance=two)
    torch.testing.assert_close(etude.contrastive_loss(z, torch.arange(9), label_distance=two), want)


def test_what_is_kept_is_not_changed_unseen():
    """A label that changes between the passes is an error, as of any tensor that autograd keeps."""
    z, labels, _ = of_samples(9, 4, torch.float32)
    for loss, options in (
        (etude.contrastive_loss, {}),
        (etude.info_nce_loss, {"sigma": 1}),
        (etude.rank_n_contrast_loss, {}),
    ):
        value = loss(z, labels, **options, reduction="none").sum()
        labels.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.backward()


def test_the_modules():
    z, labels, _ = of_samples(11, 3, torch.float32)
    loss = etude.nn.ContrastiveLoss(margin=2.0, reduction="none", label_distance=soft)
    assert repr(loss).startswith(
        "ContrastiveLoss(metric='euclidean', margin=2.0, tau=0.0, label_distance=<function soft"
    )
    assert repr(loss).endswith("reduction='none')")
    p, pairs = torch.rand(11, 4).softmax(1), torch.rand(11, 11)
    want = etude.contrastive_loss(z, p, margin=2.0, reduction="none", label_distance=soft, pair_weights=pairs)
    for of in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(of(z, p, pair_weights=pairs), want) and not of.state_dict()
    near = etude.nn.InfoNCELoss(0.5, reduction="none")
    assert torch.equal(near(z, labels), etude.info_nce_loss(z, labels, sigma=0.5, reduction="none"))
    assert repr(near) == "InfoNCELoss(sigma=0.5, temperature=0.1, reduction='none')"
    ranked = etude.nn.RankNContrastLoss(reduction="none")
    assert torch.equal(ranked(z, labels), etude.rank_n_contrast_loss(z, labels, reduction="none"))
    assert repr(ranked) == "RankNContrastLoss(temperature=2.0, reduction='none')"
    checkpointed = torch.utils.checkpoint.checkpoint(lambda z: near(z, labels), z, use_reentrant=False)
    assert torch.equal(*(torch.autograd.grad(of.sum(), z)[0] for of in (checkpointed, near(z, labels))))
    # Strides of any kind.
    turned = z.detach().T.contiguous().T.requires_grad_()
    assert torch.equal(near(turned, labels.repeat_interleave(2)[::2]), near(z, labels))


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system for the most memory")
@pytest.mark.parametrize(
    "loss, most",
    [
        ("contrastive_loss(z, y, margin=2.0, reduction='none')", 200),
        # Whose own whole numbers, of a block, are 32 MiB at a time.
        ("contrastive_loss(z, y, margin=2.0, pair_weights=lambda i, j: (i[:, None] + j) % 3 > 0)", 400),
        ("info_nce_loss(z, y, sigma=0.1, reduction='none')", 200),
        ("rank_n_contrast_loss(z, y, reduction='none')", 200),
    ],
)
def test_memory_is_of_some_rows_of_the_pairs(loss, most):
    """8,192 rows, whose distances alone would take 256 MiB."""
    code = (
        "import etude, torch, resource\nmost = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "def loss(n):\n    z, y = torch.randn(n, 32, requires_grad=True), torch.rand(n)\n"
        f"    etude.{loss}.sum().backward()\n"
        "loss(100)\nbefore = most()\nloss(8192)\nprint((most() - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < most, done.stdout
