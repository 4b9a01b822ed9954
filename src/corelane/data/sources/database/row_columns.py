"""Columns of Arrow from rows of Python values, as drivers without Arrow give them. `alchemy.py` calls it."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from corelane.core.errors import DataError

Rows: TypeAlias = Sequence[Sequence[Any]]

_TYPES: tuple[tuple[type, pa.DataType], ...] = (
    (bool, pa.bool_()),
    (int, pa.int64()),
    (float, pa.float64()),
    (decimal.Decimal, pa.float64()),
    (datetime.datetime, pa.timestamp("us")),
    (datetime.date, pa.date32()),
    (datetime.time, pa.time64("us")),
    (bytes, pa.binary()),
)
"""Arrow's type for values of a Python class, first match; anything else travels as text."""


def schema_of(names: Sequence[str], rows: Rows) -> pa.Schema:
    """The columns `names` of `rows`: whole numbers and numbers are numbers, any other mixture is text."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return pa.schema([(name, _type_of(values)) for name, values in zip(names, columns, strict=True)])


def batch_of(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    """`rows` as the columns of `schema`. Raises `DataError` for a value that its column cannot hold."""
    columns = zip(*rows, strict=True)
    arrays = [_array(field, values) for field, values in zip(schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _type_of(values: Sequence[Any]) -> pa.DataType:
    kinds = {_kind_of(value) for value in values if value is not None}
    if len(kinds) == 1:
        return kinds.pop()
    return pa.float64() if kinds == {pa.int64(), pa.float64()} else pa.string()


def _kind_of(value: Any) -> pa.DataType:
    found = next((kind for python, kind in _TYPES if isinstance(value, python)), pa.string())
    is_zoned = isinstance(value, datetime.datetime) and value.tzinfo is not None
    return pa.timestamp("us", "UTC") if is_zoned else found


def _array(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    if pa.types.is_string(field.type):
        return pa.array([_text(value) for value in values], pa.string())
    examples = {type(value): value for value in values if value is not None}
    odd = next((value for value in examples.values() if not _fits(value, field.type)), None)
    if odd is not None:  # Arrow would cut a number with a fraction, and a time of day
        raise _other_kind(field, odd)
    if pa.types.is_floating(field.type):
        values = [float(value) if isinstance(value, decimal.Decimal) else value for value in values]
    try:
        return pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise _other_kind(field, error) from error


def _fits(value: Any, kind: pa.DataType) -> bool:
    own = _kind_of(value)
    both_times = pa.types.is_timestamp(kind) and pa.types.is_timestamp(own)
    return bool(own == kind or both_times or (kind == pa.float64() and own == pa.int64()))


def _other_kind(field: pa.Field, got: object) -> DataError:
    return DataError(
        f"{field.name} must hold {field.type} in every row as in the first ones, got {str(got)[:100]!r}; "
        "cast it in data.source.query"
    )


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
