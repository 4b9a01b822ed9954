"""How good answers are, summed batch by batch in NumPy: offline evaluation uses it, and torch is not needed for it.

Classification: accuracy and mean log loss (negative log-likelihood of the true class, in nats). Regression: root mean
squared error and mean absolute error in the target's unit, and the coefficient of determination R2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from corelane.core.types import Array, Task
from corelane.data.target import TargetEncoder
from corelane.model.decode import LABEL, PROBABILITIES, VALUE

SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)  # a float32 softmax rounds a hopeless class to 0


class Scores(Protocol):
    """Sums over the rows seen so far."""

    def update(self, answers: Mapping[str, Array], truth: Array) -> None:
        """Take n answers by output name and their encoded truth [n]."""
        ...

    def compute(self) -> dict[str, float]:
        """The scores by name. Needs at least one row."""
        ...


class ClassificationScores:
    """Accuracy and log loss; a truth of -1 (a label the model does not know) counts as wrong, and not in the loss."""

    def __init__(self, labels: Array) -> None:
        self._labels = labels
        self._num_rows = self._num_right = self._num_known = 0
        self._loss = 0.0

    def update(self, answers: Mapping[str, Array], truth: Array) -> None:
        """`answers` has `label` [n] and `probabilities` [n, k]; `truth` int64 [n] indices into the labels, or -1."""
        known = np.flatnonzero(truth >= 0)
        self._num_rows += len(truth)
        self._num_known += len(known)
        self._num_right += int((answers[LABEL][known] == self._labels[truth[known]]).sum())
        chances = answers[PROBABILITIES][known, truth[known]].astype(np.float64)
        self._loss -= float(np.log(np.maximum(chances, SMALLEST_PROBABILITY)).sum())

    def compute(self) -> dict[str, float]:
        """`accuracy` over all rows, `log_loss` over those with a known label."""
        scores = {"accuracy": self._num_right / self._num_rows}
        return scores | ({"log_loss": self._loss / self._num_known} if self._num_known else {})


class RegressionScores:
    """Errors in the target's unit; the variance for R2 is summed around the training mean, which keeps it stable."""

    def __init__(self, mean: float, std: float) -> None:
        self._mean = mean
        self._std = std
        self._num_rows = 0
        self._squared = self._absolute = self._sum = self._sum_of_squares = 0.0

    def update(self, answers: Mapping[str, Array], truth: Array) -> None:
        """`answers` has `value` [n] in the target's unit; `truth` float [n] is standardised by the encoder."""
        shifted = truth.astype(np.float64) * self._std
        error = answers[VALUE] - self._mean - shifted
        self._num_rows += len(truth)
        self._squared += float(error @ error)
        self._absolute += float(np.abs(error).sum())
        self._sum += float(shifted.sum())
        self._sum_of_squares += float(shifted @ shifted)

    def compute(self) -> dict[str, float]:
        """`rmse`, `mae`, and `r2` where the truth varies."""
        spread = self._sum_of_squares - self._sum**2 / self._num_rows
        scores = {"rmse": (self._squared / self._num_rows) ** 0.5, "mae": self._absolute / self._num_rows}
        return scores | ({"r2": 1.0 - self._squared / spread} if spread > 0 else {})


def scores_for(target: TargetEncoder, labels: Array) -> Scores:
    """The scores that fit `target`'s task; `labels` are the decoder's, in output order."""
    task: Task = target.task
    return ClassificationScores(labels) if task == "classification" else RegressionScores(target.mean, target.std)
