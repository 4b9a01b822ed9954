"""The digest of rows depends on the rows and their types, and not on how they were cut."""

from __future__ import annotations

import pyarrow as pa
import pytest

from corelane.data.digest import DIGEST_ROWS, RowsDigest


def digest_of(table: pa.Table, *sizes: int) -> str:
    digest, start = RowsDigest(table.schema), 0
    for size in (*sizes, table.num_rows):
        for rows in table.slice(start, size).combine_chunks().to_batches():
            digest.update(rows)
        start += size
    return digest.hexdigest()


def table(shift: int = 0) -> pa.Table:
    return pa.table({"a": range(shift, shift + 20_000), "b": [f"w{i}" if i % 7 else None for i in range(20_000)]})


@pytest.mark.parametrize("sizes", [(), (1, 0, 3), (DIGEST_ROWS,), (DIGEST_ROWS - 1, 2), (19_999,), (5000, 12_000)])
def test_batches_do_not_matter(sizes: tuple[int, ...]) -> None:
    """Any cutting of the same rows has the same digest."""
    assert digest_of(table(), *sizes) == digest_of(table())


def test_rows_order_and_types_matter() -> None:
    """Another value, another order, another type or a missing row gives another digest."""
    rows = table()
    others = [
        table(1),
        rows.slice(1),
        rows.take(list(range(19_999, -1, -1))),
        rows.cast(pa.schema([("a", pa.int32()), ("b", pa.string())])),
        rows.rename_columns(["a", "c"]),
    ]
    assert len({digest_of(other) for other in [rows, *others]}) == len(others) + 1


def test_no_rows_have_a_digest_too() -> None:
    """An empty table is told from one with rows."""
    assert digest_of(table().slice(0, 0)) != digest_of(table())
