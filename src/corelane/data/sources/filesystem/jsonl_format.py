"""JSON rows: one object a line, or one array of objects; cells travel as text, as those of a CSV do.

The columns are the keys of the first rows in order of appearance; a later row with another key is broken and keeps its
position, and so is a line that is no JSON object. A key that a row lacks is a missing value. Columns whose values are
lists of numbers are lists; everything else, nested objects included, is text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import orjson
import pyarrow as pa

from corelane.core.errors import DataError
from corelane.data.batch import BrokenRow
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.reader import Chunk, drop_before
from corelane.data.sources.plain import check_names

FIRST_ROWS = 10_000  # whose keys are the columns
MAX_LINE_BYTES = 4 << 20  # a longer line is not a row, and would otherwise fill the memory
MAX_ARRAY_BYTES = 512 << 20  # one array is read whole
_MAX_TEXT = 1000
_CHUNK_BYTES = 1 << 20

Row = dict[str, Any] | BrokenRow


class JsonLinesReader:
    """Rows of one file of JSON lines, or of one JSON array of objects."""

    def __init__(self, file: FrozenFile, batch_rows: int) -> None:
        self.files: tuple[FrozenFile, ...] = (file,)
        self._file = file
        self._batch_rows = batch_rows
        self._schema = self._infer()

    def schema(self) -> pa.Schema:
        """Text columns, and lists of numbers."""
        return self._schema

    def read(self, start: int) -> Iterator[Chunk]:
        """Chunks of at most `batch_rows` rows from row `start` on. What lies before is parsed and dropped."""
        rows: list[dict[str, Any]] = []
        broken: list[BrokenRow] = []
        first = 0
        for row in self._rows():
            if isinstance(row, BrokenRow):
                broken.append(row)
            else:
                rows.append(row)
            if len(rows) + len(broken) == self._batch_rows:
                yield from self._chunk(rows, broken, first, start)
                first += self._batch_rows
                rows, broken = [], []
        if rows or broken:
            yield from self._chunk(rows, broken, first, start)

    def _chunk(self, rows: list[dict[str, Any]], broken: list[BrokenRow], first: int, start: int) -> Iterator[Chunk]:
        end = first + len(rows) + len(broken)
        if end > start:
            columns = [
                pa.array([_cell(field, row.get(field.name)) for row in rows], field.type) for field in self._schema
            ]
            batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
            yield drop_before(start, Chunk(batch, first, end, tuple(broken)))

    def _rows(self) -> Iterator[Row]:
        """Every row, checked against the columns."""
        known = set(self._schema.names)
        lists = [field.name for field in self._schema if pa.types.is_list(field.type)]
        for position, row in enumerate(self._raw_rows()):
            if isinstance(row, BrokenRow):
                yield row
            elif not row.keys() <= known:
                name = next(key for key in row if key not in known)
                yield _broken(position, f"must have the keys of the first rows, got another: {name!r}", row)
            elif bad := next((name for name in lists if not _is_vector(row.get(name))), None):
                yield _broken(position, f"{bad} must be a list of numbers as in the first rows", row)
            else:
                yield row

    def _raw_rows(self) -> Iterator[Row]:
        with self._file.open_content() as content:
            if _begins_array(content):
                yield from _array_rows(content, str(self._file.path))
                return
            position = 0
            for line in _lines(content):
                if line is None:
                    reason = f"a line must have at most {MAX_LINE_BYTES} bytes, got more"
                    yield BrokenRow(position, reason, "")
                elif line.strip():
                    yield _parse(line, position)
                else:
                    continue
                position += 1

    def _infer(self) -> pa.Schema:
        values: dict[str, list[Any]] = {}
        num_rows = 0
        for row in self._raw_rows():
            if isinstance(row, dict):
                num_rows += 1
                for key, value in row.items():
                    values.setdefault(key, []).append(value)
            if num_rows == FIRST_ROWS:
                break
        if not values:
            raise DataError(f"{self._file.path} must hold JSON objects, one a line, got none; check the file")
        check_names(list(values), str(self._file.path))
        return pa.schema([(name, _type_of(found)) for name, found in values.items()])


def _type_of(values: Sequence[Any]) -> pa.DataType:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, list) and _is_vector(value) for value in present):
        kind: pa.DataType = pa.float64()
        for _ in range(_depth(present[0])):
            kind = pa.list_(kind)
        return kind if len({_depth(value) for value in present}) == 1 else pa.string()
    return pa.string()


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth, value = depth + 1, value[0] if value else None
    return depth


def _is_vector(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, list):
        return False
    return all(_is_vector(item) if isinstance(item, list) else _is_number(item) for item in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(field: pa.Field, value: Any) -> Any:
    """A value as the cell of its column; numbers and booleans as the text that a category would have."""
    if value is None or pa.types.is_list(field.type):
        return value
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and math.isfinite(value) else repr(value)
    return str(value) if isinstance(value, int) else orjson.dumps(value).decode()


def _parse(line: bytes, position: int) -> Row:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return BrokenRow(position, f"must be JSON, got: {str(error).partition(':')[0]}", _shown(line))
    if not isinstance(row, dict):
        return BrokenRow(position, f"must be a JSON object, got {type(row).__name__}", _shown(line))
    return row


def _broken(position: int, reason: str, row: Any) -> BrokenRow:
    return BrokenRow(position, reason, json.dumps(row, default=str)[:_MAX_TEXT])


def _shown(line: bytes) -> str:
    return line[:_MAX_TEXT].decode("utf-8", "replace")


def _begins_array(content: BinaryIO) -> bool:
    head = content.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    content.seek(0)
    return head.startswith(b"[")


def _array_rows(content: BinaryIO, where: str) -> Iterator[Row]:
    data = content.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise DataError(
            f"{where} must be at most {MAX_ARRAY_BYTES} bytes as one JSON array, got more; write one object a line"
        )
    try:
        rows = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise DataError(f"{where} must be one JSON array or one object a line, got: {error}; repair it") from error
    for position, row in enumerate(rows):
        yield row if isinstance(row, dict) else _broken(position, "must be a JSON object", row)


def _lines(content: BinaryIO) -> Iterator[bytes | None]:
    """Lines without their ends; None for one that is too long. At most a chunk and a line are in memory."""
    waiting, is_skipping, is_first = b"", False, True
    while chunk := content.read(_CHUNK_BYTES):
        if is_first:
            chunk, is_first = chunk.removeprefix(b"\xef\xbb\xbf"), False
        *lines, rest = (waiting + chunk).split(b"\n")
        for line in lines:
            yield None if is_skipping or len(line) > MAX_LINE_BYTES else line
            is_skipping = False
        is_skipping = is_skipping or len(rest) > MAX_LINE_BYTES
        waiting = b"" if is_skipping else rest
    if waiting or is_skipping:
        yield None if is_skipping else waiting
