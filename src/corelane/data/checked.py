"""Checked rows of a source, in bounded pieces: every raw row either fits the schema or is refused with a reason."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from corelane.core.types import IntArray
from corelane.data.quarantine import RefusedRow, describe_row
from corelane.data.schema import Schema
from corelane.data.source import DataSource

_MAX_PIECE_BYTES = 8 << 20  # as network input; several pieces are on their way at a time
_MAX_PIECE_ROWS = 8192


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Typed rows that passed (feature columns, then the target) and each one's index in its source, int64 [n]."""

    rows: pa.RecordBatch
    positions: IntArray


def check_source(
    source: DataSource, name: str, schema: Schema, refuse: Callable[[RefusedRow], None] | None
) -> Iterator[CheckedRows]:
    """All rows of `source` in order, checked; `refuse` is told of every refused one under the source's `name`.

    Without `refuse` (a second pass) refused rows are only left out. Raises `DataError` when a column is missing.
    """
    piece_rows = rows_per_piece(schema)
    for batch in source.batches():
        if refuse is not None:
            for row in batch.broken:
                refuse(RefusedRow(name, row.position, "", "unreadable_row", row.reason, json.dumps(row.text)))
        positions = batch.positions
        for first in range(0, batch.rows.num_rows, piece_rows):
            raw = batch.rows.slice(first, piece_rows)
            places = positions[first : first + piece_rows]
            checked = schema.check(raw, needs_target=True)
            if refuse is not None:
                for reject in checked.rejects:
                    raw_row = describe_row(raw, reject.index)
                    place = int(places[reject.index])
                    refuse(RefusedRow(name, place, reject.column, reject.code, reject.reason, raw_row))
            yield CheckedRows(checked.rows, places[checked.accepted])


def rows_per_piece(schema: Schema) -> int:
    """How many rows of `schema` are handled together: a function of the schema alone, so it is the same everywhere."""
    row_bytes = sum(4 * math.prod(column.shape) for column in schema.columns)
    return max(1, min(_MAX_PIECE_ROWS, _MAX_PIECE_BYTES // row_bytes))
