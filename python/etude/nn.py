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
    """`etude.pairwise_similarity` of a kind. Shapes: `[N, D]` and `[M, D]` to `[N, M]`."""

    def __init__(self, kind="cosine"):
        super().__init__()
        self.kind = kind

    def forward(self, a, b):
        return pairwise_similarity(a, b, self.kind)

    def extra_repr(self):
        return f"kind={self.kind!r}"


class _ZeroPadded:
    """What the convolutions take of PyTorch's options."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        name = type(self).__name__
        if isinstance(self.padding, str):
            raise ValueError(f"{name}: padding: must be a number of zeros, is {self.padding!r}")
        if self.padding_mode != "zeros":
            raise ValueError(f"{name}: padding_mode: must be 'zeros', is {self.padding_mode!r}")

    def _conv_forward(self, x, weight, bias):
        return self._function(
            x,
            weight,
            bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class Conv1d(_ZeroPadded, torch.nn.Conv1d):
    """`torch.nn.Conv1d` over `etude.conv1d`: `[batch, channels, T]` to `[batch, out_channels, T']`."""

    _function = staticmethod(conv1d)


class Conv2d(_ZeroPadded, torch.nn.Conv2d):
    """`torch.nn.Conv2d` over `etude.conv2d`: `[batch, channels, H, W]` to `[batch, out_channels, H', W']`."""

    _function = staticmethod(conv2d)
