"""Lists in cells as JSON texts, for tables whose cells hold no lists: CSV, and databases."""

from __future__ import annotations

import orjson
import pyarrow as pa


def lists_as_text(rows: pa.RecordBatch) -> pa.RecordBatch:
    """`rows` with each column of lists as text, null where it is; `rows` themselves where there are none."""
    if not any(pa.types.is_list(field.type) for field in rows.schema):
        return rows
    return pa.RecordBatch.from_arrays([_as_text(column) for column in rows.columns], names=rows.schema.names)


def _as_text(column: pa.Array) -> pa.Array:
    if not pa.types.is_list(column.type):
        return column
    texts = [None if cell is None else orjson.dumps(cell).decode() for cell in column.to_pylist()]
    return pa.array(texts, pa.string())
