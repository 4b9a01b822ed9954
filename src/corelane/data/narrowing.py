"""The rows that a schema is inferred from: columns that are settled by the first of them are not read to the end.

What a column of a numeric type is depends on its type and on whether it has a value; only texts, dates and the target
must be read whole. Called by `prepare.py`; `infer.py` says which columns are settled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa

from corelane.data.batch import Cursor
from corelane.data.checked import EncodesTexts, batches_of
from corelane.data.source import DataSource


class NarrowingRows:
    """All rows of `source`, of all columns, until `read_only` names those that are still needed."""

    def __init__(self, source: DataSource) -> None:
        self._source = source
        self._names: Collection[str] | None = None

    def read_only(self, names: Collection[str]) -> None:
        """From some later batch on, columns other than `names` may be absent. Takes effect once, from any thread."""
        self._names = names

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        end: Cursor | None = None
        for batch in batches_of(self._source):
            end = batch.next_cursor
            yield batch.rows
            if self._names is not None and isinstance(self._source, EncodesTexts):
                break
        else:
            return
        for batch in self._source.encoded_batches(end, self._names):
            yield batch.rows
