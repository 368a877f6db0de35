"""What the NumPy and the PyTorch face refuse alike."""

from __future__ import annotations

import itertools
import math
import operator
import reprlib
from typing import NamedTuple

import numpy as np

METRICS = ("euclidean", "cosine")
REDUCTIONS = ("mean", "none")
# Or those of 64 rows, where these are more.
PAIRS_AT_ONCE = 2**22
SIMILARITIES = ("dot", "cosine", "squared_euclidean", "euclidean")


class Slide(NamedTuple):
    """How a convolution slides, a number for each of its dimensions; `padding` may be `"same"`."""

    op: str
    stride: list[int]
    padding: list[int] | str
    dilation: list[int]
    groups: int


def whole(op, argument, value):
    """`value` as a whole number that is not negative and fits into 32 bits."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: {argument}: must be a whole number, is {reprlib.repr(value)}") from None
    if number < 0:
        raise ValueError(f"{op}: {argument}: must not be negative, is {reprlib.repr(number)}")
    if number >= 2**32:
        raise ValueError(f"{op}: {argument}: must be below 2**32, is {reprlib.repr(number)}")
    return number


def real(op, argument, value):
    """`value` as a float; text is none, whatever it spells."""
    if not isinstance(value, (str, bytes, bytearray)):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise TypeError(f"{op}: {argument}: must be a number, is {reprlib.repr(value)}")


def slide(op, dims, stride, padding, dilation, groups):
    """Options of a convolution over `dims` dimensions: whole numbers that are not negative, or padding by its name."""

    def each(argument, value):
        if not isinstance(value, (tuple, list)):
            return [whole(op, argument, value)] * dims
        if len(value) != dims:
            raise ValueError(f"{op}: {argument}: takes one number or {dims}, is {reprlib.repr(value)}")
        return [whole(op, argument, v) for v in value]

    stride = each("stride", stride)
    if isinstance(padding, str):
        if one_of(op, "padding", padding, ("same", "valid")) == "valid":
            padding = 0
        elif any(s != 1 for s in stride):
            raise ValueError(f"{op}: padding: 'same' needs a stride of 1, is {reprlib.repr(stride)}")
    padding = padding if padding == "same" else each("padding", padding)
    return Slide(op, stride, padding, each("dilation", dilation), whole(op, "groups", groups))


def padding(options, taps):
    """Zeros at both ends of each dimension, and how many more at the far one: 1 where `"same"` takes an odd number."""
    if options.padding != "same":
        return options.padding, [0] * len(taps)
    zeros = [d * (k - 1) for k, d in zip(taps, options.dilation)]
    return [n // 2 for n in zeros], [n % 2 for n in zeros]


def conv(options, x, weight):
    """Checks how many dimensions a convolution's arguments have, of these shapes; gives back whether `x` is a batch."""
    names = CONV[len(options.stride)]
    dims(options.op, "weight", weight, names.weight)
    if len(x) not in (len(names.x), len(names.x) - 1):
        batch, one = (f"[{', '.join(of)}]" for of in (names.x, names.x[1:]))
        raise ValueError(f"{options.op}: x: must be {batch} or {one}, has shape {list(x)}")
    return len(x) == len(names.x)


def one_of(op, argument, value, names):
    """`value`, when it is one of `names`."""
    if not isinstance(value, str) or value not in names:
        raise ValueError(
            f"{op}: {argument}: must be one of {', '.join(map(repr, names))}, is {reprlib.repr(value)}"
        )
    return value


def dims(op, argument, shape, names):
    """Checks that there are as many dimensions as `names`."""
    if len(shape) != len(names):
        raise ValueError(f"{op}: {argument}: must be [{', '.join(names)}], has shape {list(shape)}")


def others(op, others, other_labels, other_weights=None):
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
    if len(shape) != 1 or shape[0] != rows[0]:
        raise ValueError(
            f"{op}: {argument}: must be [{rows[0]}] for embeddings of shape {list(rows)}, has shape {list(shape)}"
        )


def shape(op, argument, shape, expected):
    """Checks for one shape."""
    if tuple(shape) != tuple(expected):
        raise ValueError(f"{op}: {argument}: must have shape {list(expected)}, has {list(shape)}")


def columns(op, argument, shape, like):
    """Checks for rows as long as those of `like` = (argument, shape)."""
    if shape[1] != like[1][1]:
        raise ValueError(
            f"{op}: {argument}: must have as many columns as {like[0]} of shape {list(like[1])}, "
            f"has shape {list(shape)}"
        )


def matrices(op, a, b):
    """Checks the shapes of two matrices, or of batches of them that broadcast; gives back that of the batch."""
    for argument, shape, rows in (("a", a, "N"), ("b", b, "M")):
        if len(shape) < 2:
            raise ValueError(f"{op}: {argument}: must be [..., {rows}, D], has shape {list(shape)}")
    if a[-1] != b[-1]:
        raise ValueError(f"{op}: b: must have as many columns as a of shape {list(a)}, has shape {list(b)}")
    ends = itertools.zip_longest(reversed(a[:-2]), reversed(b[:-2]), fillvalue=1)
    batch = []
    for of_a, of_b in ends:
        if of_a != of_b and of_a != 1 and of_b != 1:
            raise ValueError(
                f"{op}: b: must be a batch that broadcasts to that of a of shape {list(a)}, has shape {list(b)}"
            )
        batch.insert(0, of_b if of_a == 1 else of_a)
    return batch


def pairs(sizes):
    """Whether sets of these sizes have a pair."""
    return sizes[0] > 1 if len(sizes) == 1 else sizes[0] > 0 and sizes[1] > 0


