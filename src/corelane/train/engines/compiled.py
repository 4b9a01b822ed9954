"""Network and loss compiled together, forward and backward, by inductor; the update stays the fused optimiser's.

Used through `engine.py`. Compiles at the first step, into the folder that `TORCHINDUCTOR_CACHE_DIR` names.
"""

from __future__ import annotations

import torch

from corelane.model.compiling import compile_alone
from corelane.train.step import LossOf


def compiled(loss_of: LossOf, *, is_cpp: bool) -> LossOf:
    """`loss_of` compiled for the shapes it is called with; with `is_cpp` the calls between kernels are C++ too."""
    compile_alone()
    return torch.compile(loss_of, dynamic=False, options={"cpp_wrapper": is_cpp})
