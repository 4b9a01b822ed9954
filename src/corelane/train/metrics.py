"""The quality of a model on a part of the data, added up batch by batch so that the part's size does not matter.

The sums are `model/scores.py` and `model/label_scores.py`, which offline scoring uses too; here they meet torch's
outputs and the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from corelane.core.types import Array, IntArray
from corelane.data.target import TargetEncoder
from corelane.model.label_scores import BinarySums, LabelSums
from corelane.model.scores import ConfusionSums, ErrorSums
from corelane.train.losses import Loss, plain_loss

MAX_PAIRS = 2000  # points in a residual plot: more only make a blot

Pairs = tuple[list[float], list[float]]
"""Actual and predicted values in the target's own unit, or the two coordinates of a curve."""


@dataclass(frozen=True)
class LabelQuality:
    """How well each of k labels is found: rows that have it [k]; precision, recall and F1 [k, 3]; AUROC [k]."""

    num_rows: IntArray
    qualities: Array
    auroc: Array


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: mean loss, qualities by name, and what a report shows beside them.

    That is confusion counts [k, k] of classes, `labels` where a row may have several, some (actual, predicted) `pairs`
    of numbers, and the (false positive rate, true positive rate) curve `roc` of two labels.
    """

    loss: float
    qualities: dict[str, float]
    num_rows: int
    confusion: IntArray | None = None
    labels: LabelQuality | None = None
    pairs: Pairs | None = None
    roc: Pairs | None = None

    def named(self, part: str) -> dict[str, float]:
        """Loss and qualities as `<part>_<name>`."""
        return {f"{part}_{name}": value for name, value in {"loss": self.loss, **self.qualities}.items()}


class Scores(Protocol):
    """Adds up outputs and targets of one part."""

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch: outputs [n, k], target [n, ...]."""
        ...

    def result(self) -> Evaluation:
        """What was added up. At least one batch must have been."""
        ...


@dataclass
class ClassificationScores:
    """Mean loss, accuracy, macro-F1 and the confusion counts."""

    num_classes: int
    loss: Loss
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
class BinaryScores:
    """Mean loss, and how well the positive label is found."""

    loss: Loss
    _loss_sum: float = 0.0
    _sums: BinarySums = field(default_factory=BinarySums)

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch: logits [n, 1], target float32 [n] of 0 and 1."""
        self._loss_sum += self.loss(outputs, target).item() * len(target)
        self._sums.add(target.numpy(), outputs[:, 0].numpy())

    def result(self) -> Evaluation:
        """The evaluation, with the confusion counts and the ROC curve. Its loss is the log loss."""
        sums = self._sums
        qualities = sums.qualities()
        del qualities["log_loss"]
        roc = _pair(*sums.histogram.roc()) if "auroc" in qualities else None
        loss = self._loss_sum / sums.num_rows
        return Evaluation(loss, qualities, sums.num_rows, confusion=sums.counts.copy(), roc=roc)


@dataclass
class MultiLabelScores:
    """Mean loss, and how well each label is found."""

    num_labels: int
    loss: Loss
    _loss_sum: float = 0.0
    _sums: LabelSums = field(init=False)

    def __post_init__(self) -> None:
        self._sums = LabelSums(self.num_labels)

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch: logits [n, num_labels], target float32 [n, num_labels] of 0 and 1."""
        self._loss_sum += self.loss(outputs, target).item() * len(target)
        self._sums.add(target.numpy(), outputs.numpy())

    def result(self) -> Evaluation:
        """The evaluation, with the quality of each label."""
        sums = self._sums
        labels = LabelQuality(sums.actual.copy(), sums.per_label(), sums.histogram.auroc())
        return Evaluation(self._loss_sum / sums.num_rows, sums.qualities(), sums.num_rows, labels=labels)


@dataclass
class RegressionScores:
    """Mean loss, and RMSE, MAE and R2 in the target's own unit: outputs and targets come standardised."""

    mean: float
    std: float
    loss: Loss
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


def scores_for(target: TargetEncoder) -> Scores:
    """The scores of a network for `target`. Their loss is the plain one, whatever training minimised."""
    loss = plain_loss(target)
    match target.task:
        case "binary":
            return BinaryScores(loss)
        case "multi_class":
            return ClassificationScores(len(target.labels), loss)
        case "multi_label":
            return MultiLabelScores(len(target.labels), loss)
        case "regression":
            return RegressionScores(target.mean, target.std, loss)


def _pair(x: Array, y: Array) -> Pairs:
    return x.tolist(), y.tolist()
