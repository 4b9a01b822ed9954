"""Parquet files: typed columns as they are stored; dictionaries are unfolded. Resuming skips whole row groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from corelane.core.errors import DataError
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.reader import Chunk, drop_before
from corelane.data.sources.plain import check_names, plain_rows, plain_schema


class ParquetReader:
    """Rows of one Parquet file."""

    def __init__(self, file: FrozenFile, batch_rows: int) -> None:
        self.files: tuple[FrozenFile, ...] = (file,)
        self._file = file
        self._batch_rows = batch_rows
        with self._open() as parquet:
            self._schema = plain_schema(parquet.schema_arrow)
            metadata = parquet.metadata
            self._group_rows = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        check_names(self._schema.names, str(file.path))

    def schema(self) -> pa.Schema:
        """The stored columns, dictionaries as their values."""
        return self._schema

    def read(self, start: int) -> Iterator[Chunk]:
        """Chunks of at most `batch_rows` rows from row `start` on."""
        first_group, position = self._locate(start)
        with self._open() as parquet:
            groups = range(first_group, len(self._group_rows))
            for rows in parquet.iter_batches(self._batch_rows, row_groups=groups, use_threads=False):
                chunk = Chunk(plain_rows(rows, self._schema), position, position + rows.num_rows)
                position = chunk.end
                if position > start:
                    yield drop_before(start, chunk)

    def _locate(self, start: int) -> tuple[int, int]:
        """The row group that holds row `start`, and the position of that group's first row."""
        position = 0
        for index, num_rows in enumerate(self._group_rows):
            if position + num_rows > start:
                return index, position
            position += num_rows
        return len(self._group_rows), position

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        with self._file.open() as content:
            try:
                with pq.ParquetFile(content) as parquet:
                    yield parquet
            except (pa.ArrowException, OSError) as error:
                message = f"{self._file.path} must be a whole Parquet file, got a damaged one; write it again"
                raise DataError(message, detail=str(error)) from error
