"""Modules of PyTorch's over Etude's kernels. Parameters and state dicts are as PyTorch's own modules'."""

from __future__ import annotations

import torch

from . import (
    _checks,
    contrastive_loss,
    conv1d,
    conv2d,
    info_nce_loss,
    pairwise_similarity,
    rank_n_contrast_loss,
)
from ._torch.contrastive import weight_of_pairs
from ._torch.operators import DECOMPOSITIONS
from ._torch.processes import gathered, several
from ._torch.tensors import check_floats, check_tensor

__all__ = [
    "ContrastiveLoss",
    "ContrastiveMemoryLoss",
    "Conv1d",
    "Conv2d",
    "InfoNCELoss",
    "PairwiseSimilarity",
    "RankNContrastLoss",
    "decompositions",
]


def decompositions():
    """What Etude's operators compute, in PyTorch's own operations: a table for
    `torch.export.ExportedProgram.run_decompositions`, before an exported program is written in a format that knows
    those alone. Of a module `torch.onnx.export` needs it with PyTorch 2.7 only.
    """
    return dict(DECOMPOSITIONS)


class ContrastiveLoss(torch.nn.Module):
    """`etude.contrastive_loss` with options kept.

    With `gather`, where `torch.distributed` runs, the pairs of one set are those of all processes' samples together:
    each process gets the loss of them all, and `DistributedDataParallel`, which takes the mean of the processes'
    gradients, the gradient of that. Batches may be of different sizes; weights are given by all processes or by none.
    With `reduction="none"` it is the losses of all processes' samples, in the order of ranks, as are the indices that
    `pair_weights` is of.

    Shapes: embeddings `[N, D]`, labels `[N]` (with `label_distance` `[N, ...]`), weights `[N]`; others `[M, D]`, `[M]`,
    `[M]`; pair_weights `[N, N]`, with others `[N, M]`; the loss `[]`, or `[N]` with `reduction="none"`.
    """

    def __init__(
        self,
        *,
        metric="euclidean",
        margin=0.5,
        tau=0.0,
        reduction="mean",
        label_distance=None,
        gather=False,
    ):
        super().__init__()
        self.metric, self.margin, self.tau, self.gather = metric, margin, tau, gather
        self.reduction, self.label_distance = reduction, label_distance

    def forward(
        self,
        embeddings,
        labels,
        weights=None,
        *,
        others=None,
        other_labels=None,
        other_weights=None,
        pair_weights=None,
    ):
        if self.gather and others is None and several():
            embeddings, labels, weights = gathered(embeddings, labels, weights)
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
            reduction=self.reduction,
            label_distance=self.label_distance,
            pair_weights=pair_weights,
        )

    def extra_repr(self):
        distance = "" if self.label_distance is None else f", label_distance={self.label_distance}"
        return f"metric={self.metric!r}, margin={self.margin}, tau={self.tau}{distance}{_others_of(self)}"


def _others_of(module):
    """What modules of losses say of options that all have, where they are not as usual."""
    reduction = "" if module.reduction == "mean" else f", reduction={module.reduction!r}"
    return f"{reduction}{', gather=True' if module.gather else ''}"


