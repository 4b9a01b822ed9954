"""What one step did, as whoever looks on is told: the progress display, `--watch`, a caller's own function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias


class StepRecord(NamedTuple):
    """Step number `step` (from 1), taken in epoch `epoch` (from 0) on `num_rows` rows.

    `loss` is the mean over the rows, `learning_rate` the one the step was taken with, `gradient_norm` the length of the
    gradient before clipping (NaN where `train.clip_norm` is null), `time` a reading of the run's monotonic clock in
    seconds. Cannot be changed; made anew for each step (0.4 us).
    """

    step: int
    epoch: int
    num_rows: int
    loss: float
    learning_rate: float
    gradient_norm: float
    time: float


class EpochRecord(NamedTuple):
    """Epoch number `epoch` (from 0) of `num_epochs` ended with step `step`; `values` are its losses and qualities by
    name, `is_best` says that the validation part has seen none better.
    """

    epoch: int
    num_epochs: int
    step: int
    values: Mapping[str, float]
    is_best: bool


Observer: TypeAlias = Callable[[StepRecord], None]
"""Called after every step, in the trainer's thread. What it raises ends the run: observers must not fail."""
