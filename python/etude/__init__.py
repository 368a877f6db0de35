"""Etude's kernels on NumPy arrays and PyTorch tensors, in place.

- `contrastive_loss`: the label-distance-weighted contrastive loss over all pairs, without an N × N matrix
- `info_nce_loss`: InfoNCE weighted by how near labels are, in the memory of some rows of the cosines
- `rank_n_contrast_loss`: Rank-N-Contrast's loss, in the memory of some rows of the distances
- `pairwise_similarity`: the matrix of similarities or distances of the rows of two matrices
- `conv1d`, `conv2d`: convolutions in PyTorch's convention
- `Grader`: an estimator that grades performances, recordings or pitch contours, having learned from graded ones

Each kernel takes NumPy arrays (float32 or float64) or PyTorch tensors (on the CPU, or on an NVIDIA card through
PyTorch's current stream) and gives back the same kind. On tensors they are operators of `torch.library` with
gradients, registered as soon as PyTorch and etude are both imported, and `etude.nn` has them as modules. For NumPy,
`contrastive_loss_and_grad`, `info_nce_loss_and_grad`, `rank_n_contrast_loss_and_grad`, `pairwise_similarity_backward`,
`conv1d_backward` and `conv2d_backward` compute gradients.

Bad input raises `TypeError` or `ValueError` with a message that names the function and the argument. Embeddings,
matrices and images that are contiguous are not copied, nor labels of the same type.
"""

from __future__ import annotations

import importlib
import sys

from . import _checks, _hook
from ._native import __version__ as __version__

__all__ = [
    "Grader",
    "Take",
    "bins",
    "contrastive_loss",
    "contrastive_loss_and_grad",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "get_num_threads",
    "info_nce_loss",
    "info_nce_loss_and_grad",
    "pairwise_similarity",
    "pairwise_similarity_backward",
    "rank_n_contrast_loss",
    "rank_n_contrast_loss_and_grad",
    "set_num_threads",
]


