"""The operators in PyTorch's own operations: for exporters to formats that know those alone, ONNX first.

They are not in PyTorch's own table of decompositions: where `CI` is set, `torch.compile` refuses every operator that is
there and is none of its own. Neither eager mode nor `torch.compile` takes them. What a pair takes here is memory for a
row: they say what is computed, not how to.
"""

from __future__ import annotations

import torch

from .. import _checks
from . import contrastive, convolution, info_nce, rank_n_contrast, similarity
from .operators import DECOMPOSITIONS
from .rows import unit
from .tensors import real_of


def _instead(operator):
    def keep(function):
        DECOMPOSITIONS[operator._opoverload] = function
        return function

    return keep


def _convolution(dims):
    @_instead(convolution._OPERATORS[dims][0])
    def conv(x, weight, bias, stride, padding, dilation, groups):
        real = real_of(x.dtype)
        bias = None if bias is None else bias.to(real)
        # In PyTorch's order: not transposed, without a padding of the output.
        y = torch.ops.aten.convolution(
            x.to(real), weight.to(real), bias, stride, padding, dilation, False, [0] * dims, groups
        )
        return y.to(x.dtype)


_convolution(1)
_convolution(2)


def _rows(z, cosine):
    """In what is computed in, for cosines of length 1, and what takes gradients by these to those by `z`."""
    z = z.to(real_of(z.dtype))
    if not cosine:
        return z, lambda g: g
    u, inverse, _ = unit(z, torch.zeros_like(z))
    return u, lambda g: inverse * (g - u * (u * g).sum(-1, keepdim=True))


def _differences(a, b):
    return a.unsqueeze(-2) - b.unsqueeze(-3)


@_instead(similarity._similarity)
def _similarity(a, b, kind):
    name = _checks.SIMILARITIES[kind]
    a, b = (_rows(t, name == "cosine")[0] for t in (a, b))
    if name in ("dot", "cosine"):
        return a @ b.mT
    squares = _differences(a, b).square().sum(-1)
    return squares.sqrt() if name == "euclidean" else squares


@_instead(contrastive._cross)
def _across(z, labels, weights, others, other_labels, other_weights, metric, margin, tau, above=False):
    """The loss over pairs of one of `z` and one of `others`, and gradients; of one set those `above` the diagonal."""
    real, cosine = real_of(z.dtype), _checks.METRICS[metric] == "cosine"
    given = (z, weights), (others, other_weights)
    ones = [t.new_ones(t.shape[:1], dtype=real) if w is None else w.to(real) for t, w in given]
    # A masked row may hold anything.
    z, others = (torch.where(w.unsqueeze(-1) > 0, t, 0) for w, t in zip(ones, (z, others)))
    (u, by_z), (v, by_others) = (_rows(t, cosine) for t in (z, others))
    labels, other_labels = (torch.where(w > 0, of.to(real), 0) for w, of in zip(ones, (labels, other_labels)))
    counted = ones[0].unsqueeze(-1) * ones[1]
    there = torch.ones_like(counted)
    if above:
        counted, there = counted.triu(1), there.triu(1)
    share = counted / torch.where(counted.sum() > 0, counted.sum(), 1)
    d = 1 - u @ v.mT if cosine else _differences(u, v).square().sum(-1).sqrt()
    w = (labels.unsqueeze(-1) - other_labels).abs()
    near = w <= 1.00025 * tau + 1e-6
    hinge = (margin * w - d).clamp(min=0)
    loss = (share * torch.where(near, d * d, hinge * hinge)).sum() / 2
    loss = torch.where(there.sum() > 0, loss, torch.nan)
    slope = share * torch.where(near, d, -hinge)
    if cosine:
        return loss, by_z(-(slope @ v)), by_others(-(slope.mT @ u))
    along = (torch.where(d > 0, slope / torch.where(d > 0, d, 1), 0)).unsqueeze(-1) * _differences(u, v)
    return loss, along.sum(1), -along.sum(0)


@_instead(contrastive._all)
def _all(z, labels, weights, metric, margin, tau):
    samples = z, labels, weights
    loss, by_first, by_second = _across(*samples, *samples, metric, margin, tau, above=True)
    return loss, by_first + by_second


@_instead(info_nce._operator)
def _info_nce(z, labels, others, other_labels, sigma, temperature, differentiate):
    real, own = real_of(z.dtype), others is None
    (u, by_z), labels = _rows(z, True), labels.to(real)
    (v, by_others), other_labels = (
        ((u, by_z), labels) if own else (_rows(others, True), other_labels.to(real))
    )
    s = u @ v.mT / temperature
    far = (labels.unsqueeze(-1) - other_labels).abs() / sigma
    there = torch.ones_like(s)
    if own:
        there = there - torch.eye(z.shape[0], dtype=real, device=z.device)
    # Of what is there; a column more, beyond all, where nothing is.
    last = there.new_full((z.shape[0], 1), torch.finfo(real).max)
    largest = torch.cat((torch.where(there > 0, s, -torch.inf), -last), 1).amax(1, keepdim=True)
    nearest = torch.cat((torch.where(there > 0, far, torch.inf), last), 1).amin(1, keepdim=True)
    terms = there * (s - largest).clamp(max=0).exp()
    weights = there * ((nearest - far) * (nearest / 2 + far / 2)).clamp(max=0).exp()
    total, of_weights = (of.sum(1, keepdim=True) for of in (terms, weights))
    p, w = terms / total, weights / of_weights
    of_anchors = (w * (total.log() + largest - s)).sum(1)
    loss = torch.where(total.squeeze(1) > 0, of_anchors, torch.nan).mean()
    if not differentiate:
        return loss, z.new_empty((0,), dtype=real), z.new_empty((0,), dtype=real)
    slope = torch.where(total > 0, p - w, 0) / (temperature * z.shape[0])
    if own:
        return loss, by_z(slope @ u + slope.mT @ u), z.new_empty((0,), dtype=real)
    return loss, by_z(slope @ v), by_others(slope.mT @ u)


@_instead(rank_n_contrast._operator)
def _rank_n_contrast(z, labels, temperature, differentiate):
    """In the memory of N³: for each anchor and each other row, which of all rows are as far by their labels."""
    real = real_of(z.dtype)
    z, labels = z.to(real), labels.to(real)
    d = _differences(z, z).square().sum(-1).sqrt()
    far = (labels.unsqueeze(-1) - labels).abs()
    others = 1 - torch.eye(z.shape[0], dtype=real, device=z.device)
    s = d / -temperature - torch.where(others > 0, 0, torch.inf)
    negative = far.unsqueeze(1) >= far.unsqueeze(2)
    # Of rows i and j, over k: the largest apart.
    terms = torch.where(negative, s.unsqueeze(1), -torch.inf)
    log = terms.logsumexp(-1)
    share = others / others.sum().clamp(min=1)
    loss = (share * torch.where(others > 0, log - s, 0)).sum()
    loss = torch.where(others.sum() > 0, loss, torch.nan)
    if not differentiate:
        return loss, z.new_empty((0,))
    parts = torch.where(others.unsqueeze(-1) > 0, (terms - log.unsqueeze(-1)).exp(), 0)
    by_s = parts.sum(1) - others
    slope = share * by_s / -temperature
    along = torch.where(d > 0, slope / torch.where(d > 0, d, 1), 0).unsqueeze(-1) * _differences(z, z)
    return loss, along.sum(1) - along.sum(0)
