"""What is minimised, by task: cross-entropy over classes, binary cross-entropy over logits, squared error.

A loss is a frozen, pure function of tensors: no `.item()`, no branch on a value, few operators, so that a step with it
can be compiled as one graph. `loss_for` builds the one that training minimises, `plain_loss` the one that an evaluation
reports: without label smoothing and class weights, so that runs which differ in these can be compared.

A network may answer with an ensemble in training: outputs [n, m, k], of which the loss is the mean over the m members.
The loss of a batch is the sum over its rows divided by their number; so that of a batch that was cut is the sum over
its pieces of their loss times their share of the rows, weighted rows or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from corelane.core.errors import ConfigError
from corelane.core.types import Array
from corelane.data.stages.column import nearest
from corelane.data.target import TargetEncoder
from corelane.train.config import TrainConfig

BALANCED = "balanced"


class Loss(Protocol):
    """Outputs [n, k] or [n, m, k] of a network and the target of the n rows to a scalar."""

    def __call__(self, outputs: Tensor, target: Tensor, /) -> Tensor:
        """The mean over the rows, and over the m members where there are some."""
        ...


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """Multi-class: outputs are logits of `num_outputs` classes, the target int64 [n] or a distribution float32 [n, k].

    With label `smoothing` s the target is (1 - s) of itself and s / k of every class (Szegedy et al., 2016, section 7).
    A row counts with the weight of its class, `weights` float32 [k]; of a row that is a mixture each class's share of
    the loss counts with its own.
    """

    num_outputs: int
    smoothing: float = 0.0
    weights: Tensor | None = None

    def __call__(self, outputs: Tensor, target: Tensor, /) -> Tensor:
        """See `Loss`."""
        outputs, target = _by_row(outputs, target, self.num_outputs)
        if self.weights is None:
            return cross_entropy(outputs, target, label_smoothing=self.smoothing)
        if target.ndim == 2:
            return cross_entropy(outputs, self._weighted(target, self.weights))
        rows = cross_entropy(outputs, target, label_smoothing=self.smoothing, reduction="none")
        return torch.dot(rows, self.weights[target]) / len(rows)

    def _weighted(self, target: Tensor, weights: Tensor) -> Tensor:
        """Distributions [n, k] as what each logarithm counts with: they no longer sum to 1."""
        own = target * weights
        return own * (1.0 - self.smoothing) + own.sum(1, keepdim=True) * (self.smoothing / self.num_outputs)


@dataclass(frozen=True, eq=False)
class BinaryCrossEntropy:
    """Binary and multi-label: outputs are `num_outputs` logits, the target float32 [n] or [n, k] of 0, 1 or between.

    With label `smoothing` s a target t is t (1 - s) + s / 2. A label counts with the weight `positive` where a row has
    it, `negative` where not, float32 [k] each; of a mixture each part counts with its own. The mean is over rows and
    labels.
    """

    num_outputs: int
    smoothing: float = 0.0
    negative: Tensor | None = None
    positive: Tensor | None = None

    def __call__(self, outputs: Tensor, target: Tensor, /) -> Tensor:
        """See `Loss`."""
        outputs, target = _by_row(outputs, target, self.num_outputs)
        target = target.reshape(outputs.shape)
        weight = None
        if self.negative is not None and self.positive is not None:
            weight = torch.lerp(self.negative, self.positive, target)  # exact at 0 and at 1
            target = target * self.positive / weight
        if self.smoothing:
            target = target * (1.0 - self.smoothing) + self.smoothing / 2
        return binary_cross_entropy_with_logits(outputs, target, weight)


@dataclass(frozen=True, eq=False)
class SquaredError:
    """Regression: the mean of (outputs[:, 0] - target) squared, of standardised values."""

    def __call__(self, outputs: Tensor, target: Tensor, /) -> Tensor:
        """See `Loss`."""
        outputs, target = _by_row(outputs, target, 1)
        return mse_loss(outputs.squeeze(1), target)


def plain_loss(target: TargetEncoder) -> Loss:
    """The loss that an evaluation reports."""
    match target.task:
        case "multi_class":
            return CrossEntropy(target.num_outputs)
        case "binary" | "multi_label":
            return BinaryCrossEntropy(target.num_outputs)
        case "regression":
            return SquaredError()


def loss_for(target: TargetEncoder, config: TrainConfig) -> Loss:
    """The loss that training minimises, with the label smoothing and the class weights of `config`.

    Raises `ConfigError` where the task has no labels, or the weights name others.
    """
    if config.class_weights is None and not config.label_smoothing:
        return plain_loss(target)
    if target.task == "regression":
        asked = "label_smoothing" if config.label_smoothing else "class_weights"
        raise ConfigError(f"train.{asked} must be left out for a regression, got one; its target has no labels")
    smoothing = config.label_smoothing
    if config.class_weights is None:
        is_multi_class = target.task == "multi_class"
        return (CrossEntropy if is_multi_class else BinaryCrossEntropy)(target.num_outputs, smoothing)
    if target.task == "multi_label":
        negative, positive = label_weights(target, config.class_weights)
        return BinaryCrossEntropy(target.num_outputs, smoothing, _tensor(negative), _tensor(positive))
    weights = class_weights(target, config.class_weights)
    if target.task == "multi_class":
        return CrossEntropy(target.num_outputs, smoothing, _tensor(weights))
    return BinaryCrossEntropy(1, smoothing, _tensor(weights[:1]), _tensor(weights[1:]))


def class_weights(target: TargetEncoder, wanted: str | Mapping[str, float]) -> Array:
    """The weight of a row of each class, float64 [k], scaled so that the mean over the training rows is 1.

    Balanced: inversely to the number of rows, so that each class counts the same (King and Zeng, 2001). A label that
    is not named has the weight 1 before scaling. Raises `ConfigError` for a label that there is not.
    """
    counts = np.array(target.counts, dtype=np.float64)
    weights = 1.0 / np.maximum(counts, 1.0) if isinstance(wanted, str) else _named(target, wanted)
    return np.asarray(weights * (counts.sum() / (weights @ counts)))


def label_weights(target: TargetEncoder, wanted: str | Mapping[str, float]) -> tuple[Array, Array]:
    """The weights of rows without and with each label, float64 [k] each; for each label the mean over the training rows
    is 1.

    What is named is the weight of the rows with the label against those without. Balanced: both count the same.
    """
    with_label = np.array(target.counts, dtype=np.float64)
    without = target.num_rows - with_label
    ratio = (
        np.maximum(without, 1.0) / np.maximum(with_label, 1.0) if isinstance(wanted, str) else _named(target, wanted)
    )
    negative = target.num_rows / (without + ratio * with_label)
    return negative, ratio * negative


def _named(target: TargetEncoder, wanted: Mapping[str, float]) -> Array:
    for label in wanted:
        if label not in target.labels:
            raise ConfigError(
                f"train.class_weights must name labels of {target.name}, got {label!r}{nearest(label, target.labels)}"
            )
    return np.array([wanted.get(label, 1.0) for label in target.labels], dtype=np.float64)


def _by_row(outputs: Tensor, target: Tensor, num_outputs: int) -> tuple[Tensor, Tensor]:
    """Outputs [n, k], a row for each member of an ensemble, and the targets to match."""
    if outputs.shape[-1] != num_outputs:
        raise ConfigError(
            f"the network must give {num_outputs} outputs a row for this target, got {outputs.shape[-1]}; change its "
            "last layer. Two labels take one output; with data.task: multi_class they take two"
        )
    if outputs.ndim == 2:
        return outputs, target
    return outputs.flatten(0, 1), target.repeat_interleave(outputs.shape[1], dim=0)


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
