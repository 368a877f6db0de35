"""The loss: the forward operator gives the gradient too, the backward pass scales it."""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
from torch import Tensor

from .. import _checks, _native
from . import pairs
from .operators import differentiable, is_last, registered, total, watched
from .rows import bent, unit
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
    if not _checks.pairs(z.shape[:1]):
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
    if not _checks.pairs((z.shape[0], o.shape[0])):
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


_SIDES = [("labels", "weights"), ("other_labels", "other_weights")]


def _in(real, sides):
    """Labels and weights of each side as kernels take them: a copy only of what has another type."""
    labels = labels_in(real, [of for of, _ in sides], "contrastive_loss")
    return [(_vector(of, real), None if w is None else _vector(w, real)) for of, (_, w) in zip(labels, sides)]


def labels_in(real, labels, op):
    """Labels of each side in the type `real`, whole numbers told apart as in `_checks.told_apart`."""
    if any(of.dtype != real and _is_wide(of) for of in labels):
        return _told_apart(real, labels, op)
    return labels


def _for_pairs(op, sets, numbers):
    """Labels and weights of each set of rows, in PyTorch's own operations where others look on; labels only where they
    are `numbers`."""
    (z, *_), *_ = sets
    real, labels = real_of(z.dtype), [of for _, of, _ in sets]
    alone = not watched([t for of_set in sets for t in of_set])
    if numbers:
        if alone:
            labels = labels_in(real, labels, op)
        elif any(map(_is_wide, labels)):
            labels = _told_apart_on_card(real, labels)
        labels = [of.to(real) for of in labels]
    sides = [(of, None if w is None else w.to(real)) for of, (_, _, w) in zip(labels, sets)]
    if alone:
        _look_at([(of if numbers else None, w) for of, w in sides], op)
    return sides


def _vector(values, real):
    return dense(values if values.dtype == real else values.to(real))


def _is_wide(labels):
    """Whether they may be whole numbers that floats don't hold."""
    return not labels.is_floating_point() and labels.dtype.itemsize > 2


def _look_at(sides, op="contrastive_loss"):
    """Raises for the first bad number, by the names of Python's arguments. Where there are pairs the native call looks
    first."""
    for side, (of, w) in zip(_SIDES, sides):
        if not any(v is not None and v.is_cuda for v in (of, w)):
            numbers = (None if v is None else v.detach().numpy() for v in (of, w))
            _checks.numbers(op, side, *numbers)


def _told_apart(real, labels, op):
    if labels[0].is_cuda:
        return _told_apart_on_card(real, labels)
    dtype = np.float64 if real == torch.float64 else np.float32
    given = [(of if _is_wide(of) else _vector(of, real)).detach().numpy() for of in labels]
    of_sides = [n for n, _ in _SIDES]
    return list(map(torch.from_numpy, _checks.told_apart(op, of_sides, given, dtype)))


def _told_apart_on_card(real, labels):
    """Without waiting for it: what is not held exactly is NaN, and so is the loss."""
    whole = [not of.is_floating_point() for of in labels]
    together = all(whole) and all(of.shape[0] for of in labels)
    labels = [of.long() if is_whole else of for of, is_whole in zip(labels, whole)]
    smallest = torch.stack([of.min() for of in labels]).min() if together else 0

    def converted(of):
        above = of - smallest
        floats = above.to(real)
        return torch.where(floats.long() == above, floats, torch.nan)

    return [converted(of) if is_whole else of for of, is_whole in zip(labels, whole)]


