"""The pipeline of somebody else's network: each of its inputs is one column, and reaches it as it is, checked.

It has the two ways of `Pipeline` (columns and compiled) and no target: what such a network gives is its answer. Rows
whose free lengths differ cannot stand in one array; `alike` says which can.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from corelane.core.errors import ConfigError, RequestError, StateError
from corelane.core.types import Array, IntArray, JsonObject
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Column, Schema
from corelane.data.stages.cast_array import arrays_of, as_dtype, row_lengths
from corelane.data.stages.column import FREE, MAX_ELEMENTS, shorten
from corelane.data.stages.protocol import TensorSpec

MAX_LENGTH = 8192
"""The longest that a free length of a served row may be unless its import said otherwise: what a network needs for a
row may grow with the square of it.
"""

TENSORS = "tensors"
"""What `kind` is in the stored JSON; a fitted `Pipeline` has none."""
_VERSION = 1


class TensorPipeline:
    """Columns that are a network's inputs, by their names. Frozen."""

    target = None

    def __init__(self, columns: tuple[Column, ...], max_length: int = MAX_LENGTH) -> None:
        """`max_length` bounds each free length of a served row. Raises `ConfigError` when it is not positive."""
        if max_length < 1:
            raise ConfigError(f"the longest free length must be at least 1, got {max_length}; give a larger one")
        self.schema = Schema(columns, (), "regression")  # without a target the task says nothing
        self.max_length = max_length
        self.outputs = {column.name: TensorSpec(str(column.dtype), column.shape) for column in columns}
        self.digest = hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @property
    def free(self) -> tuple[str, ...]:
        """The names of the columns with a free length."""
        return tuple(column.name for column in self.schema.columns if FREE in column.shape)

    def alike(self, rows: pa.RecordBatch) -> list[IntArray]:
        """The indices of checked `rows` in groups within which every column has one shape, the first row's first."""
        if not self.free or not rows.num_rows:
            return [np.arange(rows.num_rows)]
        lengths = np.concatenate([row_lengths(rows.column(name)) for name in self.free], axis=1)
        _, first, group = np.unique(lengths, axis=0, return_index=True, return_inverse=True)
        return [np.flatnonzero(group.reshape(-1) == one) for one in np.argsort(first)]

    def transform(self, rows: pa.RecordBatch) -> dict[str, Array]:
        """The columns way: checked rows that are alike to arrays [n, *shape] by input name."""
        return {column.name: arrays_of(rows.column(column.name), column) for column in self.schema.columns}

    def compile(self) -> CompiledTensors:
        """The same for values that come as arrays or lists."""
        return CompiledTensors(self.schema.columns, self.max_length)

    def to_json(self) -> JsonObject:
        """The pipeline as JSON data."""
        return {
            "kind": TENSORS,
            "version": _VERSION,
            "schema": self.schema.to_json(),
            "max_length": self.max_length,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorPipeline:
        """The pipeline written by `to_json`. Raises `StateError` for an unknown version or a misfit."""
        if data.get("version") != _VERSION or data.get("kind") != TENSORS:
            raise StateError(
                f"the version of a stored pipeline of tensors must be {_VERSION}, got {data.get('version')!r}; "
                "use the version of Corelane that wrote it"
            )
        schema = Schema.from_json(data.get("schema", {}))
        if schema.targets or any(column.kind != "array" for column in schema.columns):
            raise StateError(f"a stored pipeline of tensors must have arrays as columns, got {shorten(data['schema'])}")
        max_length = data.get("max_length", MAX_LENGTH)
        if not isinstance(max_length, int) or max_length < 1:
            raise StateError(f"a stored pipeline's max_length must be a whole number from 1 on, got {max_length!r}")
        return cls(schema.columns, max_length)


class CompiledTensors:
    """A few rows of tensors, checked without Arrow. Frozen; safe to use from several threads at once."""

    def __init__(self, columns: tuple[Column, ...], max_length: int = MAX_LENGTH) -> None:
        self._columns = columns
        self._max_length = max_length
        self._names = frozenset(column.name for column in columns)

    def transform(self, columns: Mapping[str, Any]) -> dict[str, Array]:
        """Values [n, *shape] by column name to contiguous arrays of the columns' types.

        Raises `RequestError` naming the column, what must be and what was got.
        """
        if columns.keys() != self._names:
            odd = sorted(map(str, columns.keys() ^ self._names))[0]
            raise RequestError(f"the columns must be {sorted(self._names)}, each once, got others: {odd[:80]!r}")
        arrays = {column.name: _array(column, columns[column.name], self._max_length) for column in self._columns}
        numbers = {len(array) for array in arrays.values()}
        if len(numbers) > 1:
            raise RequestError(f"all columns must have the same number of rows, got {sorted(numbers)}")
        return arrays

    def transform_matrix(self, values: Array) -> dict[str, Array]:
        """Never: the inputs of such a network have names. Raises `RequestError`."""
        raise RequestError(f"each input must come by its name, got one array of shape {list(values.shape)}")


def _array(column: Column, given: Any, max_length: int) -> Array:
    wanted = f"{column.name} must be {column.dtype} of shape {[FREE, *column.shape]}"
    try:
        values = np.asarray(given)
    except (ValueError, OverflowError) as error:
        raise RequestError(f"{wanted}, got lists of unequal lengths") from error
    if values.dtype.kind not in "fiub":
        raise RequestError(f"{wanted}, got {shorten(given) if values.ndim < 2 else str(values.dtype)}")
    shape = values.shape
    fits = len(shape) == len(column.shape) + 1 and all(
        length == want or (want == FREE and length > 0) for length, want in zip(shape[1:], column.shape, strict=True)
    )
    if not fits:
        raise RequestError(f"{wanted}, got the shape {list(shape)}")
    free = [length for length, want in zip(shape[1:], column.shape, strict=True) if want == FREE]
    if max(free, default=0) > max_length:
        raise RequestError(
            f"a free length of {column.name} must be at most {max_length}, got {list(shape)}; send shorter rows, or "
            "import the network with a larger --max-length"
        )
    if math.prod(shape[1:]) > MAX_ELEMENTS:
        raise RequestError(f"a row of {column.name} must have at most {MAX_ELEMENTS} elements, got {list(shape[1:])}")
    typed, held = as_dtype(values, np.dtype(column.dtype))
    if not held.all():
        place = np.unravel_index(int(np.argmin(held)), held.shape)
        raise RequestError(f"{wanted}, got {values[place]!s} in row {place[0]}, which it cannot hold")
    return np.ascontiguousarray(typed)


AnyPipeline: TypeAlias = Pipeline | TensorPipeline
"""What may stand before a network: a fitted pipeline, or the inputs of somebody else's as they are."""


def pipeline_of(data: Mapping[str, Any]) -> AnyPipeline:
    """The pipeline that `to_json` of either class wrote. Raises `StateError`."""
    return TensorPipeline.from_json(data) if data.get("kind") == TENSORS else Pipeline.from_json(data)


def largest_alike(pipeline: AnyPipeline, rows: pa.Table) -> pa.Table:
    """Those of checked `rows` that can stand in one array: of several shapes, the one that most of them have."""
    if not isinstance(pipeline, TensorPipeline) or not pipeline.free or not rows.num_rows:
        return rows
    (batch,) = rows.combine_chunks().to_batches()
    return rows.take(pa.array(max(pipeline.alike(batch), key=len)))
