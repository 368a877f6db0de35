from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch

from . import nn as nn
from ._grader import Grader as Grader
from ._grader import Take as Take

__version__: str

_Array = TypeVar("_Array", npt.NDArray[np.float32], npt.NDArray[np.float64])
# NumPy arrays or PyTorch tensors, and what comes out of them.
_Value = TypeVar("_Value", npt.NDArray[np.float32], npt.NDArray[np.float64], torch.Tensor)
_Numbers = npt.NDArray[np.floating | np.integer | np.bool_]
_Metric = Literal["euclidean", "cosine"]
_Reduction = Literal["mean", "none"]
_Tensors = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_Arrays = Callable[[npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]]
_Kind = Literal["dot", "cosine", "squared_euclidean", "euclidean"]
_Steps = int | Sequence[int]
_Padding = Literal["same", "valid"]

def set_num_threads(threads: int) -> None: ...
def get_num_threads() -> int: ...
@overload
def bins(ratings: _Numbers, k: int) -> npt.NDArray[np.float32]: ...
@overload
def bins(ratings: torch.Tensor, k: int) -> torch.Tensor: ...
@overload
def contrastive_loss(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    others: torch.Tensor | None = None,
    other_labels: torch.Tensor | None = None,
    other_weights: torch.Tensor | None = None,
    metric: _Metric = "euclidean",
    margin: float = 0.5,
    tau: float = 0.0,
    reduction: _Reduction = "mean",
    label_distance: _Tensors | None = None,
    pair_weights: torch.Tensor | _Tensors | None = None,
) -> torch.Tensor: ...
@overload
def contrastive_loss(
    embeddings: _Array,
    labels: npt.NDArray[Any],
    weights: _Numbers | None = None,
    *,
    others: _Array | None = None,
    other_labels: npt.NDArray[Any] | None = None,
    other_weights: _Numbers | None = None,
    metric: _Metric = "euclidean",
    margin: float = 0.5,
    tau: float = 0.0,
    reduction: Literal["mean"] = "mean",
    label_distance: _Arrays | None = None,
    pair_weights: _Numbers | _Arrays | None = None,
) -> float: ...
@overload
def contrastive_loss(
    embeddings: _Array,
    labels: npt.NDArray[Any],
    weights: _Numbers | None = None,
    *,
    others: _Array | None = None,
    other_labels: npt.NDArray[Any] | None = None,
    other_weights: _Numbers | None = None,
    metric: _Metric = "euclidean",
    margin: float = 0.5,
    tau: float = 0.0,
    reduction: Literal["none"],
    label_distance: _Arrays | None = None,
    pair_weights: _Numbers | _Arrays | None = None,
) -> _Array: ...
@overload
def contrastive_loss_and_grad(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    metric: _Metric = "euclidean",
    margin: float = 0.5,
    tau: float = 0.0,
    label_distance: _Tensors | None = None,
    pair_weights: torch.Tensor | _Tensors | None = None,
) -> tuple[torch.Tensor, torch.Tensor]: ...
@overload
def contrastive_loss_and_grad(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    others: torch.Tensor,
    other_labels: torch.Tensor,
    other_weights: torch.Tensor | None = None,
    metric: _Metric = "euclidean",
    margin: float = 0.5,
    tau: float = 0.0,
    label_distance: _Tensors | None = None,
    pair_weights: torch.Tensor | _Tensors | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]: ...
