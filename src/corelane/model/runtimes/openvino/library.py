"""The OpenVINO library, loaded when first needed and kept from reporting to its maker. An extra: it may be absent."""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import Any

from corelane.core.errors import MissingDependencyError


def load_openvino() -> ModuleType:
    """The module `openvino`. Raises `MissingDependencyError` naming the extra where it is not installed."""
    _silence()
    try:
        import openvino  # noqa: PLC0415 - an extra, and 0.15 s
    except ImportError as error:
        raise MissingDependencyError(
            f"openvino must be installed, got: {error}; install it with: pip install 'corelane[openvino]'"
        ) from error
    library: ModuleType = openvino
    return library


@cache
def openvino_core() -> Any:
    """The library's core, one for the whole process, which never goes.

    With the last of them goes the memory that the library has made the signal stack of the thread which first compiled
    a graph, so that it has room for AMX's registers. Where it goes in another thread, the first keeps the address, and
    the next signal that Python handles there ends the process.
    """
    return load_openvino().Core()


def _silence() -> None:
    """Hide `openvino_telemetry` from this process.

    Importing openvino would, unasked, write a client id and a counter below the home directory and send an
    event over the network, from a child process. It has no switch, and does without the package where that cannot be
    imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
