"""Lists in tables that hold none."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from corelane.data.sinks.files import open_file_sink
from corelane.data.sinks.nested import lists_as_text

ROWS = pa.RecordBatch.from_pydict({"row": [0, 1], "y": [[[1.5, 2.0]], None], "rejected": [None, "no"]})


def test_lists_become_json_and_nothing_else_changes() -> None:
    """Nulls stay, and rows without lists are the same object."""
    text = lists_as_text(ROWS)
    assert text.column("y").to_pylist() == ["[[1.5,2.0]]", None]
    assert text.column("row").equals(ROWS.column("row"))
    assert lists_as_text(text) is text


def test_a_csv_holds_them_in_one_cell(tmp_path: Path) -> None:
    """A reader gets the lists back with a JSON parser."""
    with open_file_sink(tmp_path / "out.csv") as sink:
        sink.write(ROWS)
        sink.write(ROWS)
    read = pa.csv.read_csv(tmp_path / "out.csv")
    assert json.loads(read.column("y").to_pylist()[0]) == [[1.5, 2.0]]
    assert read.num_rows == 4
