"""How many digits a step computes with: what a plan's precision means. Weights, optimiser and losses stay float32.

Used by `learner.py`; the weights are evaluated and packaged in float32 whatever they were trained in.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor

from corelane.train.plan import Precision


def in_precision(module: torch.nn.Module, precision: Precision) -> torch.nn.Module:
    """`module` as the step calls it: itself, or under autocast to bfloat16."""
    return _Autocast(module) if precision == "bf16" else module


def matmul_precision(precision: Precision) -> AbstractContextManager[None]:
    """A context for steps, entered again and again: with `bf32`, products of float32 tensors use bfloat16 inside."""
    return _Bf32() if precision == "bf32" else nullcontext()


class _Autocast(torch.nn.Module):
    """The network with its matrix products and convolutions in bfloat16; its outputs are float32 again."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        """As the network's own."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs: Tensor = self.module(*inputs)
        return outputs.float()


class _Bf32(AbstractContextManager[None]):
    """oneDNN's setting for products of float32 tensors, one for the whole process, while a step is taken."""

    def __init__(self) -> None:
        backend = cast(Any, torch.backends.mkldnn)  # mypy does not see what the module sets at run time
        self._kinds = [backend.matmul, backend.conv]

    def __enter__(self) -> None:
        self._before = [kind.fp32_precision for kind in self._kinds]
        self._set(["bf16"] * len(self._kinds))

    def __exit__(self, *error: object) -> None:
        self._set(self._before)

    def _set(self, values: list[str]) -> None:
        for kind, value in zip(self._kinds, values, strict=True):
            kind.fp32_precision = value
