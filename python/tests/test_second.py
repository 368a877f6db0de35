"""Second derivatives and forward mode, beside PyTorch's own forms."""

import functools

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import forward_ad, gradcheck, gradgradcheck  # noqa: E402

import etude  # noqa: E402
from etude._torch import similarity  # noqa: E402

F = torch.nn.functional
func = torch.func


def normal(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype)


SIMILARITIES = {
    "dot": lambda a, b: a @ b.T,
    "cosine": lambda a, b: F.normalize(a) @ F.normalize(b).T,
    "squared_euclidean": lambda a, b: (a[:, None] - b).square().sum(2),
    "euclidean": lambda a, b: (a[:, None] - b).square().sum(2).sqrt(),
}
SLIDES = [{"groups": 2}, {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}]
CONVOLUTIONS = {
    1: (etude.conv1d, etude.conv1d_backward, F.conv1d),
    2: (etude.conv2d, etude.conv2d_backward, F.conv2d),
}


def images(dims, dtype=torch.float64):
    shapes = (2, 2, *[5, 4][:dims]), (2, 1, *[3, 2][:dims]), (2,)
    return tuple(normal(*shape, dtype=dtype) for shape in shapes)


# What is differentiated: ours, PyTorch's, and what both are given.
FUNCTIONS = {
    kind: (
        lambda a, b, kind=kind: etude.pairwise_similarity(a, b, kind),
        of_torch,
        (normal(5, 3), normal(4, 3)),
    )
    for kind, of_torch in SIMILARITIES.items()
}
for dims, (ours, _, theirs) in CONVOLUTIONS.items():
    for i, slide in enumerate(SLIDES):
        FUNCTIONS[f"conv{dims}d, {i}"] = (
            lambda *of, f=ours, slide=slide: f(*of, **slide),
            lambda *of, f=theirs, slide=slide: f(*of, **slide),
            images(dims),
        )
        FUNCTIONS[f"conv{dims}d, {i}, no bias"] = *FUNCTIONS[f"conv{dims}d, {i}"][:2], images(dims)[:2]


RATINGS, OTHERS = torch.arange(6.0) % 4, torch.arange(5.0) % 3


def by_rank(z):
    """Rank-N-Contrast's loss of rows with these ratings, as its paper has it."""
    n, ratings, terms = len(RATINGS), RATINGS.tolist(), []
    for i in range(n):
        others = [k for k in range(n) if k != i]
        far = [abs(rating - ratings[i]) for rating in ratings]
        s = {k: (z[i] - z[k]).norm() / -1.5 for k in others}
        for j in others:
            negatives = torch.stack([s[k] for k in others if far[k] >= far[j]])
            terms.append(negatives.logsumexp(0) - s[j])
    return torch.stack(terms).mean()


FUNCTIONS["rank_n_contrast"] = (
    lambda z: etude.rank_n_contrast_loss(z, RATINGS, temperature=1.5),
    by_rank,
    (normal(6, 3),),
)


def by_nearness(z, o=None):
    """InfoNCE of rows with these ratings, against each other or against others, an anchor at a time."""
    terms, ratings = [], RATINGS if o is None else OTHERS
    for i in range(len(z)):
        columns = [k for k in range(len(ratings)) if o is not None or k != i]
        s = F.cosine_similarity(z[i], (z if o is None else o)[columns]) / 0.5
        weights = (-(RATINGS[i] - ratings[columns]).double().square() / 2).softmax(0)
        terms.append(-(weights * s.log_softmax(0)).sum())
    return torch.stack(terms).mean()


def by_our_nearness(z, o=None):
    others = {} if o is None else {"others": o, "other_labels": OTHERS}
    return etude.info_nce_loss(z, RATINGS, sigma=1.0, temperature=0.5, **others)


for inputs in ((normal(6, 3),), (normal(6, 3), normal(5, 3))):
    FUNCTIONS[f"info_nce, {len(inputs)} sets"] = by_our_nearness, by_nearness, inputs
WEIGHTS, OTHER_WEIGHTS = torch.tensor([1.0, 0, 2, 0.5, 1, 3]), torch.tensor([0.5, 1, 0, 1, 2])


