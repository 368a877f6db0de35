"""The functions on PyTorch tensors: operators of `torch.library` with fake kernels, gradients and autocast.

Each operator takes the tensors' own memory. On the CPU it runs on `torch.get_num_threads()` threads; on a card its
launches are enqueued on PyTorch's current stream, in order with PyTorch's own. Under autocast floats are computed in
float32. Transforms of `torch.func` see them through `torch.autograd.Function`s; in forward mode they raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _checks, _device, _native

_ROWS = {
    torch.float32: _device.REAL,
    torch.float64: _device.REAL,
    torch.float16: _device.F16,
    torch.bfloat16: _device.BF16,
}
_DEVICES = ("cpu", "cuda")
_PLAIN = (Tensor, torch.nn.Parameter)


def _memory(tensor):
    return tensor.data_ptr(), _ROWS[tensor.dtype], tensor.numel()


def _memory_or_none(tensor):
    return None if tensor is None else _memory(tensor)


def _dense(tensor):
    """As kernels read it: contiguous, and aligned, which `torch.frombuffer` may not be; a copy where it is not."""
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def _for(tensor):
    """The device that works on `tensor`'s memory."""
    if tensor.is_cuda:
        stream = torch.cuda.current_stream(tensor.device)
        return _device.cuda(stream.device_index, stream.cuda_stream)
    return _device.cpu(torch.get_num_threads(), tensor.dtype == torch.float64)


def _real(dtype):
    """What is computed in, and what gradients are, where `dtype` is stored."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _tensor(op, argument, value, like=None):
    """Checks for a tensor on a device of ours; on that of `like` = (argument, tensor), if there is one."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {argument}: must be a PyTorch tensor, is {type(value).__name__}")
    if value.device.type not in _DEVICES:
        raise ValueError(f"{op}: {argument}: must be on the CPU or a CUDA device, is on {value.device}")
    if value.layout != torch.strided:
        raise TypeError(f"{op}: {argument}: must be a dense tensor, is {value.layout}")
    if like is not None and value.device != like[1].device:
        raise ValueError(f"{op}: {argument}: is on {value.device}, but {like[0]} is on {like[1].device}")


def _floats(op, argument, value, like=None, half=True):
    """As `_tensor`, of a type that kernels take."""
    _tensor(op, argument, value, like)
    dtype = value.dtype
    if dtype == torch.float32 and (like is None or like[1].dtype == dtype):
        return
    autocast = torch.is_autocast_enabled(value.device.type)
    if dtype not in _ROWS or (not half and dtype.itemsize == 2 and not autocast):
        takes = "float32 or float64" + (", float16 or bfloat16" if half else " (under autocast, 16 bits too)")
        raise TypeError(f"{op}: {argument}: must be {takes}, is {dtype}")
    if dtype == torch.float64 and value.device.type == "cuda":
        raise TypeError(f"{op}: {argument}: float64 is computed on the CPU only: convert it to float32")
    if like is not None and dtype != like[1].dtype and not autocast:
        raise TypeError(f"{op}: {argument}: is {dtype}, but {like[0]} is {like[1].dtype}")


def _numbers(op, argument, value, rows):
    """Checks for a vector of real numbers of any type, one for each of `rows`."""
    _tensor(op, argument, value, rows)
    if value.is_complex():
        raise TypeError(f"{op}: {argument}: must hold real numbers, is {value.dtype}")
    if value.requires_grad:
        raise ValueError(f"{op}: {argument}: requires a gradient, but the loss has none by it: detach it")
    _checks.rows(op, argument, value.shape, rows[1].shape)


def _registered(op):
    for device in _DEVICES:
        op.register_autocast(device, torch.float32)
    return op


def bins(ratings, k):
    _tensor("bins", "ratings", ratings)
    if not ratings.is_floating_point():
        raise TypeError(f"bins: ratings: must be floats, is {ratings.dtype}")
    _checks.dims("bins", "ratings", ratings.shape, ("N",))
    k = _checks.whole("bins", "k", k)
    return torch.tensor(
        _native.bins(ratings.double().tolist(), k), dtype=torch.float32, device=ratings.device
    )


# --------------------------------------------------------------------------------------------------
# Derivatives


