"""From a batch to its loss. Used by every engine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corelane.train.losses import Loss


class Forward:
    """The loss of `module` on a batch."""

    def __init__(self, module: torch.nn.Module, loss: Loss) -> None:
        self._module = module
        self._loss = loss
        self._names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]

    def __call__(self, inputs: list[Tensor], target: Tensor) -> Tensor:
        """With the module's own weights."""
        return self._loss(self._module(*inputs), target)

    def at(self, weights: Sequence[Tensor], inputs: list[Tensor], target: Tensor) -> Tensor:
        """With other weights in place of those that are trained, in the module's order."""
        replaced = dict(zip(self._names, weights, strict=True))
        return self._loss(torch.func.functional_call(self._module, replaced, tuple(inputs)), target)
