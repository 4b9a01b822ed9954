"""The learning rate as a pure function of the step, and the small object that writes it into the optimiser.

Cosine with linear warm-up: Loshchilov and Hutter, "SGDR", 2017 (no restarts). One-cycle: Smith and Topin,
"Super-convergence", 2018: up from 1/25 of the highest rate in the warm-up share, down to 1/250,000 by the last step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from corelane.core.errors import StateError
from corelane.train.config import TrainConfig

VERSION = 1
START_DIVISOR = 25.0  # the paper's lower bound of the cycle
END_DIVISOR = 250_000.0  # "several orders of magnitude below": the value PyTorch and fastai settled on


def rate_at(config: TrainConfig, step: int, total_steps: int) -> float:
    """The learning rate of step `step` (from 0) of `total_steps`."""
    if config.scheduler == "constant":
        return config.learning_rate
    warmup_steps = round(config.warmup_fraction * total_steps)
    if config.scheduler == "cosine":
        if step < warmup_steps:
            return config.learning_rate * (step + 1) / warmup_steps
        return _ease(config.learning_rate, 0.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    if step < warmup_steps:
        return _ease(config.learning_rate / START_DIVISOR, config.learning_rate, step / warmup_steps)
    remaining = max(1, total_steps - 1 - warmup_steps)
    return _ease(config.learning_rate, config.learning_rate / END_DIVISOR, (step - warmup_steps) / remaining)


class Schedule:
    """Writes the rate of the coming step into `optimizer`; knows how many steps were taken and nothing else."""

    def __init__(self, optimizer: Optimizer, config: TrainConfig, total_steps: int) -> None:
        self._optimizer = optimizer
        self._config = config
        self._total_steps = total_steps
        self._step = 0
        self._factor = 1.0
        self._apply()

    @property
    def learning_rate(self) -> float:
        """The rate of the coming step."""
        return self._learning_rate

    def rate_of(self, step: int) -> float:
        """The rate of step `step`, from 0."""
        return self._factor * rate_at(self._config, min(step, self._total_steps - 1), self._total_steps)

    def lower(self, factor: float) -> None:
        """From now on, `factor` of what the configuration says; whoever decided so keeps it in the checkpoint."""
        self._factor = factor
        self._apply()

    def step(self) -> None:
        """Go on to the next step's rate."""
        self._step += 1
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """The number of steps taken; the rest follows from the configuration."""
        return {"version": VERSION, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take `state` over. Raises `StateError` when its version is unknown."""
        if state.get("version") != VERSION:
            raise StateError(f"the schedule must have version {VERSION}, got {state.get('version')!r}; start a new run")
        self._step = int(state["step"])
        self._apply()

    def _apply(self) -> None:
        self._learning_rate = self.rate_of(self._step)
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate


def _ease(start: float, end: float, share: float) -> float:
    """Half a cosine wave from `start` (share 0) to `end` (share 1)."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))
