"""Rank-N-Contrast's loss: the forward operator gives the gradient too, the backward pass scales it."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .contrastive import labels_in
from .kept import with_derivatives, without_diagonal
from .operators import registered, watched
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
    embeddings: Tensor, labels: Tensor, temperature: float, differentiate: bool
) -> tuple[Tensor, Tensor]:
    z, real = dense(embeddings), real_of(embeddings.dtype)
    (labels,) = labels_in(real, [labels], "rank_n_contrast_loss")
    labels = dense(labels.to(real))
    loss, pairs = z.new_full((), torch.nan, dtype=real), _checks.pairs(z.shape[:1])
    dz = (z.new_empty if pairs else z.new_zeros)(z.shape if differentiate else (0,), dtype=real)
    if not z.is_cuda:
        _checks.finite("rank_n_contrast_loss", "labels", labels.detach().numpy())
    if pairs:
        device_for(z).rank_n_contrast(
            tuple(z.shape), memory(z), memory(labels), temperature,
            memory(loss), memory_or_none(dz if differentiate else None),
        )  # fmt: skip
    return loss, dz


_operator = registered(
    torch.library.custom_op("etude::rank_n_contrast", _run, mutates_args=(), device_types=DEVICES)
)


@_operator.register_fake
def _(embeddings, labels, temperature, differentiate):
    real = real_of(embeddings.dtype)
    shape = embeddings.shape if differentiate else (0,)
    return embeddings.new_empty((), dtype=real), embeddings.new_empty(shape, dtype=real)


@torch.library.custom_op("etude::rank_n_contrast_gradient", mutates_args=(), device_types=DEVICES)
def _kept(embeddings: Tensor, labels: Tensor, dz: Tensor, temperature: float) -> Tensor:
    """The gradient that the loss has kept, for those who differentiate it: as a function of the embeddings."""
    return dz.clone()


@_kept.register_fake
def _(embeddings, labels, dz, temperature):
    return torch.empty_like(dz)


def _in_operations(z, labels, temperature):
    """The loss in PyTorch's own operations, in float64 and the memory of N² pairs: what second derivatives are of.

    An anchor's distances may be 700 temperatures from one another, or its farthest rows' exponentials are nothing.
    """
    # Differences of labels are rounded as the kernel rounds them: they tell what ties.
    labels = labels.to(real_of(z.dtype)) if labels.is_floating_point() else labels.double()
    z = z.double()
    squares = without_diagonal((z[:, None] - z).square().sum(-1))
    s = torch.where(squares > 0, torch.where(squares > 0, squares, 1).sqrt(), 0) / -temperature
    # From the row that is farthest by its label to the nearest; sums are of all rows up to the end of their ties.
    far, order = without_diagonal((labels[:, None] - labels).abs()).sort(1, descending=True)
    s = s.gather(1, order)
    largest = s.detach().amax(1, keepdim=True)
    sums = (s - largest).exp().cumsum(1).gather(1, torch.searchsorted(-far, -far, right=True) - 1)
    return (largest + sums.log() - s).mean()


_loss = with_derivatives(_operator, _kept, _in_operations, tensors=2, rows=(0,))


def _checked(op, z, labels, temperature):
    check_floats(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    check_numbers(op, "labels", labels, ("embeddings", z))
    return z, labels, _checks.positive(op, "temperature", temperature)


def rank_n_contrast_loss(*arguments):
    arguments = z, *_ = _checked("rank_n_contrast_loss", *arguments)
    differentiate = watched(arguments) or torch.is_grad_enabled() and z.requires_grad
    return _loss(*arguments, differentiate)[0]


def rank_n_contrast_loss_and_grad(*arguments):
    arguments = _checked("rank_n_contrast_loss_and_grad", *arguments)
    with torch.no_grad():
        return _loss(*arguments, True)
