"""Checked rows of a source, in bounded pieces: every raw row either fits the schema or is refused with a reason.

A piece is cut from what the source gives and checked on its own, so pieces can be checked side by side, on threads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyarrow as pa

from corelane.core.types import IntArray
from corelane.data.batch import Batch, BrokenRow, Cursor
from corelane.data.quarantine import RefusedRow, describe_row
from corelane.data.schema import Schema
from corelane.data.source import DataSource

_MAX_PIECE_BYTES = 8 << 20  # as network input; several pieces are on their way at a time
_MAX_PIECE_ROWS = 1 << 15  # a column of numbers is 256 KiB; with a quarter of it Python's share of the time doubles


@runtime_checkable
class EncodesTexts(Protocol):
    """A source that can give columns of texts as dictionaries of them, which are read and checked faster."""

    def encoded_batches(self, start: Cursor | None = None, columns: Collection[str] | None = None) -> Iterator[Batch]:
        """`DataSource.batches` of the same rows. Where only some `columns` are asked for, others may be absent."""
        ...


@dataclass(frozen=True, slots=True)
class RawRows:
    """Raw rows, each one's index in its source, int64 [n], and rows of the same place that could not be read."""

    rows: pa.RecordBatch
    positions: IntArray
    broken: tuple[BrokenRow, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Typed rows that passed (feature columns, then the targets), each one's index in its source, int64 [n], and what
    was refused, by position.
    """

    rows: pa.RecordBatch
    positions: IntArray
    refused: tuple[RefusedRow, ...] = ()


def batches_of(source: DataSource) -> Iterator[Batch]:
    """All batches of `source`, texts as dictionaries where it can give them so."""
    return source.encoded_batches() if isinstance(source, EncodesTexts) else source.batches()


def raw_pieces(source: DataSource, num_rows: int) -> Iterator[RawRows]:
    """All rows of `source` in order, at most `num_rows` at a time."""
    for batch in batches_of(source):
        positions, broken = batch.positions, batch.broken
        for first in range(0, max(batch.rows.num_rows, 1), num_rows):
            yield RawRows(_compact(batch.rows.slice(first, num_rows)), positions[first : first + num_rows], broken)
            broken = ()


def _compact(rows: pa.RecordBatch) -> pa.RecordBatch:
    """`rows` without dictionaries that hold more texts than there are rows to look them up."""
    if not any(pa.types.is_dictionary(kind) for kind in rows.schema.types):
        return rows
    columns = [
        column.dictionary_decode()
        if pa.types.is_dictionary(column.type) and len(column.dictionary) > len(column)
        else column
        for column in rows.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


def check_piece(raw: RawRows, source: str, schema: Schema, *, tells: bool) -> CheckedRows:
    """Check a piece of the source that is named `source`; without `tells` refused rows are left out silently.

    Raises `DataError` when a column is missing.
    """
    checked = schema.check(raw.rows, needs_target=True)
    refused: list[RefusedRow] = []
    if tells:
        refused += [
            RefusedRow(source, row.position, "", "unreadable_row", row.reason, json.dumps(row.text))
            for row in raw.broken
        ]
        for reject in checked.rejects:
            text, place = describe_row(raw.rows, reject.index), int(raw.positions[reject.index])
            refused.append(RefusedRow(source, place, reject.column, reject.code, reject.reason, text))
    return CheckedRows(checked.rows, raw.positions[checked.accepted], tuple(refused))


def rows_per_piece(schema: Schema) -> int:
    """How many rows of `schema` are handled together: a function of the schema alone, so it is the same everywhere."""
    row_bytes = sum(4 * math.prod(column.shape) for column in schema.columns)
    return max(1, min(_MAX_PIECE_ROWS, _MAX_PIECE_BYTES // row_bytes))
