"""The quarantine: a Parquet file of the rows that were refused, each with its place, the reason and its raw content.

It is published also when preparing fails, since its rows may be the reason; an empty one says that none were refused.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corelane.core.errors import DataError
from corelane.data.stages.cells import python_value
from corelane.store.durable import remove_temporaries, temporary_file

_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("position", pa.int64()),
        ("row_number", pa.int64()),
        ("column", pa.string()),
        ("code", pa.string()),
        ("reason", pa.string()),
        ("row", pa.string()),
    ]
)
_ROWS_AT_ONCE = 1024
_TEXT_AT_ONCE = 8 << 20  # characters: rows of megabytes do not wait for a thousand others
_MAX_VALUES = 4096  # entries of one value that are written out; a longer one is described


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """One refused row: its source (`data` or `test`), its index there, the first column at fault ("" for the row as a
    whole), a stable code, the reason in words, and the raw row as JSON.
    """

    source: str
    position: int
    column: str
    code: str
    reason: str
    row: str

    @property
    def row_number(self) -> int:
        """Where a person finds the row: counted from 1, the header of a CSV not counted."""
        return self.position + 1


class Quarantine:
    """Owns the Parquet file of refused rows while it is written, their number by code, and the first; nothing else.

    Rows at fault in a column of `dropping` are counted in `dropped` and go no further.
    """

    def __init__(self, path: Path, writer: pq.ParquetWriter, dropping: Collection[str] = ()) -> None:
        self.path = path
        self._writer = writer
        self._dropping = dropping
        self._waiting: list[RefusedRow] = []
        self._waiting_text = 0
        self.num_rows = 0
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.first: RefusedRow | None = None

    def add(self, row: RefusedRow) -> None:
        """Take one refused row."""
        if row.column in self._dropping:
            self.dropped[row.code] += 1
            return
        self.first = self.first or row
        self.num_rows += 1
        self.counts[row.code] += 1
        self._waiting.append(row)
        self._waiting_text += len(row.row)
        if len(self._waiting) >= _ROWS_AT_ONCE or self._waiting_text >= _TEXT_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Hand what waits to the file."""
        rows = [{**asdict(row), "row_number": row.row_number} for row in self._waiting]
        self._waiting.clear()
        self._waiting_text = 0
        self._writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=_SCHEMA))


@contextmanager
def open_quarantine(path: Path, dropping: Collection[str] = ()) -> Iterator[Quarantine]:
    """A quarantine whose file appears at `path`, whole, when the block is left, also if by a `DataError`.

    Faults in the columns `dropping` are only counted.
    """
    failure: DataError | None = None
    remove_temporaries(path.parent)
    with temporary_file(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA) as writer:
        quarantine = Quarantine(path, writer, dropping)
        try:
            yield quarantine
        except DataError as error:
            failure = error
        quarantine.flush()
    if failure is not None:
        raise failure


def describe_row(rows: pa.RecordBatch, index: int) -> str:
    """Raw row `index` of `rows` as one JSON object; encoded images and long arrays are described, not written out."""
    cells = zip(rows.schema.names, rows.columns, strict=True)
    return json.dumps({name: _plain(python_value(column[index])) for name, column in cells}, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, list):
        return [_plain(entry) for entry in value] if len(value) <= _MAX_VALUES else f"<{len(value)} values>"
    return str(value)
