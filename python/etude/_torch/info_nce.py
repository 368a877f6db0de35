"""InfoNCE weighted by label distances: the forward operator gives the gradients too, the backward pass scales them.

Of each anchor's own loss there is no gradient by the embeddings that could be kept: it is that by the cosines, of a
block of anchors at a time."""

from __future__ import annotations

from functools import partial
from typing import Optional

import torch
from torch import Tensor

from .. import _checks
from .contrastive import labels_in
from .each import each, launched, there
from .kept import with_derivatives, without_own
from .operators import registered, watched
from .pairs import by_blocks, nothing
from .rows import unit
from .similarity import COSINE, matrix
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


def _numbers(real, labels, sigma):
    """Labels of each set as kernels take them."""
    labels = [dense(of.to(real)) for of in labels_in(real, labels, "info_nce_loss")]
    if not labels[0].is_cuda:
        _checks.near("info_nce_loss", [of.detach().numpy() for of in labels], sigma)
    return labels


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
    labels = _numbers(real, [of for of in (labels, other_labels) if of is not None], sigma)
    z = rows[0]
    loss, pairs = z.new_full((), torch.nan, dtype=real), _checks.pairs([len(of) for of in rows])
    like = torch.empty_like if pairs else torch.zeros_like
    gradients = [like(of, dtype=real) for of in rows] if differentiate else []
    gradients += [z.new_empty((0,), dtype=real) for _ in range(2 - len(gradients))]
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


def _of_cosines(cosines, labels, other_labels, first, own, sigma, temperature):
    """The losses of the anchors from `first` on in PyTorch's own operations, in float64."""
    s = cosines.double() / temperature
    labels = labels[first : first + cosines.shape[0], None].double()
    exponents = ((labels - other_labels.double()) / sigma).square() / -2
    if own:
        s, exponents = without_own(s, first), without_own(exponents, first)
    return -(exponents.softmax(1) * s.log_softmax(1)).sum(1)


def _in_operations(z, labels, others, other_labels, sigma, temperature):
    """The loss in PyTorch's own operations, in float64 and the memory of N·M pairs: what second derivatives are of."""
    own = others is None
    u = _unit(z.double())
    v, other_labels = (u, labels) if own else (_unit(others.double()), other_labels)
    return _of_cosines(u @ v.mT, labels, other_labels, 0, own, sigma, temperature).mean()


_loss = with_derivatives(_operator, _kept, _in_operations, tensors=4, rows=(0, 2))


@torch.library.custom_op("etude::info_nce_of_cosines", mutates_args=(), device_types=DEVICES)
def _rows(
    cosines: Tensor,
    labels: Tensor,
    other_labels: Tensor,
    first: int,
    own: bool,
    sigma: float,
    temperature: float,
    differentiate: bool,
) -> tuple[Tensor, Tensor]:
    """The losses of the anchors from `first` on, and their slopes by the cosines."""
    slopes = cosines.clone(memory_format=torch.contiguous_format)
    losses = slopes.new_empty(len(slopes))
    sides = _numbers(slopes.dtype, [labels] if own else [labels, other_labels], sigma)
    device_for(slopes).info_nce_of_cosines(
        tuple(slopes.shape), first, own, memory(sides[0]), memory(sides[-1]),
        sigma, temperature, memory(slopes), memory(losses),
    )  # fmt: skip
    # Of each alone, not of the mean.
    return losses, slopes.mul_(len(labels)) if differentiate else slopes.new_empty((0,))


@_rows.register_fake
def _(cosines, labels, other_labels, first, own, sigma, temperature, differentiate):
    return cosines.new_empty(cosines.shape[:1]), cosines.new_empty(cosines.shape if differentiate else (0,))


@torch.library.custom_op("etude::info_nce_of_cosines_gradient", mutates_args=(), device_types=DEVICES)
def _kept_rows(
    cosines: Tensor,
    labels: Tensor,
    other_labels: Tensor,
    slopes: Tensor,
    first: int,
    own: bool,
    sigma: float,
    temperature: float,
) -> Tensor:
    """The slopes that the losses have kept, for those who differentiate them: as functions of the cosines."""
    return slopes.clone()


@_kept_rows.register_fake
def _(cosines, labels, other_labels, slopes, first, own, sigma, temperature):
    return torch.empty_like(slopes)


_losses = with_derivatives(
    registered(_rows), _kept_rows, _of_cosines, tensors=3, rows=(0,), there=lambda rows: True
)


def _checked(op, z, labels, others, other_labels, sigma, temperature, reduction):
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
    _checks.one_of(op, "reduction", reduction, _checks.REDUCTIONS)
    return z, labels, others, other_labels, sigma, temperature


def _of_each(z, labels, others, other_labels, sigma, temperature):
    """The loss of each anchor."""
    own, options = others is None, (sigma, temperature)
    sets = [z] if own else [z, others]
    if not _checks.pairs([rows.shape[0] for rows in sets]):
        return nothing(sets, z.shape[:1])

    def block(labels, other_labels, anchors, others, first):
        s = matrix(anchors, others, COSINE)
        differentiate = watched((s, labels, other_labels)) or torch.is_grad_enabled() and s.requires_grad
        return _losses(s, labels, other_labels, first, own, *options, differentiate)[:1]

    def composed(z, labels, others, other_labels):
        others, other_labels = (z, labels) if own else (others, other_labels)
        return by_blocks(partial(block, labels, other_labels), z, others)[0]

    def native(tensors, upstream=None):
        z, labels, others, other_labels = tensors
        labels = _numbers(real_of(z.dtype), there(labels, other_labels), sigma)

        def run(device, rows, *to):
            against = (0, None, None) if own else (len(rows[1]), memory(rows[1]), memory(labels[1]))
            own_rows = tuple(z.shape), memory(rows[0]), memory(labels[0])
            device.info_nce_rows(*own_rows, *against, *options, *to)

        return launched(run, there(z, others), upstream)

    tensors = z, labels, others, other_labels
    return each(native, lambda tensors, _, upstream: native(tensors, upstream), composed, tensors, (0, 2))


def info_nce_loss(*arguments):
    *_, reduction = arguments
    arguments = z, _, others, *_ = _checked("info_nce_loss", *arguments)
    if reduction == "none":
        return _of_each(*arguments)
    wanted = z.requires_grad or others is not None and others.requires_grad
    return _loss(*arguments, watched(arguments) or torch.is_grad_enabled() and wanted)[0]


def info_nce_loss_and_grad(*arguments):
    arguments = _checked("info_nce_loss_and_grad", *arguments, "mean")
    with torch.no_grad():
        return _loss(*arguments, True)[: 2 if arguments[2] is None else 3]
