"""Modules of PyTorch's over Etude's kernels. Parameters and state dicts are as PyTorch's own modules'."""

from __future__ import annotations

import torch

from . import contrastive_loss, conv1d, conv2d, pairwise_similarity

__all__ = ["ContrastiveLoss", "Conv1d", "Conv2d", "PairwiseSimilarity"]


class ContrastiveLoss(torch.nn.Module):
    """`etude.contrastive_loss` with options kept.

    Shapes: embeddings `[N, D]`, labels `[N]`, weights `[N]`; others `[M, D]`, `[M]`, `[M]`; the loss `[]`.
    """

    def __init__(self, *, metric="euclidean", margin=0.5, tau=0.0):
        super().__init__()
        self.metric, self.margin, self.tau = metric, margin, tau

    def forward(
        self, embeddings, labels, weights=None, *, others=None, other_labels=None, other_weights=None
    ):
        return contrastive_loss(
            embeddings,
            labels,
            weights,
            others=others,
            other_labels=other_labels,
            other_weights=other_weights,
            metric=self.metric,
            margin=self.margin,
            tau=self.tau,
        )

    def extra_repr(self):
        return f"metric={self.metric!r}, margin={self.margin}, tau={self.tau}"


class PairwiseSimilarity(torch.nn.Module):
    """`etude.pairwise_similarity` of a kind. Shapes: `[..., N, D]` and `[..., M, D]` to `[..., N, M]`."""

    def __init__(self, kind="cosine"):
        super().__init__()
        self.kind = kind

    def forward(self, a, b):
        return pairwise_similarity(a, b, self.kind)

    def extra_repr(self):
        return f"kind={self.kind!r}"


class _Convolution:
    """PyTorch's module around a function of ours."""

    def _conv_forward(self, x, weight, bias):
        padding = self.padding
        if self.padding_mode != "zeros":
            around = self._reversed_padding_repeated_twice
            x, padding = torch.nn.functional.pad(x, around, mode=self.padding_mode), 0
        return self._function(
            x,
            weight,
            bias,
            stride=self.stride,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class Conv1d(_Convolution, torch.nn.Conv1d):
    """`torch.nn.Conv1d` over `etude.conv1d`, with all of its options: `[batch, channels, T]` or `[channels, T]` to
    `[batch, out_channels, T']` or `[out_channels, T']`."""

    _function = staticmethod(conv1d)


class Conv2d(_Convolution, torch.nn.Conv2d):
    """`torch.nn.Conv2d` over `etude.conv2d`, with all of its options: `[batch, channels, H, W]` or
    `[channels, H, W]` to `[batch, out_channels, H', W']` or `[out_channels, H', W']`."""

    _function = staticmethod(conv2d)