def first(op, argument, shape, rows):
    """Checks that there is one label, of whatever shape, for each row of embeddings."""
    if len(shape) == 0 or shape[0] != rows[0]:
        raise ValueError(
            f"{op}: {argument}: must be [{rows[0]}, ...] for embeddings of shape {list(rows)}, "
            f"has shape {list(shape)}"
        )


def function_or_none(op, argument, value):
    """Checks for a function, if there is anything."""
    if value is not None and not callable(value):
        raise TypeError(f"{op}: {argument}: must be a function, is {reprlib.repr(value)}")


def rows_at_once(columns):
    """Rows of a block whose pairs are in memory at a time."""
    return max(64, PAIRS_AT_ONCE // max(1, columns) // 64 * 64)


def of_pairs(op, first, own, apart, weights):
    """Raises for the first pair that counts and whose numbers are none; rows are those from `first` on."""
    sound = np.isfinite(apart) & (apart >= 0)
    counts = np.ones_like(sound)
    if own:
        counts[np.arange(len(apart)), first + np.arange(len(apart))] = False
    checked = [("label_distance", apart, counts & ~sound & (True if weights is None else weights != 0))]
    if weights is not None:
        checked.insert(0, ("pair_weights", weights, counts & ~(np.isfinite(weights) & (weights >= 0))))
    for argument, values, bad in checked:
        if bad.any():
            i, j = np.unravel_index(int(np.argmax(bad)), bad.shape)
            raise ValueError(
                f"{op}: {argument}: of rows {first + i} and {j} is {values[i, j]}, must be finite and not negative"
            )


def numbers(op, names, labels, weights):
    """Checks that weights are finite and not negative, and the labels of what is not masked out too, if they are
    numbers."""

    def refuse(argument, bad, values, must):
        i = int(np.argmax(bad))
        raise ValueError(f"{op}: {argument}: row {i} is {values[i]}, must be {must}")

    if weights is not None:
        wrong = ~(np.isfinite(weights) & (weights >= 0))
        if wrong.any():
            refuse(names[1], wrong, weights, "finite and not negative")
    if labels is None:
        return
    bad = ~(np.isfinite(labels) & (labels >= 0))
    if weights is not None:
        bad &= weights > 0
    if bad.any():
        must = "finite and not negative: weigh what has no label 0, or add a constant to all"
        refuse(names[0], bad, labels, must)


def finite(op, argument, values):
    """Checks that no number is NaN or infinite, nor the difference of two."""
    if not values.size:
        return
    low, high = values.min(), values.max()
    if math.isfinite(_apart(values.dtype, low, high)):
        return
    _numbers(op, argument, values)
    raise ValueError(
        f"{op}: {argument}: are from {low} to {high}, "
        f"a difference that {values.dtype} does not hold: scale them"
    )


def near(op, labels, sigma):
    """Checks that labels of one set or two are finite, and so is each difference of two over `sigma`."""
    ends = [end for values in labels if values.size for end in (values.min(), values.max())]
    # The least and the greatest of what holds a NaN may be any.
    if (
        not ends
        or not any(map(math.isnan, ends))
        and math.isfinite(_apart(labels[0].dtype, min(ends), max(ends), sigma))
    ):
        return
    for argument, values in zip(("labels", "other_labels"), labels):
        _numbers(op, argument, values)
    raise ValueError(
        f"{op}: labels: are from {min(ends)} to {max(ends)}, a difference that over a sigma of {sigma} "
        f"{labels[0].dtype} does not hold: scale them, or sigma"
    )


def _apart(dtype, low, high, over=1.0):
    """The difference, as numbers of that type give it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (high - low) / dtype.type(over)


def _numbers(op, argument, values):
    """Raises for the first that is NaN or infinite, if any is."""
    bad = ~np.isfinite(values)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(f"{op}: {argument}: row {i} is {values[i]}, must be finite")


def positive(op, argument, value):
    """A number that is positive and finite as a float32."""
    number = real(op, argument, value)
    if not 1.2e-38 < number < 3.4e38:
        raise ValueError(f"{op}: {argument}: must be positive and finite in float32, is {number}")
    return number


def vector(values, dtype):
    """`values` as kernels read them: a copy only of what has another type or lies otherwise."""
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        return np.require(values, dtype, "CA")


def told_apart(op, names, labels, dtype):
    """Labels, one vector for each set, in `dtype`. Whole numbers that it does not hold exactly are counted from the
    smallest of all sets on: only their differences count."""
    exact = 2 ** (np.finfo(dtype).nmant + 1)
    large = [v.dtype.kind in "iu" and v.size and max(int(v.max()), -int(v.min())) > exact for v in labels]
    if not any(large):
        return [vector(v, dtype) for v in labels]
    together = all(v.dtype.kind in "iu" for v in labels)
    smallest = min(int(v.min()) for v in labels if v.size) if together else 0
    converted = []
    for name, given, is_large in zip(names, labels, large):
        if not is_large and not together:
            converted.append(vector(given, dtype))
            continue
        above = [int(v) - smallest for v in given]
        floats = np.array([float(v) for v in above], dtype)
        for i, v in enumerate(above):
            if int(floats[i]) != v:
                raise ValueError(
                    f"{op}: {name}: row {i} is {given[i]}, and {np.dtype(dtype)} does not hold {v}: "
                    "labels of that size cannot be told apart"
                )
        converted.append(floats)
    return converted


class Conv(NamedTuple):
    """What the dimensions of a convolution are called."""

    x: tuple[str, ...]
    weight: tuple[str, ...]


CONV = {
    1: Conv(("batch", "channels", "T"), ("out_channels", "channels / groups", "taps")),
    2: Conv(("batch", "channels", "H", "W"), ("out_channels", "channels / groups", "kh", "kw")),
}
