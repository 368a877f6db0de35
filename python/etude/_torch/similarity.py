"""Similarity matrices, of two matrices or of each two of two batches."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .operators import differentiable, registered, total
from .rows import bent, unit
from .tensors import DEVICES, check_floats, check_tensor, dense, device_for, memory, real_of


@registered
@torch.library.custom_op("etude::similarity", mutates_args=(), device_types=DEVICES)
def _similarity(a: Tensor, b: Tensor, kind: int) -> Tensor:
    a, b = dense(a), dense(b)
    y = a.new_empty(_shape(a, b), dtype=real_of(a.dtype))
    if y.numel():
        device_for(a).similarity(*_sizes(a, b), kind, memory(a), memory(b), memory(y))
    return y


@_similarity.register_fake
def _(a, b, kind):
    return a.new_empty(_shape(a, b), dtype=real_of(a.dtype))


def _shape(a, b):
    """The matrices' of `a` `[N, D]` or `[batch, N, D]` and `b` `[M, D]` or `[batch, M, D]`."""
    return *a.shape[:-1], b.shape[-2]


def _sizes(a, b):
    """How many matrices, and the shape of each."""
    return a.shape[0] if a.dim() == 3 else 1, tuple(a.shape[-2:]), tuple(b.shape[-2:])


@torch.library.custom_op("etude::similarity_backward", mutates_args=(), device_types=DEVICES)
def _similarity_backward(dy: Tensor, a: Tensor, b: Tensor, kind: int) -> tuple[Tensor, Tensor]:
    dy, a, b, real = dense(dy), dense(a), dense(b), real_of(a.dtype)
    if not dy.numel():
        return torch.zeros_like(a), torch.zeros_like(b)
    da, db = torch.empty_like(a, dtype=real), torch.empty_like(b, dtype=real)
    device_for(a).similarity_backward(
        *_sizes(a, b), kind, memory(a), memory(b), memory(dy), memory(da), memory(db)
    )
    return da.to(a.dtype), db.to(b.dtype)


@_similarity_backward.register_fake
def _(dy, a, b, kind):
    return a.new_empty(a.shape), b.new_empty(b.shape)


_DOT, COSINE, _SQUARED, EUCLIDEAN = range(4)
# Differences of rows that are in memory at a time: 16 MiB in float32.
_DIFFERENCES = 2**22


