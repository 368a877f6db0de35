"""The functions on NumPy arrays; PyTorch is not needed, and not imported."""

import concurrent.futures
import gc
import os
import signal
import subprocess
import sys
import sysconfig
import time
import tracemalloc

import numpy as np
import pytest

import etude

RNG = np.random.default_rng(0)

# Both sides sum some hundred products in the type given.
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def normal(*shape, dtype=np.float64):
    return RNG.standard_normal(shape).astype(dtype)


def close(got, want, dtype=np.float64):
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype] * max(1e-30, np.abs(want).max()))


def pair_loss(
    z,
    labels,
    weights,
    others=None,
    other_labels=None,
    other_weights=None,
    metric="euclidean",
    margin=0.5,
    tau=0.0,
):
    """The definition, a pair at a time."""
    total = count = 0.0
    all_pairs = others is None
    others, other_labels, other_weights = (
        (z, labels, weights) if all_pairs else (others, other_labels, other_weights)
    )
    for i in range(len(z)):
        for j in range(i + 1 if all_pairs else 0, len(others)):
            if metric == "euclidean":
                d = np.linalg.norm(z[i] - others[j])
            else:
                d = 1 - z[i] @ others[j] / np.linalg.norm(z[i]) / np.linalg.norm(others[j])
            w = abs(labels[i] - other_labels[j])
            s = (1 if weights is None else weights[i]) * (1 if other_weights is None else other_weights[j])
            total += s * 0.5 * (d * d if w <= 1.00025 * tau + 1e-6 else max(0.0, margin * w - d) ** 2)
            count += s
    return total / count


def numeric_gradient(f, x, h=1e-6):
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        kept, x[i] = x[i], x[i] + h
        above = f()
        x[i] = kept - h
        gradient[i] = (above - f()) / (2 * h)
        x[i] = kept
    return gradient


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_the_definition(dtype, metric, weighted):
    z, labels = normal(37, 5, dtype=dtype), etude.bins(RNG.random(37), 5)
    weights = RNG.random(37).astype(dtype) if weighted else None
    options = {"metric": metric, "margin": 0.75, "tau": 0.5}
    want = pair_loss(z.astype(float), labels, weights, **options)
    got = etude.contrastive_loss(z, labels, weights, **options)
    assert isinstance(got, float)
    # Forty squares in f32; tau and margin are exact in it.
    assert got == pytest.approx(want, rel=TOLERANCE[dtype])


def test_gradient_is_that_of_the_loss():
    z, labels, weights = normal(9, 3) / 2, RNG.random(9), RNG.random(9)
    loss, gradient = etude.contrastive_loss_and_grad(z, labels, weights, margin=2.0)
    assert loss == etude.contrastive_loss(z, labels, weights, margin=2.0)
    want = numeric_gradient(lambda: pair_loss(z, labels, weights, margin=2.0), z)
    np.testing.assert_allclose(gradient, want, atol=1e-8)  # of the differences


def test_loss_against_others():
    z, o = normal(7, 3) / 2, normal(5, 3) / 2
    labels, other_labels, other_weights = RNG.random(7), RNG.random(5), RNG.random(5)
    given = {"others": o, "other_labels": other_labels, "other_weights": other_weights, "margin": 2.0}
    loss, dz, do = etude.contrastive_loss_and_grad(z, labels, **given)
    assert loss == etude.contrastive_loss(z, labels, **given)

    def reference():
        return pair_loss(z, labels, None, o, other_labels, other_weights, margin=2.0)

    assert loss == pytest.approx(reference(), rel=1e-12)
    np.testing.assert_allclose(dz, numeric_gradient(reference, z), atol=1e-8)
    np.testing.assert_allclose(do, numeric_gradient(reference, o), atol=1e-8)


def test_gradient_of_equal_rows_is_finite():
    z = np.ones((4, 3), np.float32)
    loss, gradient = etude.contrastive_loss_and_grad(z, np.array([0.0, 1.0, 2.0, 3.0]))
    assert np.isfinite(loss) and (gradient == 0).all()


