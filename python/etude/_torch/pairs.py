"""The contrastive loss of pairs that are there one by one, a block of rows at a time: for a loss of each row, labels of
any kind, and pairs that count as someone says. Every part is differentiable, and PyTorch puts them together."""

from __future__ import annotations

import math
from typing import Optional

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .. import _checks
from .each import each, launched
from .operators import differentiable, registered, total, transformed
from .similarity import COSINE, EUCLIDEAN, matrix
from .tensors import DEVICES, check_tensor, dense, device_for, memory, memory_or_none, real_of


def _run(
    similarities: Tensor,
    apart: Tensor,
    weights: Optional[Tensor],
    first: int,
    own: bool,
    metric: int,
    margin: float,
    tau: float,
) -> tuple[Tensor, Tensor]:
    """The losses of the pairs of each row, which are the rows from `first` on, of the columns' own set where `own` says
    so; and what these pairs weigh."""
    pairs = [None if t is None else dense(t) for t in (similarities, apart, weights)]
    s = pairs[0]
    sums, totals = s.new_empty(len(s)), s.new_empty(len(s))
    device_for(s).pair_loss(
        tuple(s.shape), first if own else None, metric, margin, tau,
        *map(memory_or_none, pairs), memory(sums), memory(totals),
    )  # fmt: skip
    if not s.is_cuda and sums.isnan().any():
        _checks.of_pairs(
            "contrastive_loss", first, own, *(None if t is None else t.detach().numpy() for t in pairs[1:])
        )
    return sums, totals


_operator = registered(
    torch.library.custom_op("etude::pair_loss", _run, mutates_args=(), device_types=DEVICES)
)


@_operator.register_fake
def _(similarities, apart, weights, first, own, metric, margin, tau):
    rows = similarities.shape[0]
    return similarities.new_empty((rows,)), similarities.new_empty((rows,))


@torch.library.custom_op("etude::pair_loss_backward", mutates_args=(), device_types=DEVICES)
def _backward(
    similarities: Tensor,
    apart: Tensor,
    weights: Optional[Tensor],
    upstream: Tensor,
    first: int,
    own: bool,
    metric: int,
    margin: float,
    tau: float,
) -> Tensor:
    pairs = [None if t is None else dense(t) for t in (similarities, apart, weights)]
    s, upstream = pairs[0], dense(upstream)
    slopes = torch.empty_like(s)
    device_for(s).pair_loss_backward(
        tuple(s.shape), first if own else None, metric, margin, tau,
        *map(memory_or_none, pairs), memory(upstream), memory(slopes),
    )  # fmt: skip
    return slopes


@_backward.register_fake
def _(similarities, apart, weights, upstream, first, own, metric, margin, tau):
    return torch.empty_like(similarities)


def counted(similarities, weights, first, own):
    """What each pair counts, in PyTorch's own operations."""
    s = torch.ones_like(similarities) if weights is None else weights
    if not own:
        return s
    rows, columns = (torch.arange(n, device=s.device) for n in s.shape)
    return torch.where(rows[:, None] + first == columns, 0, s)


def near(apart, tau):
    """Which pairs are positive."""
    return apart <= 1.00025 * tau + 1e-6


def _curvature(similarities, apart, weights, first, own, metric, margin, tau):
    """How the slope by a similarity moves with it: as the pair counts, where it is not beyond its margin."""
    d = 1 - similarities if _checks.METRICS[metric] == "cosine" else similarities
    bent = near(apart, tau) | (margin * apart > d)
    return torch.where(bent, counted(similarities, weights, first, own), 0)


def _keep_for_slopes(ctx, inputs, output):
    similarities, apart, weights, upstream, *ctx.options = inputs
    ctx.save_for_backward(similarities, apart, weights, upstream)


