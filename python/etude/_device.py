"""Devices of the native library, made once for each number of threads or stream."""

from __future__ import annotations

import functools
import os

from ._native import Device

# How the native library is told what memory holds.
REAL, F16, BF16 = range(3)

cpu = functools.lru_cache(maxsize=None)(Device.cpu)
cuda = functools.lru_cache(maxsize=None)(Device.cuda)

_of_parents: list[object] = []


def _forget():
    """Threads do not survive a fork: a child starts its own, and never ends its parent's."""
    global cpu, cuda
    _of_parents.extend((cpu, cuda))
    cpu = functools.lru_cache(maxsize=None)(Device.cpu)
    cuda = functools.lru_cache(maxsize=None)(Device.cuda)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