@torch.library.custom_op("etude::contrastive_hvp", mutates_args=(), device_types=DEVICES)
def _second(
    embeddings: Tensor,
    labels: Tensor,
    weights: Optional[Tensor],
    others: Optional[Tensor],
    other_labels: Optional[Tensor],
    other_weights: Optional[Tensor],
    along: Tensor,
    others_along: Optional[Tensor],
    both: bool,
    metric: int,
    margin: float,
    tau: float,
) -> tuple[Tensor, Tensor]:
    """The loss's Hessian by the embeddings, and the others where there are any, times how these move: the embeddings'
    rows of it, and with `both` the others'."""
    real = real_of(embeddings.dtype)
    sets = 1 if others is None else 2
    moving = [(embeddings, along), (others, others_along)][:sets]
    none = embeddings.new_empty((0,), dtype=real)
    if not _checks.pairs([len(z) for z, _ in moving]):
        still = [torch.zeros_like(z, dtype=real) for z, _ in moving]
        return still[0], still[1] if both else none
    sides = _in(real, [(labels, weights), (other_labels, other_weights)][:sets])
    sides = [(of, None if w is None else _over_largest(w)) for of, w in sides]
    moving = [(z.to(real), v.to(real)) for z, v in moving]
    cosine = _checks.METRICS[metric] == "cosine"
    units = [unit(*of) if cosine else (of[0], None, of[1]) for of in moving]
    # Rows, and how they move.
    duals = [torch.stack((u, du)) for u, _, du in units]
    share = _share([(len(z), w) for (z, _), (_, w) in zip(moving, sides)])
    found = []
    for i, (own, (of, w)) in enumerate(zip(duals, sides[: 1 + both])):
        pairs = 0, None, None, None
        if others is not None:
            dual, (of_others, w_others) = duals[1 - i], sides[1 - i]
            pairs = dual.shape[1], memory(dual), memory(of_others), memory_or_none(w_others)
        sums = torch.empty_like(own)
        device_for(own).contrastive_hvp(
            tuple(own.shape[1:]), memory(own), memory(of), memory_or_none(w),
            *pairs, metric, margin, tau, memory(sums),
        )  # fmt: skip
        g, moved = sums
        if cosine:
            moved = bent(units[i], g, moved, moving[i][1])
            # A masked row may hold anything.
            moved = moved if w is None else torch.where(w[:, None] == 0, 0, moved)
        found.append(share * moved)
    return found[0], found[1] if both else none


def _over_largest(weights):
    """Weights of which only the ratios count, so that their products fit."""
    largest = weights.max()
    return weights / torch.where(largest > 0, largest, 1)


def weight_of_pairs(sides):
    """The weights of all pairs together, of `(rows, weights or None)` of one set or two: a number, or float64."""
    counts = [n if w is None else w.double().sum() for n, w in sides]
    if len(sides) == 2:
        return counts[0] * counts[1]
    if sides[0][1] is None:
        return counts[0] * (counts[0] - 1) / 2
    # Products with those before: no difference of squares, and 0 where one sample alone counts.
    w = sides[0][1].double()
    return (w[1:] * w.cumsum(0)[:-1]).sum()


def _share(sides):
    """One over the weights of all pairs; 0 where none counts."""
    pairs = weight_of_pairs(sides)
    return torch.where(pairs > 0, 1 / pairs, 0) if isinstance(pairs, Tensor) else 1 / pairs


@_second.register_fake
def _(
    z, labels, weights, others, other_labels, other_weights, along, others_along, both, metric, margin, tau
):
    real = real_of(z.dtype)
    return z.new_empty(z.shape, dtype=real), z.new_empty(others.shape if both else (0,), dtype=real)


def _keep_for_third(ctx, inputs, output):
    *samples, along, others_along, ctx.both, metric, margin, tau = inputs
    ctx.options = metric, margin, tau
    ctx.dtypes = along.dtype, None if others_along is None else others_along.dtype
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*samples)


def _second_backward(ctx, *upstream):
    """By how the rows move, in which it is linear, and symmetric; `_Twice` stands before the rows."""
    of_z, of_others = upstream
    moved = _moved(ctx.saved_tensors, of_z, of_others if ctx.both else None, ctx.options)
    by_along = tuple(
        None if t is None else t.to(dtype) for t, dtype in zip(moved, ctx.dtypes) if dtype is not None
    )
    return *(None,) * 6, *(*by_along, None)[:2], *(None,) * 4


class _Twice(torch.autograd.Function):
    """Rows that a third derivative would go through. Which gradients are asked for only the engine knows, so that the
    product with the Hessian cannot refuse those by its rows itself."""

    generate_vmap_rule = True
    _refusal = "etude.contrastive_hvp: has no autograd formula: the loss is differentiated twice at most"

    @staticmethod
    def forward(rows):
        return rows.view_as(rows)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, _):
        raise RuntimeError(_Twice._refusal)

    @staticmethod
    def jvp(ctx, _):
        raise NotImplementedError(_Twice._refusal)


_hessian = differentiable(_second, _keep_for_third, _second_backward)


@torch.library.custom_op("etude::contrastive_gradient", mutates_args=(), device_types=DEVICES)
def _kept(
    embeddings: Tensor,
    labels: Tensor,
    weights: Optional[Tensor],
    others: Optional[Tensor],
    other_labels: Optional[Tensor],
    other_weights: Optional[Tensor],
    dz: Tensor,
    do: Optional[Tensor],
    metric: int,
    margin: float,
    tau: float,
) -> tuple[Tensor, Tensor]:
    """The gradients that the loss has kept, for those who differentiate them: as functions of the embeddings."""
    return dz.clone(), dz.new_empty((0,)) if do is None else do.clone()