def _second(ctx, along):
    similarities, apart, weights, upstream = ctx.saved_tensors
    pairs = similarities, apart, weights
    by_similarities, _, _, by_upstream, *_ = ctx.needs_input_grad
    of_s = along * upstream[:, None] * _curvature(*pairs, *ctx.options) if by_similarities else None
    of_upstream = (
        (along * _slopes(*pairs, torch.ones_like(upstream), *ctx.options)).sum(1) if by_upstream else None
    )
    return of_s, None, None, of_upstream, *(None,) * 5


def _tangents_of_slopes(inputs, outputs, along):
    similarities, apart, weights, upstream, *options = inputs
    of_s, _, _, of_upstream, *_ = along
    pairs = similarities, apart, weights
    bent = None if of_s is None else of_s * upstream[:, None] * _curvature(*pairs, *options)
    return total(bent, None if of_upstream is None else _slopes(*pairs, of_upstream, *options))


_slopes = differentiable(_backward, _keep_for_slopes, _second, _tangents_of_slopes)


def _keep(ctx, inputs, output):
    similarities, apart, weights, *ctx.options = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(similarities, apart, weights)


def _first(ctx, upstream, _):
    none = (None,) * 7
    if upstream is None:
        return None, *none
    return _slopes(*ctx.saved_tensors, upstream, *ctx.options), *none


def _tangents(inputs, outputs, along):
    similarities, apart, weights, *options = inputs
    if along[0] is None:
        return None, None
    slopes = _slopes(similarities, apart, weights, torch.ones_like(outputs[0]), *options)
    return (slopes * along[0]).sum(1), None


_losses = differentiable(_operator, _keep, _first, _tangents)


def by_blocks(block, rows, others):
    """`block(rows, others, first)` of some rows at a time, and what it gives of all: in a backward pass each block is
    computed again, so that memory is of a block's pairs. An exported program is of one block, whatever its size."""
    n, m = rows.shape[0], others.shape[0]
    if torch.compiler.is_exporting() or n * m <= _checks.PAIRS_AT_ONCE:
        return block(rows, others, 0)
    again = torch.is_grad_enabled() and (rows.requires_grad or others.requires_grad) and not transformed()
    at_once, parts = _checks.rows_at_once(m), []
    for first in range(0, n, at_once):
        arguments = rows[first : first + at_once], others, first
        parts.append(checkpoint(block, *arguments, use_reentrant=False) if again else block(*arguments))
    return tuple(map(torch.cat, zip(*parts)))


def nothing(sets, shape):
    """The losses where there is no pair: NaN, through which a gradient of 0 goes back to the rows."""
    real = real_of(sets[0].dtype)
    return sum(0 * rows.to(real).sum() for rows in sets) + sets[0].new_full(shape, torch.nan, dtype=real)


def _given(op, argument, value, rows, others, real):
    """A matrix that the caller's function gives, or part of one that the caller gives, as kernels take it."""
    check_tensor(op, argument, value, ("embeddings", rows))
    _checks.shape(op, argument, value.shape, (rows.shape[0], others.shape[0]))
    if value.is_complex():
        raise TypeError(f"{op}: {argument}: must hold real numbers, is {value.dtype}")
    if value.requires_grad:
        raise ValueError(f"{op}: {argument}: requires a gradient, but the loss has none by it: detach it")
    return usual(value).to(real)


def usual(tensor):
    """One that autograd can keep, which those of inference mode are not; or None."""
    if tensor is None or torch.compiler.is_compiling():
        return tensor
    if not tensor.is_inference() or torch.is_inference_mode_enabled():
        return tensor
    return tensor.clone()


def _sound(numbers):
    """NaN for what is negative, which kernels see; of weights only the ratios count, and their products are to fit."""
    return torch.where(numbers >= 0, numbers, torch.nan)


def _over_largest(weights):
    largest = weights.max()
    return _sound(weights / torch.where(largest > 0, largest, 1))


