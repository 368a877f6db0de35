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


def _contrastive(
    op, z, labels, weights, others, other_labels, other_weights, metric, margin, tau,
    reduction, label_distance, pair_weights,
):  # fmt: skip
    metric = _checks.METRICS.index(_checks.one_of(op, "metric", metric, _checks.METRICS))
    _checks.one_of(op, "reduction", reduction, _checks.REDUCTIONS)
    margin, tau = _checks.real(op, "margin", margin), _checks.real(op, "tau", tau)
    z = _array(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    names, given, rows = [("labels", "weights")], [(labels, weights)], [z]
    if _checks.others(op, others, other_labels, other_weights):
        others = _array(op, "others", others, z.dtype, "embeddings")
        _checks.dims(op, "others", others.shape, ("M", "D"))
        _checks.columns(op, "others", others.shape, ("embeddings", z.shape))
        names.append(("other_labels", "other_weights"))
        given.append((other_labels, other_weights))
        rows.append(others)
    _checks.function_or_none(op, "label_distance", label_distance)
    for (of_labels, of_weights), (labels, weights), matrix in zip(names, given, rows):
        if label_distance is None:
            _numbers(op, of_labels, labels)
            _checks.rows(op, of_labels, labels.shape, matrix.shape)
        else:
            _is_array(op, of_labels, labels)
            _checks.first(op, of_labels, labels.shape, matrix.shape)
        if weights is not None:
            _numbers(op, of_weights, weights)
            _checks.rows(op, of_weights, weights.shape, matrix.shape)
    vectors = [labels for labels, _ in given]
    if label_distance is None:
        vectors = _checks.told_apart(op, [n[0] for n in names], vectors, z.dtype)
    weighted = [None if w is None else _checks.vector(w, z.dtype) for _, w in given]
    for sides, of_labels, of_weights in zip(names, vectors, weighted):
        _checks.numbers(op, sides, None if label_distance else of_labels, of_weights)
    sets = list(zip(rows, vectors, weighted))
    if reduction == "none" or label_distance or pair_weights is not None:
        if pair_weights is not None and not callable(pair_weights):
            _is_array(op, "pair_weights", pair_weights)
            _checks.shape(op, "pair_weights", pair_weights.shape, [len(rows[0]), len(rows[-1])])
        differentiate = op == "contrastive_loss_and_grad"
        return _by_blocks(
            op, differentiate, sets, metric, margin, tau, reduction, label_distance, pair_weights
        )
    loss, gradients = np.full(1, np.nan, z.dtype), [np.zeros(matrix.shape, z.dtype) for matrix in rows]
    if _checks.pairs([len(matrix) for matrix in rows]):
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


def _by_blocks(op, differentiate, sets, metric, margin, tau, reduction, label_distance, pair_weights):
    """A block of rows at a time, of pairs that are there one by one; `sets` are rows with labels and weights."""
    own = len(sets) == 1
    sets = [(rows, of, None if w is None else w / (w.max(initial=0) or 1)) for rows, of, w in sets]
    # A masked row may hold anything.
    sets = [(rows if w is None else np.where(w[:, None] > 0, rows, 0), of, w) for rows, of, w in sets]
    (z, labels, weights), (others, other_labels, other_weights) = sets[0], sets[-1]
    real, m, device = z.dtype, len(others), _for(z)
    kind = _checks.SIMILARITIES.index(_checks.METRICS[metric])

    def pairs_of(at, n):
        """How far labels are apart, and what pairs count."""
        if label_distance is None:
            apart = np.abs(labels[at, None] - other_labels)
        else:
            apart = _given(op, "label_distance", label_distance(labels[at], other_labels), (n, m), real)
        counts = [] if weights is None else [weights[at, None]]
        counts += [] if other_weights is None else [other_weights]
        if pair_weights is not None:
            given = (
                pair_weights(np.arange(at.start, at.start + n), np.arange(m))
                if callable(pair_weights)
                else pair_weights[at]
            )
            counts.append(_given(op, "pair_weights", given, (n, m), real))
        if not counts:
            return apart, None
        return apart, np.require(np.broadcast_to(math.prod(counts), (n, m)), real, "CA")

    sums, totals = np.zeros(len(z), real), np.zeros(len(z), real)
    gradients = [np.zeros(rows.shape, real) for rows, _, _ in sets] if differentiate else []
    there = _checks.pairs([len(rows) for rows, _, _ in sets])
    at_once = _checks.rows_at_once(m)
    for first in range(0, len(z) if there else 0, at_once):
        at = slice(first, first + at_once)
        rows = z[at]
        apart, counts = pairs_of(at, len(rows))
        s = np.empty_like(apart)
        two = 1, rows.shape, others.shape, kind, _memory(rows), _memory(others)
        device.similarity(*two, _memory(s))
        of_pairs = (
            *(s.shape, first if own else None, metric, margin, tau),
            *(_memory(s), _memory(apart), None if counts is None else _memory(counts)),
        )
        device.pair_loss(*of_pairs, _memory(sums[at]), _memory(totals[at]))
        if np.isnan(sums[at]).any():
            _checks.of_pairs(op, first, own, apart, counts)
        if differentiate:
            slopes, parts = np.empty_like(s), (np.empty_like(rows), np.empty_like(others))
            device.pair_loss_backward(*of_pairs, _memory(np.ones(len(rows), real)), _memory(slopes))
            device.similarity_backward(*two, _memory(slopes), *map(_memory, parts))
            gradients[0][at] += parts[0]
            gradients[-1] += parts[1]
    if reduction == "mean":
        sums, totals = sums.sum(dtype=np.float64), totals.sum(dtype=np.float64)
    share = np.where(totals > 0, 1 / np.where(totals > 0, totals, 1), 1)
    loss = (sums * share).astype(real) if there else np.full_like(sums, np.nan, real)
    return loss if reduction == "none" else float(loss), *((g * share).astype(real) for g in gradients)


def _given(op, argument, value, shape, real):
    """A matrix that the caller's function gives, or part of one that the caller gives, as kernels take it."""
    _numbers(op, argument, value)
    _checks.shape(op, argument, value.shape, shape)
    return np.require(value, real, "CA")


def rank_n_contrast_loss(*arguments):
    return _rank_n_contrast("rank_n_contrast_loss", False, *arguments)[0]


def rank_n_contrast_loss_and_grad(*arguments):
    return _rank_n_contrast("rank_n_contrast_loss_and_grad", True, *arguments, "mean")


def _rank_n_contrast(op, differentiate, z, labels, temperature, reduction):
    temperature = _checks.positive(op, "temperature", temperature)
    _checks.one_of(op, "reduction", reduction, _checks.REDUCTIONS)
    z = _array(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    _numbers(op, "labels", labels)
    _checks.rows(op, "labels", labels.shape, z.shape)
    (labels,) = _checks.told_apart(op, ["labels"], [labels], z.dtype)
    _checks.finite(op, "labels", labels)
    if reduction == "none":
        losses = np.full(len(z), np.nan, z.dtype)
        if _checks.pairs([len(z)]):
            given = _memory(z), _memory(labels), temperature
            _for(z).rank_n_contrast_rows(z.shape, *given, _memory(losses), None)
        return (losses,)
    loss, gradient = np.full(1, np.nan, z.dtype), np.zeros(z.shape, z.dtype) if differentiate else None
    if _checks.pairs([len(z)]):
        out = _memory(loss), _memory(gradient) if differentiate else None
        _for(z).rank_n_contrast(z.shape, _memory(z), _memory(labels), temperature, *out)
    return float(loss[0]), gradient


def info_nce_loss(*arguments):
    return _info_nce("info_nce_loss", False, *arguments)[0]


def info_nce_loss_and_grad(*arguments):
    return _info_nce("info_nce_loss_and_grad", True, *arguments, "mean")


def _info_nce(op, differentiate, z, labels, others, other_labels, sigma, temperature, reduction):
    sigma, temperature = (
        _checks.positive(op, "sigma", sigma),
        _checks.positive(op, "temperature", temperature),
    )
    _checks.one_of(op, "reduction", reduction, _checks.REDUCTIONS)
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
    loss = np.full(1 if reduction == "mean" else len(z), np.nan, z.dtype)
    gradients = [np.zeros(of.shape, z.dtype) for of in rows] if differentiate else []
    if _checks.pairs([len(of) for of in rows]):
        given = [(len(of), _memory(of), _memory(labels)) for of, labels in zip(rows, vectors)]
        (_, *own), against = given[0], given[1] if len(given) == 2 else (0, None, None)
        given = (z.shape, *own, *against, sigma, temperature, _memory(loss))
        if reduction == "none":
            _for(z).info_nce_rows(*given, None, None)
        else:
            _for(z).info_nce(*given, *[*map(_memory, gradients), None, None][:2])
    return loss if reduction == "none" else float(loss[0]), *gradients


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