def __getattr__(name):
    if name == "nn":  # imports PyTorch
        return importlib.import_module(".nn", __name__)
    if name in ("Grader", "Take"):  # imports NumPy
        return getattr(importlib.import_module("._grader", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _module(op, argument, value):
    """The module that works on what `value` is; only a caller who has tensors has imported PyTorch."""
    torch = sys.modules.get("torch")
    if isinstance(value, getattr(torch, "Tensor", ())):
        from . import _torch

        return _torch
    from . import _numpy

    if isinstance(value, _numpy.np.ndarray):
        return _numpy
    raise TypeError(f"{op}: {argument}: must be a NumPy array or a PyTorch tensor, is {type(value).__name__}")


def set_num_threads(threads):
    """How many threads compute on NumPy arrays from now on; 0 takes every core, as at first. More than four times the
    cores, or 64 where that is more, are taken for so many.

    On tensors it is `torch.get_num_threads()`. The same bits come out whatever the number.
    """
    from . import _numpy

    _numpy.set_num_threads(threads)


def get_num_threads():
    """How many threads compute on NumPy arrays."""
    from . import _numpy

    return _numpy.get_num_threads()


def bins(ratings, k):
    """The bin of each rating as a label: `min(floor(k * rating + 1e-6), k - 1)`.

    Args:
        ratings: `[N]`, from 0 to 1.
        k: how many bins, a whole number of at least 2.

    Returns:
        Labels `[N]`, float32.
    """
    return _module("bins", "ratings", ratings).bins(ratings, k)


def contrastive_loss(
    embeddings,
    labels,
    weights=None,
    *,
    others=None,
    other_labels=None,
    other_weights=None,
    metric="euclidean",
    margin=0.5,
    tau=0.0,
    reduction="mean",
    label_distance=None,
    pair_weights=None,
):
    """The label-distance-weighted contrastive loss: the mean over pairs of

    - `½·d²` where the labels are at most `tau` apart, and
    - `½·max(0, margin·w − d)²` where they are `w` apart,

    with the distance `d` of the embeddings. Value and gradient come out of one pass over the pairs, in O(N·D)
    memory; the gradient is kept for the backward pass, which only scales it. Where `d` is 0 the gradient is 0, not NaN.

    Args:
        embeddings: `[N, D]`, float32 or float64; tensors may be float16 or bfloat16 too, and are then computed in
            float32.
        labels: `[N]`, finite and not negative: ratings, or their `bins`. Only their differences count: whole numbers
            beyond what float32 holds (2**24) are taken from the smallest on, and refused where they cannot be told
            apart so.
        weights: `[N]`, finite and not negative, or None: a pair counts as the product of its two; 0 masks a sample out,
            whatever its label holds.
        others: `[M, D]`, or None. With it the pairs are one of `embeddings` and one of `others` each, else any
            two of `embeddings`.
        other_labels: `[M]`, with `others`.
        other_weights: `[M]`, or None.
        metric: `"euclidean"`, or `"cosine"` (1 minus the cosine).
        margin: how far apart embeddings should be whose labels are 1 apart; positive.
        tau: the largest label distance of a positive pair, up to roundings (`1.00025·tau + 1e-6`); 0 for bins.
        reduction: `"mean"` over all pairs, or `"none"`: `[N]`, for each row of `embeddings` the mean over its own
            pairs, 0 where none of these counts.
        label_distance: how far labels are apart, where it is not by how much they differ: a function of two parts of
            the labels, of B and M rows, that gives `[B, M]`, finite and not negative. Labels are then whatever it
            takes, with an entry for each row: the probabilities of classes, say, or grades by several criteria.
        pair_weights: what each pair counts, beside the weights of its two: `[N, M]`, bools or numbers that are finite
            and not negative, 0 for a pair that is none; or a function of the indices of rows and of columns, `[B]` and
            `[M]`, that gives `[B, M]`. `M` is `N` where there are no `others`.

    With any of the last three, pairs go by blocks of rows, in the memory of a block's pairs, 2**22 of them or those of
    64 rows; a backward pass computes each block again, and calls functions again. Pairs of one set are then met from
    both ends, so that neither function has to be symmetric. Nothing has a gradient but the embeddings, and derivatives
    are there in any number.

    Labels and weights that are no such numbers raise `ValueError`; on a card, where nobody waits to look at them, the
    loss is NaN.

    Returns:
        The loss: a tensor `[]` with gradients by `embeddings` and `others`, or for NumPy arrays a number; with
        `reduction="none"` `[N]`. Where there is no pair (fewer than two rows, or a side without any) it is NaN, as
        PyTorch's mean over nothing, and the gradient 0; where all pairs are masked out it is 0.
    """
    module = _module("contrastive_loss", "embeddings", embeddings)
    return module.contrastive_loss(
        embeddings,
        labels,
        weights,
        others,
        other_labels,
        other_weights,
        metric,
        margin,
        tau,
        reduction,
        label_distance,
        pair_weights,
    )


def contrastive_loss_and_grad(
    embeddings,
    labels,
    weights=None,
    *,
    others=None,
    other_labels=None,
    other_weights=None,
    metric="euclidean",
    margin=0.5,
    tau=0.0,
    label_distance=None,
    pair_weights=None,
):
    """`contrastive_loss` and its gradient, both from the one pass; arguments as there.

    Returns:
        `(loss, gradient)` with the gradient `[N, D]` by `embeddings`; with `others`
        `(loss, gradient, other_gradient)`. Gradients of 16-bit embeddings are float32.
    """
    module = _module("contrastive_loss_and_grad", "embeddings", embeddings)
    return module.contrastive_loss_and_grad(
        embeddings,
        labels,
        weights,
        others,
        other_labels,
        other_weights,
        metric,
        margin,
        tau,
        "mean",
        label_distance,
        pair_weights,
    )


def rank_n_contrast_loss(embeddings, labels, *, temperature=2.0, reduction="mean"):
    """Rank-N-Contrast's loss: the mean over each two of an anchor `i` and another row `j` of ::

        log Σ_k exp(−‖z_i − z_k‖/t) + ‖z_i − z_j‖/t    over the k ≠ i with |y_i − y_k| ≥ |y_i − y_j|

    so that rows come to lie in the order of their labels, whatever these measure (Zha et al., "Rank-N-Contrast:
    Learning Continuous Representations for Regression", NeurIPS 2023). Value and gradient come out of one pass, in
    O(N²·(D + log N)) time; memory is of some rows of the distances at a time. The gradient of a distance of 0 is 0.

    Args:
        embeddings: `[N, D]`, float32 or float64; tensors may be float16 or bfloat16 too, and are then computed in
            float32. Of several views of a sample, all are rows.
        labels: `[N]`, finite numbers of any type, compared as the embeddings' type holds them: whole numbers beyond
            what float32 holds (2**24) are taken from the smallest on, and refused where they cannot be told apart so.
        temperature: the `t` that distances are divided by; positive, taken as a float32.
        reduction: `"mean"` of all anchors' losses, or `"none"`: `[N]`, the loss of each, its mean over `j`; a backward
            pass then computes each block of anchors again.

    Labels that are not finite raise `ValueError`; on a card, where nobody waits to look at them, the loss is NaN.

    Returns:
        The loss: a tensor `[]` with a gradient by `embeddings`, or for NumPy arrays a number. Of fewer than two rows it
        is NaN, and the gradient 0.
    """
    module = _module("rank_n_contrast_loss", "embeddings", embeddings)
    return module.rank_n_contrast_loss(embeddings, labels, temperature, reduction)


def rank_n_contrast_loss_and_grad(embeddings, labels, *, temperature=2.0):
    """`rank_n_contrast_loss` and its gradient, both from the one pass; arguments as there.

    Returns:
        `(loss, gradient)` with the gradient `[N, D]`. That of 16-bit embeddings is float32.
    """
    module = _module("rank_n_contrast_loss_and_grad", "embeddings", embeddings)
    return module.rank_n_contrast_loss_and_grad(embeddings, labels, temperature)


def info_nce_loss(
    embeddings, labels, *, sigma, temperature=0.1, others=None, other_labels=None, reduction="mean"
):
    """InfoNCE weighted by how near labels are: the mean over anchors `i` of ::

        Σ_j w_ij·(log Σ_k exp(s_ik) − s_ij)    with s_ij = cos(z_i, o_j)/t, w_ij = exp(−(y_i − y_j)²/2σ²)/Σ_k exp(…)

    so that rows point where those do whose labels are near (Dufumier et al., "Contrastive Learning with Continuous
    Proxy Meta-Data for 3D MRI Classification", MICCAI 2021). The rows `o` are all others of the set, or those of a
    second one. Of classes, with a `sigma` far below 1, it is the supervised contrastive loss; where each label is there
    once on either side, InfoNCE. Value and gradients come out of one pass, in O(N·M·D) time; memory is of some rows of
    the cosines at a time. The cosine with a zero row is 0, with gradient 0.

    Args:
        embeddings: `[N, D]`, float32 or float64; tensors may be float16 or bfloat16 too, and are then computed in
            float32. Of several views of a sample, all are rows.
        labels: `[N]`, finite numbers of any type. Only their differences count: whole numbers beyond what float32 holds
            (2**24) are taken from the smallest of all on, and refused where they cannot be told apart so.
        sigma: how far labels are from one another that count as near, in their own unit; positive, taken as a float32.
            Where none is near, the nearest count.
        temperature: the `t` that cosines are divided by; positive, taken as a float32.
        others: `[M, D]`, or None. With it each row of `embeddings` is held against all of these, else against all
            others of its own set.
        other_labels: `[M]`, with `others`.
        reduction: `"mean"` of all anchors' losses, or `"none"`: `[N]`, the loss of each; a backward pass then computes
            each block of anchors again.

    Labels that are not finite raise `ValueError`; on a card, where nobody waits to look at them, the loss is NaN.

    Returns:
        The loss: a tensor `[]` with gradients by `embeddings` and `others`, or for NumPy arrays a number. Where there
        is no pair (fewer than two rows, or a side without any) it is NaN, and the gradient 0.
    """
    module = _module("info_nce_loss", "embeddings", embeddings)
    return module.info_nce_loss(embeddings, labels, others, other_labels, sigma, temperature, reduction)


def info_nce_loss_and_grad(embeddings, labels, *, sigma, temperature=0.1, others=None, other_labels=None):
    """`info_nce_loss` and its gradient, both from the one pass; arguments as there.

    Returns:
        `(loss, gradient)` with the gradient `[N, D]` by `embeddings`; with `others`
        `(loss, gradient, other_gradient)`. Gradients of 16-bit embeddings are float32.
    """
    module = _module("info_nce_loss_and_grad", "embeddings", embeddings)
    return module.info_nce_loss_and_grad(embeddings, labels, others, other_labels, sigma, temperature)


def pairwise_similarity(a, b, kind="cosine"):
    """The matrix of the similarities, or distances, of each row of `a` with each row of `b`.

    Args:
        a: `[N, D]`, or a batch `[..., N, D]`, float32 or float64; tensors may be float16 or bfloat16 too, computed in
            float32.
        b: `[M, D]`, or a batch `[..., M, D]`, of the same type. Batches broadcast.
        kind: `"dot"`, `"cosine"`, `"squared_euclidean"` or `"euclidean"`.

    Returns:
        `[..., N, M]`, empty where `N` or `M` is 0. The cosine with a zero row is 0 with gradient 0; the gradient of a
        Euclidean distance of 0 is 0.
    """
    return _module("pairwise_similarity", "a", a).pairwise_similarity(a, b, kind)


def pairwise_similarity_backward(dy, a, b, kind="cosine"):
    """The gradients of `pairwise_similarity(a, b, kind)`.

    Args:
        dy: `[..., N, M]`, the gradient by the matrix.
        a, b, kind: as there.

    Returns:
        `(da, db)`, of the shapes of `a` and `b`.
    """
    return _module("pairwise_similarity_backward", "dy", dy).pairwise_similarity_backward(dy, a, b, kind)


def conv1d(x, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """One-dimensional convolution, in PyTorch's convention.

    Args:
        x: `[batch, channels, T]`, or `[channels, T]` without a batch, float32 or float64; tensors may be float16 or
            bfloat16 too, computed in float32.
        weight: `[out_channels, channels / groups, taps]`.
        bias: `[out_channels]`, or None.
        stride: input positions from one output position to the next.
        padding: zeros added at either end; `"valid"` for none, `"same"` for as many as keep the length (with a stride
            of 1; where they are odd, the last is at the far end).
        dilation: input positions from one tap to the next.
        groups: groups that channels are split into.

    Returns:
        `[batch, out_channels, (T + 2·padding − dilation·(taps − 1) − 1) // stride + 1]`, without a batch where `x` has
        none.
    """
    options = _checks.slide("conv1d", 1, stride, padding, dilation, groups)
    return _module("conv1d", "x", x).conv(x, weight, bias, options)


def conv2d(x, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """Two-dimensional convolution, in PyTorch's convention.

    Args:
        x: `[batch, channels, H, W]`, or `[channels, H, W]` without a batch; types as in `conv1d`.
        weight: `[out_channels, channels / groups, kh, kw]`.
        bias: `[out_channels]`, or None.
        stride, padding, dilation: as in `conv1d`; one number, or two: vertical, horizontal.
        groups: groups that channels are split into.

    Returns:
        `[batch, out_channels, OH, OW]`, each axis as in `conv1d`, without a batch where `x` has none.
    """
    options = _checks.slide("conv2d", 2, stride, padding, dilation, groups)
    return _module("conv2d", "x", x).conv(x, weight, bias, options)


def conv1d_backward(dy, x, weight, *, stride=1, padding=0, dilation=1, groups=1):
    """The gradients of `conv1d(x, weight, bias, ...)` of the same options.

    Args:
        dy: the gradient by the output, of its shape.
        x, weight: as there.

    Returns:
        `(dx, dweight, dbias)`.
    """
    options = _checks.slide("conv1d_backward", 1, stride, padding, dilation, groups)
    return _module("conv1d_backward", "dy", dy).conv_backward(dy, x, weight, options)


def conv2d_backward(dy, x, weight, *, stride=1, padding=0, dilation=1, groups=1):
    """The gradients of `conv2d(x, weight, bias, ...)`; see `conv1d_backward`."""
    options = _checks.slide("conv2d_backward", 2, stride, padding, dilation, groups)
    return _module("conv2d_backward", "dy", dy).conv_backward(dy, x, weight, options)


_hook.install()
