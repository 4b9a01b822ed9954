"""How good answers are, added up batch by batch in NumPy: training's evaluation and offline scoring share these sums.

What they hold does not grow with the number of rows. Multi-class: accuracy, and macro-F1, the mean F1 of the classes
that occur in the targets or the predictions. Regression: root mean squared error and mean absolute error in the
target's own unit, and the coefficient of determination R2. The others: `label_scores.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from corelane.core.types import Array, IntArray


class Sums(Protocol):
    """Adds up targets and predictions."""

    @property
    def num_rows(self) -> int:
        """Rows added so far."""
        ...

    def add(self, actual: Array, predicted: Array) -> None:
        """Add n rows: encoded targets, and predictions in the terms that the class states."""
        ...

    def qualities(self) -> dict[str, float]:
        """The figures by name, of at least one row."""
        ...


@dataclass
class ConfusionSums:
    """Counts [num_classes, num_classes] of rows by actual (row) and predicted (column) class.

    A row whose actual class is -1 (a label the model does not know) is in no cell, and counts as wrong.
    """

    num_classes: int
    counts: IntArray = field(init=False)
    num_unknown: int = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)

    def add(self, actual: Array, predicted: Array) -> None:
        """Add n rows: class indices int64 [n] each."""
        known = actual >= 0
        self.num_unknown += int((~known).sum())
        cells = actual[known] * self.num_classes + predicted[known]
        self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)

    @property
    def num_rows(self) -> int:
        """Rows added so far."""
        return int(self.counts.sum()) + self.num_unknown

    def qualities(self) -> dict[str, float]:
        """`accuracy` and `macro_f1` of at least one row."""
        f1 = class_qualities(self.counts)[:, 2]
        macro_f1 = float(np.nanmean(f1)) if self.counts.any() else 0.0
        return {"accuracy": float(np.trace(self.counts) / self.num_rows), "macro_f1": macro_f1}


@dataclass
class ErrorSums:
    """Sums over values standardised by `mean` and `std`: near 1 in size, so a target far from zero does not hurt R2."""

    mean: float
    std: float
    num_rows: int = 0
    _sums: Array = field(default_factory=lambda: np.zeros(4))

    def add(self, actual: Array, predicted: Array) -> None:
        """Add n rows: standardised float64 values [n] each."""
        error = predicted - actual
        self._sums += [np.sum(error**2), np.sum(np.abs(error)), np.sum(actual), np.sum(actual**2)]
        self.num_rows += len(actual)

    def qualities(self) -> dict[str, float]:
        """`rmse`, `mae` and `r2` of at least one row. R2 of a constant target is 0 unless every error is 0."""
        squared, absolute, total, total_squared = self._sums
        variance = total_squared - total**2 / self.num_rows
        perfect = 1.0 if squared == 0.0 else 0.0
        return {
            "rmse": float(np.sqrt(squared / self.num_rows)) * self.std,
            "mae": float(absolute / self.num_rows) * self.std,
            "r2": float(1.0 - squared / variance) if variance > 0.0 else perfect,
        }


def class_qualities(counts: IntArray) -> Array:
    """Precision, recall and F1 of each class [k, 3] from confusion counts; NaN where a class does not occur at all."""
    return label_qualities(np.diag(counts), counts.sum(axis=1), counts.sum(axis=0))


def label_qualities(hits: IntArray, actual: IntArray, predicted: IntArray) -> Array:
    """Precision, recall and F1 [k, 3] of labels that `actual` [k] rows have and `predicted` [k] rows were given, `hits`
    [k] of them rightly; NaN where a label is neither.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = 2 * hits / (actual + predicted)
        precision = np.where((predicted == 0) & (actual > 0), 0.0, hits / predicted)
        recall = np.where((actual == 0) & (predicted > 0), 0.0, hits / actual)
    return np.stack([precision, recall, f1], axis=1)