def of_pairs(metric, weighted, z, o=None):
    """The loss over pairs, as one writes it in PyTorch; of those with themselves no second derivative is NaN."""
    i, j = (
        torch.triu_indices(6, 6, 1) if o is None else torch.cartesian_prod(torch.arange(6), torch.arange(5)).T
    )
    labels, weights = (RATINGS, WEIGHTS) if o is None else (OTHERS, OTHER_WEIGHTS)
    a, b = z[i], (z if o is None else o)[j]
    d = (a - b).square().sum(1).sqrt() if metric == "euclidean" else 1 - F.cosine_similarity(a, b)
    w = (RATINGS[i] - labels[j]).abs().double()
    pairs = torch.where(w <= 1, d * d, (0.75 * w - d).clamp(min=0) ** 2) / 2
    counted = WEIGHTS[i] * weights[j] if weighted else torch.ones(len(i))
    return (counted * pairs).sum() / counted.double().sum()


def of_kernels(metric, weighted, z, o=None):
    options = {"metric": metric, "margin": 0.75, "tau": 1.0, "weights": WEIGHTS if weighted else None}
    if o is not None:
        options |= {"others": o, "other_labels": OTHERS, "other_weights": OTHER_WEIGHTS if weighted else None}
    return etude.contrastive_loss(z, RATINGS, **options)


LOSSES = {}
for metric in ("euclidean", "cosine"):
    for weighted in (False, True):
        for sets in (1, 2):
            LOSSES[f"loss, {metric}, {sets} sets{', weights' * weighted}"] = (
                lambda *of, metric=metric, weighted=weighted: of_kernels(metric, weighted, *of),
                lambda *of, metric=metric, weighted=weighted: of_pairs(metric, weighted, *of),
                (normal(6, 3), normal(5, 3))[:sets],
            )


def grown(inputs):
    return tuple(t.clone().requires_grad_() for t in inputs)


@pytest.mark.parametrize("what", FUNCTIONS | LOSSES)
def test_gradgradcheck(what):
    f, _, inputs = (FUNCTIONS | LOSSES)[what]
    assert gradcheck(f, grown(inputs), check_forward_ad=True)
    assert gradgradcheck(f, grown(inputs), check_fwd_over_rev=True)
    # By one of them alone.
    for i, t in enumerate(grown(inputs)):
        alone = lambda t: f(*inputs[:i], t, *inputs[i + 1 :])  # noqa: B023, E731
        assert gradgradcheck(alone, (t,), check_fwd_over_rev=True, fast_mode=True)


def test_gradients_of_the_gradients_functions():
    rows = grown((normal(5, 4), normal(5, 3), normal(4, 3)))
    for kind in SIMILARITIES:
        f = lambda *of: etude.pairwise_similarity_backward(*of, kind)  # noqa: B023, E731
        assert gradcheck(f, rows, check_forward_ad=True) and gradgradcheck(f, rows)
    for dims, (conv, backward, _) in CONVOLUTIONS.items():
        for slide in SLIDES:
            x, weight, _ = images(dims)
            of = grown((torch.randn_like(conv(x, weight, **slide)), x, weight))
            f = lambda *of: backward(*of, **slide)  # noqa: B023, E731
            assert gradcheck(f, of, check_forward_ad=True) and gradgradcheck(f, of)


def several(f, inputs):
    """What the transforms make of `f`, by all its inputs."""
    at = tuple(range(len(inputs)))
    total = lambda *of: f(*of).sin().sum()  # noqa: E731
    along = tuple(map(torch.ones_like, inputs))

    def dual(*of):
        with forward_ad.dual_level():
            made = [forward_ad.make_dual(t, d) for t, d in zip(of, along)]
            return forward_ad.unpack_dual(f(*made)).tangent

    move = func.linearize(f, *inputs)[1]
    yield "jvp", func.jvp(f, inputs, along)
    yield "dual", (dual(*inputs), dual(*grown(inputs)).detach())
    yield "linearize", (move(*along),)
    yield "jacfwd", func.jacfwd(f, at)(*inputs)
    yield "jacrev", func.jacrev(f, at)(*inputs)
    yield "hessian", sum(func.hessian(total, at)(*inputs), ())
    yield "reverse twice", sum(func.jacrev(func.jacrev(total, at), at)(*inputs), ())
    yield "reverse over forward", func.grad(lambda *of: func.jvp(f, of, along)[1].square().sum(), at)(*inputs)
    yield "hvp", func.jvp(func.grad(total, at), inputs, along)[1]
    stacked = tuple(torch.stack([t, 2 * t]) for t in inputs)
    yield "vmap", func.vmap(func.grad(lambda *of: func.grad(total)(*of).square().sum(), at))(*stacked)


