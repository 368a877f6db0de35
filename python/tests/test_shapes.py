"""Tensors of every shape and type that PyTorch's own functions take, beside these."""

import itertools

import pytest

torch = pytest.importorskip("torch")

import etude  # noqa: E402
import etude.nn  # noqa: E402

F = torch.nn.functional
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
torch.backends.cudnn.allow_tf32 = False
CONV = {
    1: (etude.conv1d, etude.conv1d_backward, F.conv1d),
    2: (etude.conv2d, etude.conv2d_backward, F.conv2d),
}


def normal(*shape, dtype=torch.float32, device="cpu", grad=True):
    return torch.randn(shape, dtype=dtype, device=device).requires_grad_(grad)


def close(got, want):
    """To some roundings of sums of a hundred products."""
    assert got.shape == want.shape and got.dtype == want.dtype and got.device == want.device
    scale = max(1e-30, want.abs().max().item()) if want.numel() else 1
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5 * scale)


def same_gradients(got, want, *variables):
    dy = torch.randn_like(want)
    of_got, of_want = (torch.autograd.grad((y * dy).sum(), variables) for y in (got, want))
    for g, w in zip(of_got, of_want):
        close(g, w)
    return dy, of_got


def image(dims, device, batched=True, channels=4):
    x = normal(*[3][:batched], channels, *[11, 10][:dims], device=device)
    return x, normal(6, channels // 2, *[3, 4][:dims], device=device), normal(6, device=device)


NAMED = [{"padding": p, "dilation": d} for p, d in itertools.product(("same", "valid"), (1, 2, 3))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dims", CONV)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("options", [{"stride": 2, "padding": 1}, *NAMED], ids=str)
def test_convolutions_with_and_without_a_batch(device, dims, batched, options):
    ours, backward, theirs = CONV[dims]
    x, weight, bias = image(dims, device, batched)
    for taps in (weight, weight[..., :2], weight[..., :1]):  # 'same' adds odd numbers of zeros too
        got, want = (f(x, taps, bias, groups=2, **options) for f in (ours, theirs))
        close(got, want)
        dy, of_got = same_gradients(got, want, x, weight, bias)
        by_x, by_taps, by_bias = backward(dy, x, taps, groups=2, **options)
        assert torch.equal(by_x, of_got[0]) and torch.equal(by_bias, of_got[2])
        assert by_taps.shape == taps.shape


@pytest.mark.parametrize("dims", CONV)
def test_same_needs_a_stride_of_one(dims):
    x, weight, _ = image(dims, "cpu")
    for f in CONV[dims][::2]:
        with pytest.raises((ValueError, RuntimeError), match="stride"):
            f(x, weight, groups=2, padding="same", stride=2)
    with pytest.raises(ValueError, match="padding: must be one of 'same', 'valid', is 'full'"):
        CONV[dims][0](x, weight, groups=2, padding="full")


@pytest.mark.parametrize("dims", CONV)
def test_arrays_are_convolved_as_tensors_are(dims):
    ours, backward, _ = CONV[dims]
    for batched, options in itertools.product((True, False), NAMED):
        x, weight, bias = (t.detach() for t in image(dims, "cpu", batched))
        arrays = [t.numpy() for t in (x, weight, bias)]
        y = ours(x, weight, bias, groups=2, **options)
        assert torch.equal(torch.from_numpy(ours(*arrays, groups=2, **options)), y)
        of_tensors = backward(y, x, weight, groups=2, **options)
        of_arrays = backward(y.numpy(), *arrays[:2], groups=2, **options)
        for got, want in zip(of_arrays, of_tensors):
            assert torch.equal(torch.from_numpy(got), want)


MODES = ["zeros", "reflect", "replicate", "circular"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dims", CONV)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [0, 2, "same", "valid"])
def test_modules_pad_as_pytorchs(device, dims, mode, padding):
    options = {"padding": padding, "padding_mode": mode, "groups": 2}
    name = f"Conv{dims}d"
    conv, theirs = (getattr(nn, name)(4, 6, 4, **options).to(device) for nn in (etude.nn, torch.nn))
    theirs.load_state_dict(conv.state_dict())
    for batched in (True, False):
        x, *_ = image(dims, device, batched)
        got, want = conv(x), theirs(x)
        close(got, want)
        same_gradients(got, want, x)
    strided = {"stride": 3, "padding_mode": mode, "padding": 1, "bias": False}
    conv, theirs = (getattr(nn, name)(4, 6, 3, **strided).to(device) for nn in (etude.nn, torch.nn))
    theirs.load_state_dict(conv.state_dict())
    close(conv(x), theirs(x))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dims", CONV)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_convolutions_of_sixteen_bits(device, dims, dtype):
    """What float32 has, rounded to the type: nothing is summed in it."""
    ours, backward, _ = CONV[dims]
    half = [t.detach().to(dtype).requires_grad_() for t in image(dims, device)]
    wide = [t.detach().float().requires_grad_() for t in half]
    options = {"stride": 2, "padding": 1, "groups": 2}
    y, exact = ours(*half, **options), ours(*wide, **options)
    assert torch.equal(y, exact.to(dtype))
    dy = torch.randn_like(y)
    of_half = torch.autograd.grad(y, half, dy, create_graph=True)
    of_wide = torch.autograd.grad(exact, wide, dy.float())
    for g, w, again in zip(of_half, of_wide, backward(dy, *half[:2], **options)):
        assert torch.equal(g, w.to(dtype)) and torch.equal(g, again)
    by_weight = torch.autograd.grad(of_half[0].square().sum(), half[1])[0]
    assert by_weight.dtype == dtype and by_weight.isfinite().all()
    module = getattr(etude.nn, f"Conv{dims}d")(4, 6, 3, padding="same").to(device, dtype)
    assert module(half[0]).dtype == dtype


SIMILARITIES = {
    "dot": lambda a, b: a @ b.mT,
    "cosine": lambda a, b: F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT,
    "squared_euclidean": lambda a, b: (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1),
    "euclidean": lambda a, b: (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1).sqrt(),
}
# Of a and b, before rows and columns.
BATCHES = [((2,), (2,)), ((3,), ()), ((), (3,)), ((1,), (4,)), ((2, 1), (3,)), ((2, 3), (2, 3)), ((1, 1), ())]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", SIMILARITIES)
@pytest.mark.parametrize("batches", BATCHES, ids=str)
def test_similarities_of_batches(device, kind, batches):
    a, b = (normal(*batch, n, 3, device=device) for batch, n in zip(batches, (5, 4)))
    got, want = etude.pairwise_similarity(a, b, kind), SIMILARITIES[kind](a, b)
    close(got, want)
    dy, of_got = same_gradients(got, want, a, b)
    of_tensors = etude.pairwise_similarity_backward(dy, a, b, kind)
    for g, w in zip(of_tensors, of_got):
        close(g, w)
    arrays = [t.detach().cpu().numpy() for t in (dy, a, b)]
    matrix = etude.pairwise_similarity(*arrays[1:], kind)
    assert matrix.shape == got.shape
    close(torch.from_numpy(matrix), got.detach().cpu())
    for g, w in zip(etude.pairwise_similarity_backward(*arrays, kind), of_got):
        close(torch.from_numpy(g), w.cpu())
    half = [t.detach().bfloat16() for t in (a, b)]
    close(etude.pairwise_similarity(*half, kind), SIMILARITIES[kind](*(t.float() for t in half)))


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_batches_of_similarities_are_differentiated_twice(kind):
    a, b = (normal(2, n, 3, dtype=torch.float64) for n in (3, 2))
    f = lambda a, b: etude.pairwise_similarity(a, b, kind)  # noqa: E731
    assert torch.autograd.gradgradcheck(f, (a, b))
    along = torch.randn_like(a), torch.randn_like(b)
    got, want = (torch.func.jvp(of, (a, b), along)[1] for of in (f, SIMILARITIES[kind]))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12 * want.abs().max().item())


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_batches_that_are_empty(kind):
    for batch, n, m in (((0,), 3, 2), ((2,), 0, 3), ((2,), 3, 0), ((2, 0), 3, 2)):
        a, b = normal(*batch, n, 4), normal(*batch, m, 4)
        y = etude.pairwise_similarity(a, b, kind)
        assert y.shape == (*batch, n, m)
        assert all(g.shape == t.shape for g, t in zip(torch.autograd.grad(y.sum(), (a, b)), (a, b)))
        arrays = a.detach().numpy(), b.detach().numpy()
        assert etude.pairwise_similarity(*arrays, kind).shape == y.shape
        gradients = etude.pairwise_similarity_backward(y.detach().numpy(), *arrays, kind)
        assert all(g.shape == t.shape and not g.any() for g, t in zip(gradients, arrays))


def test_batches_that_do_not_fit():
    for of in (torch.Tensor.detach, lambda t: t.detach().numpy()):
        with pytest.raises(ValueError, match="b: must be a batch that broadcasts to that of a"):
            etude.pairwise_similarity(of(normal(2, 3, 4)), of(normal(3, 3, 4)))
        with pytest.raises(ValueError, match=r"a: must be \[..., N, D\]"):
            etude.pairwise_similarity(of(normal(4)), of(normal(3, 4)))


@pytest.mark.parametrize("dynamic", [False, True])
def test_shapes_inside_torch_compile(dynamic):
    def f(x, weight, a, b):
        y = etude.conv1d(x, weight, padding="same", groups=2)
        return y.square().mean() + etude.pairwise_similarity(a, b, "cosine").square().mean()

    torch.compiler.reset()
    compiled = torch.compile(f, fullgraph=True, dynamic=dynamic)
    for n in (5, 7):
        x, weight, a, b = normal(4, 3 * n), normal(6, 2, 4), normal(2, n, 3), normal(n + 1, 3)
        got, want = compiled(x, weight, a, b), f(x, weight, a, b)
        close(got, want)
        variables = x, weight, a, b
        for g, w in zip(torch.autograd.grad(got, variables), torch.autograd.grad(want, variables)):
            close(g, w)
