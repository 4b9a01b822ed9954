"""The quarantine file: every refused row with place, reason and content, published also when preparing fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corelane.core.errors import DataError
from corelane.data.quarantine import RefusedRow, describe_row, open_quarantine


def _row(position: int) -> RefusedRow:
    return RefusedRow("data", position, "age", "not_a_number", "age must be a number, got 'x'", '{"age": "x"}')


def test_rows_are_all_there_with_their_number(tmp_path: Path) -> None:
    """More rows than are buffered at once are all written, in order, counted by code."""
    with open_quarantine(tmp_path / "run" / "quarantine.parquet") as quarantine:
        for position in range(2500):
            quarantine.add(_row(position))
        assert (quarantine.num_rows, quarantine.counts["not_a_number"]) == (2500, 2500)
        assert quarantine.first == _row(0)
    rows = pq.read_table(tmp_path / "run" / "quarantine.parquet").to_pylist()
    assert [row["position"] for row in rows] == list(range(2500))
    assert rows[16] == {
        "source": "data",
        "position": 16,
        "row_number": 17,
        "column": "age",
        "code": "not_a_number",
        "reason": "age must be a number, got 'x'",
        "row": '{"age": "x"}',
    }


def test_large_rows_do_not_wait_for_many_others(tmp_path: Path) -> None:
    """Rows of megabytes reach the file as they come: 64 of them never lie in memory together."""
    text = "w" * (1 << 20)
    with open_quarantine(tmp_path / "quarantine.parquet") as quarantine:
        for position in range(64):
            quarantine.add(RefusedRow("data", position, "t", "too_long", f"row {position}", f"{position}{text}"))
    file = pq.ParquetFile(tmp_path / "quarantine.parquet")
    assert file.metadata.num_rows == 64
    assert max(file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)) <= 8


def test_an_empty_quarantine_is_a_file_of_no_rows(tmp_path: Path) -> None:
    """No refused rows make an empty table with all its columns."""
    with open_quarantine(tmp_path / "quarantine.parquet"):
        pass
    table = pq.read_table(tmp_path / "quarantine.parquet")
    assert (table.num_rows, table.num_columns) == (0, 7)


@pytest.mark.parametrize(("error", "is_published"), [(DataError("too many"), True), (KeyError("bug"), False)])
def test_only_errors_of_the_data_publish_it(tmp_path: Path, error: Exception, is_published: bool) -> None:
    """Too many refused rows leave the file to look at; another failure leaves nothing half-written."""

    def fail() -> None:
        with open_quarantine(tmp_path / "quarantine.parquet") as quarantine:
            quarantine.add(_row(0))
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["quarantine.parquet"] * is_published


def test_rows_are_described_as_json() -> None:
    """Every kind of value becomes JSON; what is long or binary is described by its size."""
    rows = pa.RecordBatch.from_pydict(
        {
            "text": ['a\n"b"', None],
            "number": [float("nan"), 1.5],
            "image": [b"\x89PNG", b""],
            "pixels": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype=np.uint8).reshape(2, 2, 2)),
            "large": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 100, 100), np.uint8)),
            "time": pa.array([0, 1], pa.timestamp("s")),
        }
    )
    assert json.loads(describe_row(rows, 0)) == {
        "text": 'a\n"b"',
        "number": "nan",
        "image": "<4 bytes>",
        "pixels": [0, 1, 2, 3],
        "large": "<10000 values>",
        "time": "1970-01-01 00:00:00",
    }
    assert json.loads(describe_row(rows, 1))["text"] is None
    assert json.loads(describe_row(rows, 1))["number"] == 1.5


def test_dropped_rows_are_counted_and_not_written(tmp_path: Path) -> None:
    """A fault in a column that drops is counted by its code; it is no refused row, and not the first one."""
    with open_quarantine(tmp_path / "q.parquet", {"a"}) as quarantine:
        for column in ("a", "b", "a"):
            quarantine.add(RefusedRow("data", 0, column, "missing", "reason", "{}"))
    assert (quarantine.num_rows, quarantine.dropped) == (1, {"missing": 2})
    assert quarantine.first is not None
    assert quarantine.first.column == "b"
    assert pq.read_table(tmp_path / "q.parquet").column("column").to_pylist() == ["b"]


def test_what_python_cannot_hold_is_described() -> None:
    """A time beyond the calendar costs no more than its own place in the row."""
    times = pa.array([2**62], pa.int64()).cast(pa.timestamp("us"))
    days = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    rows = pa.RecordBatch.from_arrays([times, days, pa.array([1])], names=["time", "day", "n"])
    described = {"time": f"{2**62} timestamp[us]", "day": f"{2**31 - 1} date32[day]", "n": 1}
    assert json.loads(describe_row(rows, 0)) == described
