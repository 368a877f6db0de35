"""What the NumPy and the PyTorch face refuse alike."""

from __future__ import annotations

import operator
from typing import NamedTuple

METRICS = ("euclidean", "cosine")
SIMILARITIES = ("dot", "cosine", "squared_euclidean", "euclidean")


class Slide(NamedTuple):
    """How a convolution slides, a number for each of its dimensions."""

    op: str
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int


def whole(op, argument, value):
    """`value` as a whole number that is not negative."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: {argument}: must be a whole number, is {value!r}") from None
    if number < 0:
        raise ValueError(f"{op}: {argument}: must not be negative, is {number}")
    return number


def slide(op, dims, stride, padding, dilation, groups):
    """Options of a convolution over `dims` dimensions, as whole numbers that are not negative."""

    def each(argument, value):
        if not isinstance(value, (tuple, list)):
            return [whole(op, argument, value)] * dims
        if len(value) != dims:
            raise ValueError(f"{op}: {argument}: takes one number or {dims}, is {value!r}")
        return [whole(op, argument, v) for v in value]

    return Slide(
        op,
        each("stride", stride),
        each("padding", padding),
        each("dilation", dilation),
        whole(op, "groups", groups),
    )


def one_of(op, argument, value, names):
    """`value`, when it is one of `names`."""
    if value not in names:
        raise ValueError(f"{op}: {argument}: must be one of {', '.join(map(repr, names))}, is {value!r}")
    return value


def dims(op, argument, shape, names):
    """Checks that there are as many dimensions as `names`."""
    if len(shape) != len(names):
        raise ValueError(f"{op}: {argument}: must be [{', '.join(names)}], has shape {list(shape)}")


def others(op, others, other_labels, other_weights):
    """Whether there are others, which take labels."""
    if others is None:
        for argument, value in (("other_labels", other_labels), ("other_weights", other_weights)):
            if value is not None:
                raise ValueError(f"{op}: {argument}: given without others")
        return False
    if other_labels is None:
        raise ValueError(f"{op}: other_labels: missing, others are given")
    return True


def rows(op, argument, shape, rows):
    """Checks that there is one number for each row of embeddings."""
    if tuple(shape) != (rows[0],):
        raise ValueError(
            f"{op}: {argument}: must be [{rows[0]}] for embeddings of shape {list(rows)}, has shape {list(shape)}"
        )


def shape(op, argument, shape, expected):
    """Checks for one shape."""
    if tuple(shape) != tuple(expected):
        raise ValueError(f"{op}: {argument}: must have shape {list(expected)}, has {list(shape)}")


class Conv(NamedTuple):
    """What the dimensions of a convolution are called."""

    x: tuple[str, ...]
    weight: tuple[str, ...]


CONV = {
    1: Conv(("batch", "channels", "T"), ("out_channels", "channels / groups", "taps")),
    2: Conv(("batch", "channels", "H", "W"), ("out_channels", "channels / groups", "kh", "kw")),
}
