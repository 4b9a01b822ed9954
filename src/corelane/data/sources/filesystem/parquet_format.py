"""Parquet files: typed columns as they are stored, repeated texts as dictionaries. Resuming skips whole row groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from corelane.core.errors import DataError
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.reader import MAX_BATCH_BYTES, Chunk, drop_before
from corelane.data.sources.plain import check_names, check_texts, plain_schema, with_dictionaries

_BUFFER_BYTES = 1 << 20  # of a column, read at a time: otherwise Arrow holds the file, or at least whole row groups
_LEAST_BUFFER_BYTES = 1 << 14
_MOST_DICTIONARY_BYTES = 3.0
"""A value: texts stored in fewer are indices into a dictionary, and are read as such, four times as fast as unfolded.
Above it their dictionary was too large for its page, and most are stored one by one."""


class ParquetReader:
    """Rows of one Parquet file."""

    def __init__(self, file: FrozenFile, batch_rows: int) -> None:
        self.files: tuple[FrozenFile, ...] = (file,)
        self._file = file
        self._buffer_bytes = 0
        with self._open() as parquet:
            self._schema = plain_schema(parquet.schema_arrow)
            metadata = parquet.metadata
            self._group_rows = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
            self._batch_rows = max(1, min(batch_rows, MAX_BATCH_BYTES // _row_bytes(metadata)))
            self._buffer_bytes = max(
                _LEAST_BUFFER_BYTES, min(_BUFFER_BYTES, MAX_BATCH_BYTES // max(1, metadata.num_columns))
            )
            self._encoded = [name for name in _encoded_columns(metadata) if _is_text(self._schema, name)]
        check_names(self._schema.names, str(file.path))

    def schema(self) -> pa.Schema:
        """The stored columns, dictionaries as their values; `read` gives texts that repeat as dictionaries."""
        return self._schema

    def read(self, start: int) -> Iterator[Chunk]:
        """Chunks of at most `batch_rows` rows, and about `MAX_BATCH_BYTES`, from row `start` on."""
        return self.read_columns(start, self._schema.names)

    def read_columns(self, start: int, names: Collection[str]) -> Iterator[Chunk]:
        """As `read`, but only the columns `names`; the others are not read from the disk."""
        schema = pa.schema([field for field in self._schema if field.name in names])
        first_group, position = self._locate(start)
        with self._open(self._encoded) as parquet:
            groups = range(first_group, len(self._group_rows))
            columns = None if len(schema) == len(self._schema) else schema.names
            for rows in parquet.iter_batches(self._batch_rows, groups, columns, use_threads=False):
                plain = with_dictionaries(rows, schema)
                check_texts(plain, str(self._file.path))
                chunk = Chunk(plain, position, position + rows.num_rows)
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
    def _open(self, encoded: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
        with self._file.open() as content:
            try:
                with pq.ParquetFile(
                    content, read_dictionary=list(encoded), pre_buffer=False, buffer_size=self._buffer_bytes
                ) as parquet:
                    yield parquet
            except (pa.ArrowException, OSError) as error:
                message = f"{self._file.path} must be a whole Parquet file, got a damaged one; write it again"
                raise DataError(message, detail=str(error)) from error


def _row_bytes(metadata: pq.FileMetaData) -> int:
    """What a row takes on average, at least one byte."""
    num_bytes = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    return max(1, int(num_bytes // max(1, metadata.num_rows)))


def _encoded_columns(metadata: pq.FileMetaData) -> list[str]:
    """The columns that are stored as indices into dictionaries, in every row group."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    return [
        metadata.schema.column(index).path
        for index in range(metadata.num_columns)
        if groups and all(_is_encoded(group.column(index)) for group in groups)
    ]


def _is_encoded(chunk: pq.ColumnChunkMetaData) -> bool:
    return bool(
        chunk.has_dictionary_page and chunk.total_uncompressed_size <= _MOST_DICTIONARY_BYTES * chunk.num_values
    )


def _is_text(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and bool(pa.types.is_string(schema.field(name).type))
