"""The functions on PyTorch tensors: operators of `torch.library` with fake kernels, gradients and autocast.

Each operator takes the tensors' own memory. On the CPU it runs on `torch.get_num_threads()` threads; on a card its
launches are enqueued on PyTorch's current stream, in order with PyTorch's own. Under autocast floats are computed in
float32. Transforms of `torch.func` see them through `torch.autograd.Function`s.
"""

from . import decompositions as decompositions
from .contrastive import bins, contrastive_loss, contrastive_loss_and_grad
from .convolution import conv, conv_backward
from .info_nce import info_nce_loss, info_nce_loss_and_grad
from .rank_n_contrast import rank_n_contrast_loss, rank_n_contrast_loss_and_grad
from .similarity import pairwise_similarity, pairwise_similarity_backward

__all__ = [
    "bins",
    "contrastive_loss",
    "contrastive_loss_and_grad",
    "conv",
    "conv_backward",
    "info_nce_loss",
    "info_nce_loss_and_grad",
    "pairwise_similarity",
    "pairwise_similarity_backward",
    "rank_n_contrast_loss",
    "rank_n_contrast_loss_and_grad",
]
