"""From a network's outputs to answers: labels with their probabilities, un-standardised values, or tensors as they are.

It is the last step of every prediction, offline and served, and part of the cost of each single-row request. The
pipeline's target encoder says what the numbers mean; those of a network that was not trained here mean what they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from corelane.core.errors import RequestError
from corelane.core.types import Array, BoolArray, IntArray, NamedArrays
from corelane.data.target import TargetEncoder
from corelane.model.runtimes.base import LOGITS

LABEL = "label"
LABELS = "labels"
PROBABILITIES = "probabilities"
VALUE = "value"
MANY_ROWS = 512
MOST_ELEMENTS = 2**31 - 1  # of a column of lists in Arrow


class Decoder(Protocol):
    """Turns a network's output into the answer a client gets."""

    @property
    def labels(self) -> Array:
        """Labels in output order, object (strings) or int64 [k]; empty where there are none."""
        ...

    def decode(self, outputs: NamedArrays) -> dict[str, Array]:
        """Answers for a network's `outputs`, arrays [n, ...] by name, by the answers' own names."""
        ...

    def records(self, answers: Mapping[str, Array]) -> list[dict[str, Any]]:
        """Answers for n rows as one plain mapping per row, in Python's types."""
        ...

    def flat(self, answers: Mapping[str, Array]) -> dict[str, pa.Array]:
        """Answers for n rows as columns [n] for a table."""
        ...

    def are_finite(self, answers: Mapping[str, Array]) -> BoolArray:
        """Which of the n rows' answers have only finite numbers, bool [n]."""
        ...


class ClassDecoder:
    """Multi-class: `label` [n] of the likeliest class and `probabilities` float32 [n, k], rows summing to one."""

    def __init__(self, labels: Array) -> None:
        self.labels = labels
        self._names = [str(label) for label in labels]
        self._ones = np.ones(len(labels), dtype=np.float32)

    def decode(self, outputs: NamedArrays) -> dict[str, Array]:
        """Softmax over the last axis of the logits [n, k], shifted by the row's maximum so that it cannot overflow."""
        return self._of_logits(outputs[LOGITS])

    def _of_logits(self, logits: Array) -> dict[str, Array]:
        best = logits.argmax(axis=1)
        if len(logits) == 1:  # 2 us; the two reductions below cost 0.8 us each, whatever their size
            chances = np.exp(logits - logits.take(best))
            chances /= chances.dot(self._ones)
        elif len(logits) < MANY_ROWS:
            chances = np.exp(logits - np.maximum.reduce(logits, axis=1, keepdims=True))
            chances /= np.add.reduce(chances, axis=1, keepdims=True)
        else:
            chances = _softmax_of_many(logits)
        return {LABEL: self.labels.take(best), PROBABILITIES: chances}

    def records(self, answers: Mapping[str, Array]) -> list[dict[str, Any]]:
        """`{"label": ..., "probabilities": {label: p}}` per row."""
        return [
            {LABEL: label, PROBABILITIES: dict(zip(self._names, row, strict=True))}
            for label, row in zip(answers[LABEL].tolist(), answers[PROBABILITIES].tolist(), strict=True)
        ]

    def flat(self, answers: Mapping[str, Array]) -> dict[str, pa.Array]:
        """`label`, and `probability.<label>` per label."""
        return {LABEL: pa.array(answers[LABEL])} | _flat("probability", self._names, answers[PROBABILITIES])

    def are_finite(self, answers: Mapping[str, Array]) -> BoolArray:
        """Whether all of a row's probabilities are."""
        return finite_rows(answers[PROBABILITIES])


class BinaryDecoder(ClassDecoder):
    """Binary: as of two classes. The one output is the positive label's logit beside a 0 for the other.

    A softmax of (0, z) is the logistic function of z. The label is the positive one above a probability of 0.5.
    """

    def decode(self, outputs: NamedArrays) -> dict[str, Array]:
        """Answers for float32 logits [n, 1]."""
        logits = outputs[LOGITS]
        both = np.zeros((len(logits), 2), dtype=np.float32)
        both[:, 1:] = logits
        return self._of_logits(both)


class LabelsDecoder:
    """Multi-label: `labels` bool [n, k], whether a row has each label, and `probabilities` float32 [n, k] that it has.

    A row has a label above a probability of 0.5; the probabilities of a row do not sum to one.
    """

    def __init__(self, labels: Array) -> None:
        self.labels = labels
        self._names = [str(label) for label in labels]

    def decode(self, outputs: NamedArrays) -> dict[str, Array]:
        """The logistic function of each logit [n, k], written so that it cannot overflow."""
        logits = outputs[LOGITS]
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

    def flat(self, answers: Mapping[str, Array]) -> dict[str, pa.Array]:
        """`label.<label>`, whether the row has it, and `probability.<label>`, for each label."""
        return _flat("label", self._names, answers[LABELS]) | _flat("probability", self._names, answers[PROBABILITIES])

    def are_finite(self, answers: Mapping[str, Array]) -> BoolArray:
        """Whether all of a row's probabilities are."""
        return finite_rows(answers[PROBABILITIES])


