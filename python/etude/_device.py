"""Devices of the native library, made once for each number of threads or stream."""

from __future__ import annotations

import functools
import os

from ._native import Conv, Device

# How the native library is told what memory holds.
REAL, F16, BF16 = range(3)


def _caches():
    # Threads of a number that is asked for no more end.
    return functools.lru_cache(maxsize=8)(Device.cpu), functools.lru_cache(maxsize=None)(Device.cuda)


cpu, cuda = _caches()

_of_parents: list[object] = []


def _forget():
    """Threads do not survive a fork: a child starts its own, and never ends its parent's."""
    global cpu, cuda
    _of_parents.extend((cpu, cuda))
    cpu, cuda = _caches()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def conv(x, weight, *slide):
    """A convolution of shapes that fit together, and its output's; a batch of none has shapes too."""
    made = Conv((max(x[0], 1), *x[1:]), tuple(weight), *slide)
    return made, (x[0], *made.output[1:])
