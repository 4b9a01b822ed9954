"""Columns as sources hand them out: each with a name of its own, plain types, no encodings, no extensions, no metadata.

Arrow has more types than Python has values: nanoseconds are cut to microseconds and narrow decimals widened, so that
every cell can be shown, counted and quarantined. The unnamed index that pandas writes beside its columns is left out:
it says where a row stood in somebody's table, and a network would learn that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import DataError

_PANDAS_INDEX = re.compile(r"^__index_level_\d+__$")  # a name that pandas keeps for indices without one


def check_names(names: Sequence[str], where: str) -> None:
    """Raise `DataError` unless every column of `where` has a name of its own."""
    seen = set()
    for index, name in enumerate(names):
        if not name.strip():
            raise DataError(f"every column of {where} must have a name, got none for column {index + 1}; add it")
        if name in seen:
            raise DataError(f"the columns of {where} must have different names, got {name!r} twice; rename one")
        seen.add(name)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` as it is handed out: no metadata, no index of pandas, encoded columns as the type of their values."""
    return pa.schema([(field.name, _plain_type(field.type)) for field in schema if not _PANDAS_INDEX.match(field.name)])


def plain_rows(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`rows` with the columns and types of `schema`, which `plain_schema` has made of theirs."""
    columns = [_plain_column(rows.column(field.name), field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def with_dictionaries(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """As `plain_rows`, but columns whose values have the type in `schema` stay dictionaries of them."""
    columns = [rows.column(field.name) for field in schema]
    plain = [
        column if _holds(column, field.type) else _plain_column(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(plain, names=schema.names)


def check_texts(rows: pa.RecordBatch, where: str) -> None:
    """Raise `DataError` unless every text of `rows`, which are of `where`, is UTF-8: files and databases only say so,
    and what trusts them breaks in the middle of a pass.
    """
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if _has_texts(column.type):
            try:
                # Whoever decoded a dictionary's indices has checked them.
                (column.dictionary if pa.types.is_dictionary(column.type) else column).validate(full=True)
            except pa.ArrowInvalid as error:
                raise DataError(
                    f"the texts in the column {name} of {where} must be UTF-8, got other bytes; store them as UTF-8",
                    detail=str(error),
                ) from error


def _has_texts(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_texts(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_has_texts(kind.field(index).type) for index in range(kind.num_fields))
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _holds(column: pa.Array, kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(column.type) and column.type.value_type == kind)


def _plain_column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if _is_extension(column.type):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    elif pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    return column if column.type == kind else column.cast(kind, safe=False)  # not safe: it cuts nanoseconds


def _is_extension(kind: pa.DataType) -> bool:
    """Whether the type has a meaning to somebody else. Tensors are ours."""
    return isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.FixedShapeTensorType)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if _is_extension(kind):
        return _plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_string_view(kind):  # few of Arrow's functions take views
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type))  # without the metadata that a driver hangs on the elements
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):  # too new for Arrow's own counting of values
        return pa.decimal128(kind.precision, kind.scale)
    return kind
