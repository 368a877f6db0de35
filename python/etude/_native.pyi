"""The native library: launches on memory given by address. Nothing here is public."""

from collections.abc import Callable, Sequence
from typing import Any

__version__: str

# Address, what is stored there (`_device` numbers it), how many.
_Memory = tuple[int, int, int]
_Shape = tuple[int, int]

class Conv:
    def __new__(
        cls,
        x: Sequence[int],
        weight: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Conv: ...
    @property
    def output(self) -> list[int]: ...

class Device:
    @staticmethod
    def cpu(threads: int, double: bool) -> Device: ...
    @staticmethod
    def cuda(ordinal: int, stream: int) -> Device: ...
    @property
    def threads(self) -> int: ...
    def contrastive(
        self,
        n: _Shape,
        z: _Memory,
        labels: _Memory,
        weights: _Memory | None,
        metric: int,
        margin: float,
        tau: float,
        loss: _Memory,
        dz: _Memory,
        /,
    ) -> None: ...
    def contrastive_cross(
        self,
        n: _Shape,
        m: _Shape,
        z: _Memory,
        labels: _Memory,
        weights: _Memory | None,
        o: _Memory,
        labels_o: _Memory,
        weights_o: _Memory | None,
        metric: int,
        margin: float,
        tau: float,
        loss: _Memory,
        dz: _Memory,
        d_o: _Memory,
        /,
    ) -> None: ...
    def contrastive_hvp(
        self,
        n: _Shape,
        z: _Memory,
        labels: _Memory,
        weights: _Memory | None,
        m: int,
        o: _Memory | None,
        labels_o: _Memory | None,
        weights_o: _Memory | None,
        metric: int,
        margin: float,
        tau: float,
        sums: _Memory,
        /,
    ) -> None: ...
    def rank_n_contrast(
        self,
        n: _Shape,
        z: _Memory,
        labels: _Memory,
        temperature: float,
        loss: _Memory,
        dz: _Memory | None,
        /,
    ) -> None: ...
    def info_nce(
        self,
        n: _Shape,
        z: _Memory,
        labels: _Memory,
        m: int,
        others: _Memory | None,
        other_labels: _Memory | None,
        sigma: float,
        temperature: float,
        loss: _Memory,
        dz: _Memory | None,
        d_others: _Memory | None,
        /,
    ) -> None: ...
    def contrastive_rows(
        self,
        n: _Shape,
        z: _Memory,
        labels: _Memory,
        weights: _Memory | None,
        m: int,
        o: _Memory | None,
        labels_o: _Memory | None,
        weights_o: _Memory | None,
        metric: int,
        margin: float,
        tau: float,
        to: _Memory,
        totals: _Memory | None,
        upstream: _Memory | None,
        d_o: _Memory | None,
        /,
    ) -> None: ...
    def rank_n_contrast_rows(
        self,
        n: _Shape,
        z: _Memory,
        labels: _Memory,
        temperature: float,
        to: _Memory,
        upstream: _Memory | None,
        /,
    ) -> None: ...
    def info_nce_rows(
        self,
        n: _Shape,
        z: _Memory,
        labels: _Memory,
        m: int,
        others: _Memory | None,
        other_labels: _Memory | None,
        sigma: float,
        temperature: float,
        to: _Memory,
        upstream: _Memory | None,
        d_others: _Memory | None,
        /,
    ) -> None: ...
    def rank_n_contrast_of_distances(
        self,
        shape: _Shape,
        first: int,
        labels: _Memory,
        temperature: float,
        distances: _Memory,
        losses: _Memory,
        /,
    ) -> None: ...
    def info_nce_of_cosines(
        self,
        shape: _Shape,
        first: int,
        own: bool,
        labels: _Memory,
        other_labels: _Memory,
        sigma: float,
        temperature: float,
        cosines: _Memory,
        losses: _Memory,
        /,
    ) -> None: ...
    def pair_loss(
        self,
        shape: _Shape,
        own: int | None,
        metric: int,
        margin: float,
        tau: float,
        similarities: _Memory,
        apart: _Memory,
        weights: _Memory | None,
        sums: _Memory,
        totals: _Memory,
        /,
    ) -> None: ...
    def pair_loss_backward(
        self,
        shape: _Shape,
        own: int | None,
        metric: int,
        margin: float,
        tau: float,
        similarities: _Memory,
        apart: _Memory,
        weights: _Memory | None,
        upstream: _Memory,
        slopes: _Memory,
        /,
    ) -> None: ...
    def similarity(
        self,
        batch: int,
        n: _Shape,
        m: _Shape,
        kind: int,
        a: _Memory,
        b: _Memory,
        y: _Memory,
        /,
    ) -> None: ...
    def similarity_backward(
        self,
        batch: int,
        n: _Shape,
        m: _Shape,
        kind: int,
        a: _Memory,
        b: _Memory,
        dy: _Memory,
        da: _Memory,
        db: _Memory,
        /,
    ) -> None: ...
    def conv(self, conv: Conv, x: _Memory, w: _Memory, b: _Memory | None, y: _Memory, /) -> None: ...
    def conv_backward(
        self,
        conv: Conv,
        x: _Memory,
        w: _Memory,
        dy: _Memory,
        dx: _Memory | None,
        dw: _Memory | None,
        db: _Memory | None,
        /,
    ) -> None: ...

class Step:
    def __new__(cls, device: Device, batch: int) -> Step: ...
    @property
    def parameters(self) -> list[tuple[str, list[int], list[float]]]: ...
    @property
    def x(self) -> list[float]: ...
    @property
    def ratings(self) -> list[float]: ...
    def run(self) -> float: ...

def bins(ratings: Sequence[float], k: int) -> list[float]: ...

# By a path, or of f0 in Hz: the bytes of float64 numbers.
_Source = str | bytes
# Takes: name, pitch, performer, place of the melody; melodies: name, and references by theirs.
_Given = tuple[
    list[tuple[str, _Source, str, int | None]],
    list[tuple[str, list[tuple[str, _Source]]]],
]

def grader_fit(
    graded: str | tuple[_Given, list[list[float | None]], list[str]],
    how: dict[str, Any],
    means: dict[str, Any],
    report: Callable[[int, int, float], None] | None,
) -> tuple[bytes, list[str], list[str]]: ...
def grader_predict(
    name: str, model: bytes, ungraded: str | _Given, means: dict[str, Any]
) -> list[tuple[list[float], list[float]]]: ...
def grader_info(name: str, model: bytes) -> str: ...
def grader_save(path: str, model: bytes) -> None: ...
def grader_built_in() -> bytes: ...
