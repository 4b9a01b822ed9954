"""One tensor column, scaled: each element for itself when the tensor is a vector, all elements alike when it has more
dimensions (a picture or a series must keep the relation between its elements). `normalise` brings each whole tensor to
unit length.

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
from corelane.data.stages.column import Column
from corelane.data.stages.curved import UnitLength
from corelane.data.stages.scaling import Scaler, Scaling, ScalingFitter, scaler_from_json, scaler_to_json
from corelane.data.stages.stored import check_version, read_flag

_VERSION = 2


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
        self._num_rows = 0
        name = stage.column.name
        self._is_fitted = stage.scaling not in ("none", "normalise")
        self._fitter = ScalingFitter((stage.scaling,) * self._width, (name,) * self._width)

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows."""
        self._num_rows += rows.num_rows
        if self._is_fitted:
            values = rows.column(self._stage.column.name).to_numpy_ndarray()
            self._fitter.update(values.reshape(-1, self._width))

    def finish(self) -> FittedTensor:
        """The fitted column. Raises `DataError` when there was no row, or for numbers too large to scale."""
        column = self._stage.column
        if not self._num_rows:
            raise DataError(f"{column.name} must be in at least one training row, got none")
        return FittedTensor(column, UnitLength() if self._stage.scaling == "normalise" else self._fitter.finish())


class FittedTensor:
    """A tensor column that knows its scaling; frozen."""

    def __init__(self, column: Column, scaler: Scaler | UnitLength) -> None:
        self.columns = (column,)
        self.shape = column.shape
        self.scaler = scaler
        self._name = column.name
        self._width = math.prod(column.shape) if isinstance(scaler, UnitLength) else _width(column)

    def transform_into(self, rows: pa.RecordBatch, out: FloatArray) -> None:
        """The columns way: checked rows into float32 [n, *shape]."""
        values = rows.column(self._name).to_numpy_ndarray().reshape(-1, self._width)
        self.scaler.apply_into(values, None, out if out.ndim == 2 else out.reshape(-1, self._width))

    def transform_few(self, columns: Mapping[str, Any], num_rows: int) -> FloatArray | None:
        """The compiled way; None when the shape differs or an element is missing, infinite or no number."""
        try:
            values = np.asarray(columns[self._name])
        except (ValueError, OverflowError):  # lists of unequal lengths
            return None
        if values.shape != (num_rows, *self.shape):
            return None
        scaled = self.transform_matrix(values.reshape(-1, self._width))
        return None if scaled is None else scaled.reshape(values.shape)

    def transform_matrix(self, values: Array) -> FloatArray | None:
        """Vectors [n, d], or the elements of tensors as [n, 1], to float32 of the same shape; None when one element is
        missing, infinite or no number.
        """
        if values.dtype.kind not in "fiub":
            return None
        if values.dtype != np.float32:
            with np.errstate(over="ignore"):  # beyond float32 is infinite, and therefore not ordinary
                values = values.astype(np.float32)
        return self.scaler.apply_ordinary(values)

    def to_json(self) -> JsonObject:
        """The column as JSON data."""
        stored: JsonObject = {"stage": "tensor", "version": _VERSION, "columns": [self._name]}
        if isinstance(self.scaler, UnitLength):
            return stored | {"unit_length": True}
        return stored | {"unit_length": False} | scaler_to_json(self.scaler)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], columns: tuple[Column, ...]) -> FittedTensor:
        """The column written by `to_json`, of `columns`. Raises `StateError` for another version or a broken field."""
        check_version(data, _VERSION)
        (column,) = columns
        return cls(column, UnitLength() if read_flag(data, "unit_length") else scaler_from_json(data, _width(column)))


def _width(column: Column) -> int:
    """How many elements are scaled each for itself."""
    return column.shape[0] if len(column.shape) == 1 else 1