def thrice(f, inputs):
    at = tuple(range(len(inputs)))
    first = func.grad(lambda *of: f(*of).sin().sum(), at)
    second = func.grad(lambda *of: sum(t.square().sum() for t in first(*of)), at)
    return func.grad(lambda *of: sum(t.pow(3).sum() for t in second(*of)), at)(*inputs)


@pytest.mark.parametrize("what", FUNCTIONS | LOSSES)
def test_transforms_are_those_of_pytorchs_forms(what):
    ours, theirs, inputs = (FUNCTIONS | LOSSES)[what]
    for (name, got), (_, want) in zip(several(ours, inputs), several(theirs, inputs), strict=True):
        assert len(got) == len(want)
        for g, w in zip(got, want):
            # Sums of some hundred products in float64.
            torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-9 * max(1, w.abs().max().item()), msg=name)


@pytest.mark.parametrize("what", FUNCTIONS)
def test_third_derivatives(what):
    ours, theirs, inputs = FUNCTIONS[what]
    for g, w in zip(thrice(ours, inputs), thrice(theirs, inputs), strict=True):
        # Cubes what is some hundred.
        torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-9 * max(1, w.abs().max().item()))


@pytest.mark.parametrize("what", FUNCTIONS | LOSSES)
def test_products_with_the_hessian_as_autograd_has_them(what):
    """`hvp` differentiates by what goes backward."""
    ours, theirs, inputs = (FUNCTIONS | LOSSES)[what]
    along = tuple(map(torch.ones_like, inputs))
    for product in (torch.autograd.functional.hvp, torch.autograd.functional.vhp):
        got, want = (product(lambda *of, f=f: f(*of).sin().sum(), inputs, along)[1] for f in (ours, theirs))
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-9 * max(1, w.abs().max().item()))
    hessian = torch.autograd.functional.hessian
    of = lambda f: lambda t: f(t, *inputs[1:]).sin().sum()  # noqa: E731
    want = hessian(of(theirs), inputs[0])
    for options in ({}, {"vectorize": True}, {"vectorize": True, "outer_jacobian_strategy": "forward-mode"}):
        got = hessian(of(ours), inputs[0], **options)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9 * max(1, want.abs().max().item()))


@pytest.mark.parametrize("what", LOSSES)
def test_the_losses_third_derivative_raises(what):
    f, _, inputs = LOSSES[what]
    with pytest.raises(
        RuntimeError, match="etude.contrastive_hvp: has no autograd formula: .* twice at most"
    ):
        thrice(f, inputs)
    inputs = grown(inputs)
    first = torch.autograd.grad(f(*inputs), inputs, create_graph=True)
    second = torch.autograd.grad(sum(t.square().sum() for t in first), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="twice at most"):
        sum(t.sum() for t in second).backward()


@pytest.mark.parametrize("what", FUNCTIONS)
def test_forward_mode_within_forward_mode_raises(what):
    """PyTorch would give zeros."""
    f, _, inputs = FUNCTIONS[what]
    with pytest.raises(
        NotImplementedError, match=r"^etude\.\w+: PyTorch has no forward mode within .* use reverse mode"
    ):
        func.jacfwd(func.jacfwd(f))(*inputs)
    along = tuple(map(torch.ones_like, inputs))
    with pytest.raises(NotImplementedError, match="no forward mode within forward mode"):
        func.jvp(lambda *of: func.jvp(f, of, along)[1], inputs, along)