@torch.library.custom_op("etude::similarity_of_differences", mutates_args=(), device_types=DEVICES)
def _of_differences(a: Tensor, b: Tensor, da: Tensor, db: Tensor) -> Tensor:
    """2·(a_i − b_j)·(da_i − db_j), by how much a squared distance moves where its rows do.

    Of the differences themselves, some rows at a time: out of products of rows it would cancel where rows are near.
    """
    rows = max(1, _DIFFERENCES // max(1, b.numel()))
    b, db = b.unsqueeze(-3), db.unsqueeze(-3)
    parts = [
        torch.linalg.vecdot(x.unsqueeze(-2) - b, dx.unsqueeze(-2) - db)
        for x, dx in zip(a.split(rows, -2), da.split(rows, -2))
    ]
    return 2 * torch.cat(parts, -2)


@_of_differences.register_fake
def _(a, b, da, db):
    return a.new_empty(_shape(a, b))


def _keep_rows(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _differences_backward(ctx, dy):
    a, b, da, db = ctx.saved_tensors
    return *_matrix_backward(dy, da, db, _SQUARED), *_matrix_backward(dy, a, b, _SQUARED)


def _tangent_of_differences(inputs, outputs, along):
    a, b, da, db = inputs
    of_rows, of_moves = _both_move(along[:2], inputs), _both_move(along[2:], inputs)
    return total(
        None if of_rows is None else _differences(*of_rows, da, db),
        None if of_moves is None else _differences(a, b, *of_moves),
    )


def _both_move(along, like):
    """`along` with zeros for the one of two that does not move; None where neither does."""
    if all(t is None for t in along):
        return None
    return tuple(torch.zeros_like(of) if t is None else t for t, of in zip(along, like))


_differences = differentiable(_of_differences, _keep_rows, _differences_backward, _tangent_of_differences)


def _keep_matrices(ctx, inputs, output):
    a, b, ctx.kind = inputs
    ctx.save_for_backward(a, b)


def _matrices_backward(ctx, dy):
    return *(_matrix_backward(dy, *ctx.saved_tensors, ctx.kind) if dy is not None else (None, None)), None


def _tangent_of_matrix(inputs, outputs, along):
    a, b, kind = inputs
    return _moved(*_in_real(a, b, *_both_move(along[:2], (a, b))), kind)


def _keep_for_second(ctx, inputs, output):
    *tensors, ctx.kind = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _second(ctx, *upstream):
    dy, a, b = ctx.saved_tensors
    along = _both_move(upstream, (a, b))
    if along is None:
        return None, None, None, None
    rows = _in_real(a, b, *along)
    by_dy, *by_rows = ctx.needs_input_grad[:3]
    of_dy = _moved(*rows, ctx.kind) if by_dy else None
    of_rows = _bent(dy, *rows, ctx.kind) if any(by_rows) else (None, None)
    return of_dy, *(None if t is None else t.to(a.dtype) for t in of_rows), None


def _tangents_of_gradients(inputs, outputs, along):
    dy, a, b, kind = inputs
    moves = _both_move(along[1:3], (a, b))
    of_dy = (None, None) if along[0] is None else _matrix_backward(along[0], a, b, kind)
    bent = (None, None) if moves is None else _bent(dy, *_in_real(a, b, *moves), kind)
    return tuple(total(t, None if u is None else u.to(a.dtype)) for t, u in zip(of_dy, bent))


def _in_real(*tensors):
    return [t.to(real_of(t.dtype)) for t in tensors]


def _moved(a, b, da, db, kind):
    """By how much the matrix moves where the rows do."""
    if kind == _DOT:
        return matrix(da, b, _DOT) + matrix(a, db, _DOT)
    if kind == COSINE:
        (a, _, da), (b, _, db) = unit(a, da), unit(b, db)
        return matrix(da, b, _DOT) + matrix(a, db, _DOT)
    differences = _differences(a, b, da, db)
    return differences if kind == _SQUARED else differences * _half_inverse(a, b)


def _bent(dy, a, b, da, db, kind):
    """By how much the gradients by the rows move where the rows do.

    The Hessian of `Σ dy·matrix` by the rows times `(da, db)`. Dot products and squared distances are quadratic in the
    rows, and their gradients linear: those at `(da, db)`.
    """
    if kind in (_DOT, _SQUARED):
        return _matrix_backward(dy, da, db, kind)
    if kind == COSINE:
        return _bent_cosine(dy, (a, da), (b, db))
    # With d = √s: its gradient is that of the squares by q = dy/2d, which moves by -q·ḋ/d, where ḋ = ṡ/2d.
    half = _half_inverse(a, b)
    q, moved = dy * half, _differences(a, b, da, db) * half
    of_moves = _matrix_backward(q, da, db, _SQUARED)
    of_rows = _matrix_backward(-2 * q * moved * half, a, b, _SQUARED)
    return tuple(map(torch.add, of_moves, of_rows))


def _bent_cosine(dy, *sides):
    """Through rows of length 1, whose gradients are those of dot products."""
    (u, _, du), (w, _, dw) = units = [unit(*side) for side in sides]
    of_units, moved = _matrix_backward(dy, u, w, _DOT), _matrix_backward(dy, du, dw, _DOT)
    return tuple(bent(*of) for of in zip(units, of_units, moved, (da for _, da in sides)))


def _half_inverse(a, b):
    """`1/2d` of the Euclidean distances, and 0 where the two are one."""
    d = matrix(a, b, EUCLIDEAN)
    return torch.where(d > 0, 0.5 / torch.where(d > 0, d, 1), 0)


_matrix_backward = differentiable(_similarity_backward, _keep_for_second, _second, _tangents_of_gradients)
matrix = differentiable(_similarity, _keep_matrices, _matrices_backward, _tangent_of_matrix)


def _checked(op, a, b, kind):
    """The kind's number, and the shape of the batch."""
    check_floats(op, "a", a)
    check_floats(op, "b", b, ("a", a))
    batch = _checks.matrices(op, a.shape, b.shape)
    return _checks.SIMILARITIES.index(_checks.one_of(op, "kind", kind, _checks.SIMILARITIES)), batch


def _in_one(batch, *matrices):
    """Batches of that shape, `[batch, rows, columns]` each."""
    return (t.expand(*batch, *t.shape[-2:]).flatten(0, -3) for t in matrices)


def pairwise_similarity(a, b, kind):
    kind, batch = _checked("pairwise_similarity", a, b, kind)
    if not batch:
        return matrix(a, b, kind)
    y = matrix(*_in_one(batch, a, b), kind)
    return y.reshape(*batch, *y.shape[-2:])


def pairwise_similarity_backward(dy, a, b, kind):
    op = "pairwise_similarity_backward"
    kind, batch = _checked(op, a, b, kind)
    check_tensor(op, "dy", dy, ("a", a))
    if dy.dtype != real_of(a.dtype):
        raise TypeError(f"{op}: dy: must be {real_of(a.dtype)} for a of {a.dtype}, is {dy.dtype}")
    _checks.shape(op, "dy", dy.shape, (*batch, a.shape[-2], b.shape[-2]))
    if not batch:
        return _matrix_backward(dy, a, b, kind)
    gradients = _matrix_backward(*_in_one(batch, dy, a, b), kind)
    of_batches = zip(gradients, (a, b))
    return tuple(g.reshape(*batch, *g.shape[-2:]).sum_to_size(of.shape) for g, of in of_batches)