@_kept.register_fake
def _(embeddings, labels, weights, others, other_labels, other_weights, dz, do, metric, margin, tau):
    return torch.empty_like(dz), dz.new_empty((0,)) if do is None else torch.empty_like(do)


def _keep_samples(ctx, inputs, output):
    *samples, _, _, metric, margin, tau = inputs
    ctx.options = metric, margin, tau
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*samples)


def _moved(samples, along, others_along, options, others_too=True):
    """How the gradients move along these, that by the others where it is asked for; None where nothing does."""
    z, _, _, others, _, _ = samples
    others_along = None if others is None else others_along
    if along is None and others_along is None:
        return None, None
    along = torch.zeros_like(z) if along is None else along
    others_along = torch.zeros_like(others) if others is not None and others_along is None else others_along
    if torch.is_grad_enabled():
        samples = [_Twice.apply(t) if i in (0, 3) and t is not None else t for i, t in enumerate(samples)]
    return _hessian(*samples, along, others_along, others_too and others is not None, *options)


def _kept_backward(ctx, *along):
    z, _, _, others, _, _ = samples = ctx.saved_tensors
    by_z, by_others = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
    dz, do = _moved(samples, *along, ctx.options, by_others)
    dz = dz.to(z.dtype) if by_z and dz is not None else None
    do = do.to(others.dtype) if by_others and do is not None else None
    return dz, None, None, do, *(None,) * 7


def _tangents_of_kept(inputs, outputs, along):
    *samples, _, _, metric, margin, tau = inputs
    moved = _moved(samples, along[0], along[3], (metric, margin, tau))
    return tuple(torch.zeros_like(t) if by is None else by for t, by in zip(outputs, moved))


_gradient = differentiable(_kept, _keep_samples, _kept_backward, _tangents_of_kept)


def _times(upstream, gradient, embeddings):
    product = gradient * upstream
    return product if product.dtype == embeddings.dtype else product.to(embeddings.dtype)


def _by_rows(upstream, samples, gradients, options, needed):
    """The kept gradients times what comes from above, by the embeddings and by the others, where they are needed."""
    if upstream is None:
        return None, None
    if torch.is_grad_enabled():  # for those who may differentiate again
        gradients = _gradient(*samples, *gradients, *options)
    of_sets = zip(gradients, (samples[0], samples[3]), needed)
    return tuple(_times(upstream, g, z) if need else None for g, z, need in of_sets)


def _all_six(samples):
    """Of all pairs, with nothing for the others."""
    return (*samples, *(None,) * (6 - len(samples)))


def _keep(ctx, inputs, output):
    *samples, metric, margin, tau = inputs
    ctx.options = metric, margin, tau
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or zeros are made for the gradients
    ctx.save_for_backward(*samples, *output[1:])


def _all_backward(ctx, upstream, _):
    *samples, dz = ctx.saved_tensors
    needed = ctx.needs_input_grad[0], False
    dz, _ = _by_rows(upstream, _all_six(samples), (dz, None), ctx.options, needed)
    return dz, None, None, None, None, None


def _cross_backward(ctx, upstream, *_):
    *samples, dz, do = ctx.saved_tensors
    needed = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
    dz, do = _by_rows(upstream, samples, (dz, do), ctx.options, needed)
    return dz, None, None, do, None, None, None, None, None


def _tangents(inputs, outputs, along):
    *samples, metric, margin, tau = inputs
    samples, kept = _all_six(samples), (*outputs[1:], None)[:2]
    gradients = _gradient(*samples, *kept, metric, margin, tau)
    moves = along[0], along[3] if len(inputs) > 6 else None
    of_sets = (None if v is None else (g * v.to(g.dtype)).sum() for g, v in zip(gradients, moves))
    return total(*of_sets), *(None,) * (len(outputs) - 1)


_loss_of_all = differentiable(_all, _keep, _all_backward, _tangents)
_loss_across = differentiable(_cross, _keep, _cross_backward, _tangents)