def rank_loss(z, labels, t):
    """Rank-N-Contrast's definition: each anchor with each other row, against all as far from it in label."""
    total, n = 0.0, len(z)
    for i in range(n):
        others = np.delete(np.arange(n), i)
        far, s = np.abs(labels[others] - labels[i]), -np.linalg.norm(z[others] - z[i], axis=1) / t
        total += sum(np.log(np.exp(s[far >= far[j]]).sum()) - s[j] for j in range(n - 1))
    return total / (n * (n - 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_by_rank_are_the_definition(dtype):
    z, labels = normal(30, 5, dtype=dtype), RNG.integers(0, 9, 30)
    value, gradient = etude.rank_n_contrast_loss_and_grad(z, labels, temperature=0.5)
    close(value, rank_loss(z.astype(float), labels, 0.5), dtype)
    assert etude.rank_n_contrast_loss(z, labels, temperature=0.5) == value
    assert gradient.dtype == dtype and gradient.shape == z.shape
    z, along, h = z.astype(float), normal(30, 5), 1e-6
    slope = (rank_loss(z + h * along, labels, 0.5) - rank_loss(z - h * along, labels, 0.5)) / (2 * h)
    np.testing.assert_allclose((gradient * along).sum(), slope, rtol=1e-4 if dtype == np.float32 else 1e-7)


def nearness_loss(z, labels, sigma, t):
    """InfoNCE weighted by label distances: of each anchor, the cross-entropy of two softmaxes over all other rows."""
    total, n = 0.0, len(z)
    u = z / np.linalg.norm(z, axis=1, keepdims=True)
    for i in range(n):
        others = np.delete(np.arange(n), i)
        s, weights = u[others] @ u[i] / t, np.exp(-((labels[others] - labels[i]) ** 2) / (2 * sigma**2))
        total += np.log(np.exp(s).sum()) - (weights * s).sum() / weights.sum()
    return total / n


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_by_nearness_are_the_definition(dtype):
    z, labels = normal(30, 5, dtype=dtype), RNG.integers(0, 9, 30)
    value, gradient = etude.info_nce_loss_and_grad(z, labels, sigma=2.0, temperature=0.5)
    close(value, nearness_loss(z.astype(float), labels, 2.0, 0.5), dtype)
    assert etude.info_nce_loss(z, labels, sigma=2.0, temperature=0.5) == value
    assert gradient.dtype == dtype and gradient.shape == z.shape
    z, along, h = z.astype(float), normal(30, 5), 1e-6
    ends = (nearness_loss(z + by * along, labels, 2.0, 0.5) for by in (h, -h))
    slope = (next(ends) - next(ends)) / (2 * h)
    np.testing.assert_allclose((gradient * along).sum(), slope, rtol=1e-4 if dtype == np.float32 else 1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_similarities(dtype):
    a, b = normal(9, 4, dtype=dtype), normal(6, 4, dtype=dtype)
    dots, difference = a.astype(float) @ b.T, a.astype(float)[:, None] - b
    want = {
        "dot": dots,
        "cosine": dots / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1),
        "squared_euclidean": (difference**2).sum(2),
        "euclidean": np.sqrt((difference**2).sum(2)),
    }
    for kind, matrix in want.items():
        got = etude.pairwise_similarity(a, b, kind)
        assert got.dtype == dtype
        close(got, matrix, dtype)
    close(etude.pairwise_similarity(a, b), want["cosine"], dtype)


@pytest.mark.parametrize("kind", ["dot", "cosine", "squared_euclidean", "euclidean"])
def test_gradients_of_similarities(kind):
    a, b, dy = normal(4, 3), normal(5, 3), normal(4, 5)
    da, db = etude.pairwise_similarity_backward(dy, a, b, kind)

    def f():
        return (etude.pairwise_similarity(a, b, kind) * dy).sum()

    np.testing.assert_allclose(da, numeric_gradient(f, a), atol=1e-7)
    np.testing.assert_allclose(db, numeric_gradient(f, b), atol=1e-7)


def naive_conv2d(x, weight, bias, stride, padding, dilation, groups):
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    cout, per_group, kh, kw = weight.shape
    oh = (x.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (x.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.empty((len(x), cout, oh, ow))
    for c in range(cout):
        first = c // (cout // groups) * per_group
        for i, j in np.ndindex(oh, ow):
            rows = slice(i * stride[0], i * stride[0] + dilation[0] * (kh - 1) + 1, dilation[0])
            columns = slice(j * stride[1], j * stride[1] + dilation[1] * (kw - 1) + 1, dilation[1])
            seen = x[:, first : first + per_group, rows, columns]
            y[:, c, i, j] = (seen * weight[c]).sum((1, 2, 3)) + (0 if bias is None else bias[c])
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("biased", [False, True])
def test_convolutions(dtype, biased):
    x, weight = normal(3, 4, 17, dtype=dtype), normal(6, 2, 3, dtype=dtype)
    bias = normal(6, dtype=dtype) if biased else None
    y = etude.conv1d(x, weight, bias, stride=2, padding=1, dilation=3, groups=2)
    want = naive_conv2d(x[:, :, None], weight[:, :, None], bias, (1, 2), (0, 1), (1, 3), 2)[:, :, 0]
    assert y.shape == want.shape and y.dtype == dtype
    close(y, want, dtype)
    x, weight = normal(2, 4, 9, 8, dtype=dtype), normal(6, 2, 3, 2, dtype=dtype)
    y = etude.conv2d(x, weight, bias, stride=(1, 2), padding=(2, 1), dilation=(2, 3), groups=2)
    close(y, naive_conv2d(x, weight, bias, (1, 2), (2, 1), (2, 3), 2), dtype)
    close(
        etude.conv2d(x, weight, stride=2, groups=2),
        naive_conv2d(x, weight, None, (2, 2), (0, 0), (1, 1), 2),
        dtype,
    )


@pytest.mark.parametrize("dims", [1, 2])
def test_gradients_of_convolutions(dims):
    conv, backward = (
        (etude.conv1d, etude.conv1d_backward) if dims == 1 else (etude.conv2d, etude.conv2d_backward)
    )
    x, weight, bias = normal(2, 2, *[7, 6][:dims]), normal(4, 1, *[3, 2][:dims]), normal(4)
    options = {"stride": 2, "padding": 1, "groups": 2}
    dy = normal(*conv(x, weight, bias, **options).shape)
    gradients = backward(dy, x, weight, **options)

    def f():
        return (conv(x, weight, bias, **options) * dy).sum()

    for got, argument in zip(gradients, (x, weight, bias)):
        np.testing.assert_allclose(got, numeric_gradient(f, argument), atol=1e-7)


@pytest.mark.parametrize("taps", [2, 3])
def test_padding_by_name_and_without_a_batch(taps):
    x, weight, bias = normal(3, 4, 9, 8), normal(6, 2, taps, 2), normal(6)
    # With an odd number of zeros, the last is at the far end.
    padded = np.pad(x, ((0, 0), (0, 0), ((taps - 1) // 2, taps // 2), (1, 1)))
    want = naive_conv2d(padded, weight, bias, (1, 1), (0, 0), (1, 2), 2)
    options = {"padding": "same", "dilation": (1, 2), "groups": 2}
    y = etude.conv2d(x, weight, bias, **options)
    assert y.shape[2:] == x.shape[2:]
    close(y, want, np.float64)
    assert (etude.conv2d(x[1], weight, bias, **options) == y[1]).all()
    assert (etude.conv2d(x, weight, padding="valid", groups=2) == etude.conv2d(x, weight, groups=2)).all()
    dy = normal(*y.shape)
    dx, dw, db = etude.conv2d_backward(dy, x, weight, **options)
    assert dx.shape == x.shape
    f = lambda: (etude.conv2d(x, weight, bias, **options) * dy).sum()  # noqa: E731
    np.testing.assert_allclose(dw, numeric_gradient(f, weight), atol=1e-7)
    np.testing.assert_allclose(dx[0, 0], numeric_gradient(f, x[0, 0]), atol=1e-7)
    alone = etude.conv2d_backward(dy[0], x[0], weight, **options)
    assert (alone[0] == dx[0]).all() and alone[1].shape == dw.shape


@pytest.mark.parametrize("kind", ["dot", "cosine", "squared_euclidean", "euclidean"])
def test_batches_of_similarities(kind):
    a, b = normal(2, 1, 5, 3), normal(3, 4, 3)
    y = etude.pairwise_similarity(a, b, kind)
    assert y.shape == (2, 3, 5, 4)
    for i, j in np.ndindex(2, 3):
        assert (y[i, j] == etude.pairwise_similarity(a[i, 0], b[j], kind)).all()
    dy = normal(*y.shape)
    da, db = etude.pairwise_similarity_backward(dy, a, b, kind)
    each = [
        [etude.pairwise_similarity_backward(dy[i, j], a[i, 0], b[j], kind) for j in range(3)]
        for i in range(2)
    ]
    for i in range(2):
        np.testing.assert_allclose(da[i, 0], sum(of[0] for of in each[i]), rtol=1e-12, atol=1e-12)
    for j in range(3):
        np.testing.assert_allclose(db[j], each[0][j][1] + each[1][j][1], rtol=1e-12, atol=1e-12)


def test_arrays_that_are_not_contiguous():
    z, labels = normal(20, 6), RNG.random(20)
    assert etude.contrastive_loss(z[::2, ::-1], labels[::2]) == etude.contrastive_loss(
        z[::2, ::-1].copy(), labels[::2].copy()
    )
    a = normal(4, 9)
    assert (etude.pairwise_similarity(a.T, a.T) == etude.pairwise_similarity(a.T.copy(), a.T.copy())).all()
    x, weight = normal(3, 20, 2), normal(3, 2, 4)
    y = etude.conv1d(x.transpose(0, 2, 1), weight)
    assert (y == etude.conv1d(x.transpose(0, 2, 1).copy(), weight)).all()


Z, L = normal(6, 3), np.arange(6.0)
X, W = normal(2, 4, 9), normal(6, 2, 3)
REFUSED = {
    "embeddings: no array": (TypeError, lambda: etude.contrastive_loss([[1.0]], L)),
    "embeddings: whole numbers": (TypeError, lambda: etude.contrastive_loss(np.ones((6, 3), int), L)),
    "embeddings: one dimension": (ValueError, lambda: etude.contrastive_loss(L, L)),
    "embeddings: no columns": (ValueError, lambda: etude.contrastive_loss(Z[:, :0], L)),
    "labels: of other rows": (ValueError, lambda: etude.contrastive_loss(Z, L[:5])),
    "labels: no array": (TypeError, lambda: etude.contrastive_loss(Z, [0, 1, 2, 3, 4, 5])),
    "labels: complex": (TypeError, lambda: etude.contrastive_loss(Z, L + 1j)),
    "weights: of other rows": (ValueError, lambda: etude.contrastive_loss(Z, L, L[:5])),
    "metric: unknown": (ValueError, lambda: etude.contrastive_loss(Z, L, metric="manhattan")),
    "margin: negative": (ValueError, lambda: etude.contrastive_loss(Z, L, margin=-1)),
    "tau: NaN": (ValueError, lambda: etude.contrastive_loss(Z, L, tau=float("nan"))),
    "other_labels: missing": (ValueError, lambda: etude.contrastive_loss(Z, L, others=Z)),
    "other_labels: alone": (ValueError, lambda: etude.contrastive_loss(Z, L, other_labels=L)),
    "other_weights: of other rows": (
        ValueError,
        lambda: etude.contrastive_loss(Z, L, others=Z, other_labels=L, other_weights=L[:2]),
    ),
    "others: other columns": (
        ValueError,
        lambda: etude.contrastive_loss(Z, L, others=Z[:, :2], other_labels=L),
    ),
    "others: of another type": (
        TypeError,
        lambda: etude.contrastive_loss(Z, L, others=Z.astype("f"), other_labels=L),
    ),
    "embeddings: a masked array": (TypeError, lambda: etude.contrastive_loss(np.ma.array(Z), L)),
    "embeddings: a number": (ValueError, lambda: etude.contrastive_loss(Z[0, 0, ...], L)),
    "labels: a table": (ValueError, lambda: etude.contrastive_loss(Z, L[:, None])),
    "margin: text": (TypeError, lambda: etude.contrastive_loss(Z, L, margin="0.5")),
    "margin: none": (TypeError, lambda: etude.contrastive_loss(Z, L, margin=None)),
    "margin: several": (TypeError, lambda: etude.contrastive_loss(Z, L, margin=L)),
    "tau: text": (TypeError, lambda: etude.contrastive_loss(Z, L, tau="0")),
    "metric: no text": (ValueError, lambda: etude.contrastive_loss(Z, L, metric=L)),
    "others: other columns, no rows": (
        ValueError,
        lambda: etude.contrastive_loss(Z, L, others=Z[:0, :2], other_labels=L[:0]),
    ),
    "ratings: beyond 1": (ValueError, lambda: etude.bins(L, 5)),
    "ratings: a table": (ValueError, lambda: etude.bins(Z, 5)),
    "ratings: a number": (ValueError, lambda: etude.bins(np.array(0.5), 5)),
    "ratings: NaN": (ValueError, lambda: etude.bins(L * np.nan, 5)),
    "ratings: text": (TypeError, lambda: etude.bins(np.array(["0.5"]), 5)),
    "k: one": (ValueError, lambda: etude.bins(L / 6, 1)),
    "k: a fraction": (TypeError, lambda: etude.bins(L / 6, 5.0)),
    "k: text": (TypeError, lambda: etude.bins(L / 6, "5")),
    "k: beyond all": (ValueError, lambda: etude.bins(L / 6, 10**30)),
    "kind: no text": (ValueError, lambda: etude.pairwise_similarity(Z, Z, Z)),
    "stride: beyond all": (ValueError, lambda: etude.conv1d(X, W, stride=2**70, groups=2)),
    "padding: unknown": (ValueError, lambda: etude.conv1d(X, W, padding="full")),
    "padding: with a stride": (ValueError, lambda: etude.conv1d(X, W, padding="same", stride=2)),
    "padding: of each axis": (TypeError, lambda: etude.conv2d(X[None], W[None], padding=("same", 1))),
    "weight: too long, no batch": (ValueError, lambda: etude.conv1d(X[:0], W, dilation=9, groups=2)),
    "dy: of another output, no batch": (ValueError, lambda: etude.conv1d_backward(X[:0], X[:0], W, groups=2)),
    "b: other columns, no rows": (ValueError, lambda: etude.pairwise_similarity(Z[:0], Z[:, :2])),
    "threads: text": (TypeError, lambda: etude.set_num_threads("2")),
    "threads: beyond all": (ValueError, lambda: etude.set_num_threads(2**64)),
    "b: other columns": (ValueError, lambda: etude.pairwise_similarity(Z, Z[:, :2])),
    "b: of another type": (TypeError, lambda: etude.pairwise_similarity(Z, Z.astype("f"))),
    "kind: unknown": (ValueError, lambda: etude.pairwise_similarity(Z, Z, "chebyshev")),
    "dy: another shape": (ValueError, lambda: etude.pairwise_similarity_backward(Z, Z, Z)),
    "x: one dimension": (ValueError, lambda: etude.conv1d(L, W)),
    "weight: two dimensions": (ValueError, lambda: etude.conv1d(X, Z)),
    "a: one dimension": (ValueError, lambda: etude.pairwise_similarity(L, Z)),
    "b: another batch": (ValueError, lambda: etude.pairwise_similarity(X, np.ones((3, 4, 9)))),
    "x: of half precision": (TypeError, lambda: etude.conv1d(X.astype("e"), W)),
    "weight: too long": (ValueError, lambda: etude.conv1d(X, W, dilation=9, groups=2)),
    "weight: other channels": (ValueError, lambda: etude.conv1d(X, W)),
    "weight: of another type": (TypeError, lambda: etude.conv1d(X, W.astype("f"))),
    "bias: another shape": (ValueError, lambda: etude.conv1d(X, W, L[:5], groups=2)),
    "groups: none": (ValueError, lambda: etude.conv1d(X, W, groups=0)),
    "stride: zero": (ValueError, lambda: etude.conv1d(X, W, stride=0, groups=2)),
    "stride: a fraction": (TypeError, lambda: etude.conv1d(X, W, stride=1.5)),
    "padding: negative": (ValueError, lambda: etude.conv1d(X, W, padding=-1)),
    "dilation: three for two": (ValueError, lambda: etude.conv2d(X[None], W[None], dilation=(1, 1, 1))),
    "dy: of another output": (ValueError, lambda: etude.conv1d_backward(X, X, W, groups=2)),
    "threads: negative": (ValueError, lambda: etude.set_num_threads(-1)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_name_the_argument(what):
    kind, call = REFUSED[what]
    with pytest.raises(kind) as raised:
        call()
    argument = what.split(":")[0]
    assert f" {argument}: " in str(raised.value), raised.value
    assert len(str(raised.value)) < 250  # nobody's array or text is printed whole


BAD = (np.nan, np.inf, -np.inf)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("others", [False, True])
def test_bad_labels_and_weights_are_refused(dtype, others):
    z = normal(4, 2, dtype=dtype)

    def loss(labels, weights=None):
        if others:
            given = {"others": z, "other_labels": labels, "other_weights": weights}
            return etude.contrastive_loss(z, np.arange(4), **given)
        return etude.contrastive_loss(z, labels, weights)

    fine, of = np.arange(4.0), "other_" if others else ""
    for bad in (*BAD, -1.0):
        with pytest.raises(ValueError, match=f"contrastive_loss: {of}labels: row 2 is "):
            loss(np.where(fine == 2, bad, fine))
        # Masked out, it may be anything.
        assert np.isfinite(loss(np.where(fine == 2, bad, fine), np.array([1, 1, 0, 1])))
    for bad in (*BAD, -1.0):
        with pytest.raises(ValueError, match=f"contrastive_loss: {of}weights: row 1 is "):
            loss(fine, np.where(fine == 1, bad, 1.0))
    # What the type of the embeddings does not hold is infinite there.
    if dtype == np.float32:
        with pytest.raises(ValueError, match="labels: row 3 is inf"):
            loss(np.array([0, 1, 2, 1e300]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_labels_beyond_the_mantissa_are_told_apart(dtype):
    z = normal(5, 2, dtype=dtype)
    small = np.array([0, 1, 3, 1, 2])
    exact = 2 ** (np.finfo(dtype).nmant + 1)
    want = etude.contrastive_loss(z, small)
    for kind, shift in ((np.int64, exact), (np.int64, -exact - 3), (np.int64, 2**62), (np.uint64, 2**63)):
        large = small.astype(kind) + kind(shift)
        assert etude.contrastive_loss(z, large) == want, (kind, shift)
        cross = etude.contrastive_loss(z, large, others=z, other_labels=large[:5] + kind(1))
        assert cross == etude.contrastive_loss(z, small, others=z, other_labels=small + 1)
    # 32-bit whole numbers too; in float64 they all fit.
    assert etude.contrastive_loss(z, (small + 2**30).astype(np.int32)) == want
    with pytest.raises(ValueError, match="labels: row 1 is .* cannot be told apart"):
        etude.contrastive_loss(z, small.astype(np.int64) * (exact + 1))
    with pytest.raises(ValueError, match="other_labels: row 0 is .* cannot be told apart"):
        etude.contrastive_loss(z, small / 2, others=z, other_labels=small.astype(np.int64) + exact + 1)


def elsewhere(array, how):
    """The same numbers, lying or stored in another way."""
    if how == "unaligned":
        return np.frombuffer(b"abc" + array.tobytes(), array.dtype, offset=3).reshape(array.shape)
    if how == "swapped":
        return array.astype(array.dtype.newbyteorder())
    if how == "backwards":
        return array[::-1].copy()[::-1]
    if how == "read-only":
        array = array.copy()
        array.flags.writeable = False
        return array
    return np.asfortranarray(array)


@pytest.mark.parametrize("how", ["unaligned", "swapped", "backwards", "read-only", "columns first"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_may_lie_anywhere(how, dtype):
    def same(function, *arrays, **options):
        moved = [elsewhere(a, how) for a in arrays]
        assert how != "unaligned" or not any(a.flags.aligned for a in moved)
        kept = [a.copy() for a in moved]
        got, want = function(*moved, **options), function(*arrays, **options)
        got, want = (v if isinstance(v, tuple) else (v,) for v in (got, want))
        assert all(np.array_equal(g, w) for g, w in zip(got, want, strict=True))
        assert all((a == b).all() for a, b in zip(moved, kept))

    make = lambda *shape: normal(*shape, dtype=dtype)  # noqa: E731
    z, labels, weights = make(6, 3), RNG.random(6).astype(dtype), RNG.random(6).astype(dtype)
    same(etude.contrastive_loss_and_grad, z, labels, weights)
    same(
        lambda z, of, o, of_o: etude.contrastive_loss_and_grad(z, of, others=o, other_labels=of_o),
        z, labels, make(6, 3), weights,
    )  # fmt: skip
    same(etude.pairwise_similarity, z, make(4, 3))
    same(etude.pairwise_similarity_backward, make(6, 4), z, make(4, 3))
    same(etude.conv1d, make(2, 3, 9), make(4, 3, 2), make(4))
    same(etude.conv1d_backward, make(2, 4, 8), make(2, 3, 9), make(4, 3, 2))
    same(etude.conv2d, make(2, 3, 9, 5), make(4, 3, 2, 2), make(4))
    same(lambda ratings: etude.bins(ratings, 5), weights)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty_batches(dtype):
    z, none = normal(4, 3, dtype=dtype), normal(0, 3, dtype=dtype)
    labels = np.arange(4)
    for kind in ("dot", "cosine", "squared_euclidean", "euclidean"):
        for a, b in ((none, z), (z, none), (none, none)):
            y = etude.pairwise_similarity(a, b, kind)
            assert y.shape == (len(a), len(b)) and y.dtype == dtype
            da, db = etude.pairwise_similarity_backward(y, a, b, kind)
            assert da.shape == a.shape and db.shape == b.shape and not da.any() and not db.any()
    for count in (0, 1):
        loss, gradient = etude.contrastive_loss_and_grad(z[:count], labels[:count])
        assert np.isnan(loss) and gradient.shape == (count, 3) and not gradient.any()
    loss, dz, do = etude.contrastive_loss_and_grad(z, labels, others=none, other_labels=labels[:0])
    assert np.isnan(loss) and dz.shape == (4, 3) and not dz.any() and do.shape == (0, 3)
    # One of each is a pair; one that is masked out counts nothing.
    assert np.isfinite(etude.contrastive_loss(z[:1], labels[:1], others=z[:1], other_labels=labels[:1]))
    assert etude.contrastive_loss(z, labels, np.zeros(4)) == 0
    assert etude.bins(np.empty(0), 5).shape == (0,)
    x, weight = normal(0, 4, 9, dtype=dtype), normal(6, 2, 3, dtype=dtype)
    y = etude.conv1d(x, weight, normal(6, dtype=dtype), stride=2, groups=2)
    assert y.shape == (0, 6, 4) and y.dtype == dtype
    dx, dw, db = etude.conv1d_backward(y, x, weight, stride=2, groups=2)
    assert dx.shape == x.shape and dw.shape == weight.shape and not dw.any() and not db.any()
    assert etude.conv2d(normal(0, 1, 5, 5), normal(2, 1, 3, 3)).shape == (0, 2, 3, 3)


@pytest.mark.parametrize("columns", [1024, 4096, 16384])
def test_long_rows_lose_no_more_than_by_numpy(columns):
    """Sums of f32 in blocks, as BLAS has them: three times its error at most, on whatever processor."""
    for of in (normal, lambda *shape, dtype: RNG.random(shape).astype(dtype)):
        a, b = of(48, columns, dtype=np.float32), of(48, columns, dtype=np.float32)
        exact = a.astype(float) @ b.astype(float).T
        norms = np.linalg.norm(a.astype(float), axis=1)[:, None] * np.linalg.norm(b.astype(float), axis=1)
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b)]
        for kind, want, theirs in (("dot", exact, a @ b.T), ("cosine", exact / norms, unit[0] @ unit[1].T)):
            rms = [
                np.sqrt(((got - want) ** 2).mean()) for got in (etude.pairwise_similarity(a, b, kind), theirs)
            ]
            assert rms[0] <= 3 * rms[1], (kind, rms)


def test_outputs_are_all_that_is_allocated():
    """NumPy's allocations are counted: results are, copies of inputs would be."""
    z, labels = normal(2048, 64, dtype=np.float32), RNG.random(2048).astype(np.float32)
    x, weight = normal(16, 8, 4096, dtype=np.float32), normal(1, 8, 5, dtype=np.float32)
    calls = {
        "contrastive_loss": (lambda: etude.contrastive_loss(z, labels), z.nbytes),
        "pairwise_similarity": (lambda: etude.pairwise_similarity(z, z[:8]), 4 * 2048 * 8),
        "conv1d": (lambda: etude.conv1d(x, weight), 4 * 16 * 4092),
    }
    for name, (call, expected) in calls.items():
        call()
        gc.collect()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < expected + 8192, f"{name}: {peak} bytes for outputs of {expected}"


def test_kernels_get_the_arrays_own_memory(monkeypatch):
    from etude import _device

    device, seen = _device.cpu(0, True), []

    class Recorder:
        def __getattr__(self, name):
            def call(*arguments):
                seen.extend(a for a in arguments if isinstance(a, tuple))
                return getattr(device, name)(*arguments)

            return call

    monkeypatch.setattr(_device, "cpu", lambda threads, double: Recorder())
    z, o, labels = normal(8, 3), normal(5, 3), np.arange(8.0)
    _, dz = etude.contrastive_loss_and_grad(z, labels)
    matrix = etude.pairwise_similarity(z, o)
    x, weight = normal(2, 3, 9), normal(4, 3, 2)
    y = etude.conv1d(x, weight)
    addresses = {a[0] for a in seen}
    for array in (z, labels, dz, o, matrix, x, weight, y):
        assert array.ctypes.data in addresses


def test_calls_from_many_threads():
    """The native library holds no lock of Python's while it computes."""
    z, labels, x, weight = normal(300, 8), RNG.random(300), normal(4, 3, 200), normal(5, 3, 7)

    def all_of_them(_=None):
        loss, gradient = etude.contrastive_loss_and_grad(z, labels)
        return loss, gradient, etude.pairwise_similarity(z, z[:40]), etude.conv1d(x, weight)

    want = all_of_them()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for got in pool.map(all_of_them, range(64)):
            assert all((g == w).all() for g, w in zip(map(np.asarray, got), map(np.asarray, want)))


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python")
def test_the_global_lock_stays_off():
    code = "import sys, etude\netude.bins\nassert not sys._is_gil_enabled()"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_threads():
    z, labels = normal(300, 8, dtype=np.float32), RNG.random(300)
    every = etude.get_num_threads()
    loss, gradient = etude.contrastive_loss_and_grad(z, labels)
    etude.set_num_threads(1)
    try:
        assert etude.get_num_threads() == 1
        one, of_one = etude.contrastive_loss_and_grad(z, labels)
    finally:
        etude.set_num_threads(0)
    assert etude.get_num_threads() == every
    assert one == loss and (gradient == of_one).all()


@pytest.mark.parametrize("threads", [100_000, 2**32 - 1])
def test_too_many_threads_are_clamped(threads):
    started = time.monotonic()
    etude.set_num_threads(threads)
    try:
        assert 1 <= etude.get_num_threads() <= max(64, 4 * os.cpu_count())
        assert time.monotonic() - started < 5
    finally:
        etude.set_num_threads(0)


def test_rayons_variable_starts_no_threads():
    code = (
        "import os, etude, numpy as np\nz, image = np.ones((600, 64)), np.ones((600, 1, 64))\n"
        "for threads in (1, 2):\n"
        "    etude.set_num_threads(threads); etude.contrastive_loss(z, np.arange(600))\n"
        "    etude.pairwise_similarity(z, z); etude.conv1d(image, image[:1, :, :5])\n"
        "print(len(os.listdir('/proc/self/task')) if os.path.isdir('/proc/self/task') else 0)"
    )
    environment = os.environ | {"RAYON_NUM_THREADS": "5000"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and int(done.stdout) < 500, done


def test_threads_of_many_numbers_are_not_all_kept():
    count = lambda: len(os.listdir("/proc/self/task"))  # noqa: E731
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("counts the threads that Linux lists")
    before = count()
    try:
        for threads in range(2, 60):
            etude.set_num_threads(threads)
    finally:
        etude.set_num_threads(0)
    deadline = time.monotonic() + 10
    while (more := count() - before) > 8 * 60 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert more <= 8 * 60  # of eight devices; all of them would be 1,711


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_workers_compute_too():
    """In a process of its own: a pool's workers must not hang, whatever the tests before have started."""
    code = (
        "import multiprocessing, numpy as np, etude\n"
        "z, labels = np.random.default_rng(0).standard_normal((300, 8)), np.arange(300.0)\n"
        "def loss(i): return etude.contrastive_loss(z, labels)\n"
        "etude.set_num_threads(4); want = loss(0)\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    assert pool.map(loss, range(6)) == [want] * 6\n"
        "assert loss(0) == want"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_too():
    z, labels = normal(300, 8, dtype=np.float32), RNG.random(300)
    etude.set_num_threads(2)
    try:
        want = etude.contrastive_loss(z, labels)
        child = os.fork()
        if child == 0:
            os._exit(0 if etude.contrastive_loss(z, labels) == want else 1)
        deadline = time.monotonic() + 30
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        if ended[0] == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert ended == (child, 0)
    finally:
        etude.set_num_threads(0)


def test_pytorch_is_not_imported():
    code = (
        "import sys, numpy, etude; one = numpy.ones((2, 2)); etude.pairwise_similarity(one, one)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
