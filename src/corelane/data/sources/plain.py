"""Columns as sources hand them out: each with a name of its own, plain types, no dictionaries, no metadata."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from corelane.core.errors import DataError


def check_names(names: Sequence[str], where: str) -> None:
    """Raise `DataError` unless every column of `where` has a name of its own."""
    for index, name in enumerate(names):
        if not name.strip():
            raise DataError(f"every column of {where} must have a name, got none for column {index + 1}; add it")
        if name in names[:index]:
            raise DataError(f"the columns of {where} must have different names, got {name!r} twice; rename one")


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` without metadata and with dictionary columns as the type of their values."""
    return pa.schema([(field.name, _plain_type(field.type)) for field in schema])


def plain_rows(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`rows` with its dictionary columns unfolded, as `plain_schema` says."""
    columns = [
        column.cast(field.type) if pa.types.is_dictionary(column.type) else column
        for column, field in zip(rows.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
