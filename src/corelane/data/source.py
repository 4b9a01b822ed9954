"""What every source of rows promises. The conformance suite in `tests/conformance/test_sources.py` holds each to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from corelane.core.errors import CursorError
from corelane.data.batch import Batch, Cursor, Fingerprint

Tell: TypeAlias = Callable[[str, Mapping[str, Any]], None]
"""Who hears of what happened while reading: an event's name and its fields."""


def tell_nobody(event: str, fields: Mapping[str, Any]) -> None:
    """A `Tell` that forgets."""


class DataSource(Protocol):
    """Rows in a fixed order, readable again from any cursor. No file stays open between calls; an abandoned or closed
    iterator releases its files. Several iterators may run at once, also in several threads.
    """

    @property
    def name(self) -> str:
        """The source's type, which its cursors carry."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether reading again is cheap and gives the same rows: files on a local disk, or memory."""
        ...

    def schema(self) -> pa.Schema:
        """The physical columns (CSV: all strings). Raises `DataError` when the data cannot be read at all."""
        ...

    def fingerprint(self) -> Fingerprint:
        """Identity of the data as it was when the source was made."""
        ...

    def batches(self, start: Cursor | None = None) -> Iterator[Batch]:
        """Bounded batches from `start` (from the first row without it), in order, without a gap or a repeat.

        Raises `CursorError` when `start` belongs to other data, `DataError` when the data are damaged,
        `SourceReadError` when reading broke and may work later.
        """
        ...


def start_position(start: Cursor | None, source: str, fingerprint: Fingerprint) -> int:
    """The row index `start` points to in `source`; 0 without a cursor. Raises `CursorError` when it does not fit."""
    if start is None:
        return 0
    if start.source != source:
        raise CursorError(f"the cursor must come from source {source!r}, got one from {start.source!r}; start anew")
    if start.fingerprint != fingerprint.digest:
        raise CursorError(
            f"the data of {source!r} must be those the cursor was taken from, but they changed; start anew"
        )
    return start.position


def iterate_rows(source: DataSource) -> Iterator[dict[str, Any]]:
    """The rows of `source` as dicts, tensors as NumPy arrays; rows that could not be read are left out."""
    for batch in source.batches():
        columns = [_to_values(column) for column in batch.rows.columns]
        for values in zip(*columns, strict=True):
            yield dict(zip(batch.rows.schema.names, values, strict=True))


def _to_values(column: pa.Array) -> list[Any]:
    if isinstance(column, pa.FixedShapeTensorArray) and column.null_count == 0:
        return list(column.to_numpy_ndarray())
    return list(column.to_pylist())