class ValueDecoder:
    """Regression: `value` float64 [n] in the target's own unit, from one standardised output per row."""

    def __init__(self, mean: float, std: float) -> None:
        self.labels: Array = np.empty(0, dtype=object)
        self._mean = mean
        self._std = std

    def decode(self, outputs: NamedArrays) -> dict[str, Array]:
        """Logits [n, 1] times the training part's standard deviation, plus its mean."""
        return {VALUE: outputs[LOGITS][:, 0].astype(np.float64) * self._std + self._mean}

    def records(self, answers: Mapping[str, Array]) -> list[dict[str, Any]]:
        """`{"value": x}` per row."""
        return [{VALUE: value} for value in answers[VALUE].tolist()]

    def flat(self, answers: Mapping[str, Array]) -> dict[str, pa.Array]:
        """`value`."""
        return {VALUE: pa.array(answers[VALUE])}

    def are_finite(self, answers: Mapping[str, Array]) -> BoolArray:
        """Whether a row's value is."""
        return finite_rows(answers[VALUE])


class TensorsDecoder:
    """Somebody else's network: its outputs [n, ...] by their names.

    Where rows of different shapes were asked for, an output may be an object array [n] that holds one array a row.
    """

    def __init__(self) -> None:
        self.labels: Array = np.empty(0, dtype=object)

    def decode(self, outputs: NamedArrays) -> dict[str, Array]:
        """The outputs as they are."""
        return dict(outputs)

    def records(self, answers: Mapping[str, Array]) -> list[dict[str, Any]]:
        """`{output: number or nested lists}` per row."""
        columns = [_lists(values) for values in answers.values()]
        return [dict(zip(answers, row, strict=True)) for row in zip(*columns, strict=True)]

    def flat(self, answers: Mapping[str, Array]) -> dict[str, pa.Array]:
        """A column for each output, its cells numbers or nested lists."""
        return {name: _nested(values) for name, values in answers.items()}

    def are_finite(self, answers: Mapping[str, Array]) -> BoolArray:
        """Whether all of a row's numbers are."""
        return np.asarray(np.all([finite_rows(values) for values in answers.values()], axis=0), dtype=np.bool_)


def decoder_of(target: TargetEncoder | None) -> Decoder:
    """The decoder that undoes `target`'s encoding; without one, outputs are the answers."""
    if target is None:
        return TensorsDecoder()
    match target.task:
        case "binary":
            return BinaryDecoder(target.label_array())
        case "multi_class":
            return ClassDecoder(target.label_array())
        case "multi_label":
            return LabelsDecoder(target.label_array())
        case "regression":
            return ValueDecoder(target.mean, target.std)


def _softmax_of_many(logits: Array) -> Array:
    """The softmax of the rows of `logits` [n, k], class by class: in half the time, where there are many rows."""
    chances = logits.T.copy()
    chances -= np.maximum.reduce(chances, axis=0)
    np.exp(chances, out=chances)
    chances /= np.add.reduce(chances, axis=0)
    return np.ascontiguousarray(chances.T)


def _flat(what: str, names: list[str], values: Array) -> dict[str, pa.Array]:
    return {f"{what}.{name}": pa.array(values[:, index]) for index, name in enumerate(names)}


def finite_rows(values: Array) -> BoolArray:
    """Which rows of `values` [n, ...] have only finite numbers, bool [n]."""
    if values.dtype == object:
        return np.array([bool(np.isfinite(row).all()) for row in values], dtype=np.bool_)
    return np.asarray(np.isfinite(values.reshape(len(values), math.prod(values.shape[1:]))).all(axis=1))


def _lists(values: Array) -> list[Any]:
    return [row.tolist() for row in values] if values.dtype == object else values.tolist()


def _nested(values: Array) -> pa.Array:
    """An Arrow column of numbers or of lists of lists."""
    is_ragged = values.dtype == object
    numbers = np.concatenate([row.reshape(-1) for row in values]) if is_ragged else values.reshape(-1)
    array = pa.array(np.ascontiguousarray(numbers))
    shapes = np.array([row.shape for row in values]) if is_ragged else np.tile(values.shape[1:], (len(values), 1))
    for axis in range(shapes.shape[1] - 1, -1, -1):
        lengths = np.repeat(shapes[:, axis], shapes[:, :axis].prod(axis=1))
        array = pa.ListArray.from_arrays(_offsets(lengths), array)
    return array


def _offsets(lengths: IntArray) -> pa.Array:
    """Where lists of such `lengths` begin and end, int32 [n + 1]. Raises `RequestError` beyond 2^31 elements."""
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if offsets[-1] > MOST_ELEMENTS:
        raise RequestError(
            f"the answers of rows that are computed together must have at most {MOST_ELEMENTS} numbers, "
            f"got {offsets[-1]}; ask for fewer rows"
        )
    return pa.array(offsets.astype(np.int32))