def _differentiable(op, keep=None, backward=None):
    """Gives `op` its gradient, and gives back the call of it: `torch.func`'s transforms want the same as a
    `torch.autograd.Function`. An `op` without a gradient is one itself, and to differentiate it is an error."""
    name = op._opoverload._schema.name.replace("::", ".")

    def once(ctx, *upstream):
        raise RuntimeError(f"{name}: has no autograd formula: etude's functions are differentiated once")

    backward = backward or once
    op.register_autograd(backward, setup_context=keep)

    class Transformed(torch.autograd.Function):
        @staticmethod
        def forward(*arguments):
            return op(*arguments)

        @staticmethod
        def setup_context(ctx, inputs, output):
            if keep is not None:
                keep(ctx, inputs, output)

        @staticmethod
        def jvp(ctx, *tangents):
            raise NotImplementedError(f"{name}: {_FORWARD}")

        @staticmethod
        def vmap(info, in_dims, *arguments):
            def one(i):
                at = zip(arguments, in_dims)
                return call(*(a if not isinstance(a, Tensor) or d is None else a.select(d, i) for a, d in at))

            results = [one(i) for i in range(info.batch_size)]
            if isinstance(results[0], Tensor):
                return torch.stack(results), 0
            return tuple(map(torch.stack, zip(*results))), (0,) * len(results[0])

    Transformed.backward = staticmethod(backward)
    _refuse_tangents(op, name)

    body = op._init_fn

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *arguments):
            output = body(*arguments)
            if keep is not None:
                keep(ctx, arguments, output)
            return output

    Direct.backward = staticmethod(backward)

    def call(*arguments):
        if not _watched(arguments):
            tensors = (a for a in arguments if isinstance(a, Tensor))
            differentiated = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
            return (Direct.apply if differentiated else body)(*arguments)
        # torch.compile sees the operator alone.
        if torch.compiler.is_compiling() or not _transformed():
            return op(*arguments)
        return Transformed.apply(*arguments)

    return call


