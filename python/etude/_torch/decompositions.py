"""The operators in PyTorch's own operations: for exporters to formats that know those alone, ONNX first.

They are not in PyTorch's own table of decompositions: where `CI` is set, `torch.compile` refuses every operator that is
there and is none of its own. Neither eager mode nor `torch.compile` takes them. What a pair takes here is memory for a
row: they say what is computed, not how to.
"""

from __future__ import annotations

import torch

from .. import _checks
from . import contrastive, convolution, info_nce, pairs, rank_n_contrast, similarity
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


@_instead(pairs._operator)
def _pair_loss(similarities, apart, weights, first, own, metric, margin, tau):
    d = 1 - similarities if _checks.METRICS[metric] == "cosine" else similarities
    slope = torch.where(pairs.near(apart, tau), d, (margin * apart - d).clamp(min=0))
    counts = pairs.counted(similarities, weights, first, own)
    # What does not count may hold anything.
    return torch.where(counts > 0, counts * slope * slope, 0).sum(1) / 2, counts.sum(1)


@_instead(info_nce._rows)
def _info_nce_rows(cosines, labels, other_labels, first, own, sigma, temperature, differentiate):
    labels, other_labels = labels.to(cosines.dtype), other_labels.to(cosines.dtype)
    s = cosines / temperature
    far = (labels[first : first + s.shape[0]].unsqueeze(-1) - other_labels).abs() / sigma
    there = pairs.counted(s, None, first, own)
    # Of what is there; a column more, beyond all, where nothing is.
    last = there.new_full((s.shape[0], 1), torch.finfo(s.dtype).max)
    largest = torch.cat((torch.where(there > 0, s, -torch.inf), -last), 1).amax(1, keepdim=True)
    nearest = torch.cat((torch.where(there > 0, far, torch.inf), last), 1).amin(1, keepdim=True)
    terms = there * (s - largest).clamp(max=0).exp()
    weights = there * ((nearest - far) * (nearest / 2 + far / 2)).clamp(max=0).exp()
    total, of_weights = (of.sum(1, keepdim=True) for of in (terms, weights))
    p, w = terms / total, weights / of_weights
    losses = torch.where(total.squeeze(1) > 0, (w * (total.log() + largest - s)).sum(1), torch.nan)
    if not differentiate:
        return losses, s.new_empty((0,))
    return losses, torch.where(total > 0, p - w, 0) / temperature


@_instead(info_nce._operator)
def _info_nce(z, labels, others, other_labels, sigma, temperature, differentiate):
    own, (u, by_z) = others is None, _rows(z, True)
    v, by_others = (u, by_z) if own else _rows(others, True)
    labels = labels, labels if own else other_labels
    losses, slope = _info_nce_rows(u @ v.mT, *labels, 0, own, sigma, temperature, differentiate)
    nothing = u.new_empty((0,))
    if not differentiate:
        return losses.mean(), nothing, nothing
    slope = slope / z.shape[0]
    if own:
        return losses.mean(), by_z(slope @ u + slope.mT @ u), nothing
    return losses.mean(), by_z(slope @ v), by_others(slope.mT @ u)


@_instead(rank_n_contrast._rows)
def _rank_n_contrast_rows(distances, labels, first, temperature, differentiate):
    """In the memory of N² for each anchor: of each other row, which of all rows are as far by their labels."""
    labels = labels.to(distances.dtype)
    far = (labels[first : first + distances.shape[0]].unsqueeze(-1) - labels).abs()
    others = pairs.counted(distances, None, first, True)
    s = distances / -temperature - torch.where(others > 0, 0, torch.inf)
    negative = far.unsqueeze(1) >= far.unsqueeze(2)
    # Of rows i and j, over k: the largest apart.
    terms = torch.where(negative, s.unsqueeze(1), -torch.inf)
    log = terms.logsumexp(-1)
    count = others.sum(1)
    losses = torch.where(others > 0, log - s, 0).sum(1) / count
    if not differentiate:
        return losses, s.new_empty((0,))
    parts = torch.where(others.unsqueeze(-1) > 0, (terms - log.unsqueeze(-1)).exp(), 0)
    by_s = parts.sum(1) - others
    return losses, by_s / (-temperature * count.clamp(min=1)).unsqueeze(1)


@_instead(rank_n_contrast._operator)
def _rank_n_contrast(z, labels, temperature, differentiate):
    z = z.to(real_of(z.dtype))
    d = _differences(z, z).square().sum(-1).sqrt()
    losses, slope = _rank_n_contrast_rows(d, labels, 0, temperature, differentiate)
    if not differentiate:
        return losses.mean(), z.new_empty((0,))
    slope = slope / z.shape[0]
    along = torch.where(d > 0, slope / torch.where(d > 0, d, 1), 0).unsqueeze(-1) * _differences(z, z)
    return losses.mean(), along.sum(1) - along.sum(0)
