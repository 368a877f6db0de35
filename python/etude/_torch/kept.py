"""Losses whose operator gives the gradient too; derivatives from the second on are of PyTorch's own operations.

A loss is one number, or one for each row of a matrix, of which it is alone a function."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .operators import differentiable, is_last, total


def _of_rows(upstream):
    """What comes from above, as it multiplies the gradient: a number, or one for each row."""
    return upstream.unsqueeze(-1) if upstream.dim() else upstream


def _along(gradient, moves, loss):
    """How the loss moves where what the gradient is by does."""
    product = gradient * moves.to(gradient.dtype)
    return product.sum(-1) if loss.dim() else product.sum()


def of_sets(rows):
    """Whether rows of one set or two have a pair."""
    return _checks.pairs([z.shape[0] for z in rows])


def with_derivatives(operator, kept, in_operations, tensors, rows, there=of_sets):
    """Gives a loss its derivatives, and gives back the call of it.

    `operator(*tensors, *options, differentiate)` gives the loss and its gradients by those `tensors` that are at
    `rows`, without elements where there is no such tensor. `kept(*tensors, *gradients, *options)` gives a copy of
    these, for those who differentiate them; `in_operations(*tensors, *options)` is the loss that they are of, in the
    memory of all pairs. `there` says of the tensors at `rows` whether there is any pair.
    """

    def moved(samples, options, along):
        """How the gradients move where the rows do: the Hessian, which is symmetric, times that."""
        places = [i for i in rows if samples[i] is not None]
        given = [samples[i] for i in places]
        if not there(given):
            products = map(torch.zeros_like, given)
        else:

            def loss(*moving):
                at = dict(zip(places, moving))
                return in_operations(*(at.get(i, t) for i, t in enumerate(samples)), *options).sum()

            _, product = torch.func.vjp(torch.func.grad(loss, tuple(range(len(places)))), *given)
            of_rows = dict(zip(rows, along))
            steps = ((z, of_rows[i]) for i, z in zip(places, given))
            products = product(tuple(torch.zeros_like(z) if v is None else v.to(z.dtype) for z, v in steps))
        found = dict(zip(places, products))
        return [found.get(i) for i in rows]

    def keep_samples(ctx, inputs, output):
        ctx.options = inputs[tensors + len(rows) :]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:tensors])

    def second(ctx, *along):
        by_inputs = [None] * (tensors + len(rows) + len(ctx.options))
        if any(v is not None for v in along):
            for i, product in zip(rows, moved(ctx.saved_tensors, ctx.options, along)):
                by_inputs[i] = product
        return tuple(by_inputs)

    def tangents_of_kept(inputs, outputs, along):
        along = [along[i] for i in rows]
        moves = [None] * len(rows)
        if any(v is not None for v in along):
            moves = moved(inputs[:tensors], inputs[tensors + len(rows) :], along)
        still = (torch.zeros_like(of) if v is None else v.to(of.dtype) for of, v in zip(outputs, moves))
        return next(still) if len(rows) == 1 else tuple(still)

    differentiated = differentiable(kept, keep_samples, second, tangents_of_kept)

    def gradients_of(samples, gradients, options):
        gradients = differentiated(*samples, *gradients, *options)
        return (gradients,) if isinstance(gradients, Tensor) else gradients

    def keep(ctx, inputs, output):
        ctx.options = inputs[tensors:-1]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:tensors], *output[1:])

    def backward(ctx, upstream, *_):
        by_inputs = [None] * (tensors + len(ctx.options) + 1)
        if upstream is not None:
            saved = ctx.saved_tensors
            samples, gradients = saved[:tensors], saved[tensors:]
            if torch.is_grad_enabled():  # for those who may differentiate again
                gradients = gradients_of(samples, gradients, ctx.options)
            given = [samples[i] for i in rows if samples[i] is not None]
            # Nobody asks again, or for more: what is kept is what is given away.
            as_it_is = upstream.dim() == 0 and is_last(upstream, gradients, given) and upstream.item() == 1
            upstream = _of_rows(upstream)
            for i, gradient in zip(rows, gradients):
                if ctx.needs_input_grad[i]:
                    by_inputs[i] = gradient if as_it_is else (gradient * upstream).to(samples[i].dtype)
        return tuple(by_inputs)

    def tangents(inputs, outputs, along):
        along = [along[i] for i in rows]
        if all(v is None for v in along):
            return (None,) * len(outputs)
        gradients = gradients_of(inputs[:tensors], outputs[1:], inputs[tensors:-1])
        parts = (None if v is None else _along(g, v, outputs[0]) for g, v in zip(gradients, along))
        return total(*parts), *(None,) * len(rows)

    return differentiable(operator, keep, backward, tangents)


def without_own(matrix, first):
    """What each row holds but for its own column, of rows from `first` on."""
    rows, columns = (torch.arange(n, device=matrix.device) for n in matrix.shape)
    others = columns[:-1]
    return matrix.gather(1, others + (others >= first + rows[:, None]))