def _transformed():
    """Whether `torch.func` or forward mode is at work."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _is_plain(tensor):
    """Whether its memory, on the CPU, holds what it says: no negation put off, no zeros without memory, no subclass, no
    batch of those that `is_grads_batched` makes without a transform of `torch.func`."""
    return (
        type(tensor) in _PLAIN
        and tensor.is_cpu
        and not tensor.is_neg()
        and not tensor._is_zerotensor()
        and not torch._C._functorch.is_legacy_batchedtensor(tensor)
    )


def _watched(arguments):
    """Whether others than autograd are to see the operator: compilers, tracers, transforms, modes, autocast, tensors of
    other kinds; or a card, whose launches wait for nobody.

    Where not, the operator is left out: one of `torch.library` takes some fifty microseconds, and several times that
    between kernels that fill the caches with their data."""
    return (
        torch.compiler.is_compiling()
        or _transformed()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._get_tracing_state() is not None
        or torch.is_autocast_enabled("cpu")
        or not all(_is_plain(a) for a in arguments if isinstance(a, Tensor))
    )


_LIBRARY = torch.library.Library("etude", "IMPL")


def _refuse_tangents(op, name):
    """Raises where the operator itself is called in forward mode, as an exported model does: its result would have a
    tangent of zero."""
    after = torch._C._after_ADInplaceOrView_keyset

    def look(keyset, *arguments, **named):
        if forward_ad._current_level >= 0 and any(
            isinstance(a, Tensor) and _has_tangent(a) for a in arguments
        ):
            raise NotImplementedError(f"{name}: {_FORWARD}")
        return op._opoverload.redispatch(keyset & after, *arguments, **named)

    _LIBRARY.impl(name.removeprefix("etude."), look, "ADInplaceOrView", with_keyset=True)


def _has_tangent(tensor):
    functorch = torch._C._functorch
    if functorch.is_functorch_wrapped_tensor(tensor):  # whose tangent is not seen below autograd
        return functorch.peek_interpreter_stack().key() == functorch.TransformType.Jvp
    # Autograd is not active any more here; without it a fake tensor cannot be unpacked.
    active, inactive = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    with torch._C._ForceDispatchKeyGuard(active, inactive & torch._C._after_autograd_keyset):
        return forward_ad.unpack_dual(tensor).tangent is not None


_FORWARD = (
    "has no forward-mode derivative (torch.func.jvp, jacfwd, linearize, torch.autograd.forward_ad): "
    "use reverse mode (backward, torch.func.grad, vjp, jacrev)"
)


# --------------------------------------------------------------------------------------------------
# The loss: the forward operator gives the gradient too, the backward pass scales it.


def _pairs_of_all(
    embeddings: Tensor, labels: Tensor, weights: Optional[Tensor], metric: int, margin: float, tau: float
) -> tuple[Tensor, Tensor]:
    z, real = _dense(embeddings), _real(embeddings.dtype)
    sides = _in(real, [(labels, weights)])
    ((labels, weights),) = sides
    if not _checks.pairs([len(z)]):
        _look_at(sides)
        return z.new_full((), torch.nan, dtype=real), torch.zeros_like(z, dtype=real)
    loss, dz = z.new_empty((), dtype=real), torch.empty_like(z, dtype=real)
    try:
        _for(z).contrastive(
            tuple(z.shape), _memory(z), _memory(labels), _memory_or_none(weights),
            metric, margin, tau, _memory(loss), _memory(dz),
        )  # fmt: skip
    except ValueError:
        _look_at(sides)
        raise
    return loss, dz


_all = _registered(
    torch.library.custom_op("etude::contrastive", _pairs_of_all, mutates_args=(), device_types=_DEVICES)
)


@_all.register_fake
def _(embeddings, labels, weights, metric, margin, tau):
    real = _real(embeddings.dtype)
    return embeddings.new_empty((), dtype=real), embeddings.new_empty(embeddings.shape, dtype=real)


def _pairs_across(
    embeddings: Tensor,
    labels: Tensor,
    weights: Optional[Tensor],
    others: Tensor,
    other_labels: Tensor,
    other_weights: Optional[Tensor],
    metric: int,
    margin: float,
    tau: float,
) -> tuple[Tensor, Tensor, Tensor]:
    z, o, real = _dense(embeddings), _dense(others), _real(embeddings.dtype)
    sides = _in(real, [(labels, weights), (other_labels, other_weights)])
    (labels, weights), (other_labels, other_weights) = sides
    if not _checks.pairs([len(z), len(o)]):
        _look_at(sides)
        none = (torch.zeros_like(t, dtype=real) for t in (z, o))
        return z.new_full((), torch.nan, dtype=real), *none
    loss = z.new_empty((), dtype=real)
    dz, do = torch.empty_like(z, dtype=real), torch.empty_like(o, dtype=real)
    try:
        _for(z).contrastive_cross(
            tuple(z.shape), tuple(o.shape),
            _memory(z), _memory(labels), _memory_or_none(weights),
            _memory(o), _memory(other_labels), _memory_or_none(other_weights),
            metric, margin, tau, _memory(loss), _memory(dz), _memory(do),
        )  # fmt: skip
    except ValueError:
        _look_at(sides)
        raise
    return loss, dz, do


_cross = _registered(
    torch.library.custom_op("etude::contrastive_cross", _pairs_across, mutates_args=(), device_types=_DEVICES)
)


@_cross.register_fake
def _(embeddings, labels, weights, others, other_labels, other_weights, metric, margin, tau):
    real = _real(embeddings.dtype)
    of = lambda t: t.new_empty(t.shape, dtype=real)  # noqa: E731
    return embeddings.new_empty((), dtype=real), of(embeddings), of(others)


@torch.library.custom_op("etude::contrastive_backward", mutates_args=(), device_types=_DEVICES)
def _scaled(upstream: Tensor, gradient: Tensor, embeddings: Tensor) -> Tensor:
    """The kept gradient times what comes from above. It has no gradient itself: to differentiate the loss twice is an
    error, for which `embeddings` is an argument."""
    return _times(upstream, gradient, embeddings)


def _times(upstream, gradient, embeddings):
    product = gradient * upstream
    return product if product.dtype == embeddings.dtype else product.to(embeddings.dtype)


def _scale(upstream, gradient, embeddings):
    """An operator costs more than the product: it is for those alone who may differentiate again."""
    if upstream is None:
        return None
    return (_scale_operator if torch.is_grad_enabled() else _times)(upstream, gradient, embeddings)


@_scaled.register_fake
def _(upstream, gradient, embeddings):
    return torch.empty_like(gradient, dtype=embeddings.dtype)


_scale_operator = _differentiable(_scaled)


_SIDES = [("labels", "weights"), ("other_labels", "other_weights")]


def _in(real, sides):
    """Labels and weights of each side as kernels take them: a copy only of what has another type."""
    vector = lambda v: _dense(v if v.dtype == real else v.to(real))  # noqa: E731
    weights = [None if w is None else vector(w) for _, w in sides]
    labels = [of for of, _ in sides]
    whole = [not of.is_floating_point() and of.dtype.itemsize > 2 for of in labels]
    if labels[0].is_cuda:
        labels = _told_apart(real, labels) if any(whole) else labels
        return list(zip(map(vector, labels), weights))
    if any(whole):
        dtype = np.float64 if real == torch.float64 else np.float32
        given = [(of if is_whole else vector(of)).detach().numpy() for of, is_whole in zip(labels, whole)]
        of_sides = [n for n, _ in _SIDES]
        labels = map(torch.from_numpy, _checks.told_apart("contrastive_loss", of_sides, given, dtype))
    return list(zip(map(vector, labels), weights))


def _look_at(sides):
    """Raises for the first bad number, by the names of Python's arguments. Where there are pairs the native call looks
    first."""
    if sides[0][0].is_cuda:
        return
    for side, (of, w) in zip(_SIDES, sides):
        numbers = (None if v is None else v.detach().numpy() for v in (of, w))
        _checks.numbers("contrastive_loss", side, *numbers)


def _told_apart(real, labels):
    """As `_checks.told_apart`, without waiting for a card: what is not held exactly is NaN, and so is the loss."""
    whole = [not of.is_floating_point() for of in labels]
    together = all(whole) and all(len(of) for of in labels)
    labels = [of.long() if is_whole else of for of, is_whole in zip(labels, whole)]
    smallest = torch.stack([of.min() for of in labels]).min() if together else 0

    def converted(of):
        above = of - smallest
        floats = above.to(real)
        return torch.where(floats.long() == above, floats, torch.nan)

    return [converted(of) if is_whole else of for of, is_whole in zip(labels, whole)]


def _keep_all(ctx, inputs, output):
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # or zeros are made for the gradients
    ctx.save_for_backward(inputs[0], output[1])


def _all_backward(ctx, upstream, _):
    embeddings, gradient = ctx.saved_tensors
    return _scale(upstream, gradient, embeddings), None, None, None, None, None


_loss_of_all = _differentiable(_all, _keep_all, _all_backward)


def _keep_cross(ctx, inputs, output):
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or zeros are made for the gradients
    ctx.save_for_backward(inputs[0], inputs[3], *output[1:])


def _cross_backward(ctx, upstream, *_):
    embeddings, others, dz, do = ctx.saved_tensors
    dz = _scale(upstream, dz, embeddings) if ctx.needs_input_grad[0] else None
    do = _scale(upstream, do, others) if ctx.needs_input_grad[3] else None
    return dz, None, None, do, None, None, None, None, None


_loss_across = _differentiable(_cross, _keep_cross, _cross_backward)


class _Alone(torch.autograd.Function):
    """The loss where autograd alone looks on: what it keeps is nobody else's."""

    @staticmethod
    def forward(ctx, body, arguments, *embeddings):
        loss, *gradients = body(*arguments)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*embeddings, *gradients)
        return loss

    @staticmethod
    def backward(ctx, upstream):
        saved = ctx.saved_tensors
        sets = len(saved) // 2
        if upstream is None:
            return (None,) * (2 + sets)
        # Nobody asks again: the kept gradient itself is what is given away, without a copy.
        last = not (
            torch.is_grad_enabled()
            or torch._C._autograd._get_current_graph_task_keep_graph()
            or _watched((upstream, *saved))
        )

        def scaled(embeddings, gradient):
            if not (last and gradient.dtype == embeddings.dtype):
                return _scale(upstream, gradient, embeddings)
            return gradient if upstream.item() == 1 else gradient.mul_(upstream)

        needed = ctx.needs_input_grad[2:]
        return None, None, *(scaled(*of) if n else None for n, of in zip(needed, zip(saved, saved[sets:])))


