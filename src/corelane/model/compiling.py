"""Settings under which inductor compiles, in training and for answers: one set for a process. Imports torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

MOST_COMPILED = 64  # networks in one process: after 8, torch would run the next one eagerly without a word


def compile_alone() -> None:
    """Have inductor compile in this process: its pool of helpers would outlive the compiling, and there are few kernels
    to share out.
    """
    settings: Any = import_module("torch._inductor.config")
    settings.compile_threads = 1
    dynamo: Any = import_module("torch._dynamo.config")
    dynamo.recompile_limit = MOST_COMPILED
