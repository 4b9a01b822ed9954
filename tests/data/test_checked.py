"""Pieces of checked rows: bounded, and regrouped without losing or changing a row."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from corelane.data.batch import Batch, Cursor
from corelane.data.checked import check_piece, raw_pieces, rows_per_piece
from corelane.data.digest import regroup
from corelane.data.schema import Column, Schema
from corelane.data.sources.memory import InMemorySource
from tests.data.examples import LABEL

SCHEMA = Schema((Column("age", "numeric"),), (LABEL,), "classification")


@pytest.mark.parametrize("sizes", [[], [0, 0], [5], [10], [3, 0, 10, 12, 1], [1] * 25, [100]])
def test_regroup_makes_equal_batches_of_the_same_rows(sizes: list[int]) -> None:
    """Whatever comes in, batches of ten come out, the rest last, rows in order."""
    values = iter(range(1000))
    batches = [
        pa.RecordBatch.from_arrays([pa.array([next(values) for _ in range(size)], pa.int64())], ["v"]) for size in sizes
    ]
    groups = list(regroup(batches, 10))
    total = sum(sizes)
    assert [group.num_rows for group in groups] == [10] * (total // 10) + [total % 10] * (total % 10 > 0)
    assert [value for group in groups for value in group.column(0).to_pylist()] == list(range(total))


def test_positions_stay_with_their_rows_and_refused_ones_are_told() -> None:
    """Accepted rows come with their own index; a refused one is told once, with its place and raw content."""
    ages = [str(index) if index != 4 else "old" for index in range(10)]
    source = InMemorySource({"age": ages, "label": ["yes", "no"] * 5}, batch_rows=3)
    raw = list(raw_pieces(source, 2))
    assert [piece.rows.num_rows for piece in raw] == [2, 1, 2, 1, 2, 1, 1]
    pieces = [check_piece(piece, "data", SCHEMA, tells=True) for piece in raw]
    assert [int(position) for piece in pieces for position in piece.positions] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert [age for piece in pieces for age in piece.rows.column("age").to_pylist()] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    (row,) = [row for piece in pieces for row in piece.refused]
    assert (row.source, row.position, row.row_number, row.column) == ("data", 4, 5, "age")
    assert row.row == '{"age": "old", "label": "yes"}'
    silent = [check_piece(piece, "data", SCHEMA, tells=False) for piece in raw]
    assert [piece.rows for piece in silent] == [piece.rows for piece in pieces]
    assert not any(piece.refused for piece in silent)


def test_pieces_of_wide_rows_are_smaller() -> None:
    """What is in memory at a time is bounded in bytes, not only in rows, and at least one row."""
    wide = Schema((Column("image", "tensor", (1000, 1000)),), (LABEL,), "classification")
    assert rows_per_piece(wide) == 2
    assert rows_per_piece(Schema((Column("image", "tensor", (5000, 1000)),), (LABEL,), "classification")) == 1
    assert rows_per_piece(SCHEMA) == 32_768


def test_dictionaries_larger_than_their_rows_are_unfolded() -> None:
    """Texts that hardly repeat are not looked up in a dictionary that is longer than the piece."""
    many = pa.array([f"text {index}" for index in range(100)]).dictionary_encode()
    few = pa.array(["a", "b"] * 50).dictionary_encode()
    table = pa.table({"many": many, "few": few})

    class Source(InMemorySource):
        def encoded_batches(self) -> Iterator[Batch]:
            (rows,) = table.to_batches()
            yield Batch(rows, 0, Cursor("memory", "", 100))

    source = Source({"many": many, "few": few})
    assert [kind for piece in raw_pieces(source, 50) for kind in piece.rows.schema.types] == [pa.string(), few.type] * 2
