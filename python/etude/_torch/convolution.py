"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from .. import _checks, _device
from .operators import differentiable, registered, total
from .tensors import DEVICES, check_floats, dense, device_for, memory, memory_or_none, real_of


def _output(x, weight, stride, padding, dilation):
    """The output's shape, of shapes that may be symbolic."""
    axes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return [x.shape[0], weight.shape[0], *((t + 2 * p - d * (k - 1) - 1) // s + 1 for t, k, s, p, d in axes)]


def _convolution(dims):
    """The operators of `dims` dimensions, forward and all three gradients, and the calls of both."""
    name = f"conv{dims}d"

    @registered
    @torch.library.custom_op(f"etude::{name}", mutates_args=(), device_types=DEVICES)
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Tensor:
        slide, output = _device.conv(x.shape, weight.shape, stride, padding, dilation, groups)
        dtype, (x, weight, bias) = x.dtype, _in_real(x, weight, bias)
        y = x.new_empty(output)
        if len(x):
            device_for(x).conv(slide, memory(x), memory(weight), memory_or_none(bias), memory(y))
        return y.to(dtype)

    @forward.register_fake
    def _(x, weight, bias, stride, padding, dilation, groups):
        return x.new_empty(_output(x, weight, stride, padding, dilation))

    @torch.library.custom_op(f"etude::{name}_backward", mutates_args=(), device_types=DEVICES)
    def backward(
        dy: Tensor,
        x: Tensor,
        weight: Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        needed: Sequence[bool],
    ) -> tuple[Tensor, Tensor, Tensor]:
        slide, _ = _device.conv(x.shape, weight.shape, stride, padding, dilation, groups)
        dtype, (dy, x, weight) = x.dtype, _in_real(dy, x, weight)
        gradients = _gradients(x, weight, needed)
        if not len(x):
            return tuple(t.zero_().to(dtype) for t in gradients)
        asked = [memory(t) if need else None for t, need in zip(gradients, needed)]
        device_for(x).conv_backward(slide, memory(x), memory(weight), memory(dy), *asked)
        return tuple(t.to(dtype) for t in gradients)

    @backward.register_fake
    def _(dy, x, weight, stride, padding, dilation, groups, needed):
        return _gradients(x, weight, needed)

    def moved(x, weight, along, slide):
        """By how much the output moves where `x`, `weight` and the bias do: it is linear in each."""
        dx, dw, db = along
        return total(
            None if dx is None else call(dx, weight, None, *slide),
            None if dw is None else call(x, dw, None, *slide),
            None if db is None else db.reshape(-1, *[1] * dims).expand(_output(x, weight, *slide[:3])),
        )

    def crossed(dy, x, weight, along, slide):
        """By how much the gradients by `x` and `weight` move where the two do: each is linear in the other."""
        dx, dw = along
        asked = [dw is not None, dx is not None, False]
        if not any(asked):
            return None, None
        of_x, of_w, _ = call_backward(
            dy, x if dx is None else dx, weight if dw is None else dw, *slide, asked
        )
        return of_x if asked[0] else None, of_w if asked[1] else None

    def keep(ctx, inputs, output):
        x, weight, bias, *ctx.slide = inputs
        ctx.save_for_backward(x, weight)

    def gradient(ctx, dy):
        if dy is None:
            return (None,) * 7
        needed = list(ctx.needs_input_grad[:3])
        gradients = call_backward(dy, *ctx.saved_tensors, *ctx.slide, needed)
        return *(t if need else None for t, need in zip(gradients, needed)), None, None, None, None

    def tangent(inputs, outputs, along):
        x, weight, _, *slide = inputs
        return moved(x, weight, along[:3], slide)

    def keep_for_second(ctx, inputs, output):
        *tensors, ctx.stride, ctx.padding, ctx.dilation, ctx.groups, ctx.needed = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)

    def second(ctx, *upstream):
        dy, x, weight = ctx.saved_tensors
        slide = ctx.stride, ctx.padding, ctx.dilation, ctx.groups
        along = [t if need else None for t, need in zip(upstream, ctx.needed)]
        by_dy, by_x, by_weight = ctx.needs_input_grad[:3]
        of_dy = moved(x, weight, along, slide) if by_dy else None
        of_both = crossed(dy, x, weight, (along[0] if by_weight else None, along[1] if by_x else None), slide)
        return of_dy, *of_both, None, None, None, None, None

    def tangents_of_gradients(inputs, outputs, along):
        dy, x, weight, *slide, needed = inputs
        of_dy, dx, dw, *_ = along
        of_dy = [None] * 3 if of_dy is None else call_backward(of_dy, x, weight, *slide, needed)
        moving = (dx if needed[1] else None, dw if needed[0] else None)
        of_both = *crossed(dy, x, weight, moving, slide), None
        still = (t.zero_() for t in _gradients(x, weight, needed))
        return tuple(none if t is None else t for t, none in zip(map(total, of_dy, of_both), still))

    call_backward = differentiable(backward, keep_for_second, second, tangents_of_gradients)
    call = differentiable(forward, keep, gradient, tangent)
    return (forward, backward), (call, call_backward)


def _gradients(x, weight, needed):
    """By `x`, `weight` and the bias; of what is not needed nothing."""
    shapes = (x.shape, weight.shape, weight.shape[:1])
    return tuple(x.new_empty(shape if need else (0,)) for shape, need in zip(shapes, needed))


_OPERATORS, _CALLS = ({1: one, 2: two} for one, two in zip(_convolution(1), _convolution(2)))


def _in_real(*tensors):
    """As kernels take them: 16 bits are computed in float32."""
    return [None if t is None else dense(t.to(real_of(t.dtype))) for t in tensors]


def _slide(x, weight, options):
    """`x` as a batch, with the zeros that one end alone gets, and how the convolution slides over it."""
    x = x if x.dim() == weight.dim() else x.unsqueeze(0)
    padding, more = _checks.padding(options, weight.shape[2:])
    if any(more):
        x = torch.nn.functional.pad(x, [n for end in reversed(more) for n in (0, end)])
    return x, (options.stride, padding, options.dilation, options.groups)


def _check_conv(options, x, weight):
    check_floats(options.op, "x", x)
    check_floats(options.op, "weight", weight, ("x", x))
    return _checks.conv(options, x.shape, weight.shape)


def conv(x, weight, bias, options):
    batched = _check_conv(options, x, weight)
    if bias is not None:
        check_floats(options.op, "bias", bias, ("x", x))
        _checks.shape(options.op, "bias", bias.shape, weight.shape[:1])
    x, slide = _slide(x, weight, options)
    y = _CALLS[len(options.stride)][0](x, weight, bias, *slide)
    return y if batched else y.squeeze(0)


def conv_backward(dy, x, weight, options):
    batched, shape = _check_conv(options, x, weight), x.shape
    check_floats(options.op, "dy", dy, ("x", x))
    x, slide = _slide(x, weight, options)
    output = _output(x, weight, *slide[:3])
    _checks.shape(options.op, "dy", dy.shape, output if batched else output[1:])
    dy = dy if batched else dy.unsqueeze(0)
    dx, dweight, dbias = _CALLS[len(options.stride)][1](dy, x, weight, *slide, [True] * 3)
    dx = dx if batched else dx.squeeze(0)
    for axis, n in enumerate(shape):
        dx = dx.narrow(axis, 0, n) if dx.shape[axis] != n else dx
    return dx, dweight, dbias
