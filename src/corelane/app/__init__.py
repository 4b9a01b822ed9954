"""Composition: the only room that reads configuration files, builds objects and joins them.

Its callers are `cli` and the public names of `corelane`.

Each module is one family of commands and is imported when it is first used: a server must not load what trains.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corelane.app import config, doctor, packaging, project, scoring, serving, training

__all__ = ["config", "doctor", "packaging", "project", "scoring", "serving", "training"]


def __getattr__(name: str) -> ModuleType:
    """Import the module `name` of this package on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'corelane.app' has no attribute {name!r}")
    return importlib.import_module(f"corelane.app.{name}")
