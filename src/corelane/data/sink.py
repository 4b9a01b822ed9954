"""What every sink does: it takes Arrow batches in order, and its file appears whole when closed without an error."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa


class RowSink(Protocol):
    """Somewhere that rows go. Used as a context manager; leaving it with an error publishes nothing."""

    def write(self, rows: pa.RecordBatch) -> None:
        """Take the next rows; every batch has the schema of the first."""
        ...
