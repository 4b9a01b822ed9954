"""One tensor column, standardised or normalised: each element for itself when the tensor is a vector, all elements
alike when it has more dimensions (a picture or a series must keep the relation between its elements).

In: fixed-shape float32 tensors without missing elements. Out: float32 [n, *shape].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from corelane.core.errors import DataError
from corelane.core.types import Array, FloatArray, JsonObject
from corelane.data.stages.affine import Affine
from corelane.data.stages.column import Column
from corelane.data.stages.moments import Moments
from corelane.data.stages.numeric import Scaling, scaling_of
from corelane.data.stages.stored import check_version, read_floats

_VERSION = 1


@dataclass(frozen=True, slots=True)
class TensorStage:
    """A tensor column before training data was seen."""

    column: Column
    scaling: Scaling

    @property
    def columns(self) -> tuple[Column, ...]:
        """The one column it reads."""
        return (self.column,)

    def to_json(self) -> JsonObject:
        """What decides the fit besides the data."""
        return {
            "stage": "tensor",
            "version": _VERSION,
            "columns": [self.column.name],
            "scaling": self.scaling,
        }

    def fitter(self) -> TensorFitter:
        """A fresh fitter."""
        return TensorFitter(self)


class TensorFitter:
    """Owns the running statistics of a tensor column and nothing else."""

    def __init__(self, stage: TensorStage) -> None:
        self._stage = stage
        self._width = _width(stage.column)
        self._moments = Moments(self._width)

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows."""
        if self._stage.scaling != "none":
            values = rows.column(self._stage.column.name).to_numpy_ndarray()
            self._moments.update(values.reshape(-1, self._width).astype(np.float64))

    def finish(self) -> FittedTensor:
        """The fitted column. Raises `DataError` when there was no row."""
        if self._stage.scaling != "none" and not self._moments.count.all():
            raise DataError(f"{self._stage.column.name} must be in at least one training row, got none")
        names = [self._stage.column.name] * self._width
        return FittedTensor(self._stage.column, Affine(*scaling_of(self._stage.scaling, self._moments, names)))


class FittedTensor:
    """A tensor column that knows its scaling; frozen."""

    def __init__(self, column: Column, affine: Affine) -> None:
        self.columns = (column,)
        self.shape = column.shape
        self.affine = affine
        self._name = column.name
        self._size = math.prod(column.shape)

    def transform(self, rows: pa.RecordBatch) -> FloatArray:
        """The columns way: checked rows to float32 [n, *shape]."""
        values = rows.column(self._name).to_numpy_ndarray()
        return self.affine.apply(values.reshape(-1, self._size)).reshape(values.shape)

    def transform_few(self, columns: Mapping[str, Any], num_rows: int) -> FloatArray | None:
        """The compiled way; None when the shape differs or an element is missing, infinite or no number."""
        try:
            values = np.asarray(columns[self._name])
        except (ValueError, OverflowError):  # lists of unequal lengths
            return None
        if values.shape != (num_rows, *self.shape):
            return None
        scaled = self.transform_matrix(values.reshape(-1, self._size))
        return None if scaled is None else scaled.reshape(values.shape)

    def transform_matrix(self, values: Array) -> FloatArray | None:
        """Flattened tensors [n, size] to float32 [n, size]; None when one element is missing, infinite or no number."""
        if values.dtype.kind not in "fiub":
            return None
        if values.dtype != np.float32:
            with np.errstate(over="ignore"):  # beyond float32 is infinite, and therefore not ordinary
                values = values.astype(np.float32)
        return self.affine.apply_ordinary(values)

    def to_json(self) -> JsonObject:
        """The column as JSON data."""
        return {
            "stage": "tensor",
            "version": _VERSION,
            "columns": [self.columns[0].name],
            "center": self.affine.center.tolist(),
            "scale": self.affine.scale.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], columns: tuple[Column, ...]) -> FittedTensor:
        """The column written by `to_json`, of `columns`. Raises `StateError` for another version or a broken field."""
        check_version(data, _VERSION)
        (column,) = columns
        center, scale = (read_floats(data, key, _width(column)) for key in ("center", "scale"))
        return cls(column, Affine(center, scale))


def _width(column: Column) -> int:
    """How many elements are scaled each for itself."""
    return column.shape[0] if len(column.shape) == 1 else 1
