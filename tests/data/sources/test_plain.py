"""Columns are handed out with plain types and names of their own, whatever they were stored as."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.sources.plain import check_names, check_texts, plain_rows, plain_schema


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


@pytest.mark.parametrize(
    ("stored", "kind", "values"),
    [
        (pa.RunEndEncodedArray.from_arrays([2], ["a"]), pa.string(), ["a", "a"]),
        (pa.array(["a", None], pa.string_view()), pa.string(), ["a", None]),
        (pa.array(["{}", None], pa.json_()), pa.string(), ["{}", None]),
        (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1], pa.int8())), pa.int8(), [0, 1]),
        (pa.array([["a"], ["b"]]).cast(pa.list_(pa.dictionary(pa.int32(), pa.string()))), None, [["a"], ["b"]]),
    ],
    ids=["runs", "views", "json", "bool8", "dictionaries in lists"],
)
def test_encodings_and_extensions_become_what_they_hold(
    stored: pa.Array, kind: pa.DataType | None, values: list[Any]
) -> None:
    """What few of Arrow's functions take, and what has a meaning to somebody else only."""
    (column,) = _plain({"a": stored}).columns
    assert column.type == (kind or pa.list_(pa.string()))
    assert column.to_pylist() == values


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


BROKEN = pa.array([b"a", None, b"\xff"]).view(pa.string())


@pytest.mark.parametrize(
    "column",
    [
        BROKEN,
        BROKEN.slice(2),
        pa.array([b"\xff"], pa.large_binary()).view(pa.large_string()),
        pa.DictionaryArray.from_arrays(pa.array([0, 2]), BROKEN),
        pa.ListArray.from_arrays([0, 3], BROKEN),
        pa.StructArray.from_arrays([pa.array([1, 2, 3]), BROKEN], names=["number", "text"]),
    ],
)
def test_texts_that_are_no_utf8_are_refused(column: pa.Array) -> None:
    """Wherever they lie; the column and its place are named, and what comes from them is not."""
    rows = pa.RecordBatch.from_arrays([pa.nulls(len(column), pa.string()), column], names=["good", "bad"])
    with pytest.raises(DataError, match=r"the texts in the column bad of rows\.parquet must be UTF-8"):
        check_texts(rows, "rows.parquet")


def test_what_is_no_text_may_be_any_bytes() -> None:
    """Bytes are bytes, and a text of any script is a text."""
    columns = [pa.array([b"\xff"]), pa.array(["\u00e9\U0001f600"]), pa.array([["x"]]), pa.array([1])]
    check_texts(pa.RecordBatch.from_arrays(columns, names=list("abcd")), "rows.parquet")
