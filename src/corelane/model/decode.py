"""From logits to answers: softmax and labels for classification, un-standardised values for regression.

It is the last step of every prediction, offline and served, and part of the cost of each single-row request. The
pipeline's target encoder says what the numbers mean.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from corelane.core.types import Array
from corelane.data.target import TargetEncoder

LABEL = "label"
PROBABILITIES = "probabilities"
VALUE = "value"


class Decoder(Protocol):
    """Turns a network's output into the answer a client gets."""

    @property
    def labels(self) -> Array:
        """Class labels in output order, object (strings) or int64 [k]; empty for regression."""
        ...

    def decode(self, logits: Array) -> dict[str, Array]:
        """Answers for float32 `logits` [n, k], by output name."""
        ...


class ClassDecoder:
    """Classification: `label` [n] of the likeliest class and `probabilities` float32 [n, k], rows summing to one."""

    def __init__(self, labels: Array) -> None:
        self.labels = labels
        self._ones = np.ones(len(labels), dtype=np.float32)

    def decode(self, logits: Array) -> dict[str, Array]:
        """Softmax over the last axis, shifted by the row's maximum so that it cannot overflow."""
        best = logits.argmax(axis=1)
        if len(logits) == 1:  # 2 us; the two reductions below cost 0.8 us each, whatever their size
            chances = np.exp(logits - logits.take(best))
            chances /= chances.dot(self._ones)
        else:
            chances = np.exp(logits - np.maximum.reduce(logits, axis=1, keepdims=True))
            chances /= np.add.reduce(chances, axis=1, keepdims=True)
        return {LABEL: self.labels.take(best), PROBABILITIES: chances}


class ValueDecoder:
    """Regression: `value` float64 [n] in the target's own unit, from one standardised output per row."""

    def __init__(self, mean: float, std: float) -> None:
        self.labels: Array = np.empty(0, dtype=object)
        self._mean = mean
        self._std = std

    def decode(self, logits: Array) -> dict[str, Array]:
        """`logits` [n, 1] times the training part's standard deviation, plus its mean."""
        return {VALUE: logits[:, 0].astype(np.float64) * self._std + self._mean}


def decoder_of(target: TargetEncoder) -> Decoder:
    """The decoder that undoes `target`'s encoding."""
    if target.task == "regression":
        return ValueDecoder(target.mean, target.std)
    return ClassDecoder(target.label_array())