def of_rows(op, sets, metric, margin, tau):
    """Each row's mean over its pairs; of one set or two as in `losses`."""
    tensors = (*sets[0], *(sets[1] if len(sets) == 2 else (None,) * 3))
    options = metric, margin, tau

    def composed(*tensors):
        sets = [of for of in (tensors[:3], tensors[3:]) if of[0] is not None]
        return losses(op, sets, *options, "none", None, None)

    def native(tensors, totals, upstream):
        # A masked row may hold anything, and its own loss is nothing.
        sets = [of for of in (tensors[:3], tensors[3:]) if of[0] is not None]
        rows = [z if w is None else torch.where(w[:, None] > 0, z, 0) for z, _, w in sets]
        labels = [dense(of if w is None else torch.where(w > 0, of, 0)) for _, of, w in sets]
        weights = [None if w is None else dense(_over_largest(w)) for *_, w in sets]

        def run(device, rows, to, *back):
            own, *others = (
                (memory(z), memory(of), memory_or_none(w)) for z, of, w in zip(rows, labels, weights)
            )
            against = (len(rows[1]), *others[0]) if others else (0, None, None, None)
            asked = memory(totals) if upstream is None else None
            device.contrastive_rows(tuple(rows[0].shape), *own, *against, *options, to, asked, *back)

        return launched(run, rows, upstream, totals)

    def forward(tensors):
        z, _, weights, *_ = tensors
        totals = z.new_empty(z.shape[:1], dtype=real_of(z.dtype))
        sums, totals = native(tensors, totals, None)
        if weights is not None:
            totals, sums = (torch.where(weights > 0, of, 0) for of in (totals, sums))
        return torch.where(totals > 0, sums / torch.where(totals > 0, totals, 1), sums), totals

    def backward(tensors, kept, upstream):
        (totals,) = kept
        share = torch.where(totals > 0, upstream / torch.where(totals > 0, totals, 1), 0)
        return native(tensors, totals, share)

    return each(forward, backward, composed, tensors, (0, 3))


def losses(op, sets, metric, margin, tau, reduction, label_distance, pair_weights):
    """Of one set or two, each rows with their labels and weights: these as numbers in the type that is computed in, but
    for labels of which `label_distance` says how far they are apart."""
    own = len(sets) == 1
    (z, labels, weights), (others, other_labels, other_weights) = sets[0], sets[-1]
    real, kind = real_of(z.dtype), COSINE if _checks.METRICS[metric] == "cosine" else EUCLIDEAN
    rows = [z for z, _, _ in sets]
    if not _checks.pairs([z.shape[0] for z in rows]):
        return nothing(rows, z.shape[:1] if reduction == "none" else ())
    if weights is not None:
        weights = _over_largest(weights)
        z = torch.where(weights[:, None] > 0, z, 0)  # a masked row may hold anything
    if own:
        others, other_weights = z, weights
    elif other_weights is not None:
        other_weights = _over_largest(other_weights)
        others = torch.where(other_weights[:, None] > 0, others, 0)
    if label_distance is None:
        labels, other_labels = _sound(labels), _sound(other_labels)
    indices = torch.arange(max(z.shape[0], others.shape[0]), device=z.device)

    def block(rows, others, first):
        at = slice(first, first + rows.shape[0])
        if label_distance is None:
            apart = (labels[at, None] - other_labels).abs()
        else:
            apart = label_distance(labels[at], other_labels)
            apart = _given(op, "label_distance", apart, rows, others, real)
        counts = [] if weights is None else [weights[at, None]]
        counts += [] if other_weights is None else [other_weights]
        if callable(pair_weights):
            given = pair_weights(indices[at], indices[: others.shape[0]])
            counts.append(_given(op, "pair_weights", given, rows, others, real))
        elif pair_weights is not None:
            counts.append(_given(op, "pair_weights", pair_weights[at], rows, others, real))
        counts = math.prod(counts).expand_as(apart) if counts else None
        return _losses(matrix(rows, others, kind), apart, counts, first, own, metric, margin, tau)

    sums, totals = by_blocks(block, z, others)
    if reduction == "mean":
        sums, totals = (of.sum(dtype=torch.float64) for of in (sums, totals))
    # Where nothing counts the sum is 0, or no number.
    return torch.where(totals > 0, sums / torch.where(totals > 0, totals, 1), sums).to(real)