def penalty(f, *inputs):
    """A gradient penalty, as of a critic: its gradients, with everything at once."""
    inputs = grown(inputs)
    y = f(*inputs)
    first = torch.autograd.grad((y * y).mean(), inputs, create_graph=True)
    return torch.autograd.grad(
        sum(t.float().square().sum() if t.dtype.itemsize == 2 else t.square().sum() for t in first), inputs
    )


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_rows_that_are_zero_or_equal_have_finite_second_derivatives(kind):
    a, b = normal(6, 3), normal(5, 3)
    a[1], b[2], a[3], b[4] = 0, 0, b[0], 0
    f = lambda a, b: etude.pairwise_similarity(a, b, kind)  # noqa: E731
    for t in penalty(f, a, b):
        assert t.isfinite().all()
    with forward_ad.dual_level():
        dual = f(forward_ad.make_dual(a, torch.ones_like(a)), b)
        assert forward_ad.unpack_dual(dual).tangent.isfinite().all()
    # Where nothing is zero or equal it is as without them.
    if kind == "euclidean":
        rest = [0, 2, 4, 5]
        got = func.jvp(f, (a, b), (torch.ones_like(a), torch.zeros_like(b)))[1]
        want = func.jvp(SIMILARITIES[kind], (a[rest], b), (torch.ones_like(a[rest]), torch.zeros_like(b)))[1]
        torch.testing.assert_close(got[rest], want)
        assert got[3, 0] == 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_losses_second_derivatives_are_finite_where_rows_are_zero_equal_or_masked(metric):
    z, o = normal(6, 3), normal(5, 3)
    z[1], o[2], z[3], o[4], z[5] = 0, 0, o[0], 0, z[0]
    labels, other_labels = RATINGS * 2, OTHERS
    loss = functools.partial(etude.contrastive_loss, metric=metric, margin=4.0)
    f = lambda z, o: loss(z, labels) + loss(z, labels, others=o, other_labels=other_labels)  # noqa: E731
    for t in penalty(f, z, o):
        assert t.isfinite().all() and t.any()
    masked, of = z.clone(), torch.ones(6)
    masked[2], of[2] = torch.nan, 0
    rest = [0, 1, 3, 4, 5]
    (got,) = penalty(lambda z: loss(z, labels, of), masked)
    (want,) = penalty(lambda z: loss(z, labels[rest]), z[rest])
    torch.testing.assert_close(got[rest], want)
    assert (got[2] == 0).all()


def test_losses_without_a_pair_have_no_second_derivatives():
    z, labels = normal(6, 3), RATINGS
    none = torch.zeros(6)
    for f in (
        lambda z: etude.contrastive_loss(z[:1], labels[:1]),
        lambda z: etude.contrastive_loss(z, labels, others=z[:0], other_labels=labels[:0]),
        lambda z: etude.contrastive_loss(z, labels, none),
        lambda z: etude.contrastive_loss(z, labels, none, others=z, other_labels=labels),
    ):
        x = z.clone().requires_grad_()
        (first,) = torch.autograd.grad(f(x), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        assert (first == 0).all() and (second == 0).all()


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_only_the_ratios_of_weights_count(metric, others):
    """Products of weights as these do not fit float32."""
    z, of = normal(6, 3, dtype=torch.float32), WEIGHTS
    f = lambda scale: lambda z: etude.contrastive_loss(  # noqa: E731
        z, RATINGS, scale * of, metric=metric,
        **({"others": z, "other_labels": RATINGS, "other_weights": scale * of} if others else {}),
    )  # fmt: skip
    (want,) = penalty(f(1), z)
    for scale in (1e-25, 1e25):
        torch.testing.assert_close(*penalty(f(scale), z), want)


def test_labels_that_change_before_the_second_derivative_raise():
    z, labels = normal(6, 3).requires_grad_(), RATINGS.clone()
    (first,) = torch.autograd.grad(etude.contrastive_loss(z, labels), z, create_graph=True)
    labels += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_losses_of_sixteen_bits(metric, dtype):
    z, o = normal(6, 5).to(dtype), normal(5, 5).to(dtype)
    f = lambda *of: 2 * of_kernels(metric, False, *of)  # noqa: E731
    for inputs in ((z,), (z, o)):
        got, want = penalty(f, *inputs), penalty(f, *(t.float() for t in inputs))
        for g, w in zip(got, want):
            # The gradient in between was rounded to 16 bits.
            assert g.dtype == dtype
            assert (g.float() - w).norm() < 4 * torch.finfo(dtype).eps * w.norm()
        tangent = func.jvp(f, inputs, tuple(map(torch.ones_like, inputs)))[1]
        floats = tuple(t.float() for t in inputs)
        assert torch.equal(tangent, func.jvp(f, floats, tuple(map(torch.ones_like, floats)))[1])


@pytest.mark.parametrize("kind", ["squared_euclidean", "euclidean"])
def test_near_rows_keep_their_digits_in_float32(kind):
    """Rows a thousandth of their norm apart: out of products of rows some would be left with one digit."""
    a = normal(40, 8, dtype=torch.float32) + 100
    b = a[:30] + 0.1 * normal(30, 8, dtype=torch.float32)
    da, db = normal(40, 8, dtype=torch.float32), normal(30, 8, dtype=torch.float32)
    got = func.jvp(lambda a, b: etude.pairwise_similarity(a, b, kind), (a, b), (da, db))[1]
    wide = [t.double() for t in (a, b, da, db)]
    want = func.jvp(SIMILARITIES[kind], tuple(wide[:2]), tuple(wide[2:]))[1]
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)


