"""Columns that are only compared: one text a cell, the same from every source, and no row refused for them."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.checked import RawRows
from corelane.data.key_columns import key_texts, with_keys
from corelane.data.row_keys import row_keys
from corelane.data.rules import RowRules
from tests.data.examples import batch


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([" 7 ", "NA", None, "x" * 5000], ["7", None, None, "x" * 5000]),
        (pa.array(["a", "b", "a", None]).dictionary_encode(), ["a", "b", "a", None]),
        (pa.array([7, -1, None, 2**63 - 1], pa.int64()), ["7", "-1", None, "9223372036854775807"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        ([7.0, 0.5, None, float("nan")], ["7", "0.5", None, None]),
        ([True, False], ["true", "false"]),
        ([decimal.Decimal("1.50"), None], ["1.50", None]),
        ([decimal.Decimal("0.1234567890123456789")], ["0.1234567890123456789"]),
        ([datetime.date(2024, 2, 29)], ["2024-02-29"]),
        (pa.nulls(2), [None, None]),
    ],
    ids=[
        "texts",
        "dictionary",
        "numbers",
        "large numbers",
        "floats",
        "booleans",
        "decimals",
        "long decimals",
        "dates",
        "nothing",
    ],
)
def test_one_text_a_cell(values: Any, texts: list[str | None]) -> None:
    """Numbers are written out exactly, whole ones without a fraction; missing ones stay missing."""
    found = key_texts("id", values if isinstance(values, pa.Array) else pa.array(values))
    assert found.type == pa.large_string()
    assert found.to_pylist() == texts


@pytest.mark.parametrize(
    "values", [[[1]], [b"a"], [{"a": 1}], np.zeros((2, 3))], ids=["list", "bytes", "mapping", "tensor"]
)
def test_what_is_no_scalar_cannot_be_compared(values: Any) -> None:
    """The error names the column and what it holds."""
    with pytest.raises(DataError, match="id must hold texts, numbers or times to be compared"):
        key_texts("id", batch({"id": values}).column(0))


def test_the_cells_of_the_rows_that_were_kept() -> None:
    """Of raw rows, some of which were refused or could not be read, each kept one has its own key cell beside it."""
    raw = RawRows(batch({"id": ["a", "b", "c", "d"], "x": [1.0, 2.0, 3.0, 4.0]}), np.array([10, 11, 13, 14]))
    rows = with_keys(RowRules(unique=("id",), keys=("id",)), batch({"x": [2.0, 4.0]}), np.array([11, 14]), raw)
    assert rows.to_pydict() == {"x": [2.0, 4.0], "id": ["b", "d"]}
    assert len(set(row_keys(rows, ["id"])[0].tolist())) == 2
    plain = batch({"x": [2.0]})
    assert with_keys(RowRules(), plain, np.array([11]), raw) is plain
    with pytest.raises(DataError, match="must have a column 'key'"):
        with_keys(RowRules(keys=("key",)), plain, np.array([11]), raw)
