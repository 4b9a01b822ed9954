"""Rows in memory: everything users hold them in becomes the same columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, DataError
from corelane.data.config import MemoryConfig
from corelane.data.source import iterate_rows
from corelane.data.sources.memory import InMemorySource

ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


class _Stream:
    """A foreign table that offers Arrow's C stream and nothing else, as Polars and pandas do."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return pa.Table.from_pylist(ROWS).__arrow_c_stream__(requested_schema)


class _Tensor:
    """A foreign tensor that offers DLPack and nothing else, as torch does."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self._values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        {"a": np.array([1, 2]), "b": ["x", None]},
        {"a": [1, 2], "b": np.array(["x", None], dtype=object)},
        {"a": _Tensor(np.array([1, 2])), "b": pa.array(["x", None]).dictionary_encode()},
        pa.Table.from_pylist(ROWS),
        pa.RecordBatch.from_pylist(ROWS),
        _Stream(),
        MemoryConfig(rows=ROWS),
    ],
    ids=["dicts", "arrays", "objects", "dlpack", "table", "batch", "stream", "config"],
)
def test_the_same_rows_from_whatever_holds_them(data: Any) -> None:
    """Every accepted form gives the same typed rows and the same fingerprint."""
    source = InMemorySource(data)
    assert list(iterate_rows(source)) == ROWS
    assert source.schema() == pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert source.fingerprint() == InMemorySource(ROWS).fingerprint()


def test_a_pair_is_x_and_y() -> None:
    """`(x, y)` become columns of these names; arrays of two or more dimensions are tensors, one element a row."""
    x, y = np.arange(24, dtype=np.float32).reshape(4, 2, 3), np.array([0, 1, 0, 1])
    rows = list(iterate_rows(InMemorySource((x, y))))
    assert np.array_equal(np.stack([row["x"] for row in rows]), x)
    assert [row["y"] for row in rows] == [0, 1, 0, 1]
    strided = InMemorySource((np.asfortranarray(x), y))
    assert strided.fingerprint() == InMemorySource((x, y)).fingerprint()


def test_rows_may_lack_keys_and_mix_types() -> None:
    """A key some rows lack is missing there; a column of mixed types becomes text, so that one bad cell costs a row."""
    rows = list(iterate_rows(InMemorySource([{"a": 1}, {"a": "old", "b": 2.5}, {"b": 3}])))
    assert rows == [{"a": "1", "b": None}, {"a": "old", "b": 2.5}, {"a": None, "b": 3.0}]


def test_arrays_in_rows_are_tensors() -> None:
    """Rows that hold arrays of one shape give a tensor column."""
    source = InMemorySource([{"image": np.full((2, 2), index, np.uint8)} for index in range(3)])
    assert source.schema().field("image").type == pa.fixed_shape_tensor(pa.uint8(), [2, 2])


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ({"a": [1, 2], "b": [1]}, DataError, "same number of rows"),
        ({"a": 5}, DataError, "one entry a row"),
        ([1, 2], DataError, "must be a dict"),
        ([{"a": np.zeros(2)}, {"a": np.zeros(3)}], DataError, "one shape"),
        ([{"a": np.zeros(2)}, {"a": 1}], DataError, "one kind"),
        ({"a": np.array([1 + 2j])}, DataError, "complex"),
        ({"": [1]}, DataError, "must have a name"),
        (pa.Table.from_arrays([[1], [2]], names=["a", "a"]), DataError, "different names"),
        ("rows", ConfigError, "got str"),
        (3, ConfigError, "got int"),
    ],
)
def test_what_is_no_table_is_refused_in_words(data: Any, error: type[Exception], words: str) -> None:
    """Each wrong form is named with what it must be."""
    with pytest.raises(error, match=words):
        InMemorySource(data)


def test_tables_in_pieces_have_the_fingerprint_of_the_whole() -> None:
    """How a table is chunked or sliced in memory is no part of its identity."""
    table = pa.table({"a": list(range(100)), "b": [f"word {index}" for index in range(100)]})
    pieces = pa.concat_tables([table.slice(0, 33), table.slice(33)])
    padded = pa.concat_tables([table.slice(90), table, table.slice(0, 5)]).slice(10, 100)
    assert InMemorySource(pieces).fingerprint() == InMemorySource(table).fingerprint()
    assert InMemorySource(padded).fingerprint() == InMemorySource(table).fingerprint()


def test_one_row_made_by_indexing_is_taken() -> None:
    """`x[None]` has strides that Arrow cannot read as they are; the row arrives all the same."""
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    source = InMemorySource({"x": image[None]})
    (batch,) = source.batches()
    np.testing.assert_array_equal(batch.rows.column("x").to_numpy_ndarray(), image[None])


@pytest.mark.parametrize("values", [["\ud800", "b"], [1, "\ud800"]])
def test_half_a_surrogate_pair_is_said(values: list[Any]) -> None:
    """Text that no file could hold (JSON can smuggle it in) is a `DataError` that names the column."""
    with pytest.raises(DataError, match="'word' must hold Unicode text"):
        InMemorySource({"word": values})