@overload
def contrastive_loss_and_grad(
    embeddings: _Array,
    labels: npt.NDArray[Any],
    weights: _Numbers | None = None,
    *,
    metric: _Metric = "euclidean",
    margin: float = 0.5,
    tau: float = 0.0,
    label_distance: _Arrays | None = None,
    pair_weights: _Numbers | _Arrays | None = None,
) -> tuple[float, _Array]: ...
@overload
def contrastive_loss_and_grad(
    embeddings: _Array,
    labels: npt.NDArray[Any],
    weights: _Numbers | None = None,
    *,
    others: _Array,
    other_labels: npt.NDArray[Any],
    other_weights: _Numbers | None = None,
    metric: _Metric = "euclidean",
    margin: float = 0.5,
    tau: float = 0.0,
    label_distance: _Arrays | None = None,
    pair_weights: _Numbers | _Arrays | None = None,
) -> tuple[float, _Array, _Array]: ...
@overload
def info_nce_loss(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    *,
    sigma: float,
    temperature: float = 0.1,
    others: torch.Tensor | None = None,
    other_labels: torch.Tensor | None = None,
    reduction: _Reduction = "mean",
) -> torch.Tensor: ...
@overload
def info_nce_loss(
    embeddings: _Array,
    labels: _Numbers,
    *,
    sigma: float,
    temperature: float = 0.1,
    others: _Array | None = None,
    other_labels: _Numbers | None = None,
    reduction: Literal["mean"] = "mean",
) -> float: ...
@overload
def info_nce_loss(
    embeddings: _Array,
    labels: _Numbers,
    *,
    sigma: float,
    temperature: float = 0.1,
    others: _Array | None = None,
    other_labels: _Numbers | None = None,
    reduction: Literal["none"],
) -> _Array: ...
@overload
def info_nce_loss_and_grad(
    embeddings: torch.Tensor, labels: torch.Tensor, *, sigma: float, temperature: float = 0.1
) -> tuple[torch.Tensor, torch.Tensor]: ...
@overload
def info_nce_loss_and_grad(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    *,
    sigma: float,
    temperature: float = 0.1,
    others: torch.Tensor,
    other_labels: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]: ...
@overload
def info_nce_loss_and_grad(
    embeddings: _Array, labels: _Numbers, *, sigma: float, temperature: float = 0.1
) -> tuple[float, _Array]: ...
@overload
def info_nce_loss_and_grad(
    embeddings: _Array,
    labels: _Numbers,
    *,
    sigma: float,
    temperature: float = 0.1,
    others: _Array,
    other_labels: _Numbers,
) -> tuple[float, _Array, _Array]: ...
@overload
def rank_n_contrast_loss(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float = 2.0,
    reduction: _Reduction = "mean",
) -> torch.Tensor: ...
@overload
@overload
def rank_n_contrast_loss(
    embeddings: _Array, labels: _Numbers, *, temperature: float = 2.0, reduction: Literal["mean"] = "mean"
) -> float: ...
@overload
def rank_n_contrast_loss(
    embeddings: _Array, labels: _Numbers, *, temperature: float = 2.0, reduction: Literal["none"]
) -> _Array: ...
@overload
def rank_n_contrast_loss_and_grad(
    embeddings: torch.Tensor, labels: torch.Tensor, *, temperature: float = 2.0
) -> tuple[torch.Tensor, torch.Tensor]: ...
@overload
def rank_n_contrast_loss_and_grad(
    embeddings: _Array, labels: _Numbers, *, temperature: float = 2.0
) -> tuple[float, _Array]: ...
def pairwise_similarity(a: _Value, b: _Value, kind: _Kind = "cosine") -> _Value: ...
def pairwise_similarity_backward(
    dy: _Value, a: _Value, b: _Value, kind: _Kind = "cosine"
) -> tuple[_Value, _Value]: ...
def conv1d(
    x: _Value,
    weight: _Value,
    bias: _Value | None = None,
    *,
    stride: _Steps = 1,
    padding: _Steps | _Padding = 0,
    dilation: _Steps = 1,
    groups: int = 1,
) -> _Value: ...
def conv2d(
    x: _Value,
    weight: _Value,
    bias: _Value | None = None,
    *,
    stride: _Steps = 1,
    padding: _Steps | _Padding = 0,
    dilation: _Steps = 1,
    groups: int = 1,
) -> _Value: ...
def conv1d_backward(
    dy: _Value,
    x: _Value,
    weight: _Value,
    *,
    stride: _Steps = 1,
    padding: _Steps | _Padding = 0,
    dilation: _Steps = 1,
    groups: int = 1,
) -> tuple[_Value, _Value, _Value]: ...
def conv2d_backward(
    dy: _Value,
    x: _Value,
    weight: _Value,
    *,
    stride: _Steps = 1,
    padding: _Steps | _Padding = 0,
    dilation: _Steps = 1,
    groups: int = 1,
) -> tuple[_Value, _Value, _Value]: ...
