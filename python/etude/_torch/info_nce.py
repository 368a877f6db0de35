"""InfoNCE weighted by label distances: the forward operator gives the gradients too, the backward pass scales them."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from .. import _checks
from .contrastive import labels_in
from .kept import with_derivatives, without_diagonal
from .operators import registered, watched
from .rows import unit
from .tensors import (
    DEVICES,
    check_floats,
    check_numbers,
    dense,
    device_for,
    memory,
    memory_or_none,
    real_of,
)


def _run(
    embeddings: Tensor,
    labels: Tensor,
    others: Optional[Tensor],
    other_labels: Optional[Tensor],
    sigma: float,
    temperature: float,
    differentiate: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    real = real_of(embeddings.dtype)
    rows = [dense(z) for z in (embeddings, others) if z is not None]
    labels = labels_in(real, [of for of in (labels, other_labels) if of is not None], "info_nce_loss")
    labels = [dense(of.to(real)) for of in labels]
    z = rows[0]
    loss, pairs = z.new_full((), torch.nan, dtype=real), _checks.pairs([len(of) for of in rows])
    like = torch.empty_like if pairs else torch.zeros_like
    gradients = [like(of, dtype=real) for of in rows] if differentiate else []
    gradients += [z.new_empty((0,), dtype=real) for _ in range(2 - len(gradients))]
    if not z.is_cuda:
        _checks.near("info_nce_loss", [of.detach().numpy() for of in labels], sigma)
    if pairs:
        o, of_o = (rows[1], labels[1]) if len(rows) == 2 else (None, None)
        device_for(z).info_nce(
            tuple(z.shape), memory(z), memory(labels[0]),
            0 if o is None else len(o), memory_or_none(o), memory_or_none(of_o),
            sigma, temperature, memory(loss),
            *(memory(g) if differentiate and i < len(rows) else None for i, g in enumerate(gradients)),
        )  # fmt: skip
    return loss, *gradients


_operator = registered(
    torch.library.custom_op("etude::info_nce", _run, mutates_args=(), device_types=DEVICES)
)


@_operator.register_fake
def _(embeddings, labels, others, other_labels, sigma, temperature, differentiate):
    real = real_of(embeddings.dtype)
    shapes = (z.shape if differentiate and z is not None else (0,) for z in (embeddings, others))
    return embeddings.new_empty((), dtype=real), *(embeddings.new_empty(of, dtype=real) for of in shapes)


@torch.library.custom_op("etude::info_nce_gradient", mutates_args=(), device_types=DEVICES)
def _kept(
    embeddings: Tensor,
    labels: Tensor,
    others: Optional[Tensor],
    other_labels: Optional[Tensor],
    dz: Tensor,
    do: Tensor,
    sigma: float,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """The gradients that the loss has kept, for those who differentiate them: as functions of the embeddings."""
    return dz.clone(), do.clone()


@_kept.register_fake
def _(embeddings, labels, others, other_labels, dz, do, sigma, temperature):
    return torch.empty_like(dz), torch.empty_like(do)


def _unit(z):
    """Rows of length 1, and those of 0 as constants."""
    u, _, _ = unit(z, torch.zeros_like(z))
    return torch.where((z == 0).all(-1, keepdim=True), 0, u)


def _in_operations(z, labels, others, other_labels, sigma, temperature):
    """The loss in PyTorch's own operations, in float64 and the memory of N·M pairs: what second derivatives are of."""
    own = others is None
    u = _unit(z.double())
    v, other_labels = (u, labels) if own else (_unit(others.double()), other_labels)
    s = u @ v.mT / temperature
    exponents = ((labels.double()[:, None] - other_labels.double()) / sigma).square() / -2
    if own:
        s, exponents = without_diagonal(s), without_diagonal(exponents)
    return -(exponents.softmax(1) * s.log_softmax(1)).sum(1).mean()


_loss = with_derivatives(_operator, _kept, _in_operations, tensors=4, rows=(0, 2))


def _checked(op, z, labels, others, other_labels, sigma, temperature):
    check_floats(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    check_numbers(op, "labels", labels, ("embeddings", z))
    if _checks.others(op, others, other_labels):
        check_floats(op, "others", others, ("embeddings", z))
        _checks.dims(op, "others", others.shape, ("M", "D"))
        _checks.columns(op, "others", others.shape, ("embeddings", z.shape))
        check_numbers(op, "other_labels", other_labels, ("others", others))
    sigma, temperature = (
        _checks.positive(op, name, value) for name, value in (("sigma", sigma), ("temperature", temperature))
    )
    return z, labels, others, other_labels, sigma, temperature


def info_nce_loss(*arguments):
    arguments = z, _, others, *_ = _checked("info_nce_loss", *arguments)
    wanted = z.requires_grad or others is not None and others.requires_grad
    return _loss(*arguments, watched(arguments) or torch.is_grad_enabled() and wanted)[0]


def info_nce_loss_and_grad(*arguments):
    arguments = _checked("info_nce_loss_and_grad", *arguments)
    with torch.no_grad():
        return _loss(*arguments, True)[: 2 if arguments[2] is None else 3]
