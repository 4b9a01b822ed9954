"""Arrow IPC files and streams (Feather version 2 among them): typed columns as they are stored.

A file has a table of contents and is entered at any batch; a stream is read from its beginning. Extension types are
taken as their storage: nothing that a file names is looked up or run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from corelane.core.errors import DataError
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.reader import Chunk, drop_before
from corelane.data.sources.plain import check_names, plain_rows, plain_schema

MAGIC = b"ARROW1"


class ArrowReader:
    """Rows of one Arrow file or stream."""

    def __init__(self, file: FrozenFile, batch_rows: int) -> None:
        self.files: tuple[FrozenFile, ...] = (file,)
        self._file = file
        self._batch_rows = batch_rows
        with self._open() as reader:
            self._schema = plain_schema(reader.schema)
        check_names(self._schema.names, str(file.path))

    def schema(self) -> pa.Schema:
        """The stored columns, dictionaries as their values."""
        return self._schema

    def read(self, start: int) -> Iterator[Chunk]:
        """Chunks of at most `batch_rows` rows from row `start` on."""
        position = 0
        with self._open() as reader:
            for batch in _batches(reader):
                for first in range(0, batch.num_rows, self._batch_rows):
                    rows = batch.slice(first, self._batch_rows)
                    chunk = Chunk(plain_rows(rows, self._schema), position, position + rows.num_rows)
                    position = chunk.end
                    if position > start:
                        yield drop_before(start, chunk)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self._file.open_content() as content:
            is_file = content.read(len(MAGIC)) == MAGIC
            content.seek(0)
            try:
                with pa.ipc.open_file(content) if is_file else pa.ipc.open_stream(content) as reader:
                    yield reader
            except (pa.ArrowException, OSError) as error:
                message = f"{self._file.path} must be a whole Arrow file, got a damaged one; write it again"
                raise DataError(message, detail=str(error)) from error


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.RecordBatchFileReader):
        for index in range(reader.num_record_batches):
            yield _checked(reader.get_batch(index))
    else:
        for batch in reader:
            yield _checked(batch)


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Arrow trusts offsets and lengths in a file; a damaged one must not be followed out of memory."""
    batch.validate(full=True)
    return batch
