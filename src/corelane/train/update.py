"""The second half of a step: from gradients to new weights. Every part is one call over all parameters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from corelane.train.averaging import Averaging
from corelane.train.clipping import clip_at_step, clip_values, gradients_of, norm_of
from corelane.train.config import TrainConfig
from corelane.train.schedule import Schedule

NO_NORM = torch.tensor(float("nan"))


class Update:
    """Clips, steps the optimiser and its schedule, clears the gradients, moves the average. Has no state of its own."""

    def __init__(self, config: TrainConfig, optimizer: Optimizer, schedule: Schedule, average: Averaging) -> None:
        self._optimizer = optimizer
        self._schedule = schedule
        self._average = average
        self._clip_norm = config.clip_norm
        self._clip_value = config.clip_value
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def apply(self) -> Tensor:
        """Take the step that the gradients say; return their length before clipping, NaN where it is not asked for."""
        norm = self._clip()
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._schedule.step()
        self._average.update()
        return norm

    def _clip(self) -> Tensor:
        if self._clip_value is None and self._clip_norm is None:
            return NO_NORM
        gradients = gradients_of(self._parameters)
        norm = norm_of(gradients) if self._clip_norm is not None else NO_NORM
        if self._clip_value is not None:
            clip_values(gradients, self._clip_value)
        if self._clip_norm is not None:
            after = norm if self._clip_value is None else norm_of(gradients)
            clip_at_step(self._optimizer, after, self._clip_norm)
        return norm
