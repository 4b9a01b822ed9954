"""Network and loss compiled together, forward and backward, by inductor; the update stays the fused optimiser's.

Used through `engine.py`. Compiles at the first step, into the folder that `TORCHINDUCTOR_CACHE_DIR` names.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from corelane.train.step import LossOf

MOST_COMPILED = 64  # networks in one process: after 8, torch would run the next one eagerly without a word


def compiled(loss_of: LossOf, *, is_cpp: bool) -> LossOf:
    """`loss_of` compiled for the shapes it is called with; with `is_cpp` the calls between kernels are C++ too."""
    compile_alone()
    return torch.compile(loss_of, dynamic=False, options={"cpp_wrapper": is_cpp})


def compile_alone() -> None:
    """Have inductor compile in this process: its pool of helpers would outlive the compiling, and there are few kernels
    to share out.
    """
    settings: Any = import_module("torch._inductor.config")
    settings.compile_threads = 1
    dynamo: Any = import_module("torch._dynamo.config")
    dynamo.recompile_limit = MOST_COMPILED
