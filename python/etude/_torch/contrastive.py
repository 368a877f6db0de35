"""The loss: the forward operator gives the gradient too, the backward pass scales it."""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
from torch import Tensor

from .. import _checks, _native
from .operators import differentiable, registered, watched
from .tensors import (
    DEVICES,
    check_floats,
    check_numbers,
    check_tensor,
    dense,
    device_for,
    memory,
    memory_or_none,
    real_of,
)


def bins(ratings, k):
    check_tensor("bins", "ratings", ratings)
    if not ratings.is_floating_point():
        raise TypeError(f"bins: ratings: must be floats, is {ratings.dtype}")
    _checks.dims("bins", "ratings", ratings.shape, ("N",))
    k = _checks.whole("bins", "k", k)
    return torch.tensor(
        _native.bins(ratings.double().tolist(), k), dtype=torch.float32, device=ratings.device
    )


def _pairs_of_all(
    embeddings: Tensor, labels: Tensor, weights: Optional[Tensor], metric: int, margin: float, tau: float
) -> tuple[Tensor, Tensor]:
    z, real = dense(embeddings), real_of(embeddings.dtype)
    sides = _in(real, [(labels, weights)])
    ((labels, weights),) = sides
    if not _checks.pairs([len(z)]):
        _look_at(sides)
        return z.new_full((), torch.nan, dtype=real), torch.zeros_like(z, dtype=real)
    loss, dz = z.new_empty((), dtype=real), torch.empty_like(z, dtype=real)
    try:
        device_for(z).contrastive(
            tuple(z.shape), memory(z), memory(labels), memory_or_none(weights),
            metric, margin, tau, memory(loss), memory(dz),
        )  # fmt: skip
    except ValueError:
        _look_at(sides)
        raise
    return loss, dz


_all = registered(
    torch.library.custom_op("etude::contrastive", _pairs_of_all, mutates_args=(), device_types=DEVICES)
)


@_all.register_fake
def _(embeddings, labels, weights, metric, margin, tau):
    real = real_of(embeddings.dtype)
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
    z, o, real = dense(embeddings), dense(others), real_of(embeddings.dtype)
    sides = _in(real, [(labels, weights), (other_labels, other_weights)])
    (labels, weights), (other_labels, other_weights) = sides
    if not _checks.pairs([len(z), len(o)]):
        _look_at(sides)
        none = (torch.zeros_like(t, dtype=real) for t in (z, o))
        return z.new_full((), torch.nan, dtype=real), *none
    loss = z.new_empty((), dtype=real)
    dz, do = torch.empty_like(z, dtype=real), torch.empty_like(o, dtype=real)
    try:
        device_for(z).contrastive_cross(
            tuple(z.shape), tuple(o.shape),
            memory(z), memory(labels), memory_or_none(weights),
            memory(o), memory(other_labels), memory_or_none(other_weights),
            metric, margin, tau, memory(loss), memory(dz), memory(do),
        )  # fmt: skip
    except ValueError:
        _look_at(sides)
        raise
    return loss, dz, do


_cross = registered(
    torch.library.custom_op("etude::contrastive_cross", _pairs_across, mutates_args=(), device_types=DEVICES)
)


@_cross.register_fake
def _(embeddings, labels, weights, others, other_labels, other_weights, metric, margin, tau):
    real = real_of(embeddings.dtype)
    of = lambda t: t.new_empty(t.shape, dtype=real)  # noqa: E731
    return embeddings.new_empty((), dtype=real), of(embeddings), of(others)


@torch.library.custom_op("etude::contrastive_backward", mutates_args=(), device_types=DEVICES)
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


_scale_operator = differentiable(_scaled)


_SIDES = [("labels", "weights"), ("other_labels", "other_weights")]


def _in(real, sides):
    """Labels and weights of each side as kernels take them: a copy only of what has another type."""
    vector = lambda v: dense(v if v.dtype == real else v.to(real))  # noqa: E731
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


_loss_of_all = differentiable(_all, _keep_all, _all_backward)


def _keep_cross(ctx, inputs, output):
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or zeros are made for the gradients
    ctx.save_for_backward(inputs[0], inputs[3], *output[1:])


def _cross_backward(ctx, upstream, *_):
    embeddings, others, dz, do = ctx.saved_tensors
    dz = _scale(upstream, dz, embeddings) if ctx.needs_input_grad[0] else None
    do = _scale(upstream, do, others) if ctx.needs_input_grad[3] else None
    return dz, None, None, do, None, None, None, None, None


_loss_across = differentiable(_cross, _keep_cross, _cross_backward)


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
            or watched((upstream, *saved))
        )

        def scaled(embeddings, gradient):
            if not (last and gradient.dtype == embeddings.dtype):
                return _scale(upstream, gradient, embeddings)
            return gradient if upstream.item() == 1 else gradient.mul_(upstream)

        needed = ctx.needs_input_grad[2:]
        return None, None, *(scaled(*of) if n else None for n, of in zip(needed, zip(saved, saved[sets:])))


def _loss(operator, body, arguments, *embeddings):
    """Loss and gradients, the latter where autograd does not keep them."""
    if watched(arguments):
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
    check_floats(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    check_numbers(op, "labels", labels, ("embeddings", z))
    if weights is not None:
        check_numbers(op, "weights", weights, ("embeddings", z))
    margin, tau = _checks.real(op, "margin", margin), _checks.real(op, "tau", tau)
    if not _checks.others(op, others, other_labels, other_weights):
        return _loss(_loss_of_all, _pairs_of_all, (z, labels, weights, metric, margin, tau), z)
    check_floats(op, "others", others, ("embeddings", z))
    _checks.dims(op, "others", others.shape, ("M", "D"))
    _checks.columns(op, "others", others.shape, ("embeddings", z.shape))
    check_numbers(op, "other_labels", other_labels, ("others", others))
    if other_weights is not None:
        check_numbers(op, "other_weights", other_weights, ("others", others))
    sets = (z, labels, weights, others, other_labels, other_weights, metric, margin, tau)
    return _loss(_loss_across, _pairs_across, sets, z, others)
