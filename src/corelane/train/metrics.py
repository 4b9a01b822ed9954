"""The quality of a model on a part of the data, added up batch by batch so that the part's size does not matter.

Plain NumPy over a confusion matrix or five sums: torchmetrics takes longer to import than a small run takes to train.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from corelane.core.types import Array, IntArray

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
    """Accuracy and macro-F1 (the mean F1 of the classes that occur in the targets or the predictions)."""

    num_classes: int
    loss: Callable[[Tensor, Tensor], Tensor]
    _loss_sum: float = 0.0
    _counts: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self._counts = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch: logits [n, num_classes], target int64 [n]."""
        self._loss_sum += self.loss(outputs, target).item() * len(target)
        cells = target.numpy() * self.num_classes + outputs.argmax(dim=1).numpy()
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._counts.shape)

    def result(self) -> Evaluation:
        """The evaluation, with the confusion counts: row actual, column predicted."""
        num_rows = int(self._counts.sum())
        f1 = class_qualities(self._counts)[:, 2]
        qualities = {"accuracy": float(np.trace(self._counts) / num_rows), "macro_f1": float(np.nanmean(f1))}
        return Evaluation(self._loss_sum / num_rows, qualities, num_rows, confusion=self._counts.copy())


@dataclass
class RegressionScores:
    """RMSE, MAE and R2 in the target's own unit: outputs and targets come standardised by `mean` and `std`.

    Sums run over standardised values, near 0 and 1 in size, so that R2 does not suffer from a target far from zero.
    """

    mean: float
    std: float
    loss: Callable[[Tensor, Tensor], Tensor]
    _loss_sum: float = 0.0
    _sums: Array = field(default_factory=lambda: np.zeros(4))
    _num_rows: int = 0
    _pairs: Pairs = field(default_factory=lambda: ([], []))

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch: outputs float32 [n, 1], target float32 [n]."""
        self._loss_sum += self.loss(outputs, target).item() * len(target)
        actual, predicted = target.numpy().astype(np.float64), outputs[:, 0].numpy().astype(np.float64)
        error = predicted - actual
        self._sums += [np.sum(error**2), np.sum(np.abs(error)), np.sum(actual), np.sum(actual**2)]
        self._num_rows += len(actual)
        room = MAX_PAIRS - len(self._pairs[0])
        for values, added in zip(self._pairs, (actual, predicted), strict=True):
            values.extend((added[:room] * self.std + self.mean).tolist())

    def result(self) -> Evaluation:
        """The evaluation, with the first `MAX_PAIRS` pairs. R2 of a constant target is 0 unless every error is 0."""
        squared, absolute, total, total_squared = self._sums
        variance = total_squared - total**2 / self._num_rows
        perfect = 1.0 if squared == 0.0 else 0.0
        qualities = {
            "rmse": float(np.sqrt(squared / self._num_rows)) * self.std,
            "mae": float(absolute / self._num_rows) * self.std,
            "r2": float(1.0 - squared / variance) if variance > 0.0 else perfect,
        }
        return Evaluation(self._loss_sum / self._num_rows, qualities, self._num_rows, pairs=self._pairs)


def class_qualities(counts: IntArray) -> Array:
    """Precision, recall and F1 of each class [k, 3] from confusion counts; NaN where a class does not occur at all."""
    hits, actual, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = 2 * hits / (actual + predicted)
        precision = np.where((predicted == 0) & (actual > 0), 0.0, hits / predicted)
        recall = np.where((actual == 0) & (predicted > 0), 0.0, hits / actual)
    return np.stack([precision, recall, f1], axis=1)
