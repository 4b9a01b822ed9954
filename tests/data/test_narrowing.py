"""Reading for the schema: what is settled is not read to the end, and all rows are seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corelane.data.config import DataConfig, FileSystemConfig, PipelineConfig
from corelane.data.infer import infer_schema
from corelane.data.narrowing import NarrowingRows
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.data.sources.memory import InMemorySource

NUM_ROWS = 1000
COLUMNS: dict[str, Any] = {
    "number": [float(index) for index in range(NUM_ROWS)],
    "late": [None] * (NUM_ROWS - 1) + [1.0],
    "text": [f"level {index % 7}" for index in range(NUM_ROWS)],
    "label": [index % 3 for index in range(NUM_ROWS)],
}


def _file(folder: Path) -> FileSystemSource:
    pq.write_table(pa.table(COLUMNS), folder / "rows.parquet", row_group_size=300)
    return FileSystemSource(FileSystemConfig(path="rows.parquet", batch_rows=100), folder)


def test_settled_columns_are_left_out_and_no_row_is(tmp_path: Path) -> None:
    """From some batch on only the named columns come, of every row once and in order, across row groups."""
    rows = NarrowingRows(_file(tmp_path))
    seen = []
    for batch in rows:
        rows.read_only(["text", "label"])
        seen.append(batch)
    assert seen[0].schema.names == list(COLUMNS)
    assert all(batch.schema.names == ["text", "label"] for batch in seen[1:])
    assert [value for batch in seen for value in batch.column("text").to_pylist()] == COLUMNS["text"]


def test_sources_that_cannot_leave_out_columns_give_all(tmp_path: Path) -> None:
    """Rows in memory, and everything where nobody narrows, come as they are."""
    rows = NarrowingRows(InMemorySource(COLUMNS))
    rows.read_only(["label"])
    assert sum(batch.num_rows for batch in rows) == NUM_ROWS
    assert all(batch.schema.names == list(COLUMNS) for batch in NarrowingRows(_file(tmp_path)))


def test_the_schema_is_that_of_all_rows(tmp_path: Path) -> None:
    """A column whose only value is in the last row has one, texts and the target are read to the end."""
    rows = NarrowingRows(_file(tmp_path))
    config = DataConfig(source=FileSystemConfig(path="rows.parquet"), target="label")
    narrowed = infer_schema(rows, config, PipelineConfig(), rows.read_only)
    assert narrowed == infer_schema(NarrowingRows(_file(tmp_path)), config, PipelineConfig())
    assert [column.kind for column in narrowed.columns] == ["numeric", "numeric", "categorical"]
    assert narrowed.task == "classification"
