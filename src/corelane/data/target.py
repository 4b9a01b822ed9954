"""The target: labels to class numbers, or values to standardised numbers, and what is needed to turn them back.

Fitted with the pipeline on the training part and stored in it; decoding of the network's outputs is `model/decode.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import DataError, StateError
from corelane.core.types import Array, FloatArray, IntArray, JsonObject, Task
from corelane.data.stages.affine import LARGEST
from corelane.data.stages.column import Column, shorten
from corelane.data.stages.moments import Moments
from corelane.data.stages.stored import read_texts

LabelType: TypeAlias = Literal["int", "string"]

MAX_LABELS = 10_000  # a network with more outputs than this is another kind of model (retrieval), not a classifier

_VERSION = 1
_INTEGER = re.compile(r"^(0|-?[1-9][0-9]{0,17})$")  # as int() would write it, and within int64


class TargetEncoder:
    """Classification: `labels` in class order. Regression: `mean` and `std` of the training part. Frozen.

    `labels` are the texts of the target column; with `label_type` "int" all of them are whole numbers, sorted as
    numbers.
    """

    def __init__(
        self, task: Task, column: str, *, labels: tuple[str, ...] = (), mean: float = 0.0, std: float = 1.0
    ) -> None:
        self.task = task
        self.column = column
        self.labels = labels
        self.mean = mean
        self.std = std
        self.label_type: LabelType = "int" if labels and all(_INTEGER.match(label) for label in labels) else "string"
        self._texts = pa.array(labels, pa.string())

    @property
    def num_outputs(self) -> int:
        """How many numbers the network gives per row: one per label, or one value."""
        return len(self.labels) if self.task == "classification" else 1

    def encode(self, column: pa.Array) -> IntArray | FloatArray:
        """A checked target column [n] to class numbers int64 [n] (unseen label: -1) or standardised float32 [n]."""
        if self.task == "classification":
            found = pc.index_in(column, value_set=self._texts, skip_nulls=True)
            return np.asarray(found.fill_null(-1).cast(pa.int64()).to_numpy(zero_copy_only=False))
        values = column.to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            standardised = (values - self.mean) / self.std
        return np.asarray(np.clip(standardised, -LARGEST, LARGEST), dtype=np.float32)

    def label_array(self) -> Array:
        """The labels in class order as int64 [k] or as texts (object) [k]."""
        if self.label_type == "int":
            return np.array([int(label) for label in self.labels], dtype=np.int64)
        return np.array(self.labels, dtype=object)

    def to_json(self) -> JsonObject:
        """The encoder as JSON data; floats survive exactly."""
        return {
            "version": _VERSION,
            "task": self.task,
            "column": self.column,
            "label_type": self.label_type,
            "labels": list(self.labels),
            "mean": self.mean,
            "std": self.std,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TargetEncoder:
        """The encoder written by `to_json`. Raises `StateError` for an unknown version or a broken field."""
        if data.get("version") != _VERSION:
            raise StateError(f"the version of a stored target must be {_VERSION}, got {data.get('version')!r}")
        labels = read_texts(data, "labels")
        mean, std = data.get("mean"), data.get("std")
        task, column = data.get("task"), data.get("column")
        if task not in ("classification", "regression") or not isinstance(column, str):
            raise StateError(f"a stored target must name its task and column, got {shorten(data)}")
        if not isinstance(mean, float) or not isinstance(std, float) or not np.isfinite(mean) or not 0.0 < std < np.inf:
            raise StateError(f"mean and std of a stored target must be finite numbers, got {mean!r} and {std!r}")
        encoder = cls(task, column, labels=labels, mean=mean, std=std)
        if data.get("label_type") != encoder.label_type:
            raise StateError(f"label_type of a stored target must be {encoder.label_type!r} for its labels")
        return encoder


class TargetFitter:
    """Owns the label counts or the running mean of a target column and nothing else."""

    def __init__(self, task: Task, column: Column) -> None:
        self._task = task
        self._column = column
        self._counts: Counter[str] = Counter()
        self._moments = Moments(1)

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows with the target."""
        values = rows.column(self._column.name)
        if self._task == "regression":
            self._moments.update(values.to_numpy(zero_copy_only=False)[:, None])
            return
        for entry in pc.value_counts(values).to_pylist():
            self._counts[entry["values"]] += entry["counts"]
        if len(self._counts) > MAX_LABELS:
            raise DataError(
                f"the target {self._column.name} must have at most {MAX_LABELS} labels, got more; "
                "set data.task: regression for numbers, or choose another target"
            )

    def finish(self) -> TargetEncoder:
        """The fitted encoder. Raises `DataError` when there is nothing to tell apart."""
        name = self._column.name
        if self._task == "regression":
            return self._finish_regression(name)
        found = sorted(self._counts)
        if len(found) < 2:
            shown = shorten(found[0]) if found else "none"
            raise DataError(
                f"the target {name} must have at least two different labels among the training rows, got only {shown}; "
                "check data.target and the data"
            )
        declared = self._column.categories
        if declared is not None:
            labels = tuple(label for label in declared if label in self._counts)
        elif all(_INTEGER.match(label) for label in found):
            labels = tuple(sorted(found, key=int))
        else:
            labels = tuple(found)
        return TargetEncoder("classification", name, labels=labels)

    def _finish_regression(self, name: str) -> TargetEncoder:
        mean, std = float(self._moments.mean[0]), float(self._moments.deviation[0])
        if not self._moments.count[0]:
            raise DataError(f"the target {name} must have a value in at least one training row, got none")
        if not (np.isfinite(mean) and np.isfinite(std)):
            raise DataError(f"the target {name} must hold numbers whose spread float64 can hold; rescale it")
        return TargetEncoder("regression", name, mean=mean, std=std if std > 0.0 else 1.0)