def test_rows_of_any_size_have_the_cosines_second_derivatives():
    a, b = normal(6, 4, dtype=torch.float32), normal(5, 4, dtype=torch.float32)
    f = lambda a, b: etude.pairwise_similarity(a, b, "cosine")  # noqa: E731
    along = torch.ones_like(a), torch.zeros_like(b)
    want = func.jvp(f, (a, b), along)[1]
    for size in (1e-15, 1e15, 1e25):
        got = func.jvp(f, (a * size, b), (along[0] * size, along[1]))[1]
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", SIMILARITIES)
def test_sixteen_bits(kind, dtype):
    a, b = normal(20, 5).to(dtype), normal(12, 5).to(dtype)
    f = lambda a, b: etude.pairwise_similarity(a, b, kind)  # noqa: E731
    got, want = penalty(f, a, b), penalty(f, a.float(), b.float())
    for g, w in zip(got, want):
        assert g.dtype == dtype
        # The gradient in between was rounded to 16 bits.
        assert (g.float() - w).norm() < 4 * torch.finfo(dtype).eps * w.norm()
    tangent = func.jvp(f, (a, b), (torch.ones_like(a), torch.zeros_like(b)))[1]
    of_floats = func.jvp(f, (a.float(), b.float()), (torch.ones(20, 5), torch.zeros(12, 5)))[1]
    assert torch.equal(tangent, of_floats)


def test_differences_are_taken_a_few_rows_at_a_time(monkeypatch):
    a, b, da, db = (normal(n, 7) for n in (50, 40, 50, 40))
    whole = similarity._of_differences(a, b, da, db)
    monkeypatch.setattr(similarity, "_DIFFERENCES", 3 * 40 * 7)
    assert torch.equal(similarity._of_differences(a, b, da, db), whole)
    none = normal(0, 7)
    assert similarity._of_differences(none, b, none, db).shape == (0, 40)
    assert similarity._of_differences(a, none, da, none).shape == (50, 0)


def test_gradients_that_are_not_needed_are_not_computed(monkeypatch):
    x, weight, _ = images(1)
    weight.requires_grad_()
    (of_weight,) = torch.autograd.grad(
        etude.conv1d(x, weight, groups=2).square().sum(), weight, create_graph=True
    )
    (got,) = torch.autograd.grad(of_weight.square().sum(), weight)
    (of_weight,) = torch.autograd.grad(
        F.conv1d(x, weight, groups=2).square().sum(), weight, create_graph=True
    )
    (want,) = torch.autograd.grad(of_weight.square().sum(), weight)
    torch.testing.assert_close(got, want)


def test_empty_batches():
    for f, inputs in [
        (lambda a, b: etude.pairwise_similarity(a, b, "euclidean"), (normal(0, 3), normal(4, 3))),
        (lambda x, w: etude.conv1d(x, w), (normal(0, 2, 9), normal(3, 2, 2))),
    ]:
        for t in penalty(f, *inputs):
            assert (t == 0).all()
        y, tangent = func.jvp(f, inputs, inputs)
        assert y.shape == tangent.shape
