"""Columns are handed out with plain types and names of their own, whatever they were stored as."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.sources.plain import check_names, plain_rows, plain_schema


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (pa.array([1_001, None], pa.timestamp("ns", "Europe/Paris")), pa.timestamp("us", "Europe/Paris")),
        (pa.array([1_001, None], pa.duration("ns")), pa.duration("us")),
        (pa.array([1_001, None], pa.time64("ns")), pa.time64("us")),
        (pa.array([1_001, None], pa.timestamp("ns")).dictionary_encode(), pa.timestamp("us")),
    ],
)
def test_nanoseconds_are_cut_to_microseconds(stored: pa.Array, kind: pa.DataType) -> None:
    """Python has no nanoseconds: such a cell could be neither counted nor quarantined."""
    (column,) = _plain({"when": stored}).columns
    assert column.type == kind
    assert column.cast(pa.int64()).to_pylist() == [1, None]
    assert column.to_pylist()[1] is None


def test_narrow_decimals_are_widened() -> None:
    """Arrow cannot count the distinct values of its newest decimals."""
    (column,) = _plain({"price": pa.array([1, 2], pa.decimal32(5, 2))}).columns
    assert column.type == pa.decimal128(5, 2)
    assert len(column.unique()) == 2


def test_the_unnamed_index_of_pandas_is_no_column() -> None:
    """A table that pandas wrote after filtering holds each row's old number; a named index is a column like others."""
    rows = _plain({"a": [1, 2], "__index_level_0__": [5, 7], "id": [8, 9]})
    assert rows.to_pydict() == {"a": [1, 2], "id": [8, 9]}


def test_names_are_checked_in_one_go() -> None:
    """A header of a hundred thousand names, one of them twice, is refused at once and not after minutes."""
    names = [f"column{index}" for index in range(100_000)]
    start = time.monotonic()
    with pytest.raises(DataError, match="'column7' twice"):
        check_names([*names, "column7"], "the file")
    assert time.monotonic() - start < 5.0


def _plain(columns: dict[str, Any]) -> pa.RecordBatch:
    rows = pa.RecordBatch.from_pydict(columns)
    return plain_rows(rows, plain_schema(rows.schema))
