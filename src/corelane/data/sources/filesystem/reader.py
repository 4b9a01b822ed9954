"""What the reader of one file format promises, and the parts of several files read as one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import pyarrow as pa

from corelane.core.errors import DataError
from corelane.data.batch import BrokenRow
from corelane.data.sources.filesystem.files import FrozenFile

MAX_BATCH_BYTES = 32 << 20  # bounds a batch of wide rows (images); far above what makes batches worthwhile


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows read together: they and `broken` cover the positions `first` to `end` (exclusive)."""

    rows: pa.RecordBatch
    first: int
    end: int
    broken: tuple[BrokenRow, ...] = ()


class Reader(Protocol):
    """One format's way to rows. Construction checks what can be checked without reading all (`DataError` if not)."""

    files: tuple[FrozenFile, ...]

    def schema(self) -> pa.Schema:
        """The physical columns."""
        ...

    def read(self, start: int) -> Iterator[Chunk]:
        """Bounded chunks from row `start` on; files are open only while the iterator lives.

        Columns of texts may be dictionaries of them, whatever the schema says.
        """
        ...


@runtime_checkable
class ReadsColumns(Protocol):
    """A reader that need not read all columns."""

    def read_columns(self, start: int, names: Collection[str]) -> Iterator[Chunk]:
        """`Reader.read`, but only the columns `names`."""
        ...


class ConcatenatedReader:
    """The rows of several readers of equal schema, one after the other (a folder of CSV or Parquet files)."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = tuple(readers)
        self.files = tuple(file for reader in readers for file in reader.files)
        for reader in self._readers[1:]:
            if not reader.schema().equals(self.schema()):
                raise DataError(
                    f"{reader.files[0].path} must have the columns of {self.files[0].path} "
                    f"({', '.join(self.schema().names)}), got {', '.join(reader.schema().names)}; remove or convert it"
                )

    def schema(self) -> pa.Schema:
        """The columns all readers share."""
        return self._readers[0].schema()

    def read(self, start: int) -> Iterator[Chunk]:
        """Chunks of all readers; positions run through. What lies before `start` is read and dropped."""
        offset = 0
        for reader in self._readers:
            end = offset
            for chunk in reader.read(0):
                end = offset + chunk.end
                if end > start:
                    yield drop_before(start, _shift(chunk, offset))
            offset = end


class PartitionReader:
    """A reader's rows with the same texts in further columns: what the names of its folders say."""

    def __init__(self, reader: Reader, values: Mapping[str, str | None]) -> None:
        self._reader = reader
        self._values = values
        self.files = reader.files
        twice = next((name for name in values if name in reader.schema().names), None)
        if twice is not None:
            raise DataError(
                f"{self.files[0].path} must not have the column {twice!r}, its folder has it too; rename one of them"
            )

    def schema(self) -> pa.Schema:
        """The reader's columns, then those of the folders, as text."""
        added = [pa.field(name, pa.string()) for name in self._values]
        return pa.schema([*self._reader.schema(), *added])

    def read(self, start: int) -> Iterator[Chunk]:
        """The reader's chunks with the further columns."""
        names = self.schema().names
        for chunk in self._reader.read(start):
            num_rows = chunk.rows.num_rows
            added = [pa.repeat(pa.scalar(value, pa.string()), num_rows) for value in self._values.values()]
            rows = pa.RecordBatch.from_arrays([*chunk.rows.columns, *added], names=names)
            yield replace(chunk, rows=rows)


def _shift(chunk: Chunk, offset: int) -> Chunk:
    broken = tuple(replace(row, position=row.position + offset) for row in chunk.broken)
    return Chunk(chunk.rows, chunk.first + offset, chunk.end + offset, broken)


def drop_before(start: int, chunk: Chunk) -> Chunk:
    """What of `chunk`, which must end after `start`, lies at or behind row `start`."""
    if start <= chunk.first:
        return chunk
    num_broken = sum(row.position < start for row in chunk.broken)
    return Chunk(chunk.rows.slice(start - chunk.first - num_broken), start, chunk.end, chunk.broken[num_broken:])
