"""Cursors and batches."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from corelane.core.errors import CursorError
from corelane.data.batch import Batch, BrokenRow, Cursor

CURSOR = Cursor("filesystem", "abc", 7)


def test_a_cursor_survives_json() -> None:
    """`from_json` reads what `to_json` wrote."""
    assert CURSOR.to_json() == {"version": 1, "source": "filesystem", "fingerprint": "abc", "position": 7}
    assert Cursor.from_json(CURSOR.to_json()) == CURSOR


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"version": None}, {"position": -1}, {"position": True}, {"position": "7"}, {"source": 3}],
)
def test_what_is_no_cursor_is_refused(change: dict[str, Any]) -> None:
    """An unknown version or a wrong field is a `CursorError`."""
    with pytest.raises(CursorError):
        Cursor.from_json({**CURSOR.to_json(), **change})


def test_positions_leave_out_broken_rows() -> None:
    """Every readable row has its own index in the source; broken rows keep theirs."""
    rows = pa.RecordBatch.from_pydict({"a": [1, 2, 3]})
    broken = (BrokenRow(5, "torn", ""), BrokenRow(8, "torn", ""))
    assert Batch(rows, 4, Cursor("memory", "x", 9), broken).positions.tolist() == [4, 6, 7]
    assert Batch(rows, 4, Cursor("memory", "x", 7)).positions.tolist() == [4, 5, 6]
