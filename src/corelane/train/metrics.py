"""The quality of a model on a part of the data, added up batch by batch so that the part's size does not matter.

The sums are `model/scores.py`, which offline scoring uses too; here they meet torch's outputs and the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from corelane.core.types import IntArray
from corelane.model.scores import ConfusionSums, ErrorSums

MAX_PAIRS = 2000  # points in a residual plot: more only make a blot

Pairs = tuple[list[float], list[float]]
"""Actual and predicted values, in the target's own unit."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: mean loss, qualities by name, confusion counts [k, k] or some (actual, predicted)."""

    loss: float
    qualities: dict[str, float]
    num_rows: int
    confusion: IntArray | None = None
    pairs: Pairs | None = None

    def named(self, part: str) -> dict[str, float]:
        """Loss and qualities as `<part>_<name>`."""
        return {f"{part}_{name}": value for name, value in {"loss": self.loss, **self.qualities}.items()}


class Scores(Protocol):
    """Adds up outputs and targets of one part."""

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch: outputs [n, k], target [n]."""
        ...

    def result(self) -> Evaluation:
        """What was added up. At least one batch must have been."""
        ...


@dataclass
class ClassificationScores:
    """Mean loss, accuracy, macro-F1 and the confusion counts."""

    num_classes: int
    loss: Callable[[Tensor, Tensor], Tensor]
    _loss_sum: float = 0.0
    _sums: ConfusionSums = field(init=False)

    def __post_init__(self) -> None:
        self._sums = ConfusionSums(self.num_classes)

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch: logits [n, num_classes], target int64 [n]."""
        self._loss_sum += self.loss(outputs, target).item() * len(target)
        self._sums.add(target.numpy(), outputs.argmax(dim=1).numpy())

    def result(self) -> Evaluation:
        """The evaluation, with the confusion counts: row actual, column predicted."""
        sums = self._sums
        loss = self._loss_sum / sums.num_rows
        return Evaluation(loss, sums.qualities(), sums.num_rows, confusion=sums.counts.copy())


@dataclass
class RegressionScores:
    """Mean loss, and RMSE, MAE and R2 in the target's own unit: outputs and targets come standardised."""

    mean: float
    std: float
    loss: Callable[[Tensor, Tensor], Tensor]
    _loss_sum: float = 0.0
    _sums: ErrorSums = field(init=False)
    _pairs: Pairs = field(default_factory=lambda: ([], []))

    def __post_init__(self) -> None:
        self._sums = ErrorSums(self.mean, self.std)

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch: outputs float32 [n, 1], target float32 [n]."""
        self._loss_sum += self.loss(outputs, target).item() * len(target)
        actual, predicted = target.numpy().astype(np.float64), outputs[:, 0].numpy().astype(np.float64)
        self._sums.add(actual, predicted)
        room = MAX_PAIRS - len(self._pairs[0])
        for values, added in zip(self._pairs, (actual, predicted), strict=True):
            values.extend((added[:room] * self.std + self.mean).tolist())

    def result(self) -> Evaluation:
        """The evaluation, with the first `MAX_PAIRS` pairs."""
        sums = self._sums
        return Evaluation(self._loss_sum / sums.num_rows, sums.qualities(), sums.num_rows, pairs=self._pairs)
