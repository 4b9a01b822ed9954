"""All numeric columns as one block: a missing value is imputed, then every number is scaled as its column says.

In: float64 columns, null = missing. Out: float32 [n, d], or [n, d + m] with an indicator (1 = was missing) for each of
the m columns that may miss values. Statistics come from the present values of the training part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from corelane.core.errors import DataError
from corelane.core.types import Array, FloatArray, IntArray, JsonObject
from corelane.data.stages.affine import Float64Array
from corelane.data.stages.cast_numeric import clean_numbers
from corelane.data.stages.column import Column
from corelane.data.stages.scaling import Scaler, Scaling, ScalingFitter, scaler_from_json, scaler_to_json
from corelane.data.stages.stored import check_version, read_flag, read_floats

Imputation: TypeAlias = Literal["median", "mean", "mode", "constant"]

_VERSION = 2


@dataclass(frozen=True, slots=True)
class NumericStage:
    """Numeric columns before training data was seen; one scaling, imputation and constant for each of them."""

    columns: tuple[Column, ...]
    scalings: tuple[Scaling, ...]
    imputations: tuple[Imputation, ...]
    fill_values: tuple[float, ...]
    has_indicators: bool = False

    def to_json(self) -> JsonObject:
        """What decides the fit besides the data."""
        return {
            "stage": "numeric",
            "version": _VERSION,
            "columns": [column.name for column in self.columns],
            "scalings": list(self.scalings),
            "imputations": list(self.imputations),
            "fill_values": list(self.fill_values),
            "indicators": self.has_indicators,
        }

    def fitter(self) -> NumericFitter:
        """A fresh fitter."""
        return NumericFitter(self)


class NumericFitter:
    """Owns the running statistics of a numeric block and nothing else. Medians are taken where they may be used."""

    def __init__(self, stage: NumericStage) -> None:
        self._stage = stage
        self._names = tuple(column.name for column in stage.columns)
        self._imputations = np.array(stage.imputations)
        nullable = np.array([column.nullable for column in stage.columns])
        sketched = nullable & np.isin(self._imputations, ("median", "mode"))
        self._fitter = ScalingFitter(stage.scalings, self._names, sketched)

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows."""
        self._fitter.update(numbers_of(rows, self._stage.columns))

    def finish(self) -> FittedNumeric:
        """The fitted block. Raises `DataError` for a column without a value, or with numbers too large to scale."""
        count = self._fitter.moments.count
        if not count.all():
            absent = self._names[int(np.argmin(count))]
            raise DataError(
                f"{absent} must have a value in at least one training row, got none; exclude it (data.exclude)"
            )
        stage = self._stage
        return FittedNumeric(stage.columns, self._fitter.finish(), self._fill(), has_indicators=stage.has_indicators)

    def _fill(self) -> Float64Array:
        """What stands for a missing value [d]; 0 where none may be missing and no constant is given."""
        fill = np.array(self._stage.fill_values, dtype=np.float64)
        for imputation, found in (
            ("median", self._fitter.medians),
            ("mode", self._fitter.modes),
            ("mean", lambda: self._fitter.moments.mean),
        ):
            chosen = self._imputations == imputation
            if chosen.any():
                fill[chosen] = found()[chosen]
        return fill


def coerced(columns: tuple[Column, ...], values: Array) -> Float64Array:
    """Numbers [n, d] as the cast of each column would leave them: clipped or missing where the column says so."""
    cleaned = values.astype(np.float64, order="F")
    for index, column in enumerate(columns):
        cleaned[:, index] = clean_numbers(column, cleaned[:, index])
    return cleaned


def numbers_of(rows: pa.RecordBatch, columns: tuple[Column, ...]) -> Float64Array:
    """Checked numeric columns as a matrix [n, d], NaN where missing; each column lies together in memory."""
    values = np.empty((len(columns), rows.num_rows))
    for row, column in zip(values, columns, strict=True):
        numbers = rows.column(column.name)
        if numbers.null_count:
            numbers = numbers.fill_null(np.nan)  # `to_numpy` would do it too, in more than twice the time
        row[:] = numbers.to_numpy()
    return values.T


class FittedNumeric:
    """A numeric block that knows its scaling and what stands for a missing value; frozen."""

    def __init__(
        self, columns: tuple[Column, ...], scaler: Scaler, fill: Float64Array, *, has_indicators: bool = False
    ) -> None:
        self.columns = columns
        self.scaler = scaler
        self.fill = fill
        self.has_indicators = has_indicators
        self.indicated = tuple(column for column in columns if has_indicators and column.nullable)
        nullable = [column.nullable for column in columns]
        self._indicated: IntArray = np.flatnonzero(nullable) if has_indicators else np.empty(0, dtype=np.int64)
        self.shape = (len(columns) + len(self._indicated),)
        self._names = tuple(column.name for column in columns)
        self._required = ~np.array(nullable)
        self._is_bounded = any(column.minimum is not None or column.maximum is not None for column in columns)
        self._is_short = not self._is_bounded and not len(self._indicated)
        self._is_coerced = any(column.outside != "reject" or column.unreadable == "missing" for column in columns)
        self._lowest = np.array([-np.inf if column.minimum is None else column.minimum for column in columns])
        self._highest = np.array([np.inf if column.maximum is None else column.maximum for column in columns])

    def transform_into(self, rows: pa.RecordBatch, out: FloatArray) -> None:
        """The columns way: checked rows into float32 [n, d], or [n, d + m] with indicators."""
        self._write(numbers_of(rows, self.columns), out)

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
        """Numbers [n, d] in column order, NaN = missing, to float32 [n, d] (or [n, d + m]); None when one of them is
        refused.
        """
        if values.dtype.kind not in "fiub":
            return None
        if self._is_short:
            ordinary = self.scaler.apply_ordinary(values)
            if ordinary is not None:
                return ordinary
        return self._transform_unusual(values)

    def _transform_unusual(self, values: Array) -> FloatArray | None:
        """`transform_matrix` where something may be missing, infinite, very large or out of its bounds."""
        if self._is_coerced:
            values = coerced(self.columns, values)
        refused = np.isinf(values) | (np.isnan(values) & self._required)
        refused |= (values < self._lowest) | (values > self._highest)
        if refused.any():
            return None
        out = np.empty((len(values), *self.shape), dtype=np.float32)
        self._write(values, out)
        return out

    def _write(self, values: Array, out: FloatArray) -> None:
        num_columns = len(self.columns)
        self.scaler.apply_into(values, self.fill, out[:, :num_columns])
        if len(self._indicated):
            out[:, num_columns:] = np.isnan(values[:, self._indicated])

    def to_json(self) -> JsonObject:
        """The block as JSON data."""
        return {
            "stage": "numeric",
            "version": _VERSION,
            "columns": [column.name for column in self.columns],
            **scaler_to_json(self.scaler),
            "fill": self.fill.tolist(),
            "indicators": self.has_indicators,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], columns: tuple[Column, ...]) -> FittedNumeric:
        """The block written by `to_json`, of `columns`. Raises `StateError` for another version or a broken field."""
        check_version(data, _VERSION)
        scaler, fill = scaler_from_json(data, len(columns)), read_floats(data, "fill", len(columns))
        return cls(columns, scaler, fill, has_indicators=read_flag(data, "indicators"))


def _holds_only_numbers(cells: list[Any]) -> bool:
    """Whether all values are Python numbers or None; text would be parsed by other rules than the columns way's."""
    return all({type(value) for value in column} <= {float, int, bool, type(None)} for column in cells)
