"""CSV files (gzipped too), read as strings: the schema decides what a cell means, so a bad cell costs one row.

An empty cell is a missing value. Cells may hold line breaks inside quotes. A line of too many or too few cells, or one
that is not UTF-8, becomes a broken row that keeps its position. Blank lines are not rows.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pacsv

from corelane.core.errors import DataError
from corelane.data.batch import BrokenRow
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.reader import Chunk, drop_before
from corelane.data.sources.plain import check_names

_BLOCK_BYTES = 4 << 20  # read and parsed at a time; also the longest row, which an unclosed quote soon exceeds
_MAX_HEADER_BYTES = 1 << 20
_MAX_BROKEN = 100_000  # broken rows in one block or two: beyond that the file is not what it is taken for
_QUOTE = ord('"')
_MAX_TEXT = 1000  # characters of a broken row that are kept


class CsvReader:
    """Rows of one CSV file; every column is a nullable string."""

    def __init__(self, file: FrozenFile, delimiter: str, batch_rows: int) -> None:
        self.files: tuple[FrozenFile, ...] = (file,)
        self._file = file
        self._delimiter = delimiter
        self._batch_rows = batch_rows
        with file.open_content() as content:
            self._names, _ = self._read_header(content)

    def schema(self) -> pa.Schema:
        """The header's names, all of them strings."""
        return pa.schema([(name, pa.string()) for name in self._names])

    def read(self, start: int) -> Iterator[Chunk]:
        """Chunks of at most `batch_rows` rows from row `start` on. What lies before is parsed and dropped."""
        with self._file.open_content() as content:
            _, rest = self._read_header(content)
            broken: deque[BrokenRow] = deque()
            position = 0
            for block in self._read_blocks(_Rest(rest, content), broken):
                taken = 0
                while taken < block.num_rows:
                    rows = block.slice(taken, self._batch_rows)
                    chunk = _number(rows, position, broken)
                    taken += rows.num_rows
                    position = chunk.end
                    if position > start:
                        yield self._decode(drop_before(start, chunk))
            if broken:
                tail = pa.RecordBatch.from_pylist([], schema=self.schema())
                chunk = _number(tail, position, broken)
                if chunk.end > start:
                    yield drop_before(start, chunk)

    def _read_header(self, content: BinaryIO) -> tuple[list[str], bytes]:
        head = content.read(_MAX_HEADER_BYTES)
        path = self._file.path
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{path} must be UTF-8 text, got UTF-16; save it as UTF-8")
        head = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
        end = _end_of_line(head, ord(self._delimiter))
        if end == _MAX_HEADER_BYTES:
            raise DataError(f"{path} must begin with a line of column names, got a line of over {end} bytes; check it")
        try:
            text = head[:end].decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{path} must be UTF-8 text, got other bytes in its header; save it as UTF-8") from error
        if "\x00" in text:
            raise DataError(f"{path} must be text, got a binary file; check the path or set data.source.format")
        if not text.strip():
            raise DataError(f"{path} must begin with a line of column names, got an empty file; check the path")
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter))
        check_names(names, str(path))
        return names, head[end:]

    def _read_blocks(self, content: _Rest, broken: deque[BrokenRow]) -> Iterator[pa.RecordBatch]:
        with self._parse_errors():
            try:
                reader = pacsv.open_csv(
                    pa.PythonFile(content, mode="r"),
                    # one thread: only then are broken rows numbered
                    read_options=pacsv.ReadOptions(
                        column_names=self._names, use_threads=False, block_size=_BLOCK_BYTES
                    ),
                    parse_options=pacsv.ParseOptions(
                        delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=_collect(broken)
                    ),
                    convert_options=pacsv.ConvertOptions(
                        column_types=dict.fromkeys(
                            self._names, pa.binary()
                        ),  # UTF-8 is checked where rows have numbers
                        null_values=[""],
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=True,
                        check_utf8=False,
                    ),
                )
            except pa.ArrowInvalid as error:
                if "Empty CSV file" in str(error):
                    return
                raise
        with reader:
            while True:
                with self._parse_errors():
                    try:
                        block = reader.read_next_batch()
                    except StopIteration:
                        return
                yield block

    @contextmanager
    def _parse_errors(self) -> Iterator[None]:
        try:
            yield
        except pa.ArrowInvalid as error:
            if "straddling" in str(error):
                message = f"every row of {self._file.path} must fit in {_BLOCK_BYTES} bytes, got a longer one; "
                raise DataError(message + "look for a quote that is never closed") from error
            message = f"{self._file.path} must be CSV with {len(self._names)} cells a line, got something else; "
            raise DataError(message + "check the delimiter", detail=str(error)) from error

    def _decode(self, chunk: Chunk) -> Chunk:
        try:
            return Chunk(_texts(chunk.rows, self.schema()), chunk.first, chunk.end, chunk.broken)
        except pa.ArrowInvalid:
            return self._without_bad_rows(chunk)

    def _without_bad_rows(self, chunk: Chunk) -> Chunk:
        """`chunk` whose rows that are not UTF-8 are broken ones: slow, and met in few chunks of a usable file."""
        holes = {row.position for row in chunk.broken}
        positions = [position for position in range(chunk.first, chunk.end) if position not in holes]
        kept, bad = [], []
        for index, row in enumerate(chunk.rows.to_pylist()):
            broken = _not_utf8(row, positions[index])
            if broken is None:
                kept.append(index)
            else:
                bad.append(broken)
        rows = _texts(chunk.rows.take(pa.array(kept, pa.int64())), self.schema())
        both = sorted([*chunk.broken, *bad], key=lambda row: row.position)
        return Chunk(rows, chunk.first, chunk.end, tuple(both))


