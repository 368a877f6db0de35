from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn
from torch._ops import OpOverload

_Reduction = Literal["mean", "none"]

def decompositions() -> dict[OpOverload, Callable[..., Any]]: ...

class ContrastiveLoss(nn.Module):
    metric: Literal["euclidean", "cosine"]
    margin: float
    tau: float
    reduction: _Reduction
    label_distance: Callable[[Tensor, Tensor], Tensor] | None
    gather: bool
    def __init__(
        self,
        *,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        margin: float = 0.5,
        tau: float = 0.0,
        reduction: _Reduction = "mean",
        label_distance: Callable[[Tensor, Tensor], Tensor] | None = None,
        gather: bool = False,
    ) -> None: ...
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        *,
        others: Tensor | None = None,
        other_labels: Tensor | None = None,
        other_weights: Tensor | None = None,
        pair_weights: Tensor | Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor: ...

class ContrastiveMemoryLoss(nn.Module):
    metric: Literal["euclidean", "cosine"]
    margin: float
    tau: float
    embeddings: Tensor
    labels: Tensor
    weights: Tensor
    oldest: Tensor
    def __init__(
        self,
        size: int,
        columns: int,
        *,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        margin: float = 0.5,
        tau: float = 0.0,
    ) -> None: ...
    def forward(self, embeddings: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor: ...
    def reset(self) -> None: ...

class InfoNCELoss(nn.Module):
    sigma: float
    temperature: float
    reduction: _Reduction
    gather: bool
    def __init__(
        self,
        sigma: float,
        temperature: float = 0.1,
        *,
        reduction: _Reduction = "mean",
        gather: bool = False,
    ) -> None: ...
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        *,
        others: Tensor | None = None,
        other_labels: Tensor | None = None,
    ) -> Tensor: ...

class RankNContrastLoss(nn.Module):
    temperature: float
    reduction: _Reduction
    gather: bool
    def __init__(
        self, temperature: float = 2.0, *, reduction: _Reduction = "mean", gather: bool = False
    ) -> None: ...
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor: ...

class PairwiseSimilarity(nn.Module):
    kind: str
    def __init__(
        self, kind: Literal["dot", "cosine", "squared_euclidean", "euclidean"] = "cosine"
    ) -> None: ...
    def forward(self, a: Tensor, b: Tensor) -> Tensor: ...

class Conv1d(nn.Conv1d): ...
class Conv2d(nn.Conv2d): ...
