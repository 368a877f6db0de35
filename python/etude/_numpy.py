"""The functions on NumPy arrays."""

from __future__ import annotations

import math

import numpy as np

from . import _checks, _device, _native

_threads = 0


def set_num_threads(threads):
    global _threads
    threads = _checks.whole("set_num_threads", "threads", threads)
    _device.cpu(threads, False)  # or says why not
    _threads = threads


def get_num_threads():
    return _device.cpu(_threads, False).threads


def _memory(array):
    return array.__array_interface__["data"][0], _device.REAL, array.size


def _is_array(op, argument, value):
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{op}: {argument}: must be a NumPy array, is {type(value).__name__}")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{op}: {argument}: is a masked array, whose mask no kernel sees: take its rows, or fill it"
        )


def _array(op, argument, value, dtype=None, like=None):
    """`value` as an array of `dtype` (float32 or float64 where that is None) that is contiguous, aligned and in the
    machine's byte order: a copy where it is not."""
    _is_array(op, argument, value)
    own = value.dtype.newbyteorder("=")
    if dtype is None:
        if own not in (np.float32, np.float64):
            raise TypeError(f"{op}: {argument}: must be float32 or float64, is {value.dtype}")
    elif own != dtype:
        raise TypeError(f"{op}: {argument}: is {value.dtype}, but {like} is {dtype}")
    return np.require(value, own, "CA")


def _numbers(op, argument, value):
    """Checks for an array of real numbers of any type."""
    _is_array(op, argument, value)
    if value.dtype.kind not in "fiub":
        raise TypeError(f"{op}: {argument}: must hold real numbers, is {value.dtype}")


def _for(array):
    return _device.cpu(_threads, array.dtype == np.float64)


def bins(ratings, k):
    _numbers("bins", "ratings", ratings)
    _checks.dims("bins", "ratings", ratings.shape, ("N",))
    return np.asarray(_native.bins(ratings.astype(float).tolist(), _checks.whole("bins", "k", k)), np.float32)


def contrastive_loss(*arguments):
    return _contrastive("contrastive_loss", *arguments)[0]


def contrastive_loss_and_grad(*arguments):
    return _contrastive("contrastive_loss_and_grad", *arguments)


