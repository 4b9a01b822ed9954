"""The second half of a step: from gradients to new weights. Every part is one call over all parameters."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.optim import Optimizer

from corelane.train.averaging import Averaging
from corelane.train.clipping import clip_at_step, clip_values, gradients_of, norm_of
from corelane.train.config import TrainConfig
from corelane.train.fused import step_of
from corelane.train.nonfinite import Guard
from corelane.train.schedule import Schedule


class Outcome(NamedTuple):
    """What a step came to: the batch's loss and the gradient's length before clipping, scalars.

    `was_taken` is false when one of them was not finite: then no weight, average or statistic has changed.
    """

    loss: Tensor
    gradient_norm: Tensor
    was_taken: bool = True


class Update:
    """Clips, steps the optimiser and its schedule, clears the gradients, moves the average. Has no state of its own.

    `guard` is asked before weights change.
    """

    def __init__(
        self, config: TrainConfig, optimizer: Optimizer, schedule: Schedule, average: Averaging, guard: Guard
    ) -> None:
        self._guard = guard
        self._optimizer = optimizer
        self._take_step = step_of(optimizer)
        self._schedule = schedule
        self._average = average
        self._clip_norm = config.clip_norm
        self._clip_value = config.clip_value
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def apply(self, loss: Tensor) -> Outcome:
        """Take the step that the gradients of `loss` say, unless they or it are not finite; the schedule goes on."""
        norm = self._clip()
        is_good = self._guard.is_good(loss, norm)
        if is_good:
            self._take_step()
        for parameter in self._parameters:
            parameter.grad = None  # as zero_grad does, whose hooks and profiling cost 17 us
        self._schedule.step()
        if is_good:
            self._average.update()
        return Outcome(loss, norm, is_good)

    def _clip(self) -> Tensor:
        """The length before clipping, which the guard needs where nothing is clipped too."""
        gradients = gradients_of(self._parameters)
        norm = norm_of(gradients)
        if self._clip_value is not None:
            clip_values(gradients, self._clip_value)
        if self._clip_norm is not None:
            after = norm if self._clip_value is None else norm_of(gradients)
            clip_at_step(self._optimizer, after, self._clip_norm)
        return norm
