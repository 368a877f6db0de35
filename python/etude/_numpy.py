"""The functions on NumPy arrays."""

from __future__ import annotations

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


def _array(op, argument, value, dtype=None, like=None):
    """`value` as a contiguous array of `dtype`: float32 or float64 where that is None."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{op}: {argument}: must be a NumPy array, is {type(value).__name__}")
    if dtype is None:
        if value.dtype not in (np.float32, np.float64):
            raise TypeError(f"{op}: {argument}: must be float32 or float64, is {value.dtype}")
    elif value.dtype != dtype:
        raise TypeError(f"{op}: {argument}: is {value.dtype}, but {like} is {dtype}")
    return np.ascontiguousarray(value)


def _numbers(op, argument, value, like):
    """`value`, a vector of real numbers of any type, in the type of `like`."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{op}: {argument}: must be a NumPy array, is {type(value).__name__}")
    if value.dtype.kind not in "fiub":
        raise TypeError(f"{op}: {argument}: must hold real numbers, is {value.dtype}")
    return np.ascontiguousarray(value, like.dtype)


def _for(array):
    return _device.cpu(_threads, array.dtype == np.float64)


def bins(ratings, k):
    return np.asarray(_native.bins(_numbers("bins", "ratings", ratings, np.empty(0)).tolist(), k), np.float32)


def contrastive_loss(*arguments):
    return _contrastive("contrastive_loss", *arguments)[0]


def contrastive_loss_and_grad(*arguments):
    return _contrastive("contrastive_loss_and_grad", *arguments)


def _contrastive(op, z, labels, weights, others, other_labels, other_weights, metric, margin, tau):
    metric = _checks.METRICS.index(_checks.one_of(op, "metric", metric, _checks.METRICS))
    z = _array(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))

    def side(names, rows, given):
        arrays = [None if v is None else _numbers(op, name, v, z) for name, v in zip(names, given)]
        for name, array in zip(names, arrays):
            if array is not None:
                _checks.rows(op, name, array.shape, rows)
        return [None if a is None else _memory(a) for a in arrays], arrays

    of_z, keep_z = side(("labels", "weights"), z.shape, (labels, weights))
    loss, dz = np.empty(1, z.dtype), np.empty(z.shape, z.dtype)
    if not _checks.others(op, others, other_labels, other_weights):
        _for(z).contrastive(z.shape, _memory(z), *of_z, metric, margin, tau, _memory(loss), _memory(dz))
        return float(loss[0]), dz
    others = _array(op, "others", others, z.dtype, "embeddings")
    _checks.dims(op, "others", others.shape, ("M", "D"))
    of_o, keep_o = side(("other_labels", "other_weights"), others.shape, (other_labels, other_weights))
    do = np.empty(others.shape, z.dtype)
    _for(z).contrastive_cross(
        z.shape,
        others.shape,
        _memory(z),
        *of_z,
        _memory(others),
        *of_o,
        metric,
        margin,
        tau,
        _memory(loss),
        _memory(dz),
        _memory(do),
    )
    return float(loss[0]), dz, do


def pairwise_similarity(a, b, kind):
    op = "pairwise_similarity"
    kind = _checks.SIMILARITIES.index(_checks.one_of(op, "kind", kind, _checks.SIMILARITIES))
    a = _array(op, "a", a)
    b = _array(op, "b", b, a.dtype, "a")
    _checks.dims(op, "a", a.shape, ("N", "D"))
    _checks.dims(op, "b", b.shape, ("M", "D"))
    y = np.empty((len(a), len(b)), a.dtype)
    _for(a).similarity(a.shape, b.shape, kind, _memory(a), _memory(b), _memory(y))
    return y


def pairwise_similarity_backward(dy, a, b, kind):
    op = "pairwise_similarity_backward"
    kind = _checks.SIMILARITIES.index(_checks.one_of(op, "kind", kind, _checks.SIMILARITIES))
    dy = _array(op, "dy", dy)
    a = _array(op, "a", a, dy.dtype, "dy")
    b = _array(op, "b", b, dy.dtype, "dy")
    _checks.dims(op, "a", a.shape, ("N", "D"))
    _checks.dims(op, "b", b.shape, ("M", "D"))
    _checks.shape(op, "dy", dy.shape, (len(a), len(b)))
    da, db = np.empty(a.shape, a.dtype), np.empty(b.shape, b.dtype)
    _for(a).similarity_backward(
        a.shape, b.shape, kind, _memory(a), _memory(b), _memory(dy), _memory(da), _memory(db)
    )
    return da, db


def conv(x, weight, bias, options):
    op, names = options.op, _checks.CONV[len(options.stride)]
    x = _array(op, "x", x)
    weight = _array(op, "weight", weight, x.dtype, "x")
    _checks.dims(op, "x", x.shape, names.x)
    _checks.dims(op, "weight", weight.shape, names.weight)
    if bias is not None:
        bias = _array(op, "bias", bias, x.dtype, "x")
        _checks.shape(op, "bias", bias.shape, weight.shape[:1])
    slide = _native.Conv(x.shape, weight.shape, *options[1:])
    y = np.empty(slide.output, x.dtype)
    memory_of_bias = None if bias is None else _memory(bias)
    _for(x).conv(slide, _memory(x), _memory(weight), memory_of_bias, _memory(y))
    return y


def conv_backward(dy, x, weight, options):
    op, names = options.op, _checks.CONV[len(options.stride)]
    dy = _array(op, "dy", dy)
    x = _array(op, "x", x, dy.dtype, "dy")
    weight = _array(op, "weight", weight, dy.dtype, "dy")
    _checks.dims(op, "x", x.shape, names.x)
    _checks.dims(op, "weight", weight.shape, names.weight)
    slide = _native.Conv(x.shape, weight.shape, *options[1:])
    _checks.shape(op, "dy", dy.shape, slide.output)
    dx, dw, db = (np.empty(shape, x.dtype) for shape in (x.shape, weight.shape, weight.shape[:1]))
    _for(x).conv_backward(
        slide, _memory(x), _memory(weight), _memory(dy), _memory(dx), _memory(dw), _memory(db)
    )
    return dx, dw, db
