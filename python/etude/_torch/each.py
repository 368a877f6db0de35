"""Losses of which each row has one, where autograd alone looks on: a native call forward, and one back."""

from __future__ import annotations

import torch
from torch import Tensor

from .operators import watched
from .tensors import dense, device_for, memory, real_of


def each(forward, backward, composed, tensors, rows):
    """A loss for each row, of `tensors` of which those at `rows` are differentiated, or None.

    `forward(tensors)` gives it and what it keeps for `backward(tensors, kept, upstream)`, which gives the gradients,
    all without autograd; `composed(*tensors)` is the same of operators that have derivatives, for all others who look
    on and for those who differentiate again.
    """
    if watched(tensors):
        return composed(*tensors)
    moving = [tensors[i] for i in rows if tensors[i] is not None]
    if torch.is_grad_enabled() and any(z.requires_grad for z in moving):
        return _Each.apply(forward, backward, composed, rows, *tensors)
    return forward(tensors)[0]


class _Each(torch.autograd.Function):
    @staticmethod
    def forward(ctx, forward, backward, composed, rows, *tensors):
        losses, *kept = forward(tensors)
        ctx.how = backward, composed, rows
        ctx.count = len(tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *kept)
        return losses

    @staticmethod
    def backward(ctx, upstream):
        backward, composed, rows = ctx.how
        found = [None] * ctx.count
        if upstream is not None:
            saved = ctx.saved_tensors
            tensors, kept = saved[: ctx.count], saved[ctx.count :]
            wanted = [i for i in rows if ctx.needs_input_grad[4 + i]]
            if torch.is_grad_enabled():  # for those who may differentiate again
                # Each by itself, where one tensor is both rows and others.
                moving = {i: tensors[i].view_as(tensors[i]) for i in wanted}
                losses = composed(*(moving.get(i, t) for i, t in enumerate(tensors)))
                by = torch.autograd.grad(losses, list(moving.values()), upstream, create_graph=True)
                of_rows = dict(zip(wanted, by))
            else:
                of_rows = dict(zip(rows, backward(tensors, kept, upstream)))
            for i in wanted:
                found[i] = of_rows[i].to(tensors[i].dtype)
        return None, None, None, None, *found


def launched(call, sets, upstream, *kept):
    """Runs `call(device, rows, to, upstream, by_others)`: of the dense `sets`, and addresses of what is computed,
    the losses, or from the upstream gradient those by the rows. Gives back what is computed, and `kept`."""
    rows = [dense(z) for z in sets]
    z, real = rows[0], real_of(rows[0].dtype)
    if upstream is None:
        losses = z.new_empty(z.shape[:1], dtype=real)
        call(device_for(z), rows, memory(losses), None, None)
        return losses, *kept
    gradients, upstream = [torch.empty_like(of, dtype=real) for of in rows], dense(upstream)
    by_others = memory(gradients[1]) if len(rows) == 2 else None
    call(device_for(z), rows, memory(gradients[0]), memory(upstream), by_others)
    return gradients


def there(*tensors: Tensor | None):
    """Those that are."""
    return [t for t in tensors if t is not None]