class ContrastiveMemoryLoss(torch.nn.Module):
    """`etude.contrastive_loss` over the pairs in a batch and those of the batch with the samples before it.

    The last `size` samples are kept, without a gradient: cross-batch memory (Wang et al., "Cross-Batch Memory for
    Embedding Learning", CVPR 2020). The loss is the mean over all of these pairs, and 0 where there is none yet: in the
    time of `N·(N + size)` pairs and the memory of `N + size` rows. In training mode each batch is kept in place of the
    oldest samples; in evaluation mode nothing is. Where `torch.distributed` runs, batch and memory are of all
    processes, as with `ContrastiveLoss(gather=True)`, so that each keeps the same.

    What is kept are buffers, and so part of the state dict, in the module's type (float32, or float64 after
    `double()`): a weight of 0 says that nothing is kept there yet. Embeddings of 16 bits are taken in that type;
    labels that are whole numbers beyond 2**24, which it may not hold, are refused (on a card, the loss is NaN).

    Args:
        size: how many samples are kept.
        columns: how many columns embeddings have.
        metric, margin, tau: as in `etude.contrastive_loss`.

    Shapes: embeddings `[N, columns]`, labels `[N]`, weights `[N]`; the loss `[]`.
    """

    def __init__(self, size, columns, *, metric="euclidean", margin=0.5, tau=0.0):
        super().__init__()
        for name, value in (("size", size), ("columns", columns)):
            if _checks.whole("ContrastiveMemoryLoss", name, value) == 0:
                raise ValueError(f"ContrastiveMemoryLoss: {name}: must be at least 1")
        self.metric, self.margin, self.tau = metric, margin, tau
        self.register_buffer("embeddings", torch.zeros(size, columns))
        self.register_buffer("labels", torch.zeros(size))
        self.register_buffer("weights", torch.zeros(size))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))

    def forward(self, embeddings, labels, weights=None):
        op, options = "ContrastiveMemoryLoss", {"metric": self.metric, "margin": self.margin, "tau": self.tau}
        check_floats(op, "embeddings", embeddings)
        check_tensor(op, "labels", labels, ("embeddings", embeddings))
        _checks.dims(op, "embeddings", embeddings.shape, ("N", str(self.embeddings.shape[1])))
        _checks.columns(op, "embeddings", embeddings.shape, ("the memory", self.embeddings.shape))
        embeddings = embeddings.to(self.embeddings.dtype)
        if not labels.is_floating_point():
            # What floats do not hold is no label.
            labels = torch.where(labels.long().abs() > 2**24, torch.nan, labels.to(embeddings.dtype))
        if several():
            embeddings, labels, weights = gathered(embeddings, labels, weights)
        # Copies: the backward pass looks at what was kept before this batch.
        others, other_labels, other_weights = (
            b.clone() for b in (self.embeddings, self.labels, self.weights)
        )
        kept = {"others": others, "other_labels": other_labels, "other_weights": other_weights}
        sides = (embeddings.shape[0], weights), (others.shape[0], other_weights)
        across = contrastive_loss(embeddings, labels, weights, **kept, **options)
        of_across, within, of_within = weight_of_pairs(sides), 0, 0
        if embeddings.shape[0] > 1:
            within = contrastive_loss(embeddings, labels, weights, **options)
            of_within = weight_of_pairs(sides[:1])
        pairs = of_across + of_within
        inverse = torch.where(pairs > 0, 1 / torch.where(pairs > 0, pairs, 1), 0)
        shares = ((of * inverse).to(embeddings.dtype) for of in (of_across, of_within))
        loss = sum(torch.where(share > 0, share * of, 0) for share, of in zip(shares, (across, within)))
        if self.training:
            counted = torch.ones_like(labels) if weights is None else weights
            self._keep(embeddings.detach(), labels, counted)
        return loss

    @torch.no_grad()
    def _keep(self, *batch):
        size = self.labels.shape[0]
        batch = [values[-size:] for values in batch]
        rows = len(batch[0])
        at = (self.oldest + torch.arange(rows, device=self.oldest.device)) % size
        for buffer, values in zip((self.embeddings, self.labels, self.weights), batch):
            buffer.index_copy_(0, at, values.to(buffer.dtype))
        self.oldest.add_(rows).remainder_(size)

    def reset(self):
        """Forgets what is kept."""
        for buffer in self.buffers():
            buffer.zero_()

    def extra_repr(self):
        size, columns = self.embeddings.shape
        return f"{size}, {columns}, metric={self.metric!r}, margin={self.margin}, tau={self.tau}"


class InfoNCELoss(torch.nn.Module):
    """`etude.info_nce_loss` with options kept; `gather` as in `ContrastiveLoss`.

    Shapes: embeddings `[N, D]`, labels `[N]`; others `[M, D]`, `[M]`; the loss `[]`, or `[N]` with `reduction="none"`.
    """

    def __init__(self, sigma, temperature=0.1, *, reduction="mean", gather=False):
        super().__init__()
        self.sigma, self.temperature, self.reduction, self.gather = sigma, temperature, reduction, gather

    def forward(self, embeddings, labels, *, others=None, other_labels=None):
        if self.gather and others is None and several():
            embeddings, labels, _ = gathered(embeddings, labels, None)
        options = {"sigma": self.sigma, "temperature": self.temperature, "reduction": self.reduction}
        return info_nce_loss(embeddings, labels, others=others, other_labels=other_labels, **options)

    def extra_repr(self):
        return f"sigma={self.sigma}, temperature={self.temperature}{_others_of(self)}"


class RankNContrastLoss(torch.nn.Module):
    """`etude.rank_n_contrast_loss` with a temperature kept; `gather` as in `ContrastiveLoss`.

    Shapes: embeddings `[N, D]`, labels `[N]`; the loss `[]`, or `[N]` with `reduction="none"`.
    """

    def __init__(self, temperature=2.0, *, reduction="mean", gather=False):
        super().__init__()
        self.temperature, self.reduction, self.gather = temperature, reduction, gather

    def forward(self, embeddings, labels):
        if self.gather and several():
            embeddings, labels, _ = gathered(embeddings, labels, None)
        options = {"temperature": self.temperature, "reduction": self.reduction}
        return rank_n_contrast_loss(embeddings, labels, **options)

    def extra_repr(self):
        return f"temperature={self.temperature}{_others_of(self)}"


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
