"""Leaving out what libraries import when it happens to be installed, in processes that have no use for it.

Arrow imports pandas with its first array, structlog imports rich: a third of a second and 50 MB, in each worker of a
server.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _LeftOut:
    """A finder (`importlib.abc.MetaPathFinder`) that says of some packages that they are not installed."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """None for every other module; those that are left out raise `ModuleNotFoundError`."""
        del path, target
        if name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"{name} is left out of this process", name=name)
        return None


def leave_out(*names: str) -> None:
    """Have imports of these packages fail from now on, as where they are not installed; what is there already stays."""
    sys.meta_path.insert(0, _LeftOut(frozenset(names)))
