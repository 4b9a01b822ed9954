"""Corelane trains, packages, optimises, serves and monitors neural networks on CPUs.

The names below are the whole Python interface; each is loaded on first use, so that `import corelane` stays instant.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corelane.app.packaging import package
    from corelane.app.scoring import evaluate, load, predict
    from corelane.app.serving import serve
    from corelane.app.training import train

__version__ = "0.1.0"
__all__ = ["evaluate", "load", "package", "predict", "serve", "train"]

_HOMES = {
    "train": "training",
    "package": "packaging",
    "load": "scoring",
    "evaluate": "scoring",
    "predict": "scoring",
    "serve": "serving",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home in `corelane.app` when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'corelane' has no attribute {name!r}")
    return getattr(importlib.import_module(f"corelane.app.{_HOMES[name]}"), name)
