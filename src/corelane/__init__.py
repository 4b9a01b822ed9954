"""Corelane trains, packages, optimises, serves and monitors neural networks on CPUs.

The names below are the whole Python interface; each is loaded on first use, so that `import corelane` stays instant.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["evaluate", "load", "package", "predict", "serve", "train"]

if TYPE_CHECKING:
    from corelane.app import evaluate, load, package, predict, serve, train


def __getattr__(name: str) -> Any:
    """Load a public name from `corelane.app` when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'corelane' has no attribute {name!r}")
    from corelane import app  # noqa: PLC0415 - the deferred import is the point

    return getattr(app, name)
