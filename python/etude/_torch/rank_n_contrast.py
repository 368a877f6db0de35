"""Rank-N-Contrast's loss: the forward operator gives the gradient too, the backward pass scales it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .. import _checks
from .contrastive import labels_in
from .each import each, launched
from .kept import with_derivatives, without_own
from .operators import registered, watched
from .pairs import by_blocks, nothing
from .similarity import EUCLIDEAN, matrix
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


def _numbers(real, labels):
    """Labels as kernels take them."""
    (labels,) = labels_in(real, [labels], "rank_n_contrast_loss")
    labels = dense(labels.to(real))
    if not labels.is_cuda:
        _checks.finite("rank_n_contrast_loss", "labels", labels.detach().numpy())
    return labels


def _run(
    embeddings: Tensor, labels: Tensor, temperature: float, differentiate: bool
) -> tuple[Tensor, Tensor]:
    z, real = dense(embeddings), real_of(embeddings.dtype)
    labels = _numbers(real, labels)
    loss, pairs = z.new_full((), torch.nan, dtype=real), _checks.pairs(z.shape[:1])
    dz = (z.new_empty if pairs else z.new_zeros)(z.shape if differentiate else (0,), dtype=real)
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


def _of_distances(distances, labels, first, temperature):
    """The losses of the anchors from `first` on in PyTorch's own operations, in float64.

    An anchor's distances may be 700 temperatures from one another, or its farthest rows' exponentials are nothing.
    """
    # Differences of labels are rounded as the kernel rounds them: they tell what ties.
    labels = labels.to(real_of(distances.dtype)) if labels.is_floating_point() else labels.double()
    s = without_own(distances.double(), first) / -temperature
    # From the row that is farthest by its label to the nearest; sums are of all rows up to the end of their ties.
    far = (labels[first : first + distances.shape[0], None] - labels).abs()
    far, order = without_own(far, first).sort(1, descending=True)
    s = s.gather(1, order)
    largest = s.detach().amax(1, keepdim=True)
    sums = (s - largest).exp().cumsum(1).gather(1, torch.searchsorted(-far, -far, right=True) - 1)
    return (largest + sums.log() - s).mean(1)


def _in_operations(z, labels, temperature):
    """The loss in PyTorch's own operations, in float64 and the memory of N² pairs: what second derivatives are of."""
    labels = labels.to(real_of(z.dtype)) if labels.is_floating_point() else labels
    z = z.double()
    squares = (z[:, None] - z).square().sum(-1)
    distances = torch.where(squares > 0, torch.where(squares > 0, squares, 1).sqrt(), 0)
    return _of_distances(distances, labels, 0, temperature).mean()


_loss = with_derivatives(_operator, _kept, _in_operations, tensors=2, rows=(0,))


@torch.library.custom_op("etude::rank_n_contrast_of_distances", mutates_args=(), device_types=DEVICES)
def _rows(
    distances: Tensor, labels: Tensor, first: int, temperature: float, differentiate: bool
) -> tuple[Tensor, Tensor]:
    """The losses of the anchors from `first` on, and their slopes by the distances."""
    slopes = distances.clone(memory_format=torch.contiguous_format)
    losses, labels = slopes.new_empty(len(slopes)), _numbers(slopes.dtype, labels)
    device_for(slopes).rank_n_contrast_of_distances(
        tuple(slopes.shape), first, memory(labels), temperature, memory(slopes), memory(losses)
    )
    # Of each alone, not of the mean.
    return losses, slopes.mul_(len(labels)) if differentiate else slopes.new_empty((0,))


@_rows.register_fake
def _(distances, labels, first, temperature, differentiate):
    shape = distances.shape if differentiate else (0,)
    return distances.new_empty(distances.shape[:1]), distances.new_empty(shape)


@torch.library.custom_op(
    "etude::rank_n_contrast_of_distances_gradient", mutates_args=(), device_types=DEVICES
)
def _kept_rows(distances: Tensor, labels: Tensor, slopes: Tensor, first: int, temperature: float) -> Tensor:
    """The slopes that the losses have kept, for those who differentiate them: as functions of the distances."""
    return slopes.clone()


@_kept_rows.register_fake
def _(distances, labels, slopes, first, temperature):
    return torch.empty_like(slopes)


_losses = with_derivatives(
    registered(_rows), _kept_rows, _of_distances, tensors=2, rows=(0,), there=lambda rows: True
)


def _checked(op, z, labels, temperature, reduction):
    check_floats(op, "embeddings", z)
    _checks.dims(op, "embeddings", z.shape, ("N", "D"))
    check_numbers(op, "labels", labels, ("embeddings", z))
    _checks.one_of(op, "reduction", reduction, _checks.REDUCTIONS)
    return z, labels, _checks.positive(op, "temperature", temperature)


def _of_each(z, labels, temperature):
    """The loss of each anchor."""
    if not _checks.pairs([z.shape[0]]):
        return nothing([z], z.shape[:1])

    def block(labels, anchors, others, first):
        d = matrix(anchors, others, EUCLIDEAN)
        differentiate = watched((d, labels)) or torch.is_grad_enabled() and d.requires_grad
        return _losses(d, labels, first, temperature, differentiate)[:1]

    def native(tensors, upstream=None):
        z, labels = tensors
        labels = _numbers(real_of(z.dtype), labels)

        def run(device, rows, to, upstream, _):
            given = memory(rows[0]), memory(labels), temperature
            device.rank_n_contrast_rows(tuple(z.shape), *given, to, upstream)

        return launched(run, [z], upstream)

    return each(
        native,
        lambda tensors, _, upstream: native(tensors, upstream),
        lambda z, labels: by_blocks(partial(block, labels), z, z)[0],
        (z, labels),
        (0,),
    )


def rank_n_contrast_loss(*arguments):
    *_, reduction = arguments
    arguments = z, *_ = _checked("rank_n_contrast_loss", *arguments)
    if reduction == "none":
        return _of_each(*arguments)
    differentiate = watched(arguments) or torch.is_grad_enabled() and z.requires_grad
    return _loss(*arguments, differentiate)[0]


def rank_n_contrast_loss_and_grad(*arguments):
    arguments = _checked("rank_n_contrast_loss_and_grad", *arguments, "mean")
    with torch.no_grad():
        return _loss(*arguments, True)
