"""One column of tokens: rows of whole numbers from 0 to below the vocabulary, which pass to the network as they are.

In: fixed-shape int64 tensors [length], checked. Out: int64 [n, length].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from corelane.core.errors import DataError
from corelane.core.types import Array, BoolArray, IntArray, JsonObject
from corelane.data.stages.column import Column
from corelane.data.stages.stored import check_version

_VERSION = 1


def are_tokens(values: Array, vocabulary: int) -> BoolArray:
    """Which of the elements are whole numbers from 0 to below `vocabulary`, bool of the same shape."""
    known = (values >= 0) & (values < vocabulary)
    return np.asarray(known & (values == np.floor(values)) if values.dtype.kind == "f" else known)


@dataclass(frozen=True, slots=True)
class TokensStage:
    """A column of tokens before training data was seen; there is nothing to learn of it."""

    column: Column

    @property
    def columns(self) -> tuple[Column, ...]:
        """The one column it reads."""
        return (self.column,)

    def to_json(self) -> JsonObject:
        """What decides the fit besides the data."""
        return {"stage": "tokens", "version": _VERSION, "columns": [self.column.name]}

    def fitter(self) -> TokensFitter:
        """A fresh fitter."""
        return TokensFitter(self.column)


class TokensFitter:
    """Owns the number of rows it saw and nothing else."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._num_rows = 0

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows."""
        self._num_rows += rows.num_rows

    def finish(self) -> FittedTokens:
        """The column. Raises `DataError` when there was no row."""
        if not self._num_rows:
            raise DataError(f"{self._column.name} must be in at least one training row, got none")
        return FittedTokens(self._column)


class FittedTokens:
    """A column of tokens; frozen."""

    def __init__(self, column: Column) -> None:
        self.columns = (column,)
        self.shape = column.shape
        self._name = column.name
        self._vocabulary = column.vocabulary or 0

    def transform_into(self, rows: pa.RecordBatch, out: Array) -> None:
        """The columns way: checked rows into int64 [n, length]."""
        out[...] = rows.column(self._name).to_numpy_ndarray()

    def transform_few(self, columns: Mapping[str, Any], num_rows: int) -> IntArray | None:
        """The compiled way; None when the shape differs or an element is no token."""
        try:
            values = np.asarray(columns[self._name])
        except (ValueError, OverflowError):  # lists of unequal lengths
            return None
        if values.shape != (num_rows, *self.shape) or values.dtype.kind not in "fiu":
            return None
        return values.astype(np.int64) if are_tokens(values, self._vocabulary).all() else None

    def to_json(self) -> JsonObject:
        """The column as JSON data."""
        return {"stage": "tokens", "version": _VERSION, "columns": [self._name]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], columns: tuple[Column, ...]) -> FittedTokens:
        """The column written by `to_json`, of `columns`. Raises `StateError` for another version."""
        check_version(data, _VERSION)
        (column,) = columns
        return cls(column)
