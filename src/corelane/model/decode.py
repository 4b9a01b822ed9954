"""From logits to answers: labels with their probabilities, or un-standardised values for regression.

It is the last step of every prediction, offline and served, and part of the cost of each single-row request. The
pipeline's target encoder says what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from corelane.core.types import Array
from corelane.data.target import TargetEncoder

LABEL = "label"
LABELS = "labels"
PROBABILITIES = "probabilities"
VALUE = "value"


class Decoder(Protocol):
    """Turns a network's output into the answer a client gets."""

    @property
    def labels(self) -> Array:
        """Labels in output order, object (strings) or int64 [k]; empty for regression."""
        ...

    def decode(self, logits: Array) -> dict[str, Array]:
        """Answers for float32 `logits` [n, k], by output name."""
        ...

    def records(self, answers: Mapping[str, Array]) -> list[dict[str, Any]]:
        """Answers for n rows as one plain mapping per row, in Python's types."""
        ...

    def flat(self, answers: Mapping[str, Array]) -> dict[str, Array]:
        """Answers for n rows as columns [n] that any table format can hold."""
        ...


class ClassDecoder:
    """Multi-class: `label` [n] of the likeliest class and `probabilities` float32 [n, k], rows summing to one."""

    def __init__(self, labels: Array) -> None:
        self.labels = labels
        self._names = [str(label) for label in labels]
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

    def records(self, answers: Mapping[str, Array]) -> list[dict[str, Any]]:
        """`{"label": ..., "probabilities": {label: p}}` per row."""
        return [
            {LABEL: label, PROBABILITIES: dict(zip(self._names, row, strict=True))}
            for label, row in zip(answers[LABEL].tolist(), answers[PROBABILITIES].tolist(), strict=True)
        ]

    def flat(self, answers: Mapping[str, Array]) -> dict[str, Array]:
        """`label`, and `probability.<label>` per label."""
        return {LABEL: answers[LABEL]} | _flat("probability", self._names, answers[PROBABILITIES])


class BinaryDecoder(ClassDecoder):
    """Binary: as of two classes. The one output is the positive label's logit beside a 0 for the other.

    A softmax of (0, z) is the logistic function of z. The label is the positive one above a probability of 0.5.
    """

    def decode(self, logits: Array) -> dict[str, Array]:
        """Answers for float32 `logits` [n, 1]."""
        both = np.zeros((len(logits), 2), dtype=np.float32)
        both[:, 1:] = logits
        return super().decode(both)


class LabelsDecoder:
    """Multi-label: `labels` bool [n, k], whether a row has each label, and `probabilities` float32 [n, k] that it has.

    A row has a label above a probability of 0.5; the probabilities of a row do not sum to one.
    """

    def __init__(self, labels: Array) -> None:
        self.labels = labels
        self._names = [str(label) for label in labels]

    def decode(self, logits: Array) -> dict[str, Array]:
        """The logistic function of each output, written so that it cannot overflow."""
        small = np.exp(-np.abs(logits))
        return {LABELS: logits > 0, PROBABILITIES: np.where(logits > 0, np.float32(1), small) / (1 + small)}

    def records(self, answers: Mapping[str, Array]) -> list[dict[str, Any]]:
        """`{"labels": [label, ...], "probabilities": {label: p}}` per row."""
        return [
            {
                LABELS: [name for name, is_there in zip(self._names, flags, strict=True) if is_there],
                PROBABILITIES: dict(zip(self._names, row, strict=True)),
            }
            for flags, row in zip(answers[LABELS].tolist(), answers[PROBABILITIES].tolist(), strict=True)
        ]

    def flat(self, answers: Mapping[str, Array]) -> dict[str, Array]:
        """`label.<label>`, whether the row has it, and `probability.<label>`, for each label."""
        return _flat("label", self._names, answers[LABELS]) | _flat("probability", self._names, answers[PROBABILITIES])


class ValueDecoder:
    """Regression: `value` float64 [n] in the target's own unit, from one standardised output per row."""

    def __init__(self, mean: float, std: float) -> None:
        self.labels: Array = np.empty(0, dtype=object)
        self._mean = mean
        self._std = std

    def decode(self, logits: Array) -> dict[str, Array]:
        """`logits` [n, 1] times the training part's standard deviation, plus its mean."""
        return {VALUE: logits[:, 0].astype(np.float64) * self._std + self._mean}

    def records(self, answers: Mapping[str, Array]) -> list[dict[str, Any]]:
        """`{"value": x}` per row."""
        return [{VALUE: value} for value in answers[VALUE].tolist()]

    def flat(self, answers: Mapping[str, Array]) -> dict[str, Array]:
        """`value`."""
        return {VALUE: answers[VALUE]}


def decoder_of(target: TargetEncoder) -> Decoder:
    """The decoder that undoes `target`'s encoding."""
    match target.task:
        case "binary":
            return BinaryDecoder(target.label_array())
        case "multi_class":
            return ClassDecoder(target.label_array())
        case "multi_label":
            return LabelsDecoder(target.label_array())
        case "regression":
            return ValueDecoder(target.mean, target.std)


def _flat(what: str, names: list[str], values: Array) -> dict[str, Array]:
    return {f"{what}.{name}": values[:, index] for index, name in enumerate(names)}