class _Alone(torch.autograd.Function):
    """The loss where autograd alone looks on: what it keeps is nobody else's."""

    @staticmethod
    def forward(ctx, body, arguments, *embeddings):
        loss, *gradients = body(*arguments)
        ctx.set_materialize_grads(False)
        *samples, metric, margin, tau = arguments
        ctx.options = metric, margin, tau
        ctx.save_for_backward(*gradients, *samples)
        return loss

    @staticmethod
    def backward(ctx, upstream):
        _, _, *needed = ctx.needs_input_grad
        if upstream is None:
            return (None,) * (2 + len(needed))
        saved = ctx.saved_tensors
        gradients, samples = saved[: len(needed)], saved[len(needed) :]
        if is_last(upstream, gradients, samples[::3]):
            # Nobody asks again: the kept gradient itself is what is given away, without a copy.
            if upstream.item() != 1:
                for gradient in gradients:
                    gradient.mul_(upstream)
            return None, None, *(g if need else None for g, need in zip(gradients, needed))
        both, kept = (*needed, False)[:2], (*gradients, None)[:2]
        return None, None, *_by_rows(upstream, _all_six(samples), kept, ctx.options, both)[: len(needed)]


def _loss(operator, body, arguments, differentiable, *embeddings):
    """Loss and gradients, the latter where autograd does not keep them."""
    if watched(arguments):
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            return operator(*arguments)
    if differentiable and torch.is_grad_enabled() and any(z.requires_grad for z in embeddings):
        return (_Alone.apply(body, arguments, *embeddings),)
    return body(*arguments)


def contrastive_loss(*arguments):
    return _contrastive("contrastive_loss", True, *arguments)[0]


def contrastive_loss_and_grad(*arguments):
    return _contrastive("contrastive_loss_and_grad", False, *arguments)


def _contrastive(
    op, differentiable, z, labels, weights, others, other_labels, other_weights, metric, margin, tau,
    reduction, label_distance, pair_weights,
):  # fmt: skip
    metric = _checks.METRICS.index(_checks.one_of(op, "metric", metric, _checks.METRICS))
    _checks.one_of(op, "reduction", reduction, _checks.REDUCTIONS)
    margin, tau = _checks.real(op, "margin", margin), _checks.real(op, "tau", tau)
    check_floats(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    sets = [(z, labels, weights)]
    if _checks.others(op, others, other_labels, other_weights):
        check_floats(op, "others", others, ("embeddings", z))
        _checks.dims(op, "others", others.shape, ("M", "D"))
        _checks.columns(op, "others", others.shape, ("embeddings", z.shape))
        sets.append((others, other_labels, other_weights))
    _checks.function_or_none(op, "label_distance", label_distance)
    for names, rows, (of_rows, of, w) in zip(_SIDES, ("embeddings", "others"), sets):
        if label_distance is None:
            check_numbers(op, names[0], of, (rows, of_rows))
        else:
            check_tensor(op, names[0], of, (rows, of_rows))
            _checks.first(op, names[0], of.shape, of_rows.shape)
        if w is not None:
            check_numbers(op, names[1], w, (rows, of_rows))
    if reduction == "mean" and label_distance is None and pair_weights is None:
        arguments = (*(t for of_set in sets for t in of_set), metric, margin, tau)
        operator, body = (_loss_of_all, _pairs_of_all) if len(sets) == 1 else (_loss_across, _pairs_across)
        return _loss(operator, body, arguments, differentiable, *(rows for rows, _, _ in sets))
    if pair_weights is not None and not callable(pair_weights):
        check_tensor(op, "pair_weights", pair_weights, ("embeddings", z))
        _checks.shape(op, "pair_weights", pair_weights.shape, [sets[0][0].shape[0], sets[-1][0].shape[0]])
    real, sides = real_of(z.dtype), _for_pairs(op, sets, label_distance is None)
    rows = [of_rows for of_rows, _, _ in sets]
    how = metric, margin, tau, reduction, label_distance, pair_weights
    if label_distance is None and pair_weights is None and _checks.pairs([t.shape[0] for t in rows]):
        return (pairs.of_rows(op, [(z, *side) for z, side in zip(rows, sides)], metric, margin, tau),)
    if differentiable:
        return (pairs.losses(op, [(z, *side) for z, side in zip(rows, sides)], *how),)
    with torch.inference_mode(False), torch.enable_grad():
        rows = [pairs.usual(z.detach()).to(real).requires_grad_() for z in rows]
        sets = [(z, *map(pairs.usual, side)) for z, side in zip(rows, sides)]
        loss = pairs.losses(op, sets, *how)
        return loss.detach(), *torch.autograd.grad(loss, rows)
