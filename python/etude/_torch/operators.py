"""Operators of `torch.library` with their derivatives, and calls of them that cost what they must."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .tensors import DEVICES

_PLAIN = (Tensor, torch.nn.Parameter)
# In the place of a tensor that is kept apart from the other arguments.
_TENSOR = object()

# What an operator computes, in PyTorch's own operations: by its overload.
DECOMPOSITIONS = {}


def registered(op):
    for device in DEVICES:
        op.register_autocast(device, torch.float32)
    return op


def differentiable(op, keep, backward, tangents=None):
    """Gives `op` its derivatives, and gives back the call of it: `torch.func`'s transforms want the same as a
    `torch.autograd.Function`.

    `keep(ctx, inputs, output)` and `backward(ctx, *upstream)` are as there; `tangents(inputs, outputs, along)` are the
    outputs' where the inputs move `along`, None for those that do not. An `op` without tangents raises where they are
    asked for: nobody gets a derivative of zero that is none.
    """
    name = op._opoverload._schema.name.replace("::", ".")
    op.register_autograd(backward, setup_context=keep)

    class Transformed(torch.autograd.Function):
        @staticmethod
        def forward(*arguments):
            return op(*arguments)

        @staticmethod
        def setup_context(ctx, inputs, output):
            keep(ctx, inputs, output)
            if tangents is not None:
                ctx.set_materialize_grads(False)
                ctx.others = tuple(_TENSOR if isinstance(a, Tensor) else a for a in inputs)
                outputs = (output,) if isinstance(output, Tensor) else output
                ctx.save_for_forward(*(a for a in inputs if isinstance(a, Tensor)), *outputs)

        @staticmethod
        def jvp(ctx, *along):
            if tangents is None:
                raise NotImplementedError(f"{name}: {_FORWARD}")
            saved = ctx.saved_tensors
            if any(isinstance(t, Tensor) and _moves_twice(t) for t in (*saved, *along)):
                raise NotImplementedError(f"{name}: {_FORWARD_TWICE}")
            tensors = iter(saved)
            inputs = [next(tensors) if a is _TENSOR else a for a in ctx.others]
            return tangents(inputs, list(tensors), along)

        @staticmethod
        def vmap(info, in_dims, *arguments):
            def one(i):
                at = zip(arguments, in_dims)
                return call(*(a if not isinstance(a, Tensor) or d is None else a.select(d, i) for a, d in at))

            results = [one(i) for i in range(info.batch_size)]
            if isinstance(results[0], Tensor):
                return torch.stack(results), 0
            return tuple(map(torch.stack, zip(*results))), (0,) * len(results[0])

    Transformed.backward = staticmethod(backward)
    _refuse_tangents(op, name, _FORWARD if tangents is None else _FORWARD_OF_OPERATOR)

    body = op._init_fn

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *arguments):
            output = body(*arguments)
            keep(ctx, arguments, output)
            return output

    Direct.backward = staticmethod(backward)

    def call(*arguments):
        if not watched(arguments):
            tensors = (a for a in arguments if isinstance(a, Tensor))
            differentiated = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
            return (Direct.apply if differentiated else body)(*arguments)
        # torch.compile sees the operator alone, ONNX, which has none like it, what it is made of.
        if torch.compiler.is_compiling():
            instead = DECOMPOSITIONS.get(op._opoverload) if torch.onnx.is_in_onnx_export() else None
            return (instead or op)(*arguments)
        if not transformed():
            return op(*arguments)
        return Transformed.apply(*arguments)

    return call


_transforms = torch._C._are_functorch_transforms_active
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_tracing = torch._C._get_tracing_state
_is_batch = torch._C._functorch.is_legacy_batchedtensor


def transformed():
    """Whether `torch.func` or forward mode is at work."""
    return _transforms() or forward_ad._current_level >= 0


def _is_plain(tensor):
    """Whether its memory, on the CPU, holds what it says: no negation put off, no zeros without memory, no subclass, no
    batch of those that `is_grads_batched` makes without a transform of `torch.func`."""
    return (
        type(tensor) in _PLAIN
        and tensor.is_cpu
        and not tensor.is_neg()
        and not tensor._is_zerotensor()
        and not _is_batch(tensor)
    )


def watched(arguments):
    """Whether others than autograd are to see the operator: compilers, tracers, transforms, modes, autocast, tensors of
    other kinds; or a card, whose launches wait for nobody.

    Where not, the operator is left out: one of `torch.library` takes some fifty microseconds, and several times that
    between kernels that fill the caches with their data."""
    if (
        torch.compiler.is_compiling()
        or _transforms()
        or forward_ad._current_level >= 0
        or _dispatch_modes() > 0
        or _function_modes() > 0
        or _tracing() is not None
        or torch.is_autocast_enabled("cpu")
    ):
        return True
    for a in arguments:
        if isinstance(a, Tensor) and not _is_plain(a):
            return True
    return False


def is_last(upstream, gradients, embeddings):
    """Whether what is kept for the backward pass is wanted this once, as it is."""
    return not (
        torch.is_grad_enabled()
        or torch._C._autograd._get_current_graph_task_keep_graph()
        or any(g.dtype != z.dtype for g, z in zip(gradients, embeddings))
        or watched((upstream, *gradients))
    )


_LIBRARY = torch.library.Library("etude", "IMPL")


def _refuse_tangents(op, name, message):
    """Raises where the operator itself is called in forward mode, as an exported model does: its result would have a
    tangent of zero."""
    after = torch._C._after_ADInplaceOrView_keyset

    def look(keyset, *arguments, **named):
        if forward_ad._current_level >= 0 and any(
            isinstance(a, Tensor) and _has_tangent(a) for a in arguments
        ):
            raise NotImplementedError(f"{name}: {message}")
        return op._opoverload.redispatch(keyset & after, *arguments, **named)

    _LIBRARY.impl(name.removeprefix("etude."), look, "ADInplaceOrView", with_keyset=True)


def _has_tangent(tensor):
    functorch = torch._C._functorch
    if functorch.is_functorch_wrapped_tensor(tensor):  # whose tangent is not seen below autograd
        return functorch.peek_interpreter_stack().key() == functorch.TransformType.Jvp
    # Autograd is not active any more here; without it a fake tensor cannot be unpacked.
    active, inactive = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    with torch._C._ForceDispatchKeyGuard(active, inactive & torch._C._after_autograd_keyset):
        return forward_ad.unpack_dual(tensor).tangent is not None


def _moves_twice(tensor):
    """Whether it is of two levels of forward mode: PyTorch passes no tangent from the inner one's `jvp` of a
    `torch.autograd.Function` on to the outer."""
    functorch = torch._C._functorch
    interpreters = functorch.get_interpreter_stack() or ()
    forward = {i.level() for i in interpreters if i.key() == functorch.TransformType.Jvp}
    levels = []
    while functorch.is_functorch_wrapped_tensor(tensor):
        levels.append(functorch.maybe_get_level(tensor))
        tensor = functorch.get_unwrapped(tensor)
    return len(forward.intersection(levels)) > 1


_FORWARD = (
    "has no forward-mode derivative (torch.func.jvp, jacfwd, linearize, torch.autograd.forward_ad): "
    "use reverse mode (backward, torch.func.grad, vjp, jacrev)"
)
_FORWARD_OF_OPERATOR = (
    "has no forward-mode derivative as an operator of torch.library: "
    "call etude's function itself, or use reverse mode"
)
_FORWARD_TWICE = (
    "PyTorch has no forward mode within forward mode (torch.func.jvp of jvp, jacfwd of jacfwd) for it: "
    "use reverse mode for one of the two, as torch.func.hessian does"
)


def total(*parts):
    """The sum of those that are there, or None."""
    parts = [part for part in parts if part is not None]
    return sum(parts[1:], parts[0]) if parts else None
