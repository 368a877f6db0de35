"""Registers the operators with PyTorch as soon as that is there.

So a model that `torch.export` saved loads after `import etude`, whichever of the two is imported first. PyTorch is
not imported for it: who uses NumPy alone does not wait.
"""

from __future__ import annotations

import importlib.abc
import sys
import warnings


def _register():
    try:
        from . import _torch  # noqa: F401
    except Exception as error:  # nobody who only has an old PyTorch beside NumPy is stopped
        warnings.warn(
            f"etude: its operators are not registered with PyTorch: {error}", RuntimeWarning, stacklevel=2
        )


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: it has the operators registered at the end of PyTorch's own import."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        after = sys.meta_path[sys.meta_path.index(self) + 1 :] if self in sys.meta_path else []
        for finder in after:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    _follow(spec.loader)
                return spec
        return None


def _follow(loader):
    def exec_module(module):
        del loader.exec_module  # the loader's own again
        loader.exec_module(module)
        _register()

    loader.exec_module = exec_module


def install():
    if sys.modules.get("torch") is not None:
        _register()
    else:
        sys.meta_path.insert(0, _Finder())
