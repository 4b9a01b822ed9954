"""What is minimised, by task: cross-entropy over classes, mean squared error of the standardised target."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from corelane.core.types import Task

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs [n, k], target [n]) -> scalar, the mean over the rows."""


def loss_for(task: Task) -> Loss:
    """Cross-entropy (target int64 [n], outputs [n, classes]) or squared error (target float32 [n], outputs [n, 1])."""
    return cross_entropy if task == "classification" else squared_error


def squared_error(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean of (outputs[:, 0] - target) squared."""
    return mse_loss(outputs.squeeze(1), target)
