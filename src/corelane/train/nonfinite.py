"""What becomes of a step whose loss or gradient is not finite: it is left out, or the run goes back, or it ends.

Such a step never changes a weight, whatever the policy: `Guard` stands before the update. Leaving out a few is the
default, because one row with an extreme value should not end a run of hours; a run that diverges has such steps one
after another and ends within `max_skipped_in_a_row` of them, as it would without. Going back with a lower rate is for
runs that are known to be on the edge. What was counted is part of every checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from corelane.train.config import TrainConfig


class Guard:
    """Judges a step before its update, and undoes what its forward pass did to the statistics of `module`.

    Batch normalisation takes the batch's mean into its buffers while it runs; a batch that is not finite would spoil
    them for good. They are copied before every step (3 us for a ResNet-8), where there are any; what a part names in
    `constant_buffers` never changes and is not.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._buffers = list(_changing_buffers(module))
        self._before = [buffer.clone() for buffer in self._buffers]

    def begin(self) -> None:
        """A step begins."""
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)

    def is_good(self, loss: Tensor, gradient_norm: Tensor) -> bool:
        """Whether the step may change the weights; if not, the statistics are those from before it.

        Reading a scalar takes 0.1 us on a CPU, which has computed it already.
        """
        if math.isfinite(loss.item()) and math.isfinite(gradient_norm.item()):
            return True
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._before)
        return False


def _changing_buffers(module: torch.nn.Module) -> Iterator[Tensor]:
    for part in module.modules():
        constant: Collection[str] = getattr(part, "constant_buffers", ())
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_floating_point() and name not in constant:
                yield buffer


@dataclass
class NonFiniteSteps:
    """Counts steps that were left out, and rollbacks; `rate_factor` is what the latter left of the learning rate.

    `since_log` and `in_epoch` are for the means of the loss, that such steps do not enter.
    """

    config: TrainConfig
    skipped: int = 0
    in_a_row: int = 0
    since_log: int = 0
    in_epoch: int = 0
    rollbacks: int = 0
    rate_factor: float = 1.0

    def skip(self) -> bool:
        """One more step is not finite: whether the policy lets the run go on without it."""
        config = self.config
        self.in_a_row += 1
        is_within = self.in_a_row <= config.max_skipped_in_a_row and self.skipped < config.max_skipped
        if config.on_nonfinite != "skip" or not is_within:
            return False
        self.skipped += 1
        self.since_log += 1
        self.in_epoch += 1
        return True

    def roll_back(self) -> bool:
        """Something is not finite: whether the policy lets the run go back, and then with a lower rate."""
        if self.config.on_nonfinite != "rollback" or self.rollbacks >= self.config.max_rollbacks:
            return False
        self.rollbacks += 1
        self.rate_factor *= self.config.rollback_rate_factor
        return True

    @property
    def told(self) -> str:
        """What was tried before the run ended, for its error."""
        tried = [f"{self.skipped} steps were left out"] * bool(self.skipped)
        tried += [f"it went back {self.rollbacks} times"] * bool(self.rollbacks)
        return f" ({' and '.join(tried)} before)" if tried else ""

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {name: value for name, value in asdict(self).items() if name != "config"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take counts over."""
        for name, value in state.items():
            setattr(self, name, value)