def _loss(operator, body, arguments, *embeddings):
    """Loss and gradients, the latter where autograd does not keep them."""
    if _watched(arguments):
        return operator(*arguments)
    if torch.is_grad_enabled() and any(z.requires_grad for z in embeddings):
        return (_Alone.apply(body, arguments, *embeddings),)
    return body(*arguments)


def contrastive_loss(*arguments):
    return _contrastive("contrastive_loss", *arguments)[0]


def contrastive_loss_and_grad(*arguments):
    with torch.no_grad():
        return _contrastive("contrastive_loss_and_grad", *arguments)


def _contrastive(op, z, labels, weights, others, other_labels, other_weights, metric, margin, tau):
    metric = _checks.METRICS.index(_checks.one_of(op, "metric", metric, _checks.METRICS))
    _floats(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    _numbers(op, "labels", labels, ("embeddings", z))
    if weights is not None:
        _numbers(op, "weights", weights, ("embeddings", z))
    margin, tau = _checks.real(op, "margin", margin), _checks.real(op, "tau", tau)
    if not _checks.others(op, others, other_labels, other_weights):
        return _loss(_loss_of_all, _pairs_of_all, (z, labels, weights, metric, margin, tau), z)
    _floats(op, "others", others, ("embeddings", z))
    _checks.dims(op, "others", others.shape, ("M", "D"))
    _checks.columns(op, "others", others.shape, ("embeddings", z.shape))
    _numbers(op, "other_labels", other_labels, ("others", others))
    if other_weights is not None:
        _numbers(op, "other_weights", other_weights, ("others", others))
    sets = (z, labels, weights, others, other_labels, other_weights, metric, margin, tau)
    return _loss(_loss_across, _pairs_across, sets, z, others)


# --------------------------------------------------------------------------------------------------
# Similarity


@_registered
@torch.library.custom_op("etude::similarity", mutates_args=(), device_types=_DEVICES)
def _similarity(a: Tensor, b: Tensor, kind: int) -> Tensor:
    a, b = _dense(a), _dense(b)
    y = a.new_empty((a.shape[0], b.shape[0]), dtype=_real(a.dtype))
    if y.numel():
        _for(a).similarity(tuple(a.shape), tuple(b.shape), kind, _memory(a), _memory(b), _memory(y))
    return y


@_similarity.register_fake
def _(a, b, kind):
    return a.new_empty((a.shape[0], b.shape[0]), dtype=_real(a.dtype))


@torch.library.custom_op("etude::similarity_backward", mutates_args=(), device_types=_DEVICES)
def _similarity_backward(dy: Tensor, a: Tensor, b: Tensor, kind: int) -> tuple[Tensor, Tensor]:
    dy, a, b, real = _dense(dy), _dense(a), _dense(b), _real(a.dtype)
    if not dy.numel():
        return torch.zeros_like(a), torch.zeros_like(b)
    da, db = torch.empty_like(a, dtype=real), torch.empty_like(b, dtype=real)
    _for(a).similarity_backward(
        tuple(a.shape), tuple(b.shape), kind,
        _memory(a), _memory(b), _memory(dy), _memory(da), _memory(db),
    )  # fmt: skip
    return da.to(a.dtype), db.to(b.dtype)


@_similarity_backward.register_fake
def _(dy, a, b, kind):
    return a.new_empty(a.shape), b.new_empty(b.shape)


def _keep_matrices(ctx, inputs, output):
    a, b, ctx.kind = inputs
    ctx.save_for_backward(a, b)


def _matrices_backward(ctx, dy):
    return *_matrix_backward(dy, *ctx.saved_tensors, ctx.kind), None


_matrix_backward = _differentiable(_similarity_backward)
_matrix = _differentiable(_similarity, _keep_matrices, _matrices_backward)


def _matrices(op, a, b, kind, like=None):
    _floats(op, "a", a, like)
    _floats(op, "b", b, ("a", a))
    _checks.dims(op, "a", a.shape, ("N", "D"))
    _checks.dims(op, "b", b.shape, ("M", "D"))
    _checks.columns(op, "b", b.shape, ("a", a.shape))
    return _checks.SIMILARITIES.index(_checks.one_of(op, "kind", kind, _checks.SIMILARITIES))


def pairwise_similarity(a, b, kind):
    return _matrix(a, b, _matrices("pairwise_similarity", a, b, kind))


def pairwise_similarity_backward(dy, a, b, kind):
    op = "pairwise_similarity_backward"
    kind = _matrices(op, a, b, kind)
    _tensor(op, "dy", dy, ("a", a))
    if dy.dtype != _real(a.dtype):
        raise TypeError(f"{op}: dy: must be {_real(a.dtype)} for a of {a.dtype}, is {dy.dtype}")
    _checks.shape(op, "dy", dy.shape, (a.shape[0], b.shape[0]))
    return _matrix_backward(dy, a, b, kind)


# --------------------------------------------------------------------------------------------------
# Convolutions


def _output(x, weight, stride, padding, dilation):
    """The output's shape, of shapes that may be symbolic."""
    axes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return [x.shape[0], weight.shape[0], *((t + 2 * p - d * (k - 1) - 1) // s + 1 for t, k, s, p, d in axes)]


def _convolution(dims):
    """The operators of `dims` dimensions, forward and all three gradients, and the calls of both."""
    name = f"conv{dims}d"

    @_registered
    @torch.library.custom_op(f"etude::{name}", mutates_args=(), device_types=_DEVICES)
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Tensor:
        slide, output = _device.conv(x.shape, weight.shape, stride, padding, dilation, groups)
        x, weight = _dense(x), _dense(weight)
        bias = None if bias is None else _dense(bias)
        y = x.new_empty(output)
        if len(x):
            _for(x).conv(slide, _memory(x), _memory(weight), _memory_or_none(bias), _memory(y))
        return y

    @forward.register_fake
    def _(x, weight, bias, stride, padding, dilation, groups):
        return x.new_empty(_output(x, weight, stride, padding, dilation))

    @torch.library.custom_op(f"etude::{name}_backward", mutates_args=(), device_types=_DEVICES)
    def backward(
        dy: Tensor,
        x: Tensor,
        weight: Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        needed: Sequence[bool],
    ) -> tuple[Tensor, Tensor, Tensor]:
        slide, _ = _device.conv(x.shape, weight.shape, stride, padding, dilation, groups)
        dy, x, weight = _dense(dy), _dense(x), _dense(weight)
        gradients = _gradients(x, weight, needed)
        if not len(x):
            return tuple(t.zero_() for t in gradients)
        asked = [_memory(t) if need else None for t, need in zip(gradients, needed)]
        _for(x).conv_backward(slide, _memory(x), _memory(weight), _memory(dy), *asked)
        return gradients

    @backward.register_fake
    def _(dy, x, weight, stride, padding, dilation, groups, needed):
        return _gradients(x, weight, needed)

    def keep(ctx, inputs, output):
        x, weight, bias, *ctx.slide = inputs
        ctx.save_for_backward(x, weight)

    def gradient(ctx, dy):
        needed = list(ctx.needs_input_grad[:3])
        gradients = apply_backward(dy, *ctx.saved_tensors, *ctx.slide, needed)
        return *(t if need else None for t, need in zip(gradients, needed)), None, None, None, None

    apply_backward = _differentiable(backward)
    return (forward, backward), (_differentiable(forward, keep, gradient), apply_backward)


def _gradients(x, weight, needed):
    """By `x`, `weight` and the bias; of what is not needed nothing."""
    shapes = (x.shape, weight.shape, weight.shape[:1])
    return tuple(x.new_empty(shape if need else (0,)) for shape, need in zip(shapes, needed))


_CONV, _CALL_CONV = zip(_convolution(1), _convolution(2))
_CONV, _CALL_CONV = ({1: one, 2: two} for one, two in (_CONV, _CALL_CONV))


def _check_conv(op, names, x, weight, bias):
    _floats(op, "x", x, half=False)
    _floats(op, "weight", weight, ("x", x), half=False)
    _checks.dims(op, "x", x.shape, names.x)
    _checks.dims(op, "weight", weight.shape, names.weight)
    if bias is not None:
        _floats(op, "bias", bias, ("x", x), half=False)
        _checks.shape(op, "bias", bias.shape, weight.shape[:1])


def conv(x, weight, bias, options):
    op, *slide = options
    dims = len(options.stride)
    _check_conv(op, _checks.CONV[dims], x, weight, bias)
    return _CALL_CONV[dims][0](x, weight, bias, *slide)


def conv_backward(dy, x, weight, options):
    op, *slide = options
    dims = len(options.stride)
    _check_conv(op, _checks.CONV[dims], x, weight, None)
    _floats(op, "dy", dy, ("x", x), half=False)
    _checks.shape(op, "dy", dy.shape, _output(x, weight, *slide[:3]))
    return _CALL_CONV[dims][1](dy, x, weight, *slide, [True] * 3)
