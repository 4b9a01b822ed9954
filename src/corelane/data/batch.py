"""What travels between sources and the rest: a batch of raw rows, the cursor after it, the fingerprint of the data.

A row's position is its index in the source, from 0. A row that a reader cannot take apart (a CSV line with too many
cells) still has its position: it is named in `Batch.broken` and absent from `Batch.rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from corelane.core.errors import CursorError
from corelane.core.types import IntArray, JsonObject

CURSOR_VERSION = 1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identity of a source's data: two equal content digests mean the same rows in the same order.

    `strength` says how it was found: from the content, from names, sizes and times (`stat`), or not at all (`none`:
    the digest is unique to one reading).
    """

    strength: Literal["content", "stat", "none"]
    digest: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place to resume from: the next row has index `position` in the data that `fingerprint` names."""

    source: str
    fingerprint: str
    position: int
    version: int = CURSOR_VERSION

    def to_json(self) -> JsonObject:
        """The cursor as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cursor:
        """Read what `to_json` wrote. Raises `CursorError` on an unknown version or anything that is no cursor."""
        if value.get("version") != CURSOR_VERSION:
            raise CursorError(f"a cursor must have version {CURSOR_VERSION}, got {value.get('version')!r}; start anew")
        source, fingerprint, position = value.get("source"), value.get("fingerprint"), value.get("position")
        if not isinstance(source, str) or not isinstance(fingerprint, str) or type(position) is not int or position < 0:
            raise CursorError(f"a cursor must hold source, fingerprint and position, got {dict(value)!r}; start anew")
        return cls(source, fingerprint, position)


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that could not be taken apart: its index in the source, why, and its text as far as known."""

    position: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive rows of a source. Together `rows` and `broken` cover the positions from `first_position` on."""

    rows: pa.RecordBatch
    first_position: int
    next_cursor: Cursor
    broken: tuple[BrokenRow, ...] = ()

    @property
    def positions(self) -> IntArray:
        """Source index of every row in `rows`: int64 [num_rows]."""
        covered = np.arange(self.first_position, self.next_cursor.position, dtype=np.int64)
        if not self.broken:
            return covered
        return np.delete(covered, [row.position - self.first_position for row in self.broken])
