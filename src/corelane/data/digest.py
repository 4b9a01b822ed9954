"""The digest of rows: SHA-256 over their Arrow form, the same however they were cut into batches.

Sources whose content is not a file (a database, memory, a spool) are fingerprinted with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

DIGEST_ROWS = 8192  # of each batch that is hashed: a part of the digest's definition


class RowsDigest:
    """Hashes rows of one schema as they come. Empty batches do not count."""

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = _HashingSink()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), schema)
        self._waiting: list[pa.RecordBatch] = []
        self._num_waiting = 0

    def update(self, rows: pa.RecordBatch) -> None:
        """Take the next rows."""
        self._waiting.append(rows)
        self._num_waiting += rows.num_rows
        if self._num_waiting >= DIGEST_ROWS:
            joined = join(self._waiting)
            whole = self._num_waiting // DIGEST_ROWS * DIGEST_ROWS
            for start in range(0, whole, DIGEST_ROWS):
                self._write(joined.slice(start, DIGEST_ROWS))
            self._waiting = [joined.slice(whole)]
            self._num_waiting -= whole

    def hexdigest(self) -> str:
        """The digest of all rows; no more may be taken."""
        if self._num_waiting:
            self._write(join(self._waiting))
        self._writer.close()
        return self._sink.hexdigest()

    def _write(self, rows: pa.RecordBatch) -> None:
        # A slice shows in its bytes where it was cut (offsets, bits beside it, what lies under a null), a copy does not
        self._writer.write_batch(rows.take(pa.array(np.arange(rows.num_rows, dtype=np.int32))))


def regroup(batches: Iterable[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `num_rows`, but for the last.

    What is summed up batch by batch then comes out the same to the last bit, whatever batches a source reads in.
    """
    waiting: list[pa.RecordBatch] = []
    num_waiting = 0
    for batch in batches:
        waiting.append(batch)
        num_waiting += batch.num_rows
        if num_waiting < num_rows:
            continue
        joined = join(waiting)
        whole = num_waiting // num_rows * num_rows
        for start in range(0, whole, num_rows):
            yield joined.slice(start, num_rows)
        waiting = [joined.slice(whole)]
        num_waiting -= whole
    if num_waiting:
        yield join(waiting)


def join(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """At least one row's worth of batches as one."""
    filled = [batch for batch in batches if batch.num_rows]
    if len(filled) == 1:
        return filled[0]
    (joined,) = pa.Table.from_batches(filled).combine_chunks().to_batches()
    return joined


class _HashingSink:
    """A file that only hashes what is written to it."""

    closed = False

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits to be written."""

    def close(self) -> None:
        """Nothing is open."""

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