def _contrastive(op, z, labels, weights, others, other_labels, other_weights, metric, margin, tau):
    metric = _checks.METRICS.index(_checks.one_of(op, "metric", metric, _checks.METRICS))
    margin, tau = _checks.real(op, "margin", margin), _checks.real(op, "tau", tau)
    z = _array(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    names, given = [("labels", "weights")], [(labels, weights)]
    rows, loss = [z], np.full(1, np.nan, z.dtype)
    if _checks.others(op, others, other_labels, other_weights):
        others = _array(op, "others", others, z.dtype, "embeddings")
        _checks.dims(op, "others", others.shape, ("M", "D"))
        _checks.columns(op, "others", others.shape, ("embeddings", z.shape))
        names.append(("other_labels", "other_weights"))
        given.append((other_labels, other_weights))
        rows.append(others)
    for sides, numbers, matrix in zip(names, given, rows):
        for argument, value in zip(sides, numbers):
            if value is not None or argument == sides[0]:
                _numbers(op, argument, value)
                _checks.rows(op, argument, value.shape, matrix.shape)
    vectors = _checks.told_apart(op, [n[0] for n in names], [g[0] for g in given], z.dtype)
    weighted = [None if w is None else _checks.vector(w, z.dtype) for _, w in given]
    for sides, of_labels, of_weights in zip(names, vectors, weighted):
        _checks.numbers(op, sides, of_labels, of_weights)
    gradients = [np.zeros(matrix.shape, z.dtype) for matrix in rows]
    if _checks.pairs([len(matrix) for matrix in rows]):
        sets = zip(rows, vectors, weighted)
        memory = [
            part
            for matrix, of_labels, of_weights in sets
            for part in (
                _memory(matrix),
                _memory(of_labels),
                None if of_weights is None else _memory(of_weights),
            )
        ]
        run = _for(z).contrastive if len(rows) == 1 else _for(z).contrastive_cross
        out = [_memory(loss), *map(_memory, gradients)]
        run(*(matrix.shape for matrix in rows), *memory, metric, margin, tau, *out)
    return float(loss[0]), *gradients


def rank_n_contrast_loss(*arguments):
    return _rank_n_contrast("rank_n_contrast_loss", False, *arguments)[0]


def rank_n_contrast_loss_and_grad(*arguments):
    return _rank_n_contrast("rank_n_contrast_loss_and_grad", True, *arguments)


def _rank_n_contrast(op, differentiate, z, labels, temperature):
    temperature = _checks.positive(op, "temperature", temperature)
    z = _array(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    _numbers(op, "labels", labels)
    _checks.rows(op, "labels", labels.shape, z.shape)
    (labels,) = _checks.told_apart(op, ["labels"], [labels], z.dtype)
    _checks.finite(op, "labels", labels)
    loss, gradient = np.full(1, np.nan, z.dtype), np.zeros(z.shape, z.dtype) if differentiate else None
    if _checks.pairs([len(z)]):
        out = _memory(loss), _memory(gradient) if differentiate else None
        _for(z).rank_n_contrast(z.shape, _memory(z), _memory(labels), temperature, *out)
    return float(loss[0]), gradient


def info_nce_loss(*arguments):
    return _info_nce("info_nce_loss", False, *arguments)[0]


def info_nce_loss_and_grad(*arguments):
    return _info_nce("info_nce_loss_and_grad", True, *arguments)


def _info_nce(op, differentiate, z, labels, others, other_labels, sigma, temperature):
    sigma, temperature = (
        _checks.positive(op, "sigma", sigma),
        _checks.positive(op, "temperature", temperature),
    )
    z = _array(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    sets = [("labels", labels, z)]
    if _checks.others(op, others, other_labels):
        others = _array(op, "others", others, z.dtype, "embeddings")
        _checks.dims(op, "others", others.shape, ("M", "D"))
        _checks.columns(op, "others", others.shape, ("embeddings", z.shape))
        sets.append(("other_labels", other_labels, others))
    for name, of, rows in sets:
        _numbers(op, name, of)
        _checks.rows(op, name, of.shape, rows.shape)
    names, vectors, rows = zip(*sets)
    vectors = _checks.told_apart(op, names, vectors, z.dtype)
    _checks.near(op, vectors, sigma)
    loss = np.full(1, np.nan, z.dtype)
    gradients = [np.zeros(of.shape, z.dtype) for of in rows] if differentiate else []
    if _checks.pairs([len(of) for of in rows]):
        given = [(len(of), _memory(of), _memory(labels)) for of, labels in zip(rows, vectors)]
        (_, *own), against = given[0], given[1] if len(given) == 2 else (0, None, None)
        out = [*map(_memory, gradients), None, None][:2]
        _for(z).info_nce(z.shape, *own, *against, sigma, temperature, _memory(loss), *out)
    return float(loss[0]), *gradients


def _in_one(batch, *matrices):
    """Batches of that shape, `[batch, rows, columns]` each, one matrix after another."""
    for m in matrices:
        yield np.require(np.broadcast_to(m, (*batch, *m.shape[-2:])), m.dtype, "CA").reshape(
            math.prod(batch), *m.shape[-2:]
        )


def _summed(gradient, batch, shape):
    """The gradient by what of `shape` was broadcast to the batch."""
    gradient = gradient.reshape(*batch, *gradient.shape[-2:])
    own = (*[1] * (gradient.ndim - len(shape)), *shape)
    over = tuple(i for i, (n, of) in enumerate(zip(gradient.shape, own)) if n != of)
    return gradient.sum(over).reshape(shape) if over else gradient.reshape(shape)


def pairwise_similarity(a, b, kind):
    op = "pairwise_similarity"
    kind = _checks.SIMILARITIES.index(_checks.one_of(op, "kind", kind, _checks.SIMILARITIES))
    a = _array(op, "a", a)
    b = _array(op, "b", b, a.dtype, "a")
    batch = _checks.matrices(op, a.shape, b.shape)
    y = np.empty((*batch, a.shape[-2], b.shape[-2]), a.dtype)
    if y.size:
        a, b = _in_one(batch, a, b)
        sizes = len(a), a.shape[1:], b.shape[1:]
        _for(a).similarity(*sizes, kind, _memory(a), _memory(b), _memory(y))
    return y


def pairwise_similarity_backward(dy, a, b, kind):
    op = "pairwise_similarity_backward"
    kind = _checks.SIMILARITIES.index(_checks.one_of(op, "kind", kind, _checks.SIMILARITIES))
    dy = _array(op, "dy", dy)
    a = _array(op, "a", a, dy.dtype, "dy")
    b = _array(op, "b", b, dy.dtype, "dy")
    batch, shapes = _checks.matrices(op, a.shape, b.shape), (a.shape, b.shape)
    _checks.shape(op, "dy", dy.shape, (*batch, a.shape[-2], b.shape[-2]))
    dy, a, b = _in_one(batch, dy, a, b)
    da, db = np.zeros(a.shape, a.dtype), np.zeros(b.shape, b.dtype)
    if dy.size:
        sizes = len(a), a.shape[1:], b.shape[1:]
        _for(a).similarity_backward(
            *sizes, kind, _memory(a), _memory(b), _memory(dy), _memory(da), _memory(db)
        )
    return _summed(da, batch, shapes[0]), _summed(db, batch, shapes[1])


def _slide(x, weight, options):
    """`x` as a batch, with the zeros that one end alone gets, how the kernel is told of the convolution,
    and the output's shape."""
    x = x if x.ndim == weight.ndim else x[None]
    padding, more = _checks.padding(options, weight.shape[2:])
    if any(more):
        x = np.pad(x, ((0, 0), (0, 0), *((0, n) for n in more)))
    slide, output = _device.conv(
        x.shape, weight.shape, options.stride, padding, options.dilation, options.groups
    )
    return x, slide, output


def conv(x, weight, bias, options):
    op = options.op
    x = _array(op, "x", x)
    weight = _array(op, "weight", weight, x.dtype, "x")
    batched = _checks.conv(options, x.shape, weight.shape)
    if bias is not None:
        bias = _array(op, "bias", bias, x.dtype, "x")
        _checks.shape(op, "bias", bias.shape, weight.shape[:1])
    x, slide, output = _slide(x, weight, options)
    y = np.empty(output, x.dtype)
    memory_of_bias = None if bias is None else _memory(bias)
    if len(x):
        _for(x).conv(slide, _memory(x), _memory(weight), memory_of_bias, _memory(y))
    return y if batched else y[0]


def conv_backward(dy, x, weight, options):
    op = options.op
    dy = _array(op, "dy", dy)
    x = _array(op, "x", x, dy.dtype, "dy")
    weight = _array(op, "weight", weight, dy.dtype, "dy")
    batched, shape = _checks.conv(options, x.shape, weight.shape), x.shape
    x, slide, output = _slide(x, weight, options)
    _checks.shape(op, "dy", dy.shape, output if batched else output[1:])
    dx, dw, db = (np.zeros(shape, x.dtype) for shape in (x.shape, weight.shape, weight.shape[:1]))
    if len(x):
        _for(x).conv_backward(
            slide, _memory(x), _memory(weight), _memory(dy), _memory(dx), _memory(dw), _memory(db)
        )
    dx = dx if batched else dx[0]
    return dx[tuple(map(slice, shape))], dw, db
