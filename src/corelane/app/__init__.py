"""Composition, and the Python interface: `from corelane.app import train, package, load, evaluate, predict, serve`.

The only room that reads configuration files, builds objects and joins them. Each module is one family of commands and
is imported when a name of it is first used: a server must not load what trains.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corelane.app import (
        cache,
        cache_text,
        catalogue,
        catalogue_text,
        checkpoints,
        checkpoints_text,
        config,
        data_check,
        data_check_text,
        doctor,
        foreign,
        idle_planning,
        importing,
        loading,
        models,
        models_text,
        optimizing,
        optimizing_text,
        packaging,
        plans,
        plans_text,
        project,
        replay,
        scoring,
        serving,
        tokens,
        training,
    )
    from corelane.app.importing import import_model
    from corelane.app.optimizing import optimize
    from corelane.app.packaging import package
    from corelane.app.scoring import evaluate, load, predict
    from corelane.app.serving import serve
    from corelane.app.training import train

__all__ = [
    "cache",
    "cache_text",
    "catalogue",
    "catalogue_text",
    "checkpoints",
    "checkpoints_text",
    "config",
    "data_check",
    "data_check_text",
    "doctor",
    "evaluate",
    "foreign",
    "idle_planning",
    "import_model",
    "importing",
    "load",
    "loading",
    "models",
    "models_text",
    "optimize",
    "optimizing",
    "optimizing_text",
    "package",
    "packaging",
    "plans",
    "plans_text",
    "predict",
    "project",
    "replay",
    "scoring",
    "serve",
    "serving",
    "tokens",
    "train",
    "training",
]

_HOMES = {
    "train": "training",
    "package": "packaging",
    "load": "scoring",
    "evaluate": "scoring",
    "predict": "scoring",
    "serve": "serving",
    "optimize": "optimizing",
    "import_model": "importing",
}


def __getattr__(name: str) -> Any:
    """Import a module of this package, or a public name's home, on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'corelane.app' has no attribute {name!r}")
    module = importlib.import_module(f"corelane.app.{_HOMES.get(name, name)}")
    return getattr(module, name) if name in _HOMES else module
