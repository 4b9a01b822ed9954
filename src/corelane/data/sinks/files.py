"""Result files: Parquet, CSV and JSON lines, by the name's ending.

The file is written under a temporary name beside its target and renamed at the end, so that a reader never sees half of
it and an existing file survives a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from corelane.core.errors import ConfigError
from corelane.data.sink import RowSink
from corelane.data.sinks.nested import lists_as_text
from corelane.store.durable import temporary_file


class _Writer(Protocol):
    def write_batch(self, rows: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class _JsonLinesWriter:
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self._names = schema.names

    def write_batch(self, rows: pa.RecordBatch) -> None:
        option = orjson.OPT_APPEND_NEWLINE
        self._file.writelines(orjson.dumps(row, option=option) for row in rows.to_pylist())

    def close(self) -> None:
        self._file.flush()


class _CsvWriter:
    """Lists become JSON in one cell."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        plain = lists_as_text(pa.RecordBatch.from_pylist([], schema))
        self._writer = pa.csv.CSVWriter(file, plain.schema)

    def write_batch(self, rows: pa.RecordBatch) -> None:
        self._writer.write_batch(lists_as_text(rows))

    def close(self) -> None:
        self._writer.close()


def _parquet_writer(file: BinaryIO, schema: pa.Schema) -> _Writer:
    """Floats are written plainly: no two are alike, and looking for a dictionary of them takes half of the time."""
    writer: _Writer = pa.parquet.ParquetWriter(
        file, schema, use_dictionary=[field.name for field in schema if not pa.types.is_floating(field.type)]
    )
    return writer


_WRITERS: dict[str, Callable[[BinaryIO, pa.Schema], _Writer]] = {
    ".parquet": _parquet_writer,
    ".csv": _CsvWriter,
    ".jsonl": _JsonLinesWriter,
}


class _FileSink:
    def __init__(self, file: BinaryIO, make_writer: Callable[[BinaryIO, pa.Schema], _Writer]) -> None:
        self._file = file
        self._make_writer = make_writer
        self._writer: _Writer | None = None

    def write(self, rows: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = self._make_writer(self._file, rows.schema)
        self._writer.write_batch(rows)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


@contextmanager
def open_file_sink(path: Path) -> Iterator[RowSink]:
    """A sink that publishes `path` when the block ends without an error.

    Raises `ConfigError` for an ending it does not know, `DiskFullError` when there is no room; an existing file at
    `path` is replaced only at the very end.
    """
    if path.suffix not in _WRITERS:
        raise ConfigError(f"the output must end in {', '.join(_WRITERS)}, got {path.name!r}; rename it")
    if path.is_dir():
        raise ConfigError(f"the output must be a file, got the folder {str(path)!r}; name a file in it")
    with temporary_file(path) as temporary, temporary.open("wb") as file:
        sink = _FileSink(file, _WRITERS[path.suffix])
        try:
            yield sink
        finally:
            sink.finish()  # after an error too: a writer left open complains when it is collected
