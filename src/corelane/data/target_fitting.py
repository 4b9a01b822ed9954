"""Fitting the target: one pass over checked training rows finds its labels and how many rows have each, or its mean.

Called by `pipeline.py`; what comes of it is the `TargetEncoder` of `target.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import ConfigError, DataError
from corelane.core.types import IntArray, Task
from corelane.data.schema import Schema
from corelane.data.stages.column import Column, shorten
from corelane.data.stages.moments import Moments
from corelane.data.target import MAX_LABELS, TargetEncoder, is_set, is_whole, split_labels


class TargetFitter(Protocol):
    """Owns what was seen of the target columns and nothing else."""

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows with the target. Raises `DataError` for more than `MAX_LABELS` labels."""
        ...

    def finish(self) -> TargetEncoder:
        """The fitted encoder. Raises `DataError` when there is nothing to tell apart."""
        ...


def target_fitter(schema: Schema, *, is_known: bool = False) -> TargetFitter:
    """The fitter for the targets of `schema`, of which there must be one.

    Where the target `is_known`, rows are only counted: a label that a column is named after need not occur.
    """
    if schema.task == "regression":
        return ValueFitter(schema.targets[0])
    if schema.task != "multi_label":
        return ClassFitter(schema)
    return (
        ColumnsFitter(schema.target_names, may_be_constant=is_known)
        if schema.separator is None
        else JoinedFitter(schema)
    )


class ValueFitter:
    """Regression: the mean and the deviation."""

    def __init__(self, column: Column) -> None:
        self._name = column.name
        self._moments = Moments(1)

    def update(self, rows: pa.RecordBatch) -> None:
        """See `TargetFitter.update`."""
        self._moments.update(rows.column(self._name).to_numpy(zero_copy_only=False)[:, None])

    def finish(self) -> TargetEncoder:
        """See `TargetFitter.finish`; also for values whose spread float64 cannot hold."""
        mean, std = float(self._moments.mean[0]), float(self._moments.deviation[0])
        if not self._moments.count[0]:
            raise DataError(f"the target {self._name} must have a value in at least one training row, got none")
        if not (np.isfinite(mean) and np.isfinite(std)):
            raise DataError(f"the target {self._name} must hold numbers whose spread float64 can hold; rescale it")
        return TargetEncoder("regression", (self._name,), mean=mean, std=std if std > 0.0 else 1.0)


class ClassFitter:
    """Binary and multi-class: how many rows have each label. Two labels of a `classification` make it binary."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._column = schema.targets[0]
        self._counts: Counter[str] = Counter()

    def update(self, rows: pa.RecordBatch) -> None:
        """See `TargetFitter.update`."""
        _count(self._counts, rows.column(self._column.name), self._column.name, lambda label: (label,))

    def finish(self) -> TargetEncoder:
        """See `TargetFitter.finish`. Raises `ConfigError` where the labels are not those of the declared task."""
        name, found = self._column.name, sorted(self._counts)
        if len(found) < 2:
            shown = shorten(found[0]) if found else "none"
            raise DataError(
                f"the target {name} must have at least two different labels among the training rows, got only {shown}; "
                "check data.target and the data"
            )
        task = self._task(found)
        labels = self._ordered(found)
        counts = tuple(self._counts[label] for label in labels)
        return TargetEncoder(task, (name,), labels=labels, counts=counts, num_rows=sum(counts))

    def _task(self, found: list[str]) -> Task:
        schema = self._schema
        if len(found) > 2 and (schema.task == "binary" or schema.positive is not None):
            asked = "data.task is binary" if schema.task == "binary" else "data.positive is given"
            shown = ", ".join(map(shorten, found[:4]))
            raise ConfigError(
                f"the target {self._column.name} must have two labels where {asked}, got {len(found)}: {shown}...; "
                "set data.task: multi_class, or join labels"
            )
        return "multi_class" if len(found) > 2 or schema.task == "multi_class" else "binary"

    def _ordered(self, found: list[str]) -> tuple[str, ...]:
        """Labels as they are declared, as whole numbers, or as texts; the positive one is the last of two."""
        declared, positive = self._column.categories, self._schema.positive
        if declared is not None:
            labels = [label for label in declared if label in self._counts]
        elif all(map(is_whole, found)):
            labels = sorted(found, key=int)
        else:
            labels = found
        if positive is None:
            return tuple(labels)
        if positive not in labels:
            shown = " or ".join(map(shorten, labels))
            raise ConfigError(f"data.positive must be a label of {self._column.name}, {shown}, got {positive!r}")
        return (*(label for label in labels if label != positive), positive)


class ColumnsFitter:
    """Multi-label: how many rows have the label of each column's name."""

    def __init__(self, names: tuple[str, ...], *, may_be_constant: bool) -> None:
        self._names = names
        self._may_be_constant = may_be_constant
        self._counts: IntArray = np.zeros(len(names), dtype=np.int64)
        self._num_rows = 0

    def update(self, rows: pa.RecordBatch) -> None:
        """See `TargetFitter.update`."""
        self._counts += [is_set(rows.column(name)).sum() for name in self._names]
        self._num_rows += rows.num_rows

    def finish(self) -> TargetEncoder:
        """See `TargetFitter.finish`: unless it may be constant, every label is in some rows and absent from others."""
        counts = tuple(self._counts.tolist())
        for name, count in zip(self._names, counts, strict=True):
            if count in (0, self._num_rows) and not self._may_be_constant:
                got = "none that has it" if count == 0 else "none without it"
                raise DataError(
                    f"the label {name} must be in some training rows and absent from others, got {got}; "
                    "leave it out of data.target"
                )
        return TargetEncoder("multi_label", self._names, labels=self._names, counts=counts, num_rows=self._num_rows)


class JoinedFitter:
    """Multi-label: how many rows have each of the labels that one text column holds, taken apart at the separator."""

    def __init__(self, schema: Schema) -> None:
        self._name = schema.targets[0].name
        self._separator = schema.separator
        self._counts: Counter[str] = Counter()
        self._num_rows = 0

    def update(self, rows: pa.RecordBatch) -> None:
        """See `TargetFitter.update`."""
        self._num_rows += rows.num_rows
        column = rows.column(self._name).drop_null()  # where nothing is in the cell, the row has no label
        _count(self._counts, column, self._name, lambda text: split_labels(text, self._separator))

    def finish(self) -> TargetEncoder:
        """See `TargetFitter.finish`. Labels are in the order of their texts."""
        if not self._counts:
            raise DataError(f"the target {self._name} must have a label in at least one training row, got none")
        labels = tuple(sorted(self._counts))
        return TargetEncoder(
            "multi_label",
            (self._name,),
            labels=labels,
            counts=tuple(self._counts[label] for label in labels),
            num_rows=self._num_rows,
            separator=self._separator,
        )


def _count(counts: Counter[str], texts: pa.Array, name: str, labels_in: Callable[[str], Iterable[str]]) -> None:
    for entry in pc.value_counts(texts).to_pylist():
        for label in labels_in(entry["values"]):
            counts[label] += entry["counts"]
    if len(counts) > MAX_LABELS:
        raise DataError(
            f"the target {name} must have at most {MAX_LABELS} labels, got more; "
            "set data.task: regression for numbers, or choose another target"
        )
