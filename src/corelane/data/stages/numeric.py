"""All numeric columns as one block: a missing value is imputed, then every number is standardised or normalised.

In: float64 columns, null = missing. Out: float32 [n, d]. Statistics come from the present values of the training part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from corelane.core.errors import DataError
from corelane.core.types import Array, FloatArray, JsonObject
from corelane.data.stages.affine import Affine, Float64Array
from corelane.data.stages.column import Column
from corelane.data.stages.moments import MedianSample, Moments
from corelane.data.stages.stored import check_version, read_floats

Scaling = Literal["standardise", "normalise", "none"]
Imputation = Literal["median", "mean", "constant"]

_VERSION = 1


@dataclass(frozen=True, slots=True)
class NumericStage:
    """Numeric columns before training data was seen."""

    columns: tuple[Column, ...]
    scaling: Scaling
    imputation: Imputation
    fill_value: float

    def to_json(self) -> JsonObject:
        """What decides the fit besides the data."""
        return {
            "stage": "numeric",
            "version": _VERSION,
            "columns": [column.name for column in self.columns],
            "scaling": self.scaling,
            "imputation": self.imputation,
            "fill_value": self.fill_value,
        }

    def fitter(self) -> NumericFitter:
        """A fresh fitter."""
        return NumericFitter(self)


class NumericFitter:
    """Owns the running statistics of a numeric block and nothing else."""

    def __init__(self, stage: NumericStage) -> None:
        self._stage = stage
        self._moments = Moments(len(stage.columns))
        self._sample = MedianSample(len(stage.columns)) if stage.imputation == "median" else None

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows."""
        values = numbers_of(rows, self._stage.columns)
        self._moments.update(values)
        if self._sample is not None:
            self._sample.update(values)

    def finish(self) -> FittedNumeric:
        """The fitted block. Raises `DataError` for a column without a value, or with numbers too large to scale."""
        names = [column.name for column in self._stage.columns]
        if not self._moments.count.all():
            absent = names[int(np.argmin(self._moments.count))]
            raise DataError(
                f"{absent} must have a value in at least one training row, got none; exclude it (data.exclude)"
            )
        center, scale = scaling_of(self._stage.scaling, self._moments, names)
        return FittedNumeric(self._stage.columns, Affine(center, scale), self._fill())

    def _fill(self) -> Float64Array:
        if self._sample is not None:
            return self._sample.median()
        if self._stage.imputation == "mean":
            return self._moments.mean
        return np.full(len(self._stage.columns), self._stage.fill_value)


def scaling_of(scaling: Scaling, moments: Moments, names: list[str]) -> tuple[Float64Array, Float64Array]:
    """(center, scale) [d] of a scaling; a constant column is centred only. `names` are for the error of a too large
    range.
    """
    if scaling == "standardise":
        center, spread = moments.mean, moments.deviation
    elif scaling == "normalise":
        with np.errstate(over="ignore"):
            center, spread = moments.minimum.copy(), moments.maximum - moments.minimum
    else:
        center, spread = np.zeros(len(names)), np.zeros(len(names))
    with np.errstate(over="ignore", divide="ignore"):
        scale = np.where(spread > 0.0, 1.0 / np.where(spread > 0.0, spread, 1.0), 1.0)
    usable = np.isfinite(center) & np.isfinite(spread) & np.isfinite(scale) & (scale > 0.0)
    if not usable.all():
        name = names[int(np.argmin(usable))]
        raise DataError(
            f"{name} must hold numbers of a spread that float64 can hold, got one too large or too small; rescale it"
        )
    return center, scale


def numbers_of(rows: pa.RecordBatch, columns: tuple[Column, ...]) -> Float64Array:
    """Checked numeric columns as a matrix [n, d], NaN where missing."""
    values = np.empty((rows.num_rows, len(columns)))
    for index, column in enumerate(columns):
        values[:, index] = rows.column(column.name).to_numpy(zero_copy_only=False)
    return values


class FittedNumeric:
    """A numeric block that knows its scaling and what stands for a missing value; frozen."""

    def __init__(self, columns: tuple[Column, ...], affine: Affine, fill: Float64Array) -> None:
        self.columns = columns
        self.shape = (len(columns),)
        self.affine = affine
        self.fill = fill
        self._names = tuple(column.name for column in columns)
        self._required = np.array([not column.nullable for column in columns])
        self._is_bounded = any(column.minimum is not None or column.maximum is not None for column in columns)
        self._lowest = np.array([-np.inf if column.minimum is None else column.minimum for column in columns])
        self._highest = np.array([np.inf if column.maximum is None else column.maximum for column in columns])

    def transform(self, rows: pa.RecordBatch) -> FloatArray:
        """The columns way: checked rows to float32 [n, d]."""
        return self.affine.apply(numbers_of(rows, self.columns), self.fill)

    def transform_few(self, columns: Mapping[str, Any], num_rows: int) -> FloatArray | None:
        """The compiled way; None when a cell is no number (text is one only in the columns way) or is refused."""
        cells = [columns[name] for name in self._names]
        try:
            values = np.array(cells)
            if values.dtype == object and _holds_only_numbers(cells):
                values = np.array(cells, dtype=np.float64)  # None becomes NaN
        except (ValueError, TypeError, OverflowError):  # unequal lengths, or a whole number beyond float64
            return None
        if values.shape != (len(self._names), num_rows):
            return None
        return self.transform_matrix(values.T)

    def transform_matrix(self, values: Array) -> FloatArray | None:
        """Numbers [n, d] in column order, NaN = missing, to float32 [n, d]; None when one of them is refused."""
        if values.dtype.kind not in "fiub":
            return None
        if not self._is_bounded:
            ordinary = self.affine.apply_ordinary(values)
            if ordinary is not None:
                return ordinary
        return self._transform_unusual(values)

    def _transform_unusual(self, values: Array) -> FloatArray | None:
        """`transform_matrix` where something may be missing, infinite, very large or out of its bounds."""
        refused = np.isinf(values) | (np.isnan(values) & self._required)
        refused |= (values < self._lowest) | (values > self._highest)
        return None if refused.any() else self.affine.apply(values, self.fill)

    def to_json(self) -> JsonObject:
        """The block as JSON data."""
        return {
            "stage": "numeric",
            "version": _VERSION,
            "columns": [column.name for column in self.columns],
            "center": self.affine.center.tolist(),
            "scale": self.affine.scale.tolist(),
            "fill": self.fill.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], columns: tuple[Column, ...]) -> FittedNumeric:
        """The block written by `to_json`, of `columns`. Raises `StateError` for another version or a broken field."""
        check_version(data, _VERSION)
        center, scale, fill = (read_floats(data, key, len(columns)) for key in ("center", "scale", "fill"))
        return cls(columns, Affine(center, scale), fill)


def _holds_only_numbers(cells: list[Any]) -> bool:
    """Whether all values are Python numbers or None; text would be parsed by other rules than the columns way's."""
    return all({type(value) for value in column} <= {float, int, bool, type(None)} for column in cells)