class _Rest(io.RawIOBase):
    """The bytes after the header: what was read ahead with it, then the rest of the file. A file for pyarrow."""

    def __init__(self, ahead: bytes, content: BinaryIO) -> None:
        super().__init__()
        self._ahead = ahead
        self._content = content

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._ahead:
            taken = self._ahead if size < 0 else self._ahead[:size]
            self._ahead = self._ahead[len(taken) :]
            return taken if size >= 0 else taken + self._content.read()
        return self._content.read(size)


def _collect(broken: deque[BrokenRow]) -> Callable[[pacsv.InvalidRow], str]:
    def handle(row: pacsv.InvalidRow) -> str:
        if len(broken) >= _MAX_BROKEN:
            return "error"
        reason = f"a row must have {row.expected_columns} cells, got {row.actual_columns}"
        broken.append(BrokenRow(row.number - 1, reason, row.text[:_MAX_TEXT]))
        return "skip"

    return handle


def _number(rows: pa.RecordBatch, first: int, broken: deque[BrokenRow]) -> Chunk:
    """Give `rows` their positions from `first` on, taking the broken rows among and right behind them off `broken`."""
    end = first + rows.num_rows
    among = []
    while broken and broken[0].position <= end:
        among.append(broken.popleft())
        end += 1
    return Chunk(rows, first, end, tuple(among))


def _end_of_line(head: bytes, delimiter: int) -> int:
    """Index behind the first line break outside quotes, or the length when there is none.

    As for the parser, a quote opens only where a cell begins, and a doubled one inside quotes is a character.
    """
    is_quoted, cell_start, closed_at = False, 0, -1
    for index, byte in enumerate(head):
        if is_quoted:
            if byte == _QUOTE:
                is_quoted, closed_at = False, index
        elif byte == _QUOTE:
            is_quoted = index in (cell_start, closed_at + 1)
        elif byte == delimiter:
            cell_start = index + 1
        elif byte in b"\r\n":
            return index + (2 if head[index : index + 2] == b"\r\n" else 1)
    return len(head)


def _texts(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`rows` of bytes as rows of text. Raises `ArrowInvalid` where one is not UTF-8."""
    return pa.RecordBatch.from_arrays([column.cast(pa.string()) for column in rows.columns], schema=schema)


def _not_utf8(row: dict[str, bytes | None], position: int) -> BrokenRow | None:
    """The broken row that `row` is, if a cell of it is not UTF-8."""
    for name, value in row.items():
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            reason = f"{name} must be UTF-8 text, got {(value or b'')[:40]!r}; save the file as UTF-8"
            text = b",".join(cell or b"" for cell in row.values()).decode("utf-8", "replace")
            return BrokenRow(position, reason, text[:_MAX_TEXT])
    return None
