"""Rows of every process of `torch.distributed`, through which gradients go."""

from __future__ import annotations

import torch
import torch.distributed as dist


def several():
    """Whether there are other processes to meet."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gathered(torch.autograd.Function):
    """`[sum of counts, ...]` of `[counts[rank], ...]`, in the order of ranks."""

    @staticmethod
    def forward(ctx, rows, counts):
        rank = dist.get_rank()
        ctx.own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        # All send as many: what is made up is dropped.
        sent = rows.new_zeros(max(counts), *rows.shape[1:])
        sent[: counts[rank]] = rows
        parts = [torch.empty_like(sent) for _ in counts]
        dist.all_gather(parts, sent)
        return torch.cat([part[:count] for part, count in zip(parts, counts)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        # Every process computes the loss of all: each has a part in the gradient by these rows.
        upstream = upstream.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(upstream)
        return upstream[ctx.own], None


def gathered(embeddings, labels, weights):
    """Samples of all processes, of which each may have another number."""
    counts = torch.zeros(dist.get_world_size(), dtype=torch.long, device=embeddings.device)
    counts[dist.get_rank()] = embeddings.shape[0]
    dist.all_reduce(counts)
    counts = counts.tolist()
    return tuple(None if of is None else _Gathered.apply(of, counts) for of in (embeddings, labels, weights))
